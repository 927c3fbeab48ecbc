// An idle stack does not wake up: neither without flows nor with a thousand idle
// ones. Counted by the kernel, as the times that any of penstock's threads went to
// sleep, against the frames that the guest's kernel sent of its own accord meanwhile
// (each may wake the poll thread once).

#include <poll.h>

#include <iostream>
#include <memory>

#include "tests/support/sandbox.h"

namespace penstock::e2e {
namespace {

constexpr int kFlows = 1000;
constexpr auto kWindow = std::chrono::seconds(10);

struct Activity {
  uint64_t switches;
  uint64_t frames;
};

class Idle : public ::testing::Test {
 protected:
  struct Subject {
    explicit Subject(Via via) : via(via), sandbox({.via = via}) {}
    [[nodiscard]] Activity Now() const {
      return {sandbox.VoluntarySwitches(), sandbox.FramesFromGuest()};
    }
    Via via;
    Sandbox sandbox;
    std::vector<Sandbox::Connection> connections;
  };

  Idle() {
    subjects_.push_back(std::make_unique<Subject>(Via::kOneThread));
    subjects_.push_back(std::make_unique<Subject>(Via::kRelayThread));
  }

  // The guest's kernel joins groups and checks neighbours for a while.
  void WaitUntilQuiet() {
    Time limit = Clock::now() + std::chrono::seconds(30);
    for (;;) {
      std::vector<Activity> before = Now();
      poll(nullptr, 0, 1000);
      std::vector<Activity> after = Now();
      bool quiet = true;
      for (size_t i = 0; i < before.size(); ++i) {
        quiet = quiet && before[i].switches == after[i].switches;
      }
      if (quiet) return;
      ASSERT_LT(Clock::now(), limit) << "penstock wakes up every second";
    }
  }

  void ExpectNoWakeUps(const std::string& when) {
    WaitUntilQuiet();
    std::vector<Activity> before = Now();
    // The observation window itself: nothing is waited for.
    poll(nullptr, 0, static_cast<int>(std::chrono::milliseconds(kWindow).count()));
    std::vector<Activity> after = Now();
    for (size_t i = 0; i < subjects_.size(); ++i) {
      uint64_t wakes = after[i].switches - before[i].switches;
      uint64_t frames = after[i].frames - before[i].frames;
      std::cout << Name(subjects_[i]->via) << ", " << when << ": " << wakes << " wake-ups, "
                << frames << " frames from the guest in 10 s\n";
      EXPECT_LE(wakes, frames) << Name(subjects_[i]->via) << ", " << when;
      EXPECT_LE(frames, 5u) << "the guest was not idle";
    }
  }

  std::vector<Activity> Now() const {
    std::vector<Activity> all;
    for (const auto& subject : subjects_) all.push_back(subject->Now());
    return all;
  }

  World world_;
  std::vector<std::unique_ptr<Subject>> subjects_;
};

TEST_F(Idle, NeverWakesUp) {
  ExpectNoWakeUps("no flows");
  for (auto& subject : subjects_) {
    for (int i = 0; i < kFlows; ++i) {
      Family family = i % 2 == 0 ? Family::kIpv4 : Family::kIpv6;
      subject->connections.push_back(subject->sandbox.Connect(family));
      subject->connections.back().guest.SendAll("hello");
      std::array<uint8_t, 5> hello{};
      ASSERT_EQ(subject->connections.back().host.Receive(hello), hello.size());
    }
  }
  ExpectNoWakeUps("1000 idle flows");
  for (auto& subject : subjects_) {
    EXPECT_EQ(subject->sandbox.ReadStats()["flows_open"], uint64_t{kFlows});
    // And they are alive.
    for (auto& connection : subject->connections) {
      connection.host.SendAll("still there");
      connection.host.ShutdownSending();
      ASSERT_EQ(connection.guest.ReceiveToEnd(), "still there");
    }
  }
}

}  // namespace
}  // namespace penstock::e2e
