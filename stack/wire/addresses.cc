// Destination first, then source, then whether the MAC address suits: so a counter
// says what the guest was after, not only that it was wrong. Any thread.
#include "stack/wire/addresses.h"

#include <algorithm>

#include "stack/wire/icmp.h"
#include "stack/wire/protocols.h"
#include "stack/wire/reader.h"

namespace penstock {
namespace {

using Drop = std::optional<DropCause>;

constexpr uint16_t kDhcpClientPort = 68, kDhcpServerPort = 67, kDhcpv6ServerPort = 547;

bool StartsWith(const IpAddress& address, std::span<const uint8_t> prefix) {
  return std::equal(prefix.begin(), prefix.end(), address.bytes.begin());
}

// 255.255.255.255.
bool IsLimitedBroadcast(const IpAddress& address) {
  return address.is_v4() && std::ranges::all_of(address.wire(), [](uint8_t b) { return b == 255; });
}

// All host bits set within the link's own prefix; /31 and /32 have none (RFC 3021).
bool IsSubnetBroadcast(const IpAddress& address, const FamilyConfig& family) {
  if (family.prefix_length > 30 || !InPrefix(address, family.gateway, family.prefix_length)) {
    return false;
  }
  const uint32_t host_bits = 0xffff'ffff >> family.prefix_length;
  return (Header<4>::At(address.wire())->U32<0>() & host_bits) == host_bits;
}

bool IsDhcpFromClient(const Packet& packet, uint8_t ip_protocol) {
  const auto ports = Header<4>::At(packet.transport);
  return ip_protocol == kIpProtocolUdp && ports && ports->U16<0>() == kDhcpClientPort &&
         ports->U16<2>() == kDhcpServerPort;
}

Drop CheckIpv4Destination(const Packet& packet, bool dhcp, const FamilyConfig& family) {
  const IpAddress& address = packet.destination;
  if (IsLimitedBroadcast(address)) return dhcp ? Drop() : Drop(DropCause::kBroadcast);
  if (IsMulticast(address)) return DropCause::kMulticast;
  if (IsNeverAHost(address)) return DropCause::kMartianAddress;
  if (IsSubnetBroadcast(address, family)) return DropCause::kBroadcast;
  // Where clouds keep their metadata is the policy's to open: it is a host, reached by way
  // of the host's own link.
  static const IpAddress kMetadata = IpAddress::V4(169, 254, 169, 254);
  if (IsLinkLocal(address) && address != kMetadata &&
      !InPrefix(address, family.gateway, family.prefix_length)) {
    return DropCause::kMartianAddress;
  }
  return std::nullopt;
}

Drop CheckIpv4Source(const Packet& packet, bool dhcp, const ParseOptions& options) {
  const FamilyConfig& family = options.ipv4;
  const IpAddress& address = packet.source;
  if (address == family.guest || address == options.leased4) {
    return address == packet.destination ? Drop(DropCause::kMartianAddress) : Drop();
  }
  if (IsUnspecified(address) && dhcp && IsLimitedBroadcast(packet.destination)) {
    return std::nullopt;
  }
  const bool off_link = !InPrefix(address, family.gateway, family.prefix_length);
  if (IsNeverAHost(address) || IsMulticast(address) || (IsLinkLocal(address) && off_link)) {
    return DropCause::kMartianAddress;
  }
  if (IsBehindGuest(address, family)) {
    return address == packet.destination ? Drop(DropCause::kMartianAddress) : Drop();
  }
  return DropCause::kFalseSourceAddress;
}

Drop CheckIpv4(const Packet& packet, uint8_t ip_protocol, MacKind mac,
               const ParseOptions& options) {
  const bool dhcp = IsDhcpFromClient(packet, ip_protocol);
  if (Drop drop = CheckIpv4Destination(packet, dhcp, options.ipv4)) return drop;
  if (Drop drop = CheckIpv4Source(packet, dhcp, options)) return drop;
  if (mac == MacKind::kBroadcast && !IsLimitedBroadcast(packet.destination)) {
    return DropCause::kBroadcast;
  }
  if (mac == MacKind::kMulticast) return DropCause::kMulticast;
  return std::nullopt;
}

// Neighbour discovery and MLD to the groups that they are sent to.
bool IsNeededMulticast(const IpAddress& group, uint8_t icmp_type) {
  constexpr uint8_t kSolicitedNode[13] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};
  constexpr uint8_t kAllNodes[16] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  constexpr uint8_t kAllRouters[16] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
  switch (icmp_type) {
    case kNeighbourSolicitation:
      return StartsWith(group, kSolicitedNode);
    case kNeighbourAdvertisement:
      return StartsWith(group, kAllNodes);
    case kRouterSolicitation:
      return StartsWith(group, kAllRouters);
    // A report of MLDv1 goes to the group that it reports: any.
    default:
      return IsMld(icmp_type);
  }
}

// All DHCP servers and relays of the link, from its own address on it (RFC 8415 7.1 and
// 18.2).
bool IsDhcpv6FromClient(const Packet& packet, uint8_t ip_protocol) {
  constexpr uint8_t kAllServers[16] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2};
  const auto ports = Header<4>::At(packet.transport);
  return ip_protocol == kIpProtocolUdp && ports && ports->U16<2>() == kDhcpv6ServerPort &&
         StartsWith(packet.destination, kAllServers) && IsLinkLocal(packet.source);
}

