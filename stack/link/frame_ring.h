// A link for a VMM that emulates a network device in the same process: two
// bounded lock-free rings of frames, one for each direction, and a doorbell for
// each end.
//
//   auto rings = FrameRings::Create({.capabilities = {.partial_checksum_to_guest = true}});
//   auto stack = Stack::Create({}, std::move(rings->stack_end));   // poll thread
//   vmm_end->SendToHost(frame, offload);                           // VMM thread
//   while (auto frame = vmm_end->FrontToGuest()) { …; vmm_end->PopToGuest(); }
//
// Wake-ups. An end that found its ring empty is asleep; the first frame after
// that rings its doorbell, further ones do not. A doorbell stays readable until
// its owner has drained the ring, so a poll loop may stop half-way: "not asleep"
// always means "rung and not yet quiet".
//
// Full rings. To host: the frame is dropped and counted, as a full queue of a
// network card would. To guest: Send takes fewer frames than offered and asks for
// room; once half of the ring is free the VMM end rings the *stack's* doorbell.
// So it is the descriptor getting readable, not writable (it never is), that
// tells a stack to offer the rest again.
//
// Closing either end rings the other, which sees ended() after it has received
// what was sent before.
//
// Both ends trust one another (one process); the bytes and offload fields in the
// frames are the guest's word as on any link.
#ifndef PENSTOCK_STACK_LINK_FRAME_RING_H_
#define PENSTOCK_STACK_LINK_FRAME_RING_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "absl/status/statusor.h"
#include "stack/link/frame.h"
#include "stack/link/link.h"
#include "stack/link/record_ring.h"

namespace penstock {

struct FrameRingsOptions {
  // Memory of each ring: a power of two from 256 KiB to 1 GiB. 4 MiB holds 60
  // super-segments of 64 KiB or 2,700 frames of 1,500 bytes; pages that were
  // never used cost nothing.
  size_t to_host_bytes = size_t{4} << 20;
  size_t to_guest_bytes = size_t{4} << 20;
  // What the stack may do; offloads to guest only where the guest's driver has
  // agreed to them.
  LinkCapabilities capabilities{};
};

struct FrameRingsShared;

// The VMM's end. One thread, but for the destructor's wish that this thread has
// stopped using it.
class FrameRingsGuestEnd final {
 public:
  explicit FrameRingsGuestEnd(std::shared_ptr<FrameRingsShared> shared);
  ~FrameRingsGuestEnd();
  FrameRingsGuestEnd(const FrameRingsGuestEnd&) = delete;
  FrameRingsGuestEnd& operator=(const FrameRingsGuestEnd&) = delete;

  // Copies one frame, the parts one after the other, into the ring. False: it was
  // dropped and counted (the ring is full, the stack's end is closed, or the
  // frame is empty or larger than kFrameBytesMax).
  bool SendToHost(std::span<const iovec> parts, const Offload& offload);
  bool SendToHost(std::span<const uint8_t> frame, const Offload& offload);

  // The oldest frame for the guest; its bytes stay in the ring and valid until
  // PopToGuest. Nothing: drained, and the doorbell rings for the next one. A VMM
  // whose guest has no buffer leaves the frame where it is.
  [[nodiscard]] std::optional<RecordRing::Record> FrontToGuest();
  // Drops the frame that FrontToGuest returned.
  void PopToGuest();

  // Readable while frames for the guest wait, and after the stack's end closed.
  [[nodiscard]] int descriptor() const;
  // The stack's end is closed and FrontToGuest has found nothing since.
  [[nodiscard]] bool ended() const { return ended_; }
  [[nodiscard]] uint64_t frames_dropped() const;

 private:
  const std::shared_ptr<FrameRingsShared> shared_;
  bool ended_ = false;
};

struct FrameRings {
  std::unique_ptr<Link> stack_end;  // poll thread
  std::unique_ptr<FrameRingsGuestEnd> vmm_end;

  // InvalidArgument for a wrong size, ResourceExhausted without descriptors.
  [[nodiscard]] static absl::StatusOr<FrameRings> Create(const FrameRingsOptions& options);
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_LINK_FRAME_RING_H_
