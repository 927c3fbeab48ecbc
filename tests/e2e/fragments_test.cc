// Datagrams longer than the MTU, cut by a kernel and put together by penstock, and the
// other way round.

#include <string>

#include "tests/support/sandbox.h"

namespace penstock::e2e {
namespace {

class Fragments : public SandboxTest {};

INSTANTIATE_TEST_SUITE_P(E2e, Fragments, ::testing::ValuesIn(EveryCase()), CaseName);

// The largest is of 45 fragments. ping itself says if a byte came back wrong.
TEST_P(Fragments, AnEchoOfAnySizeComesBack) {
  const InNamespace guest(sandbox_.guest().descriptor());
  for (const char* bytes : {"1473", "8000", "65507"}) {
    const std::string output = RunOrThrow({"ping", "-n", "-c", "1", "-W", "10", "-s", bytes,
                                           Sandbox::Gateway(family(), 0).address.ToString()});
    EXPECT_NE(output.find("1 received"), std::string::npos) << output;
    EXPECT_EQ(output.find("wrong data"), std::string::npos) << output;
  }
  if (!via_penstock()) return;
  const Stats stats = sandbox_.ReadStats();
  EXPECT_EQ(stats["fragments_held"], 0u) << stats.ToString();
  EXPECT_GE(stats["frames_consumed"], 2u + 6u + 45u) << stats.ToString();
}

}  // namespace
}  // namespace penstock::e2e
