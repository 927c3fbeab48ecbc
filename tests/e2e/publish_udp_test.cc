// Published UDP ports, with a real kernel in the guest and real clients on the host:
// many clients at once, the largest datagrams, whom each end sees.

#include <unistd.h>

#include <deque>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/places.h"
#include "tests/support/sandbox.h"
#include "tests/support/sandbox_datagram.h"

namespace penstock::e2e {
namespace {

// Published under their own numbers.
constexpr uint16_t kUdpEchoPort = 7791, kSeenPort = 7792;
// Datagrams on their way at once: a kernel's socket buffer holds that many small ones.
constexpr size_t kDatagramsInFlight = 64;

std::string Text(size_t client, int number, size_t bytes) {
  std::string text(bytes, '\0');
  FillPattern(client * 1'000 + static_cast<size_t>(number), 0,
              {reinterpret_cast<uint8_t*>(text.data()), text.size()});
  return text;
}

class PublishedUdp : public ::testing::TestWithParam<SandboxCase> {
 protected:
  [[nodiscard]] static Family family() { return GetParam().family; }
  [[nodiscard]] Endpoint At(uint16_t port) const { return sandbox_.Published(family(), port); }
  [[nodiscard]] UdpSocket GuestSocket(uint16_t port) const {
    const InNamespace inside(sandbox_.guest().descriptor());
    UdpSocket socket(family());
    socket.Bind(Sandbox::GuestAddress(family(), port));
    return socket;
  }
  // The guest's echo, until the test ends.
  void StartEcho() {
    Pipe output;
    echo_ = Process(
        {ProgramPath("net-echo"), "--udp", std::to_string(kUdpEchoPort), "--bind",
         Sandbox::GuestAddress(family(), 0).address.ToString()},
        {.network_namespace = sandbox_.guest().descriptor(), .output = output.writing_end.get()});
    output.writing_end.Close();
    char first;  // of "net-echo: listening …"
    if (read(output.reading_end.get(), &first, 1) != 1) throw std::runtime_error("no net-echo");
    echo_output_ = std::move(output.reading_end);
  }

  // Each client sends `count` datagrams and gets them back, from where it sent them.
  void EchoAtOnce(size_t clients, int count, size_t bytes) {
    std::vector<UdpSocket> sockets;
    for (size_t i = 0; i < clients; ++i) sockets.emplace_back(family());
    // By client, oldest first. Kernels may swap what is under way (a busy CPU's backlog), so
    // any of a client's own will do, each once.
    std::deque<size_t> under_way;
    std::vector<std::set<std::string>> missing(clients);
    const auto receive = [&] {
      const size_t client = under_way.front();
      under_way.pop_front();
      const UdpSocket::Datagram echo = sockets[client].Receive();
      EXPECT_EQ(missing[client].erase(echo.text), 1u) << "client " << client;
      EXPECT_EQ(echo.from, At(kUdpEchoPort));
    };
    for (int number = 0; number < count; ++number) {
      for (size_t client = 0; client < clients; ++client) {
        missing[client].insert(Text(client, number, bytes));
        sockets[client].SendTo(At(kUdpEchoPort), Text(client, number, bytes));
        under_way.push_back(client);
        if (under_way.size() >= kDatagramsInFlight) receive();
      }
    }
    while (!under_way.empty()) receive();
    for (UdpSocket& socket : sockets) {
      EXPECT_FALSE(socket.TryReceive(Duration{}).has_value());
      used_.push_back(std::move(socket));
    }
  }
  // What waits for a neighbour in the guest's kernel may be overtaken by what is sent
  // when the answer comes: so the first datagram travels alone.
  void MeetTheGuest() { EchoAtOnce(1, 1, 10); }

