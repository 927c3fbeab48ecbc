// See frame_ring.h. Each end touches its own side of the two rings only; what they
// share is the rings, the doorbells and the two "closed" flags.
#include "stack/link/frame_ring.h"

#include <atomic>
#include <bit>
#include <cstring>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "stack/counters.h"
#include "stack/link/link_bell.h"

namespace penstock {

// What both ends hold; dies with the last of them.
struct FrameRingsShared {
  FrameRingsShared(const FrameRingsOptions& options, std::unique_ptr<LinkBell> stack,
                   std::unique_ptr<LinkBell> vmm)
      : to_host(options.to_host_bytes),
        to_guest(options.to_guest_bytes),
        stack_bell(std::move(stack)),
        vmm_bell(std::move(vmm)) {}

  RecordRing to_host;
  RecordRing to_guest;
  const std::unique_ptr<LinkBell> stack_bell;  // the stack's end sleeps on it
  const std::unique_ptr<LinkBell> vmm_bell;
  // Stored before the other end is rung, loaded there before the last drain.
  std::atomic<bool> stack_closed{false};
  std::atomic<bool> vmm_closed{false};
  Counter dropped_to_host;  // written by the VMM's thread
};

namespace {

// The bytes of all parts; 0 if that is no frame a ring carries.
uint32_t FrameLength(std::span<const iovec> parts) {
  size_t length = 0;
  for (const iovec& part : parts) {
    if (part.iov_len > kFrameBytesMax - length) return 0;
    length += part.iov_len;
  }
  return static_cast<uint32_t>(length);
}

class StackEnd final : public Link {
 public:
  StackEnd(std::shared_ptr<FrameRingsShared> shared, const LinkCapabilities& capabilities)
      : shared_(std::move(shared)), capabilities_(capabilities) {}
  ~StackEnd() override {
    shared_->stack_closed.store(true, std::memory_order_release);
    shared_->vmm_bell->Ring();
  }
  StackEnd(const StackEnd&) = delete;
  StackEnd& operator=(const StackEnd&) = delete;

  [[nodiscard]] const LinkCapabilities& capabilities() const override { return capabilities_; }
  [[nodiscard]] int descriptor() const override { return shared_->stack_bell->descriptor(); }
  [[nodiscard]] size_t Receive(Time now, std::span<FrameToHost> frames) override;
  [[nodiscard]] size_t Send(Time now, std::span<const FrameToGuest> frames) override;
  [[nodiscard]] bool ended() const override { return ended_; }
  [[nodiscard]] uint64_t frames_lost() const override {
    return lost_ + shared_->dropped_to_host.value();
  }

 private:
  // Copies what waits into `frames`; returns how many.
  size_t Take(std::span<FrameToHost> frames);

