// The one deadline structure of a stack: a heap with at most a few entries per
// item, updated lazily. Moving a deadline later costs nothing (the old entry fires,
// is asked for the item's present deadline and put back); moving it earlier adds an
// entry. So traffic on a flow never touches the heap. Poll thread.
#ifndef PENSTOCK_STACK_FLOW_DEADLINES_H_
#define PENSTOCK_STACK_FLOW_DEADLINES_H_

#include <queue>
#include <vector>

#include "relay/time.h"

namespace penstock {

// Item has `Time deadline` (kNever: none) and `Time scheduled = kNever`, which is
// ours. Items outlive the structure or at least their entries.
template <typename Item>
class Deadlines {
 public:
  // To be called after item.deadline moved earlier; harmless otherwise.
  void Schedule(Item& item) {
    if (item.deadline >= item.scheduled) return;
    item.scheduled = item.deadline;
    heap_.push({item.deadline, &item});
  }

  // An item whose deadline has come, nullptr if there is none. The caller moves or
  // clears its deadline and calls Schedule.
  [[nodiscard]] Item* TakeDue(Time now) {
    while (!heap_.empty() && heap_.top().time <= now) {
      const Entry entry = heap_.top();
      heap_.pop();
      if (entry.item->scheduled != entry.time) continue;  // an earlier one replaced it
      entry.item->scheduled = kNever;
      if (entry.item->deadline <= now) return entry.item;
      Schedule(*entry.item);
    }
    return nullptr;
  }

  // When to look again: not later than the first deadline, perhaps earlier.
  [[nodiscard]] Time next() {
    while (!heap_.empty()) {
      const Entry entry = heap_.top();
      if (entry.item->scheduled == entry.time) {
        if (entry.item->deadline == entry.time) return entry.time;
        // Moved: an idle stack must not be woken for the old one.
        heap_.pop();
        entry.item->scheduled = kNever;
        Schedule(*entry.item);
        continue;
      }
      heap_.pop();
    }
    return kNever;
  }

 private:
  struct Entry {
    Time time;
    Item* item;
    bool operator<(const Entry& other) const { return time > other.time; }
  };
  std::priority_queue<Entry> heap_;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_FLOW_DEADLINES_H_
