// Wrong options: exit status 2 and one clear sentence on stderr, before anything is
// touched. Right ones: what they mean.
#include "tools/penstock/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <fstream>

#include "tests/tools/program.h"

namespace penstock::tool {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

struct WrongCase {
  const char* name;
  std::vector<std::string> words;
  const char* says;  // the sentence holds it

  friend void PrintTo(const WrongCase& wrong, std::ostream* out) { *out << wrong.name; }
};

class WrongOptions : public testing::TestWithParam<WrongCase> {};

TEST_P(WrongOptions, AreOneSentenceAndStatusTwo) {
  std::vector<std::string> words{"penstock"};
  words.insert(words.end(), GetParam().words.begin(), GetParam().words.end());
  const Outcome outcome = RunProgram(words);
  EXPECT_EQ(outcome.status, 2);
  EXPECT_EQ(outcome.output, "");
  EXPECT_THAT(outcome.errors, StartsWith("penstock: "));
  EXPECT_THAT(outcome.errors, EndsWith("\n"));
  EXPECT_EQ(std::count(outcome.errors.begin(), outcome.errors.end(), '\n'), 1) << outcome.errors;
  EXPECT_THAT(outcome.errors, HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(
    All, WrongOptions,
    testing::Values(
        WrongCase{"NoCommand", {}, "penstock run"}, WrongCase{"UnknownCommand", {"fly"}, "fly"},
        WrongCase{"UnknownOption", {"run", "--fast", "--", "true"}, "--fast"},
        WrongCase{"RunNothing", {"run"}, "COMMAND"},
        WrongCase{"RunNothingAfterDashes", {"run", "--"}, "COMMAND"},
        WrongCase{"RunWithoutDashes", {"run", "true"}, "true"},
        WrongCase{"MtuNoNumber", {"run", "--mtu", "big", "--", "true"}, "--mtu"},
        WrongCase{"MtuSmall", {"run", "--mtu", "1279", "--", "true"}, "1279"},
        WrongCase{"MtuSmallIpv4", {"run", "--no-ipv6", "--mtu", "575", "--", "true"}, "575"},
        WrongCase{"MtuLarge", {"run", "--mtu", "65522", "--", "true"}, "65522"},
        WrongCase{"NoFamily", {"run", "--no-ipv4", "--no-ipv6", "--", "true"}, "ipv"},
        WrongCase{"Threads", {"run", "--relay-threads", "65", "--", "true"}, "--relay-threads"},
        WrongCase{"BusyPoll", {"run", "--busy-poll", "10001", "--", "true"}, "0 to 10000"},
        WrongCase{"BusyPollBesideThreads",
                  {"run", "--busy-poll", "9", "--relay-threads", "1", "--", "true"},
                  "it needs --relay-threads 0"},
        WrongCase{"ThreadsText", {"run", "--relay-threads", "some", "--", "true"}, "some"},
        WrongCase{"Search", {"run", "--search", "a..b", "--", "true"}, "no domain name"},
        WrongCase{"HostName", {"run", "--guest-hostname", "a b", "--", "true"}, "letters"},
        WrongCase{"Pool", {"run", "--dhcp-pool", "10.0.2.15", "--", "true"}, "two addresses"},
        WrongCase{"PoolElsewhere",
                  {"run", "--dhcp-pool", "10.0.3.1-10.0.3.9", "--", "true"},
                  "outside the link's prefix"},
        WrongCase{"LeaseTime", {"run", "--lease-time", "1", "--", "true"}, "two seconds"},
        WrongCase{"UdpFiltering",
                  {"run", "--udp-filtering", "some", "--", "true"},
                  "--udp-filtering is \"some\": it must be address-and-port, address or none"},
        WrongCase{"Impair", {"run", "--impair", "drop=101%", "--", "true"}, "--impair"},
        WrongCase{
            "GuestWithoutLength", {"run", "--guest-ip4", "10.1.1.1", "--", "true"}, "--guest-ip4"},
        WrongCase{"GuestOfOtherFamily",
                  {"run", "--guest-ip4", "fd00::9/64", "--", "true"},
                  "--guest-ip4"},
        WrongCase{
            "GatewayNoAddress", {"run", "--gateway-ip6", "here", "--", "true"}, "--gateway-ip6"},
        WrongCase{
            "DialTimeoutZero", {"run", "--dial-timeout", "0", "--", "true"}, "--dial-timeout"},
        WrongCase{
            "DialTimeoutNan", {"run", "--dial-timeout", "nan", "--", "true"}, "--dial-timeout"},
        WrongCase{"KeepaliveNegative",
                  {"run", "--keepalive-idle", "-1", "--", "true"},
                  "--keepalive-idle"},
        WrongCase{
            "BufferLimit", {"run", "--buffer-limit", "1parsec", "--", "true"}, "--buffer-limit"},
        WrongCase{
            "BufferLimitSmall", {"run", "--buffer-limit", "4KiB", "--", "true"}, "--buffer-limit"},
        WrongCase{"FlowLimitZero", {"run", "--flow-limit", "0", "--", "true"}, "--flow-limit"},
        WrongCase{"StatsFolder",
                  {"run", "--stats-file", "/no/such/folder/s", "--", "true"},
                  "--stats-file"},
        WrongCase{"PcapEmpty", {"run", "--pcap", "", "--", "true"}, "--pcap"},
        WrongCase{"GuestPrefixWithoutLength",
                  {"run", "--guest-prefix", "172.20.0.0", "--", "true"},
                  "--guest-prefix is \"172.20.0.0\": it must be a network"},
        WrongCase{"GuestPrefixBits",
                  {"run", "--guest-prefix", "172.20.0.1/16", "--", "true"},
                  "write 172.20.0.0/16"},
        WrongCase{"GuestPrefixOfFamilyOff",
                  {"run", "--no-ipv6", "--guest-prefix", "fd20::/48", "--", "true"},
                  "--no-ipv6"},
        WrongCase{"Identity",
                  {"run", "-p", "8080:80", "--client-identity", "me", "--", "true"},
                  "gateway, preserve-source or proxy-protocol"},
        WrongCase{"IdentityOfNothing",
                  {"run", "--client-identity", "gateway", "--", "true"},
                  "--publish"},
        WrongCase{"ControlFolder",
                  {"run", "--control", "/no/such/folder/c", "--", "true"},
                  "--control is \"/no/such/folder/c\": its folder is not there"},
        WrongCase{"ControlLong",
                  {"run", "--control", "/tmp/" + std::string(103, 'c'), "--", "true"},
                  "give a shorter one"},
        WrongCase{"ControlEmpty", {"run", "--control", "", "--", "true"}, "--control"},
        WrongCase{"PublishNothing", {"run", "--publish", "--", "true"}, "--publish"},
        WrongCase{"PortsNothing", {"ports"}, "add, remove or list"},
        WrongCase{"PortsUnknown", {"ports", "fly"}, "fly"},
        WrongCase{"PortsNowhere", {"ports", "list"}, "--control"},
        WrongCase{"PortsAddNothing", {"ports", "add", "--control", "/c"}, "SPEC"},
        WrongCase{"PortsRemoveNothing", {"ports", "remove", "--control", "/c"}, "SPEC"},
        WrongCase{"PortsListSomething", {"ports", "list", "--control", "/c", "80"}, "80"},
        WrongCase{"PortsCommand", {"ports", "list", "--control", "/c", "--", "true"}, "--"},
        WrongCase{"PortsIdentity",
                  {"ports", "add", "--control", "/c", "--client-identity", "me", "1:2"},
                  "gateway, preserve-source or proxy-protocol"},
        WrongCase{"Profile",
                  {"run", "--profile", "some", "--", "true"},
                  "--profile is \"some\": it must be public, none or all"},
        WrongCase{"ProfileEmpty", {"run", "--profile", "", "--", "true"}, "--profile is empty"},
        WrongCase{"ProfileAndPolicy",
                  {"run", "--profile", "all", "--policy", "/dev/null", "--", "true"},
                  "two policies"},
        WrongCase{"PolicyNowhere",
                  {"run", "--policy", "/no/such/file", "--", "true"},
                  "cannot read the policy /no/such/file: No such file"},
        WrongCase{"PolicyEmpty", {"run", "--policy", "", "--", "true"}, "--policy is empty"},
        WrongCase{"PlatformPolicyNowhere",
                  {"attach", "--pid", "1", "--platform-policy", "/no/such/file"},
                  "cannot read the policy /no/such/file: No such file"},
        WrongCase{"PolicyOfStandardInputTwice",
                  {"run", "--policy", "-", "--platform-policy", "-", "--", "true"},
                  "standard input"},
        WrongCase{"AllowNothing", {"run", "--allow", "--", "true"}, "--allow"},
        WrongCase{"OnDenial",
                  {"run", "--on-denial", "shout", "--", "true"},
                  "--on-denial is \"shout\": it must be reject, silence or page"},
        WrongCase{"NoDenialsOfAttach", {"attach", "--pid", "1", "--no-denials"}, "--no-denials"},
        WrongCase{"DnsServer",
                  {"run", "--dns-server", "dns.test", "--", "true"},
                  "--dns-server is \"dns.test\": it must be an address"},
        WrongCase{"DnsServerPort",
                  {"run", "--dns-server", "10.1.2.3:0", "--", "true"},
                  "--dns-server is \"10.1.2.3:0\""},
        WrongCase{"DnsHost",
                  {"run", "--dns-host", "db.test=10.1.2.3:80", "--", "true"},
                  "--dns-host is \"db.test=10.1.2.3:80\": it must be a name and its addresses"},
        WrongCase{"DnsHostName", {"run", "--dns-host", "a..b=10.1.2.3", "--", "true"}, "a..b"},
        WrongCase{"DnsZoneName", {"run", "--dns-zone", "a..b", "--", "true"}, "a..b"},
        WrongCase{"ResolvConfEmpty", {"run", "--resolv-conf", "", "--", "true"}, "--resolv-conf"},
        WrongCase{"ResolvConfAndServer",
                  {"run", "--resolv-conf", "/f", "--dns-server", "10.1.2.3", "--", "true"},
                  "both say whom to ask"},
        WrongCase{"NoDnsWithOptions",
                  {"run", "--no-dns", "--dns-intercept", "--", "true"},
                  "--no-dns answers no names, and --dns-intercept says how"},
        WrongCase{"EventsNowhere", {"events"}, "--control"},
        WrongCase{"EventsCountZero", {"events", "--control", "/c", "--count", "0"}, "--count"},
        WrongCase{"EventsCountText", {"events", "--control", "/c", "--count", "all"}, "--count"},
        WrongCase{"EventsSomething", {"events", "--control", "/c", "denied"}, "denied"},
        WrongCase{"EventsCommand", {"events", "--control", "/c", "--", "true"}, "--"},
        WrongCase{"FlowsNowhere", {"flows"}, "--control"},
        WrongCase{"FlowsWatchZero", {"flows", "--control", "/c", "--watch", "0"}, "--watch"},
        WrongCase{"FlowsWatchNan", {"flows", "--control", "/c", "--watch", "nan"}, "--watch"},
        WrongCase{"FlowsCountAlone", {"flows", "--control", "/c", "--count", "2"}, "--watch"},
        WrongCase{"PolicyNothing", {"policy"}, "show, set, check or explain"},
        WrongCase{"PolicyUnknown", {"policy", "fly"}, "fly"},
        WrongCase{"PolicyShowNowhere", {"policy", "show"}, "--control"},
        WrongCase{"PolicySetNowhere", {"policy", "set", "/f"}, "--control"},
        WrongCase{"PolicySetNothing", {"policy", "set", "--control", "/c"}, "FILE"},
        WrongCase{"PolicySetTwo", {"policy", "set", "--control", "/c", "/a", "/b"}, "one FILE"},
        WrongCase{"PolicyCheckNothing", {"policy", "check"}, "FILE"},
        WrongCase{"PolicyCheckInputTwice", {"policy", "check", "-", "-"}, "standard input"},
        WrongCase{"PolicyCheckNowhere",
                  {"policy", "check", "/no/such/file"},
                  "cannot read the policy /no/such/file"},
        WrongCase{"ExplainNoPolicy", {"policy", "explain", "tcp", "10.1.2.3:1"}, "--control PATH"},
        WrongCase{"ExplainTwoPolicies",
                  {"policy", "explain", "--profile", "all", "--control", "/c", "tcp", "10.1.2.3:1"},
                  "not several"},
        WrongCase{"ExplainNothing", {"policy", "explain", "--profile", "all"}, "a protocol and"},
        WrongCase{"ExplainProtocol",
                  {"policy", "explain", "--profile", "all", "sctp", "10.1.2.3:1"},
                  "a protocol and an address"},
        WrongCase{"ExplainNoPort",
                  {"policy", "explain", "--profile", "all", "tcp", "10.1.2.3"},
                  "\"10.1.2.3\" is not what tcp speaks to"},
        WrongCase{"ExplainIcmpPort",
                  {"policy", "explain", "--profile", "all", "icmp", "10.1.2.3:7"},
                  "is not what icmp speaks to"},
        WrongCase{"ExplainName",
                  {"policy", "explain", "--profile", "all", "tcp", "10.1.2.3:7", "--name", "a b"},
                  "--name is \"a b\""},
        WrongCase{"ExplainProfile",
                  {"policy", "explain", "--profile", "some", "tcp", "10.1.2.3:7"},
                  "public, none or all"},
        WrongCase{"AttachNowhere", {"attach"}, "--netns"},
        WrongCase{"AttachTwice", {"attach", "--netns", "/x", "--pid", "1"}, "--pid"},
        WrongCase{"AttachPidZero", {"attach", "--pid", "0"}, "--pid"},
        WrongCase{"AttachCommand", {"attach", "--pid", "1", "--", "true"}, "penstock run"},
        WrongCase{"TapLong", {"attach", "--pid", "1", "--tap", "sixteen-letters-"}, "--tap"},
        WrongCase{"TapSlash", {"attach", "--pid", "1", "--tap", "a/b"}, "--tap"},
        WrongCase{"TapPattern", {"attach", "--pid", "1", "--tap", "tap%d"}, "--tap"},
        WrongCase{"ReadyClosed", {"attach", "--pid", "1", "--ready-fd", "999"}, "--ready-fd"},
        WrongCase{"ServeNowhere", {"serve"}, "give --stream PATH, --dgram PATH or --fd N"},
        WrongCase{"ServeTwice", {"serve", "--stream", "/x", "--dgram", "/y"}, "one place"},
        WrongCase{"ServeCommand", {"serve", "--stream", "/x", "--", "true"}, "takes no command"},
        WrongCase{"ServePathEmpty", {"serve", "--stream", ""}, "--stream needs a path"},
        WrongCase{"ServePathLong",
                  {"serve", "--dgram", "/tmp/" + std::string(103, 'v')},
                  "--dgram is a path of 108 bytes"},
        WrongCase{"ServeClosed", {"serve", "--fd", "999"}, "--fd is 999, which is not open here"},
        WrongCase{"ServeNoSocket", {"serve", "--fd", "0"}, "--fd is 0, which is no socket"},
        WrongCase{"ServeConnectsWhere", {"serve", "--dgram", "/x", "--connect"}, "--connect"},
        WrongCase{"ServeOffload",
                  {"serve", "--stream", "/x", "--offload", "tso"},
                  "--offload is \"tso\": it must be none, from-guest or both"},
        WrongCase{"ServeNoGuests", {"serve", "--stream", "/x", "--guests", "0"}, "1 to 256"},
        WrongCase{"ServeGuestsByDatagrams",
                  {"serve", "--dgram", "/x", "--guests", "2"},
                  "only --stream PATH"},
        WrongCase{"ServeGuestsWithOnePort",
                  {"serve", "--stream", "/x", "--guests", "2", "-p", "8080:80"},
                  "cannot lead to 2 guests"},
        WrongCase{"ServeTapOption", {"serve", "--stream", "/x", "--no-offload"}, "--no-offload"},
        WrongCase{"ServeReady", {"serve", "--stream", "/x", "--ready-fd", "999"}, "--ready-fd"}),
    [](const auto& test) { return test.param.name; });

TEST(Options, AWrongSpecIsShownWithACaret) {
  const std::vector<std::vector<std::string>> cases = {
      {"penstock", "run", "-p", "1:2", "-p", "8080:70000/tcp", "--", "true"},
      {"penstock", "attach", "--pid", "1", "--publish", "8080:70000/tcp"},
      {"penstock", "ports", "add", "--control", "/c", "1:2", "8080:70000/tcp"},
      {"penstock", "ports", "remove", "--control", "/c", "8080:70000/tcp"}};
  for (const auto& words : cases) {
    const Outcome outcome = RunProgram(words);
    EXPECT_EQ(outcome.status, 2);
    EXPECT_EQ(outcome.output, "");
    EXPECT_THAT(outcome.errors, StartsWith("penstock: "));
    EXPECT_THAT(outcome.errors, EndsWith("the guest's port is 70000: it must be 1 to 65535\n"
                                         "  8080:70000/tcp\n"
                                         "       ^\n"));
  }
}

TEST(Options, AWrongPolicyIsShownWithACaret) {
  const TemporaryFolder folder;
  const std::string file = folder / "rules";
  std::ofstream(file) << "allow egress any\ndeny egress @privat\n";
  const std::vector<std::vector<std::string>> cases = {
      {"penstock", "run", "--policy", file, "--", "echo", "started"},
      {"penstock", "attach", "--pid", "1", "--platform-policy", file},
      {"penstock", "policy", "check", file},
      {"penstock", "policy", "set", "--control", "/no/such/c", file},
      {"penstock", "policy", "explain", "--policy", file, "tcp", "10.1.2.3:7"}};
  for (const auto& words : cases) {
    const Outcome outcome = RunProgram(words);
    EXPECT_EQ(outcome.status, 2) << words[1];
    EXPECT_EQ(outcome.output, "");
    EXPECT_THAT(outcome.errors, StartsWith("penstock: " + file + ":2:13: "));
    EXPECT_THAT(outcome.errors, EndsWith("\n  deny egress @privat\n              ^\n"));
  }
}

TEST(Options, AWrongTargetIsShownWithACaret) {
  for (const char* option : {"--allow", "--deny"}) {
    for (const char* target : {"", "@privat", "10.0.0.1/8", "a b", "any\nallow", "any#", "x:0",
                               "x/sctp", "http://example.test/"}) {
      const Outcome outcome = RunProgram(
          {"penstock", "run", "--allow", "example.test", option, target, "--", "echo", "started"});
      EXPECT_EQ(outcome.status, 2) << target;
      EXPECT_EQ(outcome.output, "");
      EXPECT_THAT(outcome.errors, StartsWith(std::string("penstock: ") + option));
      EXPECT_THAT(outcome.errors, EndsWith("^\n"));
    }
  }
}

TEST(Options, HelpOfPortsTeachesTheGrammar) {
  for (const char* order : {"add", "remove", "list"}) {
    const Outcome outcome = RunProgram({"penstock", "ports", order, "--help"});
    EXPECT_EQ(outcome.status, 0);
    EXPECT_EQ(outcome.errors, "");
    EXPECT_THAT(outcome.output, HasSubstr("--control PATH"));
    EXPECT_THAT(outcome.output, HasSubstr("--control /tmp/blue"));
  }
  EXPECT_THAT(RunProgram({"penstock", "ports", "--help"}).output, HasSubstr("Examples, for a"));
}

TEST(Options, HelpOfOrdersTeaches) {
  const std::vector<std::pair<std::vector<std::string>, const char*>> cases = {
      {{"events"}, "jq 'select"},
      {{"flows"}, "--watch 1"},
      {{"policy"}, "policy set --control /tmp/blue --reset rules.txt"},
      {{"policy", "show"}, "--platform"},
      {{"policy", "set"}, "--reset"},
      {{"policy", "check"}, "allow|deny egress|ingress DESTINATION"},
      {{"policy", "explain"}, "3 if it is denied"}};
  for (const auto& [command, says] : cases) {
    std::vector<std::string> words{"penstock"};
    words.insert(words.end(), command.begin(), command.end());
    words.push_back("--help");
    const Outcome outcome = RunProgram(words);
    EXPECT_EQ(outcome.status, 0);
    EXPECT_EQ(outcome.errors, "");
    EXPECT_THAT(outcome.output, HasSubstr(says));
    EXPECT_THAT(outcome.output, HasSubstr("Examples"));
  }
}

TEST(Options, PublishEachSpecWithTheIdentityOfAll) {
  const auto options =
      ParseOptions({"run", "-p", "8080:80", "--publish", "[::1]:0:53/udp", "-p", "*:1-3,~2:1-3",
                    "--client-identity", "preserve-source", "--control", "/tmp/c", "--", "true"});
  ASSERT_TRUE(options.ok()) << options.status();
  const CommonOptions& common = std::get<RunOptions>(*options).common;
  ASSERT_EQ(common.publish.size(), 3U);
  EXPECT_EQ(ToString(common.publish[0]), "127.0.0.1:8080:80/tcp");
  EXPECT_EQ(ToString(common.publish[1]), "[::1]:0:53/udp");
  EXPECT_EQ(ToString(common.publish[2]), "*:1-3,~2:1-3/tcp");
  for (const PortSpec& spec : common.publish) {
    EXPECT_EQ(spec.identity, ClientIdentity::kPreserveSource);
  }
  EXPECT_EQ(common.control, "/tmp/c");
}

TEST(Options, PortsTakeTheirOrders) {
  const auto add = ParseOptions({"ports", "add", "[::1]:80:80", "--control", "/c", "0:7",
                                 "--client-identity", "proxy-protocol"});
  ASSERT_TRUE(add.ok()) << add.status();
  const auto& adds = std::get<PortsOptions>(*add);
  EXPECT_EQ(adds.order, PortsOptions::Order::kAdd);
  EXPECT_THAT(adds.specs, ElementsAre("[::1]:80:80", "0:7"));
  EXPECT_EQ(adds.identity, ClientIdentity::kProxyProtocol);
  EXPECT_EQ(adds.control, "/c");
  const auto remove = ParseOptions({"ports", "remove", "--control", "/c", "80", "--reset"});
  ASSERT_TRUE(remove.ok()) << remove.status();
  EXPECT_TRUE(std::get<PortsOptions>(*remove).reset);
  EXPECT_THAT(std::get<PortsOptions>(*remove).specs, ElementsAre("80"));
  const auto list = ParseOptions({"ports", "list", "--control", "/c", "--json"});
  ASSERT_TRUE(list.ok()) << list.status();
  EXPECT_TRUE(std::get<PortsOptions>(*list).json);
}

// A virtual machine's next piece takes longer to come than a process's.
TEST(Options, ServeLooksLongerForTheNextPiece) {
  const auto busy_poll = [](std::vector<std::string> arguments) {
    const Options options = ParseOptions(std::move(arguments)).value();
    if (const auto* run = std::get_if<RunOptions>(&options)) return run->common.busy_poll;
    return std::get<ServeOptions>(options).common.busy_poll;
  };
  EXPECT_EQ(busy_poll({"run", "--", "true"}), AsioDriver::kBusyPoll);
  EXPECT_EQ(busy_poll({"serve", "--stream", "/x"}), std::chrono::microseconds(400));
  EXPECT_EQ(busy_poll({"serve", "--stream", "/x", "--busy-poll", "0"}), Duration::zero());
}

TEST(Options, ServeTakesItsPlaceAndWhatTheVmmDoes) {
  const auto options = ParseOptions({"serve", "--stream", "/tmp/vm", "--guests", "3", "--offload",
                                     "from-guest", "-p", "0:80", "--control", "/tmp/c"});
  ASSERT_TRUE(options.ok()) << options.status();
  const auto& serve = std::get<ServeOptions>(*options);
  EXPECT_EQ(serve.stream, "/tmp/vm");
  EXPECT_EQ(serve.guest_count_max, 3u);
  EXPECT_EQ(serve.offload, VmmOffload::kFromGuest);
  EXPECT_EQ(serve.common.control, "/tmp/c");
  EXPECT_TRUE(serve.common.tell_denials);
  const auto quiet = ParseOptions({"serve", "--dgram", "/tmp/vm", "--no-denials"});
  ASSERT_TRUE(quiet.ok()) << quiet.status();
  EXPECT_EQ(std::get<ServeOptions>(*quiet).offload, VmmOffload::kNone);
  EXPECT_FALSE(std::get<ServeOptions>(*quiet).common.tell_denials);
}

TEST(Options, HelpTeachesAndIsNoError) {
  for (const auto& [command, says] :
       {std::pair{"run", "Run"}, {"attach", "Serve"}, {"serve", "Is the network of"}}) {
    const Outcome outcome = RunProgram({"penstock", command, "--help"});
    EXPECT_EQ(outcome.status, 0);
    EXPECT_EQ(outcome.errors, "");
    EXPECT_THAT(outcome.output, StartsWith(says));
    EXPECT_THAT(outcome.output, HasSubstr("Examples"));
    EXPECT_THAT(outcome.output, HasSubstr("--host-loopback"));
  }
  EXPECT_EQ(RunProgram({"penstock", "--help"}).status, 0);
}

TEST(Options, TheCommandKeepsItsOptionsAndFurtherDashes) {
  const auto options = ParseOptions({"run", "--no-ipv6", "--", "cmd", "--mtu", "7", "--", "-h"});
  ASSERT_TRUE(options.ok()) << options.status();
  const auto& run = std::get<RunOptions>(*options);
  EXPECT_THAT(run.command, ElementsAre("cmd", "--mtu", "7", "--", "-h"));
  EXPECT_FALSE(run.common.config.ipv6.enabled);
  EXPECT_EQ(run.common.config.mtu, 1500U);
}

TEST(Options, SetTheConfiguration) {
  const auto options = ParseOptions({"attach",
                                     "--pid",
                                     "1",
                                     "--mtu",
                                     "9000",
                                     "--guest-ip4",
                                     "192.168.7.9/28",
                                     "--gateway-ip4",
                                     "192.168.7.1",
                                     "--dns-ip4",
                                     "192.168.7.2",
                                     "--guest-ip6",
                                     "fd07::9/80",
                                     "--gateway-ip6",
                                     "fd07::1",
                                     "--dns-ip6",
                                     "fd07::2",
                                     "--host-loopback",
                                     "--relay-threads",
                                     "3",
                                     "--flow-limit",
                                     "5000",
                                     "--buffer-limit",
                                     "64MiB",
                                     "--dial-timeout",
                                     "2.5",
                                     "--keepalive-idle",
                                     "60",
                                     "--no-offload",
                                     "--no-sandbox",
                                     "--no-configure",
                                     "--impair",
                                     "delay=10ms"});
  ASSERT_TRUE(options.ok()) << options.status();
  const auto& attach = std::get<AttachOptions>(*options);
  const Config& config = attach.common.config;
  EXPECT_EQ(config.mtu, 9000U);
  EXPECT_EQ(config.ipv4.guest.ToString(), "192.168.7.9");
  EXPECT_EQ(config.ipv4.prefix_length, 28);
  EXPECT_EQ(config.ipv4.gateway.ToString(), "192.168.7.1");
  EXPECT_EQ(config.ipv4.dns.ToString(), "192.168.7.2");
  EXPECT_EQ(config.ipv6.guest.ToString(), "fd07::9");
  EXPECT_EQ(config.ipv6.prefix_length, 80);
  EXPECT_EQ(config.ipv6.gateway.ToString(), "fd07::1");
  EXPECT_EQ(config.ipv6.dns.ToString(), "fd07::2");
  EXPECT_TRUE(config.host_loopback);
  EXPECT_EQ(config.relay_threads, 3);
  EXPECT_EQ(config.flow_count_max, 5000U);
  EXPECT_EQ(config.buffer_bytes_max, uint64_t{64} << 20);
  EXPECT_EQ(config.dial_timeout, std::chrono::milliseconds(2500));
  EXPECT_EQ(config.keepalive_idle, std::chrono::minutes(1));
  EXPECT_FALSE(attach.common.offload);
  EXPECT_FALSE(attach.common.confined);
  EXPECT_TRUE(attach.no_configure);
  EXPECT_TRUE(attach.common.impair.has_value());
}

TEST(Options, EventsAreTakenWhereSomebodyMayWatch) {
  const auto events = [](std::vector<std::string> words) {
    const auto options = ParseOptions(std::move(words));
    EXPECT_TRUE(options.ok()) << options.status();
    const auto* run = std::get_if<RunOptions>(&*options);
    const CommonOptions& common =
        run != nullptr ? run->common : std::get<AttachOptions>(*options).common;
    return std::pair(common.config.event_count_max != 0, common.tell_denials);
  };
  EXPECT_EQ(events({"run", "--", "true"}), std::pair(true, true));
  EXPECT_EQ(events({"run", "--no-denials", "--", "true"}), std::pair(false, false));
  EXPECT_EQ(events({"run", "--no-denials", "--control", "/tmp/c", "--", "true"}),
            std::pair(true, false));
  EXPECT_EQ(events({"attach", "--pid", "1"}), std::pair(false, false));
  EXPECT_EQ(events({"attach", "--pid", "1", "--control", "/tmp/c"}), std::pair(true, false));
}

TEST(Options, SayWhatIsHeardOfDenials) {
  for (const auto& [text, answer] : {std::pair{"reject", DenialAnswer::kReject},
                                     {"silence", DenialAnswer::kSilence},
                                     {"page", DenialAnswer::kPage}}) {
    const auto options = ParseOptions({"attach", "--pid", "1", "--on-denial", text});
    ASSERT_TRUE(options.ok()) << options.status();
    EXPECT_EQ(std::get<AttachOptions>(*options).common.config.denial_answer, answer);
  }
}

TEST(Options, SayHowNamesAreAnswered) {
  const auto options = ParseOptions(
      {"run", "--dns-server", "10.1.2.3", "--dns-server", "[fd01::1]:5353", "--dns-server",
       "corp.example=10.9.9.9", "--dns-server", "corp.example=fd01::2", "--dns-host",
       "db.test=10.1.2.4,fd01::4", "--dns-zone", "test", "--dns-intercept", "--", "true"});
  ASSERT_TRUE(options.ok()) << options.status();
  const DnsConfig& dns = std::get<RunOptions>(*options).common.config.dns;
  EXPECT_TRUE(dns.enabled);
  EXPECT_TRUE(dns.intercept);
  ASSERT_EQ(dns.upstreams.size(), 2U);
  EXPECT_EQ(dns.upstreams[0].ToString(), "10.1.2.3:53");
  EXPECT_EQ(dns.upstreams[1].ToString(), "[fd01::1]:5353");
  ASSERT_EQ(dns.domains.size(), 1U);
  EXPECT_EQ(dns.domains[0].domain, "corp.example");
  ASSERT_EQ(dns.domains[0].upstreams.size(), 2U);
  EXPECT_EQ(dns.domains[0].upstreams[1].ToString(), "[fd01::2]:53");
  ASSERT_EQ(dns.hosts.size(), 1U);
  EXPECT_EQ(dns.hosts[0].addresses.size(), 2U);
  EXPECT_THAT(dns.zones, ElementsAre("test"));
  const auto off = ParseOptions({"run", "--no-dns", "--resolv-conf", "/f", "--", "true"});
  EXPECT_FALSE(off.ok());
  const auto plain = ParseOptions({"run", "--resolv-conf", "/f", "--", "true"});
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(std::get<RunOptions>(*plain).common.config.dns.resolv_conf, "/f");
}

TEST(Options, RelayThreadsGrowWithTheCores) {
  EXPECT_EQ(RelayThreadsFor(0), 0);  // unknown
  EXPECT_EQ(RelayThreadsFor(1), 0);
  EXPECT_EQ(RelayThreadsFor(2), 0);
  EXPECT_EQ(RelayThreadsFor(3), 1);
  EXPECT_EQ(RelayThreadsFor(8), 2);
  EXPECT_EQ(RelayThreadsFor(16), 4);
  EXPECT_EQ(RelayThreadsFor(128), 4);
}

}  // namespace
}  // namespace penstock::tool
