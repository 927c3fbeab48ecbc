// Who takes a world's events (stack/events.h), and compares what they tell with itself and
// with the counters: each flow is told of once, from its beginning to its end, with the same
// ends; each denial of a policy's is told; and what is missing was counted as lost. One thread.
#ifndef PENSTOCK_TESTS_WORLD_EVENT_WATCH_H_
#define PENSTOCK_TESTS_WORLD_EVENT_WATCH_H_

#include <cstdint>
#include <map>

#include "stack/counters.h"
#include "stack/events.h"
#include "tests/world/scenario.h"

namespace penstock::world {

class EventWatch final {
 public:
  // Both throw Violation.
  void Take(const Event& event);
  // No flow is left, but clients of published UDP ports may be.
  void VerifyEnd(const CounterSnapshot& counters, const Scenario& scenario) const;

 private:
  void TakeClosed(const Event& event);

  std::map<uint64_t, Event> open_;  // by the flow's number
  uint64_t newest_ = 0;
  uint64_t unheard_of_ = 0;  // closed, and were not told of before
  uint64_t denied_ = 0;      // by a policy
  uint64_t ended_denied_ = 0;
};

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_EVENT_WATCH_H_
