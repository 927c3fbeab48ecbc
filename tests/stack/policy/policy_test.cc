// Decisions, one by one: which group each address at the edge of one is in, and what
// policies say. The table of policies is read by ToString and AskedQuestion
// (policy_question.h).
#include "stack/policy/policy.h"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "tests/stack/policy/policy_question.h"

namespace penstock {
namespace {

struct GroupedAddress {
  const char* address;
  AddressGroup group;
};

using enum AddressGroup;

// The first and last address in each range, and their neighbours outside.
constexpr GroupedAddress kIpv4[] = {
    {"0.0.0.0", kNone},
    {"0.0.0.1", kPublic},
    {"1.1.1.1", kPublic},
    {"9.255.255.255", kPublic},
    {"10.0.0.0", kPrivate},
    {"10.0.2.1", kPrivate},
    {"10.0.2.2", kHost},
    {"10.0.2.3", kPrivate},
    {"10.255.255.255", kPrivate},
    {"11.0.0.0", kPublic},
    {"100.63.255.255", kPublic},
    {"100.64.0.0", kPrivate},
    {"100.127.255.255", kPrivate},
    {"100.128.0.0", kPublic},
    {"126.255.255.255", kPublic},
    {"127.0.0.0", kLoopback},
    {"127.0.0.1", kLoopback},
    {"127.255.255.255", kLoopback},
    {"128.0.0.0", kPublic},
    {"169.253.255.255", kPublic},
    {"169.254.0.0", kLinkLocal},
    {"169.254.169.253", kLinkLocal},
    {"169.254.169.254", kMetadata},
    {"169.254.169.255", kLinkLocal},
    {"169.254.255.255", kLinkLocal},
    {"169.255.0.0", kPublic},
    {"172.15.255.255", kPublic},
    {"172.16.0.0", kPrivate},
    {"172.31.255.255", kPrivate},
    {"172.32.0.0", kPublic},
    {"192.167.255.255", kPublic},
    {"192.168.0.0", kPrivate},
    {"192.168.255.255", kPrivate},
    {"192.169.0.0", kPublic},
    {"223.255.255.255", kPublic},
    {"224.0.0.0", kMulticast},
    {"239.255.255.255", kMulticast},
    {"240.0.0.0", kPublic},
    {"255.255.255.255", kPublic},
};
constexpr GroupedAddress kIpv6[] = {
    {"::", kNone},
    {"::1", kLoopback},
    {"::2", kPublic},
    {"::127.0.0.1", kPublic},
    {"::fffe:10.0.0.1", kPublic},
    {"::ffff:0.0.0.0", kNone},
    {"::ffff:9.255.255.255", kPublic},
    {"::ffff:10.0.0.0", kPrivate},
    {"::ffff:10.0.2.2", kHost},
    {"::ffff:127.0.0.1", kLoopback},
    {"::ffff:169.254.0.1", kLinkLocal},
    {"::ffff:169.254.169.254", kMetadata},
    {"::ffff:192.168.0.1", kPrivate},
    {"::ffff:224.0.0.1", kMulticast},
    {"::1:0:0:0", kPublic},
    {"2001:db8::1", kPublic},
    {"fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", kPublic},
    {"fc00::", kPrivate},
    {"fd00::1", kPrivate},
    {"fd00::2", kHost},
    {"fd00::3", kPrivate},
    {"fd00:ec2::253", kPrivate},
    {"fd00:ec2::254", kMetadata},
    {"fd00:ec2::255", kPrivate},
    {"fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", kPrivate},
    {"fe00::", kPublic},
    {"fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", kPublic},
    {"fe80::", kLinkLocal},
    {"fe80::1", kLinkLocal},
    {"fe80::2", kHost},
    {"fe80::3", kLinkLocal},
    {"febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", kLinkLocal},
    {"fec0::", kPublic},
    {"feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", kPublic},
    {"ff00::", kMulticast},
    {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", kMulticast},
};

const std::vector<GroupedAddress>& Addresses() {
  static const std::vector<GroupedAddress> all = [] {
    std::vector<GroupedAddress> both(std::begin(kIpv4), std::end(kIpv4));
    both.insert(both.end(), std::begin(kIpv6), std::end(kIpv6));
    return both;
  }();
  return all;
}

constexpr std::array kGroups{kHost,      kMetadata,  kLoopback, kPrivate,
                             kLinkLocal, kMulticast, kPublic};

Decision Ask(const Policy& policy, std::string_view line, bool host_named = false) {
  const AskedQuestion asked(line);
  return policy.Decide(asked.question, Context(host_named), NamePins(), kNow);
}

TEST(Policy, GroupsHaveTheirEdges) {
  for (const auto& [address, group] : Addresses()) {
    EXPECT_EQ(Name(GroupOf(Address(address), Context())), Name(group)) << address;
  }
}

// Each group allowed alone, and denied alone.
TEST(Policy, AGroupIsItsAddressesAndNoOthers) {
  for (const AddressGroup group : kGroups) {
    const std::string name = "@" + std::string(Name(group));
    const auto allows = PolicyOf("allow egress " + name);
    const auto denies = PolicyOf("default egress allow\ndeny egress " + name);
    for (const auto& [address, of] : Addresses()) {
      const std::string question = "tcp " + std::string(address) + " 80";
      const bool is_in = of == group;
      EXPECT_EQ(ToString(Ask(*allows, question)), is_in ? "allow 1" : "deny") << name << question;
      const bool is_shut = of == kHost || of == kMetadata;
      EXPECT_EQ(ToString(Ask(*denies, question)), is_in     ? "deny 2"
                                                  : is_shut ? "deny"
                                                            : "allow")
          << name << question;
    }
  }
}

TEST(Policy, ProfilesAreWhatTheySay) {
  struct Expected {
    const char *in_public, *in_public_icmp, *in_all, *in_all_icmp;
  };
  // Lines of the profile's text.
  const std::map<AddressGroup, Expected> expected = {
      {kHost, {"deny", "allow", "deny", "allow"}},
      {kMetadata, {"deny 5", "deny 5", "deny", "deny"}},
      {kLoopback, {"deny 4", "deny 4", "allow", "allow"}},
      {kPrivate, {"deny 3", "deny 3", "allow", "allow"}},
      {kLinkLocal, {"deny 6", "deny 6", "allow", "allow"}},
      {kMulticast, {"deny 7", "deny 7", "allow", "allow"}},
      {kPublic, {"allow", "allow", "allow", "allow"}},
      {kNone, {"allow", "allow", "allow", "allow"}},
  };
  for (const auto& [address, group] : Addresses()) {
    const std::string at = std::string(address) + " ";
    const Expected& says = expected.at(group);
    const Policy& is_public = *Policy::Profile("public");
    EXPECT_EQ(ToString(Ask(is_public, "tcp " + at + "80")), says.in_public) << at;
    EXPECT_EQ(ToString(Ask(is_public, "udp " + at + "53")), says.in_public) << at;
    EXPECT_EQ(ToString(Ask(is_public, "icmp " + at + "0")), says.in_public_icmp) << at;
    const Policy& all = *Policy::Profile("all");
    EXPECT_EQ(ToString(Ask(all, "tcp " + at + "80")), says.in_all) << at;
    EXPECT_EQ(ToString(Ask(all, "udp " + at + "53")), says.in_all) << at;
    EXPECT_EQ(ToString(Ask(all, "icmp " + at + "0")), says.in_all_icmp) << at;
    for (const char* protocol : {"tcp ", "udp ", "icmp "}) {
      EXPECT_EQ(ToString(Ask(*Policy::Profile("none"), protocol + at + "0")), "deny") << at;
    }
    for (const char* profile : {"public", "none", "all"}) {
      EXPECT_EQ(ToString(Ask(*Policy::Profile(profile), "in tcp " + at + "80")), "allow") << at;
    }
  }
}

TEST(Policy, TheHostMayBeNamedFromOutside) {
  for (const char* profile : {"public", "all"}) {
    const Policy& policy = *Policy::Profile(profile);
    for (const char* question : {"tcp 10.0.2.2 80", "udp fd00::2 53", "tcp ::ffff:10.0.2.2 1"}) {
      EXPECT_EQ(ToString(Ask(policy, question, true)), "allow") << profile << question;
    }
    EXPECT_EQ(Ask(policy, "tcp 169.254.169.254 80", true).verdict, Verdict::kDeny) << profile;
  }
  EXPECT_EQ(ToString(Ask(*Policy::Profile("none"), "tcp 10.0.2.2 80", true)), "deny");
}

TEST(Policy, OnlyThreeProfilesHaveANameAndAText) {
  for (const char* name : {"public", "none", "all"}) {
    ASSERT_NE(Policy::Profile(name), nullptr);
    EXPECT_EQ(Policy::Profile(name), Policy::Profile(name));
    EXPECT_EQ(Policy::Profile(name)->text(), Policy::ProfileText(name));
    EXPECT_FALSE(Policy::Profile(name)->has_names());
  }
  EXPECT_EQ(Policy::Profile("Public"), nullptr);
  EXPECT_EQ(Policy::Profile(""), nullptr);
  EXPECT_EQ(Policy::ProfileText("private"), "");
}

struct Scenario {
  const char* what;
  const char* policy;
  const char* pins;
  const char* questions;  // a line each: QUESTION -> ANSWER
};

const Scenario kByAddress[] = {
    {"without a rule the defaults decide", "", "", R"(
        tcp 192.0.2.1 80 -> deny
        udp 2001:db8::1 53 -> deny
        icmp 192.0.2.1 0 -> deny
        in tcp 192.0.2.1 80 -> allow
        in udp ::1 53 -> allow)"},
    {"the first rule that matches", R"(allow egress 192.0.2.1
deny egress 192.0.2.0/24
allow egress any
deny egress 198.51.100.0/24)",
     "", R"(
        tcp 192.0.2.1 80 -> allow 1
        tcp 192.0.2.0 80 -> deny 2
        tcp 192.0.2.2 80 -> deny 2
        tcp 192.0.2.255 80 -> deny 2
        tcp 192.0.1.255 80 -> allow 3
        tcp 192.0.3.0 80 -> allow 3
        tcp 198.51.100.7 80 -> allow 3
        icmp 192.0.2.2 0 -> deny 2
        tcp ::ffff:192.0.2.2 80 -> deny 2
        tcp ::192.0.2.2 80 -> allow 3
        tcp 2001:db8::1 80 -> allow 3)"},
    {"nested networks, the larger ones first or last", R"(deny egress 10.1.0.0/16:80
allow egress 10.0.0.0/8
deny egress 10.1.1.0/24
allow egress 10.1.1.1:443
allow egress 2001:db8::/32
deny egress 2001:db8:1::/48
deny egress 2001:dba::/31
allow egress 2001:db8:0:1::/64)",
     "", R"(
        tcp 10.1.1.1 443 -> allow 2
        tcp 10.1.1.1 80 -> deny 1
        udp 10.1.2.3 80 -> deny 1
        icmp 10.1.1.1 0 -> allow 2
        tcp 10.2.0.1 80 -> allow 2
        tcp 11.0.0.0 80 -> deny
        tcp 9.255.255.255 80 -> deny
        tcp 2001:db8:1::1 80 -> allow 5
        tcp 2001:db9:: 80 -> deny
        tcp 2001:dba:: 80 -> deny 7
        tcp 2001:dbb:ffff::1 80 -> deny 7
        tcp 2001:db7:ffff:ffff:ffff:ffff:ffff:ffff 80 -> deny
        tcp 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff 80 -> allow 5)"},
};

const Scenario kAtTheEnds[] = {
    {"networks at the ends of their families", R"(allow egress 0.0.0.0/1:1
allow egress 255.255.255.255:2
allow egress 128.0.0.0/1:3
allow egress [::/1]:4
allow egress ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
allow egress [8000::/1]:6
allow egress 0.0.0.0:7)",
     "", R"(
        tcp 0.0.0.0 1 -> allow 1
        tcp 127.255.255.255 1 -> allow 1
        tcp 128.0.0.0 1 -> deny
        tcp 255.255.255.255 2 -> allow 2
        tcp 255.255.255.254 2 -> deny
        tcp 255.255.255.255 3 -> allow 3
        tcp 128.0.0.0 3 -> allow 3
        tcp 127.255.255.255 3 -> deny
        tcp 0.0.0.0 7 -> allow 7
        tcp 0.0.0.1 7 -> deny
        tcp ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 9 -> allow 5
        tcp ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe 9 -> deny
        tcp ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe 6 -> allow 6
        tcp 8000:: 6 -> allow 6
        tcp 7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 6 -> deny)"},
    {"a family alone", R"(allow egress 0.0.0.0/0:80
deny egress [::/0]:80
allow egress [::/0]:443
deny egress 0.0.0.0/0:443
allow egress any:80,443)",
     "", R"(
        tcp 192.0.2.1 80 -> allow 1
        tcp ::ffff:192.0.2.1 80 -> allow 1
        tcp 2001:db8::1 80 -> deny 2
        tcp 2001:db8::1 443 -> allow 3
        tcp 192.0.2.1 443 -> deny 4
        tcp 169.254.169.254 80 -> deny
        tcp 10.0.2.2 80 -> deny
        tcp fd00:ec2::254 443 -> deny)"},
    {"a network of IPv6 around the mapped addresses holds no IPv4", R"(deny egress ::/8
allow egress ::ffff:192.0.2.0/120
default egress allow)",
     "", R"(
        tcp ::ffff:198.51.100.1 80 -> allow
        tcp 198.51.100.1 80 -> allow
        tcp ::ffff:192.0.2.9 80 -> allow 2
        tcp 192.0.2.9 80 -> allow 2
        tcp ::2 80 -> deny 1)"},
};

