#include "stack/link/impair_queue.h"

#include <algorithm>
#include <utility>

namespace penstock {
namespace {

// Idle buffers kept for later frames, of up to 64 KiB each.
constexpr size_t kSpareCountMax = 256;
constexpr uint64_t kPassesMax = 4;

}  // namespace

ImpairQueue::ImpairQueue(const ImpairDirection& options, uint64_t seed, uint64_t stream)
    : options_(options), state_(seed * 2 + stream) {}

// SplitMix64 (Steele, Lea, Flood 2014).
uint64_t ImpairQueue::Next() {
  state_ += 0x9e3779b97f4a7c15;
  uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

bool ImpairQueue::Chance(double probability) {
  return static_cast<double>(Next() >> 11) * 0x1p-53 < probability;
}

ImpairQueue::Fate ImpairQueue::Draw() {
  Fate fate{};
  fate.corrupt = Chance(options_.corrupt);
  fate.drop = Chance(options_.drop);
  fate.duplicate = Chance(options_.duplicate);
  fate.reorder = Chance(options_.reorder);
  const auto jitter = static_cast<uint64_t>(options_.jitter.count());
  fate.delay = options_.delay + Duration(static_cast<Duration::rep>(Next() % (jitter + 1)));
  fate.passes = static_cast<int>(1 + Next() % kPassesMax);
  fate.corrupt_where = Next();
  return fate;
}

void ImpairQueue::Admit(Time now, std::span<const iovec> parts, const Offload& offload) {
  const Fate fate = Draw();
  if (fate.drop) {
    ++counts_.dropped;
    ++counts_.lost;
    return;
  }
  std::optional<Frame> frame = Copy(parts, offload);
  if (!frame) {
    ++counts_.overflowed;
    ++counts_.lost;
    return;
  }
  if (fate.corrupt && !Corrupt(*frame, fate.corrupt_where)) return;
  const Time due = std::max(After(now, fate.delay), last_due_);
  if (fate.duplicate) {
    const iovec whole{frame->bytes.data(), frame->bytes.size()};
    if (std::optional<Frame> copy = Copy({&whole, 1}, frame->offload)) {
      ++counts_.duplicated;
      Enqueue(*std::move(copy), due);
    }
  }
  if (fate.reorder && !aside_) {
    aside_ = std::move(frame);
    aside_->due = After(due, kReorderHoldMax);
    aside_passes_ = fate.passes;
    first_passed_due_ = kNever;
    return;
  }
  Enqueue(*std::move(frame), due);
  if (!aside_) return;
  first_passed_due_ = std::min(first_passed_due_, due);
  if (--aside_passes_ == 0) ReturnAside();
}

std::optional<ImpairQueue::Frame> ImpairQueue::Copy(std::span<const iovec> parts,
                                                    const Offload& offload) {
  size_t length = 0;
  for (const iovec& part : parts) length += part.iov_len;
  if (held_bytes_ + length + sizeof(Frame) > options_.queue_bytes_max) return std::nullopt;
  held_bytes_ += length + sizeof(Frame);
  Frame frame{.bytes = {}, .offload = offload, .due = {}};
  if (!spare_.empty()) {
    frame.bytes = std::move(spare_.back());
    spare_.pop_back();
  }
  frame.bytes.clear();
  for (const iovec& part : parts) {
    const auto* bytes = static_cast<const uint8_t*>(part.iov_base);
    frame.bytes.insert(frame.bytes.end(), bytes, bytes + part.iov_len);
  }
  return frame;
}

bool ImpairQueue::Corrupt(Frame& frame, uint64_t where) {
  ++counts_.corrupted;
  if (frame.offload.checksum == ChecksumState::kPartial || frame.bytes.empty()) {
    ++counts_.lost;
    held_bytes_ -= frame.bytes.size() + sizeof(Frame);
    return false;
  }
  frame.bytes[where % frame.bytes.size()] ^= static_cast<uint8_t>(1 + (where >> 32) % 255);
  frame.offload.checksum = ChecksumState::kUnknown;  // nobody can vouch for it now
  return true;
}

void ImpairQueue::Enqueue(Frame frame, Time due) {
  frame.due = due;
  last_due_ = due;
  queue_.push_back(std::move(frame));
}

void ImpairQueue::ReturnAside() {
  // Behind everything that is due no later: behind the frames that passed it.
  aside_->due = std::min(last_due_, aside_->due);
  if (first_passed_due_ <= aside_->due) ++counts_.reordered;
  const auto later = [](Time due, const Frame& frame) { return due < frame.due; };
  const auto place = std::upper_bound(queue_.begin(), queue_.end(), aside_->due, later);
  queue_.insert(place, *std::move(aside_));
  aside_.reset();
}

const ImpairQueue::Frame* ImpairQueue::Due(Time now, size_t index) {
  if (aside_ && aside_->due <= now) ReturnAside();
  return index < queue_.size() && queue_[index].due <= now ? &queue_[index] : nullptr;
}

void ImpairQueue::Pop(size_t count) {
  for (; count > 0; --count) {
    std::vector<uint8_t>& bytes = queue_.front().bytes;
    held_bytes_ -= bytes.size() + sizeof(Frame);
    if (spare_.size() < kSpareCountMax) spare_.push_back(std::move(bytes));
    queue_.pop_front();
  }
}

Time ImpairQueue::deadline() const {
  const Time queued = queue_.empty() ? kNever : queue_.front().due;
  return aside_ ? std::min(queued, aside_->due) : queued;
}

}  // namespace penstock
