// Every order in which the two sides' steps can meet, played by one thread. Bytes
// and sizes: see frame_ring_test.cc.
#include "stack/link/record_ring.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace penstock {
namespace {

class RecordRingTest : public ::testing::Test {
 protected:
  bool Push(uint32_t length = 100) {
    const iovec part{bytes_.data(), length};
    return ring_.Push({&part, 1}, length, {});
  }
  bool Readable() const {
    pollfd entry{.fd = bell_->descriptor(), .events = POLLIN, .revents = 0};
    return poll(&entry, 1, 0) == 1;
  }
  // Takes everything; returns how many records there were.
  int Drain() {
    int count = 0;
    for (; ring_.Front(); ++count) ring_.Pop();
    return count;
  }

  std::vector<uint8_t> bytes_ = std::vector<uint8_t>(kFrameBytesMax);
  RecordRing ring_{RecordRing::kBytesMin};
  const std::unique_ptr<LinkBell> bell_ = LinkBell::Create().value();  // the consumer's
};

TEST_F(RecordRingTest, OnlyTheFirstPublishRingsASleeper) {
  ASSERT_TRUE(Push());
  EXPECT_FALSE(ring_.Front()) << "not yet published";
  EXPECT_TRUE(ring_.Publish()) << "a new ring's consumer sleeps";
  ASSERT_TRUE(Push());
  EXPECT_FALSE(ring_.Publish());
  EXPECT_EQ(Drain(), 2);
  ASSERT_TRUE(Push());
  EXPECT_FALSE(ring_.Publish()) << "it is awake until it says otherwise";
  EXPECT_EQ(Drain(), 1);
  EXPECT_TRUE(ring_.Rest(*bell_));
  ASSERT_TRUE(Push());
  EXPECT_TRUE(ring_.Publish());
}

TEST_F(RecordRingTest, AFrameThatComesWhileFallingAsleepIsSeenAndRung) {
  ASSERT_TRUE(Push());
  ASSERT_TRUE(ring_.Publish());
  EXPECT_EQ(Drain(), 1);
  // The consumer has found nothing and is not yet asleep.
  ASSERT_TRUE(Push());
  EXPECT_FALSE(ring_.Publish()) << "nobody rings";
  EXPECT_FALSE(ring_.Rest(*bell_)) << "so the consumer must see it";
  EXPECT_TRUE(Readable()) << "and tell its own sleeper, who may come before the drain";
  ASSERT_TRUE(Push());
  EXPECT_FALSE(ring_.Publish());
  EXPECT_EQ(Drain(), 2);
  EXPECT_TRUE(ring_.Rest(*bell_));
  EXPECT_FALSE(Readable());
}

TEST_F(RecordRingTest, RestMayBeRepeated) {
  EXPECT_TRUE(ring_.Rest(*bell_));
  EXPECT_TRUE(ring_.Rest(*bell_));
  EXPECT_FALSE(Readable());
  ASSERT_TRUE(Push());
  EXPECT_TRUE(ring_.Publish());
}

TEST_F(RecordRingTest, RoomThatIsFreedBeforeAskingIsFoundByTrying) {
  int pushed = 0;
  for (; Push(60'000); ++pushed) {
  }
  ASSERT_TRUE(ring_.Publish());
  EXPECT_EQ(Drain(), pushed);
  EXPECT_FALSE(ring_.Release()) << "nobody asked";
  ring_.AskForRoom();
  EXPECT_TRUE(Push(60'000));
}

TEST_F(RecordRingTest, RoomThatIsFreedAfterAskingIsAnnouncedOnceAtHalf) {
  int pushed = 0;
  for (; Push(20'000); ++pushed) {
  }
  ASSERT_EQ(pushed, 13);
  ASSERT_TRUE(ring_.Publish());
  ring_.AskForRoom();
  ASSERT_FALSE(Push(20'000));
  int announced = 0;
  for (int popped = 1; ring_.Front(); ++popped) {
    ring_.Pop();
    if (!ring_.Release()) continue;
    ++announced;
    EXPECT_EQ(popped, 7);
  }
  EXPECT_EQ(announced, 1);
  EXPECT_TRUE(Push(20'000));
}

TEST_F(RecordRingTest, RoomIsTheProducersOnlyAfterRelease) {
  while (Push(60'000)) {
  }
  ASSERT_TRUE(ring_.Publish());
  EXPECT_GT(Drain(), 0);
  EXPECT_FALSE(Push(60'000));
  (void)ring_.Release();
  EXPECT_TRUE(Push(60'000));
}

}  // namespace
}  // namespace penstock
