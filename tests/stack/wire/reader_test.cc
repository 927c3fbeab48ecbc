#include "stack/wire/reader.h"

#include <gtest/gtest.h>

#include "stack/wire/writer.h"
#include "tests/support/packet_builder.h"

namespace penstock {
namespace {

TEST(HeaderTest, ReadsNetworkOrder) {
  const Bytes bytes{1, 2, 3, 4, 5};
  const auto header = Header<4>::At(bytes, 1);
  ASSERT_TRUE(header.has_value());
  EXPECT_EQ(header->U8<0>(), 2);
  EXPECT_EQ(header->U16<1>(), 0x0304);
  EXPECT_EQ(header->U32<0>(), 0x02030405u);
  EXPECT_EQ(header->Ipv4<0>(), IpAddress::V4(2, 3, 4, 5));
}

TEST(HeaderTest, IsThereOnlyWhereAllBytesAre) {
  const Bytes bytes(8);
  EXPECT_TRUE(Header<8>::At(bytes).has_value());
  EXPECT_FALSE(Header<9>::At(bytes).has_value());
  EXPECT_FALSE(Header<8>::At(bytes, 1).has_value());
  EXPECT_TRUE(Header<1>::At(bytes, 7).has_value());
  EXPECT_FALSE(Header<1>::At(bytes, 8).has_value());
  EXPECT_FALSE(Header<1>::At(bytes, SIZE_MAX).has_value());
}

// The kinds of all options that a walk finds, and whether it ended well.
struct Walked {
  Bytes kinds;
  bool malformed = false;
};

Walked WalkAll(Bytes options) {
  OptionWalk walk(options);
  Walked walked;
  while (const auto option = walk.Next()) walked.kinds.push_back((*option)[0]);
  walked.malformed = walk.malformed();
  return walked;
}

TEST(OptionWalkTest, SkipsPaddingAndStopsAtTheEnd) {
  const Walked walked = WalkAll({1, 1, 2, 4, 0, 0, 1, 4, 2, 0, 9, 9});
  EXPECT_EQ(walked.kinds, (Bytes{2, 4}));
  EXPECT_FALSE(walked.malformed);
}

TEST(OptionWalkTest, RefusesLengthsThatDoNotFit) {
  const Bytes malformed[] = {
      {2}, {2, 0}, {2, 1}, {2, 5, 0, 0}, {1, 1, 3}, {2, 255, 0, 0}, {4, 2, 8, 10, 0, 0}};
  for (const Bytes& options : malformed) {
    EXPECT_TRUE(WalkAll(options).malformed) << options.size();
  }
  EXPECT_FALSE(WalkAll({}).malformed);
  EXPECT_FALSE(WalkAll({1, 1, 1}).malformed);
}

TEST(WriterTest, WritesNetworkOrder) {
  Bytes out(8);
  Writer writer(out);
  writer.U8(1);
  writer.U16(0x0203);
  writer.U32(0x04050607);
  EXPECT_EQ(writer.length(), 7u);
  EXPECT_EQ(out, (Bytes{1, 2, 3, 4, 5, 6, 7, 0}));
}

TEST(WriterTest, NeverWritesBehindTheEnd) {
  Bytes out(3, 9);
  Writer writer(out);
  writer.U16(0);
  writer.U16(0);
  writer.U8(0);  // would fit, but the packet is already broken
  EXPECT_EQ(writer.length(), 0u);
  EXPECT_EQ(out, (Bytes{0, 0, 9}));
}

}  // namespace
}  // namespace penstock
