#include "bench/counted_link.h"

#include <algorithm>

#include "bench/counting.h"

namespace penstock::bench {

size_t CountedLink::Receive(Time /*now*/, std::span<FrameToHost> frames) {
  const NotCounting kernel;
  size_t count = 0;
  for (; count < frames.size() && !to_host_.empty(); ++count) {
    const ToHost& next = to_host_.front();
    FrameToHost& frame = frames[count];
    std::copy(next.head.begin(), next.head.end(), frame.room.begin());
    frame.length = static_cast<uint32_t>(next.head.size()) + next.payload_bytes;
    frame.offload = next.offload;
    to_host_.pop_front();
  }
  frames_ += count;
  return count;
}

size_t CountedLink::Send(Time /*now*/, std::span<const FrameToGuest> frames) {
  const NotCounting kernel;
  for (const FrameToGuest& frame : frames) {
    ToGuest& kept = to_guest_.emplace_back();
    kept.length = frame.length;
    size_t at = 0;
    for (const iovec& part : frame.parts) {
      const size_t count = std::min(part.iov_len, kept.head.size() - at);
      std::copy_n(static_cast<const uint8_t*>(part.iov_base), count, kept.head.begin() + at);
      at += count;
    }
  }
  frames_ += frames.size();
  return frames.size();
}

}  // namespace penstock::bench
