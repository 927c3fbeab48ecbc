// tools/examples/mini_runtime.c as somebody would run it: a whole kernel is its guest, behind each
// kind of link that it can be passed. The VMM of a socket is a thread that carries frames between
// the socket and the guest's tap.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "tests/support/packet_builder.h"
#include "tests/support/sandbox.h"
#include "tests/tools/isolation.h"
#include "tests/tools/program.h"
#include "tools/penstock/endpoint_text.h"

namespace penstock::tool {
namespace {

using e2e::TcpListener;
using e2e::TcpSocket;

constexpr Family kFamilies[] = {Family::kIpv4, Family::kIpv6};

// How the guest is linked: by a socket of this type, or by the tap itself.
constexpr int kTap = 0;
std::string NameOfLink(int type) {
  return type == SOCK_STREAM      ? "Stream"
         : type == SOCK_DGRAM     ? "Datagrams"
         : type == SOCK_SEQPACKET ? "Seqpacket"
                                  : "Tap";
}

// A network namespace with a tap in it, configured by hand.
class Guest {
 public:
  explicit Guest(bool offloads) {
    // No second address of its own choice, whenever a router's advertisement comes.
    space_.SetSysctl("ipv6/conf/default/accept_ra", "0");
    space_.SetSysctl("ipv6/conf/default/router_solicitations", "0");
    const e2e::InNamespace inside(space_.descriptor());
    tap_ = e2e::Descriptor(open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    ifreq request{};
    request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | (offloads ? IFF_VNET_HDR : 0));
    std::string("tap0").copy(request.ifr_name, IFNAMSIZ - 1);
    if (ioctl(tap_.get(), TUNSETIFF, &request) != 0) e2e::ThrowErrno("tap0");
    space_.Ip(
        "addr add 10.0.2.15/24 dev tap0\n"
        "addr add fd00::15/64 dev tap0 nodad\n"
        "link set tap0 up\n");
  }
  [[nodiscard]] const e2e::Namespace& space() const { return space_; }
  [[nodiscard]] e2e::Descriptor& tap() { return tap_; }

 private:
  e2e::Namespace space_;
  e2e::Descriptor tap_;
};

// The VMM, at the other end of the socket that is passed.
class Carrier {
 public:
  Carrier(int type, int tap, e2e::Descriptor& passed) : framed_(type == SOCK_STREAM), tap_(tap) {
    int ends[2];
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) != 0) e2e::ThrowErrno("socketpair");
    socket_ = e2e::Descriptor(ends[0]);
    passed = e2e::Descriptor(ends[1]);
    thread_ = std::thread([this] { Run(); });
  }
  ~Carrier() {
    shutdown(socket_.get(), SHUT_RDWR);
    thread_.join();
  }
  Carrier(const Carrier&) = delete;
  Carrier& operator=(const Carrier&) = delete;

 private:
  void Run() {
    for (bool goes_on = true; goes_on;) {
      pollfd ready[] = {{.fd = tap_, .events = POLLIN, .revents = 0},
                        {.fd = socket_.get(), .events = POLLIN, .revents = 0}};
      poll(ready, 2, -1);
      if (ready[0].revents != 0) goes_on = ToHost();
      if (goes_on && ready[1].revents != 0) goes_on = ToGuest();
    }
  }
  bool ToHost() {
    const ssize_t got = read(tap_, room_.data() + 4, room_.size() - 4);
    if (got <= 0) return false;
    const auto length = static_cast<size_t>(got);
    Put32(room_, 0, static_cast<uint32_t>(length));
    return framed_ ? send(socket_.get(), room_.data(), length + 4, MSG_NOSIGNAL) > 0
                   : send(socket_.get(), room_.data() + 4, length, MSG_NOSIGNAL) > 0;
  }
  bool ToGuest() {
    size_t length = room_.size();
    if (framed_) {
      if (recv(socket_.get(), room_.data(), 4, MSG_WAITALL) != 4) return false;
      length = Get32(room_, 0);
    }
    const ssize_t got = recv(socket_.get(), room_.data(), length, framed_ ? MSG_WAITALL : 0);
    return got > 0 && write(tap_, room_.data(), static_cast<size_t>(got)) > 0;
  }

