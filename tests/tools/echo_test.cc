// net-echo, and a first word through `penstock run` to it. (What the stack promises
// of TCP is tested at the packet level and end to end.)
#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/tools/isolation.h"
#include "tests/tools/peer.h"
#include "tests/tools/program.h"

namespace penstock::tool {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

TEST(NetEcho, EchoesBothFamiliesAndProtocols) {
  InOwnNamespaces([] {
    Program echo({"net-echo", "--tcp", "0", "--udp", "0"});
    const uint16_t tcp = EchoPort(echo, "TCP");
    const uint16_t udp = EchoPort(echo, "UDP");
    for (const int family : {AF_INET, AF_INET6}) {
      const Peer stream(family, SOCK_STREAM, tcp);
      stream.Send("hello");
      EXPECT_EQ(stream.Receive(), "hello");
      const Peer datagrams(family, SOCK_DGRAM, udp);
      datagrams.Send("one");
      datagrams.Send("");
      datagrams.Send("three");
      EXPECT_EQ(datagrams.Receive(), "one");
      EXPECT_EQ(datagrams.Receive(), "three");
    }
    echo.Kill(SIGTERM);
    EXPECT_EQ(echo.Wait().status, 0);
  });
}

TEST(NetEcho, EchoesTheRestAfterTheEndOfTheStream) {
  InOwnNamespaces([] {
    Program echo({"net-echo", "--tcp", "0", "--bind", "127.0.0.1"});
    const Peer peer(AF_INET, SOCK_STREAM, EchoPort(echo, "TCP"));
    std::string text(8 << 20, ' ');
    for (size_t i = 0; i < text.size(); ++i) text[i] = char('a' + i * i % 23);
    std::jthread sender([&] {
      peer.Send(text);
      peer.Finish();
    });
    EXPECT_TRUE(peer.ReceiveAll() == text);
  });
}

TEST(NetEcho, ServesManyConnectionsAtOnce) {
  InOwnNamespaces([] {
    Program echo({"net-echo", "--tcp", "0"});
    const uint16_t port = EchoPort(echo, "TCP");
    std::vector<std::unique_ptr<Peer>> peers;
    for (int i = 0; i < 500; ++i) {
      peers.push_back(std::make_unique<Peer>(i % 2 ? AF_INET6 : AF_INET, SOCK_STREAM, port));
      peers.back()->Send(std::to_string(i));
    }
    for (int i = 499; i >= 0; --i) EXPECT_EQ(peers[size_t(i)]->Receive(), std::to_string(i));
  });
}

TEST(NetEcho, SeveralAddressesShareAChosenPort) {
  InOwnNamespaces([] {
    Program echo({"net-echo", "--tcp", "0", "--bind", "127.0.0.1", "--bind", "::1"});
    const uint16_t port = EchoPort(echo, "TCP");
    for (const int family : {AF_INET, AF_INET6}) {
      const Peer peer(family, SOCK_STREAM, port);
      peer.Send("x");
      EXPECT_EQ(peer.Receive(), "x");
    }
  });
}

TEST(NetEcho, RefusesWithOneSentence) {
  const Outcome nothing = RunProgram({"net-echo"});
  EXPECT_EQ(nothing.status, 2);
  EXPECT_THAT(nothing.errors, StartsWith("net-echo: give at least one"));
  const Outcome wrong = RunProgram({"net-echo", "--tcp", "65536"});
  EXPECT_EQ(wrong.status, 2);
  EXPECT_THAT(wrong.errors, HasSubstr("--tcp"));
  const Outcome address = RunProgram({"net-echo", "--tcp", "0", "--bind", "here"});
  EXPECT_EQ(address.status, 2);
  EXPECT_THAT(address.errors, HasSubstr("here"));
  InOwnNamespaces([] {
    Program first({"net-echo", "--tcp", "0", "--bind", "127.0.0.1"});
    const std::string port = std::to_string(EchoPort(first, "TCP"));
    const Outcome second = RunProgram({"net-echo", "--tcp", port, "--bind", "127.0.0.1"});
    EXPECT_EQ(second.status, 1);
    EXPECT_EQ(second.errors,
              "net-echo: cannot listen on 127.0.0.1:" + port + ": Address already in use\n");
  });
}

struct Way {
  const char* name;
  const char* relay_threads;
  const char* gateway;

