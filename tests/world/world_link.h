// The link of a simulated world. From the stack outwards: the production's impairment
// decorator (stack/link/impair.h), which delays, drops, doubles, reorders and corrupts
// frames while the link is bad; then the guest's end, which refuses frames, cuts
// super-segments into what a wire carries, and joins the guest's segments to
// super-segments as a kernel with offloads would.
//
// The guest's frames come in by PushToHost; what reaches the guest goes out by `deliver`
// at the moment it does. One thread.
#ifndef PENSTOCK_TESTS_WORLD_WORLD_LINK_H_
#define PENSTOCK_TESTS_WORLD_WORLD_LINK_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "stack/link/impair.h"
#include "stack/link/link.h"
#include "tests/world/random.h"
#include "tests/world/scenario.h"

namespace penstock::world {

struct WireFrame {
  std::vector<uint8_t> bytes;
  Offload offload;
};

// The TCP segments or UDP datagrams that a super-segment stands for, with complete checksums; any
// other frame as it is, its checksum completed. Throws ScriptError if the frame is not what its
// offload fields say.
[[nodiscard]] std::vector<std::vector<uint8_t>> ToWire(const WireFrame& frame);

// Appends `next` to `frame` if both are in-order data segments of one flow that a
// kernel would join. False: they stay as they are.
[[nodiscard]] bool Join(WireFrame& frame, std::span<const uint8_t> next);

class WorldLink final : public Link {
 public:
  // `scenario` outlives the link.
  explicit WorldLink(const Scenario& scenario);
  ~WorldLink() override;

  // ---- The guest's side.
  void PushToHost(std::span<const uint8_t> frame, const Offload& offload = {});
  std::function<void(std::span<const uint8_t> frame)> deliver;
  // ---- The world's.
  // Called at the start of each Receive and Send: the stack is in the middle of a pass.
  std::function<void()> in_pass;
  // The link refused frames; it takes them again after TakeAgain.
  std::function<void()> on_refusal;
  void TakeAgain();
  // The stack should look: frames wait that nothing holds back.
  [[nodiscard]] bool FramesWait(Time now) const;
  // Super-segments and their pieces, for the trace: "to host", "to guest".
  std::function<void(const char* direction, const WireFrame& frame)> on_frame;

  [[nodiscard]] const LinkCapabilities& capabilities() const override { return capabilities_; }
  [[nodiscard]] int descriptor() const override { return -1; }
  [[nodiscard]] size_t Receive(Time now, std::span<FrameToHost> frames) override;
  [[nodiscard]] size_t Send(Time now, std::span<const FrameToGuest> frames) override;
  [[nodiscard]] Time deadline() const override;
  [[nodiscard]] uint64_t frames_lost() const override;

 private:
  class GuestEnd;
  [[nodiscard]] bool Bad(Time now) const;

  const Scenario& scenario_;
  const LinkCapabilities capabilities_;
  GuestEnd* end_;  // the decorator's
  std::unique_ptr<ImpairedLink> impaired_;
};

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_WORLD_LINK_H_
