// Events of a stack as the lines that subscribers of the control socket get (the README of
// tools/ has the members). Any thread.
#ifndef PENSTOCK_TOOLS_PENSTOCK_EVENT_JSON_H_
#define PENSTOCK_TOOLS_PENSTOCK_EVENT_JSON_H_

#include <chrono>
#include <string>

#include "relay/time.h"
#include "stack/events.h"

namespace penstock::tool {

// Two clocks at one moment. Taken anew for each batch of events, so that a wall clock that
// is set goes on being right.
struct ClockPair {
  Time steady{};
  std::chrono::system_clock::time_point wall{};

  [[nodiscard]] static ClockPair Now();
  // What the wall clock showed, or would have shown, at `time`.
  [[nodiscard]] std::chrono::system_clock::time_point WallAt(Time time) const;
};

// "2026-01-31T23:59:59.123456Z".
[[nodiscard]] std::string UtcText(std::chrono::system_clock::time_point time);

// One line. What an event does not have is left out.
[[nodiscard]] std::string EventLine(const Event& event, const ClockPair& clocks);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_EVENT_JSON_H_
