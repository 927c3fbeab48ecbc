// A count with one writer and any reader. Any thread reads.
#ifndef PENSTOCK_RELAY_COUNTER_H_
#define PENSTOCK_RELAY_COUNTER_H_

#include <atomic>
#include <cstdint>

namespace penstock {

// Add is a plain load and store, not a locked one.
class Counter {
 public:
  void Add(uint64_t n) noexcept {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  void Set(uint64_t value) noexcept { value_.store(value, std::memory_order_relaxed); }
  [[nodiscard]] uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

}  // namespace penstock

#endif  // PENSTOCK_RELAY_COUNTER_H_
