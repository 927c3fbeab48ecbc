// A family that is off by option, and one that the host has no route of.

#include <cerrno>
#include <cstring>
#include <optional>

#include "tests/support/places.h"
#include "tests/support/sandbox.h"

namespace penstock::e2e {
namespace {

Family Other(Family family) { return family == Family::kIpv4 ? Family::kIpv6 : Family::kIpv4; }

// One word each way.
void ExpectExchange(TcpSocket& client, TcpSocket& server) {
  client.SendAll("question");
  client.ShutdownSending();
  EXPECT_EQ(server.ReceiveToEnd(), "question");
  server.SendAll("answer");
  server.Close();
  EXPECT_EQ(client.ReceiveToEnd(), "answer");
}

// ---------------------------------------------------------------- off by option

class FamilyOff : public ::testing::TestWithParam<Family> {
 protected:
  [[nodiscard]] static Family off() { return GetParam(); }
  [[nodiscard]] static std::string option() {
    return off() == Family::kIpv4 ? "--no-ipv4" : "--no-ipv6";
  }
  World world_;
};

INSTANTIATE_TEST_SUITE_P(E2e, FamilyOff, ::testing::Values(Family::kIpv4, Family::kIpv6),
                         [](const auto& test) { return Name(test.param); });

TEST_P(FamilyOff, TheOtherOneWorks) {
  Sandbox sandbox({.via = Via::kRelayThread, .penstock_options = {option()}});
  Sandbox::Connection connection = sandbox.Connect(Other(off()));
  ExpectExchange(connection.guest, connection.host);

  TcpListener listener;
  const int error = sandbox.GuestSocket(off()).TryConnect(Sandbox::Gateway(off(), listener.port()));
  EXPECT_TRUE(error == ENETUNREACH || error == EADDRNOTAVAIL) << strerror(error);
}

// A guest that gives itself an address of that family all the same talks to nobody.
TEST_P(FamilyOff, NobodyAnswersAGuestThatUsesItAllTheSame) {
  Sandbox sandbox({.via = Via::kOneThread, .penstock_options = {option()}});
  sandbox.guest().SetSysctl("ipv6/conf/tap0/disable_ipv6", "0");
  sandbox.guest().Ip(off() == Family::kIpv4 ? "address add 10.0.2.15/24 dev tap0"
                                            : "address add fd00::15/64 dev tap0 nodad");
  const std::string gateway = off() == Family::kIpv4 ? "10.0.2.2" : "fd00::2";
  const CommandResult ping = RunCommand({"ping", "-n", "-c", "1", "-W", "1", gateway},
                                        {.network_namespace = sandbox.guest().descriptor()});
  EXPECT_EQ(ping.status, 1) << ping.output;
  EXPECT_GT(sandbox.ReadStats()["drop_family_off"], 0u);
}

// Clients of a published port are the host's affair: both families of theirs reach the one
// that the guest has.
TEST_P(FamilyOff, PublishedPortsLeadToTheOtherOne) {
  Sandbox sandbox(
      {.via = Via::kRelayThread, .opener = Opener::kHost, .penstock_options = {option()}});
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    Sandbox::Connection connection = sandbox.Connect(family);
    ExpectExchange(connection.host, connection.guest);
  }
}

// `penstock run`: one family's addresses, routes and name server, and a ping.
TEST_P(FamilyOff, RunConfiguresAndAnswersTheOtherOneOnly) {
  const bool v4 = Other(off()) == Family::kIpv4;
  const CommandResult run = RunCommand(
      {ProgramPath("penstock"), "run", option(), "--", "sh", "-c",
       std::string("ip -o address show dev tap0; ip route; ip -6 route; cat /etc/resolv.conf; ") +
           "ping -n -c 1 -W 5 " + (v4 ? "10.0.2.2" : "fd00::2")});
  EXPECT_EQ(run.status, 0) << run.output;
  for (const char* of_ipv4 : {"10.0.2.15/24", "default via 10.0.2.2", "nameserver 10.0.2.3"}) {
    EXPECT_EQ(run.output.find(of_ipv4) != std::string::npos, v4) << run.output;
  }
  for (const char* of_ipv6 : {"fd00::15/64", "default via fe80::", "nameserver fd00::3"}) {
    EXPECT_EQ(run.output.find(of_ipv6) != std::string::npos, !v4) << run.output;
  }
  EXPECT_NE(run.output.find("1 received"), std::string::npos) << run.output;
}

// ---------------------------------------------------------------- no route at the host

struct RouteCase {
  Via via;
  Family family;
};

class HostWithoutRoutes : public ::testing::TestWithParam<RouteCase> {
 protected:
  [[nodiscard]] static Family family() { return GetParam().family; }