// The ICMPv6 type; 0, which is no type, for anything else.
uint8_t IcmpTypeOf(const Packet& packet, uint8_t ip_protocol) {
  const auto header = Header<1>::At(packet.transport);
  return ip_protocol == kIpProtocolIcmpv6 && header ? header->U8<0>() : uint8_t{0};
}

Drop CheckIpv6Source(const Packet& packet, uint8_t icmp_type, const ParseOptions& options) {
  const IpAddress& address = packet.source;
  if (IsUnspecified(address)) {
    const bool may_have_none =
        icmp_type == kNeighbourSolicitation || icmp_type == kRouterSolicitation || IsMld(icmp_type);
    return may_have_none ? Drop() : Drop(DropCause::kMartianAddress);
  }
  if (IsNeverAHost(address) || IsMulticast(address) || address == packet.destination) {
    return DropCause::kMartianAddress;
  }
  const FamilyConfig& family = options.ipv6;
  if (address == family.gateway || address == family.dns) return DropCause::kFalseSourceAddress;
  if (IsLinkLocal(address)) {
    return address == LinkLocalOf(options.gateway_mac) ? Drop(DropCause::kFalseSourceAddress)
                                                       : Drop();
  }
  return InPrefix(address, family.gateway, family.prefix_length) || IsBehindGuest(address, family)
             ? Drop()
             : Drop(DropCause::kFalseSourceAddress);
}

Drop CheckIpv6(const Packet& packet, uint8_t ip_protocol, MacKind mac,
               const ParseOptions& options) {
  const IpAddress& destination = packet.destination;
  const uint8_t icmp_type = IcmpTypeOf(packet, ip_protocol);
  const bool to_group = IsMulticast(destination);
  if (to_group && !IsNeededMulticast(destination, icmp_type) &&
      !IsDhcpv6FromClient(packet, ip_protocol)) {
    return DropCause::kMulticast;
  }
  if (IsNeverAHost(destination)) return DropCause::kMartianAddress;
  if (IsLinkLocal(destination) && destination != LinkLocalOf(options.gateway_mac)) {
    return DropCause::kMartianAddress;
  }
  if (Drop drop = CheckIpv6Source(packet, icmp_type, options)) return drop;
  if (mac == MacKind::kBroadcast) return DropCause::kBroadcast;
  if (mac == MacKind::kMulticast && !to_group) return DropCause::kMulticast;
  return std::nullopt;
}

}  // namespace

bool IsMulticast(const IpAddress& address) {
  return address.is_v4() ? (address.bytes[0] & 0xf0) == 0xe0 : address.bytes[0] == 0xff;
}

bool IsLinkLocal(const IpAddress& address) {
  if (address.is_v4()) return address.bytes[0] == 169 && address.bytes[1] == 254;
  return address.bytes[0] == 0xfe && (address.bytes[1] & 0xc0) == 0x80;
}

bool IsNeverAHost(const IpAddress& address) {
  if (address.is_v4()) {
    return address.bytes[0] == 0 || address.bytes[0] == 127 || address.bytes[0] >= 240;
  }
  constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  constexpr uint8_t kCompatible[12] = {};  // :: and ::1 among them
  return StartsWith(address, kCompatible) || StartsWith(address, kMapped);
}

bool IsUnspecified(const IpAddress& address) {
  return std::ranges::all_of(address.wire(), [](uint8_t byte) { return byte == 0; });
}

bool IsBehindGuest(const IpAddress& address, const FamilyConfig& family) {
  return std::ranges::any_of(family.guest_prefixes, [&](const IpPrefix& prefix) {
    return InPrefix(address, prefix.address, prefix.length);
  });
}

bool GuestCanAnswer(const IpAddress& client, const FamilyConfig& family) {
  return client.family == family.guest.family && !IsNeverAHost(client) && !IsMulticast(client) &&
         !IsLinkLocal(client) && client != family.guest &&
         !InPrefix(client, family.gateway, family.prefix_length) && !IsBehindGuest(client, family);
}

IpAddress LinkLocalOf(const MacAddress& mac) {
  IpAddress address;
  address.family = Family::kIpv6;
  const auto inverted = static_cast<uint8_t>(mac[0] ^ 2);  // the universal/local bit
  address.bytes = {0xfe,     0x80,   0,      0,    0,    0,      0,      0,
                   inverted, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]};
  return address;
}

MacKind KindOf(const MacAddress& mac) {
  constexpr MacAddress kBroadcast{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  if (mac == kBroadcast) return MacKind::kBroadcast;
  return (mac[0] & 1) != 0 ? MacKind::kMulticast : MacKind::kUnicast;
}

std::optional<DropCause> CheckAddresses(const Packet& packet, uint8_t ip_protocol,
                                        MacKind destination_mac, const ParseOptions& options) {
  return packet.destination.is_v4() ? CheckIpv4(packet, ip_protocol, destination_mac, options)
                                    : CheckIpv6(packet, ip_protocol, destination_mac, options);
}

}  // namespace penstock
