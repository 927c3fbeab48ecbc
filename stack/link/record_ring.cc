#include "stack/link/record_ring.h"

#include <cstring>

namespace penstock {
namespace {

// Stands before the bytes of each record.
struct RecordHeader {
  uint32_t length;
  Offload offload;
};
static_assert(sizeof(RecordHeader) <= 16);

constexpr size_t kHeaderBytes = 16;
// In place of a length: the rest up to the end of the memory is empty.
constexpr uint32_t kSkip = UINT32_MAX;

constexpr size_t RecordBytes(uint32_t length) {
  return kHeaderBytes + (size_t{length} + 15) / 16 * 16;
}

// The record and the skip before it, which is shorter than the record.
static_assert(2 * RecordBytes(kFrameBytesMax) <= RecordRing::kBytesMin);

}  // namespace

RecordRing::RecordRing(size_t bytes)
    : capacity_(bytes),
      cells_(std::make_unique_for_overwrite<Cell[]>(bytes / sizeof(Cell))),
      memory_(cells_[0].bytes) {}

bool RecordRing::Push(std::span<const iovec> parts, uint32_t length, const Offload& offload) {
  size_t offset = tail_next_ & (capacity_ - 1);
  const size_t to_end = capacity_ - offset;
  const size_t record = RecordBytes(length);
  const size_t skip = to_end < record ? to_end : 0;
  if (capacity_ - (tail_next_ - head_seen_) < skip + record) {
    head_seen_ = head_.load(std::memory_order_acquire);
    if (capacity_ - (tail_next_ - head_seen_) < skip + record) return false;
  }
  if (skip != 0) {
    const RecordHeader header{.length = kSkip, .offload = {}};
    std::memcpy(memory_ + offset, &header, sizeof header);
    offset = 0;
  }
  const RecordHeader header{.length = length, .offload = offload};
  std::memcpy(memory_ + offset, &header, sizeof header);
  uint8_t* out = memory_ + offset + kHeaderBytes;
  for (const iovec& part : parts) {
    if (part.iov_len == 0) continue;
    std::memcpy(out, part.iov_base, part.iov_len);
    out += part.iov_len;
  }
  tail_next_ += skip + record;
  return true;
}

bool RecordRing::Publish() {
  tail_.store(tail_next_, std::memory_order_seq_cst);
  return sleeping_.load(std::memory_order_seq_cst) &&
         sleeping_.exchange(false, std::memory_order_seq_cst);
}

void RecordRing::AskForRoom() {
  wants_room_.store(true, std::memory_order_seq_cst);
  head_seen_ = head_.load(std::memory_order_seq_cst);
}

std::optional<RecordRing::Record> RecordRing::Front() {
  if (head_next_ == tail_seen_) {
    tail_seen_ = tail_.load(std::memory_order_acquire);
    if (head_next_ == tail_seen_) return std::nullopt;
  }
  size_t offset = head_next_ & (capacity_ - 1);
  RecordHeader header;
  std::memcpy(&header, memory_ + offset, sizeof header);
  if (header.length == kSkip) {  // a record always follows: both were published together
    head_next_ += capacity_ - offset;
    offset = 0;
    std::memcpy(&header, memory_, sizeof header);
  }
  return Record{.bytes = {memory_ + offset + kHeaderBytes, header.length},
                .offload = header.offload};
}

void RecordRing::Pop() {
  RecordHeader header;
  std::memcpy(&header, memory_ + (head_next_ & (capacity_ - 1)), sizeof header);
  head_next_ += RecordBytes(header.length);
}

bool RecordRing::Release() {
  head_.store(head_next_, std::memory_order_seq_cst);
  // tail_seen_ may be old; then the producer is told a little early and asks again.
  return wants_room_.load(std::memory_order_seq_cst) && tail_seen_ - head_next_ <= capacity_ / 2 &&
         wants_room_.exchange(false, std::memory_order_seq_cst);
}

bool RecordRing::Rest(LinkBell& bell) {
  bell.Quiet();
  sleeping_.store(true, std::memory_order_seq_cst);
  tail_seen_ = tail_.load(std::memory_order_seq_cst);
  if (head_next_ == tail_seen_) return true;
  // Published after Front looked and before we slept: perhaps nobody rings.
  if (sleeping_.exchange(false, std::memory_order_seq_cst)) bell.Ring();
  return false;
}

}  // namespace penstock
