// A decorator that makes any link bad on purpose, the same way each time: delay,
// jitter, loss, duplicates, reordering and corruption, for each direction apart
// and from a seed. For tests and experiments.
//
// Each frame (a super-segment is one frame) meets, in this order: drop, corruption,
// duplication, reordering, delay. A reordered frame is put aside until one
// to four later frames of its direction have passed it, but not longer than
// kReorderHoldMax beyond its delay, so that the last frame of a burst is not
// stuck. Jitter never reorders: a frame is due no earlier than the one before it.
//
// The decisions are drawn from a generator of its own for each direction, the
// same number of draws for every frame: they depend on the seed and on the
// frame's place in its direction only. Time is what Receive and Send are told.
//
// Poll thread. Frames are copied into buffers that are used again; the queue of
// each direction is bounded and what comes beyond is lost. When the inner link
// refuses frames that are due, Send refuses too, and deadline() asks again within
// kRetry for the case that nobody sends.
#ifndef PENSTOCK_STACK_LINK_IMPAIR_H_
#define PENSTOCK_STACK_LINK_IMPAIR_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "relay/time.h"
#include "stack/link/impair_queue.h"
#include "stack/link/link.h"

namespace penstock {

struct ImpairOptions {
  ImpairDirection to_host;
  ImpairDirection to_guest;
  uint64_t seed = 1;
};

// "delay=10ms,drop=1%,reorder=1%,duplicate=0.1%,seed=7": words separated by
// commas, for both directions, or for one with "to_host." or "to_guest." before
// the name. delay, jitter: a number with us, ms or s, at most 60 s. drop,
// duplicate, reorder, corrupt: a percentage ("0.1%") or a fraction ("0.001").
// seed: a whole number. Later words win. InvalidArgument names the wrong word.
[[nodiscard]] absl::StatusOr<ImpairOptions> ParseImpairOptions(std::string_view text);

class ImpairedLink final : public Link {
 public:
  static constexpr Duration kRetry = std::chrono::milliseconds(1);

  ImpairedLink(std::unique_ptr<Link> inner, const ImpairOptions& options);

  [[nodiscard]] const LinkCapabilities& capabilities() const override {
    return inner_->capabilities();
  }
  [[nodiscard]] int descriptor() const override { return inner_->descriptor(); }
  [[nodiscard]] size_t Receive(Time now, std::span<FrameToHost> frames) override;
  [[nodiscard]] size_t Send(Time now, std::span<const FrameToGuest> frames) override;
  [[nodiscard]] Time deadline() const override;
  [[nodiscard]] bool ended() const override { return inner_->ended() && to_host_.empty(); }
  [[nodiscard]] uint64_t resets() const override { return inner_->resets(); }
  [[nodiscard]] uint64_t frames_lost() const override;
  [[nodiscard]] uint64_t framing_errors() const override { return inner_->framing_errors(); }

  // What was done to the frames of each direction so far.
  [[nodiscard]] const ImpairCounts& to_host_counts() const { return to_host_.counts(); }
  [[nodiscard]] const ImpairCounts& to_guest_counts() const { return to_guest_.counts(); }

 private:
  // Sends what is due to the inner link; false if it refused some.
  bool Flush(Time now);

  const std::unique_ptr<Link> inner_;
  ImpairQueue to_host_;
  ImpairQueue to_guest_;
  Time retry_at_ = kNever;  // while the inner link refuses
};

// InvalidArgument for a probability outside 0–1 or a negative or endless time.
[[nodiscard]] absl::StatusOr<std::unique_ptr<ImpairedLink>> Impair(std::unique_ptr<Link> inner,
                                                                   const ImpairOptions& options);

}  // namespace penstock

#endif  // PENSTOCK_STACK_LINK_IMPAIR_H_
