// The one deadline structure of a stack: a binary heap with one entry per item,
// brought up to date lazily. Moving a deadline later costs nothing until its entry is
// at the top; moving it earlier moves the entry at once. So traffic on a flow, which
// only ever moves its deadline later, hardly touches the heap, and next() is exact: an
// idle stack is not woken for a deadline that has moved. Poll thread.
#ifndef PENSTOCK_STACK_FLOW_DEADLINES_H_
#define PENSTOCK_STACK_FLOW_DEADLINES_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "relay/time.h"

namespace penstock {

inline constexpr uint32_t kNoDeadlineSlot = ~uint32_t{0};

// Item has `Time deadline` (kNever: none) and `uint32_t deadline_slot =
// kNoDeadlineSlot`, which is ours. Items outlive the structure.
template <typename Item>
class Deadlines {
 public:
  // To be called after item.deadline changed.
  void Schedule(Item& item) {
    if (item.deadline_slot == kNoDeadlineSlot) {
      if (item.deadline == kNever) return;
      item.deadline_slot = static_cast<uint32_t>(heap_.size());
      heap_.push_back({item.deadline, &item});
      Rise(item.deadline_slot);
    } else if (item.deadline < heap_[item.deadline_slot].time) {
      heap_[item.deadline_slot].time = item.deadline;
      Rise(item.deadline_slot);
    }
  }

  // An item whose deadline has come, off the heap; nullptr if there is none. The
  // caller gives it a new deadline and calls Schedule, or leaves it.
  [[nodiscard]] Item* TakeDue(Time now) {
    if (next() > now || heap_.empty()) return nullptr;
    Item* item = heap_.front().item;
    RemoveFirst();
    return item;
  }

  // When the first deadline is.
  [[nodiscard]] Time next() {
    while (!heap_.empty()) {
      Entry& first = heap_.front();
      if (first.item->deadline == first.time) return first.time;
      if (first.item->deadline == kNever) {
        RemoveFirst();
      } else {
        first.time = first.item->deadline;
        Sink(0);
      }
    }
    return kNever;
  }

  [[nodiscard]] size_t size() const { return heap_.size(); }

 private:
  struct Entry {
    Time time;  // not later than item->deadline
    Item* item;
  };

  void RemoveFirst() {
    heap_.front().item->deadline_slot = kNoDeadlineSlot;
    heap_.front() = heap_.back();
    heap_.pop_back();
    if (heap_.empty()) return;
    heap_.front().item->deadline_slot = 0;
    Sink(0);
  }

  void Swap(size_t a, size_t b) {
    std::swap(heap_[a], heap_[b]);
    heap_[a].item->deadline_slot = static_cast<uint32_t>(a);
    heap_[b].item->deadline_slot = static_cast<uint32_t>(b);
  }

  void Rise(size_t slot) {
    for (size_t parent; slot > 0 && heap_[slot].time < heap_[parent = (slot - 1) / 2].time;
         slot = parent) {
      Swap(slot, parent);
    }
  }

  void Sink(size_t slot) {
    for (;;) {
      size_t least = slot;
      for (const size_t child : {2 * slot + 1, 2 * slot + 2}) {
        if (child < heap_.size() && heap_[child].time < heap_[least].time) least = child;
      }
      if (least == slot) return;
      Swap(slot, least);
      slot = least;
    }
  }

  std::vector<Entry> heap_;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_FLOW_DEADLINES_H_
