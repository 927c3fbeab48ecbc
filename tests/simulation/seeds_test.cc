// Seeds of the simulated world: a fixed set, some that nobody has run before, and the
// scenarios that once failed and are kept by name (kept/NAME.scenario; their first line
// says what was wrong).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/places.h"
#include "tests/world/runs.h"

namespace penstock::world {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kSeeds = 150;  // a sanitized process takes its time to fork
#else
constexpr uint64_t kSeeds = 2000;
#endif
constexpr uint64_t kShownMax = 3;

void ExpectGreen(uint64_t first, uint64_t count) {
  const unsigned jobs = std::max(1u, std::thread::hardware_concurrency());
  const ManyOutcome outcome = RunSeeds(first, count, jobs, kShownMax, {});
  EXPECT_EQ(outcome.green, count);
  for (const FailedSeed& failed : outcome.failed) {
    ADD_FAILURE() << "./tools/dev sim --seed=" << failed.seed << "\n" << failed.violation;
  }
}

TEST(Seeds, FixedSet) { ExpectGreen(1, kSeeds); }

TEST(Seeds, NobodyHasRunBefore) {
  const uint64_t first = std::random_device{}() * uint64_t{1'000'000};
  std::cout << "seeds from " << first << "\n";
  ExpectGreen(first, kSeeds / 4);
}

TEST(Seeds, SameSeedIsTheSameRun) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const Scenario scenario = DrawScenario(seed);
    const RunOutcome first = RunScenario(scenario);
    const RunOutcome second = RunScenario(scenario);
    EXPECT_EQ(first.digest, second.digest) << "seed " << seed;
    EXPECT_EQ(first.steps, second.steps) << "seed " << seed;
  }
}

std::vector<std::string> Kept() {
  std::vector<std::string> names;
  const std::string folder = SourcePath("tests/simulation/kept");
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().stem());
  }
  std::sort(names.begin(), names.end());
  return names;
}

class KeptScenario : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Kept, KeptScenario, testing::ValuesIn(Kept()),
                         [](const auto& test) { return test.param; });

TEST_P(KeptScenario, IsGreen) {
  std::ifstream file(SourcePath("tests/simulation/kept/" + GetParam() + ".scenario"));
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const auto scenario = ParseScenario(text);
  ASSERT_TRUE(scenario.ok()) << scenario.status();
  EXPECT_EQ(RunScenario(*scenario).violation, "");
}

}  // namespace
}  // namespace penstock::world
