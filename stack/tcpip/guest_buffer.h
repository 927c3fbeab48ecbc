// Buffers for frames from the guest, and with them the guest's bytes on their way
// to the host. One pool per stack; poll thread only.
//
// A frame is read into a big buffer. What must be kept is copied to the smallest
// size that fits, unless it nearly fills the big one: otherwise a guest could pin
// 64 KiB with each small segment. So a kept byte never costs more than eight.
#ifndef PENSTOCK_STACK_TCPIP_GUEST_BUFFER_H_
#define PENSTOCK_STACK_TCPIP_GUEST_BUFFER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "relay/flow_pipe.h"
#include "stack/link/frame.h"

namespace penstock {

class GuestBufferPool;

struct GuestBuffer {
  Chunk chunk;  // first: what the relay gives back is cast to the buffer
  GuestBufferPool* pool = nullptr;
  GuestBuffer* next_free = nullptr;
  uint8_t* data = nullptr;
  uint32_t capacity = 0;
  uint8_t size_class = 0;
  // A receive slot of the stack: outlives the pbuf made over it.
  bool is_slot = false;
  alignas(16) std::byte pbuf[64];  // lwIP's struct pbuf_custom (engine.cc)

  [[nodiscard]] std::span<uint8_t> room() { return {data, capacity}; }
};

class GuestBufferPool {
 public:
  explicit GuestBufferPool(uint64_t bytes_max) : bytes_max_(bytes_max) {}
  // Every buffer must have come back.
  ~GuestBufferPool();
  GuestBufferPool(const GuestBufferPool&) = delete;
  GuestBufferPool& operator=(const GuestBufferPool&) = delete;

  // A buffer of at least `bytes` (≤ kFrameBytesMax); nullptr at the limit, and where the
  // system has no memory.
  [[nodiscard]] GuestBuffer* Take(size_t bytes);
  // Whether one of at least `bytes` can be had now: before a receive slot is kept, for what
  // replaces it, which is then TakeReserved.
  [[nodiscard]] bool Reserve(size_t bytes);
  [[nodiscard]] GuestBuffer* TakeReserved(size_t bytes);
  void Give(GuestBuffer* buffer);

  [[nodiscard]] uint64_t bytes_out() const { return bytes_out_; }

 private:
  static constexpr std::array<uint32_t, 3> kSizes = {2'048, 16'384, kFrameBytesMax};
  // Free buffers kept of each size; the rest goes back to the allocator.
  static constexpr std::array<uint32_t, 3> kFreeMax = {256, 64, 64};

  [[nodiscard]] static uint8_t SizeClass(size_t bytes);
  [[nodiscard]] GuestBuffer* Make(uint8_t size_class);
  [[nodiscard]] GuestBuffer* Allocate(uint8_t size_class);

  const uint64_t bytes_max_;
  uint64_t bytes_out_ = 0;
  std::array<GuestBuffer*, 3> free_{};
  std::array<uint32_t, 3> free_count_{};
};

// Payloads above this stay in the buffer that they were read into.
inline constexpr size_t kKeepInPlaceBytes = 16'384;

}  // namespace penstock

#endif  // PENSTOCK_STACK_TCPIP_GUEST_BUFFER_H_
