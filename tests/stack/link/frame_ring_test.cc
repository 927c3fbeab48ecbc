#include "stack/link/frame_ring.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <thread>
#include <utility>
#include <vector>

namespace penstock {
namespace {

using Bytes = std::vector<uint8_t>;

// Bytes that can be told from any other frame's.
Bytes Pattern(uint32_t seed, size_t length) {
  Bytes bytes(length);
  std::iota(bytes.begin(), bytes.end(), static_cast<uint8_t>(seed * 31));
  return bytes;
}

bool Readable(int descriptor, int timeout_ms = 0) {
  pollfd entry{.fd = descriptor, .events = POLLIN, .revents = 0};
  return poll(&entry, 1, timeout_ms) == 1;
}

// Room for a batch of frames.
template <size_t kCount>
struct Batch {
  Batch() {
    for (size_t i = 0; i < kCount; ++i) {
      rooms[i].resize(kFrameBytesMax);
      frames[i].room = rooms[i];
    }
  }
  std::array<Bytes, kCount> rooms;
  std::array<FrameToHost, kCount> frames;
};

size_t SendOne(Link& link, const Bytes& bytes, const Offload& offload = {}) {
  const iovec part{const_cast<uint8_t*>(bytes.data()), bytes.size()};
  const FrameToGuest frame{
      .parts = {&part, 1}, .length = static_cast<uint32_t>(bytes.size()), .offload = offload};
  return link.Send(Time{}, {&frame, 1});
}

class FrameRingTest : public ::testing::Test {
 protected:
  FrameRingTest()
      : rings_(FrameRings::Create({.to_host_bytes = RecordRing::kBytesMin,
                                   .to_guest_bytes = RecordRing::kBytesMin,
                                   .capabilities = {.mtu_max = 9'000}})
                   .value()),
        stack_(*rings_.stack_end),
        vmm_(*rings_.vmm_end) {}

  // Receives one frame, or an empty one.
  Bytes ReceiveOne() {
    const size_t count = stack_.Receive(Time{}, one_.frames);
    if (count == 0) return {};
    const std::span<uint8_t> bytes = one_.frames[0].bytes();
    return {bytes.begin(), bytes.end()};
  }

  FrameRings rings_;
  Link& stack_;
  FrameRingsGuestEnd& vmm_;
  Batch<1> one_;
  Batch<4> four_;
};

TEST_F(FrameRingTest, CarriesBytesAndOffloadsBothWays) {
  EXPECT_EQ(stack_.capabilities().mtu_max, 9'000u);
  const Offload offload{.checksum = ChecksumState::kPartial,
                        .gso = Gso::kTcp4,
                        .checksum_start = 34,
                        .checksum_offset = 16,
                        .segment_bytes = 1'460,
                        .header_bytes = 54};
  Bytes head = Pattern(1, 54), body = Pattern(2, 40'000);
  const std::array<iovec, 3> parts{{{head.data(), 54}, {nullptr, 0}, {body.data(), 40'000}}};
  Bytes whole = head;
  whole.insert(whole.end(), body.begin(), body.end());

  EXPECT_TRUE(vmm_.SendToHost(parts, offload));
  EXPECT_EQ(ReceiveOne(), whole);
  EXPECT_EQ(one_.frames[0].offload.gso, Gso::kTcp4);
  EXPECT_EQ(one_.frames[0].offload.checksum, ChecksumState::kPartial);
  EXPECT_EQ(one_.frames[0].offload.checksum_start, 34);
  EXPECT_EQ(one_.frames[0].offload.checksum_offset, 16);
  EXPECT_EQ(one_.frames[0].offload.segment_bytes, 1'460);
  EXPECT_EQ(one_.frames[0].offload.header_bytes, 54);

  const FrameToGuest frame{.parts = parts, .length = 40'054, .offload = offload};
  EXPECT_EQ(stack_.Send(Time{}, {&frame, 1}), 1u);
  const std::optional<RecordRing::Record> record = vmm_.FrontToGuest();
  ASSERT_TRUE(record);
  EXPECT_TRUE(std::ranges::equal(record->bytes, whole));
  EXPECT_EQ(record->offload.gso, Gso::kTcp4);
  EXPECT_EQ(record->offload.segment_bytes, 1'460);
  EXPECT_EQ(vmm_.FrontToGuest()->bytes.data(), record->bytes.data()) << "it stays until Pop";
  vmm_.PopToGuest();
  EXPECT_FALSE(vmm_.FrontToGuest());
}

// Every length from 1 byte to the largest, and every place where a record can
// meet the end of the ring.
TEST_F(FrameRingTest, KeepsOrderAndContentAcrossTheEndOfTheRing) {
  uint32_t sent = 0, received = 0;
  for (size_t length = 1; length <= kFrameBytesMax; length += length < 70 ? 1 : 677) {
    ASSERT_TRUE(vmm_.SendToHost(Pattern(sent++, length), {}));
    if (sent % 3 != 0) continue;
    while (received < sent) {
      const Bytes got = ReceiveOne();
      ASSERT_EQ(got, Pattern(received, got.size()));
      ++received;
    }
  }
  EXPECT_GT(sent, 150u);
  ASSERT_TRUE(vmm_.SendToHost(Pattern(9, kFrameBytesMax), {}));
}

TEST_F(FrameRingTest, AnEmptyRingTakesTheLargestFrameWhereverItsIndicesStand) {
  for (size_t shift = 16; shift <= RecordRing::kBytesMin; shift += 4'080) {
    const size_t small = shift % 60'000 + 1;
    ASSERT_TRUE(vmm_.SendToHost(Pattern(1, small), {}));
    ASSERT_EQ(ReceiveOne().size(), small);
    ASSERT_TRUE(vmm_.SendToHost(Pattern(2, kFrameBytesMax), {})) << shift;
    ASSERT_EQ(ReceiveOne(), Pattern(2, kFrameBytesMax)) << shift;
  }
}

TEST_F(FrameRingTest, EmptyAndOversizedFramesAreDroppedAndCounted) {
  EXPECT_FALSE(vmm_.SendToHost(Bytes{}, {}));
  EXPECT_FALSE(vmm_.SendToHost(Bytes(kFrameBytesMax + 1), {}));
  EXPECT_EQ(vmm_.frames_dropped(), 2u);
  EXPECT_EQ(SendOne(stack_, {}), 1u);
  EXPECT_EQ(SendOne(stack_, Bytes(kFrameBytesMax + 1)), 1u);
  EXPECT_EQ(stack_.frames_lost(), 4u);
  EXPECT_FALSE(vmm_.FrontToGuest());
  EXPECT_TRUE(ReceiveOne().empty());
}

TEST_F(FrameRingTest, FullToHostDropsTheNewFrameAndCountsIt) {
  uint32_t sent = 0;
  while (vmm_.SendToHost(Pattern(sent, 60'000), {})) ++sent;
  EXPECT_EQ(sent, 4u);
  EXPECT_EQ(vmm_.frames_dropped(), 1u);
  EXPECT_EQ(stack_.frames_lost(), 1u);
  for (uint32_t i = 0; i < sent; ++i) EXPECT_EQ(ReceiveOne(), Pattern(i, 60'000));
  EXPECT_TRUE(ReceiveOne().empty());
  EXPECT_TRUE(vmm_.SendToHost(Pattern(0, 60'000), {}));
}

TEST_F(FrameRingTest, FullToGuestRefusesAndTheStackIsWokenAtHalf) {
  uint32_t sent = 0;
  while (SendOne(stack_, Pattern(sent, 20'000)) == 1) ++sent;
  EXPECT_EQ(sent, 13u);
  EXPECT_EQ(stack_.frames_lost(), 0u);
  EXPECT_FALSE(Readable(stack_.descriptor()));
  for (uint32_t i = 0; i < 6; ++i) {
    EXPECT_EQ(vmm_.FrontToGuest()->bytes[0], Pattern(i, 1)[0]);
    vmm_.PopToGuest();
  }
  EXPECT_FALSE(Readable(stack_.descriptor())) << "one wake-up, not one for each frame";
  vmm_.PopToGuest();
  EXPECT_TRUE(Readable(stack_.descriptor()));
  EXPECT_EQ(stack_.Receive(Time{}, four_.frames), 0u);
  EXPECT_FALSE(Readable(stack_.descriptor()));
  EXPECT_EQ(SendOne(stack_, Pattern(sent, 20'000)), 1u);
  while (vmm_.FrontToGuest()) vmm_.PopToGuest();
  EXPECT_FALSE(Readable(stack_.descriptor())) << "nobody asked";
}

TEST_F(FrameRingTest, SendTakesAPrefixOfABatch) {
  Bytes bytes = Pattern(1, 60'000);
  const iovec part{bytes.data(), bytes.size()};
  const std::vector<FrameToGuest> frames(6, {.parts = {&part, 1}, .length = 60'000, .offload = {}});
  EXPECT_EQ(stack_.Send(Time{}, frames), 4u);
  EXPECT_TRUE(Readable(vmm_.descriptor()));
  int received = 0;
  for (; vmm_.FrontToGuest(); ++received) vmm_.PopToGuest();
  EXPECT_EQ(received, 4);
}

// Readable whenever frames wait, quiet once drained, also when a batch ends before
// the ring does.
TEST_F(FrameRingTest, DescriptorStaysReadableUntilDrained) {
  EXPECT_FALSE(Readable(stack_.descriptor()));
  for (uint32_t i = 0; i < 9; ++i) ASSERT_TRUE(vmm_.SendToHost(Pattern(i, 100), {}));
  EXPECT_TRUE(Readable(stack_.descriptor()));
  EXPECT_EQ(stack_.Receive(Time{}, four_.frames), 4u);
  EXPECT_TRUE(Readable(stack_.descriptor()));
  EXPECT_EQ(stack_.Receive(Time{}, four_.frames), 4u);
  EXPECT_TRUE(Readable(stack_.descriptor()));
  EXPECT_EQ(stack_.Receive(Time{}, four_.frames), 1u);
  EXPECT_FALSE(Readable(stack_.descriptor()));

  EXPECT_FALSE(Readable(vmm_.descriptor()));
  for (uint32_t i = 0; i < 2; ++i) ASSERT_EQ(SendOne(stack_, Pattern(i, 100)), 1u);
  EXPECT_TRUE(Readable(vmm_.descriptor()));
  ASSERT_TRUE(vmm_.FrontToGuest());
  vmm_.PopToGuest();
  EXPECT_TRUE(Readable(vmm_.descriptor()));
  ASSERT_TRUE(vmm_.FrontToGuest());
  vmm_.PopToGuest();
  EXPECT_FALSE(vmm_.FrontToGuest());
  EXPECT_FALSE(Readable(vmm_.descriptor()));
}

TEST_F(FrameRingTest, ClosingAnEndRingsTheOther) {
  EXPECT_TRUE(ReceiveOne().empty());
  EXPECT_FALSE(Readable(stack_.descriptor()));
  rings_.vmm_end.reset();
  EXPECT_TRUE(Readable(stack_.descriptor()));

  FrameRings other = FrameRings::Create({}).value();
  EXPECT_FALSE(other.vmm_end->FrontToGuest());
  EXPECT_FALSE(Readable(other.vmm_end->descriptor()));
  other.stack_end.reset();
  EXPECT_TRUE(Readable(other.vmm_end->descriptor()));
}

TEST_F(FrameRingTest, ClosedVmmEndIsSeenAfterItsLastFrame) {
  ASSERT_TRUE(vmm_.SendToHost(Pattern(1, 10), {}));
  EXPECT_EQ(ReceiveOne().size(), 10u);
  EXPECT_TRUE(ReceiveOne().empty());
  EXPECT_FALSE(stack_.ended());
  ASSERT_TRUE(vmm_.SendToHost(Pattern(2, 20), {}));
  rings_.vmm_end.reset();
  EXPECT_FALSE(stack_.ended());
  EXPECT_TRUE(Readable(stack_.descriptor()));
  EXPECT_EQ(ReceiveOne().size(), 20u);
  EXPECT_TRUE(ReceiveOne().empty());
  EXPECT_TRUE(stack_.ended());
  EXPECT_FALSE(Readable(stack_.descriptor()));
  EXPECT_EQ(SendOne(stack_, Pattern(3, 30)), 1u);
  EXPECT_EQ(stack_.frames_lost(), 1u);
}

TEST_F(FrameRingTest, ClosedStackEndIsSeenAfterItsLastFrame) {
  ASSERT_EQ(SendOne(stack_, Pattern(1, 10)), 1u);
  rings_.stack_end.reset();
  EXPECT_FALSE(vmm_.ended());
  ASSERT_TRUE(vmm_.FrontToGuest());
  vmm_.PopToGuest();
  EXPECT_TRUE(Readable(vmm_.descriptor()));
  EXPECT_FALSE(vmm_.FrontToGuest());
  EXPECT_TRUE(vmm_.ended());
  EXPECT_FALSE(Readable(vmm_.descriptor()));
  EXPECT_FALSE(vmm_.SendToHost(Pattern(2, 20), {}));
  EXPECT_EQ(vmm_.frames_dropped(), 1u);
}

TEST(FrameRingsCreateTest, RefusesSizesThatCannotWork) {
  for (const size_t bytes : {size_t{0}, size_t{131'072}, size_t{300'000}, size_t{1} << 31}) {
    const absl::Status status = FrameRings::Create({.to_guest_bytes = bytes}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bytes;
    EXPECT_NE(std::string(status.message()).find(std::to_string(bytes)), std::string::npos);
  }
  EXPECT_TRUE(FrameRings::Create({}).ok());
}

// --- Two threads -----------------------------------------------------------

constexpr int kPatienceMs = 20'000;  // a lost wake-up shows as a failure

// Frames that check themselves: number, then bytes derived from it.
class Numbered {
 public:
  explicit Numbered(uint32_t seed) : random_(seed) {}

  // Mostly small, sometimes as large as it gets.
  std::span<const uint8_t> Make(uint64_t number) {
    const auto dice = static_cast<uint32_t>(random_());
    const size_t length = dice % 4096 == 0 ? 8 + dice % (kFrameBytesMax - 7) : 8 + dice % 240;
    std::memcpy(bytes_.data(), &number, 8);
    std::memset(bytes_.data() + 8, Fill(number), length - 8);
    return std::span(bytes_).first(length);
  }
  // The number, or UINT64_MAX if the bytes are not what Make wrote.
  static uint64_t Check(std::span<const uint8_t> bytes) {
    if (bytes.size() < 8) return UINT64_MAX;
    uint64_t number;
    std::memcpy(&number, bytes.data(), 8);
    // All equal to the first one, which is the right one. (memcmp instead of a loop:
    // sanitizers look at each access of a loop.)
    const std::span<const uint8_t> rest = bytes.subspan(8);
    const bool whole = rest.empty() || (rest[0] == Fill(number) &&
                                        std::memcmp(&rest[0], &rest[0] + 1, rest.size() - 1) == 0);
    return whole ? number : UINT64_MAX;
  }

 private:
  static uint8_t Fill(uint64_t number) { return static_cast<uint8_t>(number * 131 + 7); }

  std::mt19937 random_;
  Bytes bytes_ = Bytes(kFrameBytesMax);
};

struct EndResult {
  uint64_t accepted = 0;  // by the ring, of what this end sent
  uint64_t received = 0;
  bool in_order = true;
  bool woken = true;
};

// Sends until `goal` frames were taken, and receives `goal` frames. Frames that
// the ring refused are lost, so numbers have gaps but never go back.
void RunVmm(FrameRingsGuestEnd& end, uint64_t goal, EndResult& result) {
  Numbered frames(1);
  uint64_t number = 0, next = 0;
  while (result.accepted < goal || result.received < goal) {
    for (int burst = 0; burst < 50 && result.accepted < goal; ++burst) {
      if (!end.SendToHost(frames.Make(number++), {})) {
        std::this_thread::yield();
        break;
      }
      ++result.accepted;
    }
    while (std::optional<RecordRing::Record> record = end.FrontToGuest()) {
      const uint64_t got = Numbered::Check(record->bytes);
      result.in_order = result.in_order && got != UINT64_MAX && got >= next;
      next = got + 1;
      // While a frame waits, the doorbell says so: at once, or as soon as the other
      // thread has come from publishing to ringing.
      if (++result.received % 4 == 0 && !Readable(end.descriptor(), kPatienceMs)) {
        result.woken = false;
        return;
      }
      end.PopToGuest();
    }
    if (result.accepted == goal && result.received < goal &&
        !Readable(end.descriptor(), kPatienceMs)) {
      result.woken = false;
      return;
    }
  }
}

// The way a stack drives its link: receive until drained, send what is pending,
// sleep on the descriptor.
void RunStack(Link& link, uint64_t goal, EndResult& result) {
  Numbered frames(2);
  Batch<8> batch;
  uint64_t next = 0;
  std::span<const uint8_t> pending;
  while (result.accepted < goal || result.received < goal) {
    size_t count;
    do {
      count = link.Receive(Time{}, batch.frames);
      for (const FrameToHost& frame : std::span(batch.frames).first(count)) {
        const uint64_t got = Numbered::Check(frame.bytes());
        result.in_order = result.in_order && got != UINT64_MAX && got >= next;
        next = got + 1;
      }
      result.received += count;
    } while (count == batch.frames.size());
    bool refused = false;
    for (int burst = 0; burst < 50 && result.accepted < goal && !refused; ++burst) {
      if (pending.empty()) pending = frames.Make(result.accepted);
      const iovec part{const_cast<uint8_t*>(pending.data()), pending.size()};
      const FrameToGuest frame{
          .parts = {&part, 1}, .length = static_cast<uint32_t>(pending.size()), .offload = {}};
      refused = link.Send(Time{}, {&frame, 1}) == 0;
      if (refused) continue;
      pending = {};
      ++result.accepted;
    }
    const bool idle = result.accepted == goal && result.received < goal;
    if ((refused || idle) && !Readable(link.descriptor(), kPatienceMs)) {
      result.woken = false;
      return;
    }
  }
}

TEST(FrameRingStressTest, AMillionFramesEachWayBetweenTwoThreads) {
  constexpr uint64_t kFrames = 1'000'000;
  FrameRings rings = FrameRings::Create({.to_host_bytes = RecordRing::kBytesMin,
                                         .to_guest_bytes = RecordRing::kBytesMin})
                         .value();
  EndResult vmm, stack;
  std::thread vmm_thread([&] { RunVmm(*rings.vmm_end, kFrames, vmm); });
  RunStack(*rings.stack_end, kFrames, stack);
  vmm_thread.join();
  EXPECT_TRUE(vmm.woken);
  EXPECT_TRUE(stack.woken);
  EXPECT_TRUE(vmm.in_order);
  EXPECT_TRUE(stack.in_order);
  EXPECT_EQ(stack.received, kFrames);
  EXPECT_EQ(vmm.received, kFrames);
}

// Each side sleeps after each frame: the doorbell protocol and nothing else.
TEST(FrameRingStressTest, PingPongLosesNoWakeUp) {
  constexpr int kRounds = 50'000;
  FrameRings rings = FrameRings::Create({}).value();
  int answered = 0;
  std::thread vmm_thread([&] {
    while (answered < kRounds) {
      if (!Readable(rings.vmm_end->descriptor(), kPatienceMs)) return;
      while (rings.vmm_end->FrontToGuest()) {
        rings.vmm_end->PopToGuest();
        ++answered;
        EXPECT_TRUE(rings.vmm_end->SendToHost(Bytes{1, 2, 3}, {}));
      }
    }
  });
  Batch<2> batch;
  int rounds = 0;
  for (bool woken = true; rounds < kRounds && woken; ++rounds) {
    ASSERT_EQ(SendOne(*rings.stack_end, {4, 5}), 1u);
    size_t count = 0;
    while (count == 0 && woken) {
      woken = Readable(rings.stack_end->descriptor(), kPatienceMs);
      count = rings.stack_end->Receive(Time{}, batch.frames);
    }
    ASSERT_EQ(count, 1u);
  }
  vmm_thread.join();
  EXPECT_EQ(rounds, kRounds);
  EXPECT_EQ(answered, kRounds);
}

}  // namespace
}  // namespace penstock
