// TCP, UDP and ICMP headers of a packet whose IP header was parsed. Any thread.
//
// Read first: RFC 9293 3.1–3.2 and 3.10.7, RFC 7323 2, RFC 2018 2, RFC 768, RFC 792,
// RFC 4443.
#ifndef PENSTOCK_STACK_WIRE_TRANSPORT_H_
#define PENSTOCK_STACK_WIRE_TRANSPORT_H_

#include <cstdint>
#include <optional>

#include "stack/link/frame.h"
#include "stack/wire/packet.h"

namespace penstock {

// Sets protocol, ports, payload and tcp of `packet`, whose transport view lies in
// `frame`. Verifies the checksum unless the link vouches for it, then defuses TCP's
// flags and options in place.
[[nodiscard]] std::optional<DropCause> ParseTransport(uint8_t ip_protocol, const FrameToHost& frame,
                                                      const ParseOptions& options, Packet& packet);

// True where the offload fields say what the packet is: a partial checksum of its
// own TCP or UDP header, segmentation of its own family and protocol. `transport`
// is its view into the frame; packet.protocol is known.
[[nodiscard]] bool OffloadMatches(const FrameToHost& frame, const Packet& packet);

}  // namespace penstock

#endif  // PENSTOCK_STACK_WIRE_TRANSPORT_H_
