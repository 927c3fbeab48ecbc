// A datagram is cut from its UDP header on: that is what IP carries, and what offsets of
// fragments count. Any thread.
#include "stack/wire/udp_frames.h"

#include <algorithm>

#include "stack/wire/protocols.h"
#include "stack/wire/writer.h"

namespace penstock {

UdpFrames::UdpFrames(const UdpFrameOptions& options, const UdpToGuest& datagram)
    : options_(options), datagram_(datagram) {
  const bool v4 = datagram.source.address.is_v4();
  const size_t payload_bytes_max = v4 ? kUdpPayloadBytesMaxIpv4 : kUdpPayloadBytesMaxIpv6;
  const uint32_t ip_bytes = v4 ? kIpv4HeaderBytes : kIpv6HeaderBytes;
  const uint32_t fragment_header_bytes = v4 ? 0 : kIpv6FragmentHeaderBytes;
  // Less than this is no link for IP, and would leave no room for eight bytes.
  if (options.mtu < ip_bytes + fragment_header_bytes + 8) return;
  if (datagram.payload.size() > payload_bytes_max) return;
  total_bytes_ = static_cast<uint32_t>(kUdpHeaderBytes + datagram.payload.size());
  frame_bytes_max_ = total_bytes_ <= options.mtu - ip_bytes
                         ? total_bytes_
                         : (options.mtu - ip_bytes - fragment_header_bytes) / 8 * 8;
}

std::optional<UdpFrames::Frame> UdpFrames::Next() {
  if (sent_bytes_ == total_bytes_) return std::nullopt;
  const bool first = sent_bytes_ == 0;
  const bool whole = frame_bytes_max_ == total_bytes_;
  const uint32_t bytes = std::min(total_bytes_ - sent_bytes_, frame_bytes_max_);
  IpHeaderFields ip{.source = datagram_.source.address,
                    .destination = datagram_.destination.address,
                    .protocol = kIpProtocolUdp,
                    .hop_limit = datagram_.hop_limit,
                    .traffic_class = datagram_.traffic_class,
                    .identification = datagram_.identification,
                    .payload_bytes = bytes};
  if (!whole) {
    ip.fragment = {.offset = static_cast<uint16_t>(sent_bytes_),
                   .more = sent_bytes_ + bytes < total_bytes_};
  }
  const std::span<uint8_t> out = header_;
  size_t used = EmitEthernet(options_.link, ip.source.family, out);
  used += EmitIpHeader(ip, out.subspan(used));
  Offload offload;
  if (whole && options_.partial_checksum) {
    offload = {.checksum = ChecksumState::kPartial,
               .checksum_start = static_cast<uint16_t>(used),
               .checksum_offset = kUdpChecksumOffset};
  } else if (whole) {
    offload = {.checksum = ChecksumState::kComplete};
  }
  if (first) used += EmitUdpHeader(datagram_, offload.checksum, out.subspan(used));
  const uint32_t udp_header_bytes = first ? kUdpHeaderBytes : 0;
  const size_t payload_at = first ? 0 : sent_bytes_ - kUdpHeaderBytes;
  sent_bytes_ += bytes;
  return Frame{.header = out.first(used),
               .payload = datagram_.payload.subspan(payload_at, bytes - udp_header_bytes),
               .offload = offload};
}

size_t EmitUdpHeader(const UdpToGuest& datagram, ChecksumState state, std::span<uint8_t> out) {
  const auto length = static_cast<uint16_t>(kUdpHeaderBytes + datagram.payload.size());
  uint16_t checksum = PseudoHeaderSum(datagram.source.address, datagram.destination.address,
                                      kIpProtocolUdp, length);
  if (state != ChecksumState::kPartial) {
    const uint64_t ports_and_length =
        uint64_t{datagram.source.port} + datagram.destination.port + length;
    checksum = ChecksumFinish(ChecksumAdd(datagram.payload, checksum + ports_and_length));
    if (checksum == 0) checksum = 0xffff;
  }
  Writer writer(out);
  writer.U16(datagram.source.port);
  writer.U16(datagram.destination.port);
  writer.U16(length);
  writer.U16(checksum);
  return writer.length();
}

}  // namespace penstock
