#include "relay/flow_decisions.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <random>

namespace penstock {
namespace {

FlowDecisions Connected() {
  FlowDecisions flow;
  flow.OnConnected();
  return flow;
}

TEST(FlowDecisionsTest, DoesNothingBeforeTheDialHasAResult) {
  FlowDecisions flow;
  flow.OnGuestData(10);
  EXPECT_FALSE(flow.MayRead());
  EXPECT_FALSE(flow.MayWrite());
  EXPECT_FALSE(flow.MustShutWrite());
  EXPECT_FALSE(flow.MustWatchErrors());
  EXPECT_FALSE(flow.done());
  flow.OnConnected();
  EXPECT_TRUE(flow.MayRead());
  EXPECT_TRUE(flow.MayWrite());
  EXPECT_TRUE(flow.MustWatchErrors());
}

TEST(FlowDecisionsTest, StopsReadingAtZeroCreditAndResumesAtHalf) {
  FlowDecisions flow = Connected();
  for (uint32_t i = 0; i < kBlockCredit; ++i) {
    ASSERT_TRUE(flow.MayRead()) << i;
    flow.OnBlockRead();
  }
  EXPECT_FALSE(flow.MayRead());
  EXPECT_TRUE(flow.MustWatchErrors()) << "a reset must be noticed although nothing is read";
  while (flow.blocks_out() > kBlockCredit / 2 + 1) {
    flow.OnBlockReturned();
    EXPECT_FALSE(flow.MayRead()) << "at " << flow.blocks_out();
  }
  flow.OnBlockReturned();
  EXPECT_TRUE(flow.MayRead());
  // Resumed: the whole credit again, not only half of it.
  while (flow.blocks_out() < kBlockCredit) {
    ASSERT_TRUE(flow.MayRead());
    flow.OnBlockRead();
  }
  EXPECT_FALSE(flow.MayRead());
}

// When memory is short a flow may have fewer bytes out than it has.
TEST(FlowDecisionsTest, ASmallerLimitOfBytesHoldsAtOnce) {
  FlowDecisions flow = Connected();
  for (int i = 0; i < 4; ++i) flow.OnBlockRead(1'000);
  EXPECT_TRUE(flow.MayRead());
  EXPECT_TRUE(flow.MayRead(4'001));
  EXPECT_FALSE(flow.MayRead(4'000));
  flow.OnBlockReturned(1'000);
  EXPECT_FALSE(flow.MayRead(4'000)) << "paused until half";
  flow.OnBlockReturned(1'000);
  EXPECT_TRUE(flow.MayRead(4'000));
  EXPECT_FALSE(flow.MayRead(0));
  flow.OnBlockReturned(1'000);
  EXPECT_FALSE(flow.MayRead(0));
  flow.OnBlockReturned(1'000);
  EXPECT_TRUE(flow.MayRead(0)) << "a flow without blocks can always go on";
}

TEST(FlowDecisionsTest, ABigBlockMustFitTheLimit) {
  FlowDecisions flow = Connected();
  EXPECT_TRUE(flow.BigBlockFits(kBigBlockBytes));
  EXPECT_FALSE(flow.BigBlockFits(kBigBlockBytes - 1));
  flow.OnBlockRead(kSmallBlockBytes);
  EXPECT_FALSE(flow.BigBlockFits(kBigBlockBytes));
  EXPECT_TRUE(flow.BigBlockFits(kBigBlockBytes + kSmallBlockBytes));
  flow.OnBlockReturned(kSmallBlockBytes);
  EXPECT_TRUE(flow.BigBlockFits(kBigBlockBytes));
}

TEST(FlowDecisionsTest, ShutsTheWriteSideAfterTheLastByteAndOnce) {
  FlowDecisions flow = Connected();
  flow.OnGuestData(100);
  flow.OnGuestFin();
  EXPECT_FALSE(flow.MustShutWrite());
  flow.OnWrote(99);
  EXPECT_FALSE(flow.MustShutWrite());
  flow.OnWriteBlocked();
  EXPECT_FALSE(flow.MayWrite());
  flow.OnWritable();
  EXPECT_TRUE(flow.MayWrite());
  flow.OnWrote(1);
  EXPECT_FALSE(flow.MayWrite());
  EXPECT_TRUE(flow.MustShutWrite());
  flow.OnWriteShut();
  EXPECT_FALSE(flow.MustShutWrite());
  EXPECT_TRUE(flow.MayRead()) << "the other direction goes on";
  EXPECT_FALSE(flow.done());
}

TEST(FlowDecisionsTest, HostEofEndsReadingOnly) {
  FlowDecisions flow = Connected();
  flow.OnHostEof();
  EXPECT_FALSE(flow.MayRead());
  flow.OnGuestData(5);
  EXPECT_TRUE(flow.MayWrite());
  EXPECT_TRUE(flow.MustWatchErrors());
  EXPECT_FALSE(flow.done());
}

TEST(FlowDecisionsTest, CloseWritesEverythingFirst) {
  FlowDecisions flow = Connected();
  flow.OnGuestData(10);
  flow.OnClose();
  EXPECT_FALSE(flow.done());
  EXPECT_FALSE(flow.MayRead());
  EXPECT_TRUE(flow.MayWrite());
  flow.OnWrote(10);
  EXPECT_TRUE(flow.done());
  EXPECT_FALSE(flow.MustReset());
}

// ENOBUFS, say, which the peer knows nothing of: the rest that it misses must not end in FIN.
TEST(FlowDecisionsTest, AWriteThatFailsAfterCloseResets) {
  FlowDecisions flow = Connected();
  flow.OnGuestData(10);
  flow.OnClose();
  flow.OnHostError(ENOBUFS);
  EXPECT_TRUE(flow.done());
  EXPECT_TRUE(flow.MustReset());
}

TEST(FlowDecisionsTest, AbortDiscards) {
  FlowDecisions flow = Connected();
  flow.OnGuestData(10);
  flow.OnGuestFin();
  flow.OnAbort();
  EXPECT_TRUE(flow.MustDiscard());
  EXPECT_TRUE(flow.MustReset());
  EXPECT_TRUE(flow.done());
  EXPECT_FALSE(flow.MayWrite());
  EXPECT_FALSE(flow.MayRead());
  EXPECT_FALSE(flow.MustShutWrite());
  EXPECT_FALSE(flow.MustWatchErrors());
}

TEST(FlowDecisionsTest, AbortAfterCloseStopsTheDraining) {
  FlowDecisions flow = Connected();
  flow.OnGuestData(10);
  flow.OnClose();
  flow.OnAbort();
  EXPECT_TRUE(flow.done());
  EXPECT_TRUE(flow.MustReset());
  EXPECT_TRUE(flow.MustDiscard());
}

TEST(FlowDecisionsTest, TellsAFailureOnceAndEndsWhenTheStackHasClosed) {
  FlowDecisions flow;
  flow.OnDialFailed(ECONNREFUSED);
  int error = 0;
  EXPECT_TRUE(flow.TakeFailure(error));
  EXPECT_EQ(error, ECONNREFUSED);
  EXPECT_FALSE(flow.TakeFailure(error));
  EXPECT_FALSE(flow.TakeReset(error));
  EXPECT_FALSE(flow.done()) << "the stack has not answered";
  flow.OnAbort();
  EXPECT_TRUE(flow.done());
}

TEST(FlowDecisionsTest, AFailureAfterTheStackHasGoneIsNobodysBusiness) {
  FlowDecisions flow;
  flow.OnAbort();
  flow.OnDialFailed(ETIMEDOUT);
  int error = 0;
  EXPECT_FALSE(flow.TakeFailure(error));
}

TEST(FlowDecisionsTest, TellsAResetOnceWithTheFirstError) {
  FlowDecisions flow = Connected();
  flow.OnGuestData(10);
  flow.OnHostError(ECONNRESET);
  flow.OnHostError(EPIPE);
  int error = 0;
  EXPECT_TRUE(flow.TakeReset(error));
  EXPECT_EQ(error, ECONNRESET);
  EXPECT_FALSE(flow.TakeReset(error));
  EXPECT_TRUE(flow.MustDiscard());
  EXPECT_FALSE(flow.MayWrite());
  EXPECT_FALSE(flow.MayRead());
  EXPECT_FALSE(flow.MustWatchErrors());
  EXPECT_FALSE(flow.done());
  flow.OnClose();
  EXPECT_TRUE(flow.done()) << "what nobody can take does not hold it";
}

TEST(FlowDecisionsTest, AnErrorWhileDrainingEndsItInSilence) {
  FlowDecisions flow = Connected();
  flow.OnGuestData(10);
  flow.OnClose();
  flow.OnHostError(ECONNRESET);
  int error = 0;
  EXPECT_FALSE(flow.TakeReset(error));
  EXPECT_TRUE(flow.MustDiscard());
  EXPECT_TRUE(flow.done());
}

// A world that does, at random, whatever could happen next, keeps its own account of it
// and holds every decision against that account.
class RandomWorld {
 public:
  explicit RandomWorld(uint32_t seed) : random_(seed) {}

  void Step() {
    if (!dialed_) {
      Dial();
    } else if (Chance(2)) {
      FromStack();
    } else {
      FromHost();
    }
    Perform();
    Check();
    if (flow_.done()) Restart();
  }
  [[nodiscard]] uint32_t lives() const { return lives_; }
  [[nodiscard]] uint32_t pauses() const { return pauses_; }

 private:
  bool Chance(uint32_t one_in) { return random_() % one_in == 0; }

  void Dial() {
    if (Chance(8)) {
      Abort();
    } else if (Chance(8)) {
      flow_.OnDialFailed(ECONNREFUSED);
      broken_ = dialed_ = true;
    } else {
      flow_.OnConnected();
      dialed_ = true;
    }
  }

  void Abort() {
    flow_.OnAbort();
    closed_ = aborted_ = true;
  }

  void FromStack() {
    switch (random_() % 16) {
      case 0:
        if (!fin_) flow_.OnGuestFin();
        fin_ = true;
        break;
      case 1:
        // In good order only after both ends said their last word.
        if (Chance(4)) {
          Abort();
        } else if (fin_ && eof_ && !closed_) {
          flow_.OnClose();
          closed_ = true;
        }
        break;
      case 2:
      case 3:
      case 4:
      case 5:
      case 6:
        if (fin_ || closed_) break;
        unwritten_ += 1 + random_() % 1'000;
        flow_.OnGuestData(unwritten_ - flow_.unwritten_bytes());
        break;
      case 7:
      case 8:
      case 9:
        if (blocks_ == 0) break;
        flow_.OnBlockReturned();
        --blocks_;
        if (blocks_ <= kBlockCredit / 2) paused_ = false;
    }
  }

  void FromHost() {
    switch (random_() % 32) {
      case 0:
        if (!broken_) flow_.OnHostError(ECONNRESET);
        broken_ = true;
        break;
      case 1:
        if (!flow_.MayRead()) break;
        flow_.OnHostEof();
        eof_ = true;
        break;
      case 2:
      case 3:
      case 4:
      case 5:
        if (blocked_) flow_.OnWritable();
        blocked_ = false;
        break;
      case 6:
      case 7:
      case 8:
      case 9:
        if (!flow_.MayWrite()) break;
        flow_.OnWriteBlocked();
        blocked_ = true;
        break;
      case 10:
      case 11:
      case 12:
      case 13:
      case 14:
      case 15: {
        if (!flow_.MayWrite()) break;
        const uint64_t bytes = 1 + random_() % unwritten_;
        flow_.OnWrote(bytes);
        unwritten_ -= bytes;
        break;
      }
      default:
        if (!flow_.MayRead()) break;
        ASSERT_FALSE(paused_);
        flow_.OnBlockRead();
        if (++blocks_ == kBlockCredit) paused_ = true, ++pauses_;
    }
  }

  // What a task does at once.
  void Perform() {
    if (flow_.MustDiscard()) {
      flow_.OnWrote(unwritten_);
      unwritten_ = 0;
    }
    if (flow_.MustShutWrite()) {
      ASSERT_TRUE(fin_ || closed_);
      ASSERT_EQ(unwritten_, 0u);
      ASSERT_FALSE(shut_);
      flow_.OnWriteShut();
      shut_ = true;
    }
    int error = 0;
    told_ += flow_.TakeFailure(error) ? 1 : 0;
    told_ += flow_.TakeReset(error) ? 1 : 0;
  }

  void Check() {
    ASSERT_EQ(flow_.blocks_out(), blocks_);
    ASSERT_LE(blocks_, kBlockCredit);
    ASSERT_EQ(flow_.unwritten_bytes(), unwritten_);
    const bool alive = dialed_ && !broken_ && !aborted_;
    ASSERT_EQ(flow_.MayWrite(), alive && !blocked_ && unwritten_ > 0);
    ASSERT_EQ(flow_.MayRead(), alive && !eof_ && !closed_ && !paused_);
    ASSERT_EQ(flow_.MustWatchErrors(), alive && !closed_);
    ASSERT_EQ(flow_.MustDiscard(), broken_ || aborted_);
    ASSERT_EQ(flow_.MustReset(), aborted_ || broken_);
    ASSERT_EQ(flow_.done(), closed_ && (!alive || unwritten_ == 0));
    ASSERT_LE(told_, 1u);
    ASSERT_TRUE(told_ == 0 || broken_);
    ASSERT_TRUE(told_ == 1 || !broken_ || closed_);
  }

  void Restart() {
    ++lives_;
    flow_ = FlowDecisions();
    dialed_ = broken_ = eof_ = fin_ = closed_ = aborted_ = blocked_ = shut_ = paused_ = false;
    unwritten_ = blocks_ = told_ = 0;
  }

  std::mt19937 random_;
  FlowDecisions flow_;
  bool dialed_ = false, broken_ = false, eof_ = false, fin_ = false, closed_ = false;
  bool aborted_ = false, blocked_ = false, shut_ = false, paused_ = false;
  uint64_t unwritten_ = 0;
  uint32_t blocks_ = 0, told_ = 0;
  uint32_t lives_ = 0, pauses_ = 0;
};

TEST(FlowDecisionsTest, ARandomWalkBreaksNoPromise) {
  RandomWorld world(1);
  for (int i = 0; i < 100'000 && !testing::Test::HasFatalFailure(); ++i) world.Step();
  EXPECT_GT(world.lives(), 500u) << "the walk went through whole lives";
  EXPECT_GT(world.pauses(), 100u) << "and ran out of credit";
}

}  // namespace
}  // namespace penstock