  const std::shared_ptr<FrameRingsShared> shared_;
  const LinkCapabilities capabilities_;
  bool ended_ = false;
  uint64_t lost_ = 0;
};

size_t StackEnd::Take(std::span<FrameToHost> frames) {
  RecordRing& ring = shared_->to_host;
  size_t count = 0;
  while (count < frames.size()) {
    const std::optional<RecordRing::Record> record = ring.Front();
    if (!record) break;
    FrameToHost& frame = frames[count++];
    std::memcpy(frame.room.data(), record->bytes.data(), record->bytes.size());
    frame.length = static_cast<uint32_t>(record->bytes.size());
    frame.offload = record->offload;
    ring.Pop();
  }
  // The VMM drops instead of waiting for room, so nobody is to be rung.
  if (count != 0) (void)ring.Release();
  return count;
}

size_t StackEnd::Receive(Time /*now*/, std::span<FrameToHost> frames) {
  const bool closed = shared_->vmm_closed.load(std::memory_order_acquire);
  size_t count = Take(frames);
  while (count < frames.size()) {
    if (shared_->to_host.Rest(*shared_->stack_bell)) {
      ended_ = closed;
      // Closed since: Rest may just have silenced the ring that said so.
      if (!closed && shared_->vmm_closed.load(std::memory_order_acquire)) {
        shared_->stack_bell->Ring();
      }
      break;
    }
    count += Take(frames.subspan(count));
  }
  return count;
}

size_t StackEnd::Send(Time /*now*/, std::span<const FrameToGuest> frames) {
  RecordRing& ring = shared_->to_guest;
  const bool closed = shared_->vmm_closed.load(std::memory_order_acquire);
  bool pushed = false;
  size_t count = 0;
  for (; count < frames.size(); ++count) {
    const FrameToGuest& frame = frames[count];
    const uint32_t length = closed ? 0 : FrameLength(frame.parts);
    if (length == 0) {
      ++lost_;
      continue;
    }
    if (!ring.Push(frame.parts, length, frame.offload)) {
      ring.AskForRoom();
      if (!ring.Push(frame.parts, length, frame.offload)) break;
    }
    pushed = true;
  }
  if (pushed && ring.Publish()) shared_->vmm_bell->Ring();
  return count;
}

}  // namespace

FrameRingsGuestEnd::FrameRingsGuestEnd(std::shared_ptr<FrameRingsShared> shared)
    : shared_(std::move(shared)) {}

FrameRingsGuestEnd::~FrameRingsGuestEnd() {
  shared_->vmm_closed.store(true, std::memory_order_release);
  shared_->stack_bell->Ring();
}

bool FrameRingsGuestEnd::SendToHost(std::span<const iovec> parts, const Offload& offload) {
  RecordRing& ring = shared_->to_host;
  const uint32_t length = FrameLength(parts);
  if (length == 0 || shared_->stack_closed.load(std::memory_order_acquire) ||
      !ring.Push(parts, length, offload)) {
    shared_->dropped_to_host.Add(1);
    return false;
  }
  if (ring.Publish()) shared_->stack_bell->Ring();
  return true;
}

bool FrameRingsGuestEnd::SendToHost(std::span<const uint8_t> frame, const Offload& offload) {
  const iovec part{const_cast<uint8_t*>(frame.data()), frame.size()};
  return SendToHost({&part, 1}, offload);
}

std::optional<RecordRing::Record> FrameRingsGuestEnd::FrontToGuest() {
  const bool closed = shared_->stack_closed.load(std::memory_order_acquire);
  RecordRing& ring = shared_->to_guest;
  std::optional<RecordRing::Record> record = ring.Front();
  while (!record && !ring.Rest(*shared_->vmm_bell)) record = ring.Front();
  if (!record) {
    ended_ = closed;
    // Closed since: Rest may just have silenced the ring that said so.
    if (!closed && shared_->stack_closed.load(std::memory_order_acquire)) {
      shared_->vmm_bell->Ring();
    }
  }
  return record;
}

void FrameRingsGuestEnd::PopToGuest() {
  shared_->to_guest.Pop();
  if (shared_->to_guest.Release()) shared_->stack_bell->Ring();
}

int FrameRingsGuestEnd::descriptor() const { return shared_->vmm_bell->descriptor(); }

uint64_t FrameRingsGuestEnd::frames_dropped() const { return shared_->dropped_to_host.value(); }

absl::StatusOr<FrameRings> FrameRings::Create(const FrameRingsOptions& options) {
  for (const size_t bytes : {options.to_host_bytes, options.to_guest_bytes}) {
    if (!std::has_single_bit(bytes) || bytes < RecordRing::kBytesMin ||
        bytes > RecordRing::kBytesMax) {
      return absl::InvalidArgumentError("a frame ring of " + std::to_string(bytes) +
                                        " bytes: write a power of two from 262144 to 1073741824");
    }
  }
  absl::StatusOr<std::unique_ptr<LinkBell>> stack_bell = LinkBell::Create();
  if (!stack_bell.ok()) return stack_bell.status();
  absl::StatusOr<std::unique_ptr<LinkBell>> vmm_bell = LinkBell::Create();
  if (!vmm_bell.ok()) return vmm_bell.status();
  auto shared =
      std::make_shared<FrameRingsShared>(options, *std::move(stack_bell), *std::move(vmm_bell));
  FrameRings rings;
  rings.stack_end = std::make_unique<StackEnd>(shared, options.capabilities);
  rings.vmm_end = std::make_unique<FrameRingsGuestEnd>(std::move(shared));
  return rings;
}

}  // namespace penstock
