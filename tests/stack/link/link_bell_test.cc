#include "stack/link/link_bell.h"

#include <gtest/gtest.h>
#include <poll.h>

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

// However Quiet falls between a Ring's announcement and its write, the sleeper
// ends up quiet after the last Ring, and no Ring leaves it readable for good.
TEST(LinkBellTest, IsQuietAfterTheLastRingOfAnotherThread) {
  std::unique_ptr<LinkBell> bell = LinkBell::Create().value();
  std::thread ringer([&] {
    for (int i = 0; i < 100'000; ++i) bell->Ring();
  });
  for (int i = 0; i < 100'000; ++i) bell->Quiet();
  ringer.join();
  bell->Quiet();
  EXPECT_EQ(Events(bell->descriptor()), 0);
  bell->Ring();
  EXPECT_EQ(Events(bell->descriptor()), POLLIN);
}

}  // namespace
}  // namespace penstock
