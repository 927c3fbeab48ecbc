#include "stack/stack.h"

#include <dirent.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/host_side.h"
#include "tests/support/memory_link.h"
#include "tests/support/packet_builder.h"
#include "tests/support/scripted_guest.h"

namespace penstock {
namespace {

using namespace std::chrono_literals;

constexpr Time kStart = Time{} + std::chrono::hours(24);

size_t CountEntries(const char* folder) {
  DIR* entries = opendir(folder);
  if (entries == nullptr) return 0;
  size_t count = 0;
  while (readdir(entries) != nullptr) ++count;
  closedir(entries);
  return count;
}
size_t DescriptorCount() { return CountEntries("/proc/self/fd"); }

bool Readable(int descriptor, int milliseconds = 0) {
  pollfd watched{.fd = descriptor, .events = POLLIN, .revents = 0};
  return poll(&watched, 1, milliseconds) == 1;
}

// A stack and its link; the test is the guest.
struct World {
  explicit World(Config config = {}) {
    auto owned = std::make_unique<MemoryLink>();
    link = owned.get();
    stack = Stack::Create(std::move(config), std::move(owned)).value();
  }
  [[nodiscard]] bool Awake() const { return Readable(stack->descriptor()); }

  MemoryLink* link;
  std::unique_ptr<Stack> stack;
};

// ---------------------------------------------------------------- creation

// The sentence with which a stack on a MemoryLink is refused; nothing is left behind.
std::string RefusalOf(Config config, LinkCapabilities capabilities = {}) {
  const size_t descriptors = DescriptorCount();
  const absl::Status status =
      Stack::Create(std::move(config), std::make_unique<MemoryLink>(capabilities)).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_EQ(DescriptorCount(), descriptors);
  return std::string(status.message());
}

TEST(StackCreateTest, SaysWhatIsWrong) {
  EXPECT_EQ(Stack::Create({}, nullptr).status().message(), "no link was given");
  EXPECT_NE(RefusalOf({.relay_threads = 0}).find("AsioDriver"), std::string::npos);
  EXPECT_NE(RefusalOf({.mtu = 100}).find("mtu is 100"), std::string::npos);
  // The link's own bounds count.
  EXPECT_NE(RefusalOf({}, {.mtu_max = 1'400}).find("1400"), std::string::npos);
}

TEST(StackCreateTest, StartsAsManyRelayThreadsAsAsked) {
  std::thread([] {}).join();  // with the first thread comes the thread sanitizer's own
  const size_t threads = CountEntries("/proc/self/task"), descriptors = DescriptorCount();
  {
    World world({.relay_threads = 7});
    EXPECT_EQ(CountEntries("/proc/self/task"), threads + 7);
  }
  EXPECT_EQ(DescriptorCount(), descriptors);
}

// ---------------------------------------------------------------- the descriptor

TEST(StackPollTest, AnIdleStackWantsNothing) {
  World world;
  EXPECT_EQ(world.stack->Poll(kStart), kNever);
  EXPECT_FALSE(world.Awake());
  EXPECT_EQ(world.stack->Poll(kStart + 10h), kNever);
  EXPECT_FALSE(world.Awake());
  EXPECT_EQ(world.stack->Snapshot().polls, 2u);
  EXPECT_FALSE(world.stack->link_ended());
}

TEST(StackPollTest, ATimeoutForPollIsNeverShort) {
  using std::chrono::nanoseconds;
  const Time now{std::chrono::hours(1)};
  EXPECT_EQ(PollTimeout(now, now - nanoseconds(1)), 0);
  EXPECT_EQ(PollTimeout(now, now), 0);
  EXPECT_EQ(PollTimeout(now, now + nanoseconds(1)), 1);
  EXPECT_EQ(PollTimeout(now, now + std::chrono::milliseconds(7)), 7);
  EXPECT_EQ(PollTimeout(now, now + nanoseconds(7'000'001)), 8);
  EXPECT_EQ(PollTimeout(now, now + std::chrono::hours(24 * 365)), std::numeric_limits<int>::max());
  EXPECT_EQ(PollTimeout(now, kNever), -1);
}

TEST(StackPollTest, AFrameWakesAndACompletePassIsQuiet) {
  World world;
  (void)world.stack->Poll(kStart);
  world.link->PushToHost(ArpFrame({}));
  EXPECT_TRUE(world.Awake());
  EXPECT_TRUE(world.Awake()) << "level-triggered";
  EXPECT_EQ(world.stack->Poll(kStart), kNever);
  EXPECT_FALSE(world.Awake());
  EXPECT_TRUE(world.link->PopToGuest().has_value()) << "the answer left in the same pass";
}

TEST(StackPollTest, APassIsBounded) {
  constexpr size_t kFrames = 1'000;
  World world;
  for (size_t i = 0; i < kFrames; ++i) world.link->PushToHost(ArpFrame({}));
  EXPECT_EQ(world.stack->Poll(kStart), kStart) << "stopped at its budget";
  EXPECT_GT(world.link->waiting_to_host(), kFrames / 2);
  EXPECT_TRUE(world.Awake());
  size_t passes = 1;
  while (world.stack->Poll(kStart) == kStart) ++passes;
  EXPECT_GT(passes, 3u);
  EXPECT_FALSE(world.Awake());
  const CounterSnapshot counters = world.stack->Snapshot();
  EXPECT_EQ(counters.frames_to_host, kFrames);
  EXPECT_EQ(counters.frames_consumed, kFrames);
  EXPECT_EQ(counters.frames_to_guest, kFrames);
}

TEST(StackPollTest, ALinkThatEndsIsReportedAfterItsLastFrame) {
  World world;
  world.link->PushToHost(ArpFrame({}));
  world.link->End();
  EXPECT_FALSE(world.stack->link_ended());
  EXPECT_TRUE(world.Awake());
  (void)world.stack->Poll(kStart);
  EXPECT_TRUE(world.stack->link_ended());
  EXPECT_EQ(world.stack->Snapshot().frames_to_host, 1u);
  (void)world.stack->Poll(kStart);
}

// A full link: its answer waits, and the pass that finds room sends it.
TEST(StackPollTest, WhatALinkRefusedLeavesWhenItHasRoom) {
  World world;
  world.link->SetRoom(0);
  world.link->PushToHost(ArpFrame({}));
  (void)world.stack->Poll(kStart);
  EXPECT_FALSE(world.Awake());
  EXPECT_EQ(world.link->waiting_to_guest(), 0u);
  EXPECT_GT(world.stack->Snapshot().link_refusals, 0u);
  world.link->SetRoom(MemoryLink::kUnlimited);
  EXPECT_TRUE(world.Awake());
  EXPECT_EQ(world.stack->Poll(kStart), kNever);
  EXPECT_EQ(world.link->waiting_to_guest(), 1u);
}

// A link without a descriptor: its owner wakes the stack.
class MuteLink final : public Link {
 public:
  explicit MuteLink(MemoryLink& inner) : inner_(inner) {}
  const LinkCapabilities& capabilities() const override { return inner_.capabilities(); }
  int descriptor() const override { return -1; }
  size_t Receive(Time now, std::span<FrameToHost> frames) override {
    return inner_.Receive(now, frames);
  }
  size_t Send(Time now, std::span<const FrameToGuest> frames) override {
    return inner_.Send(now, frames);
  }

 private:
  MemoryLink& inner_;
};

TEST(StackPollTest, ALinkMayBeWithoutADescriptor) {
  MemoryLink inner;
  const auto stack = Stack::Create({}, std::make_unique<MuteLink>(inner)).value();
  (void)stack->Poll(kStart);
  inner.PushToHost(ArpFrame({}));
  EXPECT_FALSE(Readable(stack->descriptor()));
  stack->Wake();
  EXPECT_TRUE(Readable(stack->descriptor()));
  EXPECT_EQ(stack->Poll(kStart), kNever);
  EXPECT_EQ(inner.waiting_to_guest(), 1u);
}

// ---------------------------------------------------------------- Wake and Post

TEST(StackWakeTest, ManyWakesAreOne) {
  World world;
  (void)world.stack->Poll(kStart);
  for (int i = 0; i < 1'000; ++i) world.stack->Wake();
  EXPECT_TRUE(world.Awake());
  EXPECT_EQ(world.stack->Poll(kStart), kNever);
  EXPECT_FALSE(world.Awake());
  EXPECT_EQ(world.stack->Snapshot().wakes_to_stack, 1u);
  world.stack->Wake();
  EXPECT_TRUE(world.Awake());
}

Stack* stack_of_handler = nullptr;
void WakeFromHandler(int) { stack_of_handler->Wake(); }

TEST(StackWakeTest, WakesFromASignalHandler) {
  World world;
  (void)world.stack->Poll(kStart);
  stack_of_handler = world.stack.get();
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = WakeFromHandler;
  ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  raise(SIGUSR1);
  ASSERT_EQ(sigaction(SIGUSR1, &before, nullptr), 0);
  EXPECT_TRUE(world.Awake());
}

TEST(StackPostTest, RunsATaskOnceOnThePollThread) {
  World world;
  (void)world.stack->Poll(kStart);
  int runs = 0;
  std::thread::id ran_on;
  std::thread([&] {
    world.stack->Post([&](Stack& stack) {
      EXPECT_EQ(&stack, world.stack.get());
      ran_on = std::this_thread::get_id();
      ++runs;
    });
  }).join();
  EXPECT_TRUE(world.Awake());
  EXPECT_EQ(runs, 0);
  (void)world.stack->Poll(kStart);
  (void)world.stack->Poll(kStart);
  EXPECT_EQ(runs, 1);
  EXPECT_EQ(ran_on, std::this_thread::get_id());
}

TEST(StackPostTest, ATaskThatPostsRunsInTheNextPass) {
  World world;
  std::vector<int> order;
  world.stack->Post([&](Stack& stack) {
    order.push_back(1);
    stack.Post([&](Stack&) { order.push_back(3); });
    order.push_back(2);
  });
  EXPECT_EQ(world.stack->Poll(kStart), kStart) << "there is more to do";
  EXPECT_EQ(order, (std::vector{1, 2}));
  EXPECT_EQ(world.stack->Poll(kStart), kNever);
  EXPECT_EQ(order, (std::vector{1, 2, 3}));
}

TEST(StackPostTest, TasksThatNeverRanGoWithTheStack) {
  const auto witness = std::make_shared<int>(0);
  {
    World world;
    world.stack->Post([witness](Stack&) { ++*witness; });
    EXPECT_EQ(witness.use_count(), 2);
  }
  EXPECT_EQ(witness.use_count(), 1);
  EXPECT_EQ(*witness, 0);
}

// Four threads post and wake, a fifth looks at the counters, while this one sleeps on the
// descriptor: nothing is lost, and each thread's tasks stay in order.
TEST(StackPostTest, ManyThreadsLoseNothing) {
  constexpr int kThreads = 4, kEach = 2'000;
  World world;
  (void)world.stack->Poll(kStart);
  std::vector<int> next(kThreads, 0);
  std::atomic<bool> looking{true};
  std::thread looker([&] {
    uint64_t polls = 0;
    while (looking) {
      const uint64_t now = world.stack->Snapshot().polls;
      EXPECT_GE(now, polls);
      polls = now;
      std::this_thread::yield();
    }
  });
  std::vector<std::thread> posters;
  for (int thread = 0; thread < kThreads; ++thread) {
    posters.emplace_back([&, thread] {
      for (int i = 0; i < kEach; ++i) {
        world.stack->Post([&next, thread, i](Stack&) {
          EXPECT_EQ(next[thread], i);
          next[thread] = i + 1;
        });
        if (i % 3 == 0) world.stack->Wake();
      }
    });
  }
  constexpr int kLostMilliseconds = 20'000;
  const auto done = [&] {
    return std::accumulate(next.begin(), next.end(), 0) == kThreads * kEach;
  };
  while (!done()) {
    // A pass that saw more work coming asks for the next one itself.
    if (world.stack->Poll(kStart) == kStart) continue;
    if (done()) break;
    if (Readable(world.stack->descriptor(), kLostMilliseconds)) continue;
    ADD_FAILURE() << "a wake was lost";
    break;
  }
  for (std::thread& poster : posters) poster.join();
  looking = false;
  looker.join();
}

// ---------------------------------------------------------------- a flow's end

// The host takes nothing for the whole stall timeout and then, before the stack looks,
// everything: the relay's last word and the stack's abort cross each other. The flow's
// slot must be as good as new for the next one.
TEST(StackFlowTest, AnAbortMayCrossTheRelaysLastWord) {
  HostListener listener(Family::kIpv4, {.receive_buffer_bytes = 4'096});
  ScriptedGuest guest({});
  GuestFlow& flow = guest.Flow(listener.port());
  flow.Handshake();
  std::optional<HostSocket> host;
  guest.Until("a connection", [&] {
    host = listener.TryAccept();
    return host.has_value();
  });
  // More than the host's sockets hold, so that the relay keeps some; then both ends finish.
  constexpr size_t kBytes = 8 << 20;
  size_t sent = 0;
  guest.Until("the relay is full", [&] {
    for (; sent < kBytes && flow.window_left() >= 1'000; sent += 1'000) {
      flow.Queue({.payload = std::string(1'000, 'g')});
    }
    return sent >= kBytes || (flow.window_left() < 1'000 && guest.StaysQuiet());
  });
  flow.Send({.flags = kTcpFin | kTcpAck});
  host->ShutdownWrite();
  flow.Forget();
  guest.Until("the host's end at the guest", [&] {
    if (!flow.finished()) return false;
    flow.Send({});
    return guest.counters().flows_closed == 1;
  });
  ASSERT_EQ(guest.counters().flows_closing, 1u);

  // The relay finishes while the stack is not polled; then it is polled too late.
  const auto limit = Clock::now() + 30s;
  while (!host->ended() && Clock::now() < limit) host->Read();
  ASSERT_TRUE(host->ended());
  guest.UntilWoken();
  const Time late = guest.now() + guest.config().stall_timeout + 1s;
  (void)guest.stack().Poll(late);
  EXPECT_EQ(guest.counters().flows_stalled_timeout, 1u) << "they did not cross";
  guest.Until("the flow's end", [&] { return guest.counters().flows_closing == 0; });

  GuestFlow& next = guest.Flow(listener.port());
  next.Handshake();
  guest.Until("a second connection", [&] { return listener.TryAccept().has_value(); });
}

}  // namespace
}  // namespace penstock
