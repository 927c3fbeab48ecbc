// What the two sides of one flow share: a pair of bounded lock-free queues, two
// lists of things given back, and the flags that put the flow on the other side's
// ready ring.
//
// The *stack end* belongs to the poll thread, the *relay end* to the relay's
// thread. Messages of a flow stay in order; the first is kOpen, and kClose (stack)
// and kClosed (relay) are the last of each direction: only after kClosed is the
// flow's memory used again.
//
// Why the queues cannot overflow: towards the host there are at most kOpen, kFin,
// kClose and kDataToHostMax data messages; towards the guest kConnected (or
// kFailed), kEof, kReset, kClosed and one message for each block the flow has
// credit for. Both fit their slots, and a CHECK says so.
//
//   guest's bytes:  stack  --kData(Chunk list)-->  relay  --taken-->      stack
//   host's bytes:   relay  --kData(Block)----->    stack  --returned-->   relay
#ifndef PENSTOCK_RELAY_FLOW_PIPE_H_
#define PENSTOCK_RELAY_FLOW_PIPE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "relay/check.h"
#include "relay/endpoint.h"
#include "relay/inbound.h"
#include "relay/spsc_queue.h"

namespace penstock {

// A run of the guest's bytes inside a buffer of the stack. The relay only reads
// it and gives it back.
struct Chunk {
  const uint8_t* data = nullptr;
  uint32_t length = 0;
  Chunk* next = nullptr;
};

// A run of the host's bytes in a buffer of the relay (block_pool.h). The stack
// only reads it and gives it back once the guest acknowledged it.
struct Block {
  Block* next = nullptr;
  uint8_t* data = nullptr;
  uint32_t length = 0;
  uint32_t capacity = 0;
};

enum class ToHost : uint8_t {
  kOpen,   // dial FlowPipe::open, or adopt its accepted socket
  kData,   // `chunks`, `value` bytes in all
  kFin,    // the guest finished: shut the socket's write side after what is queued
  kClose,  // the guest's side is gone in good order: write what is queued, then close
  kAbort,  // instead of kClose: close with a reset, now
};

enum class ToGuest : uint8_t {
  kConnected,
  kFailed,  // the dial failed; `value` is the errno
  kData,    // `block`
  kEof,     // the host finished
  kReset,   // the host's connection broke; `value` is the errno
  kClosed,  // the relay's last word; everything of the stack was given back
};

struct ToHostMessage {
  Chunk* chunks = nullptr;
  uint32_t value = 0;
  ToHost kind = ToHost::kOpen;
};
struct ToGuestMessage {
  Block* block = nullptr;
  uint32_t value = 0;
  ToGuest kind = ToGuest::kConnected;
};

// Capacities of blocks. A big one holds the largest super-segment to the guest
// (stack/tcpip), a small one what an interactive protocol says at a time.
inline constexpr uint32_t kSmallBlockBytes = 1'024;
inline constexpr uint32_t kBigBlockBytes = 65'496;

// Where a flow leads: tried in order, the next one only if the one before was
// refused. For a client of a published port: its connection, and no destination. For a
// connection of the guest's to the stack itself: likewise, one end of a stream pair.
struct OpenRequest {
  std::array<Endpoint, 2> destinations;
  std::unique_ptr<Inbound> inbound;
  uint8_t destination_count = 1;
  // A block of this size makes one segment to the guest.
  uint32_t block_bytes = 65'480;
};

inline constexpr uint32_t kToHostSlots = 8;
inline constexpr uint32_t kToGuestSlots = 16;
// Data messages towards the host at once; each may carry many chunks.
inline constexpr uint32_t kDataToHostMax = 4;
// Blocks that one flow may have between its host socket and the guest's ACK.
inline constexpr uint32_t kBlockCredit = 8;
static_assert(4 + kDataToHostMax <= kToHostSlots);  // and kAbort after kClose
static_assert(4 + kBlockCredit <= kToGuestSlots);

struct FlowPipe {
  SpscQueue<ToHostMessage, kToHostSlots> to_host;
  SpscQueue<ToGuestMessage, kToGuestSlots> to_guest;
  ReturnList<Chunk> taken;     // relay → stack
  ReturnList<Block> returned;  // stack → relay
  // Set while the flow stands in the ready ring of that side: at most once each.
  std::atomic<bool> ready_for_relay{false};
  std::atomic<bool> ready_for_stack{false};

  // Where to: written by the stack before kOpen, taken by the relay's task.
  std::unique_ptr<OpenRequest> open;
  void* relay_task = nullptr;  // the relay's own
  void* stack_flow = nullptr;  // the stack's own

  void PushToHost(const ToHostMessage& message) noexcept { PENSTOCK_CHECK(to_host.Push(message)); }
  void PushToGuest(const ToGuestMessage& message) noexcept {
    PENSTOCK_CHECK(to_guest.Push(message));
  }
};

using ReadyRing = SpscRing<FlowPipe*>;

// Puts `pipe` on `ring` unless it stands there already. The exchange is the
// partner of BeginService's: what was published before it is seen after that.
inline void MarkReady(std::atomic<bool>& flag, ReadyRing& ring, FlowPipe& pipe) noexcept {
  if (flag.exchange(true, std::memory_order_seq_cst)) return;
  // A flow stands in a ring at most once and the ring holds all flows.
  PENSTOCK_CHECK(ring.Push(&pipe));
}
inline void BeginService(std::atomic<bool>& flag) noexcept {
  flag.exchange(false, std::memory_order_seq_cst);
}

}  // namespace penstock

#endif  // PENSTOCK_RELAY_FLOW_PIPE_H_
