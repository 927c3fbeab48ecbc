// The checksum comes before the cut: it stands in the first frame and covers the last.
// Any thread.
#include "stack/wire/udp_frames.h"

#include <array>

#include "stack/wire/protocols.h"
#include "stack/wire/writer.h"

namespace penstock {
namespace {

IpFrames Cut(const UdpFrameOptions& options, const UdpToGuest& datagram, ChecksumState state) {
  std::array<uint8_t, kUdpHeaderBytes> header;
  const size_t header_bytes = EmitUdpHeader(datagram, state, header);
  FrameLimits limits = options.limits;
  if (datagram.segment_bytes != 0) limits.mtu = kIpv6HeaderBytes + kIpPacketBytesMax;
  return {limits,
          {.source = datagram.source.address,
           .destination = datagram.destination.address,
           .protocol = kIpProtocolUdp,
           .hop_limit = datagram.hop_limit,
           .traffic_class = datagram.traffic_class,
           .identification = datagram.identification},
          std::span(header).first(header_bytes),
          datagram.payload};
}

}  // namespace

UdpFrames::UdpFrames(const UdpFrameOptions& options, const UdpToGuest& datagram)
    : partial_(datagram.segment_bytes != 0 ||
               (options.partial_checksum &&
                IpFrames::FitWhole(options.limits, datagram.source.address.family,
                                   kUdpHeaderBytes + datagram.payload.size()))),
      segment_bytes_(datagram.segment_bytes),
      frames_(
          Cut(options, datagram, partial_ ? ChecksumState::kPartial : ChecksumState::kComplete)) {}

std::optional<IpFrame> UdpFrames::Next() {
  std::optional<IpFrame> frame = frames_.Next();
  if (frame && partial_) {
    const size_t udp_at = frame->header.size() - kUdpHeaderBytes;
    frame->offload = {.checksum = ChecksumState::kPartial,
                      .checksum_start = static_cast<uint16_t>(udp_at),
                      .checksum_offset = kUdpChecksumOffset};
    if (segment_bytes_ != 0) {
      frame->offload.gso = Gso::kUdp;
      frame->offload.segment_bytes = segment_bytes_;
      frame->offload.header_bytes = static_cast<uint16_t>(frame->header.size());
    }
  }
  return frame;
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
