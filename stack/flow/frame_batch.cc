#include "stack/flow/frame_batch.h"

#include <cstring>

#include "relay/check.h"

namespace penstock {

FrameBatch::FrameBatch(Link& link, Counters& counters) : link_(link), counters_(counters) {}

bool FrameBatch::MakeRoom(size_t arena_bytes) {
  if (end_ < kFramesMax && arena_used_ + arena_bytes <= kArenaBytes) return true;
  return Flush();
}

bool FrameBatch::Append(std::span<const uint8_t> header, std::span<const iovec> payload,
                        const Offload& offload) {
  PENSTOCK_CHECK(payload.size() < kFramePartsMax);
  if (!MakeRoom(header.size())) return false;
  uint8_t* copy = arena_.get() + arena_used_;
  std::memcpy(copy, header.data(), header.size());
  arena_used_ += header.size();
  auto& parts = parts_[end_];
  parts[0] = {copy, header.size()};
  size_t length = header.size();
  for (size_t i = 0; i < payload.size(); ++i) {
    parts[i + 1] = payload[i];
    length += payload[i].iov_len;
  }
  frames_[end_++] = {.parts = {parts.data(), payload.size() + 1},
                     .length = static_cast<uint32_t>(length),
                     .offload = offload};
  return true;
}

bool FrameBatch::AppendCopy(std::span<const uint8_t> frame) {
  if (frame.size() <= kArenaBytes) {
    return Append(frame, {}, {.checksum = ChecksumState::kComplete});
  }
  // Too large to keep: behind what waits, now or never.
  if (!Flush()) return false;
  const iovec part{const_cast<uint8_t*>(frame.data()), frame.size()};
  const FrameToGuest whole{.parts = {&part, 1},
                           .length = static_cast<uint32_t>(frame.size()),
                           .offload = {.checksum = ChecksumState::kComplete}};
  return Offer({&whole, 1}) == 1;
}

bool FrameBatch::Flush() {
  if (first_ < end_) first_ += Offer({&frames_[first_], end_ - first_});
  if (first_ < end_) return false;
  first_ = end_ = arena_used_ = 0;
  link_full_ = false;
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
    counters_.link_refusals.Add(1);
  }
  return sent;
}

}  // namespace penstock
