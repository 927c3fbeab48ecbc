// A link for tests that is nothing but two queues in memory: the test is the
// guest. It pushes frames to host, pops what the stack sent to the guest, chooses
// the capabilities and how many frames Send takes before it refuses.
//
//   auto owned = std::make_unique<MemoryLink>();
//   MemoryLink* guest = owned.get();        // valid as long as the stack
//   auto stack = Stack::Create({}, std::move(owned));
//   guest->PushToHost(frame);
//   (void)(*stack)->Poll(now);
//   std::optional<MemoryLink::Frame> reply = guest->PopToGuest();
//
// descriptor() is readable while frames wait to host, and until the next Receive
// after End or after SetRoom gave room to a stack that had been refused; never
// writable. One thread.
#ifndef PENSTOCK_TESTS_SUPPORT_MEMORY_LINK_H_
#define PENSTOCK_TESTS_SUPPORT_MEMORY_LINK_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "stack/link/link.h"
#include "stack/link/link_bell.h"

namespace penstock {

class MemoryLink final : public Link {
 public:
  struct Frame {
    std::vector<uint8_t> bytes;
    Offload offload;
  };
  static constexpr size_t kUnlimited = std::numeric_limits<size_t>::max();

  explicit MemoryLink(LinkCapabilities capabilities = {});

  // The guest's side. A frame of more than kFrameBytesMax bytes is lost.
  void PushToHost(std::span<const uint8_t> bytes, const Offload& offload = {});
  // The oldest frame for the guest, its parts joined.
  [[nodiscard]] std::optional<Frame> PopToGuest();
  [[nodiscard]] size_t waiting_to_host() const { return to_host_.size(); }
  [[nodiscard]] size_t waiting_to_guest() const { return to_guest_.size(); }
  // Send takes this many more frames, then refuses; at first kUnlimited.
  void SetRoom(size_t frame_count);
  // The guest is gone: ended() once the frames to host were received; frames to
  // guest are lost from now on.
  void End();
  // Somebody else is the guest from now on.
  void Reset() { ++resets_; }
  // Called when the stack asks for frames, or has some; nothing has moved yet.
  std::function<void()> on_receive = [] {};
  std::function<void()> on_send = [] {};

  [[nodiscard]] const LinkCapabilities& capabilities() const override { return capabilities_; }
  [[nodiscard]] int descriptor() const override { return bell_->descriptor(); }
  [[nodiscard]] size_t Receive(Time now, std::span<FrameToHost> frames) override;
  [[nodiscard]] size_t Send(Time now, std::span<const FrameToGuest> frames) override;
  [[nodiscard]] bool ended() const override { return ended_ && to_host_.empty(); }
  [[nodiscard]] uint64_t resets() const override { return resets_; }
  [[nodiscard]] uint64_t frames_lost() const override { return frames_lost_; }

 private:
  // Makes the descriptor say what it should: quiet or readable.
  void UpdateBell();

  const LinkCapabilities capabilities_;
  const std::unique_ptr<LinkBell> bell_;
  std::deque<Frame> to_host_;
  std::deque<Frame> to_guest_;
  size_t room_ = kUnlimited;
  bool refused_ = false;  // Send took too few since the last SetRoom
  bool wake_ = false;     // room after a refusal, or the end; until the next Receive
  bool ended_ = false;
  uint64_t resets_ = 0;
  uint64_t frames_lost_ = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_TESTS_SUPPORT_MEMORY_LINK_H_
