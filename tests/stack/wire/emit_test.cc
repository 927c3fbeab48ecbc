// What the stack says itself, held against the bytes that the RFCs want; every
// emitter also with too little room.
#include "stack/wire/emit.h"

#include <gtest/gtest.h>

#include <functional>

#include "tests/support/packet_builder.h"

namespace penstock {
namespace {

const LinkAddresses kLink{.gateway_mac = kGatewayMac, .guest_mac = kGuestMac};

Bytes Part(std::span<const uint8_t> bytes, size_t at, size_t length) {
  const auto part = bytes.subspan(at, length);
  return {part.begin(), part.end()};
}

Bytes Wire(const IpAddress& address) { return {address.wire().begin(), address.wire().end()}; }

// The frame that `emit` writes; with one byte less it must write nothing at all.
Bytes Emitted(const std::function<size_t(std::span<uint8_t>)>& emit) {
  Bytes out(2000);
  out.resize(emit(out));
  for (size_t room = 0; room < out.size(); ++room) {
    Bytes small(room);
    EXPECT_EQ(emit(small), 0u) << "with room for " << room;
  }
  return out;
}

// Ethernet header, IP header and all checksums of a frame from the gateway.
void ExpectSound(const Bytes& frame, const IpAddress& source, const IpAddress& destination,
                 uint8_t protocol, const MacAddress& mac = kGuestMac) {
  const bool v4 = source.is_v4();
  ASSERT_GE(frame.size(), TransportAt(source.family));
  EXPECT_EQ(Part(frame, 0, 6), Bytes(mac.begin(), mac.end()));
  EXPECT_EQ(Part(frame, 6, 6), Bytes(kGatewayMac.begin(), kGatewayMac.end()));
  EXPECT_EQ(Get16(frame, 12), v4 ? 0x0800 : 0x86dd);
  const auto ip = std::span(frame).subspan(kIpAt);
  const auto transport = std::span(frame).subspan(TransportAt(source.family));
  if (v4) {
    EXPECT_EQ(ip[0], 0x45);
    EXPECT_EQ(Get16(ip, 2), ip.size());
    EXPECT_EQ(ip[9], protocol);
    EXPECT_EQ(SlowSum(ip.first(20)), 0xffff);
  } else {
    EXPECT_EQ(ip[0], 0x60);
    EXPECT_EQ(Get16(ip, 4), transport.size());
    EXPECT_EQ(ip[6], protocol);
  }
  EXPECT_EQ(Part(ip, v4 ? 12 : 8, v4 ? 4 : 16), Wire(source));
  EXPECT_EQ(Part(ip, v4 ? 16 : 24, v4 ? 4 : 16), Wire(destination));
  EXPECT_EQ(SlowTransportSum(source, destination, protocol, transport), 0xffff);
}

class EmitFamilyTest : public testing::TestWithParam<Family> {
 protected:
  [[nodiscard]] static Family family() { return GetParam(); }
  [[nodiscard]] static bool v4() { return family() == Family::kIpv4; }
  [[nodiscard]] static IpAddress gateway() { return v4() ? kGateway4 : kGateway6; }
  [[nodiscard]] static uint8_t icmp() { return v4() ? 1 : 58; }
};

INSTANTIATE_TEST_SUITE_P(Families, EmitFamilyTest, testing::Values(Family::kIpv4, Family::kIpv6),
                         [](const auto& test) {
                           return test.param == Family::kIpv4 ? "Ipv4" : "Ipv6";
                         });

TEST_P(EmitFamilyTest, TcpControl) {
  const TcpControl segment{.source = {Peer(family()), 80},
                           .destination = {Guest(family()), 40'000},
                           .sequence = 0x01020304,
                           .acknowledgement = 0x05060708,
                           .window = 0x090a,
                           .flags = kTcpRst | kTcpAck};
  const Bytes frame =
      Emitted([&](std::span<uint8_t> out) { return EmitTcpControl(kLink, segment, out); });
  ASSERT_EQ(frame.size(), TransportAt(family()) + 20);
  ExpectSound(frame, Peer(family()), Guest(family()), 6);
  const auto tcp = std::span(frame).subspan(TransportAt(family()));
  EXPECT_EQ(Part(tcp, 0, 16),
            (Bytes{0, 80, 0x9c, 0x40, 1, 2, 3, 4, 5, 6, 7, 8, 0x50, 0x14, 9, 10}));
  EXPECT_EQ(Get16(tcp, 18), 0);
}

TEST_P(EmitFamilyTest, EchoReplyKeepsIdentifierSequenceAndData) {
  const Parsed request = ParseFrame(EthernetFrame(IpPacket(
      {.source = Guest(family()), .destination = gateway()}, EchoRequest(family(), {1, 2, 3}))));
  ASSERT_TRUE(request.ok());
  const Bytes frame =
      Emitted([&](std::span<uint8_t> out) { return EmitEchoReply(kLink, request.packet(), out); });
  ExpectSound(frame, gateway(), Guest(family()), icmp());
  const auto reply = std::span(frame).subspan(TransportAt(family()));
  EXPECT_EQ(reply[0], v4() ? 0 : 129);
  EXPECT_EQ(Part(reply, 4, reply.size() - 4), (Bytes{1, 2, 0, 3, 1, 2, 3}));
}

TEST_P(EmitFamilyTest, EchoReplyAnswersNothingButRequests) {
  Bytes out(2000);
  EXPECT_EQ(EmitEchoReply(kLink, ParseFrame(TcpFrame(family(), {})).packet(), out), 0u);
  Transport reply = EchoRequest(family(), {});
  Put8(reply.bytes, 0, v4() ? 0 : 129);
  const Parsed parsed = ParseFrame(
      EthernetFrame(IpPacket({.source = Guest(family()), .destination = gateway()}, reply)));
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(EmitEchoReply(kLink, parsed.packet(), out), 0u);
}

TEST_P(EmitFamilyTest, WhatIcmpHasNoWordForIsNoError) {
  const Bytes original = IpPacket({.source = Guest(family()), .destination = Peer(family())},
                                  UdpDatagram({.payload = Bytes(10, 5)}));
  Bytes out(2000);
  EXPECT_EQ(EmitIcmpError(kLink, {FaultKind::kNone, gateway()}, original, out), 0u);
  EXPECT_EQ(EmitIcmpError(kLink, {FaultKind::kNoSocket, gateway()}, original, out), 0u);
}

TEST_P(EmitFamilyTest, ErrorQuotesThePacket) {
  struct Case {
    FaultKind kind;
    int type4, code4;
    int type6, code6;
    uint32_t mtu = 0;
    uint32_t detail4 = 0, detail6 = 0;
  };
  const Bytes original = IpPacket({.source = Guest(family()), .destination = Peer(family())},
                                  TcpSegment({.flags = kTcpSyn}));
  for (const Case& c :
       {Case{FaultKind::kNetwork, 3, 0, 1, 0}, Case{FaultKind::kHost, 3, 1, 1, 3},
        Case{FaultKind::kPort, 3, 3, 1, 4}, Case{FaultKind::kProhibited, 3, 13, 1, 1},
        Case{FaultKind::kProtocol, 3, 2, 4, 1, 0, 0, 6}, Case{FaultKind::kHopLimit, 11, 0, 3, 0},
        Case{FaultKind::kTooBig, 3, 4, 2, 0, 1400, 1400, 1400},
        Case{FaultKind::kTooBig, 3, 4, 2, 0, 70'000, 65'535, 70'000}}) {
    const Bytes frame = Emitted([&](std::span<uint8_t> out) {
      return EmitIcmpError(kLink, {c.kind, gateway(), c.mtu}, original, out);
    });
    ExpectSound(frame, gateway(), Guest(family()), icmp());
    const auto error = std::span(frame).subspan(TransportAt(family()));
    EXPECT_EQ(error[0], v4() ? c.type4 : c.type6);
    EXPECT_EQ(error[1], v4() ? c.code4 : c.code6);
    EXPECT_EQ(Get32(error, 4), v4() ? c.detail4 : c.detail6);
    EXPECT_EQ(Part(error, 8, error.size() - 8), original);
  }
}

TEST_P(EmitFamilyTest, UnreachableQuotesNoMoreThanFits) {
  const Bytes original = IpPacket({.source = Guest(family()), .destination = Peer(family())},
                                  UdpDatagram({.payload = Bytes(1400, 5)}));
  Bytes out(2000);
  out.resize(EmitIcmpError(kLink, {FaultKind::kPort, gateway()}, original, out));
  EXPECT_EQ(out.size(), kIpAt + (v4() ? 576 : 1280));
  EXPECT_LE(out.size(), kEmittedFrameBytesMax);
  ExpectSound(out, gateway(), Guest(family()), icmp());
}

TEST_P(EmitFamilyTest, NoErrorAboutErrorsGroupsAndNobody) {
  Bytes out(2000);
  const auto emit = [&](const IpSpec& spec, const Transport& transport) {
    return EmitIcmpError(kLink, {FaultKind::kPort, gateway()}, IpPacket(spec, transport), out);
  };
  const IpSpec to_peer{.source = Guest(family()), .destination = Peer(family())};
  const Transport udp = UdpDatagram({});
  EXPECT_NE(emit(to_peer, udp), 0u);
  EXPECT_NE(emit(to_peer, EchoRequest(family(), {})), 0u);
  const Transport error = v4() ? Icmpv4Message({.type = 3}) : Icmpv6Message({.type = 1});
  EXPECT_EQ(emit(to_peer, error), 0u);
  EXPECT_EQ(
      emit({.source = Guest(family()), .destination = Address(v4() ? "224.0.0.1" : "ff02::1")},
           udp),
      0u);
  EXPECT_EQ(emit({.source = Address(v4() ? "0.0.0.0" : "::"), .destination = Peer(family())}, udp),
            0u);
}

TEST_P(EmitFamilyTest, NoErrorAboutWhatIsNotAPacket) {
  Bytes out(2000);
  const Bytes original =
      IpPacket({.source = Guest(family()), .destination = Peer(family())}, {17, {}});
  for (size_t length = 0; length < original.size(); ++length) {
    const auto cut = std::span(original).first(length);
    EXPECT_EQ(EmitIcmpError(kLink, {FaultKind::kPort, gateway()}, cut, out), 0u) << length;
  }
  const IpAddress other_family = v4() ? kGateway6 : kGateway4;
  EXPECT_EQ(EmitIcmpError(kLink, {FaultKind::kPort, other_family}, original, out), 0u);
}

TEST_P(EmitFamilyTest, LinkWithoutEthernetHasNoLinkHeader) {
  const LinkAddresses link{.ethernet = false};
  Bytes out(200);
  const size_t length = EmitTcpControl(
      link, {.source = {Peer(family()), 80}, .destination = {Guest(family()), 1}}, out);
  EXPECT_EQ(length, TransportAt(family()) - kIpAt + 20);
  EXPECT_EQ(out[0] >> 4, v4() ? 4 : 6);
  EXPECT_EQ(EmitEthernet(link, family(), out), 0u);
}

TEST_P(EmitFamilyTest, EthernetHeaderToTheGuest) {
  const Bytes header =
      Emitted([&](std::span<uint8_t> out) { return EmitEthernet(kLink, family(), out); });
  EXPECT_EQ(header, EthernetFrame({}, {.destination = kGuestMac,
                                       .source = kGatewayMac,
                                       .ether_type = v4() ? 0x0800 : 0x86dd}));
}

TEST_P(EmitFamilyTest, IpHeaderCarriesEveryField) {
  const IpHeaderFields fields{.source = Peer(family()),
                              .destination = Guest(family()),
                              .protocol = 17,
                              .hop_limit = 3,
                              .traffic_class = 0xb8,
                              .identification = 0x1234,
                              .dont_fragment = false,
                              .payload_bytes = 1000};
  const Bytes header = Emitted([&](std::span<uint8_t> out) { return EmitIpHeader(fields, out); });
  if (v4()) {
    EXPECT_EQ(Part(header, 0, 10), (Bytes{0x45, 0xb8, 0x03, 0xfc, 0x12, 0x34, 0, 0, 3, 17}));
    EXPECT_EQ(SlowSum(header), 0xffff);
  } else {
    EXPECT_EQ(Part(header, 0, 8), (Bytes{0x6b, 0x80, 0, 0, 0x03, 0xe8, 17, 3}));
  }
  EXPECT_EQ(header.size(), v4() ? 20u : 40u);
}

TEST_P(EmitFamilyTest, IpHeaderOfAFragment) {
  const IpHeaderFields fields{.source = Peer(family()),
                              .destination = Guest(family()),
                              .protocol = 17,
                              .identification = 0x89ab'1234,
                              .payload_bytes = 1000,
                              .fragment = FragmentPosition{.offset = 0x7d8, .more = true}};
  const Bytes header = Emitted([&](std::span<uint8_t> out) { return EmitIpHeader(fields, out); });
  if (v4()) {
    EXPECT_EQ(Part(header, 0, 10), (Bytes{0x45, 0, 0x03, 0xfc, 0x12, 0x34, 0x20, 0xfb, 64, 17}));
    EXPECT_EQ(SlowSum(header), 0xffff);
  } else {
    ASSERT_EQ(header.size(), 48u);
    EXPECT_EQ(Part(header, 0, 8), (Bytes{0x60, 0, 0, 0, 0x03, 0xf0, 44, 64}));
    EXPECT_EQ(Part(header, 40, 8), (Bytes{17, 0, 0x07, 0xd9, 0x89, 0xab, 0x12, 0x34}));
  }
}

TEST_P(EmitFamilyTest, IpHeaderRefusesWhatItsLengthFieldCannotSay) {
  Bytes out(40);
  IpHeaderFields fields{.source = Peer(family()), .destination = Guest(family())};
  fields.payload_bytes = v4() ? 65'515 : 65'535;
  EXPECT_NE(EmitIpHeader(fields, out), 0u);
  ++fields.payload_bytes;
  EXPECT_EQ(EmitIpHeader(fields, out), 0u);
  fields.payload_bytes = 0xffff'ffff;
  EXPECT_EQ(EmitIpHeader(fields, out), 0u);
}

TEST(EmitTest, NoErrorAboutLaterFragments) {
  Bytes out(2000);
  const Bytes first = IpPacket({.source = kGuest4, .destination = kPeer4, .fragment_field = 0x2000},
                               UdpDatagram({}));
  EXPECT_NE(EmitIcmpError(kLink, {FaultKind::kPort, kGateway4}, first, out), 0u);
  const Bytes later =
      IpPacket({.source = kGuest4, .destination = kPeer4, .fragment_field = 1}, UdpDatagram({}));
  EXPECT_EQ(EmitIcmpError(kLink, {FaultKind::kPort, kGateway4}, later, out), 0u);
}

TEST(EmitTest, NoErrorAboutAnErrorBehindExtensionHeaders) {
  Bytes out(2000);
  const IpSpec spec{.source = kGuest6, .destination = kPeer6, .extensions = {{60, {0}}}};
  const auto emit = [&](const Transport& transport) {
    return EmitIcmpError(kLink, {FaultKind::kPort, kGateway6}, IpPacket(spec, transport), out);
  };
  EXPECT_NE(emit(EchoRequest(Family::kIpv6, {})), 0u);
  EXPECT_EQ(emit(Icmpv6Message({.type = 1})), 0u);
}

TEST(EmitTest, ArpReply) {
  const Parsed request = ParseFrame(ArpFrame({}));
  ASSERT_TRUE(request.ok());
  const Bytes frame =
      Emitted([&](std::span<uint8_t> out) { return EmitArpReply(kLink, request.packet(), out); });
  Bytes expected{0, 1, 8, 0, 6, 4, 0, 2};
  expected = Concat(expected, kGatewayMac);
  expected = Concat(expected, kGateway4.wire());
  expected = Concat(expected, kGuestMac);
  expected = Concat(expected, kGuest4.wire());
  EXPECT_EQ(frame,
            EthernetFrame(expected,
                          {.destination = kGuestMac, .source = kGatewayMac, .ether_type = 0x0806}));
}

TEST(EmitTest, ArpReplyNeedsEthernet) {
  const Parsed request = ParseFrame(ArpFrame({}));
  Bytes out(200);
  EXPECT_EQ(EmitArpReply({.ethernet = false}, request.packet(), out), 0u);
}

TEST(EmitTest, ArpRequest) {
  const Bytes frame = Emitted([&](std::span<uint8_t> out) {
    return EmitArpRequest(kLink, {.gateway = kGateway4, .guest = kGuest4}, out);
  });
  Bytes expected{0, 1, 8, 0, 6, 4, 0, 1};
  expected = Concat(expected, kGatewayMac);
  expected = Concat(expected, kGateway4.wire());
  expected = Concat(expected, MacAddress{});
  expected = Concat(expected, kGuest4.wire());
  EXPECT_EQ(frame, EthernetFrame(expected, {.destination = kBroadcastMac,
                                            .source = kGatewayMac,
                                            .ether_type = uint16_t{0x0806}}));
}

TEST(EmitTest, NeighbourSolicitationAsksTheGroupOfTheAddress) {
  const IpAddress guest = Address("fd00::1:2:abcd:ef01");
  const Bytes frame =
      Emitted([&](std::span<uint8_t> out) { return EmitNeighbourSolicitation(kLink, guest, out); });
  // Modified EUI-64: ff:fe in the middle of the MAC, its second bit inverted.
  IpAddress link_local = Address("fe80::ff:fe00:0");
  link_local.bytes[8] = kGatewayMac[0] ^ 2;
  std::copy_n(kGatewayMac.begin() + 1, 2, link_local.bytes.begin() + 9);
  std::copy_n(kGatewayMac.begin() + 3, 3, link_local.bytes.begin() + 13);
  ExpectSound(frame, link_local, Address("ff02::1:ffcd:ef01"), 58,
              {0x33, 0x33, 0xff, 0xcd, 0xef, 0x01});
  EXPECT_EQ(frame[kIpAt + 7], 255) << "hop limit";
  const auto message = std::span(frame).subspan(kTransport6At);
  EXPECT_EQ(Part(message, 0, 2), (Bytes{135, 0}));
  EXPECT_EQ(Get32(message, 4), 0u);
  EXPECT_EQ(Part(message, 8, 16), Wire(guest));
  EXPECT_EQ(Part(message, 24, message.size() - 24), Concat({1, 1}, kGatewayMac));
}

TEST(EmitTest, QuestionsForLinkLayerAddressesNeedEthernet) {
  Bytes out(200);
  const LinkAddresses link{.ethernet = false};
  EXPECT_EQ(EmitArpRequest(link, {.gateway = kGateway4, .guest = kGuest4}, out), 0u);
  EXPECT_EQ(EmitNeighbourSolicitation(link, kGuest6, out), 0u);
}

Parsed SolicitationFrom(const char* source) {
  return ParseFrame(EthernetFrame(IpPacket(
      {.source = Address(source), .destination = Address("ff02::1:ff00:2"), .hop_limit = 255},
      Solicitation(kGateway6))));
}

TEST(EmitTest, NeighbourAdvertisementToWhoAsked) {
  const Parsed asked = SolicitationFrom("fd00::15");
  ASSERT_TRUE(asked.ok());
  const Bytes frame = Emitted([&](std::span<uint8_t> out) {
    return EmitNeighbourAdvertisement(kLink, asked.packet(), kGateway6, out);
  });
  ExpectSound(frame, kGateway6, kGuest6, 58);
  EXPECT_EQ(frame[kIpAt + 7], 255) << "hop limit";
  const auto message = std::span(frame).subspan(kTransport6At);
  EXPECT_EQ(Part(message, 0, 2), (Bytes{136, 0}));
  EXPECT_EQ(message[4], 0xe0) << "router, solicited, override";
  EXPECT_EQ(Part(message, 8, 16), Wire(kGateway6));
  EXPECT_EQ(Part(message, 24, message.size() - 24), Concat({2, 1}, kGatewayMac));
}

TEST(EmitTest, NeighbourAdvertisementAgainstAProbeGoesToAllNodes) {
  const Parsed probe = SolicitationFrom("::");
  ASSERT_TRUE(probe.ok());
  const Bytes frame = Emitted([&](std::span<uint8_t> out) {
    return EmitNeighbourAdvertisement(kLink, probe.packet(), kGateway6, out);
  });
  ExpectSound(frame, kGateway6, Address("ff02::1"), 58, {0x33, 0x33, 0, 0, 0, 1});
  EXPECT_EQ(frame[kTransport6At + 4], 0xa0) << "router, override, not solicited";
}

TEST(EmitTest, NeighbourAdvertisementWithoutEthernetHasNoMac) {
  const Parsed asked = SolicitationFrom("fd00::15");
  Bytes out(200);
  EXPECT_EQ(EmitNeighbourAdvertisement({.ethernet = false}, asked.packet(), kGateway6, out),
            40u + 24u);
}

}  // namespace
}  // namespace penstock
