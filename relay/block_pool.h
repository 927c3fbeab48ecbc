// Buffers for the host's bytes on their way to the guest. One pool per relay,
// used on its thread only: blocks leave it with a message and come back through
// FlowPipe::returned.
//
// Two sizes: small blocks for what fits a message of an interactive protocol, big
// ones for streams. Idle flows hold none.
//
// Stalled flows cannot starve the others: above half of `bytes_max` a flow may have
// fewer blocks out (credit()), above three quarters one small one, so that the last
// quarter is enough for every flow to go on. Should it run out all the same, Take
// returns nullptr and the flow waits until a block comes back.
#ifndef PENSTOCK_RELAY_BLOCK_POOL_H_
#define PENSTOCK_RELAY_BLOCK_POOL_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "relay/flow_pipe.h"

namespace penstock {

// Up to this many bytes of a read go into a small block.
inline constexpr uint32_t kSmallBlockBytes = 1'024;
// The largest super-segment to the guest (stack/tcpip).
inline constexpr uint32_t kBigBlockBytes = 65'496;

class BlockPool {
 public:
  explicit BlockPool(uint64_t bytes_max) : bytes_max_(bytes_max) {}
  ~BlockPool();
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  [[nodiscard]] Block* TakeSmall() { return Take(small_, kSmallBlockBytes, bytes_max_); }
  // nullptr above three quarters.
  [[nodiscard]] Block* TakeBig() { return Take(big_, kBigBlockBytes, bytes_max_ / 4 * 3); }
  // A small block although the pool is at its limit, for bytes that were already
  // read: the flow then waits until the pool has room.
  [[nodiscard]] Block* TakeBeyondLimit();
  void Give(Block* block);

  // Blocks that one flow may have out now.
  [[nodiscard]] uint32_t credit() const {
    if (bytes_out_ < bytes_max_ / 2) return kBlockCredit;
    return bytes_out_ < bytes_max_ / 4 * 3 ? 2 : 1;
  }
  // Above half: any thread may ask.
  [[nodiscard]] bool under_pressure() const {
    return under_pressure_.load(std::memory_order_relaxed);
  }

  // TakeSmall would succeed.
  [[nodiscard]] bool HasRoom() const { return bytes_out_ + kSmallBlockBytes <= bytes_max_; }
  // Bytes of the blocks that are out.
  [[nodiscard]] uint64_t bytes_out() const { return bytes_out_; }

 private:
  struct FreeList {
    Block* head = nullptr;
    uint32_t count = 0;
  };
  Block* Take(FreeList& list, uint32_t capacity, uint64_t limit);
  void Count(uint64_t bytes_out);
  Block* Make(FreeList& list, uint32_t capacity);

  const uint64_t bytes_max_;
  uint64_t bytes_out_ = 0;
  FreeList small_, big_;
  std::atomic<bool> under_pressure_{false};
};

}  // namespace penstock

#endif  // PENSTOCK_RELAY_BLOCK_POOL_H_
