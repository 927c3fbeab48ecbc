// IP headers of both families, up to the transport header. Pure functions; any
// thread.
//
// Read first: RFC 791 3.1, RFC 8200 3–4, RFC 2675 (jumbograms), RFC 5095 (routing
// type 0), RFC 6398 (router alert), RFC 6946 (atomic fragments).
#ifndef PENSTOCK_STACK_WIRE_IP_H_
#define PENSTOCK_STACK_WIRE_IP_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "stack/wire/packet.h"

namespace penstock {

struct IpResult {
  std::optional<DropCause> drop = std::nullopt;
  uint8_t protocol = 0;   // IANA number of the transport header
  bool fragment = false;  // `transport` is not that, but a part of a datagram: ReadFragment
};

// Sets source, destination, hop_limit, fragmented, ip and transport of `packet` from
// `bytes`, which begin with the IP header and may go on behind the packet's end.
[[nodiscard]] IpResult ParseIpv4(std::span<uint8_t> bytes, Packet& packet);
[[nodiscard]] IpResult ParseIpv6(std::span<uint8_t> bytes, Packet& packet);

// What a packet is for which the functions above said `fragment`.
[[nodiscard]] Fragment ReadFragment(const Packet& packet, uint8_t protocol);

// More extension headers than any packet needs, few enough to walk for each.
inline constexpr int kExtensionHeaderCountMax = 8;

struct ExtensionWalk {
  std::optional<DropCause> drop = std::nullopt;
  uint8_t protocol = 0;          // what follows the last extension header
  bool fragment_header = false;  // there was one
  // It was the last to be looked at: it makes the packet a part of a datagram. (With
  // neither an offset nor more to come it is like any other.)
  bool fragment = false;
  size_t header_bytes = 0;  // of all extension headers
};

// `bytes` is what follows the IPv6 header, whose next-header field is `next_header`.
[[nodiscard]] ExtensionWalk WalkExtensions(uint8_t next_header, std::span<const uint8_t> bytes);

}  // namespace penstock

#endif  // PENSTOCK_STACK_WIRE_IP_H_
