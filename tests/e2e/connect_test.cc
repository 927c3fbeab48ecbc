// A connect() that fails must fail inside the sandbox as it does without: the same
// errno, and in the same class of time. Each expectation here is met by a plain
// namespace behind a veth pair first.

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>

#include "tests/support/sandbox.h"

namespace penstock::e2e {
namespace {

// Without repeating a SYN; and with one repetition, which comes after a second: a veth
// pair delivers an ICMP error while connect() still holds the socket, where the error
// has to wait for the next SYN. Over a real link, or a tap, it acts at once.
constexpr double kAtOnce = 1;
constexpr double kAtOnceOverVeth = 2;

struct Outcome {
  int error;
  double seconds;
};

class Connect : public SandboxTest {
 protected:
  Outcome TryConnect(const Endpoint& destination) {
    TcpSocket socket = sandbox_.GuestSocket(family());
    Time begin = Clock::now();
    int error = socket.TryConnect(destination);
    return {error, Seconds(Clock::now() - begin)};
  }
};

INSTANTIATE_TEST_SUITE_P(E2e, Connect, ::testing::ValuesIn(EveryCase()), CaseName);

TEST_P(Connect, RefusedByTheHost) {
  Outcome outcome = TryConnect(Sandbox::Gateway(family(), 9));
  EXPECT_EQ(outcome.error, ECONNREFUSED);
  EXPECT_LT(outcome.seconds, kAtOnce);
}

TEST_P(Connect, RefusedByAnotherMachine) {
  Outcome outcome = TryConnect(World::Outside(family(), 9));
  EXPECT_EQ(outcome.error, ECONNREFUSED);
  EXPECT_LT(outcome.seconds, kAtOnce);
}

TEST_P(Connect, NoRouteAtTheHost) {
  Outcome outcome = TryConnect(World::NoRouteAtHost(family()));
  EXPECT_EQ(outcome.error, ENETUNREACH);
  EXPECT_LT(outcome.seconds, via_penstock() ? kAtOnce : kAtOnceOverVeth);
}

TEST_P(Connect, RouterSaysUnreachable) {
  Outcome outcome = TryConnect(World::RouterSaysUnreachable(family()));
  EXPECT_EQ(outcome.error, family() == Family::kIpv4 ? EHOSTUNREACH : ENETUNREACH);
  EXPECT_LT(outcome.seconds, kAtOnceOverVeth);
}

TEST_P(Connect, RouterSaysProhibited) {
  Outcome outcome = TryConnect(World::RouterSaysProhibited(family()));
  EXPECT_EQ(outcome.error, family() == Family::kIpv4 ? EHOSTUNREACH : EACCES);
  EXPECT_LT(outcome.seconds, kAtOnceOverVeth);
}

TEST_P(Connect, NeighbourDoesNotAnswer) {
  Outcome outcome = TryConnect(World::NoSuchNeighbour(family()));
  EXPECT_EQ(outcome.error, EHOSTUNREACH);
  EXPECT_GT(outcome.seconds, 0.5);
  EXPECT_LT(outcome.seconds, 5);
}

TEST_P(Connect, BlackHoleTimesOutByTheGuestsOwnTimer) {
  sandbox_.guest().SetSysctl("ipv4/tcp_syn_retries", "1");
  Outcome outcome = TryConnect(World::Silent(family()));
  EXPECT_EQ(outcome.error, ETIMEDOUT);
  EXPECT_GT(outcome.seconds, 1);
  EXPECT_LT(outcome.seconds, 6);
}

TEST_P(Connect, ReachesAnotherMachine) {
  std::optional<TcpListener> listener;
  {
    InNamespace outside(world_.outside().descriptor());
    listener.emplace();
  }
  TcpSocket guest = sandbox_.GuestSocket(family());
  guest.Connect(World::Outside(family(), listener->port()));
  TcpSocket host = listener->Accept();
  guest.SendAll("from the guest");
  guest.ShutdownSending();
  EXPECT_EQ(host.ReceiveToEnd(), "from the guest");
  host.SendAll("from outside");
  host.Close();
  EXPECT_EQ(guest.ReceiveToEnd(), "from outside");
}

// The guest has said nothing yet when the first bytes come.
TEST_P(Connect, ServerSpeaksFirst) {
  auto [guest, host] = sandbox_.Connect(family());
  host.SendAll("220 ready\r\n");
  std::array<uint8_t, 64> banner{};
  ASSERT_EQ(guest.Receive(banner), 11u);
  guest.SendAll("QUIT\r\n");
  guest.ShutdownSending();
  EXPECT_EQ(host.ReceiveToEnd(), "QUIT\r\n");
  host.Close();
  EXPECT_EQ(guest.ReceiveToEnd(), "");
}

// Data and FIN ride on the handshake's last segment: without quick ACK the guest
// delays that ACK until it has something to say, and MSG_MORE keeps the data back
// until the FIN.
TEST_P(Connect, DataAndFinRideOnTheHandshakesAck) {
  for (const std::string& request : {std::string(), std::string("hello")}) {
    TcpListener listener;
    TcpSocket guest = sandbox_.GuestSocket(family());
    guest.Set(IPPROTO_TCP, TCP_QUICKACK, 0);
    guest.Connect(Sandbox::Gateway(family(), listener.port()));
    guest.SendAll(request, MSG_MORE);
    guest.ShutdownSending();
    TcpSocket host = listener.Accept();
    EXPECT_EQ(host.ReceiveToEnd(), request);
    host.SendAll("answer");
    host.Close();
    EXPECT_EQ(guest.ReceiveToEnd(), "answer");
  }
}

constexpr int kRounds = 50;

// One source port, one destination, again and again; each round's connection, closed
// first by one side and completely.
class PortReuse : public SandboxTest {
 protected:
  void RepeatConnections(bool guest_closes_first) {
    // The guest keeps no TIME_WAIT of its own, which would refuse its bind.
    sandbox_.guest().SetSysctl("ipv4/tcp_max_tw_buckets", "0");
    TcpListener listener;
    double slowest = 0;
    for (int round = 0; round < kRounds; ++round) {
      Time begin = Clock::now();
      TcpSocket guest = sandbox_.GuestSocket(family());
      guest.Set(SOL_SOCKET, SO_REUSEADDR, 1);
      guest.Bind(Sandbox::GuestAddress(family(), 40000));
      guest.Connect(Sandbox::Gateway(family(), listener.port()));
      TcpSocket host = listener.Accept();
      CloseBoth(guest, host, guest_closes_first);
      slowest = std::max(slowest, Seconds(Clock::now() - begin));
    }
    EXPECT_LT(slowest, 1) << (via_penstock() ? sandbox_.ReadStats().ToString() : "");
  }

 private:
  static void CloseBoth(TcpSocket& guest, TcpSocket& host, bool guest_closes_first) {
    TcpSocket& first = guest_closes_first ? guest : host;
    TcpSocket& second = guest_closes_first ? host : guest;
    // close(2) returns when the FIN is acknowledged, so that the port is free.
    linger until_acknowledged{.l_onoff = 1, .l_linger = 10};
    setsockopt(guest.descriptor(), SOL_SOCKET, SO_LINGER, &until_acknowledged,
               sizeof until_acknowledged);
    first.SendAll("bye");
    first.ShutdownSending();
    EXPECT_EQ(second.ReceiveToEnd(), "bye");
    second.Close();
    EXPECT_EQ(first.ReceiveToEnd(), "");
    first.Close();
  }
};

INSTANTIATE_TEST_SUITE_P(E2e, PortReuse, ::testing::ValuesIn(EveryCase()), CaseName);

TEST_P(PortReuse, GuestClosesFirst) { RepeatConnections(true); }
TEST_P(PortReuse, ServerClosesFirst) { RepeatConnections(false); }

}  // namespace
}  // namespace penstock::e2e
