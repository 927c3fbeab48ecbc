#include "stack/policy/policy_text.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/stack/policy/policy_question.h"
#include "tests/support/places.h"

namespace penstock {
namespace {

using Kind = PolicyTarget::Kind;

PolicyTarget Target(std::string_view text) {
  const auto target = ParsePolicyTarget(text, "test");
  EXPECT_TRUE(target.ok()) << target.status().message();
  return target.ok() ? *target : PolicyTarget();
}

// What was read, in one line.
std::string Read(std::string_view text) {
  const PolicyTarget target = Target(text);
  std::string read;
  switch (target.kind) {
    case Kind::kAny:
      read = "any";
      break;
    case Kind::kNetwork:
      read = target.address.ToString() + "/" + std::to_string(target.prefix_length);
      break;
    case Kind::kGroup:
      read = "group " + std::string(Name(target.group));
      break;
    case Kind::kName:
      read = "name " + target.name;
      break;
    case Kind::kNameBelow:
      read = "below " + target.name;
      break;
  }
  for (const PortRange& range : target.ports) read += " " + ToString(range);
  for (const auto protocol : {PolicyProtocol::kTcp, PolicyProtocol::kUdp, PolicyProtocol::kIcmp}) {
    if (target.has(protocol)) read += " " + std::string(Name(protocol));
  }
  return read;
}

TEST(PolicyText, Targets) {
  EXPECT_EQ(Read("any"), "any tcp udp icmp");
  EXPECT_EQ(Read("any:443"), "any 443 tcp udp");
  EXPECT_EQ(Read("any:80,443,8000-8099/tcp"), "any 80 443 8000-8099 tcp");
  EXPECT_EQ(Read("any/icmp"), "any icmp");
  EXPECT_EQ(Read("any/udp,tcp,udp"), "any tcp udp");
  EXPECT_EQ(Read("any:1-65535"), "any 1-65535 tcp udp");
  EXPECT_EQ(Read("any:7-7"), "any 7 tcp udp");
  EXPECT_EQ(Read("@host"), "group host tcp udp icmp");
  EXPECT_EQ(Read("@metadata/tcp"), "group metadata tcp");
  EXPECT_EQ(Read("@loopback:1"), "group loopback 1 tcp udp");
  EXPECT_EQ(Read("@private"), "group private tcp udp icmp");
  EXPECT_EQ(Read("@link-local:5353/udp"), "group link-local 5353 udp");
  EXPECT_EQ(Read("@multicast"), "group multicast tcp udp icmp");
  EXPECT_EQ(Read("@public"), "group public tcp udp icmp");
}

TEST(PolicyText, Addresses) {
  EXPECT_EQ(Read("192.0.2.1"), "192.0.2.1/32 tcp udp icmp");
  EXPECT_EQ(Read("192.0.2.1:443/tcp"), "192.0.2.1/32 443 tcp");
  EXPECT_EQ(Read("10.0.0.0/8:5432/tcp"), "10.0.0.0/8 5432 tcp");
  EXPECT_EQ(Read("10.0.0.0/8/tcp"), "10.0.0.0/8 tcp");
  EXPECT_EQ(Read("10.0.0.0/8"), "10.0.0.0/8 tcp udp icmp");
  EXPECT_EQ(Read("0.0.0.0/0"), "0.0.0.0/0 tcp udp icmp");
  EXPECT_EQ(Read("192.0.2.1/32"), "192.0.2.1/32 tcp udp icmp");
  EXPECT_EQ(Read("2001:db8::/32"), "2001:db8::/32 tcp udp icmp");
  EXPECT_EQ(Read("2001:DB8::1"), "2001:db8::1/128 tcp udp icmp");
  EXPECT_EQ(Read("::"), "::/128 tcp udp icmp");
  EXPECT_EQ(Read("::/0"), "::/0 tcp udp icmp");
  EXPECT_EQ(Read("[2001:db8::/32]:443/tcp"), "2001:db8::/32 443 tcp");
  EXPECT_EQ(Read("[2001:db8::/32]/udp"), "2001:db8::/32 udp");
  EXPECT_EQ(Read("[2001:db8::1]"), "2001:db8::1/128 tcp udp icmp");
  EXPECT_EQ(Read("[2001:db8::1]:443"), "2001:db8::1/128 443 tcp udp");
}

TEST(PolicyText, MappedAddressesAreTheIpv4Address) {
  EXPECT_EQ(Read("::ffff:192.0.2.1"), "192.0.2.1/32 tcp udp icmp");
  EXPECT_EQ(Read("::ffff:c000:201"), "192.0.2.1/32 tcp udp icmp");
  EXPECT_EQ(Read("[::ffff:10.0.0.0/104]:443"), "10.0.0.0/8 443 tcp udp");
  EXPECT_EQ(Read("::ffff:0:0/96"), "0.0.0.0/0 tcp udp icmp");
  EXPECT_EQ(Read("::/95"), "::/95 tcp udp icmp");
}

TEST(PolicyText, Names) {
  EXPECT_EQ(Read("example.test"), "name example.test tcp udp icmp");
  EXPECT_EQ(Read("Example.TEST.:443"), "name example.test 443 tcp udp");
  EXPECT_EQ(Read("*.Example.test./tcp"), "below example.test tcp");
  EXPECT_EQ(Read("*.test"), "below test tcp udp icmp");
  EXPECT_EQ(Read("localhost"), "name localhost tcp udp icmp");
  EXPECT_EQ(Read("public."), "name public tcp udp icmp");
  EXPECT_EQ(Read("_dmarc.a-b.xn--bcher-kva.test"),
            "name _dmarc.a-b.xn--bcher-kva.test tcp udp icmp");
  EXPECT_EQ(Read("1.2.3.4.test"), "name 1.2.3.4.test tcp udp icmp");
  EXPECT_EQ(Read("0xff.example"), "name 0xff.example tcp udp icmp");
  EXPECT_EQ(Read("dead.beef"), "name dead.beef tcp udp icmp");
  const std::string label(63, 'a');
  const std::string longest = label + "." + label + "." + label + "." + std::string(61, 'a');
  EXPECT_EQ(longest.size(), 253u);
  EXPECT_EQ(Read(longest), "name " + longest + " tcp udp icmp");
}

TEST(PolicyText, Lines) {
  const auto policy = ParsePolicyText(
      "# a comment, with \xc3\xa4 in it\n"
      "\n"
      "  allow \t egress  any:443/tcp   # another\r\n"
      "default egress allow# and another\n"
      "\t\n"
      "deny ingress 203.0.113.0/24#\n"
      "default ingress deny",
      "policy");
  ASSERT_TRUE(policy.ok()) << policy.status().message();
  ASSERT_EQ(policy->rules.size(), 2u);
  EXPECT_EQ(policy->rules[0].written.text, "allow egress any:443/tcp");
  EXPECT_EQ(policy->rules[0].written.line, 3u);
  EXPECT_TRUE(policy->rules[0].allow);
  EXPECT_EQ(policy->rules[0].direction, Direction::kEgress);
  EXPECT_EQ(policy->rules[1].written.text, "deny ingress 203.0.113.0/24");
  EXPECT_EQ(policy->rules[1].written.line, 6u);
  EXPECT_FALSE(policy->rules[1].allow);
  EXPECT_EQ(policy->rules[1].direction, Direction::kIngress);
  EXPECT_TRUE(policy->allow_by_default[0]);
  EXPECT_FALSE(policy->allow_by_default[1]);
}

TEST(PolicyText, DefaultsOfDefaults) {
  const auto policy = ParsePolicyText("", "policy");
  ASSERT_TRUE(policy.ok());
  EXPECT_FALSE(policy->allow_by_default[0]);
  EXPECT_TRUE(policy->allow_by_default[1]);
}

struct Mistake {
  const char* text;
  size_t column;         // from 1
  const char* sentence;  // how it begins
};

// Of what follows "allow egress ".
const Mistake kWrongNames[] = {
    {"@privat", 1, "there is no group \"@privat\": the groups are @host, @metadata,"},
    {"@", 1, "there is no group \"@\""},
    {"@Private", 1, "there is no group \"@Private\""},
    {"private:80", 1, "a group has an @ in front: write @private (or private. for"},
    {"*", 1, "everything is called any"},
    {"all", 1, "everything is called any"},
    {"*example.test", 1, "a * stands for whole labels in front"},
    {"*.*.example.test", 3, "a * stands for whole labels in front"},
    {"a.*.test", 3, "a * stands for whole labels in front"},
    {":443", 1, "the destination is missing"},
    {"/tcp", 1, "the destination is missing"},
    {"a..test", 1, "this is no name: it has 1 to 63 characters between two dots"},
    {".test", 1, "this is no name"},
    {"a.test..", 1, "this is no name"},
    {"*.", 3, "this is no name"},
    {"a$b.test", 2, "a name holds letters, digits, hyphens, underscores and dots, not \"$\""},
    {"http://a.test", 5, "a URL is no destination"},
};
const Mistake kWrongAddresses[] = {
    {"a.test/24", 7, "only an address has the length of a prefix behind it: leave /24 out"},
    {"any/8", 4, "only an address has the length of a prefix behind it"},
    {"@private/8:80", 9, "only an address has the length of a prefix behind it"},
    {"10.0.0.256", 1, "\"10.0.0.256\" is no IPv4 address"},
    {"10/8", 1, "\"10\" is no IPv4 address"},
    {"010.0.0.1", 1, "\"010.0.0.1\" is no IPv4 address"},
    {"a.1", 1, "\"a.1\" is no IPv4 address"},
    {"0x7f000001", 1, "\"0x7f000001\" is no IPv4 address"},
    {"10.0.0.1/8", 1,
     "the address has bits behind its prefix: write 10.0.0.0/8 for the network, "
     "or 10.0.0.1 for the one address"},
    {"[2001:db8::1/32]:80", 2, "the address has bits behind its prefix: write 2001:db8::/32"},
    {"::ffff:0:0/80", 1, "the address has bits behind its prefix: write ::/80"},
    {"10.0.0.0/33", 10, "the length of the prefix is \"33\": it must be 0 to 32"},
    {"10.0.0.0/08", 10, "the length of the prefix is \"08\""},
    {"[::/129]", 5, "the length of the prefix is \"129\": it must be 0 to 128"},
    {"[::/]", 5, "the length of the prefix is \"\""},
    {"::/x", 3,
     "behind an IPv6 address ports and protocols need brackets around it: write "
     "[::]/x"},
    {"2001:db8::/32:443/tcp", 14,
     "behind an IPv6 address ports and protocols need brackets around "
     "it: write [2001:db8::/32]:443/tcp"},
    {"2001:db8::1/tcp", 12,
     "behind an IPv6 address ports and protocols need brackets around it: "
     "write [2001:db8::1]/tcp"},
    {"[2001:db8::1]/64", 14,
     "the length of the prefix stands inside of the brackets: write such "
     "as [2001:db8::1/64]"},
    {"[2001:db8::1", 1, "the bracket is not closed"},
    {"[2001:db8::1]443", 14, "behind the bracket come ports or protocols"},
    {"[192.0.2.1]:80", 2, "brackets are for IPv6 addresses: write 192.0.2.1 without them"},
    {"[a.test]", 2, "brackets are for IPv6 addresses"},
    {"[]", 2, "the destination is missing"},
    {"2001:db8:::1", 1, "\"2001:db8:::1\" is no IPv6 address"},
    {"[fe80::1%eth0]:80", 9, "a rule's address has no zone: leave %eth0 out"},
    {"fe80::1%1", 8, "a rule's address has no zone"},
    {"fe80::1%eth0/64", 8, "a rule's address has no zone"},
};
const Mistake kWrongPorts[] = {
    {"any:", 5, "a port is missing here"},
    {"any:80,", 8, "a port is missing here"},
    {"any:,80", 5, "a port is missing here"},
    {"any:80-", 8, "a port is missing here"},
    {"any:-80", 5, "a port is missing here"},
    {"any:0", 5, "the port is \"0\": it must be 1 to 65535"},
    {"any:65536", 5, "the port is \"65536\""},
    {"any:99999999999999999999", 5, "the port is \"99999999999999999999\""},
    {"any:080", 5, "the port is \"080\""},
    {"any:1-65536", 7, "the port is \"65536\""},
    {"any:0-1", 5, "the port is \"0\""},
    {"any:http", 5, "the port is \"http\""},
    {"any:90-80", 5, "the ports 90-80 go down: write 80-90"},
    {"any:80-90-100", 8, "the port is \"90-100\""},
    {"a.test:80:90", 10, "this colon is too much"},
    {"any/", 5, "a protocol is missing here"},
    {"any/tcp,", 9, "a protocol is missing here"},
    {"any/sctp", 5, "the protocol is \"sctp\": it must be tcp, udp or icmp"},
    {"any/TCP", 5, "the protocol is \"TCP\""},
    {"any/tcp:80", 5, "protocols come last"},
    {"any/tcp/udp", 5, "the protocol is \"tcp/udp\""},
    {"any:80/icmp", 8, "icmp has no ports"},
    {"any:80/tcp,icmp", 12, "icmp has no ports"},
};

std::string Caret(std::string_view line, size_t column) {
  return "\n  " + std::string(line) + "\n  " + std::string(column - 1, ' ') + "^";
}

void ExpectTold(const Mistake& mistake) {
  const auto& [text, column, sentence] = mistake;
  const auto target = ParsePolicyTarget(text, "--allow");
  ASSERT_FALSE(target.ok()) << text;
  const std::string message(target.status().message());
  EXPECT_EQ(target.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(message.starts_with("--allow:" + std::to_string(column) + ": " + sentence))
      << text << " is told as\n"
      << message;
  EXPECT_TRUE(message.ends_with(Caret(text, column))) << message;
  // The same within a policy.
  const std::string line = "allow egress " + std::string(text);
  const auto policy = ParsePolicyText("\n" + line + "\n", "policy");
  ASSERT_FALSE(policy.ok()) << text;
  const std::string place = "policy:2:" + std::to_string(column + 13) + ": " + sentence;
  EXPECT_TRUE(std::string(policy.status().message()).starts_with(place))
      << policy.status().message();
}

TEST(PolicyText, MistakesInTargets) {
  for (const Mistake& mistake : kWrongNames) ExpectTold(mistake);
  for (const Mistake& mistake : kWrongAddresses) ExpectTold(mistake);
  for (const Mistake& mistake : kWrongPorts) ExpectTold(mistake);
}

const Mistake kLines[] = {
    {"permit egress any", 1, "a line begins with allow, deny or default, not with \"permit\""},
    {"  Allow egress any", 3, "a line begins with allow, deny or default, not with \"Allow\""},
    {"allow", 6, "the direction is missing: write egress or ingress"},
    {"allow # egress", 6, "the direction is missing"},
    {"allow out any", 7, "the direction is \"out\": it must be egress or ingress"},
    {"deny egress", 12, "the destination is missing"},
    {"deny egress   # any", 12, "the destination is missing"},
    {"deny egress any tcp", 17, "nothing may follow the destination"},
    {"deny egress any : 80", 17, "nothing may follow the destination"},
    {"allow ingress example.test", 15, "a name is for egress only"},
    {"allow ingress *.example.test:80", 15, "a name is for egress only"},
    {"default", 8, "the direction is missing"},
    {"default any allow", 9, "the direction is \"any\""},
    {"default egress", 15, "behind default egress stands allow or deny"},
    {"default ingress permit", 17, "behind default ingress stands allow or deny, not \"permit\""},
    {"default egress deny any", 21, "nothing may follow a default"},
    {"allow egress b\xc3\xbc"
     "cher.test",
     15,
     "there is a character that is not of ASCII: write a "
     "name with other letters in its xn-- form"},
    {"allow egress any\x1b[0m", 17, "there is a control character"},
    {"allow egress any # \x07", 20, "there is a control character"},
    {"allow egress any\r # x", 17, "there is a control character"},
    {"\x7f", 1, "there is a control character"},
};

TEST(PolicyText, MistakesInLines) {
  for (const auto& [text, column, sentence] : kLines) {
    const auto policy = ParsePolicyText("# first\n" + std::string(text) + "\n# last\n", "p");
    ASSERT_FALSE(policy.ok()) << text;
    const std::string message(policy.status().message());
    EXPECT_TRUE(message.starts_with("p:2:" + std::to_string(column) + ": " + sentence))
        << text << " is told as\n"
        << message;
    EXPECT_EQ(message.substr(message.rfind('\n')), "\n  " + std::string(column - 1, ' ') + "^");
    EXPECT_TRUE(std::all_of(message.begin(), message.end(), [](char c) {
      return c == '\n' || (c >= ' ' && c <= '~');
    })) << message;
  }
}

TEST(PolicyText, AMistakeIsShownUnderItsLine) {
  const auto policy = Policy::Parse("allow egress any:443\n\tdeny egress @privat\n");
  ASSERT_FALSE(policy.ok());
  EXPECT_EQ(policy.status().message(),
            "policy:2:14: there is no group \"@privat\": the groups are @host, @metadata, "
            "@loopback, @private, @link-local, @multicast and @public\n"
            "   deny egress @privat\n"
            "               ^");
}

TEST(PolicyText, ADefaultIsGivenOnce) {
  const auto policy = Policy::Parse(
      "default egress deny\ndefault ingress deny\n"
      "default egress deny\n");
  ASSERT_FALSE(policy.ok());
  EXPECT_TRUE(std::string(policy.status().message())
                  .starts_with("policy:3:1: the default of egress is in line 1 already"));
}

TEST(PolicyText, TargetsOfOptionsAreOneWord) {
  for (const auto& [text, column, sentence] :
       {Mistake{"", 1, "nothing is written here"}, Mistake{"a b", 2, "there is a space"},
        Mistake{"a\tb", 2, "there is a character that is not of printable ASCII"},
        Mistake{"\xc3\xa4.test", 1, "there is a character that is not of printable ASCII"}}) {
    const auto target = ParsePolicyTarget(text, "--deny");
    ASSERT_FALSE(target.ok());
    EXPECT_TRUE(std::string(target.status().message())
                    .starts_with("--deny:" + std::to_string(column) + ": " + sentence))
        << target.status().message();
  }
  const auto target = ParsePolicyTarget(std::string(10'000, 'a'), "--deny");
  ASSERT_FALSE(target.ok());
  EXPECT_LT(target.status().message().size(), 200u);
}

TEST(PolicyText, ThereAreLimits) {
  const auto message = [](std::string_view text) {
    const auto policy = Policy::Parse(text);
    return policy.ok() ? std::string("ok") : std::string(policy.status().message());
  };
  std::string rules;
  for (size_t i = 0; i < kPolicyRuleCountMax; ++i) rules += "deny egress any:1\n";
  EXPECT_EQ(message(rules), "ok");
  EXPECT_TRUE(message(rules + "# more\nallow egress any\n")
                  .starts_with("policy:65538:1: this is one rule too many: a policy has at most "
                               "65536\n"));
  const std::string longest = "#" + std::string(kPolicyLineBytesMax - 1, 'x');
  EXPECT_EQ(message(longest + "\n" + longest), "ok");
  EXPECT_EQ(message("\n" + longest + "x\n"),
            "policy:2:1201: the line has 1201 bytes: at most 1200 are read, divide the rule");
  EXPECT_EQ(message(std::string(kPolicyTextBytesMax, '\n')), "ok");
  EXPECT_EQ(message(std::string(kPolicyTextBytesMax + 1, '\n')),
            "policy: the text has 4194305 bytes: at most 4194304 are read");
  std::string ports = "deny egress any:1";
  for (size_t i = 1; i < kPolicyPortRangesMax; ++i) ports += "," + std::to_string(2 * i);
  EXPECT_EQ(message(ports), "ok");
  const std::string place = "policy:1:" + std::to_string(ports.size() + 2);
  EXPECT_TRUE(message(ports + ",9")
                  .starts_with(place + ": a rule has at most 64 ranges of ports: divide it"));
}

// What the README shows as a policy is one.
TEST(PolicyText, TheReadmesExamplesAreRead) {
  std::ifstream file(SourcePath("stack/policy/README.md"));
  const std::string readme{std::istreambuf_iterator<char>(file), {}};
  const std::string begin = "```policy\n", end = "```\n";
  int count = 0;
  for (size_t at = readme.find(begin); at != std::string::npos; at = readme.find(begin, at)) {
    at += begin.size();
    const auto policy = Policy::Parse(readme.substr(at, readme.find(end, at) - at), "README.md");
    EXPECT_TRUE(policy.ok()) << policy.status().message();
    EXPECT_TRUE(!policy.ok() || (*policy)->rule_count() > 0);
    ++count;
  }
  EXPECT_GE(count, 3);
}

}  // namespace
}  // namespace penstock
