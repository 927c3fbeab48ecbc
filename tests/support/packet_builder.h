// Builds frames as a guest would send them, so that a test names only what matters
// to it. Lengths and checksums come out right; a test that wants them wrong spoils
// single bytes afterwards with Put8/Put16/Put32. Checksums are computed the slow,
// obvious way, apart from the code under test.
//
//   Bytes frame = EthernetFrame(IpPacket({.source = kGuest4, .destination = kPeer4},
//                                        TcpSegment({.flags = kTcpSyn})));
#ifndef PENSTOCK_TESTS_SUPPORT_PACKET_BUILDER_H_
#define PENSTOCK_TESTS_SUPPORT_PACKET_BUILDER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "relay/endpoint.h"
#include "stack/config.h"
#include "stack/wire/packet.h"

namespace penstock {

using Bytes = std::vector<uint8_t>;

inline const Config kTestConfig{};
inline const MacAddress kGatewayMac = kTestConfig.gateway_mac;
inline const MacAddress kGuestMac{0x02, 0, 0, 0, 0, 0x15};
inline const MacAddress kBroadcastMac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
inline const IpAddress kGuest4 = kTestConfig.ipv4.guest;
inline const IpAddress kGuest6 = kTestConfig.ipv6.guest;
inline const IpAddress kGateway4 = kTestConfig.ipv4.gateway;
inline const IpAddress kGateway6 = kTestConfig.ipv6.gateway;
// Some host beyond the gateway.
inline const IpAddress kPeer4 = IpAddress::V4(192, 0, 2, 80);
inline const IpAddress kPeer6 = *IpAddress::Parse("2001:db8::80");

// Where headers begin in a frame without IP options and extension headers.
inline constexpr size_t kIpAt = 14, kTransport4At = 34, kTransport6At = 54;

[[nodiscard]] inline size_t TransportAt(Family family) {
  return family == Family::kIpv4 ? kTransport4At : kTransport6At;
}
[[nodiscard]] inline IpAddress Guest(Family family) {
  return family == Family::kIpv4 ? kGuest4 : kGuest6;
}
[[nodiscard]] inline IpAddress Peer(Family family) {
  return family == Family::kIpv4 ? kPeer4 : kPeer6;
}
// `text` must be an address.
[[nodiscard]] inline IpAddress Address(const char* text) { return *IpAddress::Parse(text); }

// A transport header and payload whose checksum IpPacket fills in.
struct Transport {
  uint8_t protocol = 0;
  Bytes bytes;
};

struct TcpSpec {
  uint16_t source_port = 40'000;
  uint16_t destination_port = 80;
  uint32_t sequence = 1'000;
  uint32_t acknowledgement = 0;
  uint8_t flags = kTcpAck;
  uint16_t window = 64'240;
  uint16_t urgent_pointer = 0;
  Bytes options{};  // padded with zeros to a multiple of 4
  Bytes payload{};
};
[[nodiscard]] Transport TcpSegment(const TcpSpec& spec);

struct UdpSpec {
  uint16_t source_port = 40'000;
  uint16_t destination_port = 53;
  Bytes payload{};
};
[[nodiscard]] Transport UdpDatagram(const UdpSpec& spec);

struct IcmpSpec {
  uint8_t type = 0;
  uint8_t code = 0;
  uint32_t rest_of_header = 0;
  Bytes body{};
};
[[nodiscard]] Transport Icmpv4Message(const IcmpSpec& spec);
[[nodiscard]] Transport Icmpv6Message(const IcmpSpec& spec);
[[nodiscard]] Transport EchoRequest(Family family, const Bytes& data);
// Neighbour solicitation or, with another type, anything of the same layout.
[[nodiscard]] Transport Solicitation(const IpAddress& target, const Bytes& options = {},
                                     uint8_t type = 135);

// `body` is the header without its next-header byte; the whole, with that byte, is
// padded with zeros to a multiple of 8.
struct Extension {
  uint8_t protocol = 0;
  Bytes body;
};

struct IpSpec {
  IpAddress source;
  IpAddress destination;
  uint8_t hop_limit = 64;
  uint16_t fragment_field = 0x4000;     // IPv4: don't fragment
  uint16_t identification = 0x1234;     // IPv4
  Bytes options{};                      // IPv4; padded with zeros to a multiple of 4
  std::vector<Extension> extensions{};  // IPv6
  uint8_t traffic_class = 0;
};
[[nodiscard]] Bytes IpPacket(const IpSpec& spec, const Transport& transport);

// One fragment, with whatever in it.
struct FragmentSpec {
  uint32_t offset = 0;  // in bytes
  bool more = false;
  Bytes data{};
  uint8_t protocol = 17;
  uint32_t identification = 0x1234;
};
// `ip` without fragment_field and identification; its extensions come before the fragment
// header.
[[nodiscard]] Bytes FragmentPacket(IpSpec ip, const FragmentSpec& fragment);
// The whole packet, cut into fragments of `bytes` (a multiple of 8) behind the IP headers.
[[nodiscard]] std::vector<Bytes> FragmentPackets(const IpSpec& ip, const Transport& transport,
                                                 size_t bytes, uint32_t identification = 0x1234);

// The same with an Ethernet frame whose packet has no IP options or extension headers.
[[nodiscard]] std::vector<Bytes> CutFrame(const Bytes& frame, size_t bytes,
                                          uint32_t identification = 0x1234);

struct ArpSpec {
  uint16_t operation = 1;
  MacAddress sender_mac = kGuestMac;
  IpAddress sender = kGuest4;
  IpAddress target = kGateway4;
};
[[nodiscard]] Bytes ArpBody(const ArpSpec& spec);

struct EthernetSpec {
  MacAddress destination = kGatewayMac;
  MacAddress source = kGuestMac;
  std::optional<uint16_t> ether_type{};  // unset: by the IP version
};
[[nodiscard]] Bytes EthernetFrame(const Bytes& body, const EthernetSpec& spec = {});

// The two most common ones.
[[nodiscard]] Bytes TcpFrame(Family family, const TcpSpec& spec);
[[nodiscard]] Bytes UdpFrame(Family family, const UdpSpec& spec);
[[nodiscard]] Bytes ArpFrame(const ArpSpec& spec, const MacAddress& destination = kBroadcastMac);

void Put8(Bytes& bytes, size_t at, uint8_t value);
void Put16(Bytes& bytes, size_t at, uint16_t value);
void Put32(Bytes& bytes, size_t at, uint32_t value);
[[nodiscard]] uint16_t Get16(std::span<const uint8_t> bytes, size_t at);
[[nodiscard]] uint32_t Get32(std::span<const uint8_t> bytes, size_t at);
[[nodiscard]] Bytes Concat(const Bytes& first, std::span<const uint8_t> second);

// Recomputes the checksum of the IPv4 header at `at`, whose length is its IHL's.
void FixIpv4Checksum(Bytes& bytes, size_t at = kIpAt);

// One's-complement sum, folded, not complemented; 16 bits at a time.
[[nodiscard]] uint16_t SlowSum(std::span<const uint8_t> bytes, uint32_t sum = 0);
// What a receiver computes over a transport header and payload: 0xffff if right.
[[nodiscard]] uint16_t SlowTransportSum(const IpAddress& source, const IpAddress& destination,
                                        uint8_t protocol, std::span<const uint8_t> transport);

// The stack's side of the default link, with kGuestMac fixed.
[[nodiscard]] ParseOptions TestParseOptions();

// Runs Parse on a copy of `frame` that is exactly as long as the frame, so that a
// sanitizer sees every read behind its end. The packet's views live in `bytes`.
struct Parsed {
  Bytes bytes;
  ParseResult result;

  [[nodiscard]] bool ok() const { return std::holds_alternative<Packet>(result); }
  [[nodiscard]] const Packet& packet() const { return std::get<Packet>(result); }
  [[nodiscard]] const Fragment* fragment() const { return std::get_if<Fragment>(&result); }
  // "tcp_option", "fragment", or "parsed".
  [[nodiscard]] std::string_view outcome() const {
    if (fragment() != nullptr) return "fragment";
    return ok() ? std::string_view("parsed") : Name(std::get<DropCause>(result));
  }
};
[[nodiscard]] Parsed ParseFrame(const Bytes& frame,
                                const ParseOptions& options = TestParseOptions(),
                                const Offload& offload = {});

// Bytes that tell by their value where they belong.
[[nodiscard]] Bytes PatternBytes(size_t length);

}  // namespace penstock

#endif  // PENSTOCK_TESTS_SUPPORT_PACKET_BUILDER_H_