const Scenario kByPort[] = {
    {"ports", R"(allow egress any:22/tcp
deny egress any:20-30
allow egress any:1,65535
deny egress any:25-40,80-90,85-95
allow egress any:90-100/udp)",
     "", R"(
        tcp 192.0.2.1 22 -> allow 1
        udp 192.0.2.1 22 -> deny 2
        tcp 192.0.2.1 19 -> deny
        tcp 192.0.2.1 20 -> deny 2
        tcp 192.0.2.1 30 -> deny 2
        tcp 192.0.2.1 31 -> deny 4
        tcp 192.0.2.1 40 -> deny 4
        tcp 192.0.2.1 41 -> deny
        tcp 192.0.2.1 1 -> allow 3
        tcp 192.0.2.1 0 -> deny
        tcp 192.0.2.1 2 -> deny
        tcp 192.0.2.1 65535 -> allow 3
        tcp 192.0.2.1 65534 -> deny
        udp 192.0.2.1 95 -> deny 4
        udp 192.0.2.1 96 -> allow 5
        udp 192.0.2.1 100 -> allow 5
        udp 192.0.2.1 101 -> deny
        tcp 192.0.2.1 96 -> deny
        icmp 192.0.2.1 0 -> deny)"},
    {"protocols", R"(allow egress 192.0.2.1/icmp
allow egress 192.0.2.2/tcp,udp
allow egress 192.0.2.3:53/udp
deny egress 192.0.2.4/icmp
allow egress 192.0.2.4)",
     "", R"(
        icmp 192.0.2.1 0 -> allow 1
        tcp 192.0.2.1 80 -> deny
        tcp 192.0.2.2 80 -> allow 2
        udp 192.0.2.2 80 -> allow 2
        icmp 192.0.2.2 0 -> deny
        udp 192.0.2.3 53 -> allow 3
        tcp 192.0.2.3 53 -> deny
        icmp 192.0.2.4 0 -> deny 4
        tcp 192.0.2.4 1 -> allow 5)"},
};

