// Buffers for datagrams: right-sized, bounded for each pipe and for all together.
#include "relay/datagram_pool.h"

#include <gtest/gtest.h>

#include <vector>

namespace penstock {
namespace {

constexpr uint32_t kLargest = kDatagramBytesMax;

// Takes until the pool refuses; the list by `next`.
Datagram* TakeAll(DatagramPool& pool, uint32_t length, uint64_t& pipe_bytes, size_t* count) {
  Datagram* all = nullptr;
  for (*count = 0; Datagram* datagram = pool.Take(length, pipe_bytes); ++*count) {
    datagram->next = all;
    all = datagram;
  }
  return all;
}

TEST(DatagramPoolTest, DatagramsHaveRoomForTheirLengthAndNotMuchMore) {
  DatagramPool pool;
  for (const uint32_t length :
       {0u, 1u, 512u, 513u, 1'472u, 2'048u, 2'049u, 9'000u, 60'000u, 65'507u, 65'527u, kLargest}) {
    uint64_t bytes = 0;
    Datagram* datagram = pool.Take(length, bytes);
    ASSERT_NE(datagram, nullptr) << length;
    EXPECT_EQ(datagram->length, length);
    EXPECT_GE(datagram->capacity, length);
    EXPECT_LE(datagram->capacity, std::max(512u, length * 8));
    EXPECT_EQ(bytes, DatagramPool::Cost(*datagram));
    // All of it is ours, and so is the room in front.
    std::fill(datagram->data - kDatagramHeadroomBytes, datagram->data + datagram->capacity, 0xab);
    pool.Give(datagram, bytes);
    EXPECT_EQ(bytes, 0u);
    EXPECT_EQ(pool.bytes_out(), 0u);
  }
}

TEST(DatagramPoolTest, OnePipeHasItsLimit) {
  DatagramPool pool;
  for (const uint32_t length : {1u, 1'400u, kLargest}) {
    uint64_t bytes = 0;
    size_t count = 0;
    Datagram* all = TakeAll(pool, length, bytes, &count);
    EXPECT_GE(count, 30u) << length;
    EXPECT_LE(bytes, DatagramPool::kPipeBytesMax);
    EXPECT_GT(bytes + DatagramPool::Cost(*all), DatagramPool::kPipeBytesMax);
    uint64_t other_bytes = 0;
    Datagram* other = pool.Take(length, other_bytes);
    ASSERT_NE(other, nullptr) << "another pipe has its own";
    pool.Give(other, other_bytes);
    pool.GiveAll(all, bytes);
    EXPECT_EQ(bytes, 0u);
  }
  EXPECT_EQ(pool.bytes_out(), 0u);
}

TEST(DatagramPoolTest, PipesThatKeepEverythingLeaveRoomForTheOthers) {
  DatagramPool pool;
  std::vector<uint64_t> bytes(30);
  std::vector<Datagram*> held;
  for (uint64_t& pipe_bytes : bytes) {
    size_t count = 0;
    held.push_back(TakeAll(pool, 1'000, pipe_bytes, &count));
    ASSERT_GE(count, 1u) << "pipe " << held.size();
  }
  EXPECT_LE(pool.bytes_out(), DatagramPool::kPoolBytesMax);
  for (size_t i = 0; i < held.size(); ++i) pool.GiveAll(held[i], bytes[i]);
  EXPECT_EQ(pool.bytes_out(), 0u);
}

TEST(DatagramPoolTest, WhatIsGivenBackIsUsedAgain) {
  DatagramPool pool;
  uint64_t bytes = 0;
  Datagram* first = pool.Take(100, bytes);
  pool.Give(first, bytes);
  Datagram* second = pool.Take(200, bytes);
  EXPECT_EQ(first, second);
  EXPECT_EQ(second->length, 200u);
  pool.GiveAll(second);  // of a pipe that is gone
  EXPECT_EQ(pool.bytes_out(), 0u);
}

}  // namespace
}  // namespace penstock
