// Events on their way from the stack to whoever watches: a bounded lock-free ring. The stack
// writes (poll thread), one other thread reads; a reader that is slow, or is not there, loses
// the newest ones, which are counted (`events_lost`), and holds nothing up. Nothing is
// allocated for an event.
#ifndef PENSTOCK_STACK_EVENT_STREAM_H_
#define PENSTOCK_STACK_EVENT_STREAM_H_

#include <cstdint>
#include <memory>

#include "relay/spsc_queue.h"
#include "stack/events.h"

namespace penstock {

// `count_max` 0: off, nothing is held or counted.
class EventStream final {
 public:
  explicit EventStream(uint32_t count_max);
  EventStream(const EventStream&) = delete;
  EventStream& operator=(const EventStream&) = delete;

  // ---- The stack's.
  [[nodiscard]] bool on() const { return ring_ != nullptr; }
  // False: there was no room, or it is off.
  bool Put(const Event& event) noexcept;

  // ---- The reader's.
  // The oldest one; false: none waits.
  [[nodiscard]] bool Take(Event& event) noexcept;

 private:
  const std::unique_ptr<SpscRing<Event>> ring_;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_EVENT_STREAM_H_
