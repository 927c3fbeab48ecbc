// Dialing: what the stack hears of a host that answers, refuses, or says nothing, and
// what becomes of the socket when the stack no longer wants it.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <functional>
#include <tuple>

#include "tests/relay/played_stack.h"
#include "tests/support/host_side.h"

namespace penstock {
namespace {

// A factory whose sockets are what the test makes them.
class TestSockets final : public SocketFactory {
 public:
  explicit TestSockets(std::function<SocketResult(const SocketRequest&)> open)
      : open_(std::move(open)) {}
  SocketResult OpenStream(const SocketRequest& request) override {
    ++asked;
    return open_(request);
  }
  std::atomic<int> asked{0};

 private:
  const std::function<SocketResult(const SocketRequest&)> open_;
};

using Parameters = std::tuple<RelayForm, Family>;

class RelayConnectTest : public testing::TestWithParam<Parameters> {
 protected:
  [[nodiscard]] RelayForm form() const { return std::get<0>(GetParam()); }
  [[nodiscard]] Family family() const { return std::get<1>(GetParam()); }

  // Ends `flow` as a stack does after a failure.
  static void AbortAndClose(PlayedStack& stack, PlayedFlow& flow) {
    flow.Abort();
    stack.Until("the relay's last word", [&] { return flow.closed(); });
  }
};
INSTANTIATE_TEST_SUITE_P(Forms, RelayConnectTest,
                         testing::Combine(testing::Values(RelayForm::kThread,
                                                          RelayForm::kIoContext),
                                          testing::Values(Family::kIpv4, Family::kIpv6)),
                         [](const testing::TestParamInfo<Parameters>& info) {
                           return FormName(std::get<0>(info.param)) +
                                  (std::get<1>(info.param) == Family::kIpv4 ? "Ipv4" : "Ipv6");
                         });

TEST_P(RelayConnectTest, ConnectsOnce) {
  HostListener listener(family());
  PlayedStack stack(form());
  PlayedFlow& flow = stack.Open({Loopback(family(), listener.port())});
  stack.Until("connected", [&] { return flow.connected(); });
  EXPECT_TRUE(listener.TryAccept().has_value());
  EXPECT_FALSE(listener.TryAccept().has_value());
  EXPECT_EQ(flow.words(), std::vector<ToGuest>{ToGuest::kConnected});
}

TEST_P(RelayConnectTest, TellsARefusal) {
  HostRefusedPort nobody;
  PlayedStack stack(form());
  PlayedFlow& flow = stack.Open({Loopback(family(), nobody.port())});
  stack.Until("an answer", [&] { return flow.Heard(ToGuest::kFailed); });
  EXPECT_EQ(flow.error(), ECONNREFUSED);
  AbortAndClose(stack, flow);
  EXPECT_EQ(flow.words(), (std::vector{ToGuest::kFailed, ToGuest::kClosed}));
}

TEST_P(RelayConnectTest, TriesTheSecondDestinationAfterARefusal) {
  HostRefusedPort nobody;
  HostListener listener(family());
  const Family other = family() == Family::kIpv4 ? Family::kIpv6 : Family::kIpv4;
  PlayedStack stack(form());
  PlayedFlow& flow =
      stack.Open({Loopback(other, nobody.port()), Loopback(family(), listener.port())});
  stack.Until("connected", [&] { return flow.connected(); });
  EXPECT_TRUE(listener.TryAccept().has_value());
  EXPECT_EQ(flow.words(), std::vector<ToGuest>{ToGuest::kConnected});
}

TEST_P(RelayConnectTest, TellsTheLastRefusal) {
  HostRefusedPort nobody;
  PlayedStack stack(form());
  const Endpoint refused = Loopback(family(), nobody.port());
  PlayedFlow& flow = stack.Open({refused, refused});
  stack.Until("an answer", [&] { return flow.Heard(ToGuest::kFailed); });
  EXPECT_EQ(flow.error(), ECONNREFUSED);
  AbortAndClose(stack, flow);
}

// Only a refusal leads on: another error belongs to the destination that was asked for.
// A socket of the wrong family makes connect(2) fail in its own way.
TEST_P(RelayConnectTest, TriesNoSecondDestinationAfterAnotherError) {
  HostListener listener(family());
  const auto sockets = std::make_shared<TestSockets>([](const SocketRequest&) -> SocketResult {
    return {.descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  });
  PlayedStack stack(form(), {.socket_factory = sockets});
  const Endpoint there = Loopback(family(), listener.port());
  PlayedFlow& flow = stack.Open({there, there});
  stack.Until("an answer", [&] { return flow.Heard(ToGuest::kFailed); });
  EXPECT_EQ(flow.error(), EINVAL);
  EXPECT_EQ(sockets->asked, 1);
  AbortAndClose(stack, flow);
}

TEST_P(RelayConnectTest, TellsWhyTheFactoryHadNoSocket) {
  const auto sockets = std::make_shared<TestSockets>(
      [](const SocketRequest&) -> SocketResult { return {.error = EMFILE}; });
  PlayedStack stack(form(), {.socket_factory = sockets});
  const Endpoint anywhere = Loopback(family(), 1);
  PlayedFlow& flow = stack.Open({anywhere, anywhere});
  stack.Until("an answer", [&] { return flow.Heard(ToGuest::kFailed); });
  EXPECT_EQ(flow.error(), EMFILE);
  EXPECT_EQ(sockets->asked, 1) << "a second destination needs a socket as well";
  AbortAndClose(stack, flow);
}

// Not a descriptor at all: the embedder's bug is one flow's failure.
TEST_P(RelayConnectTest, TellsThatTheFactorysSocketIsNone) {
  const auto sockets = std::make_shared<TestSockets>(
      [](const SocketRequest&) -> SocketResult { return {.descriptor = 1'000'000}; });
  PlayedStack stack(form(), {.socket_factory = sockets});
  PlayedFlow& flow = stack.Open({Loopback(family(), 1)});
  stack.Until("an answer", [&] { return flow.Heard(ToGuest::kFailed); });
  EXPECT_EQ(flow.error(), EBADF);
  AbortAndClose(stack, flow);
}

TEST_P(RelayConnectTest, AsksTheFactoryForWhatTheFlowNeeds) {
  HostListener listener(family());
  SocketRequest asked{};
  const auto sockets = std::make_shared<TestSockets>([&](const SocketRequest& request) {
    asked = request;
    return DefaultSocketFactory()->OpenStream(request);
  });
  PlayedStack stack(form(), {.keepalive_idle = std::chrono::minutes(3),
                             .keepalive_interval = std::chrono::seconds(7),
                             .keepalive_probes = 5,
                             .socket_factory = sockets});
  const Endpoint there = Loopback(family(), listener.port());
  PlayedFlow& flow = stack.Open({there});
  stack.Until("connected", [&] { return flow.connected(); });
  EXPECT_EQ(asked.destination, there);
  EXPECT_EQ(asked.keepalive_idle, std::chrono::minutes(3));
  EXPECT_EQ(asked.keepalive_interval, std::chrono::seconds(7));
  EXPECT_EQ(asked.keepalive_probes, 5);
}

// A socket that is bound to the port it connects to meets itself: the kernel calls that
// connected, but nobody listens there.
TEST_P(RelayConnectTest, RefusesAConnectionToItself) {
  const auto sockets = std::make_shared<TestSockets>([](const SocketRequest& request) {
    const SocketResult result = DefaultSocketFactory()->OpenStream(request);
    const uint16_t port = htons(request.destination.port);
    sockaddr_in v4{.sin_family = AF_INET, .sin_port = port};
    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sockaddr_in6 v6{.sin6_family = AF_INET6, .sin6_port = port};
    v6.sin6_addr = in6addr_loopback;
    const bool is_v4 = request.destination.address.is_v4();
    const auto* own = is_v4 ? reinterpret_cast<sockaddr*>(&v4) : reinterpret_cast<sockaddr*>(&v6);
    EXPECT_EQ(bind(result.descriptor, own, is_v4 ? sizeof v4 : sizeof v6), 0);
    return result;
  });
  uint16_t free_port = 0;
  {
    // Once closed, nobody else is given this port at once.
    HostListener listener(family());
    free_port = listener.port();
  }
  PlayedStack stack(form(), {.socket_factory = sockets});
  PlayedFlow& flow = stack.Open({Loopback(family(), free_port)});
  stack.Until("an answer", [&] { return !flow.words().empty(); });
  EXPECT_EQ(flow.words(), std::vector<ToGuest>{ToGuest::kFailed});
  EXPECT_EQ(flow.error(), ECONNREFUSED);
  AbortAndClose(stack, flow);
}

// The stack gives up while the host says nothing.
TEST_P(RelayConnectTest, AbortEndsADialAtOnce) {
  HostListener listener(family(), {.backlog = 0});
  listener.FillBacklog();
  const size_t descriptors = OpenDescriptorCount();
  {
    PlayedStack stack(form());
    PlayedFlow& flow = stack.Open({Loopback(family(), listener.port())});
    stack.Until("the relay has begun", [&] { return flow.all_taken(); });
    AbortAndClose(stack, flow);
    EXPECT_EQ(flow.words(), std::vector<ToGuest>{ToGuest::kClosed});
  }
  EXPECT_EQ(OpenDescriptorCount(), descriptors);
}

// Both messages are there before the relay looks: the task ends before it has begun.
TEST_P(RelayConnectTest, AbortMayComeBeforeTheDial) {
  HostListener listener(family());
  const size_t descriptors = OpenDescriptorCount();
  {
    PlayedStack stack(form());
    for (int i = 0; i < 20; ++i) {
      PlayedFlow& flow = stack.Open({Loopback(family(), listener.port())});
      AbortAndClose(stack, flow);
      EXPECT_FALSE(flow.Heard(ToGuest::kFailed));
    }
  }
  while (listener.TryAccept().has_value()) continue;
  EXPECT_EQ(OpenDescriptorCount(), descriptors);
}

TEST_P(RelayConnectTest, ShutdownMayComeBeforeTheDial) {
  HostListener listener(family());
  const size_t descriptors = OpenDescriptorCount();
  for (int i = 0; i < 20; ++i) {
    PlayedStack stack(form());
    PlayedFlow& flow = stack.Open({Loopback(family(), listener.port())});
    if (form() == RelayForm::kIoContext) stack.relay().RunReady();
    stack.Shutdown();
    EXPECT_FALSE(flow.closed());
  }
  while (listener.TryAccept().has_value()) continue;
  EXPECT_EQ(OpenDescriptorCount(), descriptors);
}

}  // namespace
}  // namespace penstock