const Scenario kShut[] = {
    {"what is shut is opened by what names it", R"(allow egress any
allow egress @host:8080
allow egress 10.0.2.2:9090
allow egress 10.0.2.0/24:7070
allow egress [fd00::/64]:6060
allow egress @metadata:80/tcp)",
     "", R"(
        tcp 10.0.2.2 80 -> deny
        icmp 10.0.2.2 0 -> allow 1
        icmp fd00::2 0 -> allow 1
        tcp 10.0.2.2 8080 -> allow 2
        tcp fd00::2 8080 -> allow 2
        tcp ::ffff:10.0.2.2 8080 -> allow 2
        tcp 10.0.2.2 9090 -> allow 3
        tcp fd00::2 9090 -> deny
        tcp 10.0.2.2 7070 -> allow 4
        udp 10.0.2.2 7070 -> allow 4
        tcp fd00::2 6060 -> allow 5
        tcp 169.254.169.254 80 -> allow 6
        tcp fd00:ec2::254 80 -> allow 6
        tcp 169.254.169.254 443 -> deny
        udp 169.254.169.254 80 -> deny
        icmp 169.254.169.254 0 -> deny
        in tcp 10.0.2.2 80 -> allow)"},
    {"a denial of everything denies what is shut, too", R"(deny egress any:80
allow egress @host
deny egress 169.254.0.0/16
allow egress @metadata)",
     "", R"(
        tcp 10.0.2.2 80 -> deny 1
        tcp 10.0.2.2 81 -> allow 2
        tcp 169.254.169.254 81 -> deny 3
        tcp fd00:ec2::254 81 -> allow 4
        tcp fd00:ec2::254 80 -> deny 1)"},
    {"no name opens what is shut", R"(allow egress example.test
default egress allow)",
     "example.test 10.0.2.2, example.test 169.254.169.254, example.test 10.0.2.9", R"(
        tcp 10.0.2.2 80 looked -> deny
        tcp 10.0.2.2 80 -> deny
        tcp 10.0.2.2 80 shows example.test -> deny
        icmp 10.0.2.2 0 -> allow 1
        tcp 169.254.169.254 80 shows example.test -> deny
        icmp 169.254.169.254 0 -> deny
        tcp 10.0.2.9 80 shows example.test -> allow 1)"},
    {"ingress is about the client and the guest's port", R"(deny ingress 203.0.113.0/24
allow ingress @loopback:8000-8010/tcp
allow ingress @metadata
default ingress deny
allow egress @loopback)",
     "", R"(
        in tcp 203.0.113.9 8000 -> deny 1
        in tcp 127.0.0.1 8000 -> allow 2
        in tcp ::1 8010 -> allow 2
        in tcp ::ffff:127.0.0.1 8010 -> allow 2
        in tcp 127.0.0.1 8011 -> deny
        in udp 127.0.0.1 8000 -> deny
        in tcp 169.254.169.254 1 -> allow 3
        tcp 203.0.113.9 8000 -> deny
        tcp 127.0.0.1 9 -> allow 5)"},
};

