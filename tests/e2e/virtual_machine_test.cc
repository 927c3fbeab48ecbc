// A real virtual machine behind `penstock serve`: QEMU with Debian's kernel, over both kinds of
// its sockets. One machine each, for booting is what takes the time.

#include "tests/support/virtual_machine.h"

#include <gmock/gmock.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <regex>

#include "tests/support/places.h"
#include "tests/support/sandbox_datagram.h"

namespace penstock::e2e {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint64_t kFileBytes = 4'000'000;

// `penstock serve` and what it says.
class Served final {
 public:
  explicit Served(const std::vector<std::string>& options) {
    std::vector<std::string> command{ProgramPath("penstock"), "serve"};
    command.insert(command.end(), options.begin(), options.end());
    Pipe output;
    penstock_ = Process(command, {.output = output.writing_end.get()});
    output_ = std::move(output.reading_end);
  }
  // Reads on until something matches; its first group.
  std::string Await(const std::string& pattern) {
    for (std::smatch match;;) {
      if (std::regex_search(said_, match, std::regex(pattern))) return match[1];
      pollfd watched{.fd = output_.get(), .events = POLLIN, .revents = 0};
      std::array<char, 4096> some;
      const ssize_t got =
          poll(&watched, 1, 60'000) > 0 ? read(output_.get(), some.data(), 4096) : 0;
      if (got <= 0) throw std::runtime_error("penstock says no " + pattern + ", but: " + said_);
      said_.append(some.data(), static_cast<size_t>(got));
    }
  }
  void End() {
    penstock_.Signal(SIGTERM);
    EXPECT_EQ(penstock_.Wait(std::chrono::seconds(20)), 0) << said_;
  }

 private:
  Process penstock_;
  Descriptor output_;
  std::string said_;
};

std::string GatewayText(Family family) { return Sandbox::Gateway(family, 0).address.ToString(); }

std::string Sha256OfPattern(uint64_t seed, uint64_t bytes) {
  std::string content(bytes, '\0');
  FillPattern(seed, 0, {reinterpret_cast<uint8_t*>(content.data()), content.size()});
  ProcessOptions options;
  options.input = std::move(content);
  return RunOrThrow({"sha256sum"}, std::move(options)).substr(0, 64);
}

class VirtualMachineTest : public ::testing::TestWithParam<const char*> {
 protected:
  // As a DHCP client and the kernel's autoconfiguration see it.
  void ConfiguresItself() {
    machine_.Run("udhcpc -q -n -f -t 30 -T 1 -i eth0 -s /lease 2>/dev/null");
    machine_.Run(
        "until ip -6 address show dev eth0 | grep -q 'fd00::.*global'; do usleep 20000; done");
    EXPECT_THAT(machine_.Run("ip address show dev eth0"), HasSubstr("inet 10.0.2.15/24"));
    EXPECT_THAT(machine_.Run("ip route"), HasSubstr("default via 10.0.2.2 dev eth0"));
    EXPECT_THAT(machine_.Run("ip -6 route"), HasSubstr("default via fe80::"));
    EXPECT_EQ(machine_.Run("cat /etc/resolv.conf"), "nameserver 10.0.2.3\n");
  }
  void AsksForNamesAndPings() {
    EXPECT_THAT(machine_.Run("nslookup db.test"),
                AllOf(HasSubstr("192.0.2.80"), HasSubstr("2001:db8::80")));
    machine_.Run("ping -c 1 -W 10 10.0.2.2 > /dev/null");
    machine_.Run("ping -6 -c 1 -W 10 fd00::2 > /dev/null");
    machine_.Run("ping -c 1 -W 10 gateway.penstock.internal > /dev/null");
  }
  // A file comes, is summed there, and goes back. (nc ends when the other side does.)
  void MovesAFile(Family family) {
    const std::string command =
        "nc " + GatewayText(family) + " " + std::to_string(listener_.port());
    const Stream file{family == Family::kIpv4 ? 4u : 6u, kFileBytes};
    machine_.Begin(command + " < /dev/null > /tmp/file");
    TcpSocket down = listener_.Accept();
    Perform(down, {.send = file, .receive = {}});
    machine_.End();
    EXPECT_EQ(machine_.Run("sha256sum < /tmp/file").substr(0, 64),
              Sha256OfPattern(file.seed, file.bytes));
    machine_.Begin(command + " < /tmp/file");
    TcpSocket up = listener_.Accept();
    Perform(up, {.send = {}, .receive = file, .end_last = true});
    EXPECT_EQ(machine_.End(), "");
  }
  void MovesThreeAtOnce() {
    const std::string command = "nc 10.0.2.2 " + std::to_string(listener_.port());
    machine_.Begin("for i in 1 2 3; do " + command + " < /tmp/file > /tmp/f$i & done; wait");
    std::vector<std::future<void>> all;
    for (uint64_t i = 1; i <= 3; ++i) {
      all.push_back(Concurrently([socket = listener_.Accept(), i]() mutable {
        Perform(socket,
                {.send = {i, kFileBytes / 4}, .receive = {6, kFileBytes}, .end_last = true});
      }));
    }
    for (auto& one : all) one.get();
    machine_.End();
    std::vector<std::string> sums;
    for (uint64_t i = 1; i <= 3; ++i) sums.push_back(Sha256OfPattern(i, kFileBytes / 4));
    const std::string said = machine_.Run("sha256sum /tmp/f1 /tmp/f2 /tmp/f3");
    for (const std::string& sum : sums) EXPECT_THAT(said, HasSubstr(sum));
  }
  // net-echo inside answers clients of published ports.
  void Serves() {
    machine_.Run(
        "net-echo --tcp 7 --udp 7 > /tmp/echo & "
        "until grep -q UDP /tmp/echo; do usleep 20000; done");
    const auto published = [&](const char* protocol) {
      return Endpoint{*IpAddress::Parse("127.0.0.1"),
                      static_cast<uint16_t>(std::stoi(served_.Await(
                          std::string("127.0.0.1:([0-9]+) -> 10.0.2.15:7/") + protocol)))};
    };
    TcpSocket client(Family::kIpv4);
    client.Connect(published("tcp"));
    client.SendAll("by tcp");
    client.ShutdownSending();
    EXPECT_EQ(client.ReceiveToEnd(), "by tcp");
    UdpSocket asker(Family::kIpv4);
    asker.SendTo(published("udp"), "by udp");
    EXPECT_EQ(asker.Receive().text, "by udp");
  }
  // The machine stands still for a while, in the middle of two transfers.
  void GoesOnAfterAPause() {
    const std::string command =
        "nc fd00::2 " + std::to_string(listener_.port()) + " < /tmp/file > /tmp/paused";
    machine_.Begin(command);
    TcpSocket socket = listener_.Accept();
    const Stream to_guest{9, 2 * kFileBytes};
    Perform(
        socket,
        {.send = to_guest, .receive = {6, kFileBytes}, .hook_after = kFileBytes / 8, .hook = [&] {
           machine_.Stop();
           // What is on its way arrives; then nothing, and that takes time to see.
           std::vector<uint8_t> peeked(1 << 22);
           const auto waiting = [&] {
             return recv(socket.descriptor(), peeked.data(), peeked.size(),
                         MSG_PEEK | MSG_DONTWAIT);
           };
           for (ssize_t before = -2; waiting() != before;) {
             before = waiting();
             poll(nullptr, 0, 300);
           }
           machine_.Continue();
         }});
    machine_.End();
    EXPECT_EQ(machine_.Run("sha256sum < /tmp/paused").substr(0, 64),
              Sha256OfPattern(to_guest.seed, to_guest.bytes));
  }