  const bool framed_;
  const int tap_;
  e2e::Descriptor socket_;
  Bytes room_ = Bytes(1 << 17);
  std::thread thread_;
};

// The guest, its link and the program.
class Machine {
 public:
  explicit Machine(int type) : guest_(type == kTap) {
    e2e::Descriptor passed;
    if (type == kTap) {
      passed = std::move(guest_.tap());
    } else {
      carrier_.emplace(type, guest_.tap().get(), passed);
    }
    constexpr int kPassed = 78;
    const std::vector<std::string> words = {"mini-runtime-c", std::to_string(kPassed)};
    program_.emplace(words, [&] {
      if (dup2(passed.get(), kPassed) != kPassed || dup2(orders_.reading_end.get(), 0) != 0) {
        throw std::runtime_error("dup2");
      }
    });
    orders_.reading_end.Close();
    (void)program_->AwaitLine("ready");
  }

  Program* operator->() { return &*program_; }
  // Returns what stands behind `answer`.
  std::string Order(const std::string& order, const std::string& answer) {
    if (write(orders_.writing_end.get(), (order + "\n").data(), order.size() + 1) < 0) {
      e2e::ThrowErrno("order");
    }
    return program_->AwaitNextLine(answer);
  }
  void EndOrders() { orders_.writing_end.Close(); }
  void EndLink() {
    if (!carrier_) return guest_.space().Ip("link delete tap0\n");
    carrier_.reset();
  }

  [[nodiscard]] TcpSocket GuestSocket(Family family) const {
    const e2e::InNamespace inside(guest_.space().descriptor());
    return TcpSocket(family);
  }
  [[nodiscard]] TcpListener GuestListener(uint16_t port) const {
    const e2e::InNamespace inside(guest_.space().descriptor());
    return TcpListener(port);
  }
  // A guest's connection to the host's loopback, and its other end.
  e2e::Sandbox::Connection Connect(Family family, TcpListener& host) const {
    TcpSocket guest = GuestSocket(family);
    guest.Connect(e2e::Sandbox::Gateway(family, host.port()));
    return {.guest = std::move(guest), .host = host.Accept()};
  }

 private:
  Guest guest_;
  std::optional<Carrier> carrier_;
  e2e::Pipe orders_;
  std::optional<Program> program_;
};

// Both ways at once; every byte is looked at.
void ExpectTransfer(TcpSocket guest, TcpSocket host) {
  const e2e::Stream to_host{1, 100'000}, to_guest{2, 300'000};
  auto other =
      e2e::Concurrently([&] { e2e::Perform(host, {.send = to_guest, .receive = to_host}); });
  e2e::Perform(guest, {.send = to_host, .receive = to_guest});
  other.get();
}

void ExpectReset(TcpSocket& socket) {
  try {
    (void)socket.ReceiveToEnd();
    ADD_FAILURE() << "an end in order";
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code().value(), ECONNRESET);
  }
}

class MiniRuntimeC : public testing::TestWithParam<int> {};

INSTANTIATE_TEST_SUITE_P(All, MiniRuntimeC,
                         testing::Values(SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET, kTap),
                         [](const auto& test) { return NameOfLink(test.param); });

