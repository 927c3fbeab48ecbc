// Every packet is written front to back by a Writer; lengths are known before the
// first byte, and the checksum is filled in last. Any thread.
//
// Read first: RFC 826, RFC 4861 4.3, 4.4 and 7.2, RFC 2464 7, RFC 792, RFC 4443 2.4 and 3.1,
// RFC 1812 4.3.2.3.
#include "stack/wire/emit.h"

#include <algorithm>

#include "stack/wire/addresses.h"
#include "stack/wire/ip.h"
#include "stack/wire/protocols.h"
#include "stack/wire/reader.h"
#include "stack/wire/writer.h"

namespace penstock {
namespace {

// Of the whole ICMP error, IP header included: the smallest packet that every host
// takes (RFC 1122 3.3.2), the smallest MTU of IPv6.
constexpr size_t kIcmpv4ErrorBytesMax = 576, kIcmpv6ErrorBytesMax = 1280;

size_t WriteEthernet(const LinkAddresses& link, const MacAddress& destination, uint16_t ether_type,
                     std::span<uint8_t> out) {
  if (!link.ethernet) return 0;
  Writer writer(out);
  writer.Bytes(destination);
  writer.Bytes(link.gateway_mac);
  writer.U16(ether_type);
  return writer.length();
}

uint16_t Ipv4FragmentField(const IpHeaderFields& fields) {
  constexpr uint16_t kDontFragment = 0x4000, kMoreFragments = 0x2000;
  if (!fields.fragment) return fields.dont_fragment ? kDontFragment : 0;
  // In units of 8 bytes.
  return static_cast<uint16_t>(fields.fragment->offset / 8 |
                               (fields.fragment->more ? kMoreFragments : 0));
}

// A whole frame but for the body. `body` is empty if it does not fit into `out`.
struct Envelope {
  std::span<uint8_t> body;
  size_t frame_bytes = 0;
};

Envelope WriteEnvelope(const LinkAddresses& link, const MacAddress& destination_mac,
                       const IpHeaderFields& ip, std::span<uint8_t> out) {
  const bool v4 = ip.source.is_v4();
  const size_t link_bytes = link.ethernet ? kEthernetHeaderBytes : 0;
  const size_t header_bytes = link_bytes + (v4 ? kIpv4HeaderBytes : kIpv6HeaderBytes);
  if (ip.payload_bytes > out.size() || out.size() - ip.payload_bytes < header_bytes) return {};
  WriteEthernet(link, destination_mac, v4 ? kEtherTypeIpv4 : kEtherTypeIpv6, out);
  if (EmitIpHeader(ip, out.subspan(link_bytes)) == 0) return {};
  return {out.subspan(header_bytes, ip.payload_bytes), header_bytes + ip.payload_bytes};
}

void StoreChecksum(std::span<uint8_t> body, size_t at, uint64_t sum) {
  Writer(body.subspan(at, 2)).U16(ChecksumFinish(ChecksumAdd(body, sum)));
}

// `body` is a whole ICMP message whose checksum field is zero.
void SealIcmp(const IpHeaderFields& ip, std::span<uint8_t> body) {
  const uint64_t sum = ip.protocol == kIpProtocolIcmpv6
                           ? PseudoHeaderSum(ip.source, ip.destination, ip.protocol,
                                             static_cast<uint32_t>(body.size()))
                           : 0;
  StoreChecksum(body, kIcmpChecksumOffset, sum);
}

void WriteLinkLayerOption(uint8_t type, const MacAddress& mac, Writer& writer) {
  writer.U8(type);
  writer.U8(1);  // in units of 8 bytes
  writer.Bytes(mac);
}

struct ArpMessage {
  uint16_t operation = 0;
  MacAddress frame_to{};
  IpAddress sender;  // ours
  MacAddress target_mac{};
  IpAddress target;
};

size_t WriteArp(const LinkAddresses& link, const ArpMessage& message, std::span<uint8_t> out) {
  const size_t link_bytes = WriteEthernet(link, message.frame_to, kEtherTypeArp, out);
  if (link_bytes == 0) return 0;  // no room, or a link that has no ARP
  Writer writer(out.subspan(link_bytes));
  writer.U16(1);  // Ethernet
  writer.U16(kEtherTypeIpv4);
  writer.U8(6);
  writer.U8(4);
  writer.U16(message.operation);
  writer.Bytes(link.gateway_mac);
  writer.Bytes(message.sender.wire());
  writer.Bytes(message.target_mac);
  writer.Bytes(message.target.wire());
  return writer.length() == 0 ? 0 : link_bytes + writer.length();
}

// The head of a packet that an error may be about.
struct Original {
  IpAddress source;
  IpAddress destination;
  uint8_t protocol = 0;
  std::span<const uint8_t> transport{};
};

std::optional<Original> ReadOriginal(std::span<const uint8_t> packet) {
  const auto first = Header<1>::At(packet);
  if (!first) return std::nullopt;
  if (first->U8<0>() >> 4 == 4) {
    const auto header = Header<kIpv4HeaderBytes>::At(packet);
    const size_t header_bytes = size_t{first->U8<0>()} % 16 * 4;
    if (!header || header_bytes < kIpv4HeaderBytes || header_bytes > packet.size()) {
      return std::nullopt;
    }
    if ((header->U16<6>() & 0x1fff) != 0) return std::nullopt;  // not the first fragment
    return Original{header->Ipv4<12>(), header->Ipv4<16>(), header->U8<9>(),
                    packet.subspan(header_bytes)};
  }
  const auto header = Header<kIpv6HeaderBytes>::At(packet);
  if (!header) return std::nullopt;
  const auto rest = packet.subspan(kIpv6HeaderBytes);
  const ExtensionWalk walk = WalkExtensions(header->U8<6>(), rest);
  if (walk.drop || walk.fragment) return std::nullopt;
  return Original{header->Ipv6<8>(), header->Ipv6<24>(), walk.protocol,
                  rest.subspan(walk.header_bytes)};
}

// No error about an error, about what was not sent to one host, or to nobody.
bool MayAnswerWithError(const Original& original) {
  const auto nobody = [](const IpAddress& a) { return IsNeverAHost(a) || IsMulticast(a); };
  if (nobody(original.source) || nobody(original.destination)) return false;
  const auto icmp = Header<1>::At(original.transport);
  if (original.protocol == kIpProtocolIcmpv4 && original.source.is_v4()) {
    return icmp && icmp->U8<0>() == kEchoRequest4;
  }
  if (original.protocol == kIpProtocolIcmpv6) {
    return icmp && icmp->U8<0>() >= kIcmpv6FirstInformational;
  }
  return true;
}

struct TypeAndCode {
  uint8_t type;
  uint8_t code;
};

// Type 0 for what ICMP has no word for.
TypeAndCode NumbersOf(FaultKind kind, Family family) {
  const bool v4 = family == Family::kIpv4;
  const uint8_t unreachable = v4 ? kUnreachable4 : kUnreachable6;
  switch (kind) {
    case FaultKind::kNetwork:
      return {unreachable, 0};
    case FaultKind::kHost:
      return {unreachable, static_cast<uint8_t>(v4 ? 1 : 3)};
    case FaultKind::kProtocol:  // IPv6: unrecognized next header (RFC 4443 3.4)
      return v4 ? TypeAndCode{unreachable, 2} : TypeAndCode{kParameterProblem6, 1};
    case FaultKind::kPort:
      return {unreachable, static_cast<uint8_t>(v4 ? 3 : 4)};
    case FaultKind::kProhibited:
      return {unreachable, static_cast<uint8_t>(v4 ? 13 : 1)};
    case FaultKind::kTooBig:
      return v4 ? TypeAndCode{unreachable, kFragmentationNeeded4} : TypeAndCode{kPacketTooBig6, 0};
    case FaultKind::kHopLimit:
      return {v4 ? kTimeExceeded4 : kTimeExceeded6, 0};
    case FaultKind::kNone:
    case FaultKind::kNoSocket:
    case FaultKind::kStreamEnd:
    case FaultKind::kStreamBroken:
      break;
  }
  return {0, 0};
}

// The four bytes behind the checksum.
uint32_t DetailOf(const IcmpError& error) {
  constexpr uint32_t kNextHeaderAt = 6;  // in an IPv6 header
  if (error.kind == FaultKind::kTooBig) {
    return error.from.is_v4() ? std::min(error.mtu, uint32_t{0xffff}) : error.mtu;
  }
  return error.kind == FaultKind::kProtocol && error.from.is_v6() ? kNextHeaderAt : 0;
}

}  // namespace

size_t EmitEthernet(const LinkAddresses& link, Family family, std::span<uint8_t> out) {
  return WriteEthernet(link, link.guest_mac,
                       family == Family::kIpv4 ? kEtherTypeIpv4 : kEtherTypeIpv6, out);
}

size_t EmitIpHeader(const IpHeaderFields& fields, std::span<uint8_t> out) {
  const bool v4 = fields.source.is_v4();
  const bool fragment_header = !v4 && fields.fragment.has_value();
  const uint32_t length = fields.payload_bytes + (v4                ? uint32_t{kIpv4HeaderBytes}
                                                  : fragment_header ? kIpv6FragmentHeaderBytes
                                                                    : 0);
  if (fields.payload_bytes > kIpPacketBytesMax || length > kIpPacketBytesMax) return 0;
  Writer writer(out);
  if (v4) {
    writer.U8(0x45);
    writer.U8(fields.traffic_class);
    writer.U16(static_cast<uint16_t>(length));
    writer.U16(static_cast<uint16_t>(fields.identification));
    writer.U16(Ipv4FragmentField(fields));
    writer.U8(fields.hop_limit);
    writer.U8(fields.protocol);
    writer.U16(0);  // the checksum, below
  } else {
    writer.U32(uint32_t{6} << 28 | uint32_t{fields.traffic_class} << 20);
    writer.U16(static_cast<uint16_t>(length));
    writer.U8(fragment_header ? kIpv6FragmentHeader : fields.protocol);
    writer.U8(fields.hop_limit);
  }
  writer.Bytes(fields.source.wire());
  writer.Bytes(fields.destination.wire());
  if (fragment_header) {
    writer.U8(fields.protocol);
    writer.U8(0);  // reserved
    writer.U16(static_cast<uint16_t>(fields.fragment->offset | (fields.fragment->more ? 1 : 0)));
    writer.U32(fields.identification);
  }
  if (v4 && writer.length() != 0) StoreChecksum(out.first<kIpv4HeaderBytes>(), 10, 0);
  return writer.length();
}

size_t EmitArpReply(const LinkAddresses& link, const Packet& request, std::span<uint8_t> out) {
  return WriteArp(link,
                  {.operation = kArpReply,
                   .frame_to = request.source_mac,
                   .sender = request.destination,
                   .target_mac = request.source_mac,
                   .target = request.source},
                  out);
}

size_t EmitArpRequest(const LinkAddresses& link, const ArpQuestion& question,
                      std::span<uint8_t> out) {
  constexpr MacAddress kBroadcast{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  return WriteArp(link,
                  {.operation = kArpRequest,
                   .frame_to = kBroadcast,
                   .sender = question.gateway,
                   .target = question.guest},
                  out);
}

size_t EmitNeighbourSolicitation(const LinkAddresses& link, const IpAddress& guest,
                                 std::span<uint8_t> out) {
  if (!link.ethernet) return 0;
  const auto& asked = guest.bytes;
  IpAddress group = *IpAddress::Parse("ff02::1:ff00:0");
  std::copy(asked.begin() + 13, asked.end(), group.bytes.begin() + 13);
  const MacAddress group_mac{0x33, 0x33, 0xff, asked[13], asked[14], asked[15]};
  const IpHeaderFields ip{.source = LinkLocalOf(link.gateway_mac),
                          .destination = group,
                          .protocol = kIpProtocolIcmpv6,
                          .hop_limit = 255,
                          .payload_bytes = 32};
  const Envelope envelope = WriteEnvelope(link, group_mac, ip, out);
  if (envelope.body.empty()) return 0;
  Writer writer(envelope.body);
  writer.U8(kNeighbourSolicitation);
  writer.U8(0);
  writer.U16(0);  // the checksum, below
  writer.U32(0);  // reserved
  writer.Bytes(guest.wire());
  WriteLinkLayerOption(kSourceLinkLayerAddress, link.gateway_mac, writer);
  SealIcmp(ip, envelope.body);
  return envelope.frame_bytes;
}

size_t EmitNeighbourAdvertisement(const LinkAddresses& link, const Packet& solicitation,
                                  const IpAddress& target, std::span<uint8_t> out) {
  constexpr MacAddress kAllNodesMac{0x33, 0x33, 0, 0, 0, 1};
  constexpr uint32_t kRouter = 1u << 31, kSolicited = 1u << 30, kOverride = 1u << 29;
  // A probe has no address to answer to: all nodes hear that the address is taken.
  const bool probe = IsUnspecified(solicitation.source);
  const IpHeaderFields ip{.source = target,
                          .destination = probe ? *IpAddress::Parse("ff02::1") : solicitation.source,
                          .protocol = kIpProtocolIcmpv6,
                          .hop_limit = 255,
                          .payload_bytes = link.ethernet ? 32u : 24u};
  const Envelope envelope = WriteEnvelope(link, probe ? kAllNodesMac : link.guest_mac, ip, out);
  if (envelope.body.empty()) return 0;
  Writer writer(envelope.body);
  writer.U8(kNeighbourAdvertisement);
  writer.U8(0);
  writer.U16(0);  // the checksum, below
  // Gateway and DNS address belong to one node, which is a router.
  writer.U32(kRouter | kOverride | (probe ? 0 : kSolicited));
  writer.Bytes(target.wire());
  if (link.ethernet) {
    WriteLinkLayerOption(kTargetLinkLayerAddress, link.gateway_mac, writer);
  }
  SealIcmp(ip, envelope.body);
  return envelope.frame_bytes;
}

size_t EmitEchoReply(const LinkAddresses& link, const Packet& request, std::span<uint8_t> out) {
  const auto header = Header<kIcmpHeaderBytes>::At(request.transport);
  const bool v4 = request.protocol == Protocol::kIcmpv4;
  if (!header || (!v4 && request.protocol != Protocol::kIcmpv6) ||
      header->U8<0>() != (v4 ? kEchoRequest4 : kEchoRequest6)) {
    return 0;
  }
  const IpHeaderFields ip{.source = request.destination,
                          .destination = request.source,
                          .protocol = v4 ? kIpProtocolIcmpv4 : kIpProtocolIcmpv6,
                          .payload_bytes = static_cast<uint32_t>(request.transport.size())};
  const Envelope envelope = WriteEnvelope(link, link.guest_mac, ip, out);
  if (envelope.body.empty()) return 0;
  Writer writer(envelope.body);
  writer.U8(v4 ? kEchoReply4 : kEchoReply6);
  writer.U8(0);
  writer.U16(0);  // the checksum, below
  writer.Bytes(request.transport.subspan(4));
  SealIcmp(ip, envelope.body);
  return envelope.frame_bytes;
}

size_t EmitIcmpError(const LinkAddresses& link, const IcmpError& error,
                     std::span<const uint8_t> original_ip, std::span<uint8_t> out) {
  const IpAddress& from = error.from;
  const TypeAndCode numbers = NumbersOf(error.kind, from.family);
  const auto original = ReadOriginal(original_ip);
  if (!original || original->source.family != from.family || !MayAnswerWithError(*original) ||
      numbers.type == 0) {
    return 0;
  }
  const bool v4 = from.is_v4();
  const size_t quote_bytes_max = v4 ? kIcmpv4ErrorBytesMax - kIpv4HeaderBytes - kIcmpHeaderBytes
                                    : kIcmpv6ErrorBytesMax - kIpv6HeaderBytes - kIcmpHeaderBytes;
  const auto quote = original_ip.first(std::min(original_ip.size(), quote_bytes_max));
  const IpHeaderFields ip{.source = from,
                          .destination = original->source,
                          .protocol = v4 ? kIpProtocolIcmpv4 : kIpProtocolIcmpv6,
                          .payload_bytes = static_cast<uint32_t>(kIcmpHeaderBytes + quote.size())};
  const Envelope envelope = WriteEnvelope(link, link.guest_mac, ip, out);
  if (envelope.body.empty()) return 0;
  Writer writer(envelope.body);
  writer.U8(numbers.type);
  writer.U8(numbers.code);
  writer.U16(0);  // the checksum, below
  writer.U32(DetailOf(error));
  writer.Bytes(quote);
  SealIcmp(ip, envelope.body);
  return envelope.frame_bytes;
}

size_t EmitTcpControl(const LinkAddresses& link, const TcpControl& segment,
                      std::span<uint8_t> out) {
  const IpHeaderFields ip{.source = segment.source.address,
                          .destination = segment.destination.address,
                          .protocol = kIpProtocolTcp,
                          .payload_bytes = kTcpHeaderBytes};
  const Envelope envelope = WriteEnvelope(link, link.guest_mac, ip, out);
  if (envelope.body.empty()) return 0;
  Writer writer(envelope.body);
  writer.U16(segment.source.port);
  writer.U16(segment.destination.port);
  writer.U32(segment.sequence);
  writer.U32(segment.acknowledgement);
  writer.U8(kTcpHeaderBytes / 4 << 4);
  writer.U8(segment.flags);
  writer.U16(segment.window);
  writer.U16(0);  // the checksum, below
  writer.U16(0);  // urgent pointer
  StoreChecksum(envelope.body, kTcpChecksumOffset,
                PseudoHeaderSum(ip.source, ip.destination, ip.protocol, kTcpHeaderBytes));
  return envelope.frame_bytes;
}

}  // namespace penstock
