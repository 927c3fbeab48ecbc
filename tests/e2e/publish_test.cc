// Published TCP ports, with a real kernel in the guest and real clients on the host:
// many at once, refusals and how soon, descriptors that run out, whom the guest sees.
// What both ends of an open connection may expect is in the tables of close_test,
// pause_test and backpressure_test, for either opener.

#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <iostream>
#include <system_error>

#include "relay/socket_address.h"
#include "tests/support/places.h"
#include "tests/support/sandbox.h"

namespace penstock::e2e {
namespace {

// Published under their own numbers; nobody listens on the last one.
constexpr uint16_t kEchoPort = 7781, kRefusedPort = 7789;

// errno of the connect or of the first receive; 0 at a clean end.
int ErrorOfConnection(const Endpoint& destination) {
  TcpSocket client(destination.address.family);
  if (const int error = client.TryConnect(destination); error != 0) return error;
  try {
    client.ReceiveToEnd();
  } catch (const std::system_error& error) {
    return error.code().value();
  }
  return 0;
}

class PublishedPorts : public ::testing::TestWithParam<SandboxCase> {
 protected:
  [[nodiscard]] static Family family() { return GetParam().family; }
  [[nodiscard]] Endpoint At(uint16_t port) const { return sandbox_.Published(family(), port); }

  // net-echo in the guest, until the test ends.
  void StartEcho() {
    Pipe output;
    echo_ = Process(
        {ProgramPath("net-echo"), "--tcp", std::to_string(kEchoPort)},
        {.network_namespace = sandbox_.guest().descriptor(), .output = output.writing_end.get()});
    output.writing_end.Close();
    char first;  // of "net-echo: listening …"
    if (read(output.reading_end.get(), &first, 1) != 1) throw std::runtime_error("no net-echo");
    echo_output_ = std::move(output.reading_end);
  }

  void EchoAtOnce(int count, uint64_t bytes) {
    std::vector<std::future<void>> clients;
    for (int i = 0; i < count; ++i) {
      clients.push_back(Concurrently([&, i] {
        TcpSocket client(family());
        client.Connect(At(kEchoPort));
        const Stream stream{static_cast<uint64_t>(i), bytes};
        Perform(client, {.send = stream, .receive = stream});
      }));
    }
    for (auto& client : clients) client.get();
  }

