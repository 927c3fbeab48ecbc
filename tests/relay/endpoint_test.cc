#include "relay/endpoint.h"

#include <gtest/gtest.h>

#include <array>

namespace penstock {
namespace {

TEST(IpAddressTest, ParsesAndPrintsBothFamilies) {
  for (const char* text : {"10.0.2.2", "0.0.0.0", "255.255.255.255", "fd00::2", "::", "::1",
                           "2001:db8:1:2:3:4:5:6", "::ffff:10.0.2.2"}) {
    const auto address = IpAddress::Parse(text);
    ASSERT_TRUE(address.has_value()) << text;
    EXPECT_EQ(address->ToString(), text);
  }
  EXPECT_EQ(IpAddress::Parse("10.0.2.2"), IpAddress::V4(10, 0, 2, 2));
  EXPECT_TRUE(IpAddress::Parse("fd00::2")->is_v6());
}

TEST(IpAddressTest, RefusesWhatIsNotOneAddress) {
  using std::string_view_literals::operator""sv;
  for (const std::string_view text :
       {""sv, "10.0.2"sv, "10.0.2.256"sv, "10.0.2.2 "sv, " 10.0.2.2"sv, "10.0.2.2:80"sv,
        "[fd00::2]"sv, "fd00::2%eth0"sv, "fd00:::2"sv, "fd00::2/64"sv, "localhost"sv,
        "10.0.2.2\0"sv, "0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000"sv}) {
    EXPECT_FALSE(IpAddress::Parse(text).has_value()) << text;
  }
}

TEST(IpAddressTest, ReadsAViewThatIsNotTerminated) {
  const std::string_view text = "10.0.2.25";
  EXPECT_EQ(IpAddress::Parse(text.substr(0, 8)), IpAddress::V4(10, 0, 2, 2));
}

TEST(IpAddressTest, FromTakesTheBytesOfTheWire) {
  const std::array<uint8_t, 4> v4{10, 0, 2, 2};
  EXPECT_EQ(IpAddress::From(v4), IpAddress::V4(10, 0, 2, 2));
  const IpAddress v6 = *IpAddress::Parse("fd00::2");
  EXPECT_EQ(IpAddress::From(v6.wire()), v6);
  EXPECT_EQ(v6.wire().size(), 16u);
}

TEST(IpAddressDeathTest, FromRefusesOtherLengths) {
  const std::array<uint8_t, 5> bytes{};
  EXPECT_DEATH((void)IpAddress::From(bytes), "network_order.size");
}

TEST(IpAddressTest, UnmapsOnlyMappedAddresses) {
  EXPECT_EQ(IpAddress::Parse("::ffff:127.0.0.1")->Unmapped(), IpAddress::V4(127, 0, 0, 1));
  for (const char* text : {"::127.0.0.1", "::fffe:127.0.0.1", "::ffff:0:127.0.0.1", "fd00::2"}) {
    EXPECT_TRUE(IpAddress::Parse(text)->Unmapped().is_v6()) << text;
  }
  EXPECT_EQ(IpAddress::V4(10, 0, 2, 2).Unmapped(), IpAddress::V4(10, 0, 2, 2));
}

TEST(IpAddressTest, FamiliesWithTheSameBytesDiffer) {
  IpAddress v6 = IpAddress::V4(10, 0, 2, 2);
  v6.family = Family::kIpv6;
  EXPECT_NE(v6, IpAddress::V4(10, 0, 2, 2));
}

struct PrefixCase {
  const char* address;
  const char* prefix;
  int length;
  bool inside;
};

TEST(InPrefixTest, ComparesExactlyTheBitsOfThePrefix) {
  const PrefixCase cases[] = {
      {"10.0.2.15", "10.0.2.0", 24, true},   {"10.0.3.15", "10.0.2.0", 24, false},
      {"10.0.3.15", "10.0.2.0", 23, true},   {"10.0.4.0", "10.0.2.0", 23, false},
      {"10.0.2.2", "10.0.2.2", 32, true},    {"10.0.2.3", "10.0.2.2", 32, false},
      {"10.0.2.3", "10.0.2.2", 31, true},    {"192.0.2.1", "10.0.2.2", 0, true},
      {"127.0.0.1", "128.0.0.1", 1, false},  {"fd00::15", "fd00::", 64, true},
      {"fd00:0:0:1::", "fd00::", 64, false}, {"fd00:0:0:1::", "fd00::", 63, true},
      {"fd00::3", "fd00::2", 128, false},    {"fd00::3", "fd00::2", 127, true},
      {"10.0.2.15", "fd00::", 0, false},     {"10.0.2.15", "10.0.2.15", 33, false},
      {"fd00::2", "fd00::2", 129, false},    {"10.0.2.15", "10.0.2.15", -1, false},
  };
  for (const PrefixCase& c : cases) {
    EXPECT_EQ(InPrefix(*IpAddress::Parse(c.address), *IpAddress::Parse(c.prefix), c.length),
              c.inside)
        << c.address << " in " << c.prefix << "/" << c.length;
  }
}

TEST(EndpointTest, PrintsBracketsForIpv6Only) {
  EXPECT_EQ((Endpoint{IpAddress::V4(10, 0, 2, 2), 80}).ToString(), "10.0.2.2:80");
  EXPECT_EQ((Endpoint{*IpAddress::Parse("fd00::2"), 65535}).ToString(), "[fd00::2]:65535");
}

}  // namespace
}  // namespace penstock
