// Stacks share nothing: any number on one thread, each on its own thread, or one that
// moves from thread to thread, all with the same addresses inside. The cases with two
// threads are what the thread sanitizer looks at.
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "tests/stack/flow/flow_fixture.h"

namespace penstock {
namespace {

// A stack with its guest, one listener and one flow that moves bytes both ways.
class World {
 public:
  World(Family family, uint32_t seed)
      : listener_(family),
        guest_({.family = family, .link = OffloadingLink()}),
        up_(Pattern(kBytes, seed)),
        down_(Pattern(kBytes, seed + 1)) {}

  void Open() {
    flow_ = &guest_.Flow(listener_.port());
    flow_->Handshake();
    guest_.Until("a connection", [this] {
      host_ = listener_.TryAccept();
      return host_.has_value();
    });
  }
  [[nodiscard]] bool Done() const { return step_ * kStepBytes >= kBytes; }
  // Some bytes each way, to the end.
  void Step() {
    const size_t begin = step_++ * kStepBytes;
    flow_->SendAll(std::string_view(up_).substr(begin, kStepBytes));
    size_t written = begin;
    guest_.Until("one step", [&] {
      written +=
          host_->Write(std::string_view(down_).substr(written, begin + kStepBytes - written));
      host_->Read();
      flow_->Forget();
      flow_->Send({});
      return host_->received().size() == begin + kStepBytes &&
             flow_->received().size() == begin + kStepBytes;
    });
  }
  void Close() {
    flow_->Forget();
    flow_->Send({.flags = kTcpFin | kTcpAck});
    guest_.Until("the end at the host", [this] {
      host_->Read();
      return host_->ended();
    });
    host_->Close();
    guest_.Until("the end at the guest", [this] { return flow_->finished(); });
    flow_->Send({});
  }
  void Check() {
    EXPECT_EQ(host_->received(), up_);
    EXPECT_EQ(flow_->received(), down_);
    guest_.Until("the flow's end", [this] { return guest_.counters().flows_closed == 1; });
    EXPECT_EQ(guest_.counters().flows_opened, 1u);
    EXPECT_EQ(guest_.counters().frames_to_host, guest_.frames_sent());
    EXPECT_EQ(flow_->guest().port, kFirstPort);
  }
  void Run() {
    Open();
    while (!Done()) Step();
    Close();
  }

 private:
  static constexpr size_t kBytes = 400'000, kStepBytes = 40'000;
  static constexpr uint16_t kFirstPort = 40'000;

  HostListener listener_;
  ScriptedGuest guest_;
  const std::string up_, down_;
  GuestFlow* flow_ = nullptr;
  std::optional<HostSocket> host_;
  size_t step_ = 0;
};

// On a thread of its own, to its end; a ScriptError comes back to the test.
void OnOtherThread(const std::function<void()>& work) {
  std::async(std::launch::async, work).get();
}

class IsolationTest : public testing::TestWithParam<Family> {};
INSTANTIATE_TEST_SUITE_P(Both, IsolationTest, testing::Values(Family::kIpv4, Family::kIpv6),
                         FamilyName);

// Two stacks on one thread, in turn.
TEST_P(IsolationTest, TwoStacksOnOneThread) {
  World first(GetParam(), 10), second(GetParam(), 20);
  first.Open();
  second.Open();
  while (!first.Done()) {
    first.Step();
    second.Step();
  }
  first.Close();
  second.Close();
  first.Check();
  second.Check();
}

// Two stacks on two threads at the same time.
TEST_P(IsolationTest, TwoStacksOnTwoThreads) {
  World first(GetParam(), 10), second(GetParam(), 20);
  std::future<void> other = std::async(std::launch::async, [&second] { second.Run(); });
  first.Run();
  other.get();
  first.Check();
  second.Check();
}

// A stack is made on one thread and polled by another one at each step, while a second
// one stays where it is.
TEST_P(IsolationTest, TwoStacksOfWhichOneMovesBetweenThreads) {
  World moving(GetParam(), 10), staying(GetParam(), 20);
  OnOtherThread([&] { moving.Open(); });
  staying.Open();
  while (!moving.Done()) {
    OnOtherThread([&] { moving.Step(); });
    staying.Step();
    moving.Step();
    if (!staying.Done()) staying.Step();
  }
  while (!staying.Done()) staying.Step();
  OnOtherThread([&] { moving.Close(); });
  staying.Close();
  moving.Check();
  staying.Check();
}

}  // namespace
}  // namespace penstock
