// The one's-complement sums: against a plain reference, at every length and alignment.
#include <gtest/gtest.h>

#include <random>

#include "stack/wire/emit.h"
#include "tests/support/packet_builder.h"

namespace penstock {
namespace {

TEST(ChecksumTest, ExampleOfRfc1071) {
  const Bytes bytes{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
  EXPECT_EQ(ChecksumFinish(ChecksumAdd(bytes, 0)), static_cast<uint16_t>(~0xddf2));
}

TEST(ChecksumTest, NothingIsZero) { EXPECT_EQ(ChecksumFinish(ChecksumAdd({}, 0)), 0xffff); }

TEST(ChecksumTest, AgreesWithTheSlowSumAtEveryLengthAndAlignment) {
  std::mt19937 random(1);
  Bytes bytes(300);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  for (size_t begin = 0; begin < 9; ++begin) {
    for (size_t length = 0; begin + length <= bytes.size(); ++length) {
      const auto part = std::span(bytes).subspan(begin, length);
      ASSERT_EQ(ChecksumFinish(ChecksumAdd(part, 0)), static_cast<uint16_t>(~SlowSum(part)))
          << begin << "+" << length;
    }
  }
}

TEST(ChecksumTest, CarriesAreNotLostInTheLongestPacket) {
  const Bytes ones(65'535, 0xff);
  EXPECT_EQ(ChecksumFinish(ChecksumAdd(ones, 0)), static_cast<uint16_t>(~SlowSum(ones)));
  const uint64_t full = ~uint64_t{0};
  EXPECT_EQ(ChecksumFinish(ChecksumAdd({}, full)), 0);
  EXPECT_EQ(ChecksumFinish(ChecksumAdd(Bytes{0, 1}, full)), 0xfffe);
}

TEST(ChecksumTest, PartsAddUp) {
  Bytes bytes(101);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 37);
  const uint16_t whole = ChecksumFinish(ChecksumAdd(bytes, 0));
  for (size_t cut = 0; cut <= bytes.size(); cut += 2) {
    const auto all = std::span(bytes);
    EXPECT_EQ(ChecksumFinish(ChecksumAdd(all.subspan(cut), ChecksumAdd(all.first(cut), 0))), whole);
  }
}

TEST(ChecksumTest, PseudoHeaderOfBothFamilies) {
  const Bytes v4{10, 0, 2, 15, 192, 0, 2, 80, 0, 6, 0x12, 0x34};
  EXPECT_EQ(PseudoHeaderSum(kGuest4, kPeer4, 6, 0x1234), SlowSum(v4));
  Bytes v6(kGuest6.wire().begin(), kGuest6.wire().end());
  v6 = Concat(v6, kPeer6.wire());
  v6 = Concat(v6, Bytes{0, 1, 0x12, 0x34, 0, 0, 0, 6});
  EXPECT_EQ(PseudoHeaderSum(kGuest6, kPeer6, 6, 0x11234), SlowSum(v6));
}

}  // namespace
}  // namespace penstock
