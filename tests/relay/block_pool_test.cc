#include "relay/block_pool.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace penstock {
namespace {

TEST(BlockPoolTest, CountsWhatIsOut) {
  BlockPool pool(1 << 20);
  Block* small = pool.TakeSmall();
  Block* big = pool.TakeBig();
  ASSERT_NE(small, nullptr);
  ASSERT_NE(big, nullptr);
  EXPECT_EQ(small->capacity, kSmallBlockBytes);
  EXPECT_EQ(big->capacity, kBigBlockBytes);
  EXPECT_EQ(pool.bytes_out(), kSmallBlockBytes + kBigBlockBytes);
  pool.Give(small);
  EXPECT_EQ(pool.bytes_out(), kBigBlockBytes);
  pool.Give(big);
  EXPECT_EQ(pool.bytes_out(), 0u);
}

TEST(BlockPoolTest, EveryByteOfABlockIsItsOwn) {
  BlockPool pool(1 << 20);
  std::vector<Block*> blocks{pool.TakeSmall(), pool.TakeBig(), pool.TakeSmall(), pool.TakeBig()};
  for (size_t i = 0; i < blocks.size(); ++i) {
    std::memset(blocks[i]->data, static_cast<int>(i), blocks[i]->capacity);
  }
  for (size_t i = 0; i < blocks.size(); ++i) {
    EXPECT_EQ(blocks[i]->data[0], i);
    EXPECT_EQ(blocks[i]->data[blocks[i]->capacity - 1], i);
    pool.Give(blocks[i]);
  }
}

TEST(BlockPoolTest, UsesBlocksAgainAsGoodAsNew) {
  BlockPool pool(1 << 20);
  Block* first = pool.TakeBig();
  first->length = 77;
  Block* small = pool.TakeSmall();
  first->next = small;
  pool.Give(first);
  Block* other = pool.TakeSmall();
  EXPECT_NE(other, first) << "sizes are kept apart";
  Block* again = pool.TakeBig();
  EXPECT_EQ(again, first);
  EXPECT_EQ(again->length, 0u);
  EXPECT_EQ(again->next, nullptr);
  for (Block* block : {small, other, again}) pool.Give(block);
}

TEST(BlockPoolTest, StopsAtItsLimitAndGoesOnBelow) {
  BlockPool pool(2 * kSmallBlockBytes);
  Block* first = pool.TakeSmall();
  Block* second = pool.TakeSmall();
  ASSERT_NE(second, nullptr) << "the limit itself is allowed";
  EXPECT_EQ(pool.TakeSmall(), nullptr);
  EXPECT_EQ(pool.TakeBig(), nullptr);
  pool.Give(first);
  Block* third = pool.TakeSmall();
  EXPECT_NE(third, nullptr);
  pool.Give(second);
  pool.Give(third);
}

TEST(BlockPoolTest, GoesBeyondItsLimitOnlyWhenAsked) {
  BlockPool pool(kSmallBlockBytes);
  Block* first = pool.TakeSmall();
  EXPECT_EQ(pool.TakeSmall(), nullptr);
  Block* beyond = pool.TakeBeyondLimit();
  ASSERT_NE(beyond, nullptr);
  EXPECT_EQ(beyond->capacity, kSmallBlockBytes);
  EXPECT_EQ(pool.bytes_out(), 2 * kSmallBlockBytes);
  pool.Give(first);
  EXPECT_EQ(pool.TakeSmall(), nullptr) << "still at the limit";
  pool.Give(beyond);
  EXPECT_EQ(pool.bytes_out(), 0u);
}

// Dynamic thresholds: a flow may have a quarter of what is free.
TEST(BlockPoolTest, ShrinksAFlowsShareAsItFills) {
  BlockPool pool(uint64_t{8} * kBigBlockBytes);
  EXPECT_EQ(pool.flow_limit_bytes(), 2 * kBigBlockBytes);
  std::vector<Block*> blocks;
  for (int i = 0; i < 4; ++i) blocks.push_back(pool.TakeBig());
  EXPECT_EQ(pool.flow_limit_bytes(), kBigBlockBytes);
  while (Block* big = pool.TakeBig()) blocks.push_back(big);
  EXPECT_EQ(pool.flow_limit_bytes(), 0u);
  EXPECT_FALSE(pool.HasRoom());
  blocks.push_back(pool.TakeBeyondLimit());
  EXPECT_EQ(pool.flow_limit_bytes(), 0u) << "beyond the limit";
  EXPECT_FALSE(pool.HasRoom());
  for (Block* block : blocks) pool.Give(block);
  EXPECT_EQ(pool.flow_limit_bytes(), 2 * kBigBlockBytes);
  EXPECT_TRUE(pool.HasRoom());
}

// A burst comes and goes; the leak checker watches what the pool did not keep.
TEST(BlockPoolTest, GivesABurstBack) {
  BlockPool pool(uint64_t{64} << 20);
  std::vector<Block*> blocks;
  for (int i = 0; i < 400; ++i) blocks.push_back(i % 2 == 0 ? pool.TakeSmall() : pool.TakeBig());
  for (Block* block : blocks) pool.Give(block);
  EXPECT_EQ(pool.bytes_out(), 0u);
}

}  // namespace
}  // namespace penstock
