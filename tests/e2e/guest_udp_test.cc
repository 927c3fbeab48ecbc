// The guest's own UDP and echo requests, with real kernels at both ends: contents and sizes,
// what errors look like in the guest, mappings and who may answer, what of the packet's header
// is carried. What a plain veth pair shows is expected through penstock, too.

#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <stdexcept>
#include <string>

#include "tests/support/places.h"
#include "tests/support/sandbox.h"
#include "tests/support/sandbox_datagram.h"

namespace penstock::e2e {
namespace {

using namespace std::chrono_literals;

constexpr uint16_t kGuestUdpEchoPort = 7'793, kClosedPort = 7'794;
// Long enough for what is under way to arrive, where something is expected to stay away.
constexpr Duration kQuietTime = 200ms;

class GuestUdp : public SandboxTest {
 protected:
  void SetUp() override {
    // The guest's first datagram waits for the neighbours' answers; what follows at once may
    // overtake it.
    UdpSocket socket = OutsideSocket(0);
    UdpSocket guest = GuestSocket();
    guest.SendTo(At(socket), "meet");
    ASSERT_EQ(socket.Receive().text, "meet");
  }
  [[nodiscard]] static bool v4() { return family() == Family::kIpv4; }
  [[nodiscard]] UdpSocket GuestSocket() const {
    const InNamespace inside(sandbox_.guest().descriptor());
    return UdpSocket(family());
  }
  [[nodiscard]] UdpSocket OutsideSocket(uint16_t port) const {
    const InNamespace there(world_.outside().descriptor());
    UdpSocket socket(family());
    socket.Bind(World::Outside(family(), port));
    return socket;
  }
  [[nodiscard]] static Endpoint At(const UdpSocket& outside) {
    return World::Outside(family(), outside.own().port);
  }
  // Until the test ends; on every address of the outside, or of the host.
  void StartEcho(int network_namespace) {
    Pipe output;
    echo_ = Process({ProgramPath("net-echo"), "--udp", std::to_string(kGuestUdpEchoPort)},
                    {.network_namespace = network_namespace, .output = output.writing_end.get()});
    output.writing_end.Close();
    char first;  // of "net-echo: listening …"
    if (read(output.reading_end.get(), &first, 1) != 1) throw std::runtime_error("no net-echo");
    echo_output_ = std::move(output.reading_end);
  }
  static std::string Text(size_t bytes) {
    std::string text(bytes, '\0');
    FillPattern(bytes, 0, {reinterpret_cast<uint8_t*>(text.data()), text.size()});
    return text;
  }
  void ExpectEchoes(const Endpoint& echo) {
    UdpSocket guest = GuestSocket();
    for (const size_t bytes : {0, 1, 100, 1'472, 1'473, 9'000, 60'000, 65'507}) {
      for (int i = 0; i < 3; ++i) {
        guest.SendTo(echo, Text(bytes));
        const UdpSocket::Datagram answer = guest.Receive();
        EXPECT_TRUE(answer.text == Text(bytes)) << bytes;
        EXPECT_EQ(answer.from, echo);
      }
    }
  }
  // What a socket of the guest's hears when it sends to `to`.
  [[nodiscard]] int ErrorOf(const Endpoint& to) const {
    UdpSocket guest = GuestSocket();
    guest.SetOption(v4() ? IPPROTO_IP : IPPROTO_IPV6, v4() ? IP_RECVERR : IPV6_RECVERR, 1);
    guest.Connect(to);
    EXPECT_EQ(guest.TrySend("anybody?"), 0);
    return guest.NextError(10s);
  }

  Process echo_;
  Descriptor echo_output_;
};

INSTANTIATE_TEST_SUITE_P(E2e, GuestUdp, ::testing::ValuesIn(EveryCase()), CaseName);

TEST_P(GuestUdp, EverySizeThereAndBack) {
  StartEcho(world_.outside().descriptor());
  ExpectEchoes(World::Outside(family(), kGuestUdpEchoPort));
}

// The host's loopback behind penstock; the host itself behind a veth pair.
TEST_P(GuestUdp, EverySizeToTheGateway) {
  StartEcho(-1);
  ExpectEchoes(Sandbox::Gateway(family(), kGuestUdpEchoPort));
}

TEST_P(GuestUdp, AClosedPortIsAConnectionRefused) {
  EXPECT_EQ(ErrorOf(World::Outside(family(), kClosedPort)), ECONNREFUSED);
  EXPECT_EQ(ErrorOf(Sandbox::Gateway(family(), kClosedPort)), ECONNREFUSED);
  // Without asking for errors, too: a connected socket hears of this one.
  UdpSocket guest = GuestSocket();
  guest.Connect(World::Outside(family(), kClosedPort));
  ASSERT_EQ(guest.TrySend("anybody?"), 0);
  EXPECT_EQ(guest.NextError(10s), ECONNREFUSED);
}

TEST_P(GuestUdp, WhatRoutersSayReachesTheGuest) {
  EXPECT_EQ(ErrorOf(World::RouterSaysUnreachable(family())), v4() ? EHOSTUNREACH : ENETUNREACH);
  EXPECT_EQ(ErrorOf(World::RouterSaysProhibited(family())), v4() ? EHOSTUNREACH : EACCES);
  EXPECT_EQ(ErrorOf(World::NoRouteAtHost(family())), ENETUNREACH);
}

// What the path does not carry in one piece, and must not be cut.
TEST_P(GuestUdp, ATooLargeDatagramLearnsThePathMtu) {
  RunOrThrow({"ip", "link", "set", "to-outside", "mtu", "1400"});
  const int level = v4() ? IPPROTO_IP : IPPROTO_IPV6;
  UdpSocket outside = OutsideSocket(0);
  UdpSocket guest = GuestSocket();
  guest.SetOption(level, v4() ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER,
                  v4() ? int{IP_PMTUDISC_DO} : int{IPV6_PMTUDISC_DO});
  guest.Connect(At(outside));
  ASSERT_EQ(guest.TrySend(Text(1'420)), 0);
  EXPECT_EQ(guest.NextError(10s), EMSGSIZE);
  EXPECT_EQ(guest.TrySend(Text(1'420)), EMSGSIZE) << "the guest's kernel knows it now";
  EXPECT_EQ(guest.Option(level, v4() ? IP_MTU : IPV6_MTU), 1'400);
  EXPECT_FALSE(outside.TryReceive(kQuietTime).has_value());
  ASSERT_EQ(guest.TrySend(Text(1'400 - (v4() ? 28 : 48))), 0);
  EXPECT_EQ(outside.Receive().text.size(), 1'400u - (v4() ? 28 : 48));
  // What may be cut still arrives whole.
  UdpSocket other = GuestSocket();
  if (v4()) other.SetOption(IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT);
  other.SendTo(At(outside), Text(v4() ? 1'420 : 5'000));
  EXPECT_EQ(outside.Receive().text.size(), v4() ? 1'420u : 5'000u);
}

TEST_P(GuestUdp, HopLimitAndTrafficClassAreCarried) {
  const int level = v4() ? IPPROTO_IP : IPPROTO_IPV6;
  const int set_limit = v4() ? int{IP_TTL} : int{IPV6_UNICAST_HOPS};
  const int set_class = v4() ? int{IP_TOS} : int{IPV6_TCLASS};
  UdpSocket outside = OutsideSocket(0);
  UdpSocket guest = GuestSocket();
  const auto seen = [&](bool hop_limit) {
    const int option = v4() ? (hop_limit ? int{IP_RECVTTL} : int{IP_RECVTOS})
                            : (hop_limit ? int{IPV6_RECVHOPLIMIT} : int{IPV6_RECVTCLASS});
    const int type = v4() ? (hop_limit ? int{IP_TTL} : int{IP_TOS})
                          : (hop_limit ? int{IPV6_HOPLIMIT} : int{IPV6_TCLASS});
    outside.SetOption(level, option, 1);
    guest.SendTo(At(outside), "look");
    return outside.ReceiveControl(level, type);
  };
  EXPECT_EQ(seen(true), 63);
  guest.SetOption(level, set_limit, 10);
  EXPECT_EQ(seen(true), 9);
  guest.SetOption(level, set_limit, 200);
  EXPECT_EQ(seen(true), 199);
  guest.SetOption(level, set_class, 0xb8);  // expedited forwarding
  EXPECT_EQ(seen(false), 0xb8);
  guest.SetOption(level, set_class, 0);
  EXPECT_EQ(seen(false), 0);
}

TEST_P(GuestUdp, AUsedUpHopLimitEndsAtTheGateway) {
  const int level = v4() ? IPPROTO_IP : IPPROTO_IPV6;
  UdpSocket outside = OutsideSocket(0);
  UdpSocket guest = GuestSocket();
  guest.SetOption(level, v4() ? IP_RECVERR : IPV6_RECVERR, 1);
  guest.SetOption(level, v4() ? int{IP_TTL} : int{IPV6_UNICAST_HOPS}, 1);
  guest.Connect(At(outside));
  ASSERT_EQ(guest.TrySend("not far"), 0);
  EXPECT_EQ(guest.NextError(10s), EHOSTUNREACH);
  EXPECT_FALSE(outside.TryReceive(kQuietTime).has_value());
}

// ---------------------------------------------------------------- mappings

// As STUN tests it (RFC 5780 4.3, 4.4): one socket of the guest's looks the same to everyone;
// only whom it has sent to gets through to it.
TEST_P(GuestUdp, OneMappingForEveryDestination) {
  if (!via_penstock()) return;  // a veth pair maps nothing
  UdpSocket first = OutsideSocket(0), second = OutsideSocket(0), host(family());
  UdpSocket guest = GuestSocket(), other = GuestSocket();
  guest.SendTo(At(first), "who am I?");
  const Endpoint mapped = first.Receive().from;
  guest.SendTo(At(second), "who am I?");
  EXPECT_EQ(second.Receive().from, mapped);
  other.SendTo(At(first), "and I?");
  EXPECT_NE(first.Receive().from.port, mapped.port);

  UdpSocket stranger = OutsideSocket(0);
  stranger.SendTo(mapped, "from another port");
  EXPECT_FALSE(guest.TryReceive(kQuietTime).has_value());
  second.SendTo(mapped, "an answer");
  EXPECT_EQ(guest.Receive().from, At(second));
  guest.SendTo(At(stranger), "now you may");
  EXPECT_EQ(stranger.Receive().from, mapped);
  stranger.SendTo(mapped, "thanks");
  EXPECT_EQ(guest.Receive().text, "thanks");
  EXPECT_EQ(sandbox_.ReadStats()["udp_filtered"], 1u);
}

// A "full cone", by option: everybody gets through to a port that has sent anything.
class FullCone : public ::testing::TestWithParam<SandboxCase> {
 protected:
  World world_;
  Sandbox sandbox_{{.via = GetParam().via, .penstock_options = {"--udp-filtering", "none"}}};
};

INSTANTIATE_TEST_SUITE_P(E2e, FullCone, ::testing::ValuesIn(PenstockCases()), CaseName);

TEST_P(FullCone, StrangersGetThrough) {
  const Family family = GetParam().family;
  const auto socket_at = [&](const Namespace& place) {
    const InNamespace there(place.descriptor());
    return UdpSocket(family);
  };
  UdpSocket known = socket_at(world_.outside()), stranger = socket_at(world_.outside());
  known.Bind(World::Outside(family, 0));
  stranger.Bind(World::Outside(family, 0));
  UdpSocket guest = socket_at(sandbox_.guest());
  guest.SendTo(World::Outside(family, known.own().port), "hello");
  const Endpoint mapped = known.Receive().from;
  stranger.SendTo(mapped, "you do not know me");
  const UdpSocket::Datagram heard = guest.Receive();
  EXPECT_EQ(heard.text, "you do not know me");
  EXPECT_EQ(heard.from, World::Outside(family, stranger.own().port));
}

// Two sockets of the guest's that know each other only by what a third one saw (RFC 5128
// 3.3): each opens its own hole with its first datagram.
TEST_P(GuestUdp, HolePunching) {
  if (!via_penstock()) return;
  UdpSocket rendezvous = OutsideSocket(0);
  UdpSocket a = GuestSocket(), b = GuestSocket();
  a.SendTo(At(rendezvous), "a");
  const Endpoint seen_a = rendezvous.Receive().from;
  b.SendTo(At(rendezvous), "b");
  const Endpoint seen_b = rendezvous.Receive().from;

  a.SendTo(seen_b, "too early, but it opens a's side");
  EXPECT_FALSE(b.TryReceive(kQuietTime).has_value());
  b.SendTo(seen_a, "hello a");
  const UdpSocket::Datagram to_a = a.Receive();
  EXPECT_EQ(to_a.text, "hello a");
  EXPECT_EQ(to_a.from, seen_b);
  a.SendTo(seen_b, "hello b");
  const UdpSocket::Datagram to_b = b.Receive();
  EXPECT_EQ(to_b.text, "hello b");
  EXPECT_EQ(to_b.from, seen_a);
  // The rendezvous sees what it saw before.
  a.SendTo(At(rendezvous), "a again");
  EXPECT_EQ(rendezvous.Receive().from, seen_a);
}

TEST_P(GuestUdp, AThousandSocketsKeepTheirAnswersApart) {
  StartEcho(world_.outside().descriptor());
  std::vector<UdpSocket> sockets;
  for (int i = 0; i < 1'000; ++i) sockets.push_back(GuestSocket());
  for (int round = 0; round < 2; ++round) {
    for (size_t from = 0; from < sockets.size(); from += 50) {
      for (size_t i = from; i < from + 50; ++i) {
        sockets[i].SendTo(World::Outside(family(), kGuestUdpEchoPort), "I am " + std::to_string(i));
      }
      for (size_t i = from; i < from + 50; ++i) {
        EXPECT_EQ(sockets[i].Receive().text, "I am " + std::to_string(i));
      }
    }
  }
  if (!via_penstock()) return;
  const Stats stats = sandbox_.ReadStats();
  // One is of the sandbox's beginning; the guest may have given its port to a socket of ours.
  EXPECT_GE(stats["udp_mappings_opened"], 1'000u) << stats.ToString();
  EXPECT_LE(stats["udp_mappings_opened"], 1'001u) << stats.ToString();
  EXPECT_EQ(stats["udp_mappings"], stats["udp_mappings_opened"]) << stats.ToString();
}

// Nothing can be opened for new sockets; those that are there go on, and new ones work again
// when there is room.
TEST_P(GuestUdp, DescriptorsRunOutAndCome) {
  if (!via_penstock()) return;
  StartEcho(world_.outside().descriptor());
  const Endpoint echo = World::Outside(family(), kGuestUdpEchoPort);
  UdpSocket early = GuestSocket(), late = GuestSocket();
  early.SendTo(echo, "early");
  EXPECT_EQ(early.Receive().text, "early");
  rlimit before{}, none{.rlim_cur = 8};  // so many any penstock has
  ASSERT_EQ(prlimit(sandbox_.penstock().pid(), RLIMIT_NOFILE, nullptr, &before), 0);
  none.rlim_max = before.rlim_max;
  ASSERT_EQ(prlimit(sandbox_.penstock().pid(), RLIMIT_NOFILE, &none, nullptr), 0);
  late.SendTo(echo, "late");
  EXPECT_FALSE(late.TryReceive(kQuietTime).has_value());
  early.SendTo(echo, "still here");
  EXPECT_EQ(early.Receive().text, "still here");
  ASSERT_EQ(prlimit(sandbox_.penstock().pid(), RLIMIT_NOFILE, &before, nullptr), 0);
  EXPECT_GT(sandbox_.ReadStats()["udp_lost_no_socket"], 0u);
  late.SendTo(echo, "late");
  EXPECT_EQ(late.Receive().text, "late");
}

}  // namespace
}  // namespace penstock::e2e
