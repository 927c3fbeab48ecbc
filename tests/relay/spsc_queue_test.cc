#include "relay/spsc_queue.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace penstock {
namespace {

TEST(SpscRingTest, KeepsOrderAndRefusesWhenFull) {
  SpscRing<int> ring(4);
  EXPECT_TRUE(ring.empty());
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(ring.Push(i));
  EXPECT_FALSE(ring.Push(99));
  int value = -1;
  ASSERT_TRUE(ring.Pop(value));
  EXPECT_EQ(value, 0);
  EXPECT_TRUE(ring.Push(4));
  for (int expected = 1; expected <= 4; ++expected) {
    ASSERT_TRUE(ring.Pop(value));
    EXPECT_EQ(value, expected);
  }
  EXPECT_FALSE(ring.Pop(value));
  EXPECT_EQ(value, 4) << "a failed Pop leaves its argument alone";
  EXPECT_TRUE(ring.empty());
}

TEST(SpscRingTest, WrapsAroundManyTimes) {
  SpscRing<uint32_t> ring(8);
  uint32_t value = 0;
  for (uint32_t i = 0; i < 1'000; ++i) {
    ASSERT_TRUE(ring.Push(2 * i));
    ASSERT_TRUE(ring.Push(2 * i + 1));
    ASSERT_TRUE(ring.Pop(value));
    ASSERT_EQ(value, 2 * i);
    ASSERT_TRUE(ring.Pop(value));
    ASSERT_EQ(value, 2 * i + 1);
  }
}

TEST(SpscRingTest, HoldsAtLeastWhatWasAsked) {
  for (uint32_t wanted : {0u, 1u, 2u, 3u, 5u, 64u, 65u}) {
    SpscRing<uint32_t> ring(wanted);
    EXPECT_TRUE(ring.empty());
    for (uint32_t i = 0; i < wanted; ++i) ASSERT_TRUE(ring.Push(i)) << wanted;
    uint32_t pushed = wanted;
    while (ring.Push(pushed)) ++pushed;
    EXPECT_LT(pushed, 2 * wanted + 3) << "the ring is bounded";
    uint32_t value = 0;
    for (uint32_t i = 0; i < pushed; ++i) {
      ASSERT_TRUE(ring.Pop(value));
      ASSERT_EQ(value, i);
    }
    EXPECT_FALSE(ring.Pop(value));
  }
}

// Plain memory that goes with each element: the thread sanitizer sees whether the queue
// orders it.
struct Parcel {
  uint64_t number = 0;
  uint64_t* payload = nullptr;
};

template <typename Queue>
void PassManyBetweenThreads(Queue& queue) {
  constexpr uint64_t kCount = 200'000;
  std::vector<uint64_t> payloads(kCount);
  std::thread producer([&] {
    for (uint64_t i = 0; i < kCount; ++i) {
      payloads[i] = ~i;
      while (!queue.Push({.number = i, .payload = &payloads[i]})) std::this_thread::yield();
    }
  });
  Parcel parcel;
  for (uint64_t i = 0; i < kCount; ++i) {
    while (!queue.Pop(parcel)) std::this_thread::yield();
    ASSERT_EQ(parcel.number, i);
    ASSERT_EQ(*parcel.payload, ~i);
  }
  producer.join();
  EXPECT_TRUE(queue.empty());
}

TEST(SpscRingTest, TwoThreadsLoseAndReorderNothing) {
  SpscRing<Parcel> ring(100);
  PassManyBetweenThreads(ring);
}

struct Item {
  Item* next = nullptr;
  uint32_t value = 0;
};

TEST(ReturnListTest, GivesEverythingAtOnce) {
  ReturnList<Item> list;
  EXPECT_EQ(list.TakeAll(), nullptr);
  Item items[3];
  for (Item& item : items) list.Push(&item);
  EXPECT_FALSE(list.empty());
  size_t count = 0;
  for (Item* item = list.TakeAll(); item != nullptr; item = item->next) ++count;
  EXPECT_EQ(count, 3u);
  EXPECT_TRUE(list.empty());
  EXPECT_EQ(list.TakeAll(), nullptr);
}

TEST(ReturnListTest, AChainPushedInOrderIsTakenInOrder) {
  ReturnList<Item> list;
  std::vector<Item> items(7);
  for (uint32_t i = 0; i < items.size(); ++i) items[i].value = i;
  list.Push(&items[0]);
  items[1].next = &items[2];
  items[2].next = &items[3];
  list.PushInOrder(&items[1]);
  list.PushInOrder(&items[4]);
  items[5].next = &items[6];
  list.PushInOrder(&items[5]);
  uint32_t expected = 0;
  for (Item* item = list.TakeInOrder(); item != nullptr; item = item->next) {
    EXPECT_EQ(item->value, expected++);
  }
  EXPECT_EQ(expected, items.size());
}

// Items go round between two threads: given back, taken, sent again.
TEST(ReturnListTest, TwoThreadsLoseNothing) {
  constexpr uint32_t kItems = 16, kRounds = 200'000;
  SpscRing<Item*> forward(kItems);
  ReturnList<Item> back;
  std::thread worker([&] {
    Item* item;
    for (uint32_t i = 0; i < kRounds; ++i) {
      while (!forward.Pop(item)) std::this_thread::yield();
      ++item->value;
      back.Push(item);
    }
  });
  std::vector<Item> items(kItems);
  std::vector<Item*> idle;
  for (Item& item : items) idle.push_back(&item);
  for (uint32_t sent = 0; sent < kRounds;) {
    for (Item* item = back.TakeAll(); item != nullptr;) {
      Item* next = item->next;
      idle.push_back(item);
      item = next;
    }
    if (idle.empty()) std::this_thread::yield();
    for (; !idle.empty() && sent < kRounds; ++sent) {
      ASSERT_TRUE(forward.Push(idle.back()));
      idle.pop_back();
    }
  }
  worker.join();
  uint64_t total = 0;
  for (const Item& item : items) total += item.value;
  EXPECT_EQ(total, kRounds);
}

}  // namespace
}  // namespace penstock
