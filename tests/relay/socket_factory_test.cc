#include "relay/socket_factory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "tests/relay/played_stack.h"
#include "tests/support/host_side.h"

namespace penstock {
namespace {

SocketRequest RequestTo(Family family) {
  return {.destination = Loopback(family, 80),
          .keepalive_idle = std::chrono::hours(2),
          .keepalive_interval = std::chrono::seconds(75),
          .keepalive_probes = 9};
}

int Option(const HostDescriptor& socket, int level, int name) {
  int value = -1;
  socklen_t bytes = sizeof value;
  EXPECT_EQ(getsockopt(socket.get(), level, name, &value, &bytes), 0);
  return value;
}

TEST(SocketFactoryTest, DefaultSocketsAreSetUp) {
  for (Family family : {Family::kIpv4, Family::kIpv6}) {
    const SocketResult result = DefaultSocketFactory()->OpenStream(RequestTo(family));
    ASSERT_GE(result.descriptor, 0) << result.error;
    const HostDescriptor socket(result.descriptor);
    EXPECT_EQ(Option(socket, SOL_SOCKET, SO_DOMAIN), family == Family::kIpv4 ? AF_INET : AF_INET6);
    EXPECT_EQ(Option(socket, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
    EXPECT_NE(Option(socket, IPPROTO_TCP, TCP_NODELAY), 0);
    EXPECT_NE(Option(socket, SOL_SOCKET, SO_OOBINLINE), 0);
    EXPECT_NE(Option(socket, SOL_SOCKET, SO_KEEPALIVE), 0);
    EXPECT_EQ(Option(socket, IPPROTO_TCP, TCP_KEEPIDLE), 7'200);
    EXPECT_EQ(Option(socket, IPPROTO_TCP, TCP_KEEPINTVL), 75);
    EXPECT_EQ(Option(socket, IPPROTO_TCP, TCP_KEEPCNT), 9);
    EXPECT_NE(fcntl(socket.get(), F_GETFL) & O_NONBLOCK, 0);
    EXPECT_NE(fcntl(socket.get(), F_GETFD) & FD_CLOEXEC, 0);
  }
}

TEST(SocketFactoryTest, KeepaliveTimesStayWithinWhatTheKernelTakes) {
  SocketRequest request = RequestTo(Family::kIpv4);
  request.keepalive_idle = std::chrono::hours(10'000);
  request.keepalive_interval = std::chrono::milliseconds(1);
  request.keepalive_probes = 1'000;
  const HostDescriptor socket(DefaultSocketFactory()->OpenStream(request).descriptor);
  EXPECT_EQ(Option(socket, IPPROTO_TCP, TCP_KEEPIDLE), 32'767);
  EXPECT_EQ(Option(socket, IPPROTO_TCP, TCP_KEEPINTVL), 1);
  EXPECT_EQ(Option(socket, IPPROTO_TCP, TCP_KEEPCNT), 127);
}

TEST(SocketFactoryDeathTest, SaysWhyThereIsNoSocket) {
  const auto without_descriptors = [] {
    // A first call: UBSan needs descriptors to look at a type that it has not met yet.
    (void)DefaultSocketFactory()->OpenStream(RequestTo(Family::kIpv4));
    const rlimit none{0, 0};
    if (setrlimit(RLIMIT_NOFILE, &none) != 0) _exit(2);
    const SocketResult result = DefaultSocketFactory()->OpenStream(RequestTo(Family::kIpv4));
    _exit(result.descriptor == -1 && result.error == EMFILE ? 0 : 1);
  };
  EXPECT_EXIT(without_descriptors(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace penstock
