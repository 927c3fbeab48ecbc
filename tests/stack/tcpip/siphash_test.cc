#include "stack/tcpip/siphash.h"

#include <gtest/gtest.h>

#include <array>
#include <set>

namespace penstock {
namespace {

// The key of the reference vectors: bytes 00 to 0f, read in little-endian order.
constexpr SipKey kReferenceKey = {0x0706050403020100, 0x0f0e0d0c0b0a0908};

// Bytes 00, 01, … as the reference vectors have them.
uint64_t HashOfFirst(size_t count, const SipKey& key = kReferenceKey) {
  std::array<uint8_t, 64> bytes;
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i);
  return SipHash(key, std::span(bytes).first(count));
}

// Appendix A of the paper, and vectors of the reference implementation around the
// length of a word.
TEST(SipHashTest, MatchesTheReference) {
  EXPECT_EQ(HashOfFirst(15), 0xa129ca6149be45e5u);
  EXPECT_EQ(HashOfFirst(0), 0x726fdb47dd0e0e31u);
  EXPECT_EQ(HashOfFirst(1), 0x74f839c593dc67fdu);
  EXPECT_EQ(HashOfFirst(7), 0xab0200f58b01d137u);
  EXPECT_EQ(HashOfFirst(8), 0x93f5f5799a932462u);
  EXPECT_EQ(HashOfFirst(63), 0x958a324ceb064572u);
}

TEST(SipHashTest, DependsOnKeyLengthAndEveryByte) {
  std::set<uint64_t> seen;
  for (size_t count = 0; count <= 64; ++count) seen.insert(HashOfFirst(count));
  EXPECT_EQ(seen.size(), 65u);
  EXPECT_NE(HashOfFirst(15, {kReferenceKey[0] ^ 1, kReferenceKey[1]}), HashOfFirst(15));
  EXPECT_NE(HashOfFirst(15, {kReferenceKey[0], kReferenceKey[1] ^ 1}), HashOfFirst(15));
  std::array<uint8_t, 36> tuple{};
  seen = {SipHash(kReferenceKey, tuple)};
  for (uint8_t& byte : tuple) {
    byte = 1;
    EXPECT_TRUE(seen.insert(SipHash(kReferenceKey, tuple)).second);
    byte = 0;
  }
}

TEST(SipHashTest, RandomKeysDiffer) {
  std::set<SipKey> keys;
  for (int i = 0; i < 100; ++i) keys.insert(RandomSipKey());
  EXPECT_EQ(keys.size(), 100u);
}

}  // namespace
}  // namespace penstock
