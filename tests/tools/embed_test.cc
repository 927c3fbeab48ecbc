// The embedding example works, and the README quotes it and the miniature runtime as they are.
#include <gtest/gtest.h>

#include <string>

#include "tests/support/places.h"
#include "tests/tools/program.h"

namespace penstock::tool {
namespace {

// What stands between the first `open` and the `close` behind it.
std::string Between(const std::string& text, const std::string& open, const std::string& close) {
  const size_t begin = text.find(open);
  EXPECT_NE(begin, std::string::npos) << open;
  if (begin == std::string::npos) return "";
  const size_t end = text.find(close, begin + open.size());
  EXPECT_NE(end, std::string::npos) << close;
  return text.substr(begin + open.size(), end - begin - open.size());
}

TEST(EmbedTest, GetsAnAnswerFromTheGatewayAndEnds) {
  const Outcome outcome = RunProgram({"embed"});
  EXPECT_EQ(outcome.status, 0);
  EXPECT_EQ(outcome.errors, "");
  EXPECT_EQ(outcome.output,
            "10.0.2.2 is at 52:55:0a:00:02:02\n"
            "frames from the guest: 1, to the guest: 1, dropped: 0\n");
}

// The part of an example between two markers, and the README's block of the same name.
void ExpectQuoted(const std::string& example, const std::string& marker) {
  const std::string source = ReadFile(SourcePath("tools/examples/" + example));
  const std::string region = Between(source, "// [" + marker + "]\n", "// [/" + marker + "]");
  EXPECT_GT(region.size(), 100u);
  const std::string quote = Between(ReadFile(SourcePath("README.md")), "<!-- " + marker + " -->\n",
                                    "<!-- /" + marker + " -->");
  EXPECT_EQ(quote, "```cpp\n" + region + "```\n")
      << "copy the part between the markers of tools/examples/" << example << " into README.md";
}

TEST(EmbedTest, TheReadmeQuotesItAsItIs) {
  ExpectQuoted("embed.cc", "embed");
  ExpectQuoted("mini_runtime.cc", "loop");
}

}  // namespace
}  // namespace penstock::tool
