// Quotes are read like frames: each header by its own length, never further than
// what arrived. Any thread.
#include "stack/wire/icmp.h"

#include "stack/wire/addresses.h"
#include "stack/wire/protocols.h"
#include "stack/wire/reader.h"

namespace penstock {
namespace {

// Bytes before the options of each message; 0 for what is not neighbour discovery.
size_t NeighbourDiscoveryFixedBytes(uint8_t type) {
  switch (type) {
    case kRouterSolicitation:
      return 8;
    case kRouterAdvertisement:
      return 16;
    case kNeighbourSolicitation:
    case kNeighbourAdvertisement:
      return 24;
    case kRedirect:
      return 40;
    default:
      return 0;
  }
}

struct NdOptions {
  bool sound = true;
  bool source_link_layer_address = false;
};

// Options are "type, length in units of 8 bytes, data"; a length of 0 is invalid.
NdOptions WalkNdOptions(std::span<const uint8_t> options) {
  NdOptions result;
  while (!options.empty()) {
    const auto option = Header<2>::At(options);
    const size_t bytes = option ? size_t{option->U8<1>()} * 8 : 0;
    if (bytes == 0 || bytes > options.size()) return {.sound = false};
    if (option->U8<0>() == kSourceLinkLayerAddress) result.source_link_layer_address = true;
    options = options.subspan(bytes);
  }
  return result;
}

// An IP packet as an error quotes it, if it is TCP.
struct QuotedIp {
  IpAddress source;
  IpAddress destination;
  std::span<const uint8_t> transport;
};

std::optional<QuotedIp> QuotedIpv4Tcp(std::span<const uint8_t> quoted) {
  const auto header = Header<kIpv4HeaderBytes>::At(quoted);
  if (!header || header->U8<0>() >> 4 != 4) return std::nullopt;
  const size_t header_bytes = size_t{header->U8<0>()} % 16 * 4;
  const bool first_fragment = (header->U16<6>() & 0x1fff) == 0;
  if (header_bytes < kIpv4HeaderBytes || header_bytes > quoted.size() || !first_fragment ||
      header->U8<9>() != kIpProtocolTcp) {
    return std::nullopt;
  }
  return QuotedIp{header->Ipv4<12>(), header->Ipv4<16>(), quoted.subspan(header_bytes)};
}

// The stack sends no extension headers before TCP: it follows the IPv6 header or it is
// not ours.
std::optional<QuotedIp> QuotedIpv6Tcp(std::span<const uint8_t> quoted) {
  const auto header = Header<kIpv6HeaderBytes>::At(quoted);
  if (!header || header->U8<0>() >> 4 != 6 || header->U8<6>() != kIpProtocolTcp) {
    return std::nullopt;
  }
  return QuotedIp{header->Ipv6<8>(), header->Ipv6<24>(), quoted.subspan(kIpv6HeaderBytes)};
}

// What the error in `packet` quotes, if it was sent to whom the quote is from.
std::optional<QuotedSegment> Quoted(const Packet& packet) {
  const auto quoted = packet.transport.subspan(kIcmpHeaderBytes);
  const std::optional<QuotedIp> ip =
      packet.protocol == Protocol::kIcmpv4 ? QuotedIpv4Tcp(quoted) : QuotedIpv6Tcp(quoted);
  if (!ip || ip->source != packet.destination) return std::nullopt;
  const auto tcp = Header<8>::At(ip->transport);  // all that RFC 792 promises
  if (!tcp) return std::nullopt;
  return QuotedSegment{.source = {ip->source, tcp->U16<0>()},
                       .destination = {ip->destination, tcp->U16<2>()},
                       .sequence = tcp->U32<4>()};
}

}  // namespace

bool IsMld(uint8_t icmpv6_type) {
  return (icmpv6_type >= kMldQuery && icmpv6_type <= kMldDone) || icmpv6_type == kMldReport2;
}

bool IsEchoRequest(const Packet& packet) {
  const auto header = Header<kIcmpHeaderBytes>::At(packet.transport);
  const uint8_t request = packet.protocol == Protocol::kIcmpv4 ? kEchoRequest4 : kEchoRequest6;
  return header && header->U8<0>() == request && header->U8<1>() == 0;
}

std::optional<DropCause> CheckNeighbourDiscovery(const Packet& packet) {
  const auto header = Header<kIcmpHeaderBytes>::At(packet.transport);
  const uint8_t type = header->U8<0>();
  const size_t fixed_bytes = NeighbourDiscoveryFixedBytes(type);
  if (fixed_bytes == 0) return std::nullopt;
  if (packet.fragmented || packet.hop_limit != 255 || header->U8<1>() != 0 ||
      packet.transport.size() < fixed_bytes) {
    return DropCause::kNdpMalformed;
  }
  const NdOptions options = WalkNdOptions(packet.transport.subspan(fixed_bytes));
  if (!options.sound) return DropCause::kNdpMalformed;
  if (type == kNeighbourSolicitation || type == kNeighbourAdvertisement) {
    const auto target = Header<16>::At(packet.transport, 8);
    if (IsMulticast(target->Ipv6<0>())) return DropCause::kNdpMalformed;
  }
  // A sender without an address has none to tell its link-layer address of.
  if (IsUnspecified(packet.source) && options.source_link_layer_address) {
    return DropCause::kNdpMalformed;
  }
  // A duplicate-address probe asks the solicited-node group.
  if (type == kNeighbourSolicitation && IsUnspecified(packet.source) &&
      !IsMulticast(packet.destination)) {
    return DropCause::kNdpMalformed;
  }
  return std::nullopt;
}

std::optional<PathMtuReport> ParsePathMtu(const Packet& packet) {
  const auto header = Header<kIcmpHeaderBytes>::At(packet.transport);
  if (!header) return std::nullopt;
  uint32_t mtu = 0;
  if (packet.protocol == Protocol::kIcmpv4 && header->U8<0>() == kUnreachable4 &&
      header->U8<1>() == kFragmentationNeeded4) {
    mtu = header->U16<6>();
  } else if (packet.protocol == Protocol::kIcmpv6 && header->U8<0>() == kPacketTooBig6) {
    mtu = header->U32<4>();
  }
  if (mtu == 0) return std::nullopt;
  const std::optional<QuotedSegment> quoted = Quoted(packet);
  if (!quoted) return std::nullopt;
  return PathMtuReport{*quoted, mtu};
}

std::optional<QuotedSegment> ParseUnreachable(const Packet& packet) {
  const auto header = Header<kIcmpHeaderBytes>::At(packet.transport);
  if (!header) return std::nullopt;
  const bool unreachable4 = packet.protocol == Protocol::kIcmpv4 &&
                            header->U8<0>() == kUnreachable4 &&
                            header->U8<1>() != kFragmentationNeeded4;
  const bool unreachable6 =
      packet.protocol == Protocol::kIcmpv6 && header->U8<0>() == kUnreachable6;
  return unreachable4 || unreachable6 ? Quoted(packet) : std::nullopt;
}

}  // namespace penstock
