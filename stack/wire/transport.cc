// The checksum comes before everything that a flipped bit could fake, and before
// the header is changed. lwIP verifies none itself, so a defused header keeps its
// old checksum. Any thread.
#include "stack/wire/transport.h"

#include <algorithm>

#include "stack/wire/emit.h"
#include "stack/wire/icmp.h"
#include "stack/wire/protocols.h"
#include "stack/wire/reader.h"

namespace penstock {
namespace {

using Drop = std::optional<DropCause>;

// TCP options (IANA "TCP Option Kind Numbers")
constexpr uint8_t kMss = 2, kWindowScale = 3, kSackPermitted = 4, kTimestamps = 8;
// RFC 7323 2.3: a greater one must be taken as 14.
constexpr uint8_t kWindowScaleMax = 14;

bool ChecksumHolds(const Packet& packet, uint8_t ip_protocol) {
  uint64_t sum = 0;
  if (ip_protocol != kIpProtocolIcmpv4) {
    sum = PseudoHeaderSum(packet.source, packet.destination, ip_protocol,
                          static_cast<uint32_t>(packet.transport.size()));
  }
  return ChecksumFinish(ChecksumAdd(packet.transport, sum)) == 0;
}

// A link that leaves TCP unsegmented may also leave the checksum partial without
// saying so: then the field holds the sum of the pseudo-header.
bool IsSilentlyPartial(const Packet& packet, uint16_t field) {
  return field == PseudoHeaderSum(packet.source, packet.destination, kIpProtocolTcp,
                                  static_cast<uint32_t>(packet.transport.size()));
}

// What no TCP sends and every receiver may discard: without SYN, RST or ACK there
// is nothing that a segment could say (RFC 9293 3.10.7); SYN contradicts both FIN
// and RST.
bool IsNonsense(uint8_t flags) {
  if ((flags & (kTcpSyn | kTcpRst | kTcpAck)) == 0) return true;
  return (flags & kTcpSyn) != 0 && (flags & (kTcpFin | kTcpRst)) != 0;
}

// The length of each option whose content anybody reads; 0: any.
size_t RequiredBytes(uint8_t kind) {
  switch (kind) {
    case kMss:
      return 4;
    case kWindowScale:
      return 3;
    case kSackPermitted:
      return 2;
    case kTimestamps:
      return 10;
    default:
      return 0;
  }
}

bool IsNegotiatedOnce(uint8_t kind) {
  return kind == kMss || kind == kWindowScale || kind == kSackPermitted;
}

void OverwriteWithNop(std::span<uint8_t> option) { std::ranges::fill(option, OptionWalk::kNop); }

Drop TakeTcpOptions(std::span<uint8_t> options, TcpFields& tcp) {
  OptionWalk walk(options);
  while (const auto option = walk.Next()) {
    const uint8_t kind = (*option)[0];
    const size_t required = RequiredBytes(kind);
    if (required != 0 && option->size() != required) return DropCause::kTcpOption;
    if ((tcp.flags & kTcpSyn) == 0) {
      if (IsNegotiatedOnce(kind)) OverwriteWithNop(*option);
    } else if (kind == kMss) {
      if (tcp.mss) return DropCause::kTcpOption;
      tcp.mss = Header<4>::At(*option)->U16<2>();
    } else if (kind == kWindowScale) {
      if (tcp.window_scale) return DropCause::kTcpOption;
      tcp.window_scale = std::min(Header<3>::At(*option)->U8<2>(), kWindowScaleMax);
    }
  }
  return walk.malformed() ? Drop(DropCause::kTcpOption) : Drop();
}

// ECN is declined, and urgent data is data like any other.
void DefuseFlags(std::span<uint8_t> transport, TcpFields& tcp) {
  constexpr uint8_t kCleared = kTcpUrg | kTcpEce | kTcpCwr;
  tcp.flags &= static_cast<uint8_t>(~kCleared);
  const auto header = transport.first<kTcpHeaderBytes>();
  header[13] = tcp.flags;
  header[18] = header[19] = 0;
}

Drop ParseTcp(const FrameToHost& frame, const ParseOptions& options, Packet& packet) {
  const auto header = Header<kTcpHeaderBytes>::At(packet.transport);
  if (!header) return DropCause::kTcpHeaderLength;
  const size_t header_bytes = size_t{header->U8<12>()} / 16 * 4;
  if (header_bytes < kTcpHeaderBytes || header_bytes > packet.transport.size()) {
    return DropCause::kTcpHeaderLength;
  }
  if (!OffloadMatches(frame, packet)) return DropCause::kOffloadMismatch;
  if (frame.offload.checksum == ChecksumState::kUnknown) {
    const bool holds = (options.unsegmented_tcp_to_host &&
                        IsSilentlyPartial(packet, header->U16<kTcpChecksumOffset>())) ||
                       ChecksumHolds(packet, kIpProtocolTcp);
    if (!holds) return DropCause::kTcpChecksum;
  }
  packet.source_port = header->U16<0>();
  packet.destination_port = header->U16<2>();
  if (packet.source_port == 0 || packet.destination_port == 0) return DropCause::kTcpPortZero;
  packet.tcp = {.sequence = header->U32<4>(),
                .acknowledgement = header->U32<8>(),
                .window = header->U16<14>(),
                .flags = header->U8<13>(),
                .header_bytes = static_cast<uint16_t>(header_bytes)};
  if (IsNonsense(packet.tcp.flags)) return DropCause::kTcpFlags;
  const auto tcp_options =
      packet.transport.subspan(kTcpHeaderBytes, header_bytes - kTcpHeaderBytes);
  if (const Drop drop = TakeTcpOptions(tcp_options, packet.tcp)) return drop;
  DefuseFlags(packet.transport, packet.tcp);
  packet.payload = packet.transport.subspan(header_bytes);
  return std::nullopt;
}

// As many as Linux makes one frame of (UDP_MAX_SEGMENTS).
constexpr size_t kUdpSegmentCountMax = 128;

// `packet` is several datagrams that the guest left to us to cut.
Drop TakeUdpSegments(const Offload& offload, const ParseOptions& options, Packet& packet) {
  const size_t header_bytes = packet.ip.size() - packet.payload.size();
  if (header_bytes + offload.segment_bytes > options.mtu ||
      packet.payload.size() > kUdpSegmentCountMax * offload.segment_bytes) {
    return DropCause::kOffloadMismatch;
  }
  if (packet.payload.size() > offload.segment_bytes) packet.segment_bytes = offload.segment_bytes;
  return std::nullopt;
}

Drop ParseUdp(const FrameToHost& frame, const ParseOptions& options, Packet& packet) {
  const auto header = Header<kUdpHeaderBytes>::At(packet.transport);
  if (!header) return DropCause::kUdpLength;
  const size_t udp_bytes = header->U16<4>();
  if (udp_bytes < kUdpHeaderBytes || udp_bytes > packet.transport.size()) {
    return DropCause::kUdpLength;
  }
  packet.transport = packet.transport.first(udp_bytes);
  if (!OffloadMatches(frame, packet)) return DropCause::kOffloadMismatch;
  const bool has_checksum = header->U16<kUdpChecksumOffset>() != 0;
  if (!has_checksum && packet.source.is_v6()) return DropCause::kUdpChecksum;  // RFC 8200 8.1
  if (frame.offload.checksum == ChecksumState::kUnknown && has_checksum &&
      !ChecksumHolds(packet, kIpProtocolUdp)) {
    return DropCause::kUdpChecksum;
  }
  packet.source_port = header->U16<0>();
  packet.destination_port = header->U16<2>();
  packet.payload = packet.transport.subspan(kUdpHeaderBytes);
  return frame.offload.gso == Gso::kUdp ? TakeUdpSegments(frame.offload, options, packet) : Drop();
}

Drop ParseIcmp(uint8_t ip_protocol, const FrameToHost& frame, Packet& packet) {
  if (!Header<kIcmpHeaderBytes>::At(packet.transport)) return DropCause::kIcmpMalformed;
  if (!OffloadMatches(frame, packet)) return DropCause::kOffloadMismatch;
  if (frame.offload.checksum == ChecksumState::kUnknown && !ChecksumHolds(packet, ip_protocol)) {
    return DropCause::kIcmpChecksum;
  }
  return ip_protocol == kIpProtocolIcmpv6 ? CheckNeighbourDiscovery(packet) : Drop();
}

}  // namespace

bool OffloadMatches(const FrameToHost& frame, const Packet& packet) {
  const Offload& offload = frame.offload;
  const bool tcp = packet.protocol == Protocol::kTcp;
  const bool udp = packet.protocol == Protocol::kUdp;
  if (offload.checksum == ChecksumState::kPartial) {
    const auto start = packet.transport.data() - frame.bytes().data();
    const size_t field = tcp ? kTcpChecksumOffset : kUdpChecksumOffset;
    if (!(tcp || udp) || offload.checksum_start != start || offload.checksum_offset != field) {
      return false;
    }
  }
  if (offload.gso != Gso::kNone && offload.segment_bytes == 0) return false;
  switch (offload.gso) {
    case Gso::kNone:
      return true;
    case Gso::kTcp4:
      return tcp && packet.source.is_v4();
    case Gso::kTcp6:
      return tcp && packet.source.is_v6();
    case Gso::kUdp:
      return udp;
  }
  return false;
}

std::optional<DropCause> ParseTransport(uint8_t ip_protocol, const FrameToHost& frame,
                                        const ParseOptions& options, Packet& packet) {
  const bool v4 = packet.source.is_v4();
  if (ip_protocol == kIpProtocolTcp) {
    packet.protocol = Protocol::kTcp;
    return ParseTcp(frame, options, packet);
  }
  if (ip_protocol == kIpProtocolUdp) {
    packet.protocol = Protocol::kUdp;
    return ParseUdp(frame, options, packet);
  }
  if (ip_protocol == (v4 ? kIpProtocolIcmpv4 : kIpProtocolIcmpv6)) {
    packet.protocol = v4 ? Protocol::kIcmpv4 : Protocol::kIcmpv6;
    return ParseIcmp(ip_protocol, frame, packet);
  }
  return DropCause::kUnknownProtocol;
}

void DefuseTcpOptions(std::span<uint8_t> tcp_header) {
  if (tcp_header.size() < kTcpHeaderBytes) return;
  OptionWalk walk(tcp_header.subspan(kTcpHeaderBytes));
  while (const auto option = walk.Next()) {
    if (IsNegotiatedOnce((*option)[0])) OverwriteWithNop(*option);
  }
}

}  // namespace penstock
