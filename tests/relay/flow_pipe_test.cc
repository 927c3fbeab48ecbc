#include "relay/flow_pipe.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>

namespace penstock {
namespace {

TEST(WordBoxTest, KeepsWordsUntilTheyAreTaken) {
  WordBox<ToGuest> box;
  EXPECT_TRUE(box.Peek().empty());
  EXPECT_TRUE(box.Take().empty());
  box.Say(ToGuest::kConnected);
  box.Say(ToGuest::kEof);
  EXPECT_TRUE(box.Peek().Has(ToGuest::kEof));
  const Words<ToGuest> words = box.Take();
  EXPECT_TRUE(words.Has(ToGuest::kConnected));
  EXPECT_TRUE(words.Has(ToGuest::kEof));
  EXPECT_FALSE(words.Has(ToGuest::kReset));
  EXPECT_TRUE(box.Take().empty());
}

TEST(WordBoxTest, TheFirstWordOfAFlowIsAllThatIsLeft) {
  WordBox<ToHost> box;
  box.Say(ToHost::kAbort);  // crossed the relay's last word
  box.SayFirst(ToHost::kOpen);
  const Words<ToHost> words = box.Take();
  EXPECT_TRUE(words.Has(ToHost::kOpen));
  EXPECT_FALSE(words.Has(ToHost::kAbort));
}

// Whoever takes words first and bytes then has the bytes that a word stands behind: the
// other way round, bytes would come after their end.
TEST(FlowPipeTest, NoByteComesAfterTheWordBehindIt) {
  constexpr int kRounds = 20'000, kBlocks = 5;
  FlowPipe pipe;
  std::atomic<int> round{0};
  std::thread relay([&] {
    Block blocks[kBlocks];
    for (int i = 0; i < kRounds; ++i) {
      for (Block& block : blocks) {
        block.length = 1;
        pipe.to_guest.Push(&block);
      }
      pipe.error = i;
      pipe.words_to_guest.Say(ToGuest::kReset);
      while (round.load() == i) std::this_thread::yield();
    }
  });
  for (int i = 0; i < kRounds; ++i) {
    int seen = 0;
    for (bool over = false; !over;) {
      over = pipe.words_to_guest.Take().Has(ToGuest::kReset);
      for (Block* b = pipe.to_guest.TakeInOrder(); b != nullptr; b = b->next) ++seen;
      if (!over) std::this_thread::yield();
    }
    EXPECT_EQ(seen, kBlocks) << "in round " << i;
    EXPECT_EQ(pipe.error, i);
    round.store(i + 1);
  }
  relay.join();
}

}  // namespace
}  // namespace penstock
