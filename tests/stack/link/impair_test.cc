#include "stack/link/impair.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/memory_link.h"

namespace penstock {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using Bytes = std::vector<uint8_t>;

const Time kStart = Time{} + std::chrono::hours(1);

Bytes Numbered(uint32_t number, size_t length = 100) {
  Bytes bytes(length, 0x5a);
  std::memcpy(bytes.data(), &number, sizeof number);
  return bytes;
}

uint32_t NumberOf(std::span<const uint8_t> bytes) {
  uint32_t number;
  std::memcpy(&number, bytes.data(), sizeof number);
  return number;
}

// An impaired memory link, and what the test does at both of its ends.
class World {
 public:
  explicit World(const ImpairOptions& options, LinkCapabilities capabilities = {}) {
    auto memory = std::make_unique<MemoryLink>(capabilities);
    guest = memory.get();
    link = Impair(std::move(memory), options).value();
    for (size_t i = 0; i < frames_.size(); ++i) {
      rooms_[i].resize(kFrameBytesMax);
      frames_[i].room = rooms_[i];
    }
  }

  size_t SendToGuest(Time now, const Bytes& bytes, const Offload& offload = {}) {
    const iovec part{const_cast<uint8_t*>(bytes.data()), bytes.size()};
    const FrameToGuest frame{
        .parts = {&part, 1}, .length = static_cast<uint32_t>(bytes.size()), .offload = offload};
    return link->Send(now, {&frame, 1});
  }
  // Numbers of all frames that the stack receives at `now`.
  std::vector<uint32_t> Receive(Time now) {
    std::vector<uint32_t> numbers;
    size_t count;
    do {
      count = link->Receive(now, frames_);
      for (const FrameToHost& frame : std::span(frames_).first(count)) {
        numbers.push_back(NumberOf(frame.bytes()));
      }
    } while (count == frames_.size());
    return numbers;
  }
  // Numbers of all frames that the guest has.
  std::vector<uint32_t> AtGuest() {
    std::vector<uint32_t> numbers;
    while (std::optional<MemoryLink::Frame> frame = guest->PopToGuest()) {
      numbers.push_back(NumberOf(frame->bytes));
    }
    return numbers;
  }
  const FrameToHost& first() const { return frames_[0]; }

  MemoryLink* guest;
  std::unique_ptr<ImpairedLink> link;

