#include "relay/block_pool.h"

#include <cstdlib>
#include <new>

namespace penstock {
namespace {

// Free blocks kept for reuse: enough for a few streams at full speed (16 × 64 KiB),
// the rest goes back to the allocator so that a burst does not stay resident.
constexpr uint32_t kFreeBigMax = 32;
constexpr uint32_t kFreeSmallMax = 256;
// A block's bytes begin at a cache line: the kernel copies them there up to a tenth faster
// (bulk data to guest at MTU 65520). The line before them is the block's own.
constexpr size_t kLineBytes = 64;
static_assert(sizeof(Block) <= kLineBytes);

void FreeAll(Block* block) {
  while (block != nullptr) {
    Block* next = block->next;
    std::free(block);
    block = next;
  }
}

}  // namespace

BlockPool::~BlockPool() {
  FreeAll(small_.head);
  FreeAll(big_.head);
}

Block* BlockPool::Take(FreeList& list, uint32_t capacity) {
  return bytes_out_ + capacity > bytes_max_ ? nullptr : Make(list, capacity);
}

Block* BlockPool::TakeBeyondLimit() { return Make(small_, kSmallBlockBytes); }

Block* BlockPool::Make(FreeList& list, uint32_t capacity) {
  Block* block = list.head;
  if (block != nullptr) {
    list.head = block->next;
    --list.count;
  } else {
    const size_t bytes = (kLineBytes + capacity + kLineBytes - 1) / kLineBytes * kLineBytes;
    void* memory = std::aligned_alloc(kLineBytes, bytes);
    if (memory == nullptr) return nullptr;
    block = new (memory) Block;
    block->data = static_cast<uint8_t*>(memory) + kLineBytes;
    block->capacity = capacity;
  }
  block->next = nullptr;
  block->length = 0;
  bytes_out_ += capacity;
  return block;
}

void BlockPool::Give(Block* block) {
  bytes_out_ -= block->capacity;
  const bool big = block->capacity == kBigBlockBytes;
  FreeList& list = big ? big_ : small_;
  if (list.count >= (big ? kFreeBigMax : kFreeSmallMax)) {
    std::free(block);
    return;
  }
  block->next = list.head;
  list.head = block;
  ++list.count;
}

}  // namespace penstock
