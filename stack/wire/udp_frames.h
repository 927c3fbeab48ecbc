// One UDP datagram on its way to the guest, as the frames that carry it: a single one
// where it fits the MTU, IP fragments where it does not.
//
//   UdpFrames frames({.link = link_, .mtu = config_.mtu}, {.source = …, .payload = …});
//   while (const auto frame = frames.Next()) {
//     iovec part{const_cast<uint8_t*>(frame->payload.data()), frame->payload.size()};
//     if (!batch_.Append(frame->header, {}, {&part, 1}, frame->offload)) break;
//   }
//
// Headers are written here and to be copied by the caller; the payload is only cut, so
// that it can leave from where it lies. A caller that stops in the middle has sent a
// datagram that the guest will never see whole. No state but of one datagram; any
// thread.
//
// Read first: RFC 768, RFC 791 2.3 and 3.2, RFC 8200 4.5 and 8.1.
#ifndef PENSTOCK_STACK_WIRE_UDP_FRAMES_H_
#define PENSTOCK_STACK_WIRE_UDP_FRAMES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "relay/endpoint.h"
#include "stack/link/frame.h"
#include "stack/wire/emit.h"

namespace penstock {

// The largest payloads that the length fields can say: UDP's own counts its header of 8
// bytes, IPv4's counts a header of 20 besides, IPv6's none.
inline constexpr size_t kUdpPayloadBytesMaxIpv4 = 65'507, kUdpPayloadBytesMaxIpv6 = 65'527;

struct UdpToGuest {
  Endpoint source;                   // whom the guest thinks it hears
  Endpoint destination;              // the guest; of the same family
  std::span<const uint8_t> payload;  // may be empty; must live until the frames were sent
  // Another one for each datagram between the two addresses: the guest puts fragments
  // together by it. IPv4 has room for the lower 16 bits.
  uint32_t identification = 0;
  uint8_t hop_limit = 64;
  uint8_t traffic_class = 0;
};

struct UdpFrameOptions {
  LinkAddresses link;
  uint32_t mtu = 1500;  // of the guest's link: at least 1280 for IPv6, 576 for IPv4
  // LinkCapabilities::partial_checksum_to_guest. Of use where the datagram is whole: the
  // checksum of fragments is always computed, for it stands in the first of them and
  // the kernel of a guest cannot complete it.
  bool partial_checksum = false;
};

class UdpFrames final {
 public:
  struct Frame {
    // From the Ethernet header (the IP header on an L3 link) to the UDP header or, behind
    // the first fragment, to the end of the IP headers. Valid until the next Next().
    std::span<const uint8_t> header;
    std::span<const uint8_t> payload;  // a part of the datagram's; may be empty
    // kPartial or kComplete of a whole datagram; kUnknown of fragments, whose checksum
    // only the guest can verify, when it has all of them.
    Offload offload;
  };

  // A payload beyond the maximum makes no frame at all.
  UdpFrames(const UdpFrameOptions& options, const UdpToGuest& datagram);

  // From the front of the datagram to its end; nullopt behind the last frame. A whole
  // datagram has IPv4's don't-fragment bit, fragments have not. All fragments but the
  // last are as large as the MTU and multiples of 8 bytes allow.
  [[nodiscard]] std::optional<Frame> Next();

 private:
  static constexpr size_t kHeaderBytesMax = kEthernetHeaderBytes + 40 + 8 + 8;

  const UdpFrameOptions options_;
  const UdpToGuest datagram_;
  uint32_t total_bytes_ = 0;      // UDP header and payload
  uint32_t sent_bytes_ = 0;       // of total_bytes_
  uint32_t frame_bytes_max_ = 0;  // of total_bytes_, in one frame
  std::array<uint8_t, kHeaderBytesMax> header_{};
};

// Eight bytes. `state` kPartial: the checksum field holds the sum of the pseudo-header;
// else it is complete, and 0xffff where the sum is 0, which would say "none".
size_t EmitUdpHeader(const UdpToGuest& datagram, ChecksumState state, std::span<uint8_t> out);

}  // namespace penstock

#endif  // PENSTOCK_STACK_WIRE_UDP_FRAMES_H_