  void TakeRoutesAway() const {
    RunOrThrow({"ip", flag(), "route", "flush", "table", "main"});
    AwaitRoutes(0);
  }
  void PutRoutesBack() const {
    RunOrThrow({"ip", flag(), "route", "add",
                family() == Family::kIpv4 ? "198.18.0.0/24" : "fd01::/64", "dev", "to-outside"});
    AwaitRoutes(1);
  }
  // Until penstock knows.
  void AwaitRoutes(uint64_t expected) const {
    const std::string own = family() == Family::kIpv4 ? "host_routes_ipv4" : "host_routes_ipv6";
    const std::string other = family() == Family::kIpv4 ? "host_routes_ipv6" : "host_routes_ipv4";
    const Time deadline = Clock::now() + std::chrono::seconds(20);
    while (sandbox_.ReadStats()[own] != expected) {
      if (Clock::now() > deadline) throw std::runtime_error("penstock does not follow the routes");
    }
    EXPECT_EQ(sandbox_.ReadStats()[other], 1u);
  }
  // errno of a connect to the machine outside, or 0 after an exchange with it.
  int TryOutside(Family by) {
    TcpSocket guest = sandbox_.GuestSocket(by);
    const int error = guest.TryConnect(World::Outside(by, listener_->port()));
    if (error != 0) return error;
    TcpSocket host = listener_->Accept();
    ExpectExchange(guest, host);
    return 0;
  }

  World world_;
  Sandbox sandbox_{{.via = GetParam().via}};
  std::optional<TcpListener> listener_ = [this] {
    const InNamespace outside(world_.outside().descriptor());
    return std::optional<TcpListener>(std::in_place);
  }();

 private:
  [[nodiscard]] static std::string flag() { return family() == Family::kIpv4 ? "-4" : "-6"; }
};

INSTANTIATE_TEST_SUITE_P(E2e, HostWithoutRoutes,
                         ::testing::Values(RouteCase{Via::kOneThread, Family::kIpv4},
                                           RouteCase{Via::kOneThread, Family::kIpv6},
                                           RouteCase{Via::kRelayThread, Family::kIpv4},
                                           RouteCase{Via::kRelayThread, Family::kIpv6}),
                         [](const auto& test) {
                           return Name(test.param.via) + "_" + Name(test.param.family);
                         });

TEST_P(HostWithoutRoutes, ConnectsFailAtOnceUntilTheyAreBack) {
  EXPECT_EQ(TryOutside(family()), 0);
  TakeRoutesAway();
  const Time begin = Clock::now();
  EXPECT_EQ(TryOutside(family()), ENETUNREACH);
  EXPECT_LT(Seconds(Clock::now() - begin), 1);

  // What stays: the other family, and the host itself.
  EXPECT_EQ(TryOutside(Other(family())), 0);
  Sandbox::Connection connection = sandbox_.Connect(family());
  ExpectExchange(connection.guest, connection.host);

  PutRoutesBack();
  EXPECT_EQ(TryOutside(family()), 0);
  EXPECT_EQ(sandbox_.ReadStats()["host_route_changes"], 2u);
}

}  // namespace
}  // namespace penstock::e2e
