// Any thread.
#include "stack/service/service_frames.h"

#include "stack/wire/protocols.h"
#include "stack/wire/writer.h"

namespace penstock {
namespace {

// Link and IP header; 0 if they and the payload do not fit.
size_t EmitHeaders(LinkAddresses link, const MacAddress& to, const IpHeaderFields& ip,
                   std::span<uint8_t> out) {
  link.guest_mac = to;
  const size_t link_bytes = EmitEthernet(link, ip.source.family, out);
  if (link.ethernet && link_bytes == 0) return 0;
  const size_t ip_bytes = EmitIpHeader(ip, out.subspan(link_bytes));
  const size_t header_bytes = link_bytes + ip_bytes;
  return ip_bytes == 0 || out.size() - header_bytes < ip.payload_bytes ? 0 : header_bytes;
}

}  // namespace

size_t EmitUdpFrame(LinkAddresses link, const MacAddress& to, const UdpToGuest& datagram,
                    std::span<uint8_t> out) {
  const IpHeaderFields ip{
      .source = datagram.source.address,
      .destination = datagram.destination.address,
      .protocol = kIpProtocolUdp,
      .hop_limit = datagram.hop_limit,
      .payload_bytes = static_cast<uint32_t>(kUdpHeaderBytes + datagram.payload.size())};
  const size_t header_bytes = EmitHeaders(link, to, ip, out);
  if (header_bytes == 0) return 0;
  const auto body = out.subspan(header_bytes);
  EmitUdpHeader(datagram, ChecksumState::kComplete, body);
  Writer(body.subspan(kUdpHeaderBytes)).Bytes(datagram.payload);
  return header_bytes + ip.payload_bytes;
}

size_t EmitIcmpv6Frame(LinkAddresses link, const MacAddress& to, const Icmpv6ToGuest& message,
                       std::span<uint8_t> out) {
  const IpHeaderFields ip{.source = message.source,
                          .destination = message.destination,
                          .protocol = kIpProtocolIcmpv6,
                          .hop_limit = 255,
                          .payload_bytes = static_cast<uint32_t>(message.bytes.size())};
  const size_t header_bytes = EmitHeaders(link, to, ip, out);
  if (header_bytes == 0) return 0;
  const auto body = out.subspan(header_bytes, message.bytes.size());
  Writer(body).Bytes(message.bytes);
  const uint16_t sum =
      PseudoHeaderSum(ip.source, ip.destination, kIpProtocolIcmpv6, ip.payload_bytes);
  Writer(body.subspan(kIcmpChecksumOffset)).U16(ChecksumFinish(ChecksumAdd(body, sum)));
  return header_bytes + body.size();
}

}  // namespace penstock
