// Runs of the world, each in a process of its own: one scenario, many seeds in parallel,
// and the search for a smaller scenario that fails as well.
#ifndef PENSTOCK_TESTS_WORLD_RUNS_H_
#define PENSTOCK_TESTS_WORLD_RUNS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "relay/time.h"
#include "tests/world/scenario.h"

namespace penstock::world {

struct RunOutcome {
  std::string violation;  // empty: green
  uint64_t steps = 0;
  Duration virtual_time{};
  uint64_t digest = 0;  // of all counters at the end: the same for the same run
};

// Longest real time of one run.
inline constexpr Duration kRunLimit = std::chrono::seconds(120);

struct RunFiles {
  std::string trace;    // a file for a person to read; empty: none
  std::string capture;  // pcapng; empty: none
};
[[nodiscard]] RunOutcome RunScenario(const Scenario& scenario, const RunFiles& files = {});

struct FailedSeed {
  uint64_t seed = 0;
  std::string violation;
};
struct ManyOutcome {
  uint64_t green = 0;
  uint64_t steps = 0;
  Duration virtual_time{};
  std::vector<FailedSeed> failed;  // by seed; the first ones where there are many
  uint64_t failed_count = 0;
};
struct ManyProgress {
  uint64_t done = 0;
  uint64_t failed = 0;
};
// Seeds first to first + count - 1, `jobs` at a time. `progress` is called about once a
// second. Stops early once `failures_max` have failed.
[[nodiscard]] ManyOutcome RunSeeds(uint64_t first, uint64_t count, unsigned jobs,
                                   uint64_t failures_max,
                                   const std::function<void(const ManyProgress&)>& progress);

// A scenario that fails, too, with fewer flows, bytes and faults; at most `runs_max` runs.
// `fails` tells whether a scenario does. `progress` is told of each step forward.
[[nodiscard]] Scenario Shrink(Scenario scenario, int runs_max,
                              const std::function<bool(const Scenario&)>& fails,
                              const std::function<void(const Scenario&)>& progress);

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_RUNS_H_
