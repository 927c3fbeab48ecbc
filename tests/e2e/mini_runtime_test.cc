// tools/examples/mini_runtime, both of its loops, with a real kernel as its guest: what goes
// through it both ways over both families, the orders it obeys, what it tells, how it ends.
//
//   guest's namespace: tap ── QueueGuest, a thread ── seqpacket ── mini-runtime ── loopback
//
// The tap has the virtio-net header of a queue, so one message is one frame of the tap.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/places.h"
#include "tests/support/sandbox.h"

namespace penstock::e2e {
namespace {

using namespace std::chrono_literals;

constexpr auto kLimit = 30s;
constexpr uint16_t kGuestPort = 80;

// A kernel in a namespace of its own, whose only link is the queue that it gives away.
class QueueGuest final {
 public:
  QueueGuest() {
    std::array<int, 2> ends;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
      ThrowErrno("socketpair");
    }
    driver_ = Descriptor(ends[0]);
    queue_ = Descriptor(ends[1]);
    guest_.SetSysctl("ipv6/conf/default/accept_ra", "0");
    guest_.SetSysctl("ipv6/conf/default/router_solicitations", "0");
    OpenTap();
    guest_.Ip(
        "link set lo up\nlink set net0 up\n"
        "addr add 10.0.2.15/24 dev net0\naddr add fd00::15/64 dev net0 nodad\n");
    pump_ = std::thread([this] { Pump(); });
  }
  ~QueueGuest() {
    EndQueue();
    pump_.join();
  }
  QueueGuest(const QueueGuest&) = delete;
  QueueGuest& operator=(const QueueGuest&) = delete;

  // The other end, for the runtime; to be closed here once that has it.
  Descriptor& queue() { return queue_; }
  void EndQueue() { shutdown(driver_.get(), SHUT_RDWR); }
  // No frame is taken any more, or given.
  void Pause() { paused_ = true; }

