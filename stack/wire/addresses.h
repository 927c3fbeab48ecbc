// Which addresses a guest may use: the kinds of address that never leave the
// link, and the check of one packet's source and destination. Pure functions; any
// thread.
//
// Read first: RFC 6890 (special-purpose registries), RFC 4291 2 (IPv6 kinds of
// address), RFC 4861 7.1 (neighbour discovery's addresses).
#ifndef PENSTOCK_STACK_WIRE_ADDRESSES_H_
#define PENSTOCK_STACK_WIRE_ADDRESSES_H_

#include <cstdint>
#include <optional>

#include "stack/wire/packet.h"

namespace penstock {

// 224/4 or ff00::/8.
[[nodiscard]] bool IsMulticast(const IpAddress& address);
// 169.254/16 or fe80::/10.
[[nodiscard]] bool IsLinkLocal(const IpAddress& address);
// Never a host on any network: 0/8, 127/8, 240/4 (with 255.255.255.255), ::, ::1,
// the IPv4-mapped ::ffff:0:0/96 and the IPv4-compatible ::/96.
[[nodiscard]] bool IsNeverAHost(const IpAddress& address);
// 0.0.0.0 or ::.
[[nodiscard]] bool IsUnspecified(const IpAddress& address);

// In one of the networks that the guest routes for.
[[nodiscard]] bool IsBehindGuest(const IpAddress& address, const FamilyConfig& family);

// True where the guest's answer to `client` would reach the stack, if it saw it as its
// peer: an address of the host's loopback would be the guest's own, and one inside the
// link's prefix, or behind the guest, it would look for there. False for the other family's.
[[nodiscard]] bool GuestCanAnswer(const IpAddress& client, const FamilyConfig& family);

// fe80::/64 with the modified EUI-64 identifier of `mac` (RFC 4291 appendix A).
[[nodiscard]] IpAddress LinkLocalOf(const MacAddress& mac);

enum class MacKind : uint8_t { kUnicast, kMulticast, kBroadcast };
[[nodiscard]] MacKind KindOf(const MacAddress& mac);

// Checks addresses of a packet whose IP header was parsed. `destination_mac` is
// kUnicast on a link without Ethernet. Looks into the transport header for what
// decides: DHCP may use the unspecified and the broadcast address, DHCPv6, neighbour
// discovery and MLD multicast groups; nothing else may.
[[nodiscard]] std::optional<DropCause> CheckAddresses(const Packet& packet, uint8_t ip_protocol,
                                                      MacKind destination_mac,
                                                      const ParseOptions& options);

}  // namespace penstock

#endif  // PENSTOCK_STACK_WIRE_ADDRESSES_H_
