// IP, TCP and UDP headers that lie about lengths, options that run away, chains of
// extension headers.
//
// Read first: RFC 1122 3.2.1, RFC 8200 4, RFC 9293 3.1, RFC 768.
#include "tests/stack/hostile/hostile_case.h"

namespace penstock::hostile {
namespace {

using enum DropCause;

// lwIP 3d896ba0 and bug 24596 (options read behind the header), CVE-2020-17437's and
// CVE-2021-31400's classes.
std::vector<Case> Tcp(Family family) {
  const auto frame = [&](const TcpSpec& spec) {
    return EthernetFrame(IpPacket(ToPeer(family), TcpSegment(spec)));
  };
  const auto option = [&](const char* name, const Bytes& options) {
    return One(name, family, frame({.flags = kTcpSyn, .options = options}), kTcpOption);
  };
  // Header of `words` times 4 bytes, whatever is there.
  const auto header = [&](uint8_t words, size_t payload) {
    Transport segment = TcpSegment({.flags = kTcpSyn, .payload = Bytes(payload)});
    Put8(segment.bytes, 12, static_cast<uint8_t>(words << 4));
    return EthernetFrame(IpPacket(ToPeer(family), segment));
  };
  const auto flags = [&](const char* name, int value) {
    return One(name, family, frame({.flags = static_cast<uint8_t>(value)}), kTcpFlags);
  };
  Transport stub = TcpSegment({});
  stub.bytes.resize(12);
  std::vector<Bytes> short_headers;
  for (uint8_t words = 0; words < 5; ++words) short_headers.push_back(header(words, 40));
  return {
      option("MssOfLengthZero", {2, 0, 5, 0xb4}),
      option("MssOfLengthOne", {2, 1, 5, 0xb4}),
      option("MssOfLengthThree", {2, 3, 5, 1}),
      option("MssBeyondTheHeader", {1, 1, 1, 2}),
      option("WindowScaleCut", {1, 1, 3, 3}),
      option("TimestampBeyondTheHeader", {1, 1, 8, 10, 0, 0, 0, 0}),
      option("SackBlockBeyondTheHeader", {5, 10, 0, 0, 0, 1, 0, 0}),
      option("UnknownOptionOfLengthZero", {254, 0, 0, 0}),
      option("UnknownOptionOf255Bytes", {254, 255, 0, 0}),
      {"TcpHeaderOfLessThanTwentyBytes", family, short_headers, {{kTcpHeaderLength, 5}}},
      One("TcpHeaderBeyondTheSegment", family, header(15, 20), kTcpHeaderLength),
      One("SegmentOfTwelveBytes", family, EthernetFrame(IpPacket(ToPeer(family), stub)),
          kTcpHeaderLength),
      flags("NoFlags", 0),
      flags("AllFlags", 0xff),
      flags("SynFin", kTcpSyn | kTcpFin),
      flags("SynRst", kTcpSyn | kTcpRst),
      flags("FinPshUrg", kTcpFin | kTcpPsh | kTcpUrg),
      One("PortZero", family, frame({.destination_port = 0, .flags = kTcpSyn}), kTcpPortZero),
      One("Land", family,
          EthernetFrame(IpPacket({.source = Guest(family), .destination = Guest(family)},
                                 TcpSegment({.flags = kTcpSyn}))),
          kMartianAddress),
      One("ToItsOwnLoopback", family,
          EthernetFrame(IpPacket(
              {.source = Guest(family), .destination = Address(IsV4(family) ? "127.0.0.1" : "::1")},
              TcpSegment({.flags = kTcpSyn}))),
          kMartianAddress),
  };
}

// CVE-2021-3592, 3593, 3594, 3595 (libslirp's bootp, udp6, udp and tftp): a datagram
// shorter than its header says.
std::vector<Case> Udp(Family family) {
  const auto length = [&](const char* name, uint16_t value, uint16_t port) {
    Transport datagram = UdpDatagram({.destination_port = port, .payload = Bytes(16)});
    Put16(datagram.bytes, 4, value);
    return One(name, family, EthernetFrame(IpPacket(ToGateway(family), datagram)), kUdpLength);
  };
  std::vector<Bytes> stubs;
  for (size_t bytes = 0; bytes < 8; ++bytes) {
    stubs.push_back(EthernetFrame(IpPacket(ToGateway(family), {17, Bytes(bytes)})));
  }
  return {
      length("UdpLengthZero", 0, 9),
      length("UdpLengthSeven", 7, 9),
      length("UdpLengthOneMore", 25, 9),
      length("UdpLengthMaximal", 0xffff, 9),
      length("DhcpLonger", 300, 67),
      length("TftpLonger", 600, 69),
      {"UdpHeadersCutAnywhere", family, stubs, {{kUdpLength, 8}}},
  };
}

std::vector<Case> Ipv4() {
  const Family v4 = Family::kIpv4;
  const Bytes good = EthernetFrame(IpPacket(ToGateway(v4), EchoRequest(v4, Bytes(64))));
  const auto with = [&](size_t at, uint8_t value) {
    Bytes frame = good;
    Put8(frame, kIpAt + at, value);
    if (at != 0) FixIpv4Checksum(frame);
    return frame;
  };
  const auto options = [&](const Bytes& bytes) {
    IpSpec ip = ToGateway(v4);
    ip.options = bytes;
    return EthernetFrame(IpPacket(ip, EchoRequest(v4, Bytes(8))));
  };
  const auto of_39_bytes = [](uint8_t kind) {
    Bytes option(39);
    option[0] = kind;
    option[1] = 39;
    option[2] = 4;
    return option;
  };
  std::vector<Bytes> header_lengths, cut;
  for (uint8_t words = 0; words < 5; ++words) {
    header_lengths.push_back(with(0, static_cast<uint8_t>(0x40 | words)));
  }
  for (size_t length = kIpAt; length < kIpAt + 20; ++length) {
    cut.emplace_back(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(length));
  }
  return {
      {"Ipv4HeaderOfLessThanTwentyBytes", v4, header_lengths, {{kIpv4HeaderLength, 5}}},
      {"Ipv4HeaderCutAnywhere", v4, cut, {{kFrameTooShort, cut.size()}}},
      One("Ipv4OfVersionZero", v4, with(0, 0x05), kIpv4Version),
      One("Ipv4LooseSourceRoute", v4, options({131, 7, 4, 127, 0, 0, 1}), kIpv4SourceRoute),
      One("Ipv4StrictSourceRoute", v4, options(of_39_bytes(137)), kIpv4SourceRoute),
      One("Ipv4OptionOfLengthZero", v4, options({7, 0, 4, 0}), kIpv4Option),
      One("Ipv4OptionOfLengthOne", v4, options({68, 1, 4, 0}), kIpv4Option),
      One("Ipv4OptionBeyondTheHeader", v4, options({7, 40, 4, 0}), kIpv4Option),
      {"Ipv4RecordRouteIsSkipped", v4, {options(of_39_bytes(7))}, {}, 1},
  };
}

std::vector<Case> Ipv6() {
  const Family v6 = Family::kIpv6;
  const auto frame = [](const std::vector<Extension>& extensions) {
    IpSpec ip = ToGateway(Family::kIpv6);
    ip.extensions = extensions;
    return EthernetFrame(IpPacket(ip, EchoRequest(Family::kIpv6, Bytes(8))));
  };
  const Extension options = PaddingOptions(0);
  const auto one = [&](const char* name, const std::vector<Extension>& extensions,
                       DropCause cause) { return One(name, v6, frame(extensions), cause); };
  // Length of the header in units of 8 bytes that are not there.
  const auto lying = [&](uint8_t protocol, uint8_t units) {
    return std::vector<Extension>{{protocol, {units, 1, 4}}};
  };
  return {
      one("Ipv6NineExtensions", std::vector(9, options), kIpv6TooManyExtensions),
      one("Ipv6ChainThatFillsTheFrame", std::vector(170, options), kIpv6TooManyExtensions),
      one("Ipv6HopByHopTwice", {{0, {0, 1, 4}}, {0, {0, 1, 4}}}, kIpv6ExtensionHeader),
      one("Ipv6HopByHopNotFirst", {options, {0, {0, 1, 4}}}, kIpv6ExtensionHeader),
      one("Ipv6ExtensionBeyondTheFrame", lying(60, 255), kIpv6ExtensionHeader),
      one("Ipv6RoutingBeyondTheFrame", lying(43, 200), kIpv6ExtensionHeader),
      one("Ipv6OptionBeyondItsHeader", {{60, {0, 1, 200}}}, kIpv6ExtensionHeader),
      one("Ipv6OptionWithoutLength", {{60, {0, 0, 0, 0, 0, 0, 1}}}, kIpv6ExtensionHeader),
      one("Ipv6OptionThatMustBeKnown", {{60, {0, 0x80, 4}}}, kIpv6ExtensionHeader),
      one("Ipv6RoutingTypeZero", {{43, {0, 0, 1}}}, kIpv6RoutingTypeZero),
      one("Ipv6RoutingWithSegmentsLeft", {{43, {0, 4, 1}}}, kIpv6ExtensionHeader),
      one("Ipv6Jumbogram", {{0, {0, 0xc2, 4, 0, 1, 0, 0}}}, kIpv6Jumbogram),
      One("Ipv6NoNextHeader", v6, EthernetFrame(IpPacket(ToGateway(v6), {59, Bytes(8)})),
          kUnknownProtocol),
      One("Ipv6Authentication", v6, EthernetFrame(IpPacket(ToGateway(v6), {51, Bytes(24)})),
          kUnknownProtocol),
      One("Ipv6InIpv6", v6, EthernetFrame(IpPacket(ToGateway(v6), {41, Bytes(40)})),
          kUnknownProtocol),
      {"Ipv6EightExtensionsAreWalked", v6, {frame(std::vector(8, options))}, {}, 1},
  };
}

std::vector<Case> AllHeaders() {
  std::vector<Case> all = Ipv4();
  for (const auto& cases : {Ipv6(), InBothFamilies(&Tcp), InBothFamilies(&Udp)}) {
    all.insert(all.end(), cases.begin(), cases.end());
  }
  return all;
}

PENSTOCK_HOSTILE(HostileHeaders, AllHeaders())

}  // namespace
}  // namespace penstock::hostile
