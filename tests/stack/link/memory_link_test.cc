#include "tests/support/memory_link.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <array>
#include <vector>

namespace penstock {
namespace {

using Bytes = std::vector<uint8_t>;

class MemoryLinkTest : public ::testing::Test {
 protected:
  MemoryLinkTest() {
    for (size_t i = 0; i < frames_.size(); ++i) {
      rooms_[i].resize(kFrameBytesMax);
      frames_[i].room = rooms_[i];
    }
  }
  bool Readable() const {
    pollfd entry{.fd = link_.descriptor(), .events = POLLIN | POLLOUT, .revents = 0};
    EXPECT_GE(poll(&entry, 1, 0), 0);
    EXPECT_EQ(entry.revents & POLLOUT, 0);
    return (entry.revents & POLLIN) != 0;
  }
  size_t Send(const Bytes& bytes, size_t copies) {
    const iovec part{const_cast<uint8_t*>(bytes.data()), bytes.size()};
    const std::vector<FrameToGuest> frames(
        copies,
        {.parts = {&part, 1}, .length = static_cast<uint32_t>(bytes.size()), .offload = {}});
    return link_.Send(Time{}, frames);
  }

  MemoryLink link_;
  std::array<Bytes, 2> rooms_;
  std::array<FrameToHost, 2> frames_;
};

TEST_F(MemoryLinkTest, ToHostInOrderAndReadableWhileFramesWait) {
  EXPECT_FALSE(Readable());
  for (uint8_t i = 0; i < 3; ++i) {
    link_.PushToHost(Bytes{i, 7}, {.checksum = ChecksumState::kComplete});
  }
  EXPECT_TRUE(Readable());
  EXPECT_EQ(link_.Receive(Time{}, frames_), 2u);
  EXPECT_TRUE(Readable());
  EXPECT_EQ(frames_[1].bytes()[0], 1);
  EXPECT_EQ(frames_[1].length, 2u);
  EXPECT_EQ(frames_[1].offload.checksum, ChecksumState::kComplete);
  EXPECT_EQ(link_.Receive(Time{}, frames_), 1u);
  EXPECT_EQ(frames_[0].bytes()[0], 2);
  EXPECT_FALSE(Readable());
}

TEST_F(MemoryLinkTest, JoinsThePartsOfAFrameToGuest) {
  Bytes head{1, 2}, tail{3};
  const std::array<iovec, 2> parts{{{head.data(), 2}, {tail.data(), 1}}};
  const FrameToGuest frame{.parts = parts, .length = 3, .offload = {.gso = Gso::kTcp6}};
  EXPECT_EQ(link_.Send(Time{}, {&frame, 1}), 1u);
  std::optional<MemoryLink::Frame> got = link_.PopToGuest();
  ASSERT_TRUE(got);
  EXPECT_EQ(got->bytes, (Bytes{1, 2, 3}));
  EXPECT_EQ(got->offload.gso, Gso::kTcp6);
  EXPECT_FALSE(link_.PopToGuest());
}

TEST_F(MemoryLinkTest, RefusesBeyondItsRoomAndWakesWhenThereIsRoom) {
  link_.SetRoom(2);
  EXPECT_FALSE(Readable());
  EXPECT_EQ(Send({1}, 3), 2u);
  EXPECT_FALSE(Readable());
  link_.SetRoom(5);
  EXPECT_TRUE(Readable()) << "whoever frees room wakes the side that waits for it";
  EXPECT_EQ(link_.Receive(Time{}, frames_), 0u);
  EXPECT_FALSE(Readable());
  EXPECT_EQ(Send({1}, 1), 1u);
  EXPECT_EQ(link_.waiting_to_guest(), 3u);
}

TEST_F(MemoryLinkTest, EndsAfterTheLastFrameToHost) {
  link_.PushToHost(Bytes{1});
  link_.End();
  EXPECT_FALSE(link_.ended());
  EXPECT_EQ(link_.Receive(Time{}, frames_), 1u);
  EXPECT_TRUE(link_.ended());
  EXPECT_FALSE(Readable());
  EXPECT_EQ(Send({1}, 2), 2u);
  EXPECT_EQ(link_.frames_lost(), 2u);
  EXPECT_EQ(link_.waiting_to_guest(), 0u);
}

}  // namespace
}  // namespace penstock
