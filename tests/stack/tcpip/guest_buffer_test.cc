#include "stack/tcpip/guest_buffer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace penstock {
namespace {

TEST(GuestBufferPoolTest, GivesTheSmallestSizeThatFits) {
  struct {
    size_t bytes;
    uint32_t capacity;
  } const cases[] = {{0, 2'048},
                     {1, 2'048},
                     {2'048, 2'048},
                     {2'049, 16'384},
                     {16'384, 16'384},
                     {16'385, kFrameBytesMax},
                     {kFrameBytesMax, kFrameBytesMax}};
  GuestBufferPool pool(1 << 20);
  for (const auto& [bytes, capacity] : cases) {
    GuestBuffer* buffer = pool.Take(bytes);
    ASSERT_NE(buffer, nullptr) << bytes;
    EXPECT_EQ(buffer->room().size(), capacity) << bytes;
    EXPECT_EQ(buffer->pool, &pool);
    EXPECT_EQ(pool.bytes_out(), capacity);
    pool.Give(buffer);
    EXPECT_EQ(pool.bytes_out(), 0u);
  }
}

TEST(GuestBufferPoolTest, EveryByteOfABufferIsItsOwn) {
  GuestBufferPool pool(1 << 20);
  std::vector<GuestBuffer*> buffers;
  for (const size_t bytes : {size_t{100}, size_t{10'000}, kFrameBytesMax, size_t{100}}) {
    buffers.push_back(pool.Take(bytes));
    const auto room = buffers.back()->room();
    std::memset(room.data(), static_cast<int>(buffers.size()), room.size());
  }
  for (size_t i = 0; i < buffers.size(); ++i) {
    EXPECT_EQ(buffers[i]->room().front(), i + 1);
    EXPECT_EQ(buffers[i]->room().back(), i + 1);
    EXPECT_EQ(buffers[i]->pool, &pool);
    pool.Give(buffers[i]);
  }
}

TEST(GuestBufferPoolTest, UsesBuffersAgainAsGoodAsNew) {
  GuestBufferPool pool(1 << 20);
  GuestBuffer* first = pool.Take(2'048);
  first->is_slot = true;
  first->chunk = {.data = first->data, .length = 5, .next = &first->chunk};
  pool.Give(first);
  GuestBuffer* again = pool.Take(1);
  EXPECT_EQ(again, first);
  EXPECT_FALSE(again->is_slot);
  EXPECT_EQ(again->chunk.next, nullptr);
  EXPECT_EQ(again->chunk.length, 0u);
  pool.Give(again);
}

TEST(GuestBufferPoolTest, StopsAtItsLimit) {
  GuestBufferPool pool(2 * 2'048);
  GuestBuffer* first = pool.Take(1);
  GuestBuffer* second = pool.Take(1);
  ASSERT_NE(second, nullptr) << "the limit itself is allowed";
  EXPECT_EQ(pool.Take(1), nullptr);
  EXPECT_FALSE(pool.Reserve(1));
  pool.Give(first);
  EXPECT_TRUE(pool.Reserve(2'048));
  EXPECT_FALSE(pool.Reserve(2'049));
  EXPECT_EQ(pool.Take(2'049), nullptr) << "a larger one does not fit";
  first = pool.Take(1);
  EXPECT_NE(first, nullptr);
  pool.Give(first);
  pool.Give(second);
}

TEST(GuestBufferPoolTest, WhatIsReservedIsThere) {
  GuestBufferPool pool(kFrameBytesMax);
  EXPECT_TRUE(pool.Reserve(kFrameBytesMax));
  EXPECT_TRUE(pool.Reserve(kFrameBytesMax)) << "the same one";
  EXPECT_EQ(pool.bytes_out(), 0u);
  GuestBuffer* buffer = pool.TakeReserved(kFrameBytesMax);
  ASSERT_NE(buffer, nullptr);
  EXPECT_EQ(pool.bytes_out(), kFrameBytesMax);
  EXPECT_FALSE(pool.Reserve(1)) << "at the limit";
  pool.Give(buffer);
}

// More than the pool keeps of each size; the leak checker watches the rest.
TEST(GuestBufferPoolTest, GivesABurstBack) {
  GuestBufferPool pool(uint64_t{64} << 20);
  std::vector<GuestBuffer*> buffers;
  for (int i = 0; i < 300; ++i) {
    buffers.push_back(pool.Take(1));
    buffers.push_back(pool.Take(10'000));
    buffers.push_back(pool.Take(kFrameBytesMax));
  }
  for (GuestBuffer* buffer : buffers) {
    ASSERT_NE(buffer, nullptr);
    pool.Give(buffer);
  }
  EXPECT_EQ(pool.bytes_out(), 0u);
}

TEST(GuestBufferPoolDeathTest, MustNotGoBeforeItsBuffers) {
  const auto lose_one = [] {
    GuestBufferPool pool(1 << 20);
    (void)pool.Take(1);
  };
  EXPECT_DEATH(lose_one(), "bytes_out_");
}

}  // namespace
}  // namespace penstock