const Scenario kByName[] = {
    {"a name needs a pin, and is looked for", R"(allow egress example.test
allow egress *.example.org:443)",
     "example.test 192.0.2.1, other.test 192.0.2.1, a.example.org 192.0.2.2, "
     "example.org 192.0.2.3, a.b.example.org 2001:db8::2",
     R"(
        tcp 192.0.2.1 80 -> look 1
        tcp ::ffff:192.0.2.1 80 -> look 1
        tcp 192.0.2.1 80 shows example.test -> allow 1
        tcp 192.0.2.1 80 shows other.test -> deny
        tcp 192.0.2.1 80 shows x.example.test -> deny
        tcp 192.0.2.1 80 shows xexample.test -> deny
        tcp 192.0.2.1 80 looked -> allow 1
        udp 192.0.2.1 443 -> allow 1
        icmp 192.0.2.1 0 -> allow 1
        tcp 192.0.2.9 80 -> deny
        tcp 192.0.2.9 80 shows example.test -> deny
        tcp 192.0.2.2 443 -> look 2
        tcp 192.0.2.2 80 -> deny
        tcp 192.0.2.2 443 shows a.example.org -> allow 2
        tcp 192.0.2.2 443 shows b.example.org -> deny
        tcp 192.0.2.2 443 shows a.b.example.org -> deny
        tcp 192.0.2.3 443 -> deny
        tcp 192.0.2.3 443 shows example.org -> deny
        tcp 2001:db8::2 443 -> look 2
        tcp 2001:db8::2 443 shows a.b.example.org -> allow 2
        udp 2001:db8::2 443 -> allow 2
        in tcp 192.0.2.1 80 -> allow)"},
};

