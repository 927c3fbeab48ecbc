#include "stack/flow/deadlines.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

namespace penstock {
namespace {

struct Item {
  Time deadline = kNever;
  uint32_t deadline_slot = kNoDeadlineSlot;
};

Time At(int64_t milliseconds) { return Time{} + std::chrono::milliseconds(milliseconds); }

class DeadlinesTest : public testing::Test {
 protected:
  void Set(Item& item, Time deadline) {
    item.deadline = deadline;
    deadlines_.Schedule(item);
  }
  Deadlines<Item> deadlines_;
};

TEST_F(DeadlinesTest, NothingIsDueAtFirst) {
  EXPECT_EQ(deadlines_.next(), kNever);
  EXPECT_EQ(deadlines_.TakeDue(At(1'000'000)), nullptr);
  Item item;
  deadlines_.Schedule(item);
  EXPECT_EQ(deadlines_.next(), kNever);
}

TEST_F(DeadlinesTest, TakesWhatIsDueAndNothingElse) {
  Item early, late;
  Set(late, At(20));
  Set(early, At(10));
  EXPECT_EQ(deadlines_.next(), At(10));
  EXPECT_EQ(deadlines_.TakeDue(At(9)), nullptr);
  EXPECT_EQ(deadlines_.TakeDue(At(10)), &early);
  EXPECT_EQ(deadlines_.TakeDue(At(10)), nullptr) << "taken once";
  EXPECT_EQ(deadlines_.next(), At(20));
  EXPECT_EQ(deadlines_.TakeDue(At(30)), &late);
  EXPECT_EQ(deadlines_.next(), kNever);
}

TEST_F(DeadlinesTest, AnItemThatWasTakenMayComeAgain) {
  Item item;
  for (int i = 1; i < 10; ++i) {
    Set(item, At(i));
    ASSERT_EQ(deadlines_.TakeDue(At(i)), &item);
  }
  EXPECT_EQ(deadlines_.size(), 0u);
}

// Traffic moves a deadline later without a word to the heap.
TEST_F(DeadlinesTest, MovingLaterIsNotSeenEarly) {
  Item item;
  Set(item, At(10));
  item.deadline = At(50);
  EXPECT_EQ(deadlines_.TakeDue(At(40)), nullptr);
  EXPECT_EQ(deadlines_.next(), At(50)) << "an idle stack is not woken for the old one";
  EXPECT_EQ(deadlines_.TakeDue(At(50)), &item);
}

TEST_F(DeadlinesTest, MovingEarlierCountsAtOnce) {
  Item item, other;
  Set(item, At(50));
  Set(other, At(30));
  Set(item, At(10));
  EXPECT_EQ(deadlines_.next(), At(10));
  EXPECT_EQ(deadlines_.TakeDue(At(10)), &item);
  EXPECT_EQ(deadlines_.TakeDue(At(29)), nullptr);
}

TEST_F(DeadlinesTest, AClearedDeadlineNeverComes) {
  Item item;
  Set(item, At(10));
  item.deadline = kNever;
  EXPECT_EQ(deadlines_.next(), kNever);
  EXPECT_EQ(deadlines_.TakeDue(At(100)), nullptr);
  Set(item, At(20));
  EXPECT_EQ(deadlines_.next(), At(20));
}

TEST_F(DeadlinesTest, HoldsOneEntryForEachItem) {
  std::vector<Item> items(10);
  for (int64_t round = 1'000; round > 0; --round) {
    for (Item& item : items) Set(item, At(round % 7 == 0 ? 2 * round : round));
  }
  EXPECT_EQ(deadlines_.size(), items.size());
}

// Against the obvious implementation.
TEST_F(DeadlinesTest, BehavesAsASortedListWould) {
  std::mt19937 random(1);
  std::vector<Item> items(60);
  int64_t now = 0;
  size_t taken = 0;
  const auto first = [&] {
    return std::min_element(items.begin(), items.end(),
                            [](const Item& a, const Item& b) { return a.deadline < b.deadline; })
        ->deadline;
  };
  for (int step = 0; step < 50'000; ++step) {
    Item& item = items[random() % items.size()];
    switch (random() % 8) {
      case 0:
        item.deadline = kNever;
        break;
      case 1:
      case 2:
        Set(item, At(now + 1 + random() % 100));
        break;
      case 3:
      case 4:
        // Later, in silence; an item without a deadline would have to say so.
        if (item.deadline != kNever) item.deadline += std::chrono::milliseconds(random() % 100);
        break;
      case 5:
        ASSERT_EQ(deadlines_.next(), first());
        break;
      default: {
        now += random() % 5;
        std::multiset<Item*> expected, got;
        for (Item& each : items) {
          if (each.deadline <= At(now)) expected.insert(&each);
        }
        while (Item* due = deadlines_.TakeDue(At(now))) {
          got.insert(due);
          due->deadline = kNever;
        }
        ASSERT_EQ(got, expected);
        taken += got.size();
      }
    }
    ASSERT_LE(deadlines_.size(), items.size());
  }
  EXPECT_GT(taken, 1'000u);
}

}  // namespace
}  // namespace penstock
