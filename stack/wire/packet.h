// What the parser makes of a frame from the guest: a Packet whose fields were all
// checked against the bytes, a Fragment of one, or a DropCause. The only reader of guest
// bytes below TCP payload. Pure functions; poll thread.
#ifndef PENSTOCK_STACK_WIRE_PACKET_H_
#define PENSTOCK_STACK_WIRE_PACKET_H_

#include <cstdint>
#include <optional>
#include <span>
#include <variant>

#include "relay/endpoint.h"
#include "stack/config.h"
#include "stack/counters.h"
#include "stack/link/frame.h"

namespace penstock {

enum class Protocol : uint8_t { kArp, kTcp, kUdp, kIcmpv4, kIcmpv6 };

inline constexpr uint8_t kTcpFin = 0x01, kTcpSyn = 0x02, kTcpRst = 0x04, kTcpPsh = 0x08,
                         kTcpAck = 0x10, kTcpUrg = 0x20, kTcpEce = 0x40, kTcpCwr = 0x80;

struct TcpFields {
  uint32_t sequence = 0;
  uint32_t acknowledgement = 0;
  uint16_t window = 0;
  uint8_t flags = 0;
  uint16_t header_bytes = 0;  // 20–60
  // From the options, checked; of the SYN only, others leave them empty.
  std::optional<uint16_t> mss = std::nullopt;
  std::optional<uint8_t> window_scale = std::nullopt;
};

struct Packet {
  Protocol protocol = Protocol::kTcp;
  IpAddress source;       // ARP: sender protocol address
  IpAddress destination;  // ARP: target protocol address
  MacAddress source_mac{};
  bool to_broadcast_or_multicast_mac = false;
  bool fragmented = false;     // put together from fragments, or with IPv6's fragment header
  uint8_t hop_limit = 0;       // TTL
  uint8_t traffic_class = 0;   // TOS: DSCP in the upper six bits, ECN in the others
  bool dont_fragment = false;  // IPv4's bit; of IPv6, true unless `fragmented`
  uint16_t segment_bytes = 0;  // UDP that the link left in one piece: payload of each datagram

  // Views into the frame; live as long as its buffer. Writable: lwIP swaps the
  // TCP header in place, and the option rewriting below works in place.
  std::span<uint8_t> ip;         // from the IP header to the end of the IP packet
  std::span<uint8_t> transport;  // from the TCP/UDP/ICMP header to the end; ARP: the ARP body
  std::span<uint8_t> payload;    // of TCP and UDP

  uint16_t source_port = 0;
  uint16_t destination_port = 0;
  TcpFields tcp;
};

// Which part of a datagram a fragment is.
struct FragmentPosition {
  uint16_t offset = 0;  // in bytes; a multiple of 8
  bool more = false;    // this is not the last one
};

// A part of a datagram. Its IP headers, addresses and size were checked like a packet's;
// what only all parts together can show, Reassembly looks at (reassembly.h).
struct Fragment {
  IpAddress source;
  IpAddress destination;
  MacAddress source_mac{};
  uint32_t identification = 0;
  FragmentPosition position;
  uint8_t protocol = 0;  // IANA number of what the datagram begins with
  // Views into the frame; live as long as its buffer.
  std::span<const uint8_t> headers;  // IPv6: with the extension headers before the fragment's
  std::span<const uint8_t> payload;
};

// Of IPv6, the extension headers before a fragment header that Parse lets pass: three
// small ones. It is what a frame's buffer has room for before the largest datagram.
inline constexpr size_t kExtensionBytesBeforeFragmentMax = 24;

struct ParseOptions {
  bool ethernet = true;
  MacAddress gateway_mac{};
  std::optional<MacAddress> guest_mac;  // unset: any unicast source passes
  uint32_t mtu = 1500;
  bool unsegmented_tcp_to_host = false;  // see LinkCapabilities
  FamilyConfig ipv4;
  FamilyConfig ipv6;
  // The guest may use it besides ipv4.guest: DHCP leased it.
  std::optional<IpAddress> leased4 = std::nullopt;
};

// Checks everything in `frame` that the stack relies on: Ethernet, source MAC and
// source address, IP header, lengths, extension headers, martian addresses, transport
// header, TCP options, checksums where the link does not vouch for them, and the
// offload fields against all of it. A fragment is checked up to its IP headers.
//
// For TCP it also defuses what lwIP would believe: MSS, window-scale and
// SACK-permitted options become NOPs in every segment without SYN, and ECN flags
// and the urgent flag and pointer are cleared (urgent data is data). The length
// of the IP packet rules: bytes behind it (Ethernet padding) are cut off.
using ParseResult = std::variant<Packet, Fragment, DropCause>;
[[nodiscard]] ParseResult Parse(const FrameToHost& frame, const ParseOptions& options);

// The same for a datagram that was put together from fragments; never a Fragment. Begins
// with the IP header. What the link said of the fragments' checksums is worth nothing
// here: the datagram's own is verified. The last fragment came from `source_mac`.
[[nodiscard]] ParseResult ParseDatagram(std::span<uint8_t> datagram, const MacAddress& source_mac,
                                        const ParseOptions& options);

// Overwrites MSS, window-scale and SACK-permitted options with NOPs; for a SYN
// that repeats one which was already accepted.
void DefuseTcpOptions(std::span<uint8_t> tcp_header);

}  // namespace penstock

#endif  // PENSTOCK_STACK_WIRE_PACKET_H_
