// Fragments put together: in any order, of both families, up to the largest datagram; and
// each reason for which they are not, with the counts that must always add up.
#include "stack/wire/reassembly.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "stack/wire/udp_frames.h"
#include "tests/support/packet_builder.h"

namespace penstock {
namespace {

using namespace std::chrono_literals;

constexpr Time kStart = Time{} + std::chrono::hours(24);
constexpr Duration kMoment = std::chrono::nanoseconds(1);

Bytes Pattern(size_t length, uint8_t seed = 0) {
  Bytes bytes(length);
  for (size_t i = 0; i < length; ++i) bytes[i] = static_cast<uint8_t>(i * 7 + i / 256 + seed);
  return bytes;
}

// What a datagram was put together from and to.
struct Joined {
  Bytes bytes;  // from the IP header
  uint32_t fragments = 0;
};

class ReassemblyTest : public testing::TestWithParam<Family> {
 protected:
  ~ReassemblyTest() override {
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

  // Datagrams up to the maximum come in frames of any size here.
  static ParseOptions Options() {
    ParseOptions options = TestParseOptions();
    options.mtu = 65'535;
    return options;
  }

  Time now_ = kStart;
  Counters counters_;
  GuestBufferPool pool_{Reassembly::kBytesMax};
  std::optional<Reassembly> reassembly_{std::in_place, pool_, counters_};
  uint64_t frames_ = 0, joined_frames_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Families, ReassemblyTest, testing::Values(Family::kIpv4, Family::kIpv6),
                         [](const auto& test) {
                           return test.param == Family::kIpv4 ? "Ipv4" : "Ipv6";
                         });

// The packet as it would be had nobody cut it.
Bytes Whole(IpSpec ip, const Transport& transport) {
  ip.fragment_field = 0;
  return IpPacket(ip, transport);
}

// ---------------------------------------------------------------- what is put together

TEST_P(ReassemblyTest, TheDatagramIsAsIfNobodyHadCutIt) {
  const Transport datagram = UdpDatagram({.payload = Pattern(4000)});
  const auto joined = FeedAll(FragmentPackets(Ip(), datagram, 1480));
  ASSERT_TRUE(joined);
  EXPECT_EQ(joined->bytes, Whole(Ip(), datagram));
  EXPECT_EQ(joined->fragments, 3u);
  EXPECT_EQ(counters_.Snapshot().drops_total(), 0u);
  EXPECT_EQ(reassembly_->NextDeadline(), kNever);
  EXPECT_EQ(reassembly_->bytes_held(), 0u);
}

TEST_P(ReassemblyTest, AnyOrder) {
  const Transport datagram = UdpDatagram({.payload = Pattern(300)});
  const std::vector<Bytes> packets = FragmentPackets(Ip(), datagram, 80);
  ASSERT_EQ(packets.size(), 4u);
  std::vector<size_t> order(packets.size());
  std::iota(order.begin(), order.end(), 0);
  do {
    std::vector<Bytes> shuffled;
    for (const size_t i : order) shuffled.push_back(packets[i]);
    const auto joined = FeedAll(shuffled);
    ASSERT_TRUE(joined);
    EXPECT_EQ(joined->bytes, Whole(Ip(), datagram));
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_P(ReassemblyTest, SizesAroundMultiplesOfEight) {
  for (size_t length = 1; length < 60; ++length) {
    const Transport datagram{.protocol = 200, .bytes = Pattern(length + 8)};
    for (const size_t piece : {size_t{8}, size_t{16}, size_t{24}}) {
      const auto packets = FragmentPackets(Ip(), datagram, piece);
      if (packets.size() == 1) continue;
      const auto joined = FeedAll(packets);
      ASSERT_TRUE(joined) << length << " in pieces of " << piece;
      EXPECT_EQ(joined->bytes, Whole(Ip(), datagram));
    }
  }
}

// What the stack itself cuts for guests comes back together.
TEST_P(ReassemblyTest, WhatUdpFramesCuts) {
  const UdpFrameOptions options{
      .limits = {.link = {.gateway_mac = kGuestMac, .guest_mac = kGatewayMac}, .mtu = 1280}};
  const size_t udp_bytes_max = payload_bytes_max() - 8;
  for (const size_t around : {size_t{1280}, size_t{2952}, size_t{8192}, udp_bytes_max - 8}) {
    for (size_t length = around; length <= around + 8; ++length) {
      const Bytes payload = Pattern(length);
      UdpFrames frames(options, {.source = {Guest(family()), 1000},
                                 .destination = {Peer(family()), 2000},
                                 .payload = payload,
                                 .identification = 77});
      std::optional<Joined> joined;
      while (const auto frame = frames.Next()) {
        ASSERT_FALSE(joined);
        const auto ip_header = frame->header.subspan(kIpAt);
        joined = Feed(Concat(Bytes(ip_header.begin(), ip_header.end()), frame->payload));
      }
      ASSERT_TRUE(joined) << length;
      const ParseResult parsed = ParseDatagram(joined->bytes, kGuestMac, TestParseOptions());
      const auto* packet = std::get_if<Packet>(&parsed);
      ASSERT_NE(packet, nullptr) << length;
      EXPECT_TRUE(std::ranges::equal(packet->payload, payload)) << length;
      EXPECT_EQ(packet->source_port, 1000);
    }
  }
}

TEST_P(ReassemblyTest, TheLargestDatagram) {
  const Transport datagram{.protocol = 200, .bytes = Pattern(payload_bytes_max())};
  auto packets = FragmentPackets(Ip(), datagram, 1432);
  const Bytes expected = Whole(Ip(), datagram);
  const auto joined = FeedAll(packets);
  ASSERT_TRUE(joined);
  EXPECT_EQ(joined->bytes, expected);
  std::ranges::reverse(packets);
  const auto again = FeedAll(packets);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->bytes, expected);
}

TEST_P(ReassemblyTest, HeadersAreTheFirstFragments) {
  IpSpec first = Ip();
  first.hop_limit = 11;
  IpSpec second = Ip();
  second.hop_limit = 22;
  // What all fragments carry, and what only the first has.
  if (v4()) {
    first.options = {7, 7, 4, 0, 0, 0, 0, 1};
  } else {
    first.extensions = {{0, {0, 5, 2, 0, 0, 1, 0}}, {60, {0}}};
    second.extensions = {{0, {0, 5, 2, 0, 0, 1, 0}}};
  }
  const Transport datagram = UdpDatagram({.payload = Pattern(40)});
  Bytes expected = Whole(first, datagram);
  const Bytes sealed(expected.end() - 48, expected.end());
  EXPECT_FALSE(Feed(FragmentPacket(
      second, {.offset = 24, .data = Bytes(sealed.begin() + 24, sealed.end()), .protocol = 17})));
  const auto joined = Feed(FragmentPacket(
      first, {.more = true, .data = Bytes(sealed.begin(), sealed.begin() + 24), .protocol = 17}));
  ASSERT_TRUE(joined);
  EXPECT_EQ(joined->bytes, expected);
}

TEST_P(ReassemblyTest, DatagramsAreToldApart) {
  const auto spec = [](uint32_t offset, bool more, uint32_t identification) {
    return FragmentSpec{.offset = offset,
                        .more = more,
                        .data = Bytes(16, static_cast<uint8_t>(identification)),
                        .protocol = 200,
                        .identification = identification};
  };
  IpSpec elsewhere = Ip();
  elsewhere.destination = v4() ? Address("192.0.2.81") : Address("2001:db8::81");
  EXPECT_FALSE(Feed(spec(0, true, 1)));
  EXPECT_FALSE(Feed(spec(0, true, 2)));
  EXPECT_FALSE(Feed(FragmentPacket(elsewhere, spec(16, false, 1))));
  EXPECT_EQ(reassembly_->set_count(), 3u);
  const auto second = Feed(spec(16, false, 2));
  ASSERT_TRUE(second);
  EXPECT_EQ(Bytes(second->bytes.end() - 32, second->bytes.end()), Bytes(32, 2));
  const auto first = Feed(spec(16, false, 1));
  ASSERT_TRUE(first);
  EXPECT_EQ(Bytes(first->bytes.end() - 32, first->bytes.end()), Bytes(32, 1));
  EXPECT_EQ(reassembly_->set_count(), 1u);
}

// RFC 791: the protocol is a part of what tells datagrams apart. RFC 8200: it is not, and
// the first fragment's counts.
TEST_P(ReassemblyTest, TheProtocolIsAPartOfTheKeyForIpv4Alone) {
  EXPECT_FALSE(Feed({.offset = 16, .data = Bytes(16), .protocol = 201}));
  const auto joined = Feed({.more = true, .data = Bytes(16), .protocol = 200});
  EXPECT_EQ(joined.has_value(), !v4());
  if (joined) {
    EXPECT_EQ(joined->bytes[6], 200);
  }
}

TEST_P(ReassemblyTest, TheTransportIsParsedAsOfAnyPacket) {
  const auto outcome = [&](const Transport& transport, size_t piece) -> std::string {
    now_ += Reassembly::kLifetime;
    auto joined = FeedAll(FragmentPackets(Ip(), transport, piece));
    if (!joined) return "not joined";
    const ParseResult parsed = ParseDatagram(joined->bytes, kGuestMac, TestParseOptions());
    if (const auto* cause = std::get_if<DropCause>(&parsed)) return std::string(Name(*cause));
    const Packet& packet = std::get<Packet>(parsed);
    EXPECT_TRUE(packet.fragmented);
    EXPECT_EQ(packet.source_mac, kGuestMac);
    EXPECT_EQ(packet.ip.size(), joined->bytes.size());
    return "parsed";
  };
  EXPECT_EQ(outcome(TcpSegment({.flags = kTcpSyn, .options = {2, 4, 5, 0xb4}}), 16),
            v4() ? "parsed" : "not joined")
      << "RFC 7112: IPv6 wants all headers in the first fragment";
  EXPECT_EQ(outcome(TcpSegment({.flags = kTcpAck, .payload = Pattern(3000)}), 1400), "parsed");
  EXPECT_EQ(outcome(TcpSegment({.flags = kTcpFin, .payload = Pattern(3000)}), 1400), "tcp_flags");
  EXPECT_EQ(outcome(EchoRequest(family(), Pattern(3000)), 1400), "parsed");
  EXPECT_EQ(outcome({.protocol = 200, .bytes = Bytes(64)}, 32), "unknown_protocol");
}

TEST_P(ReassemblyTest, ChecksumsAreVerifiedWhateverTheLinkSaid) {
  auto packets = FragmentPackets(Ip(), TcpSegment({.payload = Pattern(100)}), 64);
  packets.back().back() ^= 1;
  ASSERT_FALSE(Feed(packets[0]));
  const Parsed last =
      ParseFrame(EthernetFrame(packets[1]), Options(), {.checksum = ChecksumState::kComplete});
  ASSERT_EQ(last.outcome(), "fragment");
  ++frames_;
  const auto datagram = reassembly_->Add(*last.fragment(), now_);
  ASSERT_TRUE(datagram);
  joined_frames_ += datagram->fragments;
  ParseOptions options = Options();
  options.unsegmented_tcp_to_host = true;
  const ParseResult parsed = ParseDatagram(datagram->bytes, kGuestMac, options);
  EXPECT_EQ(std::get<DropCause>(parsed), DropCause::kTcpChecksum);
  pool_.Give(datagram->buffer);
}

TEST_P(ReassemblyTest, ADatagramCutOnTheLinkIsNoBareSum) {
  // The field holds the sum of the pseudo-header, as links that leave TCP unsegmented may
  // have it; a guest that cuts a segment itself completes it first.
  Transport segment = TcpSegment({.payload = Pattern(100)});
  Bytes whole = Whole(Ip(), segment);
  Bytes transport(whole.begin() + static_cast<ptrdiff_t>(header_bytes()), whole.end());
  Put16(
      transport, 16,
      PseudoHeaderSum(Guest(family()), Peer(family()), 6, static_cast<uint32_t>(transport.size())));
  EXPECT_FALSE(Feed(
      {.more = true, .data = Bytes(transport.begin(), transport.begin() + 64), .protocol = 6}));
  auto joined =
      Feed({.offset = 64, .data = Bytes(transport.begin() + 64, transport.end()), .protocol = 6});
  ASSERT_TRUE(joined);
  ParseOptions options = Options();
  options.unsegmented_tcp_to_host = true;
  const ParseResult parsed = ParseDatagram(joined->bytes, kGuestMac, options);
  EXPECT_EQ(std::get<DropCause>(parsed), DropCause::kTcpChecksum);
}

// ---------------------------------------------------------------- what is refused

// After a refusal nothing is left to join, and what still comes is swallowed until the
// set's time is over.
#define EXPECT_REFUSED(cause, frames)        \
  EXPECT_EQ(drops(cause), uint64_t{frames}); \
  EXPECT_EQ(held(), 0u);                     \
  EXPECT_EQ(reassembly_->bytes_held(), 0u);  \
  EXPECT_EQ(reassembly_->set_count(), 1u)

TEST_P(ReassemblyTest, OverlapsDiscardTheSet) {
  struct Case {
    uint32_t begin;
    uint32_t end;
  };
  // Around what is there, [64, 128).
  for (const Case& c : {Case{56, 72}, Case{120, 136}, Case{72, 80}, Case{56, 136}, Case{64, 120},
                        Case{72, 128}, Case{64, 128}}) {
    const uint64_t before = drops(DropCause::kFragmentOverlap);
    EXPECT_FALSE(Feed({.offset = 64, .more = true, .data = Bytes(64, 1)}));
    EXPECT_EQ(held(), 1u);
    EXPECT_FALSE(Feed({.offset = c.begin, .more = true, .data = Bytes(c.end - c.begin, 2)}));
    EXPECT_REFUSED(DropCause::kFragmentOverlap, before + 2) << c.begin << " to " << c.end;
    now_ += Reassembly::kLifetime;
  }
}

TEST_P(ReassemblyTest, ARefusedSetSwallowsWhatStillComes) {
  EXPECT_FALSE(Feed({.more = true, .data = Bytes(64, 1)}));
  now_ += 4s;
  EXPECT_FALSE(Feed({.more = true, .data = Bytes(64, 2)}));
  EXPECT_EQ(drops(DropCause::kFragmentOverlap), 2u);
  // It would be a whole datagram without the first one.
  EXPECT_FALSE(Feed({.more = true, .data = Bytes(64, 1)}));
  EXPECT_FALSE(Feed({.offset = 64, .data = Bytes(64, 1)}));
  EXPECT_REFUSED(DropCause::kFragmentOverlap, 4);
  EXPECT_EQ(reassembly_->NextDeadline(), kStart + Reassembly::kLifetime);
  // From the set's first fragment, not from the overlap: then it is all over.
  now_ = kStart + Reassembly::kLifetime;
  EXPECT_FALSE(Feed({.more = true, .data = Bytes(64, 1)}));
  EXPECT_TRUE(Feed({.offset = 64, .data = Bytes(64, 1)}));
}

TEST_P(ReassemblyTest, ExactDuplicatesAreDroppedAlone) {
  const auto packets = FragmentPackets(Ip(), UdpDatagram({.payload = Pattern(300)}), 128);
  ASSERT_EQ(packets.size(), 3u);
  for (const size_t i : {0, 0, 2, 2, 0}) EXPECT_FALSE(Feed(packets[i]));
  EXPECT_EQ(drops(DropCause::kFragmentDuplicate), 3u);
  EXPECT_EQ(held(), 2u);
  const auto joined = Feed(packets[1]);
  ASSERT_TRUE(joined);
  EXPECT_EQ(joined->fragments, 3u);
}

// Equal bytes, but it says that it is not the last: one of the two lies.
TEST_P(ReassemblyTest, ADuplicateThatContradictsIsAnOverlap) {
  EXPECT_FALSE(Feed({.offset = 64, .data = Bytes(64)}));
  EXPECT_FALSE(Feed({.offset = 64, .more = true, .data = Bytes(64)}));
  EXPECT_REFUSED(DropCause::kFragmentOverlap, 2);
}

TEST_P(ReassemblyTest, MalformedFragmentsDiscardTheSet) {
  const std::vector<FragmentSpec> malformed = {
      {.offset = 64, .more = true, .data = Bytes(15)},  // no multiple of 8, and no last one
      {.offset = 64, .more = true, .data = {}},
      {.offset = 64, .data = {}},
  };
  for (const FragmentSpec& fragment : malformed) {
    const uint64_t before = drops(DropCause::kFragmentMalformed);
    EXPECT_FALSE(Feed({.offset = 128, .more = true, .data = Bytes(64)}));
    EXPECT_FALSE(Feed(fragment));
    EXPECT_REFUSED(DropCause::kFragmentMalformed, before + 2);
    now_ += Reassembly::kLifetime;
    // Also where it comes first: the order of arrival makes no difference.
    EXPECT_FALSE(Feed(fragment));
    EXPECT_FALSE(Feed({.offset = 128, .more = true, .data = Bytes(64)}));
    EXPECT_REFUSED(DropCause::kFragmentMalformed, before + 4);
    now_ += Reassembly::kLifetime;
  }
}

TEST_P(ReassemblyTest, TheEndIsSaidOnce) {
  const FragmentSpec last{.offset = 128, .data = Bytes(64)};
  const std::vector<FragmentSpec> contradicting = {
      {.offset = 256, .more = true, .data = Bytes(64)},  // behind the end
      {.offset = 256, .data = Bytes(64)},                // another end
      {.offset = 64, .data = Bytes(64)},
  };
  for (const FragmentSpec& other : contradicting) {
    for (const bool last_first : {true, false}) {
      const uint64_t before = drops(DropCause::kFragmentMalformed);
      EXPECT_FALSE(Feed(last_first ? last : other));
      EXPECT_FALSE(Feed(last_first ? other : last));
      EXPECT_REFUSED(DropCause::kFragmentMalformed, before + 2) << other.offset;
      now_ += Reassembly::kLifetime;
    }
  }
}

TEST_P(ReassemblyTest, OversizedDatagramsAreDiscarded) {
  const auto last = [&](size_t length) {
    return FragmentSpec{.offset = 65'528 - 8 * 8, .data = Bytes(length)};
  };
  const size_t fits = payload_bytes_max() - (65'528 - 64);
  EXPECT_FALSE(Feed({.offset = 64, .more = true, .data = Bytes(64)}));
  EXPECT_FALSE(Feed(last(fits + 1)));
  EXPECT_REFUSED(DropCause::kFragmentOversized, 2);
  now_ += Reassembly::kLifetime;
  EXPECT_FALSE(Feed(last(fits)));
  EXPECT_EQ(held(), 1u);
  EXPECT_EQ(drops(DropCause::kFragmentOversized), 2u);
}

// The first fragment's header is the datagram's: with it, it may be too long.
TEST_P(ReassemblyTest, ALongHeaderMakesADatagramOversized) {
  IpSpec first = Ip();
  if (v4()) {
    first.options = Bytes(4, 1);
  } else {
    first.extensions = {{60, {0}}};
  }
  const size_t rest = payload_bytes_max() - 65'512;
  for (const bool first_first : {true, false}) {
    const uint64_t before = drops(DropCause::kFragmentOversized);
    const Bytes head = FragmentPacket(first, {.more = true, .data = Bytes(64)});
    const Bytes tail = FragmentPacket(Ip(), {.offset = 65'512, .data = Bytes(rest)});
    EXPECT_FALSE(Feed(first_first ? head : tail));
    EXPECT_FALSE(Feed(first_first ? tail : head));
    EXPECT_REFUSED(DropCause::kFragmentOversized, before + 2);
    now_ += Reassembly::kLifetime;
  }
}

// ---------------------------------------------------------------- limits

TEST_P(ReassemblyTest, ASetExpiresTenSecondsAfterItsFirstFragment) {
  EXPECT_EQ(reassembly_->NextDeadline(), kNever);
  EXPECT_FALSE(Feed({.more = true, .data = Bytes(64)}));
  EXPECT_EQ(reassembly_->NextDeadline(), kStart + 10s);
  now_ += 9s;
  EXPECT_FALSE(Feed({.offset = 128, .data = Bytes(64)}));
  EXPECT_FALSE(Feed({.more = true, .data = Bytes(64), .identification = 2}));
  EXPECT_EQ(reassembly_->NextDeadline(), kStart + 10s);
  reassembly_->Expire(kStart + 10s - kMoment);
  EXPECT_EQ(drops(DropCause::kFragmentTimeout), 0u);
  reassembly_->Expire(kStart + 10s);
  EXPECT_EQ(drops(DropCause::kFragmentTimeout), 2u);
  EXPECT_EQ(held(), 1u);
  EXPECT_EQ(reassembly_->NextDeadline(), kStart + 19s);
  reassembly_->Expire(kStart + 19s);
  EXPECT_EQ(drops(DropCause::kFragmentTimeout), 3u);
  EXPECT_EQ(reassembly_->NextDeadline(), kNever);
  EXPECT_EQ(pool_.bytes_out(), 0u);
}

TEST_P(ReassemblyTest, AFragmentThatComesTooLateBeginsAnew) {
  EXPECT_FALSE(Feed({.more = true, .data = Bytes(64)}));
  now_ += 10s;  // and nobody called Expire
  EXPECT_FALSE(Feed({.offset = 64, .data = Bytes(64)}));
  EXPECT_EQ(drops(DropCause::kFragmentTimeout), 1u);
  EXPECT_EQ(held(), 1u);
  EXPECT_TRUE(Feed({.more = true, .data = Bytes(64)}));
}

TEST_P(ReassemblyTest, TheOldestSetGoesWhenThereAreTooMany) {
  const auto part = [](uint32_t identification, bool first) {
    return FragmentSpec{.offset = first ? 0u : 64u,
                        .more = first,
                        .data = Bytes(64),
                        .protocol = 200,
                        .identification = identification};
  };
  for (uint32_t i = 0; i < Reassembly::kSetsMax; ++i) EXPECT_FALSE(Feed(part(i, true)));
  EXPECT_EQ(pool_.bytes_out(), Reassembly::kBytesMax);
  EXPECT_EQ(drops(DropCause::kFragmentLimit), 0u);
  EXPECT_FALSE(Feed(part(1'000, true)));
  EXPECT_EQ(drops(DropCause::kFragmentLimit), 1u);
  EXPECT_EQ(reassembly_->set_count(), Reassembly::kSetsMax);
  EXPECT_EQ(pool_.bytes_out(), Reassembly::kBytesMax);
  // It was the first: all the others can still complete.
  for (uint32_t i = 1; i < Reassembly::kSetsMax; ++i) EXPECT_TRUE(Feed(part(i, false)));
  EXPECT_TRUE(Feed(part(1'000, false)));
  EXPECT_FALSE(Feed(part(0, false)));
}

TEST_P(ReassemblyTest, ADatagramHasAtMostSoManyFragments) {
  const auto piece = [](size_t i, size_t count) {
    return FragmentSpec{.offset = static_cast<uint32_t>(i * 8),
                        .more = i + 1 < count,
                        .data = Bytes(8),
                        .protocol = 200};
  };
  constexpr size_t kMax = Reassembly::kFragmentsPerSetMax;
  for (size_t i = 0; i + 1 < kMax; ++i) EXPECT_FALSE(Feed(piece(i, kMax)));
  EXPECT_TRUE(Feed(piece(kMax - 1, kMax)));
  for (size_t i = 0; i < kMax; ++i) EXPECT_FALSE(Feed(piece(i, kMax + 1)));
  EXPECT_EQ(held(), kMax);
  EXPECT_FALSE(Feed(piece(kMax, kMax + 1)));
  EXPECT_REFUSED(DropCause::kFragmentLimit, kMax + 1);
}

TEST_P(ReassemblyTest, WithoutABufferAFragmentIsDropped) {
  std::vector<GuestBuffer*> all;
  while (GuestBuffer* buffer = pool_.Take(kFrameBytesMax)) all.push_back(buffer);
  EXPECT_FALSE(Feed({.more = true, .data = Bytes(64)}));
  EXPECT_EQ(drops(DropCause::kNoBuffer), 1u);
  EXPECT_EQ(reassembly_->set_count(), 0u);
  for (GuestBuffer* buffer : all) pool_.Give(buffer);
}

TEST_P(ReassemblyTest, WhatWaitsWhenTheStackGoesIsCounted) {
  EXPECT_FALSE(Feed({.more = true, .data = Bytes(64)}));
  EXPECT_FALSE(Feed({.offset = 128, .data = Bytes(64)}));
  reassembly_.reset();
  EXPECT_EQ(drops(DropCause::kShutdown), 2u);
}

// ---------------------------------------------------------------- IPv6's own

class Ipv6ReassemblyTest : public ReassemblyTest {};

INSTANTIATE_TEST_SUITE_P(Families, Ipv6ReassemblyTest, testing::Values(Family::kIpv6));

// RFC 7112.
TEST_P(Ipv6ReassemblyTest, TheFirstFragmentHasAllHeaders) {
  struct Case {
    Bytes data;
    uint8_t protocol;
    DropCause cause;
  };
  const Case cases[] = {
      {Bytes(16), 6, DropCause::kFragmentMalformed},
      {Concat({17, 1}, Bytes(6)), 60, DropCause::kIpv6ExtensionHeader},
      {Concat({6, 0, 1, 4}, Bytes(20)), 60, DropCause::kFragmentMalformed},
      {Concat({17, 0, 0}, Bytes(13)), 43, DropCause::kIpv6RoutingTypeZero},
  };
  for (const Case& c : cases) {
    const uint64_t before = drops(c.cause);
    EXPECT_FALSE(Feed({.offset = 128, .data = Bytes(8), .protocol = c.protocol}));
    EXPECT_FALSE(Feed({.more = true, .data = c.data, .protocol = c.protocol}));
    EXPECT_REFUSED(c.cause, before + 2);
    now_ += Reassembly::kLifetime;
  }
}

TEST_P(Ipv6ReassemblyTest, ExtensionHeadersMayBeBehindTheFragmentHeader) {
  // Destination options, then UDP.
  const Transport datagram = UdpDatagram({.payload = Pattern(100)});
  const Bytes whole =
      Whole({.source = kGuest6, .destination = kPeer6, .extensions = {{60, {0}}}}, datagram);
  const Bytes data(whole.begin() + 40, whole.end());
  EXPECT_FALSE(
      Feed({.more = true, .data = Bytes(data.begin(), data.begin() + 40), .protocol = 60}));
  auto joined = Feed({.offset = 40, .data = Bytes(data.begin() + 40, data.end()), .protocol = 60});
  ASSERT_TRUE(joined);
  EXPECT_EQ(joined->bytes, whole);
  EXPECT_TRUE(
      std::holds_alternative<Packet>(ParseDatagram(joined->bytes, kGuestMac, TestParseOptions())));
}

TEST_P(Ipv6ReassemblyTest, AFragmentIsNotPutTogetherFromFragments) {
  // Destination options, then a fragment header, then UDP.
  for (const uint8_t more : {0, 1}) {
    Bytes data = Concat({44, 0, 1, 4, 0, 0, 0, 0}, Bytes{17, 0, 0, more, 0, 0, 0, 1});
    data = Concat(data, Bytes(48));
    EXPECT_FALSE(
        Feed({.more = true, .data = Bytes(data.begin(), data.begin() + 40), .protocol = 60}));
    auto joined =
        Feed({.offset = 40, .data = Bytes(data.begin() + 40, data.end()), .protocol = 60});
    ASSERT_TRUE(joined);
    const ParseResult parsed = ParseDatagram(joined->bytes, kGuestMac, TestParseOptions());
    EXPECT_EQ(std::get<DropCause>(parsed), DropCause::kIpv6ExtensionHeader);
  }
}

// RFC 6980.
TEST_P(Ipv6ReassemblyTest, NeighbourDiscoveryMayNotBeFragmented) {
  IpSpec ip{.source = kGuest6, .destination = kGateway6, .hop_limit = 255};
  const auto packets = FragmentPackets(ip, Solicitation(kGateway6, Concat({14, 2}, Bytes(14))), 32);
  ASSERT_EQ(packets.size(), 2u);
  auto joined = FeedAll(packets);
  ASSERT_TRUE(joined);
  const ParseResult parsed = ParseDatagram(joined->bytes, kGuestMac, TestParseOptions());
  EXPECT_EQ(std::get<DropCause>(parsed), DropCause::kNdpMalformed);
}

// ---------------------------------------------------------------- anything

// Fragments of a few datagrams, cut, shuffled, spoiled, repeated and late: the counts add
// up after each, and what completes says what its length is.
TEST_P(ReassemblyTest, AnyFragmentsKeepTheBalance) {
  std::mt19937 random(20'240'607);
  int completed = 0;
  for (int i = 0; i < 50'000; ++i) {
    const uint32_t unit = random() % 40 == 0 ? 8 : 64;
    const auto place = static_cast<uint32_t>(random() % 4);
    FragmentSpec fragment{.offset = unit * place,
                          .more = (place < 3) != (random() % 100 == 0),
                          .data = Bytes(unit * (random() % 8 == 0 ? 2 : 1)),
                          .protocol = 200,
                          .identification = static_cast<uint32_t>(random() % 80)};
    if (random() % 100 == 0) fragment.data[0] = 1;
    if (random() % 100 == 0) fragment.offset = 65'528 - static_cast<uint32_t>(random() % 20) * 8;
    if (random() % 100 == 0) fragment.data.resize(random() % 20);
    if (!fragment.more && fragment.offset == 0) continue;  // is none
    now_ += std::chrono::milliseconds(random() % 100);
    const auto joined = Feed(fragment);
    if (!joined) continue;
    ++completed;
    const size_t length = joined->bytes.size();
    ASSERT_EQ(Get16(joined->bytes, v4() ? 2 : 4), v4() ? length : length - 40);
    ASSERT_LE(joined->fragments, Reassembly::kFragmentsPerSetMax);
  }
  EXPECT_GT(completed, 500);
  for (const DropCause cause :
       {DropCause::kFragmentMalformed, DropCause::kFragmentOverlap, DropCause::kFragmentOversized,
        DropCause::kFragmentDuplicate, DropCause::kFragmentLimit, DropCause::kFragmentTimeout}) {
    EXPECT_GT(drops(cause), 0u) << Name(cause);
  }
}

}  // namespace
}  // namespace penstock
