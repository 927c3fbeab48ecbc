#include "stack/policy/name_pins.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "tests/stack/policy/policy_question.h"

namespace penstock {
namespace {

using namespace std::chrono_literals;

std::vector<std::string> Names(const NamePins& pins, const char* address, Time now = kNow) {
  std::vector<std::string> names;
  for (const NamePins::Seen& seen : pins.At(Address(address), now)) {
    names.emplace_back(seen.name);
  }
  return names;
}

using List = std::vector<std::string>;

TEST(NamePins, TieNamesToAddressesUntilTheirTimeIsUp) {
  NamePins pins;
  pins.Add("a.test", Address("192.0.2.1"), 10s, kNow);
  pins.Add("b.test", Address("192.0.2.1"), 20s, kNow);
  pins.Add("a.test", Address("2001:db8::1"), 10s, kNow);
  EXPECT_EQ(Names(pins, "192.0.2.1"), (List{"b.test", "a.test"}));
  EXPECT_EQ(Names(pins, "2001:db8::1"), List{"a.test"});
  EXPECT_EQ(Names(pins, "192.0.2.2"), List{});
  EXPECT_TRUE(pins.Has("a.test", Address("192.0.2.1"), kNow + 10s - 1ns));
  EXPECT_FALSE(pins.Has("a.test", Address("192.0.2.1"), kNow + 10s));
  EXPECT_FALSE(pins.Has("b.test", Address("2001:db8::1"), kNow));
  EXPECT_EQ(Names(pins, "192.0.2.1", kNow + 10s), List{"b.test"});
  EXPECT_EQ(Names(pins, "192.0.2.1", kNow + 20s), List{});
}

TEST(NamePins, MappedAddressesAreTheIpv4Address) {
  NamePins pins;
  pins.Add("a.test", Address("::ffff:192.0.2.1"), 10s, kNow);
  pins.Add("b.test", Address("192.0.2.1"), 10s, kNow);
  EXPECT_EQ(Names(pins, "192.0.2.1").size(), 2u);
  EXPECT_EQ(Names(pins, "::ffff:192.0.2.1").size(), 2u);
}

TEST(NamePins, NamesAreCanonical) {
  NamePins pins;
  pins.Add("A.Test.", Address("192.0.2.1"), 10s, kNow);
  pins.Add("a.test", Address("192.0.2.1"), 10s, kNow);
  EXPECT_EQ(Names(pins, "192.0.2.1"), List{"a.test"});
  for (const char* odd :
       {"", ".", "a..test", "a test", "a.test..", "\xc3\xa4.test", "a/b", "*.a"}) {
    pins.Add(odd, Address("192.0.2.2"), 10s, kNow);
  }
  pins.Add(std::string(64, 'a') + ".test", Address("192.0.2.2"), 10s, kNow);
  std::string long_name = "a";
  while (long_name.size() < 254) long_name += ".a";
  pins.Add(long_name, Address("192.0.2.2"), 10s, kNow);
  EXPECT_EQ(Names(pins, "192.0.2.2"), List{});
  EXPECT_EQ(pins.size(), 1u);
}

TEST(NamePins, AnAnswerExtendsAndNeverShortens) {
  NamePins pins;
  const IpAddress address = Address("192.0.2.1");
  pins.Add("a.test", address, 60s, kNow);
  pins.Add("a.test", address, 5s, kNow + 1s);
  EXPECT_TRUE(pins.Has("a.test", address, kNow + 59s));
  pins.Add("a.test", address, 60s, kNow + 30s);
  EXPECT_TRUE(pins.Has("a.test", address, kNow + 89s));
  EXPECT_FALSE(pins.Has("a.test", address, kNow + 90s));
  EXPECT_EQ(pins.size(), 1u);
  // One whose time was up begins anew.
  pins.Add("a.test", address, 5s, kNow + 100s);
  EXPECT_TRUE(pins.Has("a.test", address, kNow + 104s));
  EXPECT_FALSE(pins.Has("a.test", address, kNow + 105s));
}

TEST(NamePins, TimesToLiveHaveAFloorAndACeiling) {
  NamePins pins;
  const IpAddress address = Address("192.0.2.1");
  pins.Add("zero.test", address, 0s, kNow);
  pins.Add("negative.test", address, -5s, kNow);
  pins.Add("huge.test", address, std::chrono::seconds(0xffffffff), kNow);
  EXPECT_TRUE(pins.Has("zero.test", address, kNow + 1s - 1ns));
  EXPECT_TRUE(pins.Has("negative.test", address, kNow + 1s - 1ns));
  EXPECT_FALSE(pins.Has("zero.test", address, kNow + 1s));
  EXPECT_FALSE(pins.Has("negative.test", address, kNow + 1s));
  EXPECT_TRUE(pins.Has("huge.test", address, kNow + NamePins::kTtlMax - 1s));
  EXPECT_FALSE(pins.Has("huge.test", address, kNow + NamePins::kTtlMax));
}

TEST(NamePins, NewestIsTheNameAnsweredLast) {
  NamePins pins;
  const IpAddress address = Address("192.0.2.1");
  EXPECT_EQ(pins.Newest(address, kNow), "");
  pins.Add("a.test", address, 60s, kNow);
  pins.Add("b.test", address, 10s, kNow);
  EXPECT_EQ(pins.Newest(address, kNow), "b.test");
  EXPECT_EQ(pins.Newest(address, kNow + 10s), "a.test");
  pins.Add("a.test", address, 1s, kNow);
  EXPECT_EQ(pins.Newest(address, kNow), "a.test");
}

TEST(NamePins, AtOneAddressWhatEndsFirstGivesWay) {
  NamePins pins;
  const IpAddress address = Address("192.0.2.1");
  // The third ends first.
  for (size_t i = 0; i < NamePins::kPinsPerAddressMax; ++i) {
    pins.Add("n" + std::to_string(i) + ".test", address, std::chrono::seconds(i == 2 ? 5 : 60 + i),
             kNow);
  }
  EXPECT_EQ(pins.displaced(), 0u);
  pins.Add("more.test", address, 30s, kNow);
  EXPECT_EQ(pins.At(address, kNow).size(), NamePins::kPinsPerAddressMax);
  EXPECT_EQ(pins.size(), NamePins::kPinsPerAddressMax);
  EXPECT_EQ(pins.displaced(), 1u);
  EXPECT_FALSE(pins.Has("n2.test", address, kNow));
  EXPECT_TRUE(pins.Has("more.test", address, kNow));
  pins.Add("last.test", address, 30s, kNow);
  EXPECT_FALSE(pins.Has("more.test", address, kNow));
  EXPECT_TRUE(pins.Has("n0.test", address, kNow));
  // One that is there already takes nobody's place.
  pins.Add("n0.test", address, 60s, kNow);
  EXPECT_EQ(pins.displaced(), 2u);
}

IpAddress Numbered(uint32_t number) {
  return IpAddress::V4(198, static_cast<uint8_t>(number >> 16), static_cast<uint8_t>(number >> 8),
                       static_cast<uint8_t>(number));
}

TEST(NamePins, InAllWhatEndsFirstGivesWay) {
  NamePins pins;
  const IpAddress kept = Address("192.0.2.1"), first = Address("192.0.2.2");
  pins.Add("kept.test", kept, 3'600s, kNow);
  pins.Add("first.test", first, 20s, kNow);
  for (uint32_t i = 2; i < NamePins::kPinCountMax; ++i) {
    pins.Add("guest.test", Numbered(i), 60s, kNow);
  }
  EXPECT_EQ(pins.size(), NamePins::kPinCountMax);
  EXPECT_EQ(pins.displaced(), 0u);
  EXPECT_TRUE(pins.Has("first.test", first, kNow));
  for (uint32_t i = 0; i < 3 * NamePins::kPinCountMax; ++i) {
    pins.Add("guest.test", Numbered(1'000'000 + i), 60s, kNow);
  }
  EXPECT_EQ(pins.size(), NamePins::kPinCountMax);
  EXPECT_EQ(pins.displaced(), 3 * NamePins::kPinCountMax);
  EXPECT_FALSE(pins.Has("first.test", first, kNow));
  EXPECT_TRUE(pins.Has("kept.test", kept, kNow));
}

TEST(NamePins, WhatHasEndedGivesItsPlaceFirst) {
  NamePins pins;
  for (uint32_t i = 0; i < NamePins::kPinCountMax; ++i) {
    pins.Add("guest.test", Numbered(i), 1s + std::chrono::seconds(i % 2 * 100), kNow);
  }
  // Half of them have ended: nobody who has not is displaced.
  for (uint32_t i = 0; i < NamePins::kPinCountMax / 2; ++i) {
    pins.Add("guest.test", Numbered(1'000'000 + i), 60s, kNow + 2s);
  }
  EXPECT_EQ(pins.displaced(), 0u);
  EXPECT_EQ(pins.size(), NamePins::kPinCountMax);
  // Much later, a few answers give everything back: several for each.
  for (uint32_t i = 0; i < NamePins::kPinCountMax / 4; ++i) {
    pins.Add("last.test", Address("192.0.2.1"), 1s, kNow + 1h);
  }
  EXPECT_EQ(pins.size(), 1u);
}

}  // namespace
}  // namespace penstock