const Scenario kDeniedNames[] = {
    {"the denial of a name needs no pin", R"(deny egress bad.test
deny egress *.bad.test:443
allow egress any)",
     "bad.test 192.0.2.66, worse.bad.test 192.0.2.67", R"(
        tcp 192.0.2.1 80 -> look 3
        tcp 192.0.2.1 80 looked -> allow 3
        tcp 192.0.2.1 80 shows bad.test -> deny 1
        tcp 192.0.2.1 80 shows good.test -> allow 3
        tcp 192.0.2.1 443 shows worse.bad.test -> deny 2
        tcp 192.0.2.1 80 shows worse.bad.test -> allow 3
        tcp 192.0.2.66 80 -> deny 1
        udp 192.0.2.66 80 -> deny 1
        icmp 192.0.2.66 0 -> deny 1
        tcp 192.0.2.66 80 looked -> deny 1
        tcp 192.0.2.66 80 shows good.test -> allow 3
        tcp 192.0.2.67 443 -> deny 2
        tcp 192.0.2.67 80 -> look 3
        udp 192.0.2.1 80 -> allow 3
        tcp 10.0.2.2 80 -> deny
        tcp 10.0.2.2 443 shows worse.bad.test -> deny 2)"},
    {"a look only where it may change something", R"(allow egress 192.0.2.0/24
deny egress bad.test:80
allow egress good.test
allow egress 198.51.100.0/24)",
     "good.test 198.51.100.1, good.test 203.0.113.1", R"(
        tcp 192.0.2.1 80 -> allow 1
        tcp 192.0.2.1 80 shows bad.test -> allow 1
        tcp 198.51.100.1 80 -> look 3
        tcp 198.51.100.1 443 -> allow 3
        tcp 198.51.100.2 80 -> look 4
        tcp 198.51.100.2 443 -> allow 4
        udp 198.51.100.2 80 -> allow 4
        tcp 203.0.113.1 443 -> look 3
        tcp 203.0.113.1 443 shows bad.test -> deny
        tcp 203.0.113.1 80 shows bad.test -> deny 2
        tcp 203.0.113.2 443 -> deny)"},
};

