// Fragments of a few datagrams of both families, in any order, at any place, in two versions,
// over time: IP headers are always right, so that all of it reaches Reassembly. (parse_fuzz
// feeds it with raw frames.) What is put together is held against all that was sent.
//
// An input is steps of five bytes:
//   which datagram, more, version, time    offset / 8 (two bytes)    length (two bytes)
#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "relay/check.h"
#include "stack/wire/reassembly.h"
#include "tests/support/packet_builder.h"

namespace penstock {
namespace {

constexpr size_t kStepBytes = 5;
// Of all fragments together: four of the largest datagrams, and an input is still quick.
constexpr size_t kPayloadBytesMax = size_t{256} << 10;

// Bytes that tell where they belong: of which datagram, at which offset, in which version.
std::span<const uint8_t> ContentOf(uint32_t datagram, bool other) {
  constexpr size_t kBytes = 0x1fff * 8 + 0x4000;
  static std::array<Bytes, 16> contents;
  Bytes& content = contents[datagram * 2 + (other ? 1 : 0)];
  for (size_t at = content.size(); at < kBytes; ++at) {
    content.push_back(
        static_cast<uint8_t>(datagram * 31 + at * 7 + (at >> 8) * 13 + (other ? 101 : 0)));
  }
  return content;
}

struct Sent {
  uint32_t datagram;
  uint32_t begin, end;
  bool more, other;
};

class Run {
 public:
  ~Run() {
    reassembly_.Expire(After(now_, Reassembly::kLifetime));
    const CounterSnapshot counters = counters_.Snapshot();
    PENSTOCK_CHECK(fragments_ == counters.drops_total() + joined_ && counters.fragments_held == 0);
    PENSTOCK_CHECK(reassembly_.set_count() == 0 && pool_.bytes_out() == 0);
  }

  void Step(std::span<const uint8_t> bytes) {
    if (bytes[0] >= 0xe0) return Wait(std::chrono::milliseconds(100) * bytes[1]);
    Sent sent{.datagram = bytes[0] % 8u,
              .begin = ((uint32_t{bytes[1]} << 8 | bytes[2]) & 0x1fff) * 8,
              .end = 0,
              .more = (bytes[0] & 8) != 0,
              .other = (bytes[0] & 16) != 0};
    sent.end = sent.begin + ((uint32_t{bytes[3]} << 8 | bytes[4]) & 0x3fff);
    payload_bytes_ += sent.end - sent.begin;
    if (payload_bytes_ > kPayloadBytesMax) return;
    const Bytes frame = FrameOf(sent);
    const Parsed parsed = ParseFrame(frame, options_);
    const Fragment* fragment = parsed.fragment();
    if (fragment == nullptr) return;
    ++fragments_;
    sent_.push_back(sent);
    const auto datagram = reassembly_.Add(*fragment, now_);
    PENSTOCK_CHECK(reassembly_.set_count() <= Reassembly::kSetsMax);
    PENSTOCK_CHECK(reassembly_.bytes_held() <= Reassembly::kBytesMax);
    PENSTOCK_CHECK(reassembly_.NextDeadline() > now_);
    if (!datagram) return;
    joined_ += datagram->fragments;
    Verify(sent, datagram->bytes);
    pool_.Give(datagram->buffer);
  }

 private:
  void Wait(Duration duration) {
    now_ += duration;
    reassembly_.Expire(now_);
    PENSTOCK_CHECK(reassembly_.NextDeadline() > now_);
  }

  // The family is the lowest bit's; of IPv6, some have headers in front of the fragment's.
  static IpSpec SpecOf(uint32_t datagram) {
    const Family family = datagram % 2 == 0 ? Family::kIpv4 : Family::kIpv6;
    IpSpec spec{.source = Guest(family), .destination = Peer(family)};
    if (datagram == 2) spec.options = Bytes(40, 1);
    if (datagram == 3) spec.extensions = {{.protocol = 60, .body = {0, 1, 4, 0, 0, 0, 0}}};
    return spec;
  }

  static Bytes FrameOf(const Sent& sent) {
    const auto data =
        ContentOf(sent.datagram, sent.other).subspan(sent.begin, sent.end - sent.begin);
    return EthernetFrame(
        FragmentPacket(SpecOf(sent.datagram), {.offset = sent.begin,
                                               .more = sent.more,
                                               .data = Bytes(data.begin(), data.end()),
                                               .identification = 0x1234 + sent.datagram}));
  }

  // Each byte was sent at its place, and somebody said that the datagram ends there. Headers
  // tell of no fragments, of the right length, and IPv4's sum is right.
  void Verify(const Sent& last, std::span<uint8_t> bytes) const {
    const bool v4 = last.datagram % 2 == 0;
    const size_t header_bytes = v4 ? (bytes[0] & 15u) * 4 : last.datagram == 3 ? 48u : 40u;
    PENSTOCK_CHECK(bytes.size() > header_bytes);
    const std::span<const uint8_t> payload = bytes.subspan(header_bytes);
    PENSTOCK_CHECK(Get16(bytes, v4 ? 2 : 4) == bytes.size() - (v4 ? 0 : 40));
    PENSTOCK_CHECK(!v4 || (SlowSum(bytes.first(header_bytes)) == 0xffff && Get16(bytes, 6) == 0));
    // Parts that were sent just so.
    bool ends = false;
    std::vector<std::pair<uint32_t, uint32_t>> parts;
    for (const Sent& sent : sent_) {
      if (sent.datagram != last.datagram || sent.end > payload.size()) continue;
      ends |= !sent.more && sent.end == payload.size();
      const size_t length = sent.end - sent.begin;
      const auto content = ContentOf(sent.datagram, sent.other).subspan(sent.begin, length);
      const auto part = payload.subspan(sent.begin, length);
      if (length > 0 && memcmp(part.data(), content.data(), length) == 0) {
        parts.emplace_back(sent.begin, sent.end);
      }
    }
    std::sort(parts.begin(), parts.end());
    uint32_t known = 0;
    for (const auto& [begin, end] : parts) {
      if (begin <= known) known = std::max(known, end);
    }
    PENSTOCK_CHECK(ends && known == payload.size());
    ParseResult parsed = ParseDatagram(bytes, kGuestMac, options_);
    PENSTOCK_CHECK(std::get_if<Fragment>(&parsed) == nullptr);
  }

  const ParseOptions options_ = [] {
    ParseOptions options = TestParseOptions();
    options.mtu = 65'521;
    return options;
  }();
  Time now_{};
  Counters counters_;
  GuestBufferPool pool_{Reassembly::kBytesMax};
  Reassembly reassembly_{pool_, counters_};
  std::vector<Sent> sent_;
  size_t payload_bytes_ = 0;
  uint64_t fragments_ = 0, joined_ = 0;
};

}  // namespace
}  // namespace penstock

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock;
  constexpr size_t kStepsMax = 400;
  Run run;
  std::span<const uint8_t> rest(data, size);
  for (size_t step = 0; step < kStepsMax && rest.size() >= kStepBytes; ++step) {
    run.Step(rest.first(kStepBytes));
    rest = rest.subspan(kStepBytes);
  }
  return 0;
}
