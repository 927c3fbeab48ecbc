// Every frame that Parse refuses, with the name under which it is counted. The
// last test holds the table against the list of causes: a cause that no case here
// shows is a cause that nobody tested.
#include <gtest/gtest.h>

#include <cctype>
#include <functional>
#include <set>
#include <string>

#include "tests/support/packet_builder.h"

namespace penstock {
namespace {

struct DropCase {
  std::string name;
  DropCause cause;
  Bytes frame;
  ParseOptions options = TestParseOptions();
  Offload offload{};
};

// `frame` changed by `spoil`.
Bytes With(Bytes frame, const std::function<void(Bytes&)>& spoil) {
  spoil(frame);
  return frame;
}

Bytes Cut(Bytes frame, size_t length) {
  frame.resize(length);
  return frame;
}

Bytes Frame4(const IpSpec& spec, const Transport& transport = TcpSegment({}),
             const EthernetSpec& ethernet = {}) {
  return EthernetFrame(IpPacket(spec, transport), ethernet);
}

Bytes To(const char* destination, const Transport& transport = TcpSegment({}),
         const EthernetSpec& ethernet = {}) {
  const IpAddress address = Address(destination);
  return EthernetFrame(
      IpPacket({.source = Guest(address.family), .destination = address}, transport), ethernet);
}

Bytes From(const char* source, const Transport& transport = TcpSegment({})) {
  const IpAddress address = Address(source);
  return EthernetFrame(
      IpPacket({.source = address, .destination = Peer(address.family)}, transport));
}

ParseOptions WithoutEthernet() {
  ParseOptions options = TestParseOptions();
  options.ethernet = false;
  return options;
}

// Before the guest's MAC address is known.
ParseOptions WithoutGuestMac() {
  ParseOptions options = TestParseOptions();
  options.guest_mac.reset();
  return options;
}

ParseOptions Without(Family family) {
  ParseOptions options = TestParseOptions();
  (family == Family::kIpv4 ? options.ipv4 : options.ipv6).enabled = false;
  return options;
}

std::vector<DropCase> LinkCases() {
  const Bytes good = TcpFrame(Family::kIpv4, {});
  const auto with_type = [&](uint16_t type) {
    return With(good, [type](Bytes& f) { Put16(f, 12, type); });
  };
  const auto from_mac = [](const MacAddress& mac) {
    return EthernetFrame(IpPacket({.source = kGuest4, .destination = kPeer4}, TcpSegment({})),
                         {.source = mac});
  };
  return {
      {"EmptyFrame", DropCause::kFrameTooShort, {}},
      {"HalfAnEthernetHeader", DropCause::kFrameTooShort, Cut(good, 13)},
      {"EthernetHeaderAlone", DropCause::kFrameTooShort, Cut(good, 14)},
      {"EmptyFrameWithoutEthernet", DropCause::kFrameTooShort, {}, WithoutEthernet()},
      {"VersionFiveWithoutEthernet", DropCause::kUnknownEtherType, {0x55}, WithoutEthernet()},
      {"Vlan", DropCause::kVlanTag, with_type(0x8100)},
      {"ProviderVlan", DropCause::kVlanTag, with_type(0x88a8)},
      {"OldProviderVlan", DropCause::kVlanTag, with_type(0x9100)},
      {"LengthInsteadOfType", DropCause::kUnknownEtherType, with_type(46)},
      {"Lldp", DropCause::kUnknownEtherType, with_type(0x88cc)},
      {"OtherUnicastMac", DropCause::kNotForGatewayMac,
       With(good, [](Bytes& f) { Put8(f, 5, 0x99); })},
      {"OtherSourceMac", DropCause::kFalseSourceMac, from_mac({2, 0, 0, 0, 0, 0x16})},
      {"GatewaysSourceMac", DropCause::kFalseSourceMac, from_mac(kGatewayMac), WithoutGuestMac()},
      {"MulticastSourceMac", DropCause::kFalseSourceMac, from_mac({3, 0, 0, 0, 0, 0x15}),
       WithoutGuestMac()},
      {"ZeroSourceMac", DropCause::kFalseSourceMac, from_mac({}), WithoutGuestMac()},
      {"TcpToBroadcastMac", DropCause::kBroadcast,
       To("192.0.2.80", TcpSegment({}), {.destination = kBroadcastMac})},
      {"TcpToMulticastMac", DropCause::kMulticast,
       To("192.0.2.80", TcpSegment({}), {.destination = {1, 0, 0x5e, 0, 0, 1}})},
      {"Ipv6ToBroadcastMac", DropCause::kBroadcast,
       To("2001:db8::80", TcpSegment({}), {.destination = kBroadcastMac})},
      {"Ipv6UnicastToMulticastMac", DropCause::kMulticast,
       To("2001:db8::80", TcpSegment({}), {.destination = {0x33, 0x33, 0, 0, 0, 1}})},
      {"Ipv4Off", DropCause::kFamilyOff, good, Without(Family::kIpv4)},
      {"ArpWithIpv4Off", DropCause::kFamilyOff, ArpFrame({}), Without(Family::kIpv4)},
      {"Ipv6Off", DropCause::kFamilyOff, TcpFrame(Family::kIpv6, {}), Without(Family::kIpv6)},
  };
}

std::vector<DropCase> ArpCases() {
  const auto spoiled = [](size_t at, uint8_t value) {
    return With(ArpFrame({}), [=](Bytes& f) { Put8(f, kIpAt + at, value); });
  };
  return {
      {"ArpCutShort", DropCause::kFrameTooShort, Cut(ArpFrame({}), 14 + 27)},
      {"ArpHardwareType", DropCause::kArpMalformed, spoiled(1, 6)},
      {"ArpProtocolType", DropCause::kArpMalformed, spoiled(2, 0x86)},
      {"ArpHardwareLength", DropCause::kArpMalformed, spoiled(4, 255)},
      {"ArpProtocolLength", DropCause::kArpMalformed, spoiled(5, 16)},
      {"ReverseArp", DropCause::kArpMalformed, ArpFrame({.operation = 3})},
      {"ArpForAnotherMac", DropCause::kFalseSourceMac,
       ArpFrame({.sender_mac = {2, 0, 0, 0, 0, 9}})},
      {"ArpForAnotherAddress", DropCause::kFalseSourceAddress,
       ArpFrame({.sender = Address("10.0.2.99")})},
      {"ArpForTheGateway", DropCause::kFalseSourceAddress,
       ArpFrame({.operation = 2, .sender = kGateway4})},
      {"ArpToMulticastMac", DropCause::kMulticast, ArpFrame({}, {1, 0, 0x5e, 0, 0, 1})},
      {"ArpOverMtu", DropCause::kFrameOverMtu, Concat(ArpFrame({}), Bytes(1500))},
      {"ArpWithSegmentation",
       DropCause::kOffloadMismatch,
       ArpFrame({}),
       TestParseOptions(),
       {.gso = Gso::kTcp4, .segment_bytes = 1}},
  };
}

std::vector<DropCase> Ipv4HeaderCases() {
  const Bytes good = TcpFrame(Family::kIpv4, {.payload = {1, 2, 3, 4}});
  // Changes the IPv4 header and makes its checksum right again where that can be.
  const auto header = [&](const std::function<void(Bytes&)>& spoil) {
    return With(good, [&](Bytes& f) {
      spoil(f);
      FixIpv4Checksum(f);
    });
  };
  const auto option = [](const Bytes& options) {
    return Frame4({.source = kGuest4, .destination = kPeer4, .options = options});
  };
  return {
      {"Ipv4HeaderCutShort", DropCause::kFrameTooShort, Cut(good, 14 + 19)},
      {"Ipv4VersionSix", DropCause::kIpv4Version, header([](Bytes& f) { Put8(f, 14, 0x65); })},
      {"Ipv4HeaderOfSixteenBytes", DropCause::kIpv4HeaderLength,
       With(good, [](Bytes& f) { Put8(f, 14, 0x44); })},
      {"Ipv4HeaderOfZeroBytes", DropCause::kIpv4HeaderLength,
       With(good, [](Bytes& f) { Put8(f, 14, 0x40); })},
      {"Ipv4HeaderBeyondTheFrame", DropCause::kIpv4HeaderLength,
       With(Cut(good, 14 + 24), [](Bytes& f) { Put8(f, 14, 0x4f); })},
      {"Ipv4TotalLengthZero", DropCause::kIpv4TotalLength,
       header([](Bytes& f) { Put16(f, 16, 0); })},
      {"Ipv4TotalLengthBelowHeader", DropCause::kIpv4TotalLength,
       header([](Bytes& f) { Put16(f, 16, 19); })},
      {"Ipv4TotalLengthBeyondTheFrame", DropCause::kIpv4TotalLength,
       header([](Bytes& f) { Put16(f, 16, 45); })},
      {"Ipv4TotalLengthMaximal", DropCause::kIpv4TotalLength,
       header([](Bytes& f) { Put16(f, 16, 0xffff); })},
      {"Ipv4ChecksumWrong", DropCause::kIpv4Checksum,
       With(good, [](Bytes& f) { Put8(f, kIpAt + 8, 63); })},
      {"Ipv4ChecksumWrongAlthoughVouchedFor",
       DropCause::kIpv4Checksum,
       With(good, [](Bytes& f) { Put8(f, kIpAt + 8, 63); }),
       TestParseOptions(),
       {.checksum = ChecksumState::kComplete}},
      {"LooseSourceRoute", DropCause::kIpv4SourceRoute, option({131, 7, 4, 192, 0, 2, 9})},
      {"StrictSourceRoute", DropCause::kIpv4SourceRoute, option({1, 137, 7, 4, 192, 0, 2, 9})},
      {"Ipv4OptionLengthZero", DropCause::kIpv4Option, option({7, 0, 0, 0})},
      {"Ipv4OptionLengthOne", DropCause::kIpv4Option, option({7, 1, 0, 0})},
      {"Ipv4OptionBeyondHeader", DropCause::kIpv4Option, option({7, 5, 4, 0})},
      {"Ipv4OptionWithoutLength", DropCause::kIpv4Option, option({1, 1, 1, 7})},
      {"Ipv4Gre", DropCause::kUnknownProtocol,
       Frame4({.source = kGuest4, .destination = kPeer4}, {47, Bytes(8)})},
      {"Ipv4Icmpv6", DropCause::kUnknownProtocol,
       Frame4({.source = kGuest4, .destination = kPeer4}, EchoRequest(Family::kIpv6, {}))},
  };
}

std::vector<DropCase> Ipv6HeaderCases() {
  const Bytes good = TcpFrame(Family::kIpv6, {.payload = {1, 2, 3, 4}});
  const auto spoiled = [&](const std::function<void(Bytes&)>& spoil) { return With(good, spoil); };
  const auto chain = [](const std::vector<Extension>& extensions,
                        const Transport& transport = TcpSegment({})) {
    return EthernetFrame(
        IpPacket({.source = kGuest6, .destination = kPeer6, .extensions = extensions}, transport));
  };
  const auto options = [&](const Bytes& body) { return chain({{60, body}}); };
  const Extension padding{60, {0}};
  return {
      {"Ipv6HeaderCutShort", DropCause::kFrameTooShort, Cut(good, 14 + 39)},
      {"Ipv6VersionFour", DropCause::kIpv6Version, spoiled([](Bytes& f) { Put8(f, 14, 0x40); })},
      {"Ipv6PayloadBeyondTheFrame", DropCause::kIpv6PayloadLength,
       spoiled([](Bytes& f) { Put16(f, 18, 25); })},
      {"Ipv6PayloadMaximal", DropCause::kIpv6PayloadLength,
       spoiled([](Bytes& f) { Put16(f, 18, 0xffff); })},
      {"Ipv6JumbogramByLengthZero", DropCause::kIpv6Jumbogram,
       With(chain({{0, {0, 0xc2, 4, 0, 1, 0, 0}}}), [](Bytes& f) { Put16(f, 18, 0); })},
      {"Ipv6JumbogramByOption", DropCause::kIpv6Jumbogram, chain({{0, {0, 0xc2, 4, 0, 1, 0, 0}}})},
      {"Ipv6RoutingTypeZero", DropCause::kIpv6RoutingTypeZero, chain({{43, {0, 0, 0}}})},
      {"Ipv6RoutingWithSegmentsLeft", DropCause::kIpv6ExtensionHeader, chain({{43, {0, 4, 1}}})},
      {"Ipv6ExtensionBeyondPacket", DropCause::kIpv6ExtensionHeader, options({255})},
      {"Ipv6ExtensionCutShort", DropCause::kIpv6ExtensionHeader, chain({}, {60, Bytes(7)})},
      {"Ipv6ExtensionMissing", DropCause::kIpv6ExtensionHeader, chain({}, {60, {}})},
      {"Ipv6HopByHopLater", DropCause::kIpv6ExtensionHeader, chain({padding, {0, {0}}})},
      {"Ipv6OptionBeyondHeader", DropCause::kIpv6ExtensionHeader, options({0, 1, 5, 0, 0, 0, 0})},
      {"Ipv6OptionWithoutLength", DropCause::kIpv6ExtensionHeader, options({0, 1, 3, 0, 0, 0, 9})},
      {"Ipv6OptionThatMustBeKnown", DropCause::kIpv6ExtensionHeader,
       options({0, 0x40, 4, 0, 0, 0, 0})},
      {"Ipv6HomeAddress", DropCause::kIpv6ExtensionHeader, options({0, 0xc9, 4, 0, 0, 0, 0})},
      {"Ipv6NineExtensions", DropCause::kIpv6TooManyExtensions,
       chain(std::vector<Extension>(9, padding))},
      {"Ipv6FragmentHeaderCutShort", DropCause::kIpv6ExtensionHeader, chain({}, {44, Bytes(7)})},
      {"Ipv6AtomicFragmentTwice", DropCause::kIpv6ExtensionHeader,
       chain({{44, Bytes(7)}, {44, Bytes(7)}})},
      {"Ipv6FragmentOfAnAtomicFragment", DropCause::kIpv6ExtensionHeader,
       chain({{44, Bytes(7)}, {44, {0, 0, 1, 0, 0, 0, 1}}})},
      {"Ipv6HopByHopInAnAtomicFragment", DropCause::kIpv6ExtensionHeader,
       chain({{44, Bytes(7)}, {0, {0}}})},
      {"Ipv6NoNextHeader", DropCause::kUnknownProtocol, chain({}, {59, {}})},
      {"Ipv6Esp", DropCause::kUnknownProtocol, chain({}, {50, Bytes(16)})},
      {"Ipv6Icmpv4", DropCause::kUnknownProtocol, chain({}, EchoRequest(Family::kIpv4, {}))},
  };
}

std::vector<DropCase> AddressCases() {
  std::vector<DropCase> cases;
  for (const char* address :
       {"127.0.0.1", "127.255.255.255", "0.0.0.0", "0.1.2.3", "240.0.0.1", "255.255.255.254",
        "169.254.169.253", "10.0.2.15", "::", "::1", "::ffff:127.0.0.1", "::ffff:192.0.2.80",
        "::7f00:1", "::192.0.2.80", "fe80::1", "febf::1", "fd00::15"}) {
    cases.push_back({"To_" + std::string(address), DropCause::kMartianAddress, To(address)});
  }
  for (const char* address :
       {"127.0.0.1", "0.0.0.0", "0.1.2.3", "240.0.0.1", "255.255.255.255", "224.0.0.1",
        "169.254.1.1", "::", "::1", "::ffff:10.0.2.15", "::10.0.2.15", "ff02::1"}) {
    cases.push_back({"From_" + std::string(address), DropCause::kMartianAddress, From(address)});
  }
  for (const char* address :
       {"10.0.2.2", "10.0.2.3", "10.0.2.16", "192.0.2.80", "fd00::2", "fd00::3", "fd00:0:0:1::15",
        "2001:db8::80", "fe80::5055:aff:fe00:202"}) {
    cases.push_back(
        {"From_" + std::string(address), DropCause::kFalseSourceAddress,
         EthernetFrame(IpPacket({.source = Address(address),
                                 .destination = Address(address).is_v4() ? Address("192.0.2.81")
                                                                         : Address("2001:db8::81")},
                                TcpSegment({})))});
  }
  const Transport mdns = UdpDatagram({.source_port = 5353, .destination_port = 5353});
  const Transport dhcp = UdpDatagram({.source_port = 68, .destination_port = 67});
  cases.push_back({"Multicast4", DropCause::kMulticast, To("224.0.0.251", mdns)});
  cases.push_back({"Igmp", DropCause::kMulticast, To("224.0.0.22", {2, Bytes(8)})});
  cases.push_back({"Multicast6", DropCause::kMulticast, To("ff02::fb", mdns)});
  cases.push_back(
      {"EchoToAllNodes", DropCause::kMulticast, To("ff02::1", EchoRequest(Family::kIpv6, {}))});
  cases.push_back(
      {"SolicitationToAllNodes", DropCause::kMulticast, To("ff02::1", Solicitation(kGateway6))});
  cases.push_back({"AdvertisementToAllRouters", DropCause::kMulticast,
                   To("ff02::2", Solicitation(kGateway6, {}, 136))});
  cases.push_back({"RouterSolicitationToAllNodes", DropCause::kMulticast,
                   To("ff02::1", Icmpv6Message({.type = 133}))});
  cases.push_back({"LimitedBroadcast", DropCause::kBroadcast, To("255.255.255.255", mdns)});
  cases.push_back({"SubnetBroadcast", DropCause::kBroadcast, To("10.0.2.255", mdns)});
  cases.push_back({"DhcpToSubnetBroadcast", DropCause::kBroadcast, To("10.0.2.255", dhcp)});
  cases.push_back(
      {"UnspecifiedSourceToUnicast", DropCause::kMartianAddress, From("0.0.0.0", dhcp)});
  cases.push_back(
      {"DhcpFromAnotherAddress", DropCause::kFalseSourceAddress,
       EthernetFrame(IpPacket(
           {.source = Address("10.0.2.99"), .destination = Address("255.255.255.255")}, dhcp))});
  return cases;
}

Bytes Named(Family family, const Transport& transport) {
  return EthernetFrame(IpPacket({.source = Guest(family), .destination = Peer(family)}, transport));
}

std::vector<DropCase> TcpCases(Family family) {
  const auto segment = [&](const TcpSpec& spec) { return TcpFrame(family, spec); };
  const auto flags = [&](int value) { return segment({.flags = static_cast<uint8_t>(value)}); };
  const auto options = [&](const Bytes& bytes, uint8_t f = kTcpSyn) {
    return segment({.flags = f, .options = bytes});
  };
  const auto data_offset = [&](uint8_t value) {
    Transport transport = TcpSegment({.payload = {1, 2, 3, 4}});
    Put8(transport.bytes, 12, value);
    return Named(family, transport);
  };
  const Bytes flipped =
      With(segment({.payload = {1, 2, 3, 4}}), [](Bytes& f) { Put8(f, f.size() - 1, 5); });
  return {
      {"TcpMissing", DropCause::kTcpHeaderLength, Named(family, {6, {}})},
      {"TcpCutShort", DropCause::kTcpHeaderLength, Named(family, {6, Bytes(19)})},
      {"TcpOffsetZero", DropCause::kTcpHeaderLength, data_offset(0x00)},
      {"TcpOffsetFour", DropCause::kTcpHeaderLength, data_offset(0x40)},
      {"TcpOffsetBeyondSegment", DropCause::kTcpHeaderLength, data_offset(0x70)},
      {"TcpOffsetMaximal", DropCause::kTcpHeaderLength, data_offset(0xf0)},
      {"TcpSourcePortZero", DropCause::kTcpPortZero, segment({.source_port = 0})},
      {"TcpDestinationPortZero", DropCause::kTcpPortZero, segment({.destination_port = 0})},
      {"TcpNoFlags", DropCause::kTcpFlags, flags(0)},
      {"TcpFinAlone", DropCause::kTcpFlags, flags(kTcpFin)},
      {"TcpChristmasTree", DropCause::kTcpFlags, flags(kTcpFin | kTcpPsh | kTcpUrg)},
      {"TcpSynFin", DropCause::kTcpFlags, flags(kTcpSyn | kTcpFin)},
      {"TcpSynRst", DropCause::kTcpFlags, flags(kTcpSyn | kTcpRst)},
      {"TcpAllFlags", DropCause::kTcpFlags, flags(0xff)},
      {"TcpChecksumWrong", DropCause::kTcpChecksum, flipped},
      {"TcpOptionLengthZero", DropCause::kTcpOption, options({2, 0, 5, 0xb4})},
      {"TcpOptionLengthOne", DropCause::kTcpOption, options({2, 1, 5, 0xb4})},
      {"TcpOptionBeyondHeader", DropCause::kTcpOption, options({1, 1, 2, 4})},
      {"TcpOptionWithoutLength", DropCause::kTcpOption, options({1, 1, 1, 2})},
      {"TcpOptionMaximal", DropCause::kTcpOption, options({8, 255, 0, 0})},
      {"TcpUnknownOptionBeyondHeader", DropCause::kTcpOption, options({254, 5, 0, 0})},
      {"TcpMssOfThree", DropCause::kTcpOption, options({2, 3, 5, 0})},
      {"TcpMssOfSix", DropCause::kTcpOption, options({2, 6, 5, 0xb4, 0, 0})},
      {"TcpMssTwice", DropCause::kTcpOption, options({2, 4, 5, 0xb4, 2, 4, 5, 0xb4})},
      {"TcpScaleOfTwo", DropCause::kTcpOption, options({3, 2, 1, 1})},
      {"TcpScaleTwice", DropCause::kTcpOption, options({3, 3, 1, 3, 3, 1})},
      {"TcpSackPermittedOfFour", DropCause::kTcpOption, options({4, 4, 0, 0})},
      {"TcpTimestampsOfTwo", DropCause::kTcpOption, options({8, 2, 1, 1}, kTcpAck)},
      {"TcpMssOfThreeWithoutSyn", DropCause::kTcpOption, options({2, 3, 5, 0}, kTcpAck)},
      {"TcpOverMtu", DropCause::kFrameOverMtu, segment({.payload = Bytes(1500)})},
  };
}

std::vector<DropCase> OffloadCases(Family family) {
  const bool v4 = family == Family::kIpv4;
  const Bytes tcp = TcpFrame(family, {});
  const Bytes udp = UdpFrame(family, {});
  const Bytes echo = Named(family, EchoRequest(family, {}));
  const auto start = static_cast<uint16_t>(TransportAt(family));
  const auto partial = [](uint16_t at, uint16_t field) {
    return Offload{
        .checksum = ChecksumState::kPartial, .checksum_start = at, .checksum_offset = field};
  };
  const auto gso = [](Gso kind, uint16_t segment_bytes = 1000) {
    return Offload{.gso = kind, .segment_bytes = segment_bytes};
  };
  const auto mismatch = [](const char* name, const Bytes& frame, const Offload& offload) {
    return DropCase{name, DropCause::kOffloadMismatch, frame, TestParseOptions(), offload};
  };
  const auto before = static_cast<uint16_t>(start - 1);
  return {
      mismatch("PartialStartZero", tcp, partial(0, 16)),
      mismatch("PartialStartBefore", tcp, partial(before, 16)),
      mismatch("PartialStartBeyondTheFrame", tcp, partial(0xffff, 16)),
      mismatch("PartialFieldOfUdpInTcp", tcp, partial(start, 6)),
      mismatch("PartialFieldOfTcpInUdp", udp, partial(start, 16)),
      mismatch("PartialFieldBeyondTheFrame", tcp, partial(start, 0xffff)),
      mismatch("PartialEcho", echo, partial(start, 2)),
      mismatch("GsoOfTheOtherFamily", tcp, gso(v4 ? Gso::kTcp6 : Gso::kTcp4)),
      mismatch("GsoOfUdpOnTcp", tcp, gso(Gso::kUdp)),
      mismatch("GsoOfTcpOnUdp", udp, gso(v4 ? Gso::kTcp4 : Gso::kTcp6)),
      mismatch("GsoOnEcho", echo, gso(v4 ? Gso::kTcp4 : Gso::kTcp6)),
      mismatch("GsoOfUdpBeyondTheMtu", udp, gso(Gso::kUdp, 1'480)),
      mismatch("GsoOfTooManyDatagrams", UdpFrame(family, {.payload = Bytes(129)}),
               gso(Gso::kUdp, 1)),
      mismatch("GsoWithoutSegmentSize", tcp, gso(v4 ? Gso::kTcp4 : Gso::kTcp6, 0)),
  };
}

std::vector<DropCase> UdpCases(Family family) {
  const auto with_length = [&](uint16_t length) {
    Transport datagram = UdpDatagram({.payload = {1, 2, 3, 4}});
    Put16(datagram.bytes, 4, length);
    return Named(family, datagram);
  };
  return {
      {"UdpMissing", DropCause::kUdpLength, Named(family, {17, {}})},
      {"UdpCutShort", DropCause::kUdpLength, Named(family, {17, Bytes(7)})},
      {"UdpLengthZero", DropCause::kUdpLength, with_length(0)},
      {"UdpLengthSeven", DropCause::kUdpLength, with_length(7)},
      {"UdpLengthBeyondPacket", DropCause::kUdpLength, with_length(13)},
      {"UdpLengthMaximal", DropCause::kUdpLength, with_length(0xffff)},
      {"UdpChecksumWrong", DropCause::kUdpChecksum,
       With(UdpFrame(family, {.payload = {1, 2}}), [](Bytes& f) { Put8(f, f.size() - 1, 5); })},
      {"UdpOverMtu", DropCause::kFrameOverMtu, UdpFrame(family, {.payload = Bytes(1500)})},
  };
}

std::vector<DropCase> IcmpCases() {
  const auto discovery = [](const Transport& message, uint8_t hop_limit = 255,
                            const char* source = "fd00::15", const char* target = "fd00::2") {
    return EthernetFrame(IpPacket(
        {.source = Address(source), .destination = Address(target), .hop_limit = hop_limit},
        message));
  };
  const auto malformed = [](const char* name, const Bytes& frame) {
    return DropCase{name, DropCause::kNdpMalformed, frame};
  };
  Transport code_one = Solicitation(kGateway6);
  Put8(code_one.bytes, 1, 1);
  const Bytes own_mac{1, 1, 2, 0, 0, 0, 0, 0x15};
  return {
      {"Icmpv4CutShort", DropCause::kIcmpMalformed, Named(Family::kIpv4, {1, Bytes(7)})},
      {"Icmpv4Missing", DropCause::kIcmpMalformed, Named(Family::kIpv4, {1, {}})},
      {"Icmpv6CutShort", DropCause::kIcmpMalformed, Named(Family::kIpv6, {58, Bytes(7)})},
      {"Icmpv4Checksum", DropCause::kIcmpChecksum,
       With(Named(Family::kIpv4, EchoRequest(Family::kIpv4, {1})),
            [](Bytes& f) { Put8(f, kTransport4At + 8, 2); })},
      {"Icmpv6Checksum", DropCause::kIcmpChecksum,
       With(Named(Family::kIpv6, EchoRequest(Family::kIpv6, {1})),
            [](Bytes& f) { Put8(f, kTransport6At + 8, 2); })},
      {"EchoOverMtu", DropCause::kFrameOverMtu,
       Named(Family::kIpv4, EchoRequest(Family::kIpv4, Bytes(1500)))},
      malformed("NdpFromBeyondTheLink", discovery(Solicitation(kGateway6), 254)),
      malformed("NdpCode", discovery(code_one)),
      malformed("SolicitationCutShort", discovery(Icmpv6Message({.type = 135, .body = Bytes(15)}))),
      malformed("AdvertisementCutShort",
                discovery(Icmpv6Message({.type = 136, .body = Bytes(15)}))),
      malformed("RouterAdvertisementCutShort",
                discovery(Icmpv6Message({.type = 134, .body = Bytes(7)}))),
      malformed("RedirectCutShort", discovery(Icmpv6Message({.type = 137, .body = Bytes(31)}))),
      malformed("NdpOptionLengthZero",
                discovery(Solicitation(kGateway6, {1, 0, 0, 0, 0, 0, 0, 0}))),
      malformed("NdpOptionBeyondMessage",
                discovery(Solicitation(kGateway6, {1, 2, 0, 0, 0, 0, 0, 0}))),
      malformed("NdpOptionCutShort", discovery(Solicitation(kGateway6, {1}))),
      malformed("SolicitationOfMulticast", discovery(Solicitation(Address("ff02::1")))),
      malformed("ProbeWithLinkLayerAddress",
                discovery(Solicitation(kGateway6, own_mac), 255, "::", "ff02::1:ff00:2")),
      malformed("ProbeToUnicast", discovery(Solicitation(kGateway6), 255, "::", "fd00::2")),
  };
}

// What a fragment is refused for by itself, before it is stored.
std::vector<DropCase> FragmentCases(Family family) {
  const bool v4 = family == Family::kIpv4;
  const IpSpec good{.source = Guest(family), .destination = Peer(family)};
  const FragmentSpec part{.offset = 8, .more = true, .data = Bytes(64)};
  const auto fragment = [](const IpSpec& ip, const FragmentSpec& spec) {
    return EthernetFrame(FragmentPacket(ip, spec));
  };
  const auto between = [&](const char* source, const char* destination) {
    return fragment({.source = Address(source), .destination = Address(destination)}, part);
  };
  const auto start = static_cast<uint16_t>(TransportAt(family));
  const Offload partial{
      .checksum = ChecksumState::kPartial, .checksum_start = start, .checksum_offset = 6};
  const Offload segmented{.gso = v4 ? Gso::kTcp4 : Gso::kTcp6, .segment_bytes = 1000};
  FragmentSpec tcp = part;
  tcp.protocol = 6;
  FragmentSpec large = part;
  large.data = Bytes(1488);
  ParseOptions unsegmented = TestParseOptions();
  unsegmented.unsegmented_tcp_to_host = true;
  FragmentSpec large_tcp = large;
  large_tcp.protocol = 6;
  return {
      {"FragmentFromAnother", DropCause::kFalseSourceAddress,
       v4 ? between("10.0.2.99", "192.0.2.80") : between("2001:db8::9", "2001:db8::80")},
      {"FragmentFromNobody", DropCause::kMartianAddress,
       v4 ? between("0.0.0.0", "192.0.2.80") : between("::", "2001:db8::80")},
      {"FragmentToLoopback", DropCause::kMartianAddress,
       v4 ? between("10.0.2.15", "127.0.0.1") : between("fd00::15", "::1")},
      {"FragmentToAGroup", DropCause::kMulticast,
       v4 ? between("10.0.2.15", "224.0.0.251") : between("fd00::15", "ff02::16")},
      {"FragmentToBroadcastMac", DropCause::kBroadcast,
       EthernetFrame(FragmentPacket(good, part), {.destination = kBroadcastMac})},
      {"FragmentOverMtu", DropCause::kFrameOverMtu, fragment(good, large)},
      {"FragmentOfTcpOverMtu", DropCause::kFrameOverMtu, fragment(good, large_tcp), unsegmented},
      {"FragmentPartial", DropCause::kOffloadMismatch, fragment(good, part), TestParseOptions(),
       partial},
      {"FragmentSegmented", DropCause::kOffloadMismatch, fragment(good, tcp), TestParseOptions(),
       segmented},
  };
}

std::vector<DropCase> Ipv6FragmentCases() {
  const auto fragment = [](const std::vector<Extension>& extensions, uint8_t protocol) {
    return EthernetFrame(
        FragmentPacket({.source = kGuest6, .destination = kPeer6, .extensions = extensions},
                       {.offset = 8, .data = Bytes(64), .protocol = protocol}));
  };
  const Extension padding{60, {0}};
  return {
      {"FragmentBehindManyExtensions", DropCause::kIpv6TooManyExtensions,
       fragment({padding, padding, padding, padding}, 17)},
      {"FragmentOfAFragment", DropCause::kIpv6ExtensionHeader, fragment({}, 44)},
      {"FragmentOfHopByHop", DropCause::kIpv6ExtensionHeader, fragment({}, 0)},
      {"FragmentBehindAnAtomicOne", DropCause::kIpv6ExtensionHeader,
       fragment({{44, Bytes(7)}}, 17)},
      {"AtomicSolicitation", DropCause::kNdpMalformed,
       EthernetFrame(IpPacket({.source = kGuest6,
                               .destination = kGateway6,
                               .hop_limit = 255,
                               .extensions = {{44, Bytes(7)}}},
                              Solicitation(kGateway6)))},
  };
}

std::vector<DropCase> Labelled(std::vector<DropCase> cases, const std::string& label) {
  for (DropCase& c : cases) c.name = label + c.name;
  return cases;
}

std::vector<DropCase> AllCases() {
  std::vector<DropCase> all;
  const auto add = [&](const std::vector<DropCase>& cases) {
    all.insert(all.end(), cases.begin(), cases.end());
  };
  add(LinkCases());
  add(ArpCases());
  add(Ipv4HeaderCases());
  add(Ipv6HeaderCases());
  add(AddressCases());
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    const std::string label = family == Family::kIpv4 ? "Ipv4" : "Ipv6";
    add(Labelled(TcpCases(family), label));
    add(Labelled(UdpCases(family), label));
    add(Labelled(OffloadCases(family), label));
    add(Labelled(FragmentCases(family), label));
  }
  add(Ipv6FragmentCases());
  add(IcmpCases());
  all.push_back(
      {"Ipv6UdpWithoutChecksum", DropCause::kUdpChecksum,
       With(UdpFrame(Family::kIpv6, {}), [](Bytes& f) { Put16(f, kTransport6At + 6, 0); })});
  return all;
}

class ParseDropTest : public testing::TestWithParam<DropCase> {};

INSTANTIATE_TEST_SUITE_P(Frames, ParseDropTest, testing::ValuesIn(AllCases()), [](const auto& c) {
  std::string name = c.param.name;
  for (char& letter : name) {
    if (std::isalnum(static_cast<unsigned char>(letter)) == 0) letter = '_';
  }
  return name;
});

TEST_P(ParseDropTest, IsDroppedByName) {
  const DropCase& c = GetParam();
  EXPECT_EQ(ParseFrame(c.frame, c.options, c.offload).outcome(), Name(c.cause));
}

TEST(ParseDropsTest, Ipv4UdpWithoutChecksumIsNoError) {
  const Bytes frame = With(UdpFrame(Family::kIpv4, {.payload = {1}}),
                           [](Bytes& f) { Put16(f, kTransport4At + 6, 0); });
  EXPECT_EQ(ParseFrame(frame).outcome(), "parsed");
}

// A good frame cut at any length is refused, never read beyond.
TEST(ParseDropsTest, EveryTruncationIsDropped) {
  const Bytes frames[] = {
      TcpFrame(Family::kIpv4, {.flags = kTcpSyn, .options = {2, 4, 5, 0xb4}, .payload = {1}}),
      TcpFrame(Family::kIpv6, {.flags = kTcpSyn, .options = {2, 4, 5, 0xb4}, .payload = {1}}),
      UdpFrame(Family::kIpv4, {.payload = {1}}),
      UdpFrame(Family::kIpv6, {.payload = {1}}),
      ArpFrame({}),
      Named(Family::kIpv6, EchoRequest(Family::kIpv6, {1})),
  };
  for (const Bytes& frame : frames) {
    ASSERT_EQ(ParseFrame(frame).outcome(), "parsed");
    for (size_t length = 0; length < frame.size(); ++length) {
      EXPECT_NE(ParseFrame(Cut(frame, length)).outcome(), "parsed") << length;
    }
  }
}

TEST(ParseDropsTest, EveryCauseOfParseHasACase) {
  std::set<DropCause> shown;
  for (const DropCase& c : AllCases()) shown.insert(c.cause);
  // Parse names what is wrong with a frame; what is right, but of no use, the
  // services behind it name.
  const std::set<DropCause> services{
      DropCause::kArpIgnored,      DropCause::kUdpRefused,    DropCause::kUdpQueueFull,
      DropCause::kUdpMappingLimit, DropCause::kEchoQueueFull, DropCause::kEchoLimit,
      DropCause::kHopLimit,        DropCause::kIcmpIgnored,   DropCause::kNdpIgnored};
  for (int i = 0; i <= static_cast<int>(DropCause::kNdpMalformed); ++i) {
    const auto cause = static_cast<DropCause>(i);
    EXPECT_NE(shown.contains(cause), services.contains(cause)) << Name(cause);
  }
}

}  // namespace
}  // namespace penstock
