// `penstock attach`: what it makes in somebody's namespace, its refusals, and its
// ends: a signal, the end of the process, the path removed or unmounted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "tests/tools/attached.h"
#include "tests/tools/isolation.h"
#include "tests/tools/peer.h"
#include "tests/tools/program.h"

namespace penstock::tool {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// A path to a namespace as `ip netns` makes it.
void BindTo(const std::string& path, const Holder& holder) {
  std::ofstream(path).close();
  if (mount(holder.path().c_str(), path.c_str(), nullptr, MS_BIND, nullptr) != 0) {
    throw std::runtime_error("cannot bind " + path);
  }
}

Outcome Attach(std::vector<std::string> options) {
  options.insert(options.begin(), {"penstock", "attach"});
  return RunProgram(options);
}

TEST(Attach, ConfiguresTheTapAndEndsOnSignals) {
  InOwnNamespaces([] {
    for (const int signal : {SIGTERM, SIGINT}) {
      const Holder holder;
      Attached penstock({"--pid", holder.pid(), "--mtu", "9000"});
      EXPECT_THAT(holder.Ip({"-o", "address"}),
                  AllOf(HasSubstr("tap0    inet 10.0.2.15/24"), HasSubstr("inet6 fd00::15/64"),
                        Not(ContainsRegex("fd00::15/64[^\n]*tentative"))));
      EXPECT_THAT(holder.Ip({"-o", "link", "show", "tap0"}),
                  AllOf(HasSubstr("mtu 9000"), HasSubstr("LOWER_UP")));
      EXPECT_THAT(holder.Ip({"route"}), HasSubstr("default via 10.0.2.2 dev tap0"));
      EXPECT_THAT(holder.Ip({"-6", "route"}), HasSubstr("default via fd00::2 dev tap0"));
      penstock->Kill(signal);
      const Outcome outcome = penstock->Wait();
      EXPECT_EQ(outcome.status, 0);
      EXPECT_EQ(outcome.errors, "");
      EXPECT_THAT(holder.Ip({"-o", "link"}), Not(HasSubstr("tap0")));
    }
  });
}

TEST(Attach, PublishesBeforeItIsReady) {
  InOwnNamespaces([] {
    TemporaryFolder folder;
    for (const char* threads : {"0", "1"}) {
      Program server({"net-echo", "--tcp", "7"}, EnterOwnNamespaces);
      (void)server.AwaitLine("net-echo: listening");
      const std::string pid = std::to_string(server.pid());
      Attached penstock(
          {"--pid", pid, "--relay-threads", threads, "-p", "8080:7", "--control", folder / "c"});
      const Outcome added =
          RunProgram({"penstock", "ports", "add", "--control", folder / "c", "8081:7"});
      EXPECT_EQ(added.status, 0) << added.errors;
      for (const uint16_t port : {8080, 8081}) {
        const Peer peer(AF_INET, SOCK_STREAM, port);
        peer.Send("hello");
        EXPECT_EQ(peer.Receive(), "hello");
      }
      penstock->Kill(SIGTERM);
      const Outcome outcome = penstock->Wait();
      EXPECT_EQ(outcome.status, 0);
      EXPECT_EQ(outcome.errors, "");
      EXPECT_FALSE(std::filesystem::exists(folder / "c"));
    }
  });
}

TEST(Attach, IsNotReadyIfItCannotPublish) {
  InOwnNamespaces([] {
    const Holder holder;
    Program other({"net-echo", "--tcp", "8080", "--bind", "127.0.0.1"});
    (void)other.AwaitLine("net-echo: listening");
    const Outcome outcome =
        Attach({"--pid", holder.pid(), "-p", "8080:7", "--ready-fd", "1"});  // stdout
    EXPECT_EQ(outcome.status, 1);
    EXPECT_EQ(outcome.output, "");
    EXPECT_THAT(outcome.errors, AllOf(StartsWith("penstock: "), HasSubstr("127.0.0.1:8080")));
    EXPECT_THAT(holder.Ip({"-o", "link"}), Not(HasSubstr("tap0")));
  });
}

TEST(Attach, TakesNamesAndAddresses) {
  InOwnNamespaces([] {
    const Holder holder;
    Attached penstock({"--netns", holder.path(), "--tap", "up-link", "--no-ipv6", "--guest-ip4",
                       "192.168.9.5/29", "--gateway-ip4", "192.168.9.1", "--dns-ip4",
                       "192.168.9.2"});
    EXPECT_THAT(holder.Ip({"-o", "address"}), AllOf(HasSubstr("up-link    inet 192.168.9.5/29"),
                                                    Not(HasSubstr("up-link    inet6"))));
    EXPECT_THAT(holder.Ip({"route"}), HasSubstr("default via 192.168.9.1 dev up-link"));
  });
}

TEST(Attach, WithoutConfigurationMakesTheTapOnly) {
  InOwnNamespaces([] {
    const Holder holder;
    Attached penstock({"--pid", holder.pid(), "--no-configure"});
    EXPECT_THAT(holder.Ip({"-o", "link"}), AllOf(HasSubstr("tap0"), HasSubstr("state DOWN")));
    EXPECT_THAT(holder.Ip({"-o", "address"}), Not(HasSubstr("tap0")));
  });
}

TEST(Attach, EndsWithTheProcess) {
  InOwnNamespaces([] {
    Holder holder;
    Attached penstock({"--pid", holder.pid()});
    holder.End();
    EXPECT_EQ(penstock->Wait().status, 0);
  });
}

TEST(Attach, EndsWithTheProcessThatAPathUnderProcLeadsTo) {
  InOwnNamespaces([] {
    Holder holder;
    Attached penstock({"--netns", holder.path()});
    holder.End();
    EXPECT_EQ(penstock->Wait().status, 0);
  });
}

TEST(Attach, EndsWhenThePathIsRemoved) {
  InOwnNamespaces([] {
    const Holder holder;
    const TemporaryFolder folder;
    // A link: nothing is unmounted here, only a name goes.
    std::filesystem::create_symlink(holder.path(), folder / "blue");
    Attached penstock({"--netns", folder / "blue"});
    std::filesystem::remove(folder / "blue");
    EXPECT_EQ(penstock->Wait().status, 0);
  });
}

TEST(Attach, EndsWhenThePathIsUnmounted) {
  InOwnNamespaces([] {
    const Holder holder;
    const TemporaryFolder folder;
    const std::string path = folder / "blue";
    BindTo(path, holder);
    Attached penstock({"--netns", path});
    // The file stays: only the table of mounts tells.
    ASSERT_EQ(umount2(path.c_str(), MNT_DETACH), 0);
    EXPECT_EQ(penstock->Wait().status, 0);
    EXPECT_TRUE(std::filesystem::exists(path));
  });
}

TEST(Attach, DoesNotEndWhenSomethingElseIsRemovedOrUnmounted) {
  InOwnNamespaces([] {
    const Holder holder;
    TemporaryFolder folder;
    const std::string path = folder / "blue";
    BindTo(path, holder);
    BindTo(folder / "red", holder);
    Attached penstock({"--netns", path, "--stats-file", folder / "stats"});
    ASSERT_EQ(umount2((folder / "red").c_str(), MNT_DETACH), 0);
    ASSERT_TRUE(std::filesystem::remove(folder / "red"));
    // It looks at all that happened before it writes this, and goes on.
    penstock->Kill(SIGUSR1);
    EXPECT_THAT(folder.AwaitMovedFile("stats"), StartsWith("frames_to_host "));
    penstock->Kill(SIGUSR1);
    EXPECT_THAT(folder.AwaitMovedFile("stats"), StartsWith("frames_to_host "));
    penstock->Kill(SIGTERM);
    EXPECT_EQ(penstock->Wait().status, 0);
    ASSERT_EQ(umount2(path.c_str(), MNT_DETACH), 0);
  });
}

TEST(Attach, RefusesATapNameThatIsInUse) {
  InOwnNamespaces([] {
    const Holder holder;
    Attached first({"--pid", holder.pid()});
    const Outcome second = Attach({"--pid", holder.pid()});
    EXPECT_EQ(second.status, 1);
    EXPECT_THAT(second.errors, AllOf(StartsWith("penstock: "), HasSubstr("tap0")));
    EXPECT_EQ(std::count(second.errors.begin(), second.errors.end(), '\n'), 1);
    EXPECT_THAT(holder.Ip({"-o", "address"}), HasSubstr("tap0    inet 10.0.2.15/24"));
    Attached third({"--pid", holder.pid(), "--tap", "tap1"});
  });
}

TEST(Attach, RefusesWhatIsNoNamespace) {
  const TemporaryFolder folder;
  std::ofstream(folder / "plain").close();
  for (const std::string& path : {folder / "plain", std::string("/proc/self/ns/mnt")}) {
    const Outcome outcome = Attach({"--netns", path});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_THAT(outcome.errors,
                AllOf(StartsWith("penstock: " + path), HasSubstr("no network namespace")));
  }
  const Outcome missing = Attach({"--netns", folder / "missing"});
  EXPECT_EQ(missing.status, 1);
  EXPECT_THAT(missing.errors, HasSubstr("No such file or directory"));
  const Outcome process = Attach({"--pid", "2000000000"});
  EXPECT_EQ(process.status, 1);
  EXPECT_THAT(process.errors, HasSubstr("2000000000"));
}

// A sandbox of an ordinary user's, who needs no privilege to add to it.
TEST(Attach, ServesAnOrdinaryUsersOwnSandbox) {
  Program sandbox(
      {"penstock", "run", "--", "sh", "-c", "echo pid=$$; read line; ip -o address; true"}, [] {
        int ends[2];
        if (pipe(ends) != 0 || dup2(ends[0], STDIN_FILENO) < 0) _exit(1);
        BecomeOrdinaryUser();
      });
  const std::string pid = sandbox.AwaitLine("pid=");
  Attached penstock({"--pid", pid, "--tap", "tap1", "--guest-ip4", "10.0.3.15/24", "--gateway-ip4",
                     "10.0.3.2", "--dns-ip4", "10.0.3.3", "--no-ipv6"},
                    BecomeOrdinaryUser);
  sandbox.Kill(SIGTERM);
  EXPECT_EQ(sandbox.Wait().status, 128 + SIGTERM);
  EXPECT_EQ(penstock->Wait().status, 0);
}

TEST(Attach, RefusesSomebodyElsesNamespace) {
  const Outcome outcome =
      RunProgram({"penstock", "attach", "--netns", "/proc/self/ns/net"}, BecomeOrdinaryUser);
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.errors, StartsWith("penstock: cannot enter the network namespace"));
}

TEST(Attach, SaysThatTheTapWasDeleted) {
  InOwnNamespaces([] {
    for (const char* threads : {"0", "1"}) {
      const Holder holder;
      Attached penstock({"--pid", holder.pid(), "--relay-threads", threads});
      (void)holder.Ip({"link", "delete", "tap0"});
      const Outcome outcome = penstock->Wait();
      EXPECT_EQ(outcome.status, 1) << threads;
      EXPECT_THAT(outcome.errors, StartsWith("penstock: the tap is gone")) << threads;
    }
  });
}

}  // namespace
}  // namespace penstock::tool