  [[nodiscard]] TcpSocket Connect(const Endpoint& destination) const {
    const InNamespace inside(guest_.descriptor());
    TcpSocket socket(destination.address.family);
    socket.Connect(destination);
    return socket;
  }
  [[nodiscard]] TcpListener Listen() const {
    const InNamespace inside(guest_.descriptor());
    return TcpListener(kGuestPort);
  }
  // A UDP socket of both families.
  [[nodiscard]] Descriptor UdpSocket() const {
    const InNamespace inside(guest_.descriptor());
    Descriptor socket(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in6 own{};
    own.sin6_family = AF_INET6;
    own.sin6_port = htons(kGuestPort);
    if (bind(socket.get(), reinterpret_cast<sockaddr*>(&own), sizeof own) != 0) ThrowErrno("bind");
    return socket;
  }

 private:
  void OpenTap() {
    const InNamespace inside(guest_.descriptor());
    tap_ = Descriptor(open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    ifreq request{};
    std::string("net0").copy(request.ifr_name, IFNAMSIZ - 1);
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    int header_bytes = 12;
    if (ioctl(tap_.get(), TUNSETIFF, &request) != 0 ||
        ioctl(tap_.get(), TUNSETVNETHDRSZ, &header_bytes) != 0 ||
        ioctl(tap_.get(), TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) != 0) {
      ThrowErrno("make a tap");
    }
  }

  // A frame each way, as long as both have some.
  void Pump() {
    std::vector<uint8_t> frame(70'000);
    for (;;) {
      // A pause begins with the next frame, and lasts until the queue has ended.
      const short wanted = paused_ ? 0 : POLLIN;
      pollfd ready[] = {{.fd = tap_.get(), .events = wanted, .revents = 0},
                        {.fd = driver_.get(), .events = wanted, .revents = 0}};
      if (poll(ready, 2, -1) < 0) return;
      if (ready[0].revents != 0) {
        const ssize_t got = read(tap_.get(), frame.data(), frame.size());
        if (got > 0)
          (void)!send(driver_.get(), frame.data(), static_cast<size_t>(got), MSG_NOSIGNAL);
      }
      if (ready[1].revents != 0) {
        const ssize_t got = recv(driver_.get(), frame.data(), frame.size(), 0);
        if (got <= 0) return;
        (void)!write(tap_.get(), frame.data(), static_cast<size_t>(got));
      }
    }
  }

  Namespace guest_;
  Descriptor tap_, driver_, queue_;
  std::atomic<bool> paused_ = false;
  std::thread pump_;
};

// The program, and its lines.
class Runtime final {
 public:
  Runtime(const std::string& option, QueueGuest& guest) {
    std::vector<std::string> words = {ProgramPath("mini-runtime")};
    if (!option.empty()) words.push_back(option);
    words.push_back(std::to_string(guest.queue().get()));
    Pipe input, output;
    const int orders = input.reading_end.get();
    process_ = Process(words, {.output = output.writing_end.get(),
                               .kept = {guest.queue().get()},
                               .before_exec = [orders] { dup2(orders, STDIN_FILENO); }});
    guest.queue().Close();
    orders_ = std::move(input.writing_end);
    lines_ = std::move(output.reading_end);
    Await("ready");
  }

  // Writes a line, and returns what stands behind `answer` in the next line that starts so.
  std::string Order(const std::string& line, const std::string& answer) {
    const std::string text = line + "\n";
    if (write(orders_.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
      ThrowErrno("write an order");
    }
    return Await(answer);
  }

  // The rest of the next line that starts so; those before it are passed over.
  std::string Await(const std::string& start) {
    for (;;) {
      for (size_t end; (end = said_.find('\n', read_to_)) != said_.npos;) {
        const std::string line = said_.substr(read_to_, end - read_to_);
        read_to_ = end + 1;
        if (line.starts_with(start)) return line.substr(start.size());
      }
      if (!ReadSome()) throw std::runtime_error("no line \"" + start + "\" in:\n" + said_);
    }
  }

  // Where a client reaches what `spec` publishes.
  Endpoint Publish(const std::string& spec) {
    const std::string ends = Order("publish " + spec, "published ");
    const std::string bound = ends.substr(0, ends.find(' '));
    const bool is_v6 = bound.starts_with('[');
    const auto port = static_cast<uint16_t>(std::stoul(bound.substr(bound.rfind(':') + 1)));
    return {*IpAddress::Parse(is_v6 ? "::1" : "127.0.0.1"), port};
  }

  void CloseOrders() { orders_.Close(); }
  void Signal(int signal) const { process_.Signal(signal); }
  // It ends of its own, and says so.
  void AwaitEnd() {
    Await("stopped");
    EXPECT_EQ(process_.Wait(kLimit), 0) << said_;
  }

 private:
  bool ReadSome() {
    std::array<char, 4096> some;
    pollfd readable{.fd = lines_.get(), .events = POLLIN, .revents = 0};
    if (poll(&readable, 1, static_cast<int>(std::chrono::milliseconds(kLimit).count())) != 1) {
      return false;
    }
    const ssize_t got = read(lines_.get(), some.data(), some.size());
    if (got <= 0) return false;
    said_.append(some.data(), static_cast<size_t>(got));
    return true;
  }

  Process process_;
  Descriptor orders_, lines_;
  std::string said_;
  size_t read_to_ = 0;
};

// Both directions at once, each byte checked at its place, to both ends.
void ExpectBothWays(TcpSocket& guest, TcpSocket& host) {
  const Stream to_host{.seed = 1, .bytes = 3'000'000}, to_guest{.seed = 2, .bytes = 4'000'000};
  auto at_guest = Concurrently([&] { Perform(guest, {.send = to_host, .receive = to_guest}); });
  Perform(host, {.send = to_guest, .receive = to_host});
  at_guest.get();
}

// Reading ends with an error and not with the other side's end.
void ExpectReset(TcpSocket& socket) {
  std::array<uint8_t, 16> room;
  try {
    (void)socket.Receive(room);
    ADD_FAILURE() << "there was no reset";
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code().value(), ECONNRESET);
  }
}

// "" or "--io-context".
class MiniRuntimeSmoke : public ::testing::TestWithParam<std::string> {
 protected:
  struct Connection {
    TcpSocket guest, host;
  };
  Connection Connect(Family family) {
    TcpSocket guest = guest_.Connect(Sandbox::Gateway(family, listener_.port()));
    return {std::move(guest), listener_.Accept()};
  }

  World world_;
  QueueGuest guest_;
  Runtime runtime_{GetParam(), guest_};
  TcpListener listener_;
};

INSTANTIATE_TEST_SUITE_P(E2e, MiniRuntimeSmoke, ::testing::Values("", "--io-context"),
                         [](const auto& info) {
                           return info.param.empty() ? "Poll" : "IoContext";
                         });

TEST_P(MiniRuntimeSmoke, CarriesTcpBothWaysAndTellsOfIt) {
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    auto [guest, host] = Connect(family);
    runtime_.Await(family == Family::kIpv4 ? "event flow-opened 10.0.2.15:"
                                           : "event flow-opened [fd00::15]:");
    ExpectBothWays(guest, host);
    runtime_.Await("event flow-closed ");
  }
  TcpListener inside = guest_.Listen();
  for (const char* spec : {"0:80", "[::1]:0:80"}) {
    const Endpoint published = runtime_.Publish(spec);
    TcpSocket host(published.address.family);
    host.Connect(published);
    TcpSocket guest = inside.Accept();
    ExpectBothWays(guest, host);
    runtime_.Await("event flow-closed ");
  }
  runtime_.CloseOrders();
  EXPECT_NE(runtime_.Await("frames_to_host "), "0");
  EXPECT_EQ(runtime_.Await("flows_opened "), "2");  // by the guest
  runtime_.AwaitEnd();
}

TEST_P(MiniRuntimeSmoke, PublishesUdp) {
  (void)Connect(Family::kIpv4);  // the link is up, and the stack knows the guest
  const Descriptor guest = guest_.UdpSocket();
  const Endpoint published = runtime_.Publish("0:80/udp");
  const Descriptor client(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in there{};
  there.sin_family = AF_INET;
  there.sin_port = htons(published.port);
  there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(connect(client.get(), reinterpret_cast<sockaddr*>(&there), sizeof there), 0);
  const auto receive = [](const Descriptor& socket, sockaddr_in6& from) {
    std::array<char, 100> room;
    socklen_t length = sizeof from;
    pollfd readable{.fd = socket.get(), .events = POLLIN, .revents = 0};
    if (poll(&readable, 1, 30'000) != 1) throw std::runtime_error("no datagram came");
    const ssize_t got = recvfrom(socket.get(), room.data(), room.size(), 0,
                                 reinterpret_cast<sockaddr*>(&from), &length);
    return std::string(room.data(), static_cast<size_t>(std::max<ssize_t>(got, 0)));
  };
  sockaddr_in6 from{};
  ASSERT_EQ(send(client.get(), "question", 8, 0), 8);
  EXPECT_EQ(receive(guest, from), "question");
  ASSERT_EQ(sendto(guest.get(), "answer", 6, 0, reinterpret_cast<sockaddr*>(&from), sizeof from),
            6);
  EXPECT_EQ(receive(client, from), "answer");

  runtime_.Order("unpublish " + std::to_string(published.port) + "/udp", "unpublished");
  (void)send(client.get(), "late", 4, 0);
  EXPECT_EQ(receive(client, from), "");  // refused
  EXPECT_EQ(errno, ECONNREFUSED);
}

TEST_P(MiniRuntimeSmoke, APolicyCutsALiveFlow) {
  auto [guest, host] = Connect(Family::kIpv4);
  guest.SendAll("as yet");
  std::array<uint8_t, 6> room;
  ASSERT_EQ(host.Receive(room), 6u);
  EXPECT_NE(runtime_.Order("policy deny egres @host", "error ").find("policy:1:6"),
            std::string::npos);
  runtime_.Order("policy default egress deny", "policy replaced");
  ExpectReset(guest);
  ExpectReset(host);
  runtime_.Await("event flow-closed 10.0.2.15:");
  EXPECT_THROW((void)Connect(Family::kIpv4), std::system_error);
  runtime_.Await("event denied 10.0.2.15:");
  runtime_.Order("policy all", "policy replaced");
  (void)Connect(Family::kIpv6);
}

TEST_P(MiniRuntimeSmoke, UnpublishedPortsAreShutAndCut) {
  TcpListener inside = guest_.Listen();
  const Endpoint published = runtime_.Publish("0:80");
  TcpSocket host(Family::kIpv4);
  host.Connect(published);
  TcpSocket guest = inside.Accept();
  runtime_.Order("unpublish " + std::to_string(published.port), "unpublished");
  ExpectReset(host);
  ExpectReset(guest);
  EXPECT_EQ(TcpSocket(Family::kIpv4).TryConnect(published), ECONNREFUSED);
  runtime_.Order("unpublish " + std::to_string(published.port), "error nothing is published");
  runtime_.Order("publish 1:70000", "error the guest's port is 70000");
  runtime_.Order("hello", "error orders are ");
}

TEST_P(MiniRuntimeSmoke, EndsBySigterm) {
  auto [guest, host] = Connect(Family::kIpv6);
  runtime_.Signal(SIGTERM);
  runtime_.AwaitEnd();
  ExpectReset(host);
}

TEST_P(MiniRuntimeSmoke, EndsBySigint) {
  runtime_.Signal(SIGINT);
  runtime_.AwaitEnd();
}

TEST_P(MiniRuntimeSmoke, EndsWithItsGuest) {
  auto [guest, host] = Connect(Family::kIpv4);
  guest_.EndQueue();
  runtime_.AwaitEnd();
  ExpectReset(host);
}

// The guest takes no frames any more, and has windows open for more than its queue holds.
TEST_P(MiniRuntimeSmoke, EndsBesideAGuestThatSleeps) {
  std::vector<Connection> connections;
  for (int i = 0; i < 16; ++i) connections.push_back(Connect(Family::kIpv4));
  guest_.Pause();
  for (Connection& one : connections) ASSERT_GT(SendUntilBlocked(one.host, 1, 0, 20ms), 65'536u);
  runtime_.CloseOrders();
  runtime_.AwaitEnd();
}

TEST(MiniRuntimeOptions, SaysWhatIsWrong) {
  const CommandResult none = RunCommand({ProgramPath("mini-runtime")});
  EXPECT_EQ(none.status, 2);
  EXPECT_EQ(none.output, "usage: mini-runtime [--io-context] FD\n");
  const CommandResult wrong = RunCommand({ProgramPath("mini-runtime"), "0"});
  EXPECT_EQ(wrong.status, 1);
  EXPECT_EQ(wrong.output, "mini-runtime: FD: pass one end of a seqpacket socket\n");
}

}  // namespace
}  // namespace penstock::e2e