const Scenario kNamesAndAddresses[] = {
    {"names and addresses decide in the order of the text", R"(deny egress 192.0.2.1:80
allow egress a.test
deny egress 192.0.2.1
deny egress *.test
allow egress *.b.test
allow egress b.test)",
     "a.test 192.0.2.1, b.test 192.0.2.2, c.b.test 192.0.2.2", R"(
        tcp 192.0.2.1 80 shows a.test -> deny 1
        tcp 192.0.2.1 443 shows a.test -> allow 2
        tcp 192.0.2.1 443 -> look 2
        tcp 192.0.2.1 443 shows b.test -> deny 3
        tcp 192.0.2.3 443 shows a.test -> deny 4
        tcp 192.0.2.2 443 shows c.b.test -> deny 4
        tcp 192.0.2.2 443 -> deny 4
        tcp 192.0.2.2 443 shows test -> deny)"},
};

// How many questions it has.
int Play(const Scenario& scenario) {
  SCOPED_TRACE(scenario.what);
  const auto policy = PolicyOf(scenario.policy);
  NamePins pins;
  Pin(pins, scenario.pins);
  std::istringstream lines(scenario.questions);
  int count = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.empty()) continue;
    const size_t arrow = line.find(" -> ");
    EXPECT_NE(arrow, std::string::npos) << line;
    const AskedQuestion asked(line.substr(0, arrow));
    const Decision decision = policy->Decide(asked.question, Context(), pins, kNow);
    EXPECT_EQ(ToString(decision), line.substr(arrow + 4)) << line;
    EXPECT_EQ(decision.group, GroupOf(asked.question.address, Context())) << line;
    ++count;
  }
  return count;
}

// With those of the groups and the profiles, more than 1,500 decisions.
TEST(Policy, DecidesAsTheTablesSay) {
  int count = 0;
  for (const std::span<const Scenario> table :
       {std::span<const Scenario>(kByAddress), std::span<const Scenario>(kAtTheEnds),
        std::span<const Scenario>(kByPort), std::span<const Scenario>(kShut),
        std::span<const Scenario>(kByName), std::span<const Scenario>(kDeniedNames),
        std::span<const Scenario>(kNamesAndAddresses)}) {
    for (const Scenario& scenario : table) count += Play(scenario);
  }
  EXPECT_GE(count, 150);
}

TEST(Policy, ARuleOutlivesItsPolicy) {
  Decision decision;
  {
    const auto policy = PolicyOf("# first\n\n  allow\tegress   192.0.2.1:80  # the server\n");
    decision = Ask(*policy, "tcp 192.0.2.1 80");
    EXPECT_EQ(policy->rule_count(), 1u);
  }
  ASSERT_NE(decision.rule, nullptr);
  EXPECT_EQ(decision.rule->text, "allow egress 192.0.2.1:80");
  EXPECT_EQ(decision.rule->line, 3u);
}

TEST(Policy, PinsEnd) {
  const auto policy = PolicyOf("allow egress example.test");
  NamePins pins;
  Pin(pins, "example.test 192.0.2.1");
  const AskedQuestion asked("udp 192.0.2.1 443");
  const auto at = [&](int seconds) {
    const Time now = kNow + std::chrono::seconds(seconds);
    return ToString(policy->Decide(asked.question, Context(), pins, now));
  };
  EXPECT_EQ(at(59), "allow 1");
  EXPECT_EQ(at(60), "deny");
}

}  // namespace
}  // namespace penstock
