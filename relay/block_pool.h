// Buffers for the host's bytes on their way to the guest. One pool per relay,
// used on its thread only: blocks leave it with a message and come back through
// FlowPipe::returned.
//
// Two sizes: small blocks for what fits a message of an interactive protocol, big
// ones for streams. Idle flows hold none. At `bytes_max` Take returns nullptr and
// the flow waits until one comes back.
#ifndef PENSTOCK_RELAY_BLOCK_POOL_H_
#define PENSTOCK_RELAY_BLOCK_POOL_H_

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

  [[nodiscard]] Block* TakeSmall() { return Take(small_, kSmallBlockBytes); }
  [[nodiscard]] Block* TakeBig() { return Take(big_, kBigBlockBytes); }
  // A small block although the pool is at its limit, for bytes that were already
  // read: at most one per flow, because the flow then waits.
  [[nodiscard]] Block* TakeBeyondLimit();
  void Give(Block* block);

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
