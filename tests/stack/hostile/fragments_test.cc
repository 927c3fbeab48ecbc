// Fragments that broke reassembly elsewhere: they overlap, lie about their end, come too
// many, too small or too far away.
//
// Read first: RFC 815, RFC 1858, RFC 3128, RFC 5722, RFC 6946, RFC 6980, RFC 7112.
#include "tests/stack/hostile/hostile_case.h"

namespace penstock::hostile {
namespace {

using enum DropCause;

struct Part {
  uint32_t offset = 0;
  bool more = false;
  size_t bytes = 8;
  uint8_t fill = 0x41;
  uint32_t identification = 0x1234;
  uint8_t protocol = 17;
};

Bytes FrameOf(Family family, const Part& part) {
  return EthernetFrame(FragmentPacket(ToGateway(family), {.offset = part.offset,
                                                          .more = part.more,
                                                          .data = Bytes(part.bytes, part.fill),
                                                          .protocol = part.protocol,
                                                          .identification = part.identification}));
}

std::vector<Bytes> FramesOf(Family family, const std::vector<Part>& parts) {
  std::vector<Bytes> frames;
  for (const Part& part : parts) frames.push_back(FrameOf(family, part));
  return frames;
}

// An echo request in fragments of 8 bytes behind `data` of them.
std::vector<Bytes> EchoInFragments(Family family, size_t data, size_t fragment_bytes) {
  std::vector<Bytes> frames;
  for (const Bytes& packet :
       FragmentPackets(ToGateway(family), EchoRequest(family, Bytes(data, 0x55)), fragment_bytes)) {
    frames.push_back(EthernetFrame(packet));
  }
  return frames;
}

// Behind the largest datagram of the family.
std::vector<Case> Oversized(Family family) {
  const auto of = [&](const std::vector<Part>& parts) { return FramesOf(family, parts); };
  std::vector<Part> growing;
  for (uint32_t offset = 0; offset + 1'400 < 65'528; offset += 1'400) {
    growing.push_back({.offset = offset, .more = true, .bytes = 1'400});
  }
  growing.push_back({.offset = 64'400, .bytes = 1'400});
  return {
      // CVE-1999-0128: ping of death.
      {"PingOfDeath",
       family,
       of({{.offset = 65'528, .bytes = 1'000, .protocol = IcmpNumber(family)}}),
       {{kFragmentOversized, 1}}},
      // CVE-2018-11806: m_cat writes behind its buffer as the datagram grows.
      {"GrowsBeyondTheLargestDatagram",
       family,
       of(growing),
       {{kFragmentOversized, growing.size()}}},
      // jolt2, CVE-2000-0305: the same impossible last fragment, again and again.
      {"Jolt2",
       family,
       of(std::vector<Part>(50, {.offset = 65'528, .bytes = 9})),
       {{kFragmentOversized, 50}}},
      {"MoreToComeBehindTheLargest",
       family,
       of({{.offset = 65'528, .more = true, .bytes = 8}, {.more = true, .bytes = 8}}),
       {{kFragmentOversized, 2}}},
  };
}

// CVE-2019-14378, CVE-2019-15890, CVE-2020-1983 (libslirp's ip_reass); RFC 5722.
std::vector<Case> Overlaps(Family family) {
  const auto overlap = [&](const char* name, const std::vector<Part>& parts) {
    return Case{name, family, FramesOf(family, parts), {{kFragmentOverlap, parts.size()}}};
  };
  return {
      overlap("Teardrop", {{.more = true, .bytes = 48}, {.offset = 24, .bytes = 8}}),
      overlap("TeardropTheOtherWay", {{.offset = 24, .bytes = 8}, {.more = true, .bytes = 48}}),
      overlap("SecondBeginsInTheFirst",
              {{.more = true, .bytes = 32}, {.offset = 24, .more = true, .bytes = 32}}),
      overlap("FirstEndsInTheSecond",
              {{.offset = 24, .more = true, .bytes = 32}, {.more = true, .bytes = 32}}),
      overlap("CoversThree", {{.offset = 8, .more = true},
                              {.offset = 24, .more = true},
                              {.offset = 40, .more = true},
                              {.more = true, .bytes = 64}}),
      overlap("SamePlaceOtherBytes",
              {{.more = true, .fill = 0x41}, {.more = true, .fill = 0x42}, {.offset = 8}}),
      overlap("SamePlaceOtherLength", {{.more = true, .bytes = 8}, {.more = true, .bytes = 16}}),
      overlap("NewDatagramUnderARefusedOnesNumber", {{.more = true, .bytes = 32},
                                                     {.offset = 24, .more = true, .bytes = 32},
                                                     {.more = true, .bytes = 64},
                                                     {.offset = 64, .bytes = 8}}),
  };
}

// Ends, lengths and places that cannot be.
std::vector<Case> Malformed(Family family) {
  const auto malformed = [&](const char* name, const std::vector<Part>& parts) {
    return Case{name, family, FramesOf(family, parts), {{kFragmentMalformed, parts.size()}}};
  };
  return {
      malformed("EmptyFirst", {{.more = true, .bytes = 0}}),
      malformed("EmptyLast", {{.offset = 64, .bytes = 0}}),
      malformed("EmptyInTheMiddle",
                {{.more = true, .bytes = 16}, {.offset = 16, .more = true, .bytes = 0}}),
      malformed("NoMultipleOfEight", {{.more = true, .bytes = 13}}),
      malformed("OneByteMoreToCome", {{.offset = 8, .more = true, .bytes = 1}}),
      malformed("TwoEnds", {{.offset = 16, .bytes = 8}, {.offset = 32, .bytes = 8}}),
      malformed("EndBeforeWhatIsThere",
                {{.offset = 64, .more = true, .bytes = 8}, {.offset = 16, .bytes = 8}}),
      malformed("BehindTheEnd",
                {{.offset = 16, .bytes = 8}, {.offset = 64, .more = true, .bytes = 8}}),
  };
}

std::vector<Case> Floods(Family family) {
  std::vector<Part> rose, tiny, never_ending;
  for (uint32_t i = 0; i < 100; ++i) {
    rose.push_back({.more = true, .bytes = 32, .identification = i});
    rose.push_back({.offset = 64'800, .bytes = 8, .identification = i});
  }
  for (uint32_t i = 0; i < 129; ++i) tiny.push_back({.offset = 16 * i, .more = true, .bytes = 8});
  for (uint32_t i = 0; i < 1'000; ++i) {
    never_ending.push_back({.offset = 8, .more = true, .identification = i});
  }
  std::vector<Bytes> doubled = EchoInFragments(family, 64, 16);
  const auto first = doubled[0];
  doubled.insert(doubled.begin(), 3, first);
  return {
      // rose: a first and a far last part of many datagrams, none of which is ever whole.
      {"Rose", family, FramesOf(family, rose), {{kFragmentLimit, 72}, {kFragmentTimeout, 128}}},
      // CVE-2018-5390, CVE-2018-5391 (FragmentSmack): long lists of small parts.
      {"TinyPartsWithHoles", family, FramesOf(family, tiny), {{kFragmentLimit, 129}}},
      {"NeverABeginning",
       family,
       FramesOf(family, never_ending),
       {{kFragmentLimit, 936}, {kFragmentTimeout, 64}}},
      {"DuplicatesAreHarmless", family, doubled, {{kFragmentDuplicate, 3}}, 1, Bytes(64, 0x55)},
  };
}

// The datagram is whole, and what it holds is wrong.
std::vector<Case> Insides(Family family) {
  const auto cut = [&](const Transport& transport, size_t bytes) {
    std::vector<Bytes> frames;
    for (const Bytes& packet : FragmentPackets(ToGateway(family), transport, bytes)) {
      frames.push_back(EthernetFrame(packet));
    }
    return frames;
  };
  Transport udp = UdpDatagram({.payload = Bytes(64)});
  Put16(udp.bytes, 4, 2'000);
  Transport tcp = TcpSegment({.payload = Bytes(64)});
  Put8(tcp.bytes, 12, 0xf0);
  Transport short_tcp = TcpSegment({.payload = Bytes(64)});
  Put8(short_tcp.bytes, 12, 0x40);
  Transport sum = EchoRequest(family, Bytes(64));
  std::vector<Bytes> wrong_sum = cut(sum, 40);
  wrong_sum.back().back() ^= 0x55;
  return {
      {"UdpLengthLies", family, cut(udp, 40), {{kUdpLength, 2}}},
      {"TcpHeaderLengthBelowTwenty", family, cut(short_tcp, 48), {{kTcpHeaderLength, 2}}},
      {"ChecksumWrongOnlyInTheLast", family, wrong_sum, {{kIcmpChecksum, 2}}},
      {"EchoOfTinyParts", family, EchoInFragments(family, 64, 8), {}, 1, Bytes(64, 0x55)},
      {"ToAGroup",
       family,
       {EthernetFrame(
           FragmentPacket({.source = Guest(family),
                           .destination = Address(IsV4(family) ? "224.0.0.1" : "ff02::1")},
                          {.more = true, .data = Bytes(64)}))},
       {{kMulticast, 1}}},
      {"FromLoopback",
       family,
       {EthernetFrame(FragmentPacket(
           {.source = Address(IsV4(family) ? "127.0.0.1" : "::1"), .destination = Gateway(family)},
           {.more = true, .data = Bytes(64)}))},
       {{kMartianAddress, 1}}},
  };
}

std::vector<Case> Ipv6Only() {
  const IpSpec to_gateway = ToGateway(Family::kIpv6);
  const auto frame = [&](const FragmentSpec& spec, const std::vector<Extension>& extensions = {}) {
    IpSpec ip = to_gateway;
    ip.extensions = extensions;
    return EthernetFrame(FragmentPacket(ip, spec));
  };
  const auto one = [](const char* name, const Bytes& bytes, DropCause cause) {
    return Case{name, Family::kIpv6, {bytes}, {{cause, 1}}};
  };
  // next header, reserved, offset and flags, identification: another fragment header.
  Bytes nested(64);
  nested[0] = 17;
  Bytes nested_atomic(64);
  nested_atomic[0] = 44;
  Bytes only_extension(8);
  only_extension[0] = 6;
  IpSpec with_fragment_header = to_gateway;
  with_fragment_header.extensions = {{44, Bytes(7)}};
  IpSpec discovery = with_fragment_header;
  discovery.hop_limit = 255;
  return {
      one("NestedFragments", frame({.more = true, .data = nested, .protocol = 44}),
          kIpv6ExtensionHeader),
      one("NestedAtomicFragments", frame({.data = nested_atomic, .protocol = 44}),
          kIpv6ExtensionHeader),
      one("HopByHopBehindTheFragmentHeader",
          frame({.more = true, .data = Bytes(64), .protocol = 0}), kIpv6ExtensionHeader),
      one("HeaderChainDoesNotFit",  // RFC 7112
          frame({.more = true, .data = only_extension, .protocol = 60}), kFragmentMalformed),
      one("RoutingTypeZeroBefore",
          frame({.more = true, .data = Bytes(64)}, {{43, {0, 0, 1, 0, 0, 0, 0}}}),
          kIpv6RoutingTypeZero),
      one("LongExtensionsBefore", frame({.more = true, .data = Bytes(64)}, {PaddingOptions(3)}),
          kIpv6TooManyExtensions),
      one("DiscoveryInAnAtomicFragment",  // RFC 6980
          EthernetFrame(IpPacket(discovery, Solicitation(kGateway6))), kNdpMalformed),
      {"AtomicFragmentIsAnOrdinaryPacket",
       Family::kIpv6,  // RFC 6946
       {EthernetFrame(IpPacket(with_fragment_header, EchoRequest(Family::kIpv6, {1, 2, 3})))},
       {},
       1},
  };
}

// A malformed fragment ends slirp4netns (SIGSEGV).
std::vector<Case> Ipv4Only() {
  const IpSpec to_gateway = ToGateway(Family::kIpv4);
  IpSpec options = to_gateway;
  options.options = Bytes(40, 1);
  Bytes below = EthernetFrame(FragmentPacket(to_gateway, {.more = true, .data = Bytes(64)}));
  Put16(below, kIpAt + 2, 12);
  FixIpv4Checksum(below);
  Bytes beyond = EthernetFrame(FragmentPacket(to_gateway, {.more = true, .data = Bytes(64)}));
  Put16(beyond, kIpAt + 2, 1'500);
  FixIpv4Checksum(beyond);
  const auto one = [](const char* name, const Bytes& bytes, DropCause cause) {
    return Case{name, Family::kIpv4, {bytes}, {{cause, 1}}};
  };
  return {
      one("NothingButOptions", EthernetFrame(FragmentPacket(options, {.more = true})),
          kFragmentMalformed),
      one("TotalLengthBelowTheHeader", below, kIpv4TotalLength),
      one("TotalLengthBeyondTheFrame", beyond, kIpv4TotalLength),
  };
}

std::vector<Case> AllFragments() {
  std::vector<Case> all = Ipv6Only();
  for (const auto& cases :
       {Ipv4Only(), InBothFamilies(&Oversized), InBothFamilies(&Overlaps),
        InBothFamilies(&Malformed), InBothFamilies(&Floods), InBothFamilies(&Insides)}) {
    all.insert(all.end(), cases.begin(), cases.end());
  }
  return all;
}

PENSTOCK_HOSTILE(HostileFragments, AllFragments())

}  // namespace
}  // namespace penstock::hostile
