// Micro-benchmarks of the parser: what one frame from the guest costs before TCP sees
// it, for the three kinds that make up nearly all traffic, and the checksum alone.
//
// The frames are valid IPv4 and IPv6 with a timestamp option, as Linux guests send
// them. One frame is parsed over and over, so it sits in the nearest cache: these are
// the instructions' costs, not memory's.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <span>
#include <variant>
#include <vector>

#include "stack/config.h"
#include "stack/counters.h"
#include "stack/link/frame.h"
#include "stack/wire/emit.h"
#include "stack/wire/packet.h"

namespace penstock {
namespace {

constexpr size_t kTcpHeaderBytes = 32;  // with a timestamp option
constexpr uint16_t kTcpChecksumOffset = 16;
constexpr size_t kMss = 1448;
constexpr size_t kGsoPayload = 44 * kMss;  // what fits in one frame of 64 KiB

ParseOptions Options() {
  const Config config;
  return {.gateway_mac = config.gateway_mac,
          .guest_mac = {},
          .mtu = config.mtu,
          .ipv4 = config.ipv4,
          .ipv6 = config.ipv6};
}

void StoreBigEndian(std::span<uint8_t> at, uint16_t value) {
  at[0] = static_cast<uint8_t>(value >> 8);
  at[1] = static_cast<uint8_t>(value);
}

// A TCP segment from the guest to a host, with `payload_bytes` of zeroes. Checksums are
// complete, or, with `gso`, as a kernel hands over a frame to be segmented.
struct GuestFrame {
  GuestFrame(Family family, size_t payload_bytes, bool gso) : room(kFrameBytesMax) {
    const Config config;
    const bool v4 = family == Family::kIpv4;
    const IpAddress source = v4 ? config.ipv4.guest : config.ipv6.guest;
    const IpAddress destination =
        v4 ? IpAddress::V4(192, 0, 2, 1) : *IpAddress::Parse("2001:db8::1");
    const auto tcp_bytes = static_cast<uint32_t>(kTcpHeaderBytes + payload_bytes);

    // EmitEthernet addresses the guest: from here the two change places.
    const LinkAddresses link{.gateway_mac = {0x52, 0x55, 0x0a, 0x00, 0x02, 0x0f},
                             .guest_mac = config.gateway_mac};
    size_t at = EmitEthernet(link, family, room);
    at += EmitIpHeader({.source = source, .destination = destination, .payload_bytes = tcp_bytes},
                       std::span(room).subspan(at));
    const std::span<uint8_t> tcp = std::span(room).subspan(at, tcp_bytes);
    StoreBigEndian(tcp.subspan(0), 40000);
    StoreBigEndian(tcp.subspan(2), 80);
    tcp[12] = (kTcpHeaderBytes / 4) << 4;
    tcp[13] = kTcpAck;
    StoreBigEndian(tcp.subspan(14), 500);
    tcp[20] = tcp[21] = 1;  // NOP, NOP, timestamp of 10 bytes
    tcp[22] = 8;
    tcp[23] = 10;
    const uint16_t pseudo = PseudoHeaderSum(source, destination, 6, tcp_bytes);
    StoreBigEndian(tcp.subspan(kTcpChecksumOffset),
                   gso ? pseudo : ChecksumFinish(ChecksumAdd(tcp, pseudo)));

    frame = {.room = room, .length = static_cast<uint32_t>(at + tcp_bytes), .offload = {}};
    if (gso) {
      frame.offload = {.checksum = ChecksumState::kPartial,
                       .gso = v4 ? Gso::kTcp4 : Gso::kTcp6,
                       .checksum_start = static_cast<uint16_t>(at),
                       .checksum_offset = kTcpChecksumOffset,
                       .segment_bytes = kMss,
                       .header_bytes = static_cast<uint16_t>(at + kTcpHeaderBytes)};
    }
  }

  std::vector<uint8_t> room;
  FrameToHost frame;
};

void BM_Parse(benchmark::State& state, Family family, size_t payload_bytes, bool gso) {
  const GuestFrame guest(family, payload_bytes, gso);
  const ParseOptions options = Options();
  if (const auto parsed = Parse(guest.frame, options); std::holds_alternative<DropCause>(parsed)) {
    state.SkipWithError("the frame is dropped: this benchmark would measure nothing");
    return;
  }
  for (auto _ : state) {
    benchmark::DoNotOptimize(Parse(guest.frame, options));
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK_CAPTURE(BM_Parse, ack_ipv4, Family::kIpv4, 0, false);
BENCHMARK_CAPTURE(BM_Parse, ack_ipv6, Family::kIpv6, 0, false);
BENCHMARK_CAPTURE(BM_Parse, full_segment_checksum_verified_ipv4, Family::kIpv4, kMss, false);
BENCHMARK_CAPTURE(BM_Parse, full_segment_checksum_verified_ipv6, Family::kIpv6, kMss - 20, false);
BENCHMARK_CAPTURE(BM_Parse, gso_64k_ipv4, Family::kIpv4, kGsoPayload, true);
BENCHMARK_CAPTURE(BM_Parse, gso_64k_ipv6, Family::kIpv6, kGsoPayload, true);

void BM_Checksum(benchmark::State& state) {
  const std::vector<uint8_t> bytes(static_cast<size_t>(state.range(0)), 0x5a);
  for (auto _ : state) {
    benchmark::DoNotOptimize(ChecksumFinish(ChecksumAdd(bytes, 0)));
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_Checksum)->Arg(20)->Arg(1460)->Arg(65495);

}  // namespace
}  // namespace penstock

BENCHMARK_MAIN();
