#include "tests/stack/link/tap_guest.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>

namespace penstock {
namespace {

void EnterNewNetwork() {
  if (geteuid() == 0) {
    ASSERT_EQ(unshare(CLONE_NEWNET), 0) << strerror(errno);
    return;
  }
  const uid_t uid = getuid();
  const gid_t gid = getgid();
  ASSERT_EQ(unshare(CLONE_NEWUSER | CLONE_NEWNET), 0) << strerror(errno);
  std::ofstream("/proc/self/setgroups") << "deny";
  std::ofstream("/proc/self/uid_map") << "0 " << uid << " 1";
  std::ofstream("/proc/self/gid_map") << "0 " << gid << " 1";
}

// The kernel adds the local route of a new IPv6 address later, from a work queue,
// and drops what comes before it. alarm() bounds the wait.
void AwaitIpv6Address() {
  for (bool local = false; !local; sched_yield()) {
    std::ifstream routes("/proc/net/ipv6_route");
    for (std::string line; !local && std::getline(routes, line);) {
      local = line.starts_with("fd000000000000000000000000000015 80 ");
    }
  }
}

}  // namespace

void RunInNewNetwork(const std::function<void()>& body) {
  std::cout.flush();
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    alarm(50);
    EnterNewNetwork();
    if (!::testing::Test::HasFailure()) body();
    std::cout.flush();
    _exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0) << "see the child's failures above";
}

void Ip(const std::string& lines) {
  ASSERT_EQ(std::system(("ip -batch - <<'END'\n" + lines + "\nEND").c_str()), 0) << lines;
}

void ConfigureGuest(bool ethernet) {
  if (ethernet) Ip("link set tap0 address 02:00:00:00:00:15");
  Ip("link set tap0 up mtu 1500\n"
     "addr add 10.0.2.15/24 dev tap0\n"
     "addr add fd00::15/64 dev tap0 nodad");
  if (ethernet) {
    Ip("neigh replace 10.0.2.2 lladdr 52:55:0a:00:02:02 dev tap0 nud permanent\n"
       "neigh replace fd00::2 lladdr 52:55:0a:00:02:02 dev tap0 nud permanent");
  }
  AwaitIpv6Address();
}

int RawTap(int flags) {
  const int descriptor = open(kTunDevice, O_RDWR);
  ifreq request{};
  std::strcpy(request.ifr_name, "tap0");
  request.ifr_flags = static_cast<short>(flags);
  EXPECT_EQ(ioctl(descriptor, TUNSETIFF, &request), 0) << strerror(errno);
  return descriptor;
}

void TapTest::SetUp() {
  if (access(kTunDevice, R_OK | W_OK) != 0) {
    GTEST_SKIP() << "this user may not open " << kTunDevice << ": " << strerror(errno);
  }
}

}  // namespace penstock
