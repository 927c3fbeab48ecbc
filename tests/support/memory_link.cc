#include "tests/support/memory_link.h"

#include <algorithm>
#include <utility>

namespace penstock {

MemoryLink::MemoryLink(LinkCapabilities capabilities)
    : capabilities_(capabilities), bell_(LinkBell::Create().value()) {}

void MemoryLink::PushToHost(std::span<const uint8_t> bytes, const Offload& offload) {
  if (bytes.size() > kFrameBytesMax) {
    ++frames_lost_;
    return;
  }
  to_host_.push_back({.bytes = {bytes.begin(), bytes.end()}, .offload = offload});
  UpdateBell();
}

std::optional<MemoryLink::Frame> MemoryLink::PopToGuest() {
  if (to_guest_.empty()) return std::nullopt;
  Frame frame = std::move(to_guest_.front());
  to_guest_.pop_front();
  return frame;
}

void MemoryLink::SetRoom(size_t frame_count) {
  room_ = frame_count;
  if (refused_ && room_ > 0) {
    refused_ = false;
    wake_ = true;
  }
  UpdateBell();
}

void MemoryLink::End() {
  ended_ = true;
  wake_ = true;
  UpdateBell();
}

size_t MemoryLink::Receive(Time /*now*/, std::span<FrameToHost> frames) {
  on_receive();
  size_t count = 0;
  for (; count < frames.size() && !to_host_.empty(); ++count) {
    const Frame& frame = to_host_.front();
    FrameToHost& target = frames[count];
    std::copy(frame.bytes.begin(), frame.bytes.end(), target.room.begin());
    target.length = static_cast<uint32_t>(frame.bytes.size());
    target.offload = frame.offload;
    to_host_.pop_front();
  }
  wake_ = false;
  UpdateBell();
  return count;
}

size_t MemoryLink::Send(Time /*now*/, std::span<const FrameToGuest> frames) {
  on_send();
  size_t count = 0;
  for (; count < frames.size() && (room_ > 0 || ended_); ++count) {
    if (ended_) {
      ++frames_lost_;
      continue;
    }
    Frame& copy = to_guest_.emplace_back();
    copy.offload = frames[count].offload;
    for (const iovec& part : frames[count].parts) {
      const auto* bytes = static_cast<const uint8_t*>(part.iov_base);
      copy.bytes.insert(copy.bytes.end(), bytes, bytes + part.iov_len);
    }
    if (room_ != kUnlimited) --room_;
  }
  refused_ = count < frames.size();
  return count;
}

void MemoryLink::UpdateBell() {
  bell_->Quiet();
  if (!to_host_.empty() || wake_) bell_->Ring();
}

}  // namespace penstock
