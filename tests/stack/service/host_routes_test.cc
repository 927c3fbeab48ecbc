// Which routes count, in a network namespace of the test's own.
#include "stack/service/host_routes.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "tests/stack/link/tap_guest.h"

namespace penstock {
namespace {

// One command: a batch of ip(8) knows no "-6".
void IpCommand(const std::string& arguments) {
  ASSERT_EQ(std::system(("ip " + arguments).c_str()), 0) << arguments;
}

// eth0 and somebody at its other end.
void AddInterface() {
  IpCommand("link add eth0 type veth peer name far");
  IpCommand("link set far up");
  IpCommand("link set eth0 up");
}

bool Readable(const RouteFollower& follower) {
  pollfd watched{.fd = follower.descriptor(), .events = POLLIN, .revents = 0};
  return poll(&watched, 1, 0) == 1;
}

constexpr HostRoutes kNone{.ipv4 = false, .ipv6 = false};

TEST(HostRoutesTest, LoopbackAndLinkLocalLeadNowhere) {
  RunInNewNetwork([] {
    EXPECT_EQ(RouteFollower().routes(), kNone);
    IpCommand("link set lo up");
    AddInterface();  // fe80::/64 and ff00::/8
    IpCommand("route add 169.254.0.0/16 dev eth0");
    IpCommand("route add 224.0.0.0/4 dev eth0");
    IpCommand("route add 192.0.2.0/24 dev lo");
    IpCommand("-6 route add 2001:db8::/32 dev lo");
    IpCommand("route add unreachable default");
    IpCommand("route add blackhole 198.51.100.0/24");
    IpCommand("-6 route add unreachable default metric 4096");
    EXPECT_EQ(RouteFollower().routes(), kNone);
  });
}

struct RouteCase {
  const char* name;
  const char* route;
  bool ipv4, ipv6;
};

class HostRoutesThatCount : public testing::TestWithParam<RouteCase> {};

INSTANTIATE_TEST_SUITE_P(
    All, HostRoutesThatCount,
    testing::Values(
        RouteCase{"Default4", "route add default dev eth0", true, false},
        RouteCase{"Default6", "-6 route add default dev eth0", false, true},
        RouteCase{"Network4", "route add 10.9.0.0/16 dev eth0", true, false},
        RouteCase{"Network6", "-6 route add 2001:db8::/32 dev eth0", false, true},
        RouteCase{"Host4", "route add 192.0.2.1/32 dev eth0", true, false},
        RouteCase{"Host6", "-6 route add 2001:db8::1/128 dev eth0", false, true},
        RouteCase{"OtherTable4", "route add default dev eth0 table 51820", true, false},
        RouteCase{"OtherTable6", "-6 route add default dev eth0 table 51820", false, true},
        RouteCase{"Address4", "address add 192.0.2.1/24 dev eth0", true, false},
        RouteCase{"Address6", "address add 2001:db8::1/64 dev eth0 nodad", false, true}),
    [](const auto& test) { return test.param.name; });

// The route comes and goes with the descriptor telling, once by its own name and once
// with its interface.
TEST_P(HostRoutesThatCount, AreFollowed) {
  RunInNewNetwork([] {
    AddInterface();
    std::vector<HostRoutes> told;
    RouteFollower follower([&](const HostRoutes& routes) { told.push_back(routes); });
    const HostRoutes expected{.ipv4 = GetParam().ipv4, .ipv6 = GetParam().ipv6};
    EXPECT_EQ(follower.routes(), kNone);
    while (Readable(follower)) EXPECT_FALSE(follower.Update());

    IpCommand(GetParam().route);
    EXPECT_TRUE(Readable(follower));
    EXPECT_TRUE(follower.Update());
    EXPECT_EQ(follower.routes(), expected);
    // The kernel may still tell of eth0's own addresses.
    while (Readable(follower)) EXPECT_FALSE(follower.Update());

    std::string removal = GetParam().route;
    removal.replace(removal.find(" add "), 5, " del ");
    removal = removal.substr(0, removal.find(" nodad"));
    IpCommand(removal);
    EXPECT_TRUE(follower.Update());
    EXPECT_EQ(follower.routes(), kNone);

    IpCommand(GetParam().route);
    EXPECT_TRUE(follower.Update());
    IpCommand("link set eth0 down");
    EXPECT_TRUE(follower.Update());
    EXPECT_EQ(told, (std::vector<HostRoutes>{expected, kNone, expected, kNone}));
  });
}

// More happens than the socket holds: what is lost is not needed.
TEST(HostRoutesTest, AFloodOfChangesEndsInTheTruth) {
  RunInNewNetwork([] {
    AddInterface();
    RouteFollower follower;
    std::string lines;
    for (int i = 0; i < 2'000; ++i) {
      lines += "route add 10." + std::to_string(i / 250) + "." + std::to_string(i % 250) +
               ".0/24 dev eth0\n";
    }
    Ip(lines);
    while (Readable(follower)) (void)follower.Update();
    EXPECT_TRUE(follower.routes().ipv4);
    IpCommand("route flush dev eth0");
    while (Readable(follower)) (void)follower.Update();
    EXPECT_FALSE(follower.routes().ipv4);
  });
}

}  // namespace
}  // namespace penstock
