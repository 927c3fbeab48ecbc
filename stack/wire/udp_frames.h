// One UDP datagram on its way to the guest, as the frames that carry it: a single one
// where it fits the MTU, IP fragments where it does not (ip_frames.h).
//
//   UdpFrames frames({.limits = {.link = link_, .mtu = config_.mtu}},
//                    {.source = peer, .destination = guest, .payload = bytes,
//                     .identification = identification_++});
//   while (const auto frame = frames.Next()) {
//     iovec part{const_cast<uint8_t*>(frame->payload.data()), frame->payload.size()};
//     if (!batch_.Append(frame->header, {}, {&part, 1}, frame->offload)) break;
//   }
//
// A caller that stops in the middle has sent a datagram that the guest will never see
// whole. Knows one datagram; no other state, any thread.
//
// Read first: RFC 768, RFC 8200 8.1.
#ifndef PENSTOCK_STACK_WIRE_UDP_FRAMES_H_
#define PENSTOCK_STACK_WIRE_UDP_FRAMES_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "relay/endpoint.h"
#include "stack/link/frame.h"
#include "stack/wire/emit.h"
#include "stack/wire/ip_frames.h"

namespace penstock {

// The largest payloads that the length fields can say: UDP's own counts its header of 8
// bytes, IPv4's counts a header of 20 besides, IPv6's none.
inline constexpr size_t kUdpPayloadBytesMaxIpv4 = 65'507, kUdpPayloadBytesMaxIpv6 = 65'527;

struct UdpToGuest {
  Endpoint source;                   // whom the guest thinks it hears
  Endpoint destination;              // the guest; of the same family
  std::span<const uint8_t> payload;  // may be empty; must live until the frames were sent
  // Another one for each datagram between the two addresses, of whatever protocol (IPv6
  // does not tell them apart): the guest puts fragments together by it. IPv4 has room for
  // the lower 16 bits.
  uint32_t identification = 0;
  uint8_t hop_limit = 64;
  uint8_t traffic_class = 0;
  // Not 0: `payload` is several datagrams of so many bytes each, the last one perhaps
  // shorter, which leave as one frame for the link to cut (LinkCapabilities::
  // udp_gso_to_guest). Each must fit the MTU.
  uint16_t segment_bytes = 0;
};

struct UdpFrameOptions {
  FrameLimits limits;
  // LinkCapabilities::partial_checksum_to_guest. Of use where the datagram is whole: the
  // checksum of fragments is always computed, for no link completes it.
  bool partial_checksum = false;
};

class UdpFrames final {
 public:
  // A payload beyond the maximum makes no frame at all.
  UdpFrames(const UdpFrameOptions& options, const UdpToGuest& datagram);

  // From the front of the datagram to its end; nullopt behind the last frame. A whole
  // datagram has IPv4's don't-fragment bit, fragments have not. `offload` of a whole one
  // is kPartial if the options say so.
  [[nodiscard]] std::optional<IpFrame> Next();

 private:
  const bool partial_ = false;
  const uint16_t segment_bytes_ = 0;
  IpFrames frames_;
};

// Eight bytes. `state` kPartial: the checksum field holds the sum of the pseudo-header;
// else it is complete, and 0xffff where it comes out as 0, which would say "none".
size_t EmitUdpHeader(const UdpToGuest& datagram, ChecksumState state, std::span<uint8_t> out);

}  // namespace penstock

#endif  // PENSTOCK_STACK_WIRE_UDP_FRAMES_H_
