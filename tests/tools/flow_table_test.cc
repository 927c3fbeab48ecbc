#include "tools/penstock/flow_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace penstock::tool {
namespace {

using nlohmann::json;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

json Row(const char* peer, uint64_t age_us, uint64_t to_host, uint64_t to_guest) {
  return {{"direction", "egress"},      {"protocol", "tcp"},
          {"guest", "10.0.2.15:40000"}, {"peer", peer},
          {"state", "established"},     {"age_us", age_us},
          {"bytes_to_host", to_host},   {"bytes_to_guest", to_guest}};
}

TEST(FlowTable, HasALineForEachFlow) {
  json ingress = Row("127.0.0.1:5000", 90'000'000, 0, 0);
  ingress["direction"] = "ingress";
  json named = Row("198.18.0.1:443", 10'000'000, 1'024, 10'240);
  named["name"] = "example.test";
  named["end"] = "reset by guest";
  const std::string text = FlowTable().Show(json::array({named, ingress}));
  EXPECT_THAT(text, ContainsRegex("^PROTOCOL +FROM +TO +STATE +AGE +TO HOST +RATE +TO GUEST +RATE"
                                  "\n"));
  EXPECT_THAT(text,
              ContainsRegex("\ntcp +10.0.2.15:40000 +198.18.0.1:443 example.test +reset by guest +"
                            "10.0 s +1.0 KiB +102 B/s +10.0 KiB +1.0 KiB/s\n"));
  EXPECT_THAT(text, ContainsRegex("\ntcp +127.0.0.1:5000 +10.0.2.15:40000 +established +1:30 "));
  EXPECT_EQ(FlowTable().Show(json::array()), "no flows\n");
}

TEST(FlowTable, RatesAreThoseSinceTheLookBefore) {
  FlowTable table;
  EXPECT_THAT(table.Show(json::array({Row("198.18.0.1:80", 10'000'000, 1'000, 0)})),
              HasSubstr(" 100 B/s "));
  EXPECT_THAT(table.Show(json::array({Row("198.18.0.1:80", 11'000'000, 1'500, 7)})),
              ContainsRegex(" 500 B/s +7 B +7 B/s\n"));
  // A younger one with the same ends is another one.
  EXPECT_THAT(table.Show(json::array({Row("198.18.0.1:80", 2'000'000, 80, 0)})),
              HasSubstr(" 40 B/s "));
  EXPECT_THAT(table.Show(json::array({Row("198.18.0.1:80", 2'000'000, 80, 0)})),
              HasSubstr(" 40 B/s "))
      << "no time has passed";
}

TEST(FlowTable, TakesWhateverComes) {
  FlowTable table;
  EXPECT_EQ(table.Show(nullptr), "no flows\n");
  EXPECT_EQ(table.Show(json::array({1, "x"})), "no flows\n");
  EXPECT_THAT(table.Show(json::array({json::object()})), HasSubstr("0 B"));
  json odd = Row("\x1b[2J", 1, 1, 1);
  EXPECT_THAT(table.Show(json::array({odd})), Not(HasSubstr("\x1b")));
}

}  // namespace
}  // namespace penstock::tool
