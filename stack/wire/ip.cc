// Length fields are compared with the bytes that arrived and only ever make a view
// smaller. Any thread.
#include "stack/wire/ip.h"

#include "stack/wire/emit.h"
#include "stack/wire/protocols.h"
#include "stack/wire/reader.h"

namespace penstock {
namespace {

using Drop = std::optional<DropCause>;

// IPv4 options (RFC 791)
constexpr uint8_t kLooseSourceRoute = 131, kStrictSourceRoute = 137;

Drop CheckIpv4Options(std::span<uint8_t> options) {
  OptionWalk walk(options);
  while (const auto option = walk.Next()) {
    const uint8_t kind = (*option)[0];
    if (kind == kLooseSourceRoute || kind == kStrictSourceRoute) {
      return DropCause::kIpv4SourceRoute;
    }
  }
  return walk.malformed() ? Drop(DropCause::kIpv4Option) : Drop();
}

// Options of IPv6 extension headers.
constexpr uint8_t kPad1 = 0, kRouterAlert = 5, kJumboPayload = 0xc2;

// Type, length of the data, data. The two highest bits of a type say what to do
// with an option that is unknown: skip it (00), or discard the packet.
Drop CheckIpv6Options(std::span<const uint8_t> options) {
  while (!options.empty()) {
    if (options[0] == kPad1) {
      options = options.subspan(1);
      continue;
    }
    const auto option = Header<2>::At(options);
    if (!option || size_t{option->U8<1>()} + 2 > options.size()) {
      return DropCause::kIpv6ExtensionHeader;
    }
    const uint8_t type = option->U8<0>();
    if (type == kJumboPayload) return DropCause::kIpv6Jumbogram;
    if (type != kRouterAlert && type >> 6 != 0) return DropCause::kIpv6ExtensionHeader;
    options = options.subspan(size_t{option->U8<1>()} + 2);
  }
  return std::nullopt;
}

// `routing` is the whole header. With segments left it wants to be sent on, which
// a host does not do for a type that it does not know.
Drop CheckRouting(std::span<const uint8_t> routing) {
  const auto header = Header<4>::At(routing);
  if (header->U8<2>() == 0) return DropCause::kIpv6RoutingTypeZero;
  return header->U8<3>() != 0 ? Drop(DropCause::kIpv6ExtensionHeader) : Drop();
}

// Offset in bytes, two reserved bits, more to come.
FragmentPosition PositionOf(const Header<8>& fragment_header) {
  const uint16_t field = fragment_header.U16<2>();
  return {.offset = static_cast<uint16_t>(field & 0xfff8), .more = (field & 1) != 0};
}

// Of a packet there is at most one.
void TakeFragmentHeader(const Header<8>& header, ExtensionWalk& walk) {
  if (walk.fragment_header) walk.drop = DropCause::kIpv6ExtensionHeader;
  walk.fragment_header = true;
  walk.header_bytes += kIpv6FragmentHeaderBytes;
  walk.protocol = header.U8<0>();
  const FragmentPosition position = PositionOf(header);
  walk.fragment = position.offset != 0 || position.more;
}

bool IsExtension(uint8_t protocol) {
  return protocol == kIpv6HopByHop || protocol == kIpv6Routing || protocol == kIpv6FragmentHeader ||
         protocol == kIpv6DestinationOptions;
}

}  // namespace

IpResult ParseIpv4(std::span<uint8_t> bytes, Packet& packet) {
  const auto header = Header<kIpv4HeaderBytes>::At(bytes);
  if (!header) return {DropCause::kFrameTooShort};
  if (header->U8<0>() >> 4 != 4) return {DropCause::kIpv4Version};
  const size_t header_bytes = size_t{header->U8<0>()} % 16 * 4;
  if (header_bytes < kIpv4HeaderBytes || header_bytes > bytes.size()) {
    return {DropCause::kIpv4HeaderLength};
  }
  const size_t total_bytes = header->U16<2>();
  if (total_bytes < header_bytes || total_bytes > bytes.size()) {
    return {DropCause::kIpv4TotalLength};
  }
  if (ChecksumFinish(ChecksumAdd(bytes.first(header_bytes), 0)) != 0) {
    return {DropCause::kIpv4Checksum};
  }
  const auto options = bytes.subspan(kIpv4HeaderBytes, header_bytes - kIpv4HeaderBytes);
  if (const Drop drop = CheckIpv4Options(options)) return {drop};
  packet.hop_limit = header->U8<8>();
  packet.traffic_class = header->U8<1>();
  packet.dont_fragment = (header->U16<6>() & 0x4000) != 0;
  packet.source = header->Ipv4<12>();
  packet.destination = header->Ipv4<16>();
  packet.ip = bytes.first(total_bytes);
  packet.transport = packet.ip.subspan(header_bytes);
  const bool fragment = (header->U16<6>() & 0x3fff) != 0;  // more to come, or an offset
  return {std::nullopt, header->U8<9>(), fragment};
}

IpResult ParseIpv6(std::span<uint8_t> bytes, Packet& packet) {
  const auto header = Header<kIpv6HeaderBytes>::At(bytes);
  if (!header) return {DropCause::kFrameTooShort};
  if (header->U8<0>() >> 4 != 6) return {DropCause::kIpv6Version};
  const size_t payload_bytes = header->U16<4>();
  const uint8_t next_header = header->U8<6>();
  // A jumbogram says its length in a hop-by-hop option and 0 here.
  if (payload_bytes == 0 && next_header == kIpv6HopByHop) return {DropCause::kIpv6Jumbogram};
  if (payload_bytes > bytes.size() - kIpv6HeaderBytes) return {DropCause::kIpv6PayloadLength};
  packet.ip = bytes.first(kIpv6HeaderBytes + payload_bytes);
  const ExtensionWalk walk = WalkExtensions(next_header, packet.ip.subspan(kIpv6HeaderBytes));
  if (walk.drop) return {walk.drop};
  packet.hop_limit = header->U8<7>();
  packet.traffic_class = static_cast<uint8_t>(header->U16<0>() >> 4);
  packet.dont_fragment = !walk.fragment_header;
  packet.fragmented = walk.fragment_header;
  packet.source = header->Ipv6<8>();
  packet.destination = header->Ipv6<24>();
  packet.transport = packet.ip.subspan(kIpv6HeaderBytes + walk.header_bytes);
  return {std::nullopt, walk.protocol, walk.fragment};
}

Fragment ReadFragment(const Packet& packet, uint8_t protocol) {
  const size_t header_bytes = packet.ip.size() - packet.transport.size();
  Fragment fragment{.source = packet.source,
                    .destination = packet.destination,
                    .source_mac = packet.source_mac,
                    .protocol = protocol,
                    .payload = packet.transport};
  if (packet.source.is_v4()) {
    const auto header = Header<kIpv4HeaderBytes>::At(packet.ip);
    const uint16_t field = header->U16<6>();
    fragment.identification = header->U16<4>();
    fragment.position = {.offset = static_cast<uint16_t>((field & 0x1fff) * 8),
                         .more = (field & 0x2000) != 0};
    fragment.headers = packet.ip.first(header_bytes);
  } else {
    const size_t before = header_bytes - kIpv6FragmentHeaderBytes;
    const auto header = Header<kIpv6FragmentHeaderBytes>::At(packet.ip, before);
    fragment.identification = header->U32<4>();
    fragment.position = PositionOf(*header);
    fragment.headers = packet.ip.first(before);
  }
  return fragment;
}

ExtensionWalk WalkExtensions(uint8_t next_header, std::span<const uint8_t> bytes) {
  ExtensionWalk walk{.protocol = next_header};
  for (int count = 0; IsExtension(walk.protocol); ++count) {
    if (count == kExtensionHeaderCountMax) return {DropCause::kIpv6TooManyExtensions};
    if (walk.protocol == kIpv6HopByHop && count != 0) return {DropCause::kIpv6ExtensionHeader};
    const auto header = Header<8>::At(bytes, walk.header_bytes);
    if (!header) return {DropCause::kIpv6ExtensionHeader};
    if (walk.protocol == kIpv6FragmentHeader) {
      TakeFragmentHeader(*header, walk);
      if (walk.drop || walk.fragment) return walk;
      continue;
    }
    const size_t header_bytes = (size_t{header->U8<1>()} + 1) * 8;
    if (header_bytes > bytes.size() - walk.header_bytes) return {DropCause::kIpv6ExtensionHeader};
    const auto extension = bytes.subspan(walk.header_bytes, header_bytes);
    const Drop drop = walk.protocol == kIpv6Routing ? CheckRouting(extension)
                                                    : CheckIpv6Options(extension.subspan(2));
    if (drop) return {drop};
    walk.protocol = header->U8<0>();
    walk.header_bytes += header_bytes;
  }
  return walk;
}

}  // namespace penstock