  friend void PrintTo(const Way& way, std::ostream* out) { *out << way.name; }
};

// A shell inside talks to net-echo on the host's loopback.
class RunToHost : public testing::TestWithParam<Way> {
 protected:
  static Outcome Bash(uint16_t port, const std::string& script,
                      std::vector<std::string> options = {"--host-loopback"}) {
    std::vector<std::string> words{"penstock", "run", "--relay-threads", GetParam().relay_threads};
    words.insert(words.end(), options.begin(), options.end());
    const std::string connect = "exec 3<>/dev/tcp/" + std::string(GetParam().gateway) + "/" +
                                std::to_string(port) + " || exit 9; ";
    words.insert(words.end(), {"--", "bash", "-c", connect + script});
    return RunProgram(words, BecomeOrdinaryUser);
  }
};

INSTANTIATE_TEST_SUITE_P(All, RunToHost,
                         testing::Values(Way{"OneThreadIpv4", "0", "10.0.2.2"},
                                         Way{"OneThreadIpv6", "0", "fd00::2"},
                                         Way{"RelayThreadIpv4", "1", "10.0.2.2"},
                                         Way{"RelayThreadIpv6", "1", "fd00::2"}),
                         [](const auto& test) { return test.param.name; });

TEST_P(RunToHost, ACommandTalksToAServer) {
  InOwnNamespaces([] {
    Program echo({"net-echo", "--tcp", "0"});
    const Outcome outcome =
        Bash(EchoPort(echo, "TCP"), "echo hello >&3; read -r line <&3; echo \"got $line\"");
    EXPECT_EQ(outcome.output, "got hello\n") << outcome.errors;
    EXPECT_EQ(outcome.status, 0);
  });
}

TEST_P(RunToHost, OnlyIfTheLoopbackIsOpened) {
  InOwnNamespaces([] {
    Program echo({"net-echo", "--tcp", "0"});
    const Outcome outcome = Bash(EchoPort(echo, "TCP"), "exit 0", {});
    EXPECT_EQ(outcome.status, 9);
    EXPECT_THAT(outcome.errors, HasSubstr("Connection refused"));
  });
}

// The command writes and leaves while penstock stands still: all is in the command's
// kernel then, and takes many round trips to come out.
TEST_P(RunToHost, TheTailArrivesAfterTheCommandHasEnded) {
  InOwnNamespaces([] {
    // It answers nothing: bytes for a socket that was closed would reset the connection.
    const int listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT_EQ(listen(listener, 1), 0);  // on any address and port
    sockaddr_in6 address{};
    socklen_t length = sizeof address;
    ASSERT_EQ(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length), 0);
    size_t received = 0;
    std::jthread server([&] {
      const int client = accept(listener, nullptr, nullptr);
      std::array<char, 4096> bytes;
      for (ssize_t n; (n = read(client, bytes.data(), bytes.size())) > 0;) received += size_t(n);
      close(client);
    });

    const TemporaryFolder folder;
    const std::string fifo = folder / "go";
    ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
    const int go = open(fifo.c_str(), O_RDWR | O_CLOEXEC);
    constexpr size_t kBytes = 300'000;
    Program penstock({"penstock", "run", "--relay-threads", GetParam().relay_threads,
                      "--host-loopback", "--", "bash", "-c",
                      std::string("echo 4096 1000000 4000000 > /proc/sys/net/ipv4/tcp_wmem;"
                                  "exec 3>/dev/tcp/") +
                          GetParam().gateway + "/" + std::to_string(ntohs(address.sin6_port)) +
                          "; echo pid=$$; read -r < " + fifo + "; head -c " +
                          std::to_string(kBytes) + " /dev/zero >&3"});
    const pid_t command = std::stoi(penstock.AwaitLine("pid="));
    penstock.Kill(SIGSTOP);
    ASSERT_EQ(write(go, "go\n", 3), 3);
    EXPECT_TRUE(AwaitEnd(command));
    penstock.Kill(SIGCONT);
    EXPECT_EQ(penstock.Wait().status, 0);
    server.join();
    EXPECT_EQ(received, kBytes);
    close(go);
    close(listener);
  });
}

}  // namespace
}  // namespace penstock::tool
