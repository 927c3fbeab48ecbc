// What a frame is between a link and the stack: bytes, and what the link knows
// about checksums and segmentation. Each link translates its own form (a tap's
// virtio-net header, a socket without one) to and from this.
//
// Frames *to host* come from the guest; frames *to guest* go to it. Offload
// fields of a frame to host are the guest's word: the parser (stack/wire) checks
// them against the bytes and never follows them.
#ifndef PENSTOCK_STACK_LINK_FRAME_H_
#define PENSTOCK_STACK_LINK_FRAME_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace penstock {

// The largest frame a link carries: 65,535 bytes of IP behind a 14-byte
// Ethernet header and, for links that read it into the same buffer, a virtio-net
// header of 12; rounded up to a multiple of 32.
inline constexpr size_t kFrameBytesMax = 65'600;
inline constexpr size_t kEthernetHeaderBytes = 14;

enum class ChecksumState : uint8_t {
  kUnknown,   // nobody vouches for it: the parser verifies it
  kComplete,  // vouched for by the link
  kPartial,   // the TCP/UDP checksum field holds only the folded, not
              // complemented sum of the pseudo-header; the bytes were never on a wire
};

enum class Gso : uint8_t { kNone, kTcp4, kTcp6, kUdp };

struct Offload {
  ChecksumState checksum = ChecksumState::kUnknown;
  Gso gso = Gso::kNone;
  // For kPartial: offset of the TCP/UDP header in the frame, and of the checksum
  // field within that header.
  uint16_t checksum_start = 0;
  uint16_t checksum_offset = 0;
  // For gso != kNone: payload bytes of each segment, and bytes of all headers
  // (Ethernet up to and including TCP).
  uint16_t segment_bytes = 0;
  uint16_t header_bytes = 0;
};

// A frame from the guest. The caller of Link::Receive sets `room`, the link
// fills it from the start and sets the rest.
struct FrameToHost {
  std::span<uint8_t> room;  // at least kFrameBytesMax
  uint32_t length = 0;      // bytes of `room` used
  Offload offload;

  [[nodiscard]] std::span<uint8_t> bytes() const { return room.first(length); }
};

// A frame for the guest: the parts, one after the other, are its bytes. They
// live until Link::Send returns; a link that keeps a frame longer copies it.
struct FrameToGuest {
  std::span<const iovec> parts;  // at most kFramePartsMax
  uint32_t length = 0;           // sum of the parts
  Offload offload;
};

inline constexpr size_t kFramePartsMax = 16;

}  // namespace penstock

#endif  // PENSTOCK_STACK_LINK_FRAME_H_
