#include "tools/penstock/denials.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

namespace penstock::tool {
namespace {

using testing::HasSubstr;
using testing::Optional;

constexpr uint32_t kOptionLines = 2;

Event Denied(PolicyProtocol protocol, const char* address, uint16_t port, const char* reason,
             EventLayer layer = EventLayer::kTenant) {
  Event event;
  event.kind = EventKind::kDenied;
  event.protocol = protocol;
  event.layer = layer;
  event.guest = {IpAddress::V4(10, 0, 2, 15), 40'000};
  event.peer = {*IpAddress::Parse(address), port};
  event.reason = reason;
  return event;
}

std::shared_ptr<const PolicyRule> Rule(const char* text, uint32_t line) {
  return std::make_shared<const PolicyRule>(PolicyRule{.text = text, .line = line});
}

// Told by somebody who has told nothing yet.
std::string Told(const Event& event, const Policy* tenant = nullptr) {
  return DenialTeller(kOptionLines, "--allow").Tell(event, tenant).value_or("nothing");
}

constexpr auto kTcp = PolicyProtocol::kTcp;
constexpr auto kUdp = PolicyProtocol::kUdp;
constexpr auto kIcmp = PolicyProtocol::kIcmp;

TEST(Denials, AreToldWithTheOptionThatAllows) {
  EXPECT_EQ(Told(Denied(kTcp, "10.1.2.3", 5'432, "private")),
            "denied tcp 10.1.2.3:5432 (private); --allow 10.1.2.3:5432/tcp lets it through");
  EXPECT_EQ(Told(Denied(kUdp, "fd01::1", 53, "private")),
            "denied udp [fd01::1]:53 (private); --allow [fd01::1]:53/udp lets it through");
  EXPECT_EQ(Told(Denied(kIcmp, "10.1.2.3", 0, "private")),
            "denied icmp 10.1.2.3 (private); --allow 10.1.2.3/icmp lets it through");
}

TEST(Denials, OfANameAreAboutTheName) {
  Event event = Denied(kTcp, "10.1.2.3", 5'432, "private");
  event.name = EventName("db.test");
  EXPECT_EQ(Told(event),
            "denied tcp 10.1.2.3:5432 (db.test, private); --allow db.test lets it "
            "through");
  event.peer = {IpAddress::V4(10, 0, 2, 3), 53};
  event.reason = "denied";
  EXPECT_EQ(Told(event), "denied the name db.test; --allow db.test lets it through");
  event.reason = "rebinding";
  event.peer = {IpAddress::V4(10, 1, 2, 3), 0};
  EXPECT_EQ(Told(event),
            "denied the name db.test at 10.1.2.3, which is not public; --allow db.test lets it "
            "through");
}

// It is allowed already, for the address that it has.
TEST(Denials, OfAForgedNameAreAboutTheAddress) {
  const auto policy = Policy::Parse("allow egress example.test\ndefault egress deny\n");
  ASSERT_TRUE(policy.ok()) << policy.status();
  Event event = Denied(kTcp, "198.51.100.7", 443, "public");
  event.name = EventName("example.test");
  EXPECT_THAT(Told(event, policy->get()), HasSubstr("--allow 198.51.100.7:443/tcp lets"));
  event.name = EventName("other.test");
  EXPECT_THAT(Told(event, policy->get()), HasSubstr("--allow other.test lets"));
}

// Names are the sandbox's; they are shown to a terminal, and pasted into a shell.
TEST(Denials, ShowNoNameThatIsNotPlain) {
  for (const char* name :
       {"\x1b[2J", "a b", "$(reboot)", "`x`", "a;b", "-x", "A", "\xff", "a\nb"}) {
    EXPECT_FALSE(IsPlainName(name)) << name;
    Event event = Denied(kTcp, "10.1.2.3", 80, "private");
    event.name = EventName(name);
    EXPECT_EQ(Told(event),
              "denied tcp 10.1.2.3:80 (private); --allow 10.1.2.3:80/tcp lets it "
              "through");
    event.reason = "denied";
    EXPECT_EQ(Told(event), "denied a name");
  }
  for (const char* name : {"a", "example.test", "_dns.x-1.test", "1.2.3"}) {
    EXPECT_TRUE(IsPlainName(name)) << name;
  }
}

TEST(Denials, SayWhereAnOptionMustStand) {
  Event event = Denied(kTcp, "10.1.2.3", 80, "private");
  event.rule = Rule("deny egress 10.0.0.0/8", kOptionLines);
  EXPECT_EQ(Told(event),
            "denied tcp 10.1.2.3:80 (private) by an option: deny egress 10.0.0.0/8; --allow "
            "10.1.2.3:80/tcp in front of it lets it through");
  event.rule = Rule("deny egress 10.0.0.0/8", kOptionLines + 1);
  EXPECT_THAT(Told(event), HasSubstr("(private); --allow 10.1.2.3:80/tcp lets it through"));
}

// Without it the rest would be denied from then on.
TEST(Denials, NameTheProfileThatHasToBeSaidThen) {
  DenialTeller teller(0, "--profile public --allow");
  EXPECT_THAT(teller.Tell(Denied(kTcp, "10.1.2.3", 80, "private"), nullptr),
              Optional(HasSubstr("; --profile public --allow 10.1.2.3:80/tcp lets it through")));
}

TEST(Denials, PromiseNothingThatNoOptionDoes) {
  Event event = Denied(kTcp, "10.1.2.3", 80, "private", EventLayer::kPlatform);
  event.rule = Rule("deny egress @private", 1);
  EXPECT_EQ(Told(event),
            "denied tcp 10.1.2.3:80 (private) by the platform's policy: deny egress @private");
  event = Denied(kUdp, "127.0.0.1", 53, "martian_address", EventLayer::kAddress);
  EXPECT_EQ(Told(event),
            "denied udp 127.0.0.1:53 (martian_address); it never leaves the sandbox, "
            "whatever the policy");
  event.layer = EventLayer::kLink;
  event.reason = "spoofed_source";
  EXPECT_EQ(Told(event),
            "denied what came from 10.0.2.15 (spoofed_source); --guest-prefix NETWORK "
            "lets a network behind the sandbox send");
  event = Denied(kTcp, "192.0.2.7", 6'000, "public");
  event.direction = Direction::kIngress;
  EXPECT_EQ(Told(event),
            "denied tcp client 192.0.2.7:6000 (public) of 10.0.2.15:40000 by the "
            "policy's default");
}

TEST(Denials, AreToldOnceForEachKind) {
  DenialTeller teller(0, "--allow");
  EXPECT_NE(teller.Tell(Denied(kTcp, "10.1.2.3", 1, "private"), nullptr), std::nullopt);
  for (uint16_t port = 2; port < 1'000; ++port) {
    EXPECT_EQ(teller.Tell(Denied(kTcp, "10.1.2.4", port, "private"), nullptr), std::nullopt);
  }
  EXPECT_EQ(teller.untold(), 998U);
  EXPECT_NE(teller.Tell(Denied(kUdp, "10.1.2.3", 1, "private"), nullptr), std::nullopt);
  EXPECT_NE(teller.Tell(Denied(kTcp, "224.0.0.1", 1, "multicast"), nullptr), std::nullopt);
  EXPECT_NE(teller.Tell(Denied(kTcp, "10.1.2.3", 1, "private", EventLayer::kPlatform), nullptr),
            std::nullopt);
  EXPECT_EQ(teller.untold(), 998U);
}

// Should reasons ever be without number.
TEST(Denials, AreBounded) {
  std::vector<std::string> reasons;
  for (size_t i = 0; i < 2 * kDenialKindCountMax; ++i) reasons.push_back(std::to_string(i));
  DenialTeller teller(0, "--allow");
  size_t told = 0;
  for (const std::string& reason : reasons) {
    told += teller.Tell(Denied(kTcp, "10.1.2.3", 1, reason.c_str()), nullptr) ? 1 : 0;
  }
  EXPECT_EQ(told, kDenialKindCountMax);
  EXPECT_EQ(teller.untold(), kDenialKindCountMax);
}

TEST(Denials, AreNothingElse) {
  DenialTeller teller(0, "--allow");
  Event event = Denied(kTcp, "10.1.2.3", 1, "private");
  for (const auto kind : {EventKind::kName, EventKind::kFlowOpened, EventKind::kFlowClosed,
                          EventKind::kLease, EventKind::kPublished, EventKind::kPolicyReplaced}) {
    event.kind = kind;
    EXPECT_EQ(teller.Tell(event, nullptr), std::nullopt);
  }
  EXPECT_EQ(teller.untold(), 0U);
}

}  // namespace
}  // namespace penstock::tool
