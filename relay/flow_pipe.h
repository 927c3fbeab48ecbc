// What the two sides of one flow share: for each direction a list of bytes, a list of
// those given back and a box of words; and the flags that put the flow on the other
// side's ready ring.
//
// The *stack end* belongs to the poll thread, the *relay end* to the relay's
// thread. Each word is said once in a flow's life, after the bytes that it stands behind;
// whoever takes words first and bytes then has seen these bytes. The first word is kOpen,
// and kClose (stack) and kClosed (relay) are the last of each direction: only after
// kClosed is the flow's memory used again.
//
//   guest's bytes:  stack  --to_host(Chunk)-->   relay  --taken-->     stack
//   host's bytes:   relay  --to_guest(Block)-->  stack  --returned-->  relay
//
// Nothing here can overflow. How many bytes there are at most, credits say: the guest's
// TCP window, which opens again when a chunk was taken, and `block_credit`.
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

// The stack's words.
enum class ToHost : uint8_t {
  kOpen = 1,   // dial FlowPipe::open, or adopt its accepted socket
  kFin = 2,    // the guest finished: shut the socket's write side after what is queued
  kClose = 4,  // the guest's side is gone in good order: write what is queued, then close
  kAbort = 8,  // instead of kClose, or after it: close with a reset, now
};

// The relay's.
enum class ToGuest : uint8_t {
  kConnected = 1,
  kFailed = 2,   // the dial failed; FlowPipe::error is the errno
  kEof = 4,      // the host finished
  kReset = 8,    // the host's connection broke; FlowPipe::error is the errno
  kClosed = 16,  // the last word; everything of the stack was given back
};

// Some words, of one side.
template <typename Word>
class Words final {
 public:
  Words() = default;
  explicit Words(uint8_t bits) : bits_(bits) {}
  [[nodiscard]] bool Has(Word word) const { return (bits_ & static_cast<uint8_t>(word)) != 0; }
  [[nodiscard]] bool empty() const { return bits_ == 0; }

 private:
  uint8_t bits_ = 0;
};

// What one side has said and the other one has not taken.
template <typename Word>
class WordBox final {
 public:
  // The side that speaks.
  void Say(Word word) noexcept {
    bits_.fetch_or(static_cast<uint8_t>(word), std::memory_order_seq_cst);
  }
  // The same, for a flow that begins: what was said last to the one before it, and came
  // too late to be taken, is forgotten.
  void SayFirst(Word word) noexcept {
    bits_.store(static_cast<uint8_t>(word), std::memory_order_seq_cst);
  }
  // The side that listens.
  [[nodiscard]] Words<Word> Take() noexcept {
    if (bits_.load(std::memory_order_relaxed) == 0) return {};
    return Words<Word>(bits_.exchange(0, std::memory_order_seq_cst));
  }
  [[nodiscard]] Words<Word> Peek() const noexcept {
    return Words<Word>(bits_.load(std::memory_order_seq_cst));
  }

 private:
  std::atomic<uint8_t> bits_{0};
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

// Blocks that one flow may have between its host socket and the guest's ACK: as a flow
// begins (512 KiB, all that a guest which acknowledges nothing can make it hold), and at most
// (4 MiB, for a guest that is far away).
inline constexpr uint8_t kBlockCredit = 8;
inline constexpr uint8_t kBlockCreditMax = 64;

struct FlowPipe {
  ReturnList<Chunk> to_host;
  ReturnList<Chunk> taken;
  ReturnList<Block> to_guest;
  ReturnList<Block> returned;
  WordBox<ToHost> words_to_host;
  WordBox<ToGuest> words_to_guest;
  // Set while the flow stands in the ready ring of that side: at most once each.
  std::atomic<bool> ready_for_relay{false};
  std::atomic<bool> ready_for_stack{false};
  // The stack's to raise while the flow lives.
  std::atomic<uint8_t> block_credit{kBlockCredit};
  // The relay's own: it had no memory for a task, and the stack's last word is awaited.
  bool has_no_task = false;
  // The relay's, written before the word that it belongs to.
  int error = 0;

  // Where to: written by the stack before kOpen, taken by the relay's task.
  std::unique_ptr<OpenRequest> open;
  void* relay_task = nullptr;  // the relay's own
  void* stack_flow = nullptr;  // the stack's own
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
