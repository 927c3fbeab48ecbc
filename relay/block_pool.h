// Buffers for the host's bytes on their way to the guest. One pool per relay,
// used on its thread only: blocks leave it with a message and come back through
// FlowPipe::returned.
//
// Two sizes: small blocks for what fits a message of an interactive protocol, big
// ones for streams. Idle flows hold none.
//
// Shared by dynamic thresholds (Choudhury and Hahne, 1998): a flow may have a quarter
// of what is free, so that stalled flows, however many, always leave some for the
// others, and no flow need ever be given up for memory. What does not fit a big block
// goes on in small ones, of which a flow may always have one.
#ifndef PENSTOCK_RELAY_BLOCK_POOL_H_
#define PENSTOCK_RELAY_BLOCK_POOL_H_

#include <cstddef>
#include <cstdint>

#include "relay/flow_pipe.h"

namespace penstock {

class BlockPool {
 public:
  explicit BlockPool(uint64_t bytes_max) : bytes_max_(bytes_max) {}
  ~BlockPool();
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  [[nodiscard]] Block* TakeSmall() { return Take(small_, kSmallBlockBytes); }
  [[nodiscard]] Block* TakeBig() { return Take(big_, kBigBlockBytes); }
  // A small block although the pool is at its limit, for bytes that were already
  // read: the flow then waits until the pool has room. nullptr: the system has no memory.
  [[nodiscard]] Block* TakeBeyondLimit();
  void Give(Block* block);

  // Bytes of blocks that one flow may have out now.
  [[nodiscard]] uint64_t flow_limit_bytes() const {
    return bytes_out_ < bytes_max_ ? (bytes_max_ - bytes_out_) / 4 : 0;
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
  Block* Take(FreeList& list, uint32_t capacity);
  Block* Make(FreeList& list, uint32_t capacity);

  const uint64_t bytes_max_;
  uint64_t bytes_out_ = 0;
  FreeList small_, big_;
};

}  // namespace penstock

#endif  // PENSTOCK_RELAY_BLOCK_POOL_H_
