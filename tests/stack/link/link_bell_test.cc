#include "stack/link/link_bell.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <memory>
#include <thread>

namespace penstock {
namespace {

short Events(int descriptor) {
  pollfd entry{.fd = descriptor, .events = POLLIN | POLLOUT, .revents = 0};
  EXPECT_GE(poll(&entry, 1, 0), 0);
  return entry.revents;
}

TEST(LinkBellTest, IsReadableFromRingToQuiet) {
  std::unique_ptr<LinkBell> bell = LinkBell::Create().value();
  EXPECT_EQ(Events(bell->descriptor()), 0);
  bell->Ring();
  bell->Ring();
  EXPECT_EQ(Events(bell->descriptor()), POLLIN);
  EXPECT_EQ(Events(bell->descriptor()), POLLIN) << "level-triggered";
  bell->Quiet();
  EXPECT_EQ(Events(bell->descriptor()), 0);
  bell->Quiet();
  bell->Ring();
  EXPECT_EQ(Events(bell->descriptor()), POLLIN);
}

// A poll loop that waits for "writable" on it must not spin.
TEST(LinkBellTest, IsNeverWritable) {
  std::unique_ptr<LinkBell> bell = LinkBell::Create().value();
  EXPECT_EQ(Events(bell->descriptor()) & POLLOUT, 0);
  bell->Ring();
  EXPECT_EQ(Events(bell->descriptor()) & POLLOUT, 0);
}

// However a Quiet falls between a Ring's announcement and its write: that Ring
// neither stays for good nor swallows the next one.
TEST(LinkBellTest, EachRingOfAnotherThreadIsQuietedOnce) {
  constexpr int kRounds = 20'000;
  std::unique_ptr<LinkBell> bell = LinkBell::Create().value();
  std::atomic<int> started{0}, rung{0};
  std::thread ringer([&] {
    for (int round = 1; round <= kRounds; ++round) {
      while (started.load() < round) std::this_thread::yield();
      bell->Ring();
      rung.store(round);
    }
  });
  int noisy = 0;
  for (int round = 1; round <= kRounds; ++round) {
    started.store(round);
    while (rung.load() < round) bell->Quiet();
    bell->Quiet();
    if (Events(bell->descriptor()) != 0) ++noisy;
  }
  ringer.join();
  EXPECT_EQ(noisy, 0);
  bell->Ring();
  EXPECT_EQ(Events(bell->descriptor()), POLLIN);
}

}  // namespace
}  // namespace penstock
