// Writes the packets that the stack itself says to the guest: ARP and neighbour
// discovery, echo replies, ICMP errors, and TCP segments without payload for tuples
// that have no PCB. Each function writes one whole frame from the Ethernet
// header (or the IP header on an L3 link) with complete checksums into `out` and
// returns its length; 0 if `out` is too small or nothing must be sent (no ICMP
// error is ever answered with one, RFC 1122 3.2.2, RFC 4443 2.4).
#ifndef PENSTOCK_STACK_WIRE_EMIT_H_
#define PENSTOCK_STACK_WIRE_EMIT_H_

#include <cstdint>
#include <optional>
#include <span>

#include "relay/endpoint.h"
#include "relay/fault.h"
#include "stack/config.h"
#include "stack/wire/packet.h"

namespace penstock {

struct LinkAddresses {
  bool ethernet = true;
  MacAddress gateway_mac{};
  MacAddress guest_mac{};
  // Where the guest is reached (stack/service/guest_addresses.h).
  IpAddress guest4{};
  IpAddress guest6{};
};

// The Ethernet header (nothing on an L3 link); returns its length, 14 or 0.
size_t EmitEthernet(const LinkAddresses& link, Family family, std::span<uint8_t> out);

struct IpHeaderFields {
  IpAddress source;
  IpAddress destination;
  uint8_t protocol = 6;  // IANA number
  uint8_t hop_limit = 64;
  uint8_t traffic_class = 0;
  uint32_t identification = 0;  // IPv4: the lower 16 bits; IPv6: of fragments only
  bool dont_fragment = true;    // IPv4 only, and not of fragments
  uint32_t payload_bytes = 0;   // behind the IP header, and IPv6's fragment header
  std::optional<FragmentPosition> fragment = std::nullopt;  // unset: the packet is whole
};
// Returns 20 or 40; 48 for a fragment of IPv6, whose fragment header it writes, too. The
// IPv4 header checksum is complete.
size_t EmitIpHeader(const IpHeaderFields& fields, std::span<uint8_t> out);

// The folded, not complemented sum of the pseudo-header: what stands in the
// checksum field of a frame that leaves with ChecksumState::kPartial.
[[nodiscard]] uint16_t PseudoHeaderSum(const IpAddress& source, const IpAddress& destination,
                                       uint8_t protocol, uint32_t length);
// One's-complement sum of `bytes` added to `sum`, not folded to 16 bits and not
// complemented. Parts of odd length must come last.
[[nodiscard]] uint64_t ChecksumAdd(std::span<const uint8_t> bytes, uint64_t sum);
// Folds to 16 bits and complements; network byte order when stored big-endian.
[[nodiscard]] uint16_t ChecksumFinish(uint64_t sum);

// The answer to an ARP request for `request.destination`.
size_t EmitArpReply(const LinkAddresses& link, const Packet& request, std::span<uint8_t> out);
// The answer to a neighbour solicitation for `target`, to its source.
size_t EmitNeighbourAdvertisement(const LinkAddresses& link, const Packet& solicitation,
                                  const IpAddress& target, std::span<uint8_t> out);

// The two questions for the link-layer address of the guest. Both return 0 on a link
// without Ethernet, which has none.
struct ArpQuestion {
  IpAddress gateway;  // who asks
  IpAddress guest;    // who is asked for
};
// Broadcast.
size_t EmitArpRequest(const LinkAddresses& link, const ArpQuestion& question,
                      std::span<uint8_t> out);
// To the solicited-node group of `guest`, from the gateway's link-local address: it is
// on the guest's link whatever prefixes the guest has (RFC 4861 4.3, 7.2.2).
size_t EmitNeighbourSolicitation(const LinkAddresses& link, const IpAddress& guest,
                                 std::span<uint8_t> out);

// Echo reply, both families, from the address that was asked.
size_t EmitEchoReply(const LinkAddresses& link, const Packet& request, std::span<uint8_t> out);

// An ICMP error from `from` about the packet `original_ip` (its IP header on), to its
// source. Quotes up to 576 (IPv4) or 1280 (IPv6) bytes in all.
struct IcmpError {
  FaultKind kind = FaultKind::kHost;  // of ICMP; of the others nothing is written
  IpAddress from;
  uint32_t mtu = 0;  // of kTooBig
};
size_t EmitIcmpError(const LinkAddresses& link, const IcmpError& error,
                     std::span<const uint8_t> original_ip, std::span<uint8_t> out);

struct TcpControl {
  Endpoint source;       // whom the guest thinks it is talking to
  Endpoint destination;  // the guest
  uint32_t sequence = 0;
  uint32_t acknowledgement = 0;
  uint16_t window = 0;
  uint8_t flags = 0;
};
// A TCP segment without payload and options.
size_t EmitTcpControl(const LinkAddresses& link, const TcpControl& segment, std::span<uint8_t> out);

// The largest frame that the functions above write, but for EmitEchoReply: its
// answer is as long as the question, which may have come in fragments.
inline constexpr size_t kEmittedFrameBytesMax = kEthernetHeaderBytes + 1280 + 40;

}  // namespace penstock

#endif  // PENSTOCK_STACK_WIRE_EMIT_H_
