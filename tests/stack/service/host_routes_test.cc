// Which routes count, in a network namespace of the test's own.
#include "stack/service/host_routes.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

namespace penstock {
namespace {

// As `ip` prints: only for tests, in a child that may do as it likes.
void Ip(const std::string& arguments) {
  const int status = std::system(("ip " + arguments).c_str());
  if (status != 0) {
    ADD_FAILURE() << "ip " << arguments;
    _exit(1);
  }
}

void EnterNamespaces() {
  const uid_t user = geteuid();
  if (user == 0) {
    ASSERT_EQ(unshare(CLONE_NEWNET), 0);
    return;
  }
  ASSERT_EQ(unshare(CLONE_NEWUSER | CLONE_NEWNET), 0);
  std::ofstream("/proc/self/uid_map") << "0 " << user << " 1";
}

// eth0 and somebody at its other end.
void AddInterface() {
  Ip("link add eth0 type veth peer name far");
  Ip("link set far up");
  Ip("link set eth0 up");
}

// Runs `body` in a child of its own namespaces. It fails the test if anything in it did.
void InOwnNetwork(const std::function<void()>& body) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    EnterNamespaces();
    if (!testing::Test::HasFailure()) body();
    fflush(nullptr);
    _exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

bool Readable(const RouteFollower& follower) {
  pollfd watched{.fd = follower.descriptor(), .events = POLLIN, .revents = 0};
  return poll(&watched, 1, 0) == 1;
}

constexpr HostRoutes kNone{.ipv4 = false, .ipv6 = false};

TEST(HostRoutesTest, LoopbackAndLinkLocalLeadNowhere) {
  InOwnNetwork([] {
    EXPECT_EQ(RouteFollower().routes(), kNone);
    Ip("link set lo up");
    AddInterface();  // fe80::/64 and ff00::/8
    Ip("route add 169.254.0.0/16 dev eth0");
    Ip("route add 224.0.0.0/4 dev eth0");
    Ip("route add 192.0.2.0/24 dev lo");
    Ip("-6 route add 2001:db8::/32 dev lo");
    Ip("route add unreachable default");
    Ip("route add blackhole 198.51.100.0/24");
    Ip("-6 route add unreachable default metric 4096");
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
  InOwnNetwork([] {
    AddInterface();
    std::vector<HostRoutes> told;
    RouteFollower follower([&](const HostRoutes& routes) { told.push_back(routes); });
    const HostRoutes expected{.ipv4 = GetParam().ipv4, .ipv6 = GetParam().ipv6};
    EXPECT_EQ(follower.routes(), kNone);
    while (Readable(follower)) EXPECT_FALSE(follower.Update());

    Ip(GetParam().route);
    EXPECT_TRUE(Readable(follower));
    EXPECT_TRUE(follower.Update());
    EXPECT_EQ(follower.routes(), expected);
    // The kernel may still tell of eth0's own addresses.
    while (Readable(follower)) EXPECT_FALSE(follower.Update());

    std::string removal = GetParam().route;
    removal.replace(removal.find(" add "), 5, " del ");
    removal = removal.substr(0, removal.find(" nodad"));
    Ip(removal);
    EXPECT_TRUE(follower.Update());
    EXPECT_EQ(follower.routes(), kNone);

    Ip(GetParam().route);
    EXPECT_TRUE(follower.Update());
    Ip("link set eth0 down");
    EXPECT_TRUE(follower.Update());
    EXPECT_EQ(told, (std::vector<HostRoutes>{expected, kNone, expected, kNone}));
  });
}

// More happens than the socket holds: what is lost is not needed.
TEST(HostRoutesTest, AFloodOfChangesEndsInTheTruth) {
  InOwnNetwork([] {
    AddInterface();
    RouteFollower follower;
    {
      std::ofstream batch("/dev/shm/host_routes." + std::to_string(getpid()));
      for (int i = 0; i < 4'000; ++i) {
        batch << "route add 10." << i / 250 << "." << i % 250 << ".0/24 dev eth0\n";
      }
    }
    const std::string file = "/dev/shm/host_routes." + std::to_string(getpid());
    Ip("-batch " + file);
    unlink(file.c_str());
    while (Readable(follower)) (void)follower.Update();
    EXPECT_TRUE(follower.routes().ipv4);
    Ip("route flush dev eth0");
    while (Readable(follower)) (void)follower.Update();
    EXPECT_FALSE(follower.routes().ipv4);
  });
}

}  // namespace
}  // namespace penstock
