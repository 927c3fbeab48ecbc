// A packet on its way to the guest, as the frames that carry it: a single one where it
// fits the MTU, IP fragments where it does not.
//
// Headers are written here; what the packet carries is only cut, so that it can leave
// from where it lies. Knows one packet; no other state, any thread.
//
// Read first: RFC 791 2.3 and 3.2, RFC 8200 4.5.
#ifndef PENSTOCK_STACK_WIRE_IP_FRAMES_H_
#define PENSTOCK_STACK_WIRE_IP_FRAMES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "stack/link/frame.h"
#include "stack/wire/emit.h"

namespace penstock {

// One frame: the parts, one behind the other, are its bytes.
struct IpFrame {
  // From the Ethernet header (the IP header on an L3 link) to the head of what the packet
  // carries, which the first frame has whole. Lives until the next one is asked for.
  std::span<const uint8_t> header;
  std::span<const uint8_t> payload;  // a part of the packet's; may be empty
  // kComplete for a whole packet; kUnknown for fragments, of which only the guest can
  // verify the checksum, when it has all of them.
  Offload offload;
};

// The link that frames are cut for.
struct FrameLimits {
  LinkAddresses link;
  uint32_t mtu = 1500;  // bytes of an IP packet
};

class IpFrames final {
 public:
  static constexpr size_t kHeadBytesMax = 8;

  // The packet carries `head`, which is copied, and behind it `payload`, which must live
  // until the frames were sent. `ip` without payload_bytes and fragment. What no IP header
  // can say makes no frame at all, and so does an MTU below any link's for IP.
  IpFrames(const FrameLimits& limits, const IpHeaderFields& ip, std::span<const uint8_t> head,
           std::span<const uint8_t> payload);
  // One that was emitted whole: `packet` begins with an IP header without options or
  // extension headers.
  static IpFrames Of(const FrameLimits& limits, std::span<const uint8_t> packet,
                     uint32_t identification);

  // True if `bytes` behind the IP header fit one frame.
  [[nodiscard]] static bool FitWhole(const FrameLimits& limits, Family family, size_t bytes);

  // From the front of the packet to its end; nullopt behind the last frame. All fragments
  // but the last are as large as the MTU and multiples of 8 bytes allow.
  [[nodiscard]] std::optional<IpFrame> Next();

 private:
  static constexpr size_t kHeaderBytesMax = kEthernetHeaderBytes + 40 + 8 + kHeadBytesMax;

  LinkAddresses link_;
  IpHeaderFields ip_;
  std::array<uint8_t, kHeadBytesMax> head_{};
  uint32_t head_bytes_ = 0;
  std::span<const uint8_t> payload_;
  uint32_t total_bytes_ = 0;      // head and payload
  uint32_t sent_bytes_ = 0;       // of total_bytes_
  uint32_t frame_bytes_max_ = 0;  // of total_bytes_, in one frame
  std::array<uint8_t, kHeaderBytesMax> header_{};
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_WIRE_IP_FRAMES_H_
