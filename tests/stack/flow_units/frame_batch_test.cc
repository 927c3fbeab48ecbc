#include "stack/flow/frame_batch.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/memory_link.h"

namespace penstock {
namespace {

std::span<const uint8_t> View(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
iovec Part(std::string& text) { return {text.data(), text.size()}; }

class FrameBatchTest : public testing::Test {
 protected:
  bool Append(std::string_view header, std::span<const iovec> payload = {},
              const Offload& offload = {}) {
    return batch_.Append(View(header), {}, payload, offload);
  }
  // The frames that the link got since the last call.
  std::vector<std::string> Arrived() {
    std::vector<std::string> frames;
    while (auto frame = link_.PopToGuest()) {
      frames.emplace_back(frame->bytes.begin(), frame->bytes.end());
    }
    return frames;
  }

  MemoryLink link_;
  Counters counters_;
  FrameBatch batch_{link_, counters_};
};

using Frames = std::vector<std::string>;

TEST_F(FrameBatchTest, CollectsUntilFlush) {
  EXPECT_TRUE(batch_.empty());
  EXPECT_TRUE(Append("one"));
  EXPECT_TRUE(batch_.AppendCopy(View("two")));
  EXPECT_FALSE(batch_.empty());
  EXPECT_EQ(Arrived(), Frames{});
  EXPECT_TRUE(batch_.Flush());
  EXPECT_TRUE(batch_.empty());
  EXPECT_EQ(Arrived(), (Frames{"one", "two"}));
  EXPECT_TRUE(batch_.Flush()) << "with nothing to do";
  EXPECT_EQ(Arrived(), Frames{});
}

TEST_F(FrameBatchTest, CopiesHeadersAndRefersToPayload) {
  std::string header = "header ", copied = "copied", first = "payload", second = "!";
  const iovec parts[] = {Part(first), Part(second)};
  ASSERT_TRUE(Append(header, parts));
  ASSERT_TRUE(batch_.AppendCopy(View(copied)));
  header = "HEADER ";
  copied = "COPIED";
  first = "PAYLOAD";
  EXPECT_TRUE(batch_.Flush());
  EXPECT_EQ(Arrived(), (Frames{"header PAYLOAD!", "copied"}));
}

// What lwIP may free before the frame leaves: a probe's byte, the rest of a split segment.
TEST_F(FrameBatchTest, CopiesBetweenHeaderAndPayload) {
  std::string own = "own ", payload = "payload";
  const iovec parts[] = {Part(payload)};
  ASSERT_TRUE(batch_.Append(View("header "), View(own), parts, {}));
  own = "????";
  std::string large(40'000, 'x');
  ASSERT_TRUE(batch_.Append(View("large "), View(large), parts, {}));
  large.assign(large.size(), '?');
  payload = "PAYLOAD";
  EXPECT_TRUE(batch_.Flush());
  EXPECT_EQ(Arrived(),
            (Frames{"header own PAYLOAD", "large " + std::string(40'000, 'x') + "PAYLOAD"}));
}

TEST_F(FrameBatchTest, PassesOffloadsOn) {
  ASSERT_TRUE(Append("x", {},
                     {.checksum = ChecksumState::kPartial,
                      .gso = Gso::kTcp6,
                      .checksum_start = 54,
                      .checksum_offset = 16,
                      .segment_bytes = 1'440,
                      .header_bytes = 74}));
  ASSERT_TRUE(batch_.AppendCopy(View("y")));
  ASSERT_TRUE(batch_.Flush());
  const auto frame = link_.PopToGuest();
  ASSERT_TRUE(frame.has_value());
  EXPECT_EQ(frame->offload.checksum, ChecksumState::kPartial);
  EXPECT_EQ(frame->offload.gso, Gso::kTcp6);
  EXPECT_EQ(frame->offload.checksum_start, 54);
  EXPECT_EQ(frame->offload.checksum_offset, 16);
  EXPECT_EQ(frame->offload.segment_bytes, 1'440);
  EXPECT_EQ(frame->offload.header_bytes, 74);
  EXPECT_EQ(link_.PopToGuest()->offload.checksum, ChecksumState::kComplete);
}

TEST_F(FrameBatchTest, KeepsWhatALinkRefused) {
  link_.SetRoom(2);
  for (const char* frame : {"a", "b", "c", "d"}) ASSERT_TRUE(Append(frame));
  EXPECT_FALSE(batch_.Flush());
  EXPECT_FALSE(batch_.empty());
  EXPECT_TRUE(batch_.link_full());
  EXPECT_EQ(Arrived(), (Frames{"a", "b"}));
  EXPECT_TRUE(Append("e")) << "there is room in the batch";
  EXPECT_FALSE(batch_.Flush());
  link_.SetRoom(MemoryLink::kUnlimited);
  EXPECT_TRUE(batch_.Flush());
  EXPECT_FALSE(batch_.link_full());
  EXPECT_EQ(Arrived(), (Frames{"c", "d", "e"}));
}

// The batch offers itself when it is full; nothing is lost, doubled or out of order
// however few frames the link takes, and what is refused is refused whole.
TEST_F(FrameBatchTest, LosesNothingThatItTook) {
  for (const size_t room_each_time : {1, 3, 64, 100}) {
    SCOPED_TRACE(room_each_time);
    Frames taken, arrived;
    int refused = 0;
    link_.SetRoom(0);
    for (int i = 0; i < 500; ++i) {
      const std::string frame = std::to_string(i);
      if (Append(frame)) {
        taken.push_back(frame);
      } else {
        ++refused;
        EXPECT_TRUE(batch_.link_full());
        link_.SetRoom(room_each_time);
      }
    }
    link_.SetRoom(MemoryLink::kUnlimited);
    EXPECT_TRUE(batch_.Flush());
    arrived = Arrived();
    EXPECT_EQ(arrived, taken);
    EXPECT_GT(refused, 0);
  }
}

TEST_F(FrameBatchTest, FlushesWhenItsMemoryIsFull) {
  // Three of these do not fit the batch's memory together.
  const std::string a(6'000, 'a'), b(6'000, 'b'), c(6'000, 'c');
  EXPECT_TRUE(batch_.AppendCopy(View(a)));
  EXPECT_TRUE(batch_.AppendCopy(View(b)));
  EXPECT_EQ(Arrived(), Frames{});
  EXPECT_TRUE(batch_.AppendCopy(View(c)));
  EXPECT_EQ(Arrived(), (Frames{a, b}));
  link_.SetRoom(1);
  EXPECT_TRUE(batch_.AppendCopy(View(a)));
  EXPECT_FALSE(batch_.AppendCopy(View(b))) << "one of two was taken: still full";
  EXPECT_EQ(Arrived(), Frames{c});
  link_.SetRoom(MemoryLink::kUnlimited);
  EXPECT_TRUE(batch_.Flush());
  EXPECT_EQ(Arrived(), Frames{a});
}

// A copy larger than the batch's memory waits as any other: a full link must neither lose
// it nor be asked for ever.
TEST_F(FrameBatchTest, LargeCopiesWaitForAFullLink) {
  std::string large(kFrameBytesMax, 'L');
  link_.SetRoom(1);
  ASSERT_TRUE(Append("before"));
  ASSERT_TRUE(batch_.AppendCopy(View(large)));
  ASSERT_TRUE(batch_.AppendCopy(View(large)));
  const std::string kept = large;
  large.assign(large.size(), '?');
  EXPECT_FALSE(batch_.Flush());
  EXPECT_TRUE(batch_.link_full());
  EXPECT_FALSE(batch_.empty());
  EXPECT_FALSE(batch_.TakeReopened());
  EXPECT_EQ(Arrived(), Frames{"before"});

  link_.SetRoom(MemoryLink::kUnlimited);
  EXPECT_TRUE(batch_.Flush());
  EXPECT_TRUE(batch_.TakeReopened());
  EXPECT_FALSE(batch_.TakeReopened());
  EXPECT_EQ(Arrived(), (Frames{kept, kept}));
}

TEST_F(FrameBatchTest, CountsWhatTheLinkTook) {
  std::string payload(100, 'p');
  const iovec part = Part(payload);
  link_.SetRoom(1);
  ASSERT_TRUE(Append("0123456789", {&part, 1}));
  ASSERT_TRUE(Append("x"));
  EXPECT_EQ(counters_.frames_to_guest.value(), 0u);
  EXPECT_FALSE(batch_.Flush());
  EXPECT_EQ(counters_.frames_to_guest.value(), 1u);
  EXPECT_EQ(counters_.link_bytes_to_guest.value(), 110u);
  EXPECT_EQ(counters_.link_refusals.value(), 1u);
  link_.SetRoom(1);
  EXPECT_TRUE(batch_.Flush());
  EXPECT_EQ(counters_.frames_to_guest.value(), 2u);
  EXPECT_EQ(counters_.link_bytes_to_guest.value(), 111u);
  EXPECT_EQ(counters_.link_refusals.value(), 1u);
}

}  // namespace
}  // namespace penstock
