// ICMP from the guest, both families: the checks that the parser makes, and what
// a guest's errors say about a TCP segment of ours. Pure functions; any thread.
//
// Read first: RFC 792, RFC 1191 3–4, RFC 4443, RFC 4861 6.1 and 7.1, RFC 5461 (what
// a TCP makes of errors), RFC 8201.
#ifndef PENSTOCK_STACK_WIRE_ICMP_H_
#define PENSTOCK_STACK_WIRE_ICMP_H_

#include <cstdint>
#include <optional>

#include "relay/endpoint.h"
#include "stack/wire/packet.h"

namespace penstock {

// Multicast listener discovery, versions 1 and 2.
[[nodiscard]] bool IsMld(uint8_t icmpv6_type);

// Either family's, with code 0. `packet` has an ICMP header.
[[nodiscard]] bool IsEchoRequest(const Packet& packet);

// Everything that the RFC makes a condition of validity for an ICMPv6 message of
// neighbour discovery (others pass): hop limit 255, code 0, length, a sound target,
// sound options, and no fragment header (RFC 6980). `packet` has an ICMP header and a good
// checksum.
[[nodiscard]] std::optional<DropCause> CheckNeighbourDiscovery(const Packet& packet);

// A segment of ours, as an error quotes it.
struct QuotedSegment {
  Endpoint source;       // whom the guest thinks it talks to
  Endpoint destination;  // the guest's end of the flow
  uint32_t sequence = 0;
};

// A segment of ours that did not fit somewhere behind the guest.
struct PathMtuReport : QuotedSegment {
  uint32_t mtu = 0;  // as reported: at least 1, no other bound
};

// What an ICMPv4 "fragmentation needed" or ICMPv6 "packet too big" quotes; nullopt
// for every other packet, quotes of anything but the head of a TCP segment, quotes
// whose source is not the address that the error was sent to, and IPv4 errors
// without an MTU. Whoever acts on it checks tuple and sequence against a live flow:
// all of it is the guest's word.
[[nodiscard]] std::optional<PathMtuReport> ParsePathMtu(const Packet& packet);

// The segment that an ICMPv4 or ICMPv6 "destination unreachable" of any code (but
// "fragmentation needed", which is a path MTU) is about: so a guest's firewall
// rejects. nullopt where ParsePathMtu's rules for quotes say so. Whoever acts on it
// checks tuple and sequence, and lets it end only what is not established: an open
// flow survives such errors (RFC 9293 3.9.2.2, RFC 5927 5).
[[nodiscard]] std::optional<QuotedSegment> ParseUnreachable(const Packet& packet);

}  // namespace penstock

#endif  // PENSTOCK_STACK_WIRE_ICMP_H_