  World world_;
  Sandbox sandbox_{{.via = GetParam().via,
                    .penstock_options = {"--publish", "127.0.0.1:7781-7789:7781-7789", "--publish",
                                         "[::1]:7781-7789:7781-7789"}}};
  Process echo_;
  Descriptor echo_output_;
};

INSTANTIATE_TEST_SUITE_P(E2e, PublishedPorts, ::testing::ValuesIn(PenstockCases()), CaseName);

TEST_P(PublishedPorts, OneThreeAndFiveHundredAtOnce) {
  StartEcho();
  EchoAtOnce(1, 1 << 20);
  EchoAtOnce(3, 1 << 20);
  EchoAtOnce(500, 1 << 12);
  Stats stats = sandbox_.ReadStats();
  EXPECT_EQ(stats["inbound_opened"], 504u);
  EXPECT_EQ(stats["flows_established"], 504u);
  EXPECT_EQ(stats["flows_closed"], 504u);
}

// Nobody listens in the guest: its RST is the client's, one round trip later.
TEST_P(PublishedPorts, GuestThatRefusesResetsTheClientAtOnce) {
  Time begin = Clock::now();
  constexpr int kTimes = 100;
  for (int i = 0; i < kTimes; ++i) EXPECT_EQ(ErrorOfConnection(At(kRefusedPort)), ECONNRESET);
  const double each = Seconds(Clock::now() - begin) / kTimes;
  std::cout << "reset after " << each * 1e6 << " us, connect included\n";
  // A SYN that waited for a timer would take a second.
  EXPECT_LT(each, 0.3);
  Stats stats = sandbox_.ReadStats();
  if (each > 0.005) std::cout << stats.ToString();
  EXPECT_EQ(stats["inbound_refused"], uint64_t{kTimes});
}

// A guest that is there and does not answer: after the dial timeout, not before.
TEST_P(PublishedPorts, SilentGuestResetsTheClientAfterTheDialTimeout) {
  sandbox_.guest().Ip("link set tap0 down\n");
  Time begin = Clock::now();
  EXPECT_EQ(ErrorOfConnection(At(kEchoPort)), ECONNRESET);
  const double seconds = Seconds(Clock::now() - begin);
  EXPECT_GT(seconds, 9);
  EXPECT_LT(seconds, 15);
  EXPECT_EQ(sandbox_.ReadStats()["inbound_dial_timeout"], 1u);
}

// A guest that comes up while the client waits.
TEST_P(PublishedPorts, GuestThatIsLateIsWaitedFor) {
  TcpListener listener = sandbox_.GuestListener(kEchoPort);
  sandbox_.guest().Ip("link set tap0 down\n");
  TcpSocket client(family());
  client.Connect(At(kEchoPort));
  client.SendAll("patience");
  client.ShutdownSending();
  poll(nullptr, 0, 1500);  // some SYNs are lost
  sandbox_.guest().Ip("link set tap0 up\n");
  if (family() == Family::kIpv6) {
    // The kernel takes the addresses of an interface that goes down.
    sandbox_.guest().Ip("addr replace fd00::15/64 dev tap0 nodad\n");
  }
  TcpSocket server = listener.Accept();
  EXPECT_EQ(server.ReceiveToEnd(), "patience");
}

// Descriptors run out in the middle of a burst: those who got in live on, those who did
// not wait, and have their turn when there are descriptors again.
TEST_P(PublishedPorts, DescriptorsRunOutAndCome) {
  constexpr int kLive = 8, kBurst = 40;
  TcpListener listener = sandbox_.GuestListener(kEchoPort);
  std::vector<TcpSocket> clients, servers;
  const auto connect = [&] {
    clients.emplace_back(family());
    clients.back().Connect(At(kEchoPort));
  };
  for (int i = 0; i < kLive; ++i) {
    connect();
    servers.push_back(listener.Accept());
  }
  // As many more as it has now, and four.
  rlimit before{};
  ASSERT_EQ(prlimit(sandbox_.penstock().pid(), RLIMIT_NOFILE, nullptr, &before), 0);
  rlimit tight = before;
  tight.rlim_cur = sandbox_.OpenDescriptors() + 4;
  ASSERT_EQ(prlimit(sandbox_.penstock().pid(), RLIMIT_NOFILE, &tight, nullptr), 0);
  for (int i = 0; i < kBurst; ++i) connect();
  servers.push_back(listener.Accept());
  poll(nullptr, 0, 200);
  for (int i = 0; i < kLive; ++i) {
    clients[static_cast<size_t>(i)].SendAll("still here");
    std::array<uint8_t, 10> bytes;
    EXPECT_EQ(servers[static_cast<size_t>(i)].Receive(bytes, MSG_WAITALL), bytes.size());
  }
  ASSERT_EQ(prlimit(sandbox_.penstock().pid(), RLIMIT_NOFILE, &before, nullptr), 0);
  while (servers.size() < clients.size()) servers.push_back(listener.Accept());
  Stats stats = sandbox_.ReadStats();
  EXPECT_GT(stats["accept_errors"], 0u);
  EXPECT_GT(stats["accept_pauses"], 0u);
  EXPECT_LT(stats["accept_errors"], 100u) << "a listener without descriptors must not spin";
  EXPECT_EQ(stats["inbound_opened"], uint64_t{kLive + kBurst});
  EXPECT_EQ(stats["inbound_refused_limit"], 0u);
}

// Penstock ends: its clients are reset, whether the guest had answered or not.
TEST_P(PublishedPorts, EndOfPenstockResetsTheClients) {
  TcpListener listener = sandbox_.GuestListener(kEchoPort);
  TcpSocket client(family());
  client.Connect(At(kEchoPort));
  TcpSocket server = listener.Accept();
  sandbox_.EndPenstock();
  try {
    client.ReceiveToEnd();
    FAIL() << "a clean end";
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code().value(), ECONNRESET);
  }
  EXPECT_EQ(ErrorOfConnection(At(kEchoPort)), ECONNREFUSED);
}

// ---------------------------------------------------------------- whom the guest sees

class ClientIdentities : public ::testing::TestWithParam<Family> {
 protected:
  // A client on another machine, and its connection in the guest.
  Sandbox::Connection ConnectFromOutside(TcpListener& listener, uint16_t port) {
    const char* host = GetParam() == Family::kIpv4 ? "198.18.0.2" : "fd01::2";
    InNamespace outside(world_.outside().descriptor());
    TcpSocket client(GetParam());
    client.Connect({*IpAddress::Parse(host), port});
    return {.guest = listener.Accept(), .host = std::move(client)};
  }

  static Endpoint PeerOf(const TcpSocket& socket) {
    SocketAddress peer;
    if (getpeername(socket.descriptor(), peer.data(), peer.length_pointer()) != 0) return {};
    Endpoint endpoint = peer.ToEndpoint();
    endpoint.address = endpoint.address.Unmapped();
    return endpoint;
  }

  static Endpoint OwnOf(const TcpSocket& socket) {
    SocketAddress own;
    if (getsockname(socket.descriptor(), own.data(), own.length_pointer()) != 0) return {};
    return own.ToEndpoint();
  }

  World world_;
};

INSTANTIATE_TEST_SUITE_P(E2e, ClientIdentities, ::testing::Values(Family::kIpv4, Family::kIpv6),
                         [](const auto& test) { return Name(test.param); });

TEST_P(ClientIdentities, GatewayByDefault) {
  Sandbox sandbox({.penstock_options = {"--publish", "*:7780:7780"}});
  TcpListener listener = sandbox.GuestListener(7780);
  auto [guest, host] = ConnectFromOutside(listener, 7780);
  EXPECT_EQ(PeerOf(guest).address, Sandbox::Gateway(GetParam(), 0).address);
}

TEST_P(ClientIdentities, PreservedSourceIsTheClientItself) {
  Sandbox sandbox(
      {.penstock_options = {"--publish", "*:7780:7780", "--client-identity", "preserve-source"}});
  TcpListener listener = sandbox.GuestListener(7780);
  auto [guest, host] = ConnectFromOutside(listener, 7780);
  EXPECT_EQ(PeerOf(guest), OwnOf(host));
  guest.SendAll("hello");
  guest.Close();
  EXPECT_EQ(host.ReceiveToEnd(), "hello");
  // From loopback it could not be answered: the gateway.
  TcpSocket local(GetParam());
  local.Connect(sandbox.Published(GetParam(), 7780));
  TcpSocket accepted = listener.Accept();
  EXPECT_EQ(PeerOf(accepted).address, Sandbox::Gateway(GetParam(), 0).address);
}

}  // namespace
}  // namespace penstock::e2e
