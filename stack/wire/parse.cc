// The way of a frame: link header, ARP or IP header, addresses, MTU, transport.
// Each step checks its own part against the bytes that arrived, narrows the views
// for the next, and names the cause where it refuses. No step allocates. Any
// thread.
//
// Read first: RFC 826, RFC 894, RFC 5227 1.1 (ARP probes), RFC 1122 3.2.1 and 3.3.6.
#include "stack/wire/addresses.h"
#include "stack/wire/ip.h"
#include "stack/wire/packet.h"
#include "stack/wire/protocols.h"
#include "stack/wire/reader.h"
#include "stack/wire/transport.h"

namespace penstock {
namespace {

using Drop = std::optional<DropCause>;

constexpr uint16_t kEtherTypeVlan = 0x8100, kEtherTypeProviderVlan = 0x88a8,
                   kEtherTypeOldProviderVlan = 0x9100;

// What the link layer says about a frame.
struct LinkLayer {
  Drop drop = std::nullopt;
  uint16_t ether_type = 0;
  MacKind destination = MacKind::kUnicast;
  std::span<uint8_t> bytes{};  // behind the link header
};

Drop CheckSourceMac(const MacAddress& source, const ParseOptions& options) {
  const bool usable = KindOf(source) == MacKind::kUnicast && source != MacAddress{} &&
                      source != options.gateway_mac;
  if (!usable || (options.guest_mac && source != *options.guest_mac)) {
    return DropCause::kFalseSourceMac;
  }
  return std::nullopt;
}

LinkLayer ParseEthernet(std::span<uint8_t> frame, const ParseOptions& options, Packet& packet) {
  const auto header = Header<kEthernetHeaderBytes>::At(frame);
  if (!header) return {DropCause::kFrameTooShort};
  packet.source_mac = header->Mac<6>();
  if (const Drop drop = CheckSourceMac(packet.source_mac, options)) return {drop};
  const MacAddress destination = header->Mac<0>();
  const MacKind kind = KindOf(destination);
  if (kind == MacKind::kUnicast && destination != options.gateway_mac) {
    return {DropCause::kNotForGatewayMac};
  }
  packet.to_broadcast_or_multicast_mac = kind != MacKind::kUnicast;
  return {std::nullopt, header->U16<12>(), kind, frame.subspan(kEthernetHeaderBytes)};
}

// On a link without Ethernet the IP version is all that tells the families apart.
LinkLayer ParseBareIp(std::span<uint8_t> frame) {
  const auto header = Header<1>::At(frame);
  if (!header) return {DropCause::kFrameTooShort};
  switch (header->U8<0>() >> 4) {
    case 4:
      return {std::nullopt, kEtherTypeIpv4, MacKind::kUnicast, frame};
    case 6:
      return {std::nullopt, kEtherTypeIpv6, MacKind::kUnicast, frame};
    default:
      return {DropCause::kUnknownEtherType};
  }
}

// Hardware and protocol address of the sender are the guest's own; a probe
// (RFC 5227) has no protocol address yet.
Drop ParseArp(const FrameToHost& frame, const LinkLayer& link, const ParseOptions& options,
              Packet& packet) {
  const auto arp = Header<kArpBytes>::At(link.bytes);
  if (!arp) return DropCause::kFrameTooShort;
  if (link.destination == MacKind::kMulticast) return DropCause::kMulticast;
  if (link.bytes.size() > options.mtu) return DropCause::kFrameOverMtu;
  const bool ipv4_over_ethernet = arp->U16<0>() == 1 && arp->U16<2>() == kEtherTypeIpv4 &&
                                  arp->U8<4>() == 6 && arp->U8<5>() == 4;
  const uint16_t operation = arp->U16<6>();
  if (!ipv4_over_ethernet || (operation != kArpRequest && operation != kArpReply)) {
    return DropCause::kArpMalformed;
  }
  packet.protocol = Protocol::kArp;
  packet.source = arp->Ipv4<14>();
  packet.destination = arp->Ipv4<24>();
  packet.transport = link.bytes.first(kArpBytes);
  if (arp->Mac<8>() != packet.source_mac) return DropCause::kFalseSourceMac;
  if (packet.source != options.ipv4.guest && packet.source != options.leased4 &&
      !IsUnspecified(packet.source)) {
    return DropCause::kFalseSourceAddress;
  }
  return OffloadMatches(frame, packet) ? Drop() : Drop(DropCause::kOffloadMismatch);
}

// Only what is sent to one host by one host is put together: what may use other addresses
// (DHCP, neighbour discovery, MLD) is told by its transport header, which no fragment but
// the first has, and is never that long.
Drop CheckFragmentAddresses(const Packet& packet, const IpResult& ip, const LinkLayer& link,
                            const ParseOptions& options) {
  Packet without_transport = packet;
  without_transport.transport = {};
  return CheckAddresses(without_transport, ip.protocol, link.destination, options);
}

// The head of a datagram's part. No link vouches for its checksum or segments it.
Drop ParseFragment(const IpResult& ip, const FrameToHost& frame, const LinkLayer& link,
                   const ParseOptions& options, ParseResult& result) {
  const Packet& packet = *std::get_if<Packet>(&result);
  if (Drop drop = CheckFragmentAddresses(packet, ip, link, options)) return drop;
  if (link.bytes.size() > options.mtu) return DropCause::kFrameOverMtu;
  if (frame.offload.checksum == ChecksumState::kPartial || frame.offload.gso != Gso::kNone) {
    return DropCause::kOffloadMismatch;
  }
  const Fragment fragment = ReadFragment(packet, ip.protocol);
  if (packet.source.is_v6()) {
    if (fragment.headers.size() - kIpv6HeaderBytes > kExtensionBytesBeforeFragmentMax) {
      return DropCause::kIpv6TooManyExtensions;
    }
    // What may stand only before it, or once.
    if (ip.protocol == kIpv6HopByHop || ip.protocol == kIpv6FragmentHeader) {
      return DropCause::kIpv6ExtensionHeader;
    }
  }
  result = fragment;
  return std::nullopt;
}

Drop ParseIp(const FrameToHost& frame, const LinkLayer& link, const ParseOptions& options,
             ParseResult& result) {
  Packet& packet = *std::get_if<Packet>(&result);
  const IpResult ip = link.ether_type == kEtherTypeIpv4 ? ParseIpv4(link.bytes, packet)
                                                        : ParseIpv6(link.bytes, packet);
  if (ip.drop) return ip.drop;
  if (ip.fragment) return ParseFragment(ip, frame, link, options, result);
  if (Drop drop = CheckAddresses(packet, ip.protocol, link.destination, options)) return drop;
  const bool may_exceed_mtu = frame.offload.gso != Gso::kNone ||
                              (options.unsegmented_tcp_to_host && ip.protocol == kIpProtocolTcp);
  if (link.bytes.size() > options.mtu && !may_exceed_mtu) return DropCause::kFrameOverMtu;
  return ParseTransport(ip.protocol, frame, options, packet);
}

Drop ParseInto(const FrameToHost& frame, const ParseOptions& options, ParseResult& result) {
  Packet& packet = *std::get_if<Packet>(&result);
  const LinkLayer link =
      options.ethernet ? ParseEthernet(frame.bytes(), options, packet) : ParseBareIp(frame.bytes());
  if (link.drop) return link.drop;
  switch (link.ether_type) {
    case kEtherTypeArp:
      return options.ipv4.enabled ? ParseArp(frame, link, options, packet)
                                  : Drop(DropCause::kFamilyOff);
    case kEtherTypeIpv4:
      return options.ipv4.enabled ? ParseIp(frame, link, options, result)
                                  : Drop(DropCause::kFamilyOff);
    case kEtherTypeIpv6:
      return options.ipv6.enabled ? ParseIp(frame, link, options, result)
                                  : Drop(DropCause::kFamilyOff);
    case kEtherTypeVlan:
    case kEtherTypeProviderVlan:
    case kEtherTypeOldProviderVlan:
      return DropCause::kVlanTag;
    default:
      return DropCause::kUnknownEtherType;
  }
}

}  // namespace

ParseResult Parse(const FrameToHost& frame, const ParseOptions& options) {
  ParseResult result;
  if (const Drop drop = ParseInto(frame, options, result)) result = *drop;
  return result;
}

// Every part of it came to one MAC address, or it would not have been put together.
ParseResult ParseDatagram(std::span<uint8_t> datagram, const MacAddress& source_mac,
                          const ParseOptions& options) {
  Packet packet{.source_mac = source_mac};
  const auto version = Header<1>::At(datagram);
  if (!version) return DropCause::kFrameTooShort;
  const IpResult ip =
      version->U8<0>() >> 4 == 4 ? ParseIpv4(datagram, packet) : ParseIpv6(datagram, packet);
  if (ip.drop) return *ip.drop;
  // A part of a part.
  if (ip.fragment || packet.fragmented) return DropCause::kIpv6ExtensionHeader;
  packet.fragmented = true;
  packet.dont_fragment = false;
  if (Drop drop = CheckAddresses(packet, ip.protocol, MacKind::kUnicast, options)) return *drop;
  const ParseOptions verifying{.unsegmented_tcp_to_host = false};  // all that is asked there
  const FrameToHost frame{.room = datagram, .length = static_cast<uint32_t>(datagram.size())};
  if (Drop drop = ParseTransport(ip.protocol, frame, verifying, packet)) return *drop;
  return packet;
}

}  // namespace penstock
