// Byte-exact transfers under the options that shape the link and the threads.

#include "tests/support/sandbox.h"

namespace penstock::e2e {
namespace {

// 8 MiB each way at the same time.
void TransferBothWays(const Sandbox& sandbox, Family family) {
  constexpr uint64_t kBytes = 8 * kMiB;
  auto [guest, host] = sandbox.Connect(family);
  auto host_side = Concurrently([&] {
    Perform(host, {.send = {1, kBytes}, .receive = {2, kBytes}});
  });
  Perform(guest, {.send = {2, kBytes}, .receive = {1, kBytes}});
  host_side.get();
}

struct LinkCase {
  std::string name;
  Via via;
  std::vector<std::string> options;
};

std::vector<LinkCase> LinkCases() {
  std::vector<LinkCase> cases = {
      {"one_thread", Via::kOneThread, {}},
      {"one_relay_thread", Via::kRelayThread, {}},
      {"two_relay_threads", Via::kTwoRelayThreads, {}},
  };
  for (const std::string& mtu : std::vector<std::string>{"1280", "1500", "9000", "65520"}) {
    cases.push_back({"mtu_" + mtu, Via::kRelayThread, {"--mtu", mtu}});
    cases.push_back(
        {"mtu_" + mtu + "_no_offload", Via::kRelayThread, {"--mtu", mtu, "--no-offload"}});
  }
  return cases;
}

class LinkOptions : public ::testing::TestWithParam<LinkCase> {};

INSTANTIATE_TEST_SUITE_P(E2e, LinkOptions, ::testing::ValuesIn(LinkCases()),
                         [](const auto& test) { return test.param.name; });

TEST_P(LinkOptions, TransfersAreExact) {
  World world;
  Sandbox sandbox({.via = GetParam().via, .penstock_options = GetParam().options});
  for (Family family : {Family::kIpv4, Family::kIpv6}) {
    SCOPED_TRACE(Name(family));
    TransferBothWays(sandbox, family);
  }
  Stats stats = sandbox.ReadStats();
  // A guest that a busy machine does not run for 300 ms costs one; a transfer that lived
  // on timers would have hundreds. Without a clock, in tests/world, it has to be none.
  EXPECT_LT(stats["retransmits_by_timer"], 10u);
  EXPECT_GE(stats["payload_bytes_to_guest"], 16 * kMiB);
}

}  // namespace
}  // namespace penstock::e2e
