// The two kinds of frames that the link's services say besides the gateway's: one UDP
// datagram, one message of ICMPv6. Both are written whole, with complete checksums, into
// `out`; the length is 0 if it has no room. Pure functions; any thread.
#ifndef PENSTOCK_STACK_SERVICE_SERVICE_FRAMES_H_
#define PENSTOCK_STACK_SERVICE_SERVICE_FRAMES_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "stack/counters.h"
#include "stack/wire/emit.h"
#include "stack/wire/udp_frames.h"

namespace penstock {

inline constexpr MacAddress kBroadcastMacAddress{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
inline constexpr MacAddress kAllNodesMacAddress{0x33, 0x33, 0, 0, 0, 1};

// What a service makes of a packet: a frame, a drop by name, or neither: it was
// understood and wants no answer.
struct ServiceAnswer {
  size_t length = 0;                             // of the frame written to `out`
  std::optional<DropCause> drop = std::nullopt;  // set only if length is 0
};

// `to` is a MAC address; of no meaning on a link without Ethernet.
size_t EmitUdpFrame(LinkAddresses link, const MacAddress& to, const UdpToGuest& datagram,
                    std::span<uint8_t> out);

struct Icmpv6ToGuest {
  IpAddress source;
  IpAddress destination;
  std::span<const uint8_t> bytes;  // from the type on; the checksum is 0
};
// With the hop limit of neighbour discovery, 255.
size_t EmitIcmpv6Frame(LinkAddresses link, const MacAddress& to, const Icmpv6ToGuest& message,
                       std::span<uint8_t> out);

}  // namespace penstock

#endif  // PENSTOCK_STACK_SERVICE_SERVICE_FRAMES_H_
