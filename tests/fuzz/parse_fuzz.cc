// The frame parser, reassembly, and what acts on packets at once (option defusing, ICMP
// errors, the gateway), fed with any bytes. The first eight bytes of the input choose what
// the link says of the frames and how the parser is configured; the last of them, whether
// the rest is one frame, or several: each with its length (two bytes) and how long after
// the one before it comes (one byte, in tenths of a second) in front. Each frame is in a
// buffer of exactly its size.
#include <cstdint>
#include <cstdlib>
#include <span>
#include <variant>
#include <vector>

#include "stack/service/gateway.h"
#include "stack/wire/icmp.h"
#include "stack/wire/packet.h"
#include "stack/wire/reassembly.h"

namespace {

using namespace penstock;

constexpr size_t kChoiceBytes = 8;
constexpr size_t kRecordHeadBytes = 3;

void Require(bool holds) {
  if (!holds) std::abort();
}

bool Inside(std::span<const uint8_t> part, std::span<const uint8_t> whole) {
  return part.empty() ||
         (part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size());
}

ParseOptions OptionsFor(uint8_t choice, const Config& config) {
  return {.ethernet = (choice & 1) == 0,
          .gateway_mac = config.gateway_mac,
          .mtu = (choice & 2) != 0 ? 65'521u : 1'500u,
          .unsegmented_tcp_to_host = (choice & 4) != 0,
          .ipv4 = config.ipv4,
          .ipv6 = config.ipv6};
}

class Run {
 public:
  explicit Run(std::span<const uint8_t> choice)
      : choice_(choice), options_(OptionsFor(choice[0], config_)) {}

  ~Run() {
    // Every frame is somewhere, and so is every buffer.
    const CounterSnapshot counters = counters_.Snapshot();
    Require(fragments_ == counters.drops_total() + counters.fragments_held + joined_);
    Require(pool_.bytes_out() == reassembly_.bytes_held());
  }

  void Frame(std::span<const uint8_t> data, uint8_t tenths) {
    now_ += std::chrono::milliseconds(100) * tenths;
    std::vector<uint8_t> bytes(data.begin(), data.end());
    const FrameToHost frame{.room = bytes,
                            .length = static_cast<uint32_t>(bytes.size()),
                            .offload = {.checksum = static_cast<ChecksumState>(choice_[1] % 3),
                                        .gso = static_cast<Gso>(choice_[2] % 4),
                                        .checksum_start = choice_[3],
                                        .checksum_offset = choice_[4],
                                        .segment_bytes = static_cast<uint16_t>(choice_[5] << 4),
                                        .header_bytes = choice_[6]}};
    ParseResult parsed = Parse(frame, options_);
    if (auto* packet = std::get_if<Packet>(&parsed)) Act(*packet, bytes);
    if (const auto* fragment = std::get_if<Fragment>(&parsed)) {
      Require(Inside(fragment->headers, bytes) && Inside(fragment->payload, bytes));
      Join(*fragment);
    }
  }

 private:
  void Join(const Fragment& fragment) {
    ++fragments_;
    const auto datagram = reassembly_.Add(fragment, now_);
    Require(reassembly_.NextDeadline() > now_);
    if (!datagram) return;
    joined_ += datagram->fragments;
    Require(Inside(datagram->bytes, datagram->buffer->room()));
    ParseResult parsed = ParseDatagram(datagram->bytes, fragment.source_mac, options_);
    Require(std::get_if<Fragment>(&parsed) == nullptr);
    if (auto* packet = std::get_if<Packet>(&parsed)) Act(*packet, datagram->bytes);
    pool_.Give(datagram->buffer);
  }

  void Act(Packet& packet, std::span<const uint8_t> bytes) {
    for (const auto part : {packet.ip, packet.transport, packet.payload}) {
      Require(Inside(part, bytes));
    }
    if (packet.protocol == Protocol::kTcp) {
      DefuseTcpOptions(packet.transport.first(packet.tcp.header_bytes));
      return;
    }
    if (packet.protocol == Protocol::kUdp) return;
    (void)ParsePathMtu(packet);
    (void)ParseUnreachable(packet);
    std::vector<uint8_t> answer(kFrameBytesMax);
    (void)gateway_.Handle(packet, {.ethernet = options_.ethernet}, answer);
  }

  static inline const Config config_;
  static inline const Gateway gateway_{config_};
  const std::span<const uint8_t> choice_;
  const ParseOptions options_;
  Time now_{};
  Counters counters_;
  GuestBufferPool pool_{Reassembly::kBytesMax};
  Reassembly reassembly_{pool_, counters_};
  uint64_t fragments_ = 0, joined_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const uint8_t> input{data, size};
  if (size < kChoiceBytes) return 0;
  Run run(input.first(kChoiceBytes));
  std::span<const uint8_t> rest = input.subspan(kChoiceBytes);
  if (input[kChoiceBytes - 1] == 0) {
    if (rest.size() <= kFrameBytesMax) run.Frame(rest, 0);
    return 0;
  }
  while (rest.size() >= kRecordHeadBytes) {
    const size_t claimed = size_t{rest[0]} << 8 | rest[1];
    const uint8_t tenths = rest[2];
    rest = rest.subspan(kRecordHeadBytes);
    const size_t length = std::min(claimed, rest.size());
    run.Frame(rest.first(length), tenths);
    rest = rest.subspan(length);
  }
  return 0;
}