 private:
  std::array<Bytes, 16> rooms_;
  std::array<FrameToHost, 16> frames_;
};

// 1,000 frames, one each 100 µs, and what arrives until everything is due.
std::vector<uint32_t> ThousandToHost(World& world) {
  std::vector<uint32_t> arrived;
  Time now = kStart;
  for (uint32_t i = 0; i < 1'000; ++i, now += microseconds(100)) {
    world.guest->PushToHost(Numbered(i));
    for (const uint32_t number : world.Receive(now)) arrived.push_back(number);
  }
  for (int i = 0; i < 1'000 && world.link->deadline() != kNever; ++i) {
    for (const uint32_t number : world.Receive(world.link->deadline())) arrived.push_back(number);
  }
  return arrived;
}

std::vector<uint32_t> Sorted(std::vector<uint32_t> numbers) {
  std::ranges::sort(numbers);
  return numbers;
}

TEST(ImpairTest, WithoutImpairmentsFramesPassAtOnceAndUnchanged) {
  World world({}, {.ethernet = false, .mtu_max = 65'535, .tcp6_gso_to_guest = true});
  EXPECT_FALSE(world.link->capabilities().ethernet);
  EXPECT_TRUE(world.link->capabilities().tcp6_gso_to_guest);
  EXPECT_EQ(world.link->descriptor(), world.guest->descriptor());
  EXPECT_EQ(world.link->deadline(), kNever);
  const Bytes large = Numbered(7, kFrameBytesMax);
  const Offload offload{.checksum = ChecksumState::kPartial,
                        .gso = Gso::kTcp4,
                        .checksum_start = 34,
                        .checksum_offset = 16,
                        .segment_bytes = 1'460,
                        .header_bytes = 54};
  world.guest->PushToHost(large, offload);
  EXPECT_EQ(world.Receive(kStart), (std::vector<uint32_t>{7}));
  EXPECT_TRUE(std::ranges::equal(world.first().bytes(), large));
  EXPECT_EQ(world.first().offload.gso, Gso::kTcp4);
  EXPECT_EQ(world.first().offload.segment_bytes, 1'460);

  EXPECT_EQ(world.SendToGuest(kStart, large, offload), 1u);
  const std::optional<MemoryLink::Frame> frame = world.guest->PopToGuest();
  ASSERT_TRUE(frame);
  EXPECT_EQ(frame->bytes, large);
  EXPECT_EQ(frame->offload.checksum_start, 34);
  EXPECT_EQ(world.link->frames_lost(), 0u);
  EXPECT_EQ(world.link->deadline(), kNever);
}

TEST(ImpairTest, AnEmptyFrameIsAFrame) {
  World world({});
  world.guest->PushToHost({});
  std::vector<uint8_t> room(kFrameBytesMax);
  FrameToHost frame{.room = room, .length = 1};
  EXPECT_EQ(world.link->Receive(Time{}, {&frame, 1}), 1U);
  EXPECT_EQ(frame.length, 0U);
}

TEST(ImpairTest, DelayHoldsFramesToHostUntilTheDeadline) {
  World world({.to_host = {.delay = milliseconds(10)}, .to_guest = {}});
  world.guest->PushToHost(Numbered(1));
  EXPECT_TRUE(world.Receive(kStart).empty());
  EXPECT_EQ(world.link->deadline(), kStart + milliseconds(10));
  world.guest->PushToHost(Numbered(2));
  EXPECT_TRUE(world.Receive(kStart + milliseconds(4)).empty());
  EXPECT_EQ(world.link->deadline(), kStart + milliseconds(10));
  EXPECT_TRUE(world.Receive(kStart + milliseconds(10) - Duration(1)).empty());
  EXPECT_EQ(world.Receive(kStart + milliseconds(10)), (std::vector<uint32_t>{1}));
  EXPECT_EQ(world.link->deadline(), kStart + milliseconds(14));
  EXPECT_EQ(world.Receive(kStart + milliseconds(20)), (std::vector<uint32_t>{2}));
  EXPECT_EQ(world.link->deadline(), kNever);
}

TEST(ImpairTest, ReceiveAndSendReleaseWhatIsDueToGuest) {
  World world({.to_host = {}, .to_guest = {.delay = milliseconds(10)}});
  EXPECT_EQ(world.SendToGuest(kStart, Numbered(1)), 1u);
  EXPECT_EQ(world.SendToGuest(kStart + milliseconds(5), Numbered(2)), 1u);
  EXPECT_TRUE(world.AtGuest().empty());
  EXPECT_EQ(world.link->deadline(), kStart + milliseconds(10));
  EXPECT_TRUE(world.Receive(kStart + milliseconds(10)).empty());
  EXPECT_EQ(world.AtGuest(), (std::vector<uint32_t>{1}));
  EXPECT_EQ(world.SendToGuest(kStart + milliseconds(15), Numbered(3)), 1u);
  EXPECT_EQ(world.AtGuest(), (std::vector<uint32_t>{2}));
  EXPECT_EQ(world.link->deadline(), kStart + milliseconds(25));
}

TEST(ImpairTest, JitterVariesTheDelayAndKeepsTheOrder) {
  World world({.to_host = {.delay = milliseconds(1), .jitter = milliseconds(5)}, .to_guest = {}});
  const std::vector<uint32_t> arrived = ThousandToHost(world);
  EXPECT_EQ(arrived.size(), 1'000u);
  EXPECT_TRUE(std::ranges::is_sorted(arrived));
  EXPECT_EQ(world.link->to_host_counts().reordered, 0u);

  // A single frame after a long pause shows its own draw.
  Duration least = milliseconds(99), most{0};
  for (int i = 1; i <= 200; ++i) {
    const Time now = kStart + std::chrono::seconds(i);
    world.guest->PushToHost(Numbered(0));
    EXPECT_TRUE(world.Receive(now).empty());
    least = std::min(least, world.link->deadline() - now);
    most = std::max(most, world.link->deadline() - now);
    EXPECT_EQ(world.Receive(world.link->deadline()).size(), 1u);
  }
  EXPECT_GE(least, milliseconds(1));
  EXPECT_LT(least, milliseconds(2));
  EXPECT_GT(most, milliseconds(5));
  EXPECT_LE(most, milliseconds(6));
}

TEST(ImpairTest, DropLosesAboutTheShareAndCountsIt) {
  World world({.to_host = {.drop = 0.1}, .to_guest = {}});
  const std::vector<uint32_t> arrived = ThousandToHost(world);
  const uint64_t dropped = world.link->to_host_counts().dropped;
  EXPECT_EQ(arrived.size() + dropped, 1'000u);
  EXPECT_GT(dropped, 60u);
  EXPECT_LT(dropped, 140u);
  EXPECT_EQ(world.link->frames_lost(), dropped);
  EXPECT_TRUE(std::ranges::is_sorted(arrived));
}

TEST(ImpairTest, DuplicatesFollowTheirOriginal) {
  World world({.to_host = {.duplicate = 0.1}, .to_guest = {}});
  const std::vector<uint32_t> arrived = ThousandToHost(world);
  const uint64_t duplicated = world.link->to_host_counts().duplicated;
  EXPECT_EQ(arrived.size(), 1'000u + duplicated);
  EXPECT_GT(duplicated, 60u);
  EXPECT_LT(duplicated, 140u);
  EXPECT_TRUE(std::ranges::is_sorted(arrived));
  EXPECT_EQ(world.link->frames_lost(), 0u);
}

TEST(ImpairTest, ReorderedFramesArePassedByOneToFourLaterOnes) {
  for (const Duration delay : {Duration(0), Duration(milliseconds(10))}) {
    World world({.to_host = {.delay = delay, .reorder = 0.05}, .to_guest = {}});
    const std::vector<uint32_t> arrived = ThousandToHost(world);
    ASSERT_EQ(arrived.size(), 1'000u);
    uint64_t late = 0;
    for (size_t i = 0; i < arrived.size(); ++i) {
      const auto passed = static_cast<size_t>(
          std::count_if(arrived.begin(), arrived.begin() + static_cast<ptrdiff_t>(i),
                        [&](uint32_t other) { return other > arrived[i]; }));
      EXPECT_LE(passed, 4u);
      if (passed > 0) ++late;
    }
    EXPECT_EQ(late, world.link->to_host_counts().reordered);
    EXPECT_GT(late, 20u);
    EXPECT_LT(late, 80u);
    EXPECT_EQ(world.link->frames_lost(), 0u);
  }
}

TEST(ImpairTest, AReorderedFrameThatNothingFollowsComesByTheDeadline) {
  World world({.to_host = {}, .to_guest = {.delay = milliseconds(3), .reorder = 1}});
  EXPECT_EQ(world.SendToGuest(kStart, Numbered(1)), 1u);
  const Time due = kStart + milliseconds(3) + ImpairQueue::kReorderHoldMax;
  EXPECT_EQ(world.link->deadline(), due);
  EXPECT_TRUE(world.Receive(due).empty());
  EXPECT_EQ(world.AtGuest(), (std::vector<uint32_t>{1}));
  EXPECT_EQ(world.link->to_guest_counts().reordered, 0u) << "nothing passed it";
}

TEST(ImpairTest, AReorderedFrameDoesNotWaitForFramesThatComeTooLate) {
  World world({.to_host = {}, .to_guest = {.delay = milliseconds(30), .reorder = 1}});
  EXPECT_EQ(world.SendToGuest(kStart, Numbered(1)), 1u);
  EXPECT_EQ(world.SendToGuest(kStart + milliseconds(15), Numbered(2)), 1u);  // due at 45 ms
  EXPECT_TRUE(world.Receive(kStart + milliseconds(40)).empty());
  EXPECT_EQ(world.AtGuest(), (std::vector<uint32_t>{1}));
  EXPECT_TRUE(world.Receive(kStart + milliseconds(45)).empty());
  EXPECT_EQ(world.AtGuest(), (std::vector<uint32_t>{2}));
  EXPECT_EQ(world.link->to_guest_counts().reordered, 0u);
}

TEST(ImpairTest, CorruptionFlipsOneByteAndNobodyVouchesForIt) {
  World world({.to_host = {.corrupt = 1}, .to_guest = {}});
  for (uint32_t i = 0; i < 100; ++i) {
    const Bytes original = Numbered(i);
    world.guest->PushToHost(original, {.checksum = ChecksumState::kComplete});
    ASSERT_EQ(world.Receive(kStart).size(), 1u);
    int differences = 0;
    for (size_t k = 0; k < original.size(); ++k) {
      if (world.first().bytes()[k] != original[k]) ++differences;
    }
    EXPECT_EQ(differences, 1);
    EXPECT_EQ(world.first().offload.checksum, ChecksumState::kUnknown);
  }
  EXPECT_EQ(world.link->to_host_counts().corrupted, 100u);
  EXPECT_EQ(world.link->frames_lost(), 0u);
}

// With the checksum still open, corruption would go unnoticed for ever.
TEST(ImpairTest, CorruptedFramesWithAPartialChecksumAreLost) {
  World world({.to_host = {.corrupt = 1}, .to_guest = {}});
  world.guest->PushToHost(Numbered(1), {.checksum = ChecksumState::kPartial});
  EXPECT_TRUE(world.Receive(kStart).empty());
  EXPECT_EQ(world.link->to_host_counts().corrupted, 1u);
  EXPECT_EQ(world.link->frames_lost(), 1u);
}

TEST(ImpairTest, AFullQueueLosesFramesAndHasRoomAgainLater) {
  const size_t each = 1'000 + sizeof(ImpairQueue::Frame);
  World world(
      {.to_host = {.delay = milliseconds(10), .queue_bytes_max = 3 * each}, .to_guest = {}});
  for (uint32_t i = 0; i < 5; ++i) world.guest->PushToHost(Numbered(i, 1'000));
  EXPECT_TRUE(world.Receive(kStart).empty());
  EXPECT_EQ(world.link->to_host_counts().overflowed, 2u);
  EXPECT_EQ(world.link->frames_lost(), 2u);
  EXPECT_EQ(world.Receive(kStart + milliseconds(10)), (std::vector<uint32_t>{0, 1, 2}));
  for (uint32_t i = 0; i < 3; ++i) world.guest->PushToHost(Numbered(i, 1'000));
  EXPECT_TRUE(world.Receive(kStart + milliseconds(20)).empty());
  EXPECT_EQ(world.link->frames_lost(), 2u);
}

TEST(ImpairTest, TheSameSeedDoesTheSameAndAnotherOneDoesNot) {
  const ImpairDirection bad{.delay = milliseconds(2),
                            .jitter = milliseconds(1),
                            .drop = 0.05,
                            .duplicate = 0.05,
                            .reorder = 0.05};
  const auto run = [&](uint64_t seed) {
    World world({.to_host = bad, .to_guest = {}, .seed = seed});
    return ThousandToHost(world);
  };
  EXPECT_EQ(run(7), run(7));
  EXPECT_NE(run(7), run(8));
}

// What happens to one kind of impairment or in one direction must not depend on
// the others: otherwise no experiment can be varied.
TEST(ImpairTest, DropsDependOnSeedAndPlaceOnly) {
  World plain({.to_host = {.drop = 0.1}, .to_guest = {}});
  World mixed({.to_host = {.jitter = milliseconds(3), .drop = 0.1, .reorder = 0.1},
               .to_guest = {.drop = 0.5}});
  for (uint32_t i = 0; i < 100; ++i) {
    ASSERT_EQ(mixed.SendToGuest(kStart, Numbered(i)), 1u);
  }
  EXPECT_EQ(Sorted(ThousandToHost(plain)), Sorted(ThousandToHost(mixed)));
  EXPECT_NE(mixed.AtGuest().size(), 100u);
}

TEST(ImpairTest, EveryFrameIsAccountedFor) {
  const ImpairDirection bad{.delay = milliseconds(1),
                            .drop = 0.1,
                            .duplicate = 0.1,
                            .reorder = 0.1,
                            .corrupt = 0.1,
                            .queue_bytes_max = 1'500};
  World world({.to_host = bad, .to_guest = {}});
  const std::vector<uint32_t> arrived = ThousandToHost(world);
  const ImpairCounts& counts = world.link->to_host_counts();
  EXPECT_GT(counts.overflowed, 0u);
  EXPECT_GT(counts.corrupted, 0u);
  EXPECT_EQ(arrived.size() + counts.lost, 1'000u + counts.duplicated);
  EXPECT_EQ(world.link->frames_lost(), counts.lost);
}

TEST(ImpairTest, AFullInnerLinkHoldsBackTheStackAndIsAskedAgain) {
  World world({.to_host = {}, .to_guest = {.delay = milliseconds(1)}});
  world.guest->SetRoom(1);
  for (uint32_t i = 0; i < 3; ++i) EXPECT_EQ(world.SendToGuest(kStart, Numbered(i)), 1u);
  const Time due = kStart + milliseconds(1);
  EXPECT_TRUE(world.Receive(due).empty());
  EXPECT_EQ(world.AtGuest(), (std::vector<uint32_t>{0}));
  EXPECT_EQ(world.SendToGuest(due, Numbered(3)), 0u) << "older frames go first";
  EXPECT_EQ(world.link->deadline(), due + ImpairedLink::kRetry);
  world.guest->SetRoom(MemoryLink::kUnlimited);
  EXPECT_TRUE(world.Receive(due + ImpairedLink::kRetry).empty());
  EXPECT_EQ(world.AtGuest(), (std::vector<uint32_t>{1, 2}));
  EXPECT_EQ(world.link->deadline(), kNever);
  EXPECT_EQ(world.SendToGuest(due, Numbered(3)), 1u);
  EXPECT_EQ(world.link->frames_lost(), 0u);
}

TEST(ImpairTest, EndsWhenTheDelayedFramesWereReceived) {
  World world({.to_host = {.delay = milliseconds(10)}, .to_guest = {}});
  world.guest->PushToHost(Numbered(1));
  EXPECT_TRUE(world.Receive(kStart).empty());
  world.guest->End();
  EXPECT_FALSE(world.link->ended());
  EXPECT_EQ(world.Receive(kStart + milliseconds(10)).size(), 1u);
  EXPECT_TRUE(world.link->ended());
}

TEST(ImpairTest, RefusesOptionsThatCannotWork) {
  const auto code = [](const ImpairOptions& options) {
    return Impair(std::make_unique<MemoryLink>(), options).status().code();
  };
  EXPECT_EQ(code({}), absl::StatusCode::kOk);
  EXPECT_EQ(code({.to_host = {.drop = 1.1}, .to_guest = {}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.to_host = {}, .to_guest = {.reorder = -0.1}}),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.to_host = {.delay = Duration(-1)}, .to_guest = {}}),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.to_host = {.jitter = Duration::max()}, .to_guest = {}}),
            absl::StatusCode::kInvalidArgument);
}

TEST(ParseImpairOptionsTest, ReadsEveryWordForBothDirections) {
  const absl::StatusOr<ImpairOptions> options = ParseImpairOptions(
      "delay=10ms,jitter=500us,drop=1%,duplicate=0.1%,reorder=0.02,corrupt=100%,"
      "seed=18446744073709551615");
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->seed, UINT64_MAX);
  for (const ImpairDirection& direction : {options->to_host, options->to_guest}) {
    EXPECT_EQ(direction.delay, milliseconds(10));
    EXPECT_EQ(direction.jitter, microseconds(500));
    EXPECT_DOUBLE_EQ(direction.drop, 0.01);
    EXPECT_DOUBLE_EQ(direction.duplicate, 0.001);
    EXPECT_DOUBLE_EQ(direction.reorder, 0.02);
    EXPECT_DOUBLE_EQ(direction.corrupt, 1.0);
  }
}

TEST(ParseImpairOptionsTest, LaterWordsWinInOneDirection) {
  const absl::StatusOr<ImpairOptions> options =
      ParseImpairOptions("drop=1%,to_guest.drop=2%,to_host.delay=1.5s");
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_DOUBLE_EQ(options->to_host.drop, 0.01);
  EXPECT_DOUBLE_EQ(options->to_guest.drop, 0.02);
  EXPECT_EQ(options->to_host.delay, milliseconds(1'500));
  EXPECT_EQ(options->to_guest.delay, Duration(0));
}

TEST(ParseImpairOptionsTest, NamesTheWrongWord) {
  for (const std::string word : {"",
                                 "drop",
                                 "loss=1%",
                                 "drop=",
                                 "drop=x",
                                 "drop=101%",
                                 "drop=-1%",
                                 "drop=1.5",
                                 "drop=1%%",
                                 "drop=nan",
                                 "delay=10",
                                 "delay=10m",
                                 "delay=-1ms",
                                 "delay=61s",
                                 "delay=nanms",
                                 "delay=ms",
                                 "seed=-1",
                                 "seed=1.5",
                                 "seed=",
                                 "to_guest.seed=1",
                                 "to_moon.drop=1%",
                                 "to_guest.=1%",
                                 " drop=1%",
                                 "=1"}) {
    for (const std::string& text : {word, "delay=1ms," + word, word + ",delay=1ms"}) {
      const absl::Status status = ParseImpairOptions(text).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
      EXPECT_NE(status.ToString().find("'" + word + "'"), std::string::npos) << status;
    }
  }
}

}  // namespace
}  // namespace penstock
