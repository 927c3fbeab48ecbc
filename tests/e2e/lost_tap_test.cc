// A tap that is taken away, or down for a while, in the middle of a transfer.

#include <sys/socket.h>

#include <stdexcept>
#include <system_error>
#include <vector>

#include "tests/support/sandbox.h"

namespace penstock::e2e {
namespace {

class LostTap : public ::testing::TestWithParam<Via> {
 protected:
  World world_;
};

INSTANTIATE_TEST_SUITE_P(E2e, LostTap, ::testing::Values(Via::kOneThread, Via::kRelayThread),
                         [](const auto& test) { return Name(test.param); });

TEST_P(LostTap, EndsPenstockAndResetsTheHostsSide) {
  Sandbox sandbox({.via = GetParam()});
  auto [guest, host] = sandbox.Connect(Family::kIpv4);
  auto sender = Concurrently([&] { SendStream(host, {1, uint64_t{1} << 40}); });
  std::vector<uint8_t> some(1'000'000);
  ASSERT_GT(guest.Receive(some, MSG_WAITALL), 0u);
  sandbox.guest().Ip("link delete tap0\n");
  EXPECT_THROW(sender.get(), std::system_error);
  EXPECT_THROW(sandbox.EndPenstock(), std::runtime_error) << "status 1";
}

TEST_P(LostTap, DownForAWhileLosesNoByte) {
  Sandbox sandbox({.via = GetParam()});
  auto [guest, host] = sandbox.Connect(Family::kIpv4);
  const Stream stream{1, 50'000'000};
  auto receiver = Concurrently([&, &guest = guest] {
    Perform(guest, {.send = {2, 1}, .receive = stream, .hook_after = 5'000'000, .hook = [&] {
                      sandbox.guest().Ip("link set tap0 down\n");
                      sandbox.guest().Ip("link set tap0 up\n");
                    }});
  });
  Perform(host, {.send = stream, .receive = {2, 1}});
  receiver.get();
  EXPECT_EQ(sandbox.ReadStats()["flows_reset_by_host"], 0u);
}

}  // namespace
}  // namespace penstock::e2e