TEST_P(MiniRuntimeC, IsTheNetworkOfAKernel) {
  InOwnNamespaces([] {
    Machine machine(GetParam());
    TcpListener host, server = machine.GuestListener(7);
    for (const Family family : kFamilies) {
      auto [guest, other] = machine.Connect(family, host);
      ExpectTransfer(std::move(guest), std::move(other));

      const std::string address = family == Family::kIpv4 ? "127.0.0.1" : "[::1]";
      const std::string published = machine.Order("publish " + address + ":0:7", "published ");
      const Endpoint bound = *ParseEndpoint(published.substr(0, published.find(' ')), 0);
      TcpSocket client(family);
      client.Connect(bound);
      ExpectTransfer(server.Accept(), std::move(client));
      (void)machine.Order("unpublish " + std::to_string(bound.port), "unpublished");
      EXPECT_EQ(TcpSocket(family).TryConnect(bound), ECONNREFUSED);
    }
    (void)machine->AwaitLine("event flow-opened 10.0.2.15:");
    (void)machine->AwaitLine("event flow-opened [fd00::15]:7 [::1]:");
    (void)machine->AwaitLine("event flow-closed [fd00::15]:7 [::1]:");
    machine->Kill(SIGTERM);
    EXPECT_EQ(machine->Wait().status, 0);
  });
}

TEST_P(MiniRuntimeC, APolicyCutsAndRefusesAndIsReplaced) {
  InOwnNamespaces([] {
    Machine machine(GetParam());
    TcpListener host;
    for (const Family family : kFamilies) {
      auto [guest, other] = machine.Connect(family, host);
      (void)machine.Order("policy none", "policy replaced");
      ExpectReset(guest);
      ExpectReset(other);
      const Endpoint gateway = e2e::Sandbox::Gateway(family, host.port());
      EXPECT_EQ(machine.GuestSocket(family).TryConnect(gateway), ECONNREFUSED);
      EXPECT_THAT(machine->AwaitNextLine("event denied "), testing::HasSubstr(gateway.ToString()));
      EXPECT_THAT(machine.Order("policy allow egress @hots", "error "),
                  testing::HasSubstr("there is no group"));
      (void)machine.Order("policy allow egress @host", "policy replaced");
      auto [again, its_other] = machine.Connect(family, host);
      ExpectTransfer(std::move(again), std::move(its_other));
    }
    machine.EndOrders();
    EXPECT_EQ(machine->Wait().status, 0);
  });
}

enum class End { kOrders, kSignal, kLink };

struct EndCase {
  const char* name;
  int link;
  End end;
};

class MiniRuntimeCEnds : public testing::TestWithParam<EndCase> {};

// A pair of datagram sockets knows no end.
INSTANTIATE_TEST_SUITE_P(All, MiniRuntimeCEnds,
                         testing::Values(EndCase{"StreamsOrders", SOCK_STREAM, End::kOrders},
                                         EndCase{"StreamsSignal", SOCK_STREAM, End::kSignal},
                                         EndCase{"StreamsLink", SOCK_STREAM, End::kLink},
                                         EndCase{"SeqpacketsLink", SOCK_SEQPACKET, End::kLink},
                                         EndCase{"DatagramsSignal", SOCK_DGRAM, End::kSignal},
                                         EndCase{"TapsOrders", kTap, End::kOrders},
                                         EndCase{"TapsLink", kTap, End::kLink}),
                         [](const auto& test) { return test.param.name; });

TEST_P(MiniRuntimeCEnds, InOrderAndResetsWhatIsOpen) {
  InOwnNamespaces([] {
    Machine machine(GetParam().link);
    TcpListener host;
    auto [guest, other] = machine.Connect(Family::kIpv4, host);
    switch (GetParam().end) {
      case End::kOrders:
        machine.EndOrders();
        break;
      case End::kSignal:
        machine->Kill(SIGTERM);
        break;
      case End::kLink:
        machine.EndLink();
        break;
    }
    ExpectReset(other);
    const Outcome outcome = machine->Wait();
    EXPECT_EQ(outcome.status, 0);
    EXPECT_EQ(outcome.errors, "");
    EXPECT_THAT(outcome.output, testing::EndsWith("\nstopped\n"));
  });
}

}  // namespace
}  // namespace penstock::tool
