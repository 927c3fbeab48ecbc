// What Parse makes of good frames: fields, views, defused headers, offloads.
// Refusals are in drops_test.cc.
#include <gtest/gtest.h>

#include "stack/wire/emit.h"
#include "tests/support/packet_builder.h"

namespace penstock {
namespace {

class ParseFamilyTest : public testing::TestWithParam<Family> {
 protected:
  [[nodiscard]] static Family family() { return GetParam(); }
  [[nodiscard]] static bool v4() { return family() == Family::kIpv4; }
  // From the guest to the peer.
  [[nodiscard]] static Bytes Frame(const Transport& transport) {
    return EthernetFrame(
        IpPacket({.source = Guest(family()), .destination = Peer(family())}, transport));
  }
};

INSTANTIATE_TEST_SUITE_P(Families, ParseFamilyTest, testing::Values(Family::kIpv4, Family::kIpv6),
                         [](const auto& test) {
                           return test.param == Family::kIpv4 ? "Ipv4" : "Ipv6";
                         });

TEST_P(ParseFamilyTest, TcpFieldsAndViews) {
  const Parsed parsed =
      ParseFrame(Frame(TcpSegment({.source_port = 40'001,
                                   .destination_port = 443,
                                   .sequence = 0xfffffff0,
                                   .acknowledgement = 0x80000001,
                                   .flags = kTcpAck | kTcpPsh,
                                   .window = 0xfffe,
                                   .options = {1, 1, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0},
                                   .payload = {'a', 'b', 'c'}})));
  ASSERT_EQ(parsed.outcome(), "parsed");
  const Packet& packet = parsed.packet();
  EXPECT_EQ(packet.protocol, Protocol::kTcp);
  EXPECT_EQ(packet.source, Guest(family()));
  EXPECT_EQ(packet.destination, Peer(family()));
  EXPECT_EQ(packet.source_mac, kGuestMac);
  EXPECT_FALSE(packet.to_broadcast_or_multicast_mac);
  EXPECT_EQ(packet.hop_limit, 64);
  EXPECT_EQ(packet.source_port, 40'001);
  EXPECT_EQ(packet.destination_port, 443);
  EXPECT_EQ(packet.tcp.sequence, 0xfffffff0u);
  EXPECT_EQ(packet.tcp.acknowledgement, 0x80000001u);
  EXPECT_EQ(packet.tcp.window, 0xfffe);
  EXPECT_EQ(packet.tcp.flags, kTcpAck | kTcpPsh);
  EXPECT_EQ(packet.tcp.header_bytes, 32);
  EXPECT_EQ(packet.ip.data(), parsed.bytes.data() + kIpAt);
  EXPECT_EQ(packet.ip.size(), parsed.bytes.size() - kIpAt);
  EXPECT_EQ(packet.transport.data(), parsed.bytes.data() + TransportAt(family()));
  EXPECT_EQ(packet.transport.size(), 35u);
  EXPECT_EQ(Bytes(packet.payload.begin(), packet.payload.end()), (Bytes{'a', 'b', 'c'}));
}

TEST_P(ParseFamilyTest, SynOptions) {
  const Bytes options{2, 4, 0x05, 0xb4, 4, 2, 1, 3, 3, 7};
  const Parsed parsed = ParseFrame(Frame(TcpSegment({.flags = kTcpSyn, .options = options})));
  ASSERT_EQ(parsed.outcome(), "parsed");
  EXPECT_EQ(parsed.packet().tcp.mss, 1460);
  EXPECT_EQ(parsed.packet().tcp.window_scale, 7);
  const auto seen = parsed.packet().transport.subspan(20, options.size());
  EXPECT_EQ(Bytes(seen.begin(), seen.end()), options) << "a SYN keeps its options";
}

TEST_P(ParseFamilyTest, SynWithoutOptionsHasNone) {
  const Parsed parsed = ParseFrame(Frame(TcpSegment({.flags = kTcpSyn})));
  ASSERT_EQ(parsed.outcome(), "parsed");
  EXPECT_FALSE(parsed.packet().tcp.mss.has_value());
  EXPECT_FALSE(parsed.packet().tcp.window_scale.has_value());
}

TEST_P(ParseFamilyTest, WindowScaleAboveFourteenCountsAsFourteen) {
  const Parsed parsed =
      ParseFrame(Frame(TcpSegment({.flags = kTcpSyn, .options = {3, 3, 255, 1}})));
  ASSERT_EQ(parsed.outcome(), "parsed");
  EXPECT_EQ(parsed.packet().tcp.window_scale, 14);
}

// lwIP takes an MSS from any segment: only a SYN's may reach it.
TEST_P(ParseFamilyTest, NegotiatedOptionsBecomeNopsWithoutSyn) {
  const Parsed parsed =
      ParseFrame(Frame(TcpSegment({.flags = kTcpAck, .options = {2, 4, 0, 1, 3, 3, 14, 4, 2, 8, 10,
                                                                 9, 9, 9, 9, 7, 7, 7,  7, 1}})));
  ASSERT_EQ(parsed.outcome(), "parsed");
  const auto options = parsed.packet().transport.subspan(20, 20);
  EXPECT_EQ(Bytes(options.begin(), options.end()),
            (Bytes{1, 1, 1, 1, 1, 1, 1, 1, 1, 8, 10, 9, 9, 9, 9, 7, 7, 7, 7, 1}));
  EXPECT_FALSE(parsed.packet().tcp.mss.has_value());
  EXPECT_FALSE(parsed.packet().tcp.window_scale.has_value());
}

TEST_P(ParseFamilyTest, UrgentAndEcnAreCleared) {
  const Parsed parsed = ParseFrame(Frame(
      TcpSegment({.flags = kTcpAck | kTcpUrg | kTcpEce | kTcpCwr, .urgent_pointer = 0x1234})));
  ASSERT_EQ(parsed.outcome(), "parsed");
  EXPECT_EQ(parsed.packet().tcp.flags, kTcpAck);
  EXPECT_EQ(parsed.packet().transport[13], kTcpAck);
  EXPECT_EQ(Get16(parsed.packet().transport, 18), 0);
}

TEST_P(ParseFamilyTest, EveryFlagThatATcpSendsPasses) {
  for (const uint8_t flags : {kTcpSyn, kTcpAck, kTcpRst}) {
    EXPECT_EQ(ParseFrame(TcpFrame(family(), {.flags = flags})).outcome(), "parsed") << int{flags};
  }
  for (const int flags :
       {kTcpSyn | kTcpAck, kTcpFin | kTcpAck, kTcpFin | kTcpAck | kTcpPsh, kTcpRst | kTcpAck,
        kTcpSyn | kTcpEce | kTcpCwr, kTcpRst | kTcpAck | kTcpFin}) {
    EXPECT_EQ(ParseFrame(TcpFrame(family(), {.flags = static_cast<uint8_t>(flags)})).outcome(),
              "parsed")
        << flags;
  }
}

TEST_P(ParseFamilyTest, EthernetPaddingIsCutOff) {
  const Bytes frame = Concat(TcpFrame(family(), {}), Bytes(6, 0xee));
  const Parsed parsed = ParseFrame(frame);
  ASSERT_EQ(parsed.outcome(), "parsed");
  EXPECT_EQ(parsed.packet().ip.size(), frame.size() - kIpAt - 6);
  EXPECT_TRUE(parsed.packet().payload.empty());
}

TEST_P(ParseFamilyTest, UdpFieldsAndViews) {
  Bytes frame = UdpFrame(family(), {.source_port = 5, .destination_port = 6, .payload = {1, 2, 3}});
  const Parsed parsed = ParseFrame(frame);
  ASSERT_EQ(parsed.outcome(), "parsed");
  EXPECT_EQ(parsed.packet().protocol, Protocol::kUdp);
  EXPECT_EQ(parsed.packet().source_port, 5);
  EXPECT_EQ(parsed.packet().destination_port, 6);
  EXPECT_EQ(parsed.packet().payload.size(), 3u);
}

TEST_P(ParseFamilyTest, UdpLengthRulesWithinTheIpPacket) {
  Transport datagram = UdpDatagram({.payload = {1, 2, 3, 4}});
  Put16(datagram.bytes, 4, 10);
  const Parsed parsed =
      ParseFrame(Frame(datagram), TestParseOptions(), {.checksum = ChecksumState::kComplete});
  ASSERT_EQ(parsed.outcome(), "parsed");
  EXPECT_EQ(parsed.packet().payload.size(), 2u);
  EXPECT_EQ(parsed.packet().transport.size(), 10u);
}

TEST_P(ParseFamilyTest, PartialChecksumOfTheOwnHeaderPasses) {
  Bytes tcp = TcpFrame(family(), {.payload = {1}});
  Put16(tcp, TransportAt(family()) + 16, 0xdead);
  Offload offload{.checksum = ChecksumState::kPartial,
                  .checksum_start = static_cast<uint16_t>(TransportAt(family())),
                  .checksum_offset = 16};
  EXPECT_EQ(ParseFrame(tcp, TestParseOptions(), offload).outcome(), "parsed");
  Bytes udp = UdpFrame(family(), {.payload = {1}});
  Put16(udp, TransportAt(family()) + 6, 0xdead);
  offload.checksum_offset = 6;
  EXPECT_EQ(ParseFrame(udp, TestParseOptions(), offload).outcome(), "parsed");
}

TEST_P(ParseFamilyTest, CompleteChecksumIsBelieved) {
  Bytes frame = TcpFrame(family(), {.payload = {1}});
  Put16(frame, TransportAt(family()) + 16, 0xdead);
  EXPECT_EQ(ParseFrame(frame, TestParseOptions(), {.checksum = ChecksumState::kComplete}).outcome(),
            "parsed");
}

TEST_P(ParseFamilyTest, SegmentationMayExceedTheMtu) {
  const size_t payload_bytes = v4() ? 65'535 - 40 : 65'535 - 60;
  const Bytes frame = TcpFrame(family(), {.payload = Bytes(payload_bytes, 7)});
  const Offload offload{.gso = v4() ? Gso::kTcp4 : Gso::kTcp6,
                        .segment_bytes = 1440,
                        .header_bytes = 1};  // not believed
  const Parsed parsed = ParseFrame(frame, TestParseOptions(), offload);
  ASSERT_EQ(parsed.outcome(), "parsed");
  EXPECT_EQ(parsed.packet().payload.size(), payload_bytes);
}

TEST_P(ParseFamilyTest, UnsegmentedTcpWhereTheLinkDeclaresIt) {
  const Bytes frame = TcpFrame(family(), {.payload = Bytes(9000, 7)});
  ParseOptions options = TestParseOptions();
  EXPECT_EQ(ParseFrame(frame, options).outcome(), "frame_over_mtu");
  options.unsegmented_tcp_to_host = true;
  EXPECT_EQ(ParseFrame(frame, options).outcome(), "parsed");
  EXPECT_EQ(ParseFrame(UdpFrame(family(), {.payload = Bytes(9000)}), options).outcome(),
            "frame_over_mtu");
}

// Such a link leaves the pseudo-header's sum in the field and does not say so.
TEST_P(ParseFamilyTest, SilentlyPartialChecksumWhereTheLinkDeclaresIt) {
  Bytes frame = TcpFrame(family(), {.payload = {1, 2, 3}});
  Put16(frame, TransportAt(family()) + 16, PseudoHeaderSum(Guest(family()), Peer(family()), 6, 23));
  ParseOptions options = TestParseOptions();
  EXPECT_EQ(ParseFrame(frame, options).outcome(), "tcp_checksum");
  options.unsegmented_tcp_to_host = true;
  EXPECT_EQ(ParseFrame(frame, options).outcome(), "parsed");
  Put8(frame, TransportAt(family()) + 16,
       static_cast<uint8_t>(frame[TransportAt(family()) + 16] ^ 1));
  EXPECT_EQ(ParseFrame(frame, options).outcome(), "tcp_checksum");
}

TEST_P(ParseFamilyTest, FrameOfExactlyTheMtuPasses) {
  const size_t headers = TransportAt(family()) - kIpAt + 20;
  const Bytes exact = TcpFrame(family(), {.payload = Bytes(1500 - headers)});
  EXPECT_EQ(ParseFrame(exact).outcome(), "parsed");
  const Bytes over = TcpFrame(family(), {.payload = Bytes(1501 - headers)});
  EXPECT_EQ(ParseFrame(over).outcome(), "frame_over_mtu");
}

TEST_P(ParseFamilyTest, LinkWithoutEthernet) {
  ParseOptions options = TestParseOptions();
  options.ethernet = false;
  const Bytes packet = IpPacket({.source = Guest(family()), .destination = Peer(family())},
                                TcpSegment({.payload = {1}}));
  const Parsed parsed = ParseFrame(packet, options);
  ASSERT_EQ(parsed.outcome(), "parsed");
  EXPECT_EQ(parsed.packet().ip.data(), parsed.bytes.data());
  EXPECT_EQ(parsed.packet().payload.size(), 1u);
  const Offload offload{.checksum = ChecksumState::kPartial,
                        .checksum_start = static_cast<uint16_t>(v4() ? 20 : 40),
                        .checksum_offset = 16};
  EXPECT_EQ(ParseFrame(packet, options, offload).outcome(), "parsed");
}

TEST_P(ParseFamilyTest, EchoRequest) {
  const Parsed parsed = ParseFrame(Frame(EchoRequest(family(), {1, 2, 3, 4, 5})));
  ASSERT_EQ(parsed.outcome(), "parsed");
  EXPECT_EQ(parsed.packet().protocol, v4() ? Protocol::kIcmpv4 : Protocol::kIcmpv6);
  EXPECT_EQ(parsed.packet().transport.size(), 13u);
}

TEST(ParseTest, GuestMacIsFreeUntilItIsFixed) {
  ParseOptions options = TestParseOptions();
  options.guest_mac.reset();
  Bytes frame = TcpFrame(Family::kIpv4, {});
  Put8(frame, 11, 0x77);
  const Parsed parsed = ParseFrame(frame, options);
  ASSERT_EQ(parsed.outcome(), "parsed");
  EXPECT_EQ(parsed.packet().source_mac[5], 0x77);
}

TEST(ParseTest, ArpRequestAndProbe) {
  const Parsed request = ParseFrame(ArpFrame({}));
  ASSERT_EQ(request.outcome(), "parsed");
  EXPECT_EQ(request.packet().protocol, Protocol::kArp);
  EXPECT_EQ(request.packet().source, kGuest4);
  EXPECT_EQ(request.packet().destination, kGateway4);
  EXPECT_TRUE(request.packet().to_broadcast_or_multicast_mac);
  EXPECT_EQ(request.packet().transport.size(), 28u);
  EXPECT_EQ(ParseFrame(ArpFrame({.sender = Address("0.0.0.0"), .target = kGuest4})).outcome(),
            "parsed");
  const Bytes padded = Concat(ArpFrame({}, kGatewayMac), Bytes(18));
  EXPECT_EQ(ParseFrame(padded).packet().transport.size(), 28u);
}

TEST(ParseTest, DhcpMayUseTheUnspecifiedAndTheBroadcastAddress) {
  const Transport dhcp = UdpDatagram({.source_port = 68, .destination_port = 67});
  for (const IpAddress& source : {Address("0.0.0.0"), kGuest4}) {
    const Bytes frame =
        EthernetFrame(IpPacket({.source = source, .destination = Address("255.255.255.255")}, dhcp),
                      {.destination = kBroadcastMac});
    EXPECT_EQ(ParseFrame(frame).outcome(), "parsed") << source.ToString();
  }
}

TEST_P(ParseFamilyTest, FragmentsAreHandedOn) {
  const IpSpec ip{.source = Guest(family()), .destination = Peer(family())};
  const uint32_t identification = v4() ? 0x8182u : 0x81828384u;
  struct Case {
    uint32_t offset;
    bool more;
  };
  for (const Case& c : {Case{0, true}, Case{1480, true}, Case{65'528, false}}) {
    const Bytes packet = FragmentPacket(ip, {.offset = c.offset,
                                             .more = c.more,
                                             .data = {1, 2, 3, 4, 5, 6, 7, 8},
                                             .protocol = 6,
                                             .identification = identification});
    // Ethernet's padding is no part of it.
    const Parsed parsed = ParseFrame(EthernetFrame(Concat(packet, Bytes(20))));
    ASSERT_EQ(parsed.outcome(), "fragment");
    const Fragment& fragment = *parsed.fragment();
    EXPECT_EQ(fragment.source, Guest(family()));
    EXPECT_EQ(fragment.destination, Peer(family()));
    EXPECT_EQ(fragment.source_mac, kGuestMac);
    EXPECT_EQ(fragment.identification, identification);
    EXPECT_EQ(fragment.position.offset, c.offset);
    EXPECT_EQ(fragment.position.more, c.more);
    EXPECT_EQ(fragment.protocol, 6);
    EXPECT_EQ(Bytes(fragment.headers.begin(), fragment.headers.end()),
              Bytes(packet.begin(), packet.begin() + (v4() ? 20 : 40)));
    EXPECT_EQ(Bytes(fragment.payload.begin(), fragment.payload.end()),
              (Bytes{1, 2, 3, 4, 5, 6, 7, 8}));
  }
}

// Linux sets it on fragments of a datagram that may not be cut further.
TEST(ParseTest, Ipv4FragmentsMayHaveTheDontFragmentBit) {
  Bytes packet = FragmentPacket({.source = kGuest4, .destination = kPeer4},
                                {.offset = 8, .more = true, .data = Bytes(8)});
  Put16(packet, 6, 0x6001);
  FixIpv4Checksum(packet, 0);
  const Parsed parsed = ParseFrame(EthernetFrame(packet));
  ASSERT_EQ(parsed.outcome(), "fragment");
  EXPECT_EQ(parsed.fragment()->position.offset, 8);
  EXPECT_TRUE(parsed.fragment()->position.more);
}

TEST(ParseTest, Ipv6FragmentsMayHaveExtensionHeadersBefore) {
  const Extension padding{60, {0}};
  const Bytes packet =
      FragmentPacket({.source = kGuest6,
                      .destination = kPeer6,
                      .extensions = {{0, {0, 5, 2, 0, 0, 1, 0}}, padding, padding}},
                     {.offset = 8, .data = {1}});
  const Parsed parsed = ParseFrame(EthernetFrame(packet));
  ASSERT_EQ(parsed.outcome(), "fragment");
  EXPECT_EQ(parsed.fragment()->headers.size(), 64u);
  EXPECT_EQ(parsed.fragment()->payload.size(), 1u);
}

// RFC 6946: a fragment header that says nothing changes nothing, whatever fragments with
// the same identification wait.
TEST(ParseTest, Ipv6AtomicFragmentsAreWholePackets) {
  for (const std::vector<Extension>& extensions :
       {std::vector<Extension>{{44, {0, 0, 0, 0x12, 0x34, 0x56, 0x78}}},
        std::vector<Extension>{{0, {0}}, {44, Bytes(7)}, {60, {0}}}}) {
    const Parsed parsed = ParseFrame(
        EthernetFrame(IpPacket({.source = kGuest6, .destination = kPeer6, .extensions = extensions},
                               UdpDatagram({.destination_port = 53, .payload = {1, 2, 3}}))));
    ASSERT_EQ(parsed.outcome(), "parsed");
    EXPECT_TRUE(parsed.packet().fragmented);
    EXPECT_EQ(parsed.packet().destination_port, 53);
    EXPECT_EQ(parsed.packet().payload.size(), 3u);
  }
  EXPECT_FALSE(ParseFrame(TcpFrame(Family::kIpv6, {})).packet().fragmented);
}

TEST(ParseTest, Ipv4OptionsAreSkipped) {
  const Bytes frame = EthernetFrame(
      IpPacket({.source = kGuest4, .destination = kPeer4, .options = {0x94, 4, 0, 0, 1, 7, 3, 4}},
               TcpSegment({.payload = {9}})));
  const Parsed parsed = ParseFrame(frame);
  ASSERT_EQ(parsed.outcome(), "parsed");
  EXPECT_EQ(parsed.packet().payload.size(), 1u);
  EXPECT_EQ(parsed.packet().source_port, 40'000);
}

TEST(ParseTest, EightExtensionHeadersAreWalked) {
  Bytes sixteen(15);
  sixteen[0] = 1;   // length: one unit of 8 bytes more than the first
  sixteen[1] = 1;   // PadN
  sixteen[2] = 12;  // bytes of padding
  std::vector<Extension> extensions{{0, {0, 5, 2, 0, 0, 1, 0}},  // hop-by-hop, router alert
                                    {43, {0, 2, 0}}};            // routing, no segments left
  while (extensions.size() < 8) extensions.push_back({60, sixteen});
  const Parsed parsed = ParseFrame(
      EthernetFrame(IpPacket({.source = kGuest6, .destination = kPeer6, .extensions = extensions},
                             TcpSegment({.payload = {9}}))));
  ASSERT_EQ(parsed.outcome(), "parsed");
  EXPECT_EQ(parsed.packet().source_port, 40'000);
  EXPECT_EQ(parsed.packet().payload.size(), 1u);
  EXPECT_EQ(parsed.packet().transport.data(), parsed.bytes.data() + kTransport6At + 8 + 8 + 6 * 16);
}

TEST(ParseTest, Ipv6SourcesThatAGuestHas) {
  for (const char* source : {"fd00::15", "fd00::abcd:1", "fe80::1234"}) {
    const Bytes frame =
        EthernetFrame(IpPacket({.source = Address(source), .destination = kPeer6}, TcpSegment({})));
    EXPECT_EQ(ParseFrame(frame).outcome(), "parsed") << source;
  }
}

// Networks that the guest routes for, by option.
TEST(ParseTest, SourcesBehindTheGuest) {
  ParseOptions options = TestParseOptions();
  options.ipv4.guest_prefixes = {{Address("172.20.0.0"), 16}, {Address("192.0.2.128"), 25}};
  options.ipv6.guest_prefixes = {{Address("fd20::"), 48}};
  struct Case {
    const char* source;
    const char* outcome;
  };
  for (const Case& c :
       {Case{"172.20.0.1", "parsed"}, Case{"172.20.255.254", "parsed"},
        Case{"192.0.2.129", "parsed"}, Case{"fd20::1", "parsed"},
        Case{"fd20:0:0:ffff::1", "parsed"}, Case{"10.0.2.15", "parsed"},
        Case{"172.21.0.1", "false_source_address"}, Case{"192.0.2.127", "false_source_address"},
        Case{"10.0.2.2", "false_source_address"}, Case{"fd20:0:1::1", "false_source_address"},
        Case{"fd00::2", "false_source_address"}, Case{"127.0.0.1", "martian_address"},
        Case{"::1", "martian_address"}}) {
    const IpAddress source = Address(c.source);
    const Bytes frame = EthernetFrame(
        IpPacket({.source = source, .destination = Peer(source.family)}, TcpSegment({})));
    EXPECT_EQ(ParseFrame(frame, options).outcome(), c.outcome) << c.source;
  }
  // To itself (a land attack) from there neither.
  for (const char* own : {"172.20.0.1", "fd20::1"}) {
    const Bytes frame = EthernetFrame(
        IpPacket({.source = Address(own), .destination = Address(own)}, TcpSegment({})));
    EXPECT_EQ(ParseFrame(frame, options).outcome(), "martian_address") << own;
  }
}

TEST(ParseTest, NeighbourDiscoveryAndMldMayUseTheirGroups) {
  struct Case {
    const char* source;
    const char* group;
    Transport message;
  };
  const Transport router_solicitation = Icmpv6Message({.type = 133});
  const Transport report2 = Icmpv6Message({.type = 143, .body = Bytes(20)});
  const Transport report1 = Icmpv6Message({.type = 131, .body = Bytes(16)});
  const Case cases[] = {{"::", "ff02::1:ff00:15", Solicitation(kGuest6)},
                        {"fd00::15", "ff02::1:ff00:2", Solicitation(kGateway6)},
                        {"fe80::1", "ff02::2", router_solicitation},
                        {"::", "ff02::2", router_solicitation},
                        {"fd00::15", "ff02::1", Solicitation(kGuest6, {}, 136)},
                        {"::", "ff02::16", report2},
                        {"fe80::1", "ff02::1:ff00:15", report1}};
  for (const Case& c : cases) {
    const Bytes frame = EthernetFrame(IpPacket({.source = Address(c.source),
                                                .destination = Address(c.group),
                                                .hop_limit = 255,
                                                .extensions = {{0, {0, 5, 2, 0, 0, 1, 0}}}},
                                               c.message),
                                      {.destination = {0x33, 0x33, 0, 0, 0, 1}});
    EXPECT_EQ(ParseFrame(frame).outcome(), "parsed") << c.source << " to " << c.group;
  }
}

TEST(DefuseTcpOptionsTest, OverwritesWhatIsNegotiatedAndStopsAtWhatIsMalformed) {
  Transport segment = TcpSegment({.flags = kTcpSyn, .options = {2,  4, 5, 0xb4, 4, 2, 3, 3, 7, 8,
                                                                10, 1, 1, 1,    1, 2, 2, 2, 2, 1}});
  DefuseTcpOptions(segment.bytes);
  EXPECT_EQ(Bytes(segment.bytes.begin() + 20, segment.bytes.end()),
            (Bytes{1, 1, 1, 1, 1, 1, 1, 1, 1, 8, 10, 1, 1, 1, 1, 2, 2, 2, 2, 1}));
  Transport broken = TcpSegment({.options = {4, 2, 8, 200, 2, 4, 1, 1}});
  DefuseTcpOptions(broken.bytes);
  EXPECT_EQ(Bytes(broken.bytes.begin() + 20, broken.bytes.end()),
            (Bytes{1, 1, 8, 200, 2, 4, 1, 1}));
  Bytes too_short(19, 2);
  DefuseTcpOptions(too_short);
  EXPECT_EQ(too_short, Bytes(19, 2));
}

// Of UDP and echo the host is told what the guest's packet asked for.
TEST(ParseTest, HopLimitTrafficClassAndDontFragment) {
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    IpSpec spec{.source = Guest(family), .destination = Peer(family), .hop_limit = 7};
    spec.traffic_class = 0xb9;
    const Parsed kept = ParseFrame(EthernetFrame(IpPacket(spec, UdpDatagram({}))));
    ASSERT_TRUE(kept.ok());
    EXPECT_EQ(kept.packet().hop_limit, 7);
    EXPECT_EQ(kept.packet().traffic_class, 0xb9);
    EXPECT_TRUE(kept.packet().dont_fragment);
    EXPECT_EQ(kept.packet().segment_bytes, 0);
    spec.fragment_field = 0;
    const Parsed may = ParseFrame(EthernetFrame(IpPacket(spec, UdpDatagram({}))));
    EXPECT_EQ(may.packet().dont_fragment, family == Family::kIpv6);
  }
}

TEST(ParseTest, UdpThatTheGuestLeftUncut) {
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    const Bytes frame =
        EthernetFrame(IpPacket({.source = Guest(family), .destination = Peer(family)},
                               UdpDatagram({.payload = Bytes(5'000)})));
    const Parsed several =
        ParseFrame(frame, TestParseOptions(), {.gso = Gso::kUdp, .segment_bytes = 1'000});
    ASSERT_TRUE(several.ok()) << several.outcome();
    EXPECT_EQ(several.packet().segment_bytes, 1'000);
    EXPECT_EQ(several.packet().payload.size(), 5'000u);
  }
}

}  // namespace
}  // namespace penstock
