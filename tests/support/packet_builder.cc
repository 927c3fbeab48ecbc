// See the header. Everything goes through at(), so that a builder's own mistake
// ends the test and not in a wrong frame.
#include "tests/support/packet_builder.h"

#include <algorithm>

namespace penstock {
namespace {

constexpr uint8_t kTcp = 6, kUdp = 17, kIcmpv4 = 1, kIcmpv6 = 58;

void Append(Bytes& bytes, std::span<const uint8_t> more) {
  bytes.insert(bytes.end(), more.begin(), more.end());
}

void Append16(Bytes& bytes, uint16_t value) {
  bytes.push_back(static_cast<uint8_t>(value >> 8));
  bytes.push_back(static_cast<uint8_t>(value));
}

void Append32(Bytes& bytes, uint32_t value) {
  Append16(bytes, static_cast<uint16_t>(value >> 16));
  Append16(bytes, static_cast<uint16_t>(value));
}

Bytes Padded(Bytes bytes, size_t multiple) {
  while (bytes.size() % multiple != 0) bytes.push_back(0);
  return bytes;
}

std::optional<size_t> ChecksumAt(uint8_t protocol) {
  switch (protocol) {
    case kTcp:
      return 16;
    case kUdp:
      return 6;
    case kIcmpv4:
    case kIcmpv6:
      return 2;
    default:
      return std::nullopt;
  }
}

// The transport's bytes with the checksum filled in.
Bytes Sealed(const IpSpec& spec, const Transport& transport) {
  Bytes bytes = transport.bytes;
  const auto at = ChecksumAt(transport.protocol);
  if (!at || bytes.size() < *at + 2) return bytes;
  Put16(bytes, *at, 0);
  auto sum = static_cast<uint16_t>(
      ~SlowTransportSum(spec.source, spec.destination, transport.protocol, bytes));
  if (transport.protocol == kUdp && sum == 0) sum = 0xffff;
  Put16(bytes, *at, sum);
  return bytes;
}

Bytes Ipv4Packet(const IpSpec& spec, uint8_t protocol, const Bytes& payload) {
  const Bytes options = Padded(spec.options, 4);
  const size_t header_bytes = 20 + options.size();
  Bytes bytes{static_cast<uint8_t>(0x40 | header_bytes / 4), spec.traffic_class};
  Append16(bytes, static_cast<uint16_t>(header_bytes + payload.size()));
  Append16(bytes, spec.identification);
  Append16(bytes, spec.fragment_field);
  bytes.push_back(spec.hop_limit);
  bytes.push_back(protocol);
  Append16(bytes, 0);
  Append(bytes, spec.source.wire());
  Append(bytes, spec.destination.wire());
  Append(bytes, options);
  FixIpv4Checksum(bytes, 0);
  Append(bytes, payload);
  return bytes;
}

Bytes Ipv6Packet(const IpSpec& spec, uint8_t protocol, const Bytes& payload) {
  Bytes chain;
  for (size_t i = 0; i < spec.extensions.size(); ++i) {
    const bool last = i + 1 == spec.extensions.size();
    Bytes header{last ? protocol : spec.extensions[i + 1].protocol};
    Append(header, spec.extensions[i].body);
    Append(chain, Padded(header, 8));
  }
  Bytes bytes;
  Append32(bytes, 0x6000'0000 | uint32_t{spec.traffic_class} << 20);
  Append16(bytes, static_cast<uint16_t>(chain.size() + payload.size()));
  bytes.push_back(spec.extensions.empty() ? protocol : spec.extensions[0].protocol);
  bytes.push_back(spec.hop_limit);
  Append(bytes, spec.source.wire());
  Append(bytes, spec.destination.wire());
  Append(bytes, chain);
  Append(bytes, payload);
  return bytes;
}

Transport IcmpMessage(uint8_t protocol, const IcmpSpec& spec) {
  Bytes bytes{spec.type, spec.code, 0, 0};
  Append32(bytes, spec.rest_of_header);
  Append(bytes, spec.body);
  return {protocol, bytes};
}

}  // namespace

Transport TcpSegment(const TcpSpec& spec) {
  const Bytes options = Padded(spec.options, 4);
  Bytes bytes;
  Append16(bytes, spec.source_port);
  Append16(bytes, spec.destination_port);
  Append32(bytes, spec.sequence);
  Append32(bytes, spec.acknowledgement);
  bytes.push_back(static_cast<uint8_t>((20 + options.size()) / 4 << 4));
  bytes.push_back(spec.flags);
  Append16(bytes, spec.window);
  Append16(bytes, 0);
  Append16(bytes, spec.urgent_pointer);
  Append(bytes, options);
  Append(bytes, spec.payload);
  return {kTcp, bytes};
}

Transport UdpDatagram(const UdpSpec& spec) {
  Bytes bytes;
  Append16(bytes, spec.source_port);
  Append16(bytes, spec.destination_port);
  Append16(bytes, static_cast<uint16_t>(8 + spec.payload.size()));
  Append16(bytes, 0);
  Append(bytes, spec.payload);
  return {kUdp, bytes};
}

Transport Icmpv4Message(const IcmpSpec& spec) { return IcmpMessage(kIcmpv4, spec); }
Transport Icmpv6Message(const IcmpSpec& spec) { return IcmpMessage(kIcmpv6, spec); }

Transport EchoRequest(Family family, const Bytes& data) {
  const bool v4 = family == Family::kIpv4;
  return IcmpMessage(
      v4 ? kIcmpv4 : kIcmpv6,
      {.type = static_cast<uint8_t>(v4 ? 8 : 128), .rest_of_header = 0x0102'0003, .body = data});
}

Transport Solicitation(const IpAddress& target, const Bytes& options, uint8_t type) {
  Bytes body(target.wire().begin(), target.wire().end());
  Append(body, options);
  return Icmpv6Message({.type = type, .body = body});
}

Bytes IpPacket(const IpSpec& spec, const Transport& transport) {
  const Bytes payload = Sealed(spec, transport);
  return spec.source.is_v4() ? Ipv4Packet(spec, transport.protocol, payload)
                             : Ipv6Packet(spec, transport.protocol, payload);
}

namespace {

// `whole` with its checksum, cut.
std::vector<Bytes> Cut(const IpSpec& ip, const Transport& whole, size_t bytes,
                       uint32_t identification) {
  std::vector<Bytes> packets;
  for (size_t at = 0; at < whole.bytes.size(); at += bytes) {
    const size_t end = std::min(at + bytes, whole.bytes.size());
    const auto begin = whole.bytes.begin();
    packets.push_back(FragmentPacket(
        ip, {.offset = static_cast<uint32_t>(at),
             .more = end < whole.bytes.size(),
             .data = Bytes(begin + static_cast<ptrdiff_t>(at), begin + static_cast<ptrdiff_t>(end)),
             .protocol = whole.protocol,
             .identification = identification}));
  }
  return packets;
}

}  // namespace

Bytes FragmentPacket(IpSpec ip, const FragmentSpec& fragment) {
  if (ip.source.is_v4()) {
    ip.fragment_field = static_cast<uint16_t>(fragment.offset / 8 | (fragment.more ? 0x2000 : 0));
    ip.identification = static_cast<uint16_t>(fragment.identification);
    return Ipv4Packet(ip, fragment.protocol, fragment.data);
  }
  Bytes header{0};
  Append16(header, static_cast<uint16_t>(fragment.offset | (fragment.more ? 1 : 0)));
  Append32(header, fragment.identification);
  ip.extensions.push_back({44, header});
  return Ipv6Packet(ip, fragment.protocol, fragment.data);
}

std::vector<Bytes> FragmentPackets(const IpSpec& ip, const Transport& transport, size_t bytes,
                                   uint32_t identification) {
  return Cut(ip, {transport.protocol, Sealed(ip, transport)}, bytes, identification);
}

std::vector<Bytes> CutFrame(const Bytes& frame, size_t bytes, uint32_t identification) {
  const bool v4 = frame.at(kIpAt) >> 4 == 4;
  const size_t address_bytes = v4 ? 4 : 16, addresses_at = kIpAt + (v4 ? 12 : 8);
  IpSpec ip;
  for (IpAddress* address : {&ip.source, &ip.destination}) {
    address->family = v4 ? Family::kIpv4 : Family::kIpv6;
    const size_t at = addresses_at + (address == &ip.source ? 0 : address_bytes);
    for (size_t i = 0; i < address_bytes; ++i) address->bytes[i] = frame.at(at + i);
  }
  ip.hop_limit = frame.at(kIpAt + (v4 ? 8 : 7));
  const size_t transport_at = kIpAt + (v4 ? 20 : 40);
  const Transport whole{frame.at(kIpAt + (v4 ? 9 : 6)),
                        Bytes(frame.begin() + static_cast<ptrdiff_t>(transport_at), frame.end())};
  const Bytes ethernet(frame.begin(), frame.begin() + kIpAt);
  std::vector<Bytes> frames;
  for (const Bytes& packet : Cut(ip, whole, bytes, identification)) {
    frames.push_back(Concat(ethernet, packet));
  }
  return frames;
}

Bytes ArpBody(const ArpSpec& spec) {
  Bytes bytes{0, 1, 8, 0, 6, 4};
  Append16(bytes, spec.operation);
  Append(bytes, spec.sender_mac);
  Append(bytes, spec.sender.wire());
  Append(bytes, MacAddress{});
  Append(bytes, spec.target.wire());
  return bytes;
}

Bytes EthernetFrame(const Bytes& body, const EthernetSpec& spec) {
  Bytes bytes;
  Append(bytes, spec.destination);
  Append(bytes, spec.source);
  const bool v6 = !body.empty() && body[0] >> 4 == 6;
  Append16(bytes, spec.ether_type.value_or(v6 ? 0x86dd : 0x0800));
  Append(bytes, body);
  return bytes;
}

Bytes TcpFrame(Family family, const TcpSpec& spec) {
  return EthernetFrame(
      IpPacket({.source = Guest(family), .destination = Peer(family)}, TcpSegment(spec)));
}

Bytes UdpFrame(Family family, const UdpSpec& spec) {
  return EthernetFrame(
      IpPacket({.source = Guest(family), .destination = Peer(family)}, UdpDatagram(spec)));
}

Bytes ArpFrame(const ArpSpec& spec, const MacAddress& destination) {
  return EthernetFrame(ArpBody(spec), {.destination = destination, .ether_type = 0x0806});
}

void Put8(Bytes& bytes, size_t at, uint8_t value) { bytes.at(at) = value; }

void Put16(Bytes& bytes, size_t at, uint16_t value) {
  Put8(bytes, at, static_cast<uint8_t>(value >> 8));
  Put8(bytes, at + 1, static_cast<uint8_t>(value));
}

void Put32(Bytes& bytes, size_t at, uint32_t value) {
  Put16(bytes, at, static_cast<uint16_t>(value >> 16));
  Put16(bytes, at + 2, static_cast<uint16_t>(value));
}

uint16_t Get16(std::span<const uint8_t> bytes, size_t at) {
  const auto two = Bytes(bytes.begin(), bytes.end());
  return static_cast<uint16_t>(two.at(at) << 8 | two.at(at + 1));
}

uint32_t Get32(std::span<const uint8_t> bytes, size_t at) {
  return uint32_t{Get16(bytes, at)} << 16 | Get16(bytes, at + 2);
}

Bytes Concat(const Bytes& first, std::span<const uint8_t> second) {
  Bytes result = first;
  Append(result, second);
  return result;
}

void FixIpv4Checksum(Bytes& bytes, size_t at) {
  const size_t header_bytes = bytes.at(at) % 16 * size_t{4};
  Put16(bytes, at + 10, 0);
  const auto header = std::span(bytes).subspan(at, header_bytes);
  Put16(bytes, at + 10, static_cast<uint16_t>(~SlowSum(header)));
}

uint16_t SlowSum(std::span<const uint8_t> bytes, uint32_t sum) {
  uint64_t total = sum;
  for (size_t i = 0; i + 1 < bytes.size(); i += 2) {
    total += uint32_t{bytes[i]} << 8 | uint32_t{bytes[i + 1]};
  }
  if (bytes.size() % 2 != 0) total += uint32_t{bytes.back()} << 8;
  while (total > 0xffff) total = (total & 0xffff) + (total >> 16);
  return static_cast<uint16_t>(total);
}

uint16_t SlowTransportSum(const IpAddress& source, const IpAddress& destination, uint8_t protocol,
                          std::span<const uint8_t> transport) {
  if (protocol == kIcmpv4) return SlowSum(transport);
  Bytes pseudo;
  Append(pseudo, source.wire());
  Append(pseudo, destination.wire());
  Append32(pseudo, static_cast<uint32_t>(transport.size()));
  Append32(pseudo, protocol);
  return SlowSum(transport, SlowSum(pseudo));
}

ParseOptions TestParseOptions() {
  return {.gateway_mac = kGatewayMac,
          .guest_mac = kGuestMac,
          .ipv4 = kTestConfig.ipv4,
          .ipv6 = kTestConfig.ipv6};
}

Parsed ParseFrame(const Bytes& frame, const ParseOptions& options, const Offload& offload) {
  Parsed parsed{.bytes = frame, .result = {}};
  parsed.result = Parse({.room = parsed.bytes,
                         .length = static_cast<uint32_t>(parsed.bytes.size()),
                         .offload = offload},
                        options);
  return parsed;
}

Bytes PatternBytes(size_t length) {
  Bytes bytes(length);
  for (size_t i = 0; i < length; ++i) bytes[i] = static_cast<uint8_t>(i * 7 + i / 256);
  return bytes;
}

}  // namespace penstock
