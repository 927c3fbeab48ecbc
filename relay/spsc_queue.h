// Lock-free queues with one producer and one consumer.
//
// SpscRing has a capacity chosen at run time (one per relay and direction) and keeps its
// indices apart: `tail_` is written by the producer, `head_` by the consumer. ReturnList
// is a word, for what is bounded elsewhere (several per flow). All are sequentially
// consistent where a doorbell's `armed` flag (doorbell.h) is ordered against them.
#ifndef PENSTOCK_RELAY_SPSC_QUEUE_H_
#define PENSTOCK_RELAY_SPSC_QUEUE_H_

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace penstock {

template <typename T>
class SpscRing {
 public:
  // Holds at least `count_max` elements.
  explicit SpscRing(uint32_t count_max)
      : mask_(std::bit_ceil(count_max < 2 ? 2u : count_max) - 1),
        slots_(std::make_unique<T[]>(size_t{mask_} + 1)) {}

  bool Push(const T& value) noexcept {
    const uint32_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_.load(std::memory_order_acquire) == mask_ + 1) return false;
    slots_[tail & mask_] = value;
    tail_.store(tail + 1, std::memory_order_seq_cst);
    return true;
  }
  bool Pop(T& value) noexcept {
    const uint32_t head = head_.load(std::memory_order_relaxed);
    if (tail_.load(std::memory_order_seq_cst) == head) return false;
    value = slots_[head & mask_];
    head_.store(head + 1, std::memory_order_release);
    return true;
  }
  [[nodiscard]] bool empty() const noexcept {
    return tail_.load(std::memory_order_seq_cst) == head_.load(std::memory_order_relaxed);
  }

 private:
  const uint32_t mask_;
  std::unique_ptr<T[]> slots_;
  alignas(64) std::atomic<uint32_t> tail_{0};
  alignas(64) std::atomic<uint32_t> head_{0};
};

// An intrusive list that one thread pushes to and one thread takes whole: things
// that are given back, or handed over where whoever made them bounds how many there
// are. It cannot overflow. T has a member `T* next`.
template <typename T>
class ReturnList {
 public:
  void Push(T* item) noexcept { PushChain(item, item); }
  // Several by one atomic operation: `newest`, and by `next` the ones before it down to
  // `oldest`.
  void PushChain(T* newest, T* oldest) noexcept {
    T* head = head_.load(std::memory_order_relaxed);
    do {
      oldest->next = head;
    } while (!head_.compare_exchange_weak(head, newest, std::memory_order_seq_cst,
                                          std::memory_order_relaxed));
  }
  // A chain that is linked the other way round, the one to be taken first in front. Not
  // empty.
  void PushInOrder(T* first) noexcept {
    T* newest = nullptr;
    for (T* item = first; item != nullptr;) {
      T* next = item->next;
      item->next = newest;
      newest = item;
      item = next;
    }
    PushChain(newest, first);
  }
  // All items, linked by `next` in the order in which they were pushed.
  [[nodiscard]] T* TakeInOrder() noexcept {
    T* in_order = nullptr;
    for (T* item = TakeAll(); item != nullptr;) {
      T* next = item->next;
      item->next = in_order;
      in_order = item;
      item = next;
    }
    return in_order;
  }
  // All items, linked by `next`, newest first; nullptr if there are none.
  [[nodiscard]] T* TakeAll() noexcept {
    if (head_.load(std::memory_order_relaxed) == nullptr) return nullptr;
    return head_.exchange(nullptr, std::memory_order_seq_cst);
  }
  [[nodiscard]] bool empty() const noexcept {
    return head_.load(std::memory_order_seq_cst) == nullptr;
  }
  // The taking thread: shows what waits without taking it.
  template <typename Visitor>
  void ForEach(Visitor&& visit) const {
    for (const T* item = head_.load(std::memory_order_seq_cst); item != nullptr;
         item = item->next) {
      visit(*item);
    }
  }

 private:
  std::atomic<T*> head_{nullptr};
};

}  // namespace penstock

#endif  // PENSTOCK_RELAY_SPSC_QUEUE_H_
