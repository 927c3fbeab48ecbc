// Somebody stops for three seconds in the middle of a transfer and goes on: penstock
// itself, as its whole process stopped by a signal, or the reader. Nothing is lost.

#include <poll.h>

#include <csignal>
#include <functional>

#include "tests/support/sandbox.h"

namespace penstock::e2e {
namespace {

constexpr uint64_t kBytes = 64 << 20;
constexpr auto kPause = std::chrono::seconds(3);

void LetTimePass() {
  poll(nullptr, 0, static_cast<int>(std::chrono::milliseconds(kPause).count()));
}

class Pause : public SandboxTest {
 protected:
  // Both directions at once; each side's hook runs once when it has half of its bytes.
  void TransferWithHooks(std::function<void()> guest_hook, std::function<void()> host_hook) {
    auto [guest, host] = sandbox_.Connect(family());
    auto host_side = Concurrently([&] {
      Perform(host, {.send = {1, kBytes},
                     .receive = {2, kBytes},
                     .hook_after = kBytes / 2,
                     .hook = std::move(host_hook)});
    });
    Perform(guest, {.send = {2, kBytes},
                    .receive = {1, kBytes},
                    .hook_after = kBytes / 2,
                    .hook = std::move(guest_hook)});
    host_side.get();
  }
};

INSTANTIATE_TEST_SUITE_P(E2e, Pause, ::testing::ValuesIn(BothOpeners(PenstockCases())), CaseName);

TEST_P(Pause, PenstockStops) {
  TransferWithHooks(
      [&] {
        sandbox_.penstock().Signal(SIGSTOP);
        LetTimePass();
        sandbox_.penstock().Signal(SIGCONT);
      },
      {});
}

TEST_P(Pause, GuestsReceiverStops) { TransferWithHooks(LetTimePass, {}); }

TEST_P(Pause, HostsReceiverStops) { TransferWithHooks({}, LetTimePass); }

}  // namespace
}  // namespace penstock::e2e
