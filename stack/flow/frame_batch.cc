#include "stack/flow/frame_batch.h"

#include <cstring>

#include "relay/check.h"

namespace penstock {

FrameBatch::FrameBatch(Link& link, Counters& counters) : link_(link), counters_(counters) {}

bool FrameBatch::MakeRoom(size_t arena_bytes) {
  if (end_ < kFramesMax && arena_used_ + arena_bytes <= kArenaBytes) return true;
  return Flush();
}

bool FrameBatch::Append(std::span<const uint8_t> header, std::span<const uint8_t> copied,
                        std::span<const iovec> payload, const Offload& offload) {
  PENSTOCK_CHECK(payload.size() + 2 <= kFramePartsMax);
  const size_t copied_bytes = header.size() + copied.size();
  const bool spills = copied_bytes > kArenaBytes;
  if (!MakeRoom(spills ? 0 : copied_bytes)) return false;
  auto& parts = parts_[end_];
  size_t count = 0;
  uint8_t* copy = arena_.get() + arena_used_;
  if (spills) {
    copy = spilled_.emplace_back(copied_bytes).data();
  } else {
    arena_used_ += copied_bytes;
  }
  std::memcpy(copy, header.data(), header.size());
  if (!copied.empty()) std::memcpy(copy + header.size(), copied.data(), copied.size());
  parts[count++] = {copy, copied_bytes};
  size_t length = copied_bytes;
  for (const iovec& part : payload) {
    parts[count++] = part;
    length += part.iov_len;
  }
  frames_[end_] = {
      .parts = {parts.data(), count}, .length = static_cast<uint32_t>(length), .offload = offload};
  ++end_;
  return true;
}

bool FrameBatch::Flush() {
  if (first_ < end_) first_ += Offer({&frames_[first_], end_ - first_});
  if (first_ < end_) return false;
  first_ = end_ = arena_used_ = 0;
  spilled_.clear();
  if (std::exchange(link_full_, false)) reopened_ = true;
  return true;
}

size_t FrameBatch::Offer(std::span<const FrameToGuest> frames) {
  const size_t sent = link_.Send(now_, frames);
  uint64_t bytes = 0;
  for (const FrameToGuest& frame : frames.first(sent)) bytes += frame.length;
  counters_.frames_to_guest.Add(sent);
  counters_.link_bytes_to_guest.Add(bytes);
  if (sent < frames.size()) {
    link_full_ = true;
    ++refusals_;
    counters_.link_refusals.Add(1);
  }
  return sent;
}

}  // namespace penstock
