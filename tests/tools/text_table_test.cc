#include "tools/penstock/text_table.h"

#include <gtest/gtest.h>

namespace penstock::tool {
namespace {

using namespace std::chrono_literals;

TEST(TextTable, AlignsColumns) {
  EXPECT_EQ(TextTable({{"A", "LONG", "N"}, {"aaa", "b", "10"}, {"c", "", "2000"}}, 2),
            "A    LONG     N\n"
            "aaa  b       10\n"
            "c          2000\n");
  EXPECT_EQ(TextTable({{"A", "B"}, {"c", ""}}, 2), "A  B\nc\n") << "no space at the end";
  EXPECT_EQ(TextTable({}, 0), "");
}

TEST(TextTable, TellsQuantities) {
  EXPECT_EQ(BytesText(0), "0 B");
  EXPECT_EQ(BytesText(1023), "1023 B");
  EXPECT_EQ(BytesText(1536), "1.5 KiB");
  EXPECT_EQ(BytesText(5e15), "4547.5 TiB");
  EXPECT_EQ(RateText(1000, 2s), "500 B/s");
  EXPECT_EQ(RateText(1000, 0s), "-");
  EXPECT_EQ(AgeText(0s), "0 ms");
  EXPECT_EQ(AgeText(999ms), "999 ms");
  EXPECT_EQ(AgeText(1234ms), "1.2 s");
  EXPECT_EQ(AgeText(60s), "1:00");
  EXPECT_EQ(AgeText(59min + 59s), "59:59");
  EXPECT_EQ(AgeText(27h + 5s), "27:00:05");
}

TEST(TextTable, ShowsNothingThatMovesACursor) {
  EXPECT_EQ(Printable("a\x1b[2Jb\n\x7f"), "a?[2Jb??");
}

}  // namespace
}  // namespace penstock::tool
