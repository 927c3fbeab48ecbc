// The network that `penstock run` gives its command: by DHCP and the kernel's own
// autoconfiguration, from the stack; or by hand. As root and as an ordinary user, in
// namespaces of the test's own, for what is told depends on the host's routes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>

#include "relay/time.h"
#include "tests/tools/isolation.h"
#include "tests/tools/program.h"

namespace penstock::tool {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

using Words = std::vector<std::string>;

constexpr const char* kShow =
    "ip -o address show dev tap0; ip route; ip -6 route; cat /etc/resolv.conf;"
    "ip -o link show dev tap0; echo mtu6 $(cat /proc/sys/net/ipv6/conf/tap0/mtu 2> /dev/null)";

class RunNetwork : public testing::TestWithParam<bool> {
 protected:
  // `penstock run OPTIONS` with a shell script inside, on a host with routes or without.
  static Words RunOf(const std::string& script, const Words& options) {
    Words words{"penstock", "run"};
    words.insert(words.end(), options.begin(), options.end());
    words.insert(words.end(), {"--", "sh", "-c", script});
    return words;
  }
  static std::function<void()> Host(bool routes) {
    return [routes] {
      EnterOwnNamespaces();
      if (routes) AddRoutes();
      if (GetParam()) BecomeOrdinaryUser();
    };
  }
  static std::string Show(const Words& options, bool routes = true) {
    const Outcome outcome = RunProgram(RunOf(kShow, options), Host(routes));
    EXPECT_EQ(outcome.status, 0);
    EXPECT_EQ(outcome.errors, "");
    return outcome.output;
  }
};

INSTANTIATE_TEST_SUITE_P(All, RunNetwork, testing::Bool(),
                         [](const auto& test) { return test.param ? "OrdinaryUser" : "Caller"; });

TEST_P(RunNetwork, IsWhatTheStackTells) {
  const std::string told = Show(
      {"--mtu", "9000", "--search", "a.example", "--search", "b.example", "--lease-time", "1000"});
  EXPECT_THAT(
      told,
      AllOf(ContainsRegex("10.0.2.15/24[^\n]* dynamic [^\n]*valid_lft (1000|99[0-9])"),
            ContainsRegex("fd00::15/64[^\n]* dynamic mngtmpaddr"), Not(HasSubstr("tentative"))));
  EXPECT_THAT(told, AllOf(HasSubstr("default via 10.0.2.2 dev tap0"),
                          ContainsRegex("default via fe80::5055:aff:fe00:202 dev tap0 proto ra")));
  EXPECT_THAT(told, HasSubstr("nameserver 10.0.2.3\nnameserver fd00::3\n"
                              "search a.example b.example\n"));
  EXPECT_THAT(told, AllOf(HasSubstr(" mtu 9000 "), HasSubstr("mtu6 9000\n")));
  // Of what was needed to ask nothing is left.
  EXPECT_THAT(told, Not(HasSubstr("default dev tap0")));
}

TEST_P(RunNetwork, IsWhatTheStackTellsOfTheFamilyThatIsOn) {
  const std::string only4 = Show({"--no-ipv6", "--mtu", "576", "--search", "a.example"});
  EXPECT_THAT(only4, AllOf(ContainsRegex("10.0.2.15/24[^\n]* dynamic"), HasSubstr(" mtu 576 "),
                           HasSubstr("nameserver 10.0.2.3\nsearch a.example\n"),
                           Not(HasSubstr("inet6")), Not(HasSubstr("fd00::"))));
  const std::string only6 = Show({"--no-ipv4", "--mtu", "9000", "--search", "a.example"});
  EXPECT_THAT(
      only6, AllOf(ContainsRegex("fd00::15/64[^\n]* dynamic"), HasSubstr("mtu6 9000\n"),
                   HasSubstr("nameserver fd00::3\nsearch a.example\n"), Not(HasSubstr("10.0.2."))));
}

TEST_P(RunNetwork, HasOtherAddressesOfTheConfiguration) {
  const std::string told =
      Show({"--guest-ip4", "10.9.0.77/16", "--gateway-ip4", "10.9.0.1", "--dns-ip4", "10.9.0.2",
            "--guest-ip6", "fd09::abcd/64", "--gateway-ip6", "fd09::1", "--dns-ip6", "fd09::2"});
  EXPECT_THAT(told, AllOf(ContainsRegex("10.9.0.77/16[^\n]* dynamic"),
                          ContainsRegex("fd09::abcd/64[^\n]* dynamic"),
                          HasSubstr("default via 10.9.0.1 dev tap0"),
                          HasSubstr("nameserver 10.9.0.2\nnameserver fd09::2\n")));
}

TEST_P(RunNetwork, HasNoDefaultRouteWhereTheHostHasNone) {
  EXPECT_THAT(Show({}, false), AllOf(HasSubstr("10.0.2.15/24"), HasSubstr("fd00::15/64"),
                                     Not(HasSubstr("default via")), Not(HasSubstr("default dev"))));
  const Outcome pings =
      RunProgram(RunOf("ping -c 1 -W 5 10.0.2.2 && ping -c 1 -W 5 fd00::2", {}), Host(false));
  EXPECT_EQ(pings.status, 0) << pings.output;
}

TEST_P(RunNetwork, IsStaticIfAskedOrWhereNobodyTells) {
  const std::string all = Show({"--static", "--mtu", "9000", "--search", "a.example"}, false);
  EXPECT_THAT(all, AllOf(HasSubstr("10.0.2.15/24"), HasSubstr("fd00::15/64"),
                         HasSubstr("default via 10.0.2.2 "), HasSubstr("default via fd00::2 "),
                         HasSubstr(" mtu 9000 "), HasSubstr("search a.example\n"),
                         Not(HasSubstr("dynamic"))));
  EXPECT_THAT(Show({"--no-dhcp"}), AllOf(Not(ContainsRegex("10.0.2.15/24[^\n]* dynamic")),
                                         ContainsRegex("fd00::15/64[^\n]* dynamic")));
  EXPECT_THAT(Show({"--no-ra"}), AllOf(ContainsRegex("10.0.2.15/24[^\n]* dynamic"),
                                       Not(ContainsRegex("fd00::15/64[^\n]* dynamic")),
                                       HasSubstr("default via fd00::2 ")));
}

uint64_t LeasesIn(const std::string& lines) {
  const std::string name = "\ndhcp_leases_given ";
  const size_t at = lines.find(name);
  return at == std::string::npos ? 0 : std::stoull(lines.substr(at + name.size()));
}

TEST_P(RunNetwork, RenewsItsLease) {
  TemporaryFolder folder;
  const Words options{"--lease-time", "4", "--stats-file", folder / "stats"};
  const std::string script =
      "trap 'ip -o -4 address show dev tap0; exit 5' TERM; echo ready;"
      "while :; do sleep 1000 & wait; done";
  Program penstock(RunOf(script, options), Host(true));
  (void)penstock.AwaitLine("ready");
  const Time deadline = Clock::now() + std::chrono::seconds(kLimitSeconds);
  uint64_t leases = 0;
  while (leases < 2 && Clock::now() < deadline) {
    penstock.Kill(SIGUSR1);
    leases = LeasesIn(folder.AwaitMovedFile("stats"));
  }
  EXPECT_GE(leases, 2u);
  penstock.Kill(SIGTERM);
  const Outcome outcome = penstock.Wait();
  EXPECT_EQ(outcome.status, 5);
  EXPECT_EQ(outcome.errors, "");
  EXPECT_THAT(outcome.output, ContainsRegex("10.0.2.15/24[^\n]* dynamic"));
}

// Whoever waits for an answer that does not come can be interrupted, and is told in the end.
TEST_P(RunNetwork, IsNotAwaitedForEver) {
  const Words words = RunOf("echo never", {"-p", "0:80", "--impair", "drop=100%"});
  Program interrupted(words, Host(true));
  Program patient(words, Host(true));
  (void)interrupted.AwaitErrorLine("penstock: published");
  interrupted.Kill(SIGTERM);
  EXPECT_EQ(interrupted.Wait().status, 128 + SIGTERM);

  const Outcome outcome = patient.Wait();
  EXPECT_EQ(outcome.status, 1);
  EXPECT_EQ(outcome.output, "");
  EXPECT_THAT(outcome.errors, HasSubstr("--static"));
}

}  // namespace
}  // namespace penstock::tool
