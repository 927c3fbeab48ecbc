// Kinds of address; the check of whole packets is tested through Parse.
#include "stack/wire/addresses.h"

#include <gtest/gtest.h>

#include "tests/support/packet_builder.h"

namespace penstock {
namespace {

TEST(AddressesTest, LinkLocalOfMacIsItsModifiedEui64) {
  EXPECT_EQ(LinkLocalOf({0x52, 0x55, 0x0a, 0x00, 0x02, 0x02}).ToString(),
            "fe80::5055:aff:fe00:202");
  EXPECT_EQ(LinkLocalOf({0x00, 0x25, 0x96, 0x12, 0x34, 0x56}).ToString(),
            "fe80::225:96ff:fe12:3456");
}

TEST(AddressesTest, KindsOfMac) {
  EXPECT_EQ(KindOf(kBroadcastMac), MacKind::kBroadcast);
  EXPECT_EQ(KindOf({0x33, 0x33, 0, 0, 0, 1}), MacKind::kMulticast);
  EXPECT_EQ(KindOf({0xff, 0xff, 0xff, 0xff, 0xff, 0xfe}), MacKind::kMulticast);
  EXPECT_EQ(KindOf({0x52, 0x55, 0x0a, 0, 2, 2}), MacKind::kUnicast);
}

TEST(AddressesTest, BordersOfTheKinds) {
  EXPECT_FALSE(IsMulticast(Address("223.255.255.255")));
  EXPECT_TRUE(IsMulticast(Address("224.0.0.0")));
  EXPECT_TRUE(IsMulticast(Address("239.255.255.255")));
  EXPECT_TRUE(IsMulticast(Address("ff00::")));
  EXPECT_FALSE(IsMulticast(Address("feff::")));
  EXPECT_TRUE(IsLinkLocal(Address("169.254.255.255")));
  EXPECT_FALSE(IsLinkLocal(Address("169.253.0.1")));
  EXPECT_TRUE(IsLinkLocal(Address("febf::")));
  EXPECT_FALSE(IsLinkLocal(Address("fec0::")));
  for (const char* never :
       {"0.255.255.255", "127.0.0.1", "240.0.0.0", "::", "::1", "::2", "::ffff:1.2.3.4"}) {
    EXPECT_TRUE(IsNeverAHost(Address(never))) << never;
  }
  for (const char* host : {"1.0.0.0", "126.255.255.255", "128.0.0.1", "100.64.0.1",
                           "fd00::", "::1:0:0", "64:ff9b::1.2.3.4", "::fffe:1.2.3.4"}) {
    EXPECT_FALSE(IsNeverAHost(Address(host))) << host;
  }
}

TEST(AddressesTest, AGuestCannotAnswerWhoIsBehindIt) {
  FamilyConfig family = kTestConfig.ipv4;
  EXPECT_TRUE(GuestCanAnswer(Address("172.20.0.9"), family));
  family.guest_prefixes = {{Address("172.20.0.0"), 16}};
  EXPECT_FALSE(GuestCanAnswer(Address("172.20.0.9"), family));
  EXPECT_TRUE(GuestCanAnswer(Address("172.21.0.9"), family));
  EXPECT_TRUE(IsBehindGuest(Address("172.20.0.9"), family));
  EXPECT_FALSE(IsBehindGuest(Address("fd20::9"), family));
}

}  // namespace
}  // namespace penstock
