// Buffers for datagrams. Each side has one pool (one per relay, one per stack), used on
// its own thread only: datagrams leave it into a pipe and come back through it.
//
// The queues of UDP are bounded here, in bytes: a pipe may have kPipeBytesMax out, and no
// more than a quarter of what its pool has left (as in block_pool.h), so that pipes whose
// other side takes nothing, however many, leave room for the others.
#ifndef PENSTOCK_RELAY_DATAGRAM_POOL_H_
#define PENSTOCK_RELAY_DATAGRAM_POOL_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "relay/datagram_pipe.h"

namespace penstock {

class DatagramPool final {
 public:
  // Of one pipe: what a kernel's socket buffer may be set to at most, and 30 datagrams of
  // the largest size. Of a pool: sixteen such pipes.
  static constexpr uint64_t kPipeBytesMax = uint64_t{2} << 20;
  static constexpr uint64_t kPoolBytesMax = 16 * kPipeBytesMax;

  explicit DatagramPool(uint64_t bytes_max = kPoolBytesMax) : bytes_max_(bytes_max) {}
  ~DatagramPool();
  DatagramPool(const DatagramPool&) = delete;
  DatagramPool& operator=(const DatagramPool&) = delete;

  // A datagram with room for `length` bytes (at most kDatagramBytesMax), which is set;
  // nullptr at a limit or without memory. `pipe_bytes` is what the pipe has out, and is
  // kept up to date.
  [[nodiscard]] Datagram* Take(uint32_t length, uint64_t& pipe_bytes);
  void Give(Datagram* datagram, uint64_t& pipe_bytes);
  // A whole list, linked by `next`.
  void GiveAll(Datagram* datagrams, uint64_t& pipe_bytes);
  // Of a pipe for which nobody counts any more.
  void GiveAll(Datagram* datagrams);

  // What the datagrams that are out take of memory.
  [[nodiscard]] uint64_t bytes_out() const { return bytes_out_; }
  [[nodiscard]] static uint64_t Cost(const Datagram& datagram) { return CostOf(datagram.capacity); }

 private:
  [[nodiscard]] static constexpr uint64_t CostOf(uint32_t capacity) {
    return sizeof(Datagram) + kDatagramHeadroomBytes + capacity;
  }
  // Right-sized, or 64 bytes of a name server's answer would cost 64 KiB of the limit.
  static constexpr std::array<uint32_t, 4> kCapacities{512, 2'048, 16'384, kDatagramBytesMax};
  // Bytes of free datagrams kept of each size; the rest goes back to the allocator.
  static constexpr uint32_t kFreeBytesMax = 1u << 20;

  struct FreeList {
    Datagram* head = nullptr;
    uint32_t bytes = 0;
  };
  [[nodiscard]] static size_t ClassOf(uint32_t length);
  void Free(Datagram* datagram);

  const uint64_t bytes_max_;
  uint64_t bytes_out_ = 0;
  std::array<FreeList, kCapacities.size()> free_;
};

}  // namespace penstock

#endif  // PENSTOCK_RELAY_DATAGRAM_POOL_H_
