// One direction of the impairment decorator: decides what happens to each frame
// and holds it until it is due. See impair.h for the rules. Poll thread.
#ifndef PENSTOCK_STACK_LINK_IMPAIR_QUEUE_H_
#define PENSTOCK_STACK_LINK_IMPAIR_QUEUE_H_

#include <sys/uio.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "relay/time.h"
#include "stack/link/frame.h"

namespace penstock {

struct ImpairDirection {
  Duration delay{0};
  Duration jitter{0};  // 0 to this much more, evenly
  // Probabilities, 0 to 1, for each frame.
  double drop = 0;
  double duplicate = 0;
  double reorder = 0;
  double corrupt = 0;
  // Frames held, with their bookkeeping; 64 MiB is 50 ms at 10 Gbit/s.
  size_t queue_bytes_max = size_t{64} << 20;
};

struct ImpairCounts {
  uint64_t dropped = 0;
  uint64_t duplicated = 0;
  uint64_t reordered = 0;
  uint64_t corrupted = 0;
  uint64_t overflowed = 0;  // lost because the queue was full
  // Frames that never come out: dropped, overflowed, or corrupted with a partial
  // checksum (see Corrupt).
  uint64_t lost = 0;
};

class ImpairQueue final {
 public:
  static constexpr Duration kReorderHoldMax = std::chrono::milliseconds(10);

  struct Frame {
    std::vector<uint8_t> bytes;
    Offload offload;
    Time due;
  };

  // `stream` tells the directions of one seed apart.
  ImpairQueue(const ImpairDirection& options, uint64_t seed, uint64_t stream);

  // Copies a frame in, or loses it.
  void Admit(Time now, std::span<const iovec> parts, const Offload& offload);
  // The frame at `index` from the front if it is due at `now`, else nothing.
  // Valid until the next Admit, Pop, or Due with a later time.
  [[nodiscard]] const Frame* Due(Time now, size_t index = 0);
  // Drops the first `count` frames.
  void Pop(size_t count = 1);

  // When the next frame is due; kNever if there is none.
  [[nodiscard]] Time deadline() const;
  [[nodiscard]] bool empty() const { return queue_.empty() && !aside_; }
  [[nodiscard]] const ImpairCounts& counts() const { return counts_; }

 private:
  // What was drawn for one frame.
  struct Fate {
    bool corrupt, drop, duplicate, reorder;
    Duration delay;
    int passes;              // later frames that pass a reordered one
    uint64_t corrupt_where;  // any number
  };
  Fate Draw();
  uint64_t Next();
  bool Chance(double probability);

  // An owned copy; nothing if the queue is full.
  std::optional<Frame> Copy(std::span<const iovec> parts, const Offload& offload);
  // Flips a byte. False if the frame has to be dropped instead: a partial checksum
  // would be completed over the flipped byte and nobody could notice, while on a
  // wire the receiver drops such a frame.
  bool Corrupt(Frame& frame, uint64_t where);
  void Enqueue(Frame frame, Time due);
  // Puts the frame that was aside into the queue.
  void ReturnAside();

  const ImpairDirection options_;
  uint64_t state_;                  // of the generator
  std::deque<Frame> queue_;         // by due time
  std::optional<Frame> aside_;      // the reordered frame; due at the latest then
  int aside_passes_ = 0;            // frames that have yet to pass it
  Time first_passed_due_ = kNever;  // of the first one that did
  Time last_due_ = Time::min();
  size_t held_bytes_ = 0;
  std::vector<std::vector<uint8_t>> spare_;  // buffers to use again
  ImpairCounts counts_;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_LINK_IMPAIR_QUEUE_H_
