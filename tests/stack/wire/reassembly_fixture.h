// What the tests of reassembly share: a guest's frames go through the parser into a
// Reassembly of their own, and after each of them all that came are accounted for.
#ifndef PENSTOCK_TESTS_STACK_WIRE_REASSEMBLY_FIXTURE_H_
#define PENSTOCK_TESTS_STACK_WIRE_REASSEMBLY_FIXTURE_H_

#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "stack/wire/reassembly.h"
#include "tests/support/packet_builder.h"

namespace penstock {

using namespace std::chrono_literals;

// What a datagram was put together from and to.
struct Joined {
  Bytes bytes;  // from the IP header
  uint32_t fragments = 0;
};

class ReassemblyFixture : public testing::TestWithParam<Family> {
 protected:
  ~ReassemblyFixture() override {
    // Of the frames whose datagram completed, the caller knows.
    ExpectBalance();
    reassembly_.reset();
    EXPECT_EQ(pool_.bytes_out(), 0u);
    EXPECT_EQ(counters_.fragments_held.value(), 0u);
  }

  [[nodiscard]] static Family family() { return GetParam(); }
  [[nodiscard]] static bool v4() { return family() == Family::kIpv4; }
  [[nodiscard]] static size_t header_bytes() { return v4() ? 20 : 40; }
  [[nodiscard]] static IpSpec Ip() {
    return {.source = Guest(family()), .destination = Peer(family())};
  }
  // Payload bytes of the largest datagram.
  [[nodiscard]] static size_t payload_bytes_max() { return v4() ? 65'515 : 65'535; }

  // One frame from the guest, through the parser.
  std::optional<Joined> Feed(const Bytes& packet, const ParseOptions& options = Options()) {
    const Parsed parsed = ParseFrame(EthernetFrame(packet), options);
    if (parsed.fragment() == nullptr) {
      ADD_FAILURE() << "no fragment, but " << parsed.outcome();
      return std::nullopt;
    }
    ++frames_;
    const auto datagram = reassembly_->Add(*parsed.fragment(), now_);
    ExpectBalance(datagram ? datagram->fragments : 0);
    if (!datagram) return std::nullopt;
    joined_frames_ += datagram->fragments;
    Joined joined{{datagram->bytes.begin(), datagram->bytes.end()}, datagram->fragments};
    pool_.Give(datagram->buffer);
    return joined;
  }
  std::optional<Joined> Feed(const FragmentSpec& fragment) {
    return Feed(FragmentPacket(Ip(), fragment));
  }
  // All of them in order; the last must complete the datagram.
  std::optional<Joined> FeedAll(const std::vector<Bytes>& packets) {
    for (size_t i = 0; i + 1 < packets.size(); ++i) EXPECT_FALSE(Feed(packets[i]));
    return Feed(packets.back());
  }

  // Frames in = dropped + held + those of datagrams that completed.
  void ExpectBalance(uint32_t just_joined = 0) {
    const CounterSnapshot counters = counters_.Snapshot();
    EXPECT_EQ(frames_,
              counters.drops_total() + counters.fragments_held + joined_frames_ + just_joined);
  }
  [[nodiscard]] uint64_t drops(DropCause cause) const {
    return counters_.Snapshot().drops_of(cause);
  }
  [[nodiscard]] uint64_t held() const { return counters_.fragments_held.value(); }

  // After a refusal, of `frames` frames in all: nothing is left to join, and the set is
  // there only to swallow what still comes.
  void ExpectRefused(DropCause cause, uint64_t frames) {
    EXPECT_EQ(drops(cause), frames);
    EXPECT_EQ(held(), 0u);
    EXPECT_EQ(reassembly_->bytes_held(), 0u);
    EXPECT_EQ(reassembly_->set_count(), 1u);
  }

  // Datagrams up to the maximum come in frames of any size here.
  static ParseOptions Options() {
    ParseOptions options = TestParseOptions();
    options.mtu = 65'535;
    return options;
  }

  static constexpr Time kStart = Time{} + std::chrono::hours(24);
  Time now_ = kStart;
  Counters counters_;
  GuestBufferPool pool_{Reassembly::kBytesMax};
  std::optional<Reassembly> reassembly_{std::in_place, pool_, counters_};
  uint64_t frames_ = 0, joined_frames_ = 0;
};

inline std::string FamilyOf(const testing::TestParamInfo<Family>& test) {
  return test.param == Family::kIpv4 ? "Ipv4" : "Ipv6";
}

}  // namespace penstock

#endif  // PENSTOCK_TESTS_STACK_WIRE_REASSEMBLY_FIXTURE_H_
