// Which published ports a text selects, and that a spec's text selects its own.
#include "publisher/port_selector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace penstock {
namespace {

using testing::HasSubstr;

PortSelector SelectorOf(std::string_view text) {
  const absl::StatusOr<PortSelector> selector = ParsePortSelector(text);
  EXPECT_TRUE(selector.ok()) << selector.status();
  return selector.value_or(PortSelector{});
}

PublishedPort Row(const char* address, uint16_t host, uint16_t guest,
                  Exposure exposure = Exposure::kLoopback, const char* interface = "") {
  return {.bound = {.address = *IpAddress::Parse(address), .port = host},
          .interface = interface,
          .guest = {.address = IpAddress::V4(10, 0, 2, 15), .port = guest},
          .exposure = exposure};
}

bool Selects(std::string_view text, const PublishedPort& port) {
  return Matches(SelectorOf(text), port);
}

TEST(PortSelector, WhatIsLeftOutIsAny) {
  EXPECT_FALSE(SelectorOf("8080").place.has_value());
  EXPECT_FALSE(SelectorOf("8080").guest.has_value());
  EXPECT_TRUE(Selects("8080", Row("127.0.0.1", 8080, 80)));
  EXPECT_TRUE(Selects("8080", Row("0.0.0.0", 8080, 81, Exposure::kEverywhere)));
  EXPECT_TRUE(Selects("8080", Row("::", 8080, 80, Exposure::kInterface, "eth0")));
  EXPECT_FALSE(Selects("8080", Row("127.0.0.1", 8081, 80)));
  EXPECT_TRUE(Selects("8080:80", Row("::1", 8080, 80)));
  EXPECT_FALSE(Selects("8080:80", Row("::1", 8080, 81)));
}

TEST(PortSelector, TheProtocolIsTcpUnlessItIsSaid) {
  PublishedPort udp = Row("127.0.0.1", 5353, 53);
  udp.protocol = PortProtocol::kUdp;
  EXPECT_FALSE(Selects("5353", udp));
  EXPECT_TRUE(Selects("5353/udp", udp));
  EXPECT_TRUE(Selects("127.0.0.1:5353/udp", udp));
}

TEST(PortSelector, ThePlaceIsTheOneOfTheSpec) {
  const PublishedPort loopback = Row("127.0.0.1", 80, 80);
  const PublishedPort wildcard = Row("0.0.0.0", 80, 80, Exposure::kEverywhere);
  const PublishedPort everywhere6 = Row("::", 80, 80, Exposure::kEverywhere);
  const PublishedPort of_eth0 = Row("0.0.0.0", 80, 80, Exposure::kInterface, "eth0");
  const PublishedPort link_local = Row("fe80::1", 80, 80, Exposure::kAddress, "eth0");

  EXPECT_TRUE(Selects("127.0.0.1:80", loopback));
  EXPECT_FALSE(Selects("0.0.0.0:80", loopback));
  EXPECT_FALSE(Selects("*:80", loopback));
  EXPECT_TRUE(Selects("0.0.0.0:80", wildcard));
  EXPECT_TRUE(Selects("*:80", wildcard));
  EXPECT_TRUE(Selects("*:80:80", everywhere6));
  EXPECT_FALSE(Selects("0.0.0.0:80", everywhere6));
  EXPECT_TRUE(Selects("eth0:80", of_eth0));
  EXPECT_FALSE(Selects("eth1:80", of_eth0));
  EXPECT_FALSE(Selects("*:80", of_eth0));
  EXPECT_FALSE(Selects("0.0.0.0:80", of_eth0));
  EXPECT_TRUE(Selects("[fe80::1%eth0]:80", link_local));
  EXPECT_FALSE(Selects("[fe80::1%eth1]:80", link_local));
  EXPECT_FALSE(Selects("eth0:80", link_local));
}

TEST(PortSelector, RangesKeepTheirOrder) {
  EXPECT_TRUE(Selects("8000-8010", Row("127.0.0.1", 8000, 1)));
  EXPECT_TRUE(Selects("8000-8010", Row("127.0.0.1", 8010, 1)));
  EXPECT_FALSE(Selects("8000-8010", Row("127.0.0.1", 8011, 1)));
  EXPECT_FALSE(Selects("8000-8010,~8003", Row("127.0.0.1", 8003, 1)));
  EXPECT_TRUE(Selects("8000-8010:9000-9010", Row("127.0.0.1", 8004, 9004)));
  EXPECT_FALSE(Selects("8000-8010:9000-9010", Row("127.0.0.1", 8004, 9005)));
}

TEST(PortSelector, OneColonDividesWhatItCan) {
  EXPECT_EQ(SelectorOf("8080:80").guest, (PortRange{80, 80}));
  EXPECT_EQ(SelectorOf("127.0.0.1:80").place->address, IpAddress::V4(127, 0, 0, 1));
  EXPECT_EQ(SelectorOf("6in4-wan:80").place->interface, "6in4-wan");
  EXPECT_EQ(SelectorOf("[::1]:80").host, (PortRange{80, 80}));
  EXPECT_EQ(SelectorOf("*:80").place->kind, BindPlace::Kind::kEverywhere);
}

TEST(PortSelector, IsWrittenAsItIsRead) {
  for (const char* text : {"8080/tcp", "8080:80/udp", "127.0.0.1:8080/tcp", "*:1-3,~2:11-13/tcp",
                           "[fe80::1%eth0]:5/udp", "eth0:5:6/tcp"}) {
    EXPECT_EQ(ToString(SelectorOf(text)), text);
    EXPECT_EQ(SelectorOf(ToString(SelectorOf(text))), SelectorOf(text));
  }
}

std::string Refusal(std::string_view text) {
  return std::string(ParsePortSelector(text).status().message());
}

TEST(PortSelector, MistakesAreToldAsThoseOfSpecs) {
  EXPECT_THAT(Refusal("0:80"), HasSubstr("the one that the system chose"));
  EXPECT_THAT(Refusal("0:80"), HasSubstr("\n  0:80\n  ^"));
  EXPECT_THAT(Refusal("127.0.0.1:0"), HasSubstr("\n            ^"));
  EXPECT_THAT(Refusal("::1:8080"), HasSubstr("write [::1]:8080\n"));
  EXPECT_THAT(Refusal("8080/sctp"), HasSubstr("tcp or udp"));
  EXPECT_THAT(Refusal("8010-8000"), HasSubstr("write 8000-8010"));
  EXPECT_THAT(Refusal("8000-8010,~9"), HasSubstr("not within"));
  EXPECT_THAT(Refusal("8000-8010:80"), HasSubstr("as many"));
  EXPECT_THAT(Refusal(""), HasSubstr("nothing is written"));
}

}  // namespace
}  // namespace penstock
