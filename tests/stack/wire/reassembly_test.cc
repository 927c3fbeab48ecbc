// Fragments put together: in any order, of both families, up to the largest datagram.
// What is refused: reassembly_refusal_test.cc.
#include "stack/wire/reassembly.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "stack/wire/udp_frames.h"
#include "tests/stack/wire/reassembly_fixture.h"

namespace penstock {
namespace {

class ReassemblyTest : public ReassemblyFixture {};

INSTANTIATE_TEST_SUITE_P(Families, ReassemblyTest, testing::Values(Family::kIpv4, Family::kIpv6),
                         FamilyOf);

// The packet as it would be had nobody cut it.
Bytes Whole(IpSpec ip, const Transport& transport) {
  ip.fragment_field = 0;
  return IpPacket(ip, transport);
}

TEST_P(ReassemblyTest, TheDatagramIsAsIfNobodyHadCutIt) {
  const Transport datagram = UdpDatagram({.payload = PatternBytes(4000)});
  const auto joined = FeedAll(FragmentPackets(Ip(), datagram, 1480));
  ASSERT_TRUE(joined);
  EXPECT_EQ(joined->bytes, Whole(Ip(), datagram));
  EXPECT_EQ(joined->fragments, 3u);
  EXPECT_EQ(counters_.Snapshot().drops_total(), 0u);
  EXPECT_EQ(reassembly_->NextDeadline(), kNever);
  EXPECT_EQ(reassembly_->bytes_held(), 0u);
}

TEST_P(ReassemblyTest, AnyOrder) {
  const Transport datagram = UdpDatagram({.payload = PatternBytes(300)});
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
    const Transport datagram{.protocol = 200, .bytes = PatternBytes(length + 8)};
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
      const Bytes payload = PatternBytes(length);
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
  const Transport datagram{.protocol = 200, .bytes = PatternBytes(payload_bytes_max())};
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
  const Transport datagram = UdpDatagram({.payload = PatternBytes(40)});
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
  EXPECT_EQ(outcome(TcpSegment({.flags = kTcpAck, .payload = PatternBytes(3000)}), 1400), "parsed");
  EXPECT_EQ(outcome(TcpSegment({.flags = kTcpFin, .payload = PatternBytes(3000)}), 1400),
            "tcp_flags");
  EXPECT_EQ(outcome(EchoRequest(family(), PatternBytes(3000)), 1400), "parsed");
  EXPECT_EQ(outcome({.protocol = 200, .bytes = Bytes(64)}, 32), "unknown_protocol");
}

TEST_P(ReassemblyTest, ChecksumsAreVerifiedWhateverTheLinkSaid) {
  auto packets = FragmentPackets(Ip(), TcpSegment({.payload = PatternBytes(100)}), 64);
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
  Transport segment = TcpSegment({.payload = PatternBytes(100)});
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

// ---------------------------------------------------------------- IPv6's own

class Ipv6ReassemblyTest : public ReassemblyFixture {};

INSTANTIATE_TEST_SUITE_P(Families, Ipv6ReassemblyTest, testing::Values(Family::kIpv6), FamilyOf);

TEST_P(Ipv6ReassemblyTest, ExtensionHeadersMayBeBehindTheFragmentHeader) {
  // Destination options, then UDP.
  const Transport datagram = UdpDatagram({.payload = PatternBytes(100)});
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

}  // namespace
}  // namespace penstock
