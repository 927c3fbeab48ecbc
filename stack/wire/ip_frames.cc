// Offsets count from the end of the IP header: the head of what the packet carries is
// cut like the rest of it, but for always being in the first frame. Any thread.
#include "stack/wire/ip_frames.h"

#include <algorithm>

#include "relay/check.h"
#include "stack/wire/protocols.h"
#include "stack/wire/reader.h"

namespace penstock {
namespace {

size_t IpHeaderBytes(Family family) {
  return family == Family::kIpv4 ? kIpv4HeaderBytes : kIpv6HeaderBytes;
}

// Behind the IP header; what its length field can say.
size_t CarriedBytesMax(Family family) {
  return family == Family::kIpv4 ? kIpPacketBytesMax - kIpv4HeaderBytes : kIpPacketBytesMax;
}

}  // namespace

bool IpFrames::FitWhole(const FrameLimits& limits, Family family, size_t bytes) {
  return bytes <= CarriedBytesMax(family) && bytes + IpHeaderBytes(family) <= limits.mtu;
}

IpFrames::IpFrames(const FrameLimits& limits, const IpHeaderFields& ip,
                   std::span<const uint8_t> head, std::span<const uint8_t> payload)
    : link_(limits.link), ip_(ip), payload_(payload) {
  PENSTOCK_CHECK(head.size() <= kHeadBytesMax);
  const Family family = ip.source.family;
  const size_t header_bytes =
      IpHeaderBytes(family) + (family == Family::kIpv4 ? 0 : kIpv6FragmentHeaderBytes);
  const size_t total_bytes = head.size() + payload.size();
  if (total_bytes > CarriedBytesMax(family) || limits.mtu < header_bytes + kHeadBytesMax) return;
  std::ranges::copy(head, head_.begin());
  head_bytes_ = static_cast<uint32_t>(head.size());
  total_bytes_ = static_cast<uint32_t>(total_bytes);
  frame_bytes_max_ = FitWhole(limits, family, total_bytes)
                         ? total_bytes_
                         : static_cast<uint32_t>((limits.mtu - header_bytes) / 8 * 8);
}

IpFrames IpFrames::Of(const FrameLimits& limits, std::span<const uint8_t> packet,
                      uint32_t identification) {
  IpHeaderFields ip{.identification = identification};
  if (const auto v4 = Header<kIpv4HeaderBytes>::At(packet); v4 && v4->U8<0>() >> 4 == 4) {
    ip.source = v4->Ipv4<12>();
    ip.destination = v4->Ipv4<16>();
    ip.hop_limit = v4->U8<8>();
    ip.protocol = v4->U8<9>();
  } else if (const auto v6 = Header<kIpv6HeaderBytes>::At(packet)) {
    ip.source = v6->Ipv6<8>();
    ip.destination = v6->Ipv6<24>();
    ip.hop_limit = v6->U8<7>();
    ip.protocol = v6->U8<6>();
  }
  const size_t header_bytes = std::min(packet.size(), IpHeaderBytes(ip.source.family));
  return {limits, ip, {}, packet.subspan(header_bytes)};
}

std::optional<IpFrame> IpFrames::Next() {
  if (sent_bytes_ == total_bytes_) return std::nullopt;
  const bool first = sent_bytes_ == 0;
  const bool whole = frame_bytes_max_ == total_bytes_;
  const uint32_t bytes = std::min(total_bytes_ - sent_bytes_, frame_bytes_max_);
  ip_.payload_bytes = bytes;
  if (!whole) {
    ip_.fragment = {.offset = static_cast<uint16_t>(sent_bytes_),
                    .more = sent_bytes_ + bytes < total_bytes_};
  }
  const std::span<uint8_t> out = header_;
  size_t used = EmitEthernet(link_, ip_.source.family, out);
  used += EmitIpHeader(ip_, out.subspan(used));
  const uint32_t head_bytes = first ? head_bytes_ : 0;
  std::copy_n(head_.begin(), head_bytes, out.begin() + static_cast<ptrdiff_t>(used));
  used += head_bytes;
  const uint32_t payload_at = first ? 0 : sent_bytes_ - head_bytes_;
  sent_bytes_ += bytes;
  return IpFrame{
      .header = out.first(used),
      .payload = payload_.subspan(payload_at, bytes - head_bytes),
      .offload = {.checksum = whole ? ChecksumState::kComplete : ChecksumState::kUnknown}};
}

}  // namespace penstock
