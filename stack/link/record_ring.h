// A bounded lock-free ring of frames of any size, between one producer thread and
// one consumer thread.
//
// A record is a 16-byte header (length, offload) and the frame's bytes, padded to
// 16, in one contiguous piece: so the consumer can read it in place. What does
// not fit before the end of the memory starts at the beginning again, behind a
// header that says "skip". Indices count bytes and never wrap (2^64).
//
// Sleeping and waking, without stand-alone fences: the index and the flag of each
// pair are seq_cst, so that at least one side sees what the other stored.
//   consumer: sleeping_ = true; re-read tail_;   producer: publish tail_; if
//   sleeping_ was true and is now false, ring the consumer.
//   producer: wants_room_ = true; re-read head_;   consumer: publish head_; if
//   wants_room_ was true and is now false, ring the producer.
// Whom to ring is the owner's business: the methods only say "ring". A consumer is
// either asleep, or its bell was rung and is not quiet: so the bell is readable
// whenever records wait, also while a consumer takes them in several batches.
// Room is announced when half of the ring is free, so that a full ring does not
// cost a wake-up for each frame.
#ifndef PENSTOCK_STACK_LINK_RECORD_RING_H_
#define PENSTOCK_STACK_LINK_RECORD_RING_H_

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "stack/link/frame.h"
#include "stack/link/link_bell.h"

namespace penstock {

class RecordRing final {
 public:
  // Twice the largest record and its header, rounded up to a power of two: an
  // empty ring then takes any frame, wherever its indices stand.
  static constexpr size_t kBytesMin = size_t{256} << 10;
  static constexpr size_t kBytesMax = size_t{1} << 30;

  struct Record {
    std::span<const uint8_t> bytes;  // in the ring; valid until Pop
    Offload offload;
  };

  // `bytes`: a power of two, kBytesMin to kBytesMax.
  explicit RecordRing(size_t bytes);
  RecordRing(const RecordRing&) = delete;
  RecordRing& operator=(const RecordRing&) = delete;

  // Producer. False: no room now. `parts` sum up to `length` bytes, 1 to
  // kFrameBytesMax. The consumer sees it after Publish.
  [[nodiscard]] bool Push(std::span<const iovec> parts, uint32_t length, const Offload& offload);
  // True: ring the consumer, it sleeps.
  [[nodiscard]] bool Publish();
  // After a Push that failed: asks for room. Try Push once more after it; if it
  // fails again, the consumer's Release will say so when there is room.
  void AskForRoom();

  // Consumer. The oldest record, left in the ring.
  [[nodiscard]] std::optional<Record> Front();
  // Drops the record that Front returned. The producer gets the room at Release.
  void Pop();
  // True: ring the producer, it waits for room.
  [[nodiscard]] bool Release();
  // After Front returned nothing: quiets `bell`, the consumer's. True: asleep, and
  // the producer will ring. False: something came meanwhile, and `bell` says so.
  [[nodiscard]] bool Rest(LinkBell& bell);

 private:
  struct alignas(16) Cell {
    uint8_t bytes[16];
  };

  const size_t capacity_;
  const std::unique_ptr<Cell[]> cells_;  // written by the producer between head_ and tail_
  uint8_t* const memory_;

  // The producer's line.
  alignas(64) std::atomic<uint64_t> tail_{0};  // published; pairs with sleeping_
  std::atomic<bool> wants_room_{false};        // pairs with head_
  uint64_t tail_next_ = 0;                     // with what is not yet published
  uint64_t head_seen_ = 0;

  // The consumer's line.
  alignas(64) std::atomic<uint64_t> head_{0};  // published; pairs with wants_room_
  std::atomic<bool> sleeping_{true};           // pairs with tail_
  uint64_t head_next_ = 0;                     // with what is not yet released
  uint64_t tail_seen_ = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_LINK_RECORD_RING_H_