  World world_;
  TemporaryFolder folder_;
  TcpListener listener_;
  Served served_{{GetParam(), folder_ / "vm", "--host-loopback", "--dns-host",
                  "db.test=192.0.2.80,2001:db8::80", "-p", "0:7", "-p", "0:7/udp"}};
  VirtualMachine machine_{(served_.Await("(listening at)"), Netdev())};

 private:
  [[nodiscard]] std::string Netdev() const {
    const std::string path = folder_ / "vm";
    if (GetParam() == std::string("--stream")) {
      return "stream,id=n,server=off,addr.type=unix,addr.path=" + path;
    }
    return "dgram,id=n,local.type=unix,local.path=" + path +
           ".qemu,remote.type=unix,remote.path=" + path;
  }
};

INSTANTIATE_TEST_SUITE_P(E2e, VirtualMachineTest, ::testing::Values("--stream", "--dgram"),
                         [](const auto& test) {
                           return test.param == std::string("--stream") ? "Stream" : "Datagrams";
                         });

TEST_P(VirtualMachineTest, HasANetwork) {
  ConfiguresItself();
  AsksForNamesAndPings();
  MovesAFile(Family::kIpv4);
  MovesAFile(Family::kIpv6);
  MovesThreeAtOnce();
  Serves();
  GoesOnAfterAPause();
  served_.End();
}

}  // namespace
}  // namespace penstock::e2e
