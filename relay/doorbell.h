// Wakes a thread that sleeps on a descriptor, and only then.
//
// The protocol has no stand-alone fence. The consumer works until its queues are
// empty, calls Arm(), looks at its queues once more, and sleeps on descriptor().
// A producer publishes (seq_cst), then calls RingIfArmed(). Either the consumer's
// second look sees what was published, or the producer sees the armed flag: a wake
// is never lost, and a consumer that is awake costs the producer one load.
//
// `armed_` pairs with the indices of the queues in spsc_queue.h.
#ifndef PENSTOCK_RELAY_DOORBELL_H_
#define PENSTOCK_RELAY_DOORBELL_H_

#include <atomic>
#include <cstdint>

#include "absl/status/status.h"

namespace penstock {

class Doorbell {
 public:
  Doorbell() = default;
  ~Doorbell();
  Doorbell(const Doorbell&) = delete;
  Doorbell& operator=(const Doorbell&) = delete;

  // Opens the eventfd. ResourceExhausted if there is no descriptor left.
  [[nodiscard]] absl::Status Open();
  // Readable once rung, until Silence().
  [[nodiscard]] int descriptor() const { return descriptor_; }

  // One-thread form: instead of the eventfd, RingIfArmed calls `hook(context)`.
  // Before any use.
  void SetHook(void (*hook)(void*), void* context) {
    hook_ = hook;
    hook_context_ = context;
  }

  // Consumer.
  void Arm() noexcept { armed_.store(true, std::memory_order_seq_cst); }
  // Awake again. Empties the eventfd if it was rung; no system call if not.
  void Silence() noexcept;
  // The same after the caller has read the eventfd itself (Asio did).
  void Silenced() noexcept {
    armed_.store(false, std::memory_order_seq_cst);
    rung_.store(false, std::memory_order_seq_cst);
  }

  // Producers, any thread. True if the consumer had to be woken.
  bool RingIfArmed() noexcept {
    if (!armed_.load(std::memory_order_seq_cst)) return false;
    if (!armed_.exchange(false, std::memory_order_seq_cst)) return false;
    if (hook_ != nullptr) {
      hook_(hook_context_);
    } else {
      Ring();
    }
    return true;
  }
  // Any thread and signal handlers: rings unless it is ringing already.
  void Ring() noexcept;

 private:
  int descriptor_ = -1;
  void (*hook_)(void*) = nullptr;
  void* hook_context_ = nullptr;
  std::atomic<bool> armed_{false};
  std::atomic<bool> rung_{false};
};

}  // namespace penstock

#endif  // PENSTOCK_RELAY_DOORBELL_H_
