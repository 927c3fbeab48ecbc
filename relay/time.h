// The one notion of time. Time is always an argument: only the driver loops
// (tools, relay threads' own loop, the Asio driver) read the clock.
#ifndef PENSTOCK_RELAY_TIME_H_
#define PENSTOCK_RELAY_TIME_H_

#include <chrono>

namespace penstock {

using Clock = std::chrono::steady_clock;
using Duration = Clock::duration;
using Time = Clock::time_point;

// A deadline that never comes.
inline constexpr Time kNever = Time::max();

// `now + after`, or kNever where that would overflow.
inline constexpr Time After(Time now, Duration after) {
  return after >= kNever - now ? kNever : now + after;
}

}  // namespace penstock

#endif  // PENSTOCK_RELAY_TIME_H_
