// Frames for the guest, collected during a pass and handed to the link together.
//
// Headers are copied into the batch; payload is only referenced. So a block of the
// relay that a frame refers to may be given back only while the batch is empty
// (TcpFlows keeps acknowledged blocks until then): else a retransmission that was
// acknowledged within the same pass would leave with another flow's bytes.
// Poll thread.
#ifndef PENSTOCK_STACK_FLOW_FRAME_BATCH_H_
#define PENSTOCK_STACK_FLOW_FRAME_BATCH_H_

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "relay/time.h"
#include "stack/counters.h"
#include "stack/link/link.h"

namespace penstock {

class FrameBatch final {
 public:
  FrameBatch(Link& link, Counters& counters);

  void SetTime(Time now) { now_ = now; }

  // A frame of `header` and `copied`, which are copied, and `payload`, which is
  // referenced. False: the link is full; the frame was not taken.
  [[nodiscard]] bool Append(std::span<const uint8_t> header, std::span<const uint8_t> copied,
                            std::span<const iovec> payload, const Offload& offload);
  // A whole frame with complete checksums, copied.
  [[nodiscard]] bool AppendCopy(std::span<const uint8_t> frame) {
    return Append(frame, {}, {}, {.checksum = ChecksumState::kComplete});
  }

  // A frame of nothing but headers would be taken now.
  [[nodiscard]] bool HasRoomForHeader() { return MakeRoom(kHeaderBytesMax); }

  // Offers everything to the link. True if nothing is left.
  bool Flush();
  [[nodiscard]] bool empty() const { return first_ == end_; }
  // The link took less than it was offered; it says with its descriptor when it
  // takes more.
  [[nodiscard]] bool link_full() const { return link_full_; }
  // True once after the link was full and has taken everything since. That may happen
  // at any Append, not only at the end of a pass: whoever waits is told by this.
  [[nodiscard]] bool TakeReopened() { return std::exchange(reopened_, false); }
  // Times that the link took less than it was offered.
  [[nodiscard]] uint64_t refusals() const { return refusals_; }

 private:
  static constexpr size_t kFramesMax = 64;
  static constexpr size_t kArenaBytes = 16'384;
  // Ethernet, IPv6, and TCP with all its options.
  static constexpr size_t kHeaderBytesMax = 128;
  static_assert(kFramesMax * kHeaderBytesMax <= kArenaBytes);

  [[nodiscard]] bool MakeRoom(size_t arena_bytes);
  size_t Offer(std::span<const FrameToGuest> frames);

  Link& link_;
  Counters& counters_;
  Time now_{};
  size_t first_ = 0, end_ = 0;
  size_t arena_used_ = 0;
  bool link_full_ = false;
  bool reopened_ = false;
  uint64_t refusals_ = 0;
  std::array<FrameToGuest, kFramesMax> frames_;
  std::array<std::array<iovec, kFramePartsMax>, kFramesMax> parts_;
  // Copies that do not fit the arena: the rest of a super-segment that was split.
  std::vector<std::vector<uint8_t>> spilled_;
  std::unique_ptr<uint8_t[]> arena_ = std::make_unique<uint8_t[]>(kArenaBytes);
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_FLOW_FRAME_BATCH_H_