  World world_;
  Sandbox sandbox_{{.via = GetParam().via,
                    .penstock_options = {"--publish", "127.0.0.1:7791-7792:7791-7792/udp",
                                         "--publish", "[::1]:7791-7792:7791-7792/udp"}}};
  std::vector<UdpSocket> used_;  // kept: a port that comes again is the same peer
  Process echo_;
  Descriptor echo_output_;
};

INSTANTIATE_TEST_SUITE_P(E2e, PublishedUdp, ::testing::ValuesIn(EveryCase()), CaseName);

TEST_P(PublishedUdp, OneThreeAndFiveHundredClientsAtOnce) {
  StartEcho();
  MeetTheGuest();
  EchoAtOnce(1, 100, 200);
  EchoAtOnce(3, 100, 1'000);
  EchoAtOnce(500, 10, 100);
  if (GetParam().via == Via::kPlain) return;
  const Stats stats = sandbox_.ReadStats();
  EXPECT_EQ(stats["udp_peers_opened"], 505u) << stats.ToString();
  EXPECT_EQ(stats["udp_datagrams_to_guest"], 1u + 100u + 300u + 5'000u) << stats.ToString();
  EXPECT_EQ(stats["udp_datagrams_to_host"], 1u + 100u + 300u + 5'000u) << stats.ToString();
}

// Dozens of fragments each way, cut and put together by the guest's kernel.
TEST_P(PublishedUdp, TheLargestDatagramsBothWays) {
  StartEcho();
  for (const size_t bytes : {1'472, 1'473, 9'000, 60'000, 65'507}) {
    UdpSocket client(family());
    for (int number = 0; number < 5; ++number) {
      client.SendTo(At(kUdpEchoPort), Text(7, number, bytes));
      EXPECT_TRUE(client.Receive().text == Text(7, number, bytes)) << bytes;
    }
  }
}

TEST_P(PublishedUdp, AnEmptyDatagramIsOne) {
  StartEcho();
  UdpSocket client(family());
  client.SendTo(At(kUdpEchoPort), "");
  EXPECT_EQ(client.Receive().text, "");
}

class PublishedUdpSeen : public PublishedUdp {};
INSTANTIATE_TEST_SUITE_P(E2e, PublishedUdpSeen, ::testing::ValuesIn(PenstockCases()), CaseName);

// A guest sees the gateway, each client with a port of its own, and answers whom it likes.
TEST_P(PublishedUdpSeen, TheGuestSeesTheGatewayAndAnswersWhomItLikes) {
  UdpSocket guest = GuestSocket(kSeenPort);
  UdpSocket first(family()), second(family());
  first.SendTo(At(kSeenPort), "first");
  const UdpSocket::Datagram from_first = guest.Receive();
  second.SendTo(At(kSeenPort), "second");
  const UdpSocket::Datagram from_second = guest.Receive();
  EXPECT_EQ(from_first.from.address, Sandbox::Gateway(family(), 0).address);
  EXPECT_EQ(from_second.from.address, from_first.from.address);
  EXPECT_NE(from_second.from.port, from_first.from.port);
  guest.SendTo(from_second.from, "to the second");
  guest.SendTo(from_first.from, "to the first");
  guest.SendTo(from_first.from, "again");
  EXPECT_EQ(first.Receive().text, "to the first");
  EXPECT_EQ(first.Receive().text, "again");
  EXPECT_EQ(second.Receive().text, "to the second");
}

class PublishedUdpEverywhere : public ::testing::TestWithParam<Family> {
 protected:
  World world_;
  Sandbox sandbox_{{.penstock_options = {"--publish", "*:7791:7791/udp", "--client-identity",
                                         "preserve-source"}}};
};
INSTANTIATE_TEST_SUITE_P(E2e, PublishedUdpEverywhere,
                         ::testing::Values(Family::kIpv4, Family::kIpv6),
                         [](const auto& test) { return Name(test.param); });

// Bound to every address, it answers from the one that was asked; the guest sees a client
// of another machine as itself.
TEST_P(PublishedUdpEverywhere, AnswersComeFromTheAddressThatWasAsked) {
  const bool v4 = GetParam() == Family::kIpv4;
  UdpSocket guest = [&] {
    const InNamespace inside(sandbox_.guest().descriptor());
    UdpSocket socket(GetParam());
    socket.Bind(Sandbox::GuestAddress(GetParam(), kUdpEchoPort));
    return socket;
  }();
  UdpSocket outside = [&] {
    const InNamespace inside(world_.outside().descriptor());
    UdpSocket socket(GetParam());
    socket.Bind(World::Outside(GetParam(), 0));
    return socket;
  }();
  UdpSocket local(GetParam());
  const auto ask = [&](UdpSocket& client, const char* address) {
    const Endpoint asked{*IpAddress::Parse(address), kUdpEchoPort};
    client.SendTo(asked, "which one?");
    const UdpSocket::Datagram question = guest.Receive();
    guest.SendTo(question.from, "the one you asked");
    EXPECT_EQ(client.Receive().from, asked) << address;
    return question.from;
  };
  const Endpoint seen = ask(outside, v4 ? "198.18.0.2" : "fd01::2");
  EXPECT_EQ(seen, outside.own());
  // The host's own clients: from its loopback they are seen as the gateway.
  const IpAddress gateway = Sandbox::Gateway(GetParam(), 0).address;
  EXPECT_EQ(ask(local, v4 ? "127.0.0.1" : "::1").address, gateway);
  if (v4) {
    EXPECT_EQ(ask(local, "127.0.0.2").address, gateway);
  }
}

}  // namespace
}  // namespace penstock::e2e
