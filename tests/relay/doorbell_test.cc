#include "relay/doorbell.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "relay/spsc_queue.h"

namespace penstock {
namespace {

bool Readable(const Doorbell& bell, int milliseconds = 0) {
  pollfd watched{.fd = bell.descriptor(), .events = POLLIN, .revents = 0};
  return poll(&watched, 1, milliseconds) == 1;
}

TEST(DoorbellTest, WakesOnlyWhoSleeps) {
  Doorbell bell;
  ASSERT_TRUE(bell.Open().ok());
  EXPECT_FALSE(bell.RingIfArmed());
  EXPECT_FALSE(Readable(bell));

  bell.Arm();
  EXPECT_FALSE(Readable(bell)) << "arming is no ring";
  EXPECT_TRUE(bell.RingIfArmed());
  EXPECT_TRUE(Readable(bell));
  EXPECT_FALSE(bell.RingIfArmed()) << "one ring for one sleep";

  bell.Silence();
  EXPECT_FALSE(Readable(bell));
  EXPECT_FALSE(bell.RingIfArmed()) << "awake again";
}

TEST(DoorbellTest, SilenceDisarms) {
  Doorbell bell;
  ASSERT_TRUE(bell.Open().ok());
  bell.Arm();
  bell.Silence();
  EXPECT_FALSE(bell.RingIfArmed());
  EXPECT_FALSE(Readable(bell));
}

// A doorbell that was never opened has no descriptor: any system call on it would leave
// EBADF behind.
TEST(DoorbellTest, MakesNoSystemCallWhileNobodySleeps) {
  Doorbell bell;
  errno = 0;
  bell.Silence();
  (void)bell.RingIfArmed();
  bell.Arm();
  bell.Silence();
  (void)bell.RingIfArmed();
  EXPECT_EQ(errno, 0);
}

TEST(DoorbellTest, RingsWhetherOrNotArmedAndCoalesces) {
  Doorbell bell;
  ASSERT_TRUE(bell.Open().ok());
  for (int i = 0; i < 5; ++i) bell.Ring();
  EXPECT_TRUE(Readable(bell));
  uint64_t count = 0;
  ASSERT_EQ(read(bell.descriptor(), &count, sizeof count), static_cast<ssize_t>(sizeof count));
  EXPECT_EQ(count, 1u);
}

// Who rings sets a flag and then writes. Here the write is late, as when the ringer was
// interrupted between the two: the eventfd is emptied behind the doorbell's back.
TEST(DoorbellTest, SurvivesSilenceBetweenFlagAndWrite) {
  Doorbell bell;
  ASSERT_TRUE(bell.Open().ok());
  bell.Ring();
  uint64_t count = 0;
  ASSERT_EQ(read(bell.descriptor(), &count, sizeof count), static_cast<ssize_t>(sizeof count));
  bell.Silence();  // finds nothing to read

  ASSERT_EQ(write(bell.descriptor(), &count, sizeof count), static_cast<ssize_t>(sizeof count));
  EXPECT_TRUE(Readable(bell)) << "the late write wakes";
  bell.Silence();
  EXPECT_FALSE(Readable(bell));
  bell.Ring();
  EXPECT_TRUE(Readable(bell)) << "the flag did not stay";
}

// Asio reads the eventfd itself.
TEST(DoorbellTest, SilencedAfterSomebodyElseReadTheDescriptor) {
  Doorbell bell;
  ASSERT_TRUE(bell.Open().ok());
  bell.Arm();
  ASSERT_TRUE(bell.RingIfArmed());
  uint64_t count = 0;
  ASSERT_EQ(read(bell.descriptor(), &count, sizeof count), static_cast<ssize_t>(sizeof count));
  bell.Silenced();
  EXPECT_FALSE(Readable(bell));
  bell.Arm();
  EXPECT_TRUE(bell.RingIfArmed());
  EXPECT_TRUE(Readable(bell));
}

TEST(DoorbellTest, CallsTheHookInsteadOfWriting) {
  Doorbell bell;
  int calls = 0;
  bell.SetHook([](void* context) { ++*static_cast<int*>(context); }, &calls);
  EXPECT_FALSE(bell.RingIfArmed());
  EXPECT_EQ(calls, 0);
  bell.Arm();
  EXPECT_TRUE(bell.RingIfArmed());
  EXPECT_FALSE(bell.RingIfArmed());
  EXPECT_EQ(calls, 1);
}

Doorbell* bell_of_handler = nullptr;
void RingFromHandler(int) { bell_of_handler->Ring(); }

TEST(DoorbellTest, RingsFromASignalHandlerAndKeepsErrno) {
  Doorbell bell;
  ASSERT_TRUE(bell.Open().ok());
  bell_of_handler = &bell;
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = RingFromHandler;
  ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  errno = ENOTTY;
  raise(SIGUSR1);
  EXPECT_EQ(errno, ENOTTY);
  EXPECT_TRUE(Readable(bell));
  // A full eventfd would fail the write; errno stays all the same.
  bell.Silence();
  const uint64_t full = ~uint64_t{0} - 1;
  ASSERT_EQ(write(bell.descriptor(), &full, sizeof full), static_cast<ssize_t>(sizeof full));
  errno = ENOTTY;
  raise(SIGUSR1);
  EXPECT_EQ(errno, ENOTTY);
  ASSERT_EQ(sigaction(SIGUSR1, &before, nullptr), 0);
}

// One end of a ping-pong: sleeps by the doorbell's protocol until something comes.
struct End {
  SpscRing<uint32_t> queue{16};
  Doorbell bell;

  // False if nothing came for as long as a wake can take on the busiest machine.
  bool Receive(uint32_t& value) {
    constexpr int kLostMilliseconds = 20'000;
    while (!queue.Pop(value)) {
      bell.Arm();
      if (!queue.empty()) {
        bell.Silence();
        continue;
      }
      if (!Readable(bell, kLostMilliseconds)) return false;
      bell.Silence();
    }
    return true;
  }
  void Send(uint32_t value) {
    ASSERT_TRUE(queue.Push(value));
    (void)bell.RingIfArmed();
  }
};

TEST(DoorbellTest, TwoThreadsNeverLoseAWake) {
  constexpr uint32_t kRounds = 100'000;
  End here, there;
  ASSERT_TRUE(here.bell.Open().ok());
  ASSERT_TRUE(there.bell.Open().ok());
  std::thread echo([&] {
    uint32_t value = 0;
    for (uint32_t i = 0; i < kRounds; ++i) {
      if (!there.Receive(value)) return;
      here.Send(value + 1);
    }
  });
  uint32_t value = 0;
  uint32_t rounds = 0;
  for (; rounds < kRounds; ++rounds) {
    there.Send(rounds);
    if (!here.Receive(value)) break;
    ASSERT_EQ(value, rounds + 1);
  }
  echo.join();
  EXPECT_EQ(rounds, kRounds) << "a wake was lost";
}

}  // namespace
}  // namespace penstock
