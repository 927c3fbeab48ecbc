// What confines `penstock run` and `attach` themselves: the list of system calls, what a
// penstock that runs has left, that all kinds of traffic and orders get along with it, and
// that the command has nothing of it.
#include "tools/penstock/confinement.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tests/tools/attached.h"
#include "tests/tools/isolation.h"
#include "tests/tools/peer.h"
#include "tests/tools/program.h"
#include "tools/penstock/call_filter.h"
#include "tools/penstock/control_socket.h"
#include "tools/penstock/namespaces.h"

namespace penstock::tool {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;
using testing::UnorderedElementsAre;

// ---------------------------------------------------------------- the list

constexpr int kSurvived = 42;

// How a process ends that calls `call` after the list was set: kSurvived, or 128 + a signal.
int Confined(const std::function<void()>& call) {
  const pid_t child = ForkInto(0);
  if (child == 0) {
    if (!FilterCalls(getppid()).ok()) _exit(1);
    call();
    _exit(kSurvived);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return -1;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

TEST(CallFilter, WhatIsNotOnItEndsTheProcess) {
  char* const none[] = {nullptr};
  const std::vector<std::pair<const char*, std::function<void()>>> calls{
      {"execve", [&] { execve("/bin/true", none, none); }},
      {"a file to write", [] { (void)!open("/tmp/never", O_WRONLY); }},
      {"a file to make", [] { (void)!open("/tmp/never", O_RDONLY | O_CREAT, 0600); }},
      {"unlink", [] { unlink("/tmp/never"); }},
      {"mount", [] { mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr); }},
      {"unshare", [] { (void)!unshare(CLONE_NEWNS); }},
      {"setns", [] { (void)!setns(0, 0); }},
      {"chroot", [] { (void)!chroot("/"); }},
      {"setuid", [] { (void)!setuid(getuid()); }},
      {"a raw socket", [] { (void)!socket(AF_INET, SOCK_RAW, IPPROTO_TCP); }},
      {"a packet socket", [] { (void)!socket(AF_PACKET, SOCK_RAW, 0); }},
      {"another netlink", [] { (void)!socket(AF_NETLINK, SOCK_RAW, 15); }},
      {"memory to execute",
       [] {
         (void)!mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
       }},
      {"a signal to somebody", [] { kill(1, 0); }},
  };
  for (const auto& [what, call] : calls) EXPECT_EQ(Confined(call), 128 + SIGSYS) << what;
  if (kAddressSanitized) return;  // they are what looks for leaks
  EXPECT_EQ(Confined([] { ptrace(PTRACE_TRACEME, 0, 0, 0); }), 128 + SIGSYS);
  EXPECT_EQ(Confined([] { (void)!ForkInto(0); }), 128 + SIGSYS);
}

TEST(CallFilter, WhatPenstockNeedsGoesOn) {
  const pid_t parent = getpid();
  EXPECT_EQ(Confined([parent] {
              const int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
              const int socket = ::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
              if (file < 0 || socket < 0 || kill(parent, 0) != 0) _exit(1);
              // An answer, for the C library tries it first.
              if (::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) >= 0 || errno != EAFNOSUPPORT) {
                _exit(2);
              }
            }),
            kSurvived);
  EXPECT_EQ(Confined([] { std::abort(); }), 128 + SIGABRT);
}

// ---------------------------------------------------------------- what is left

// Lines "NAME:\tVALUE" of /proc/PID/status or of a thread's.
std::string Line(const std::string& folder, const std::string& name) {
  std::istringstream lines(ReadFile(folder + "/status"));
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name + ":\t")) return line.substr(name.size() + 2);
  }
  return "none";
}

std::vector<std::string> Tasks(pid_t pid) {
  std::vector<std::string> tasks;
  const std::string folder = "/proc/" + std::to_string(pid) + "/task";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    tasks.push_back(entry.path());
  }
  return tasks;
}

// Everything below a folder, but a sanitizer's /proc.
std::vector<std::string> Below(const std::string& root) {
  std::vector<std::string> found;
  namespace fs = std::filesystem;
  for (auto it = fs::recursive_directory_iterator(root); it != fs::recursive_directory_iterator();
       ++it) {
    const std::string path = it->path().string().substr(root.size());
    if (path == "/proc") {
      it.disable_recursion_pending();
    } else {
      found.push_back(path);
    }
  }
  return found;
}

struct ConfinedCase {
  const char* name;
  bool ordinary;  // user
  const char* relay_threads;

  friend void PrintTo(const ConfinedCase& chosen, std::ostream* out) { *out << chosen.name; }
};

class ConfinedRun : public testing::TestWithParam<ConfinedCase> {
 protected:
  static std::function<void()> AsUser() {
    return GetParam().ordinary ? BecomeOrdinaryUser : std::function<void()>();
  }
  static std::vector<std::string> Words(const std::string& script,
                                        const std::vector<std::string>& options = {},
                                        const std::vector<std::string>& arguments = {}) {
    std::vector<std::string> words{"penstock", "run", "--relay-threads", GetParam().relay_threads};
    words.insert(words.end(), options.begin(), options.end());
    words.insert(words.end(), {"--", "bash", "-c", script});
    words.insert(words.end(), arguments.begin(), arguments.end());
    return words;
  }
  // In namespaces of the test's own whoever runs the tests is root, of a user namespace perhaps.
  static bool IsPrivileged() { return !GetParam().ordinary || OrdinaryUser() == geteuid(); }
  // Else it stays in the host's (confinement.h).
  static bool HasOwnRoot() { return !kThreadSanitized || IsPrivileged(); }
};

INSTANTIATE_TEST_SUITE_P(All, ConfinedRun,
                         testing::Values(ConfinedCase{"CallerOneThread", false, "0"},
                                         ConfinedCase{"CallerRelayThread", false, "1"},
                                         ConfinedCase{"OrdinaryUserOneThread", true, "0"},
                                         ConfinedCase{"OrdinaryUserRelayThread", true, "1"}),
                         [](const auto& test) { return test.param.name; });

TEST_P(ConfinedRun, HasNothingThatItDoesNotNeed) {
  InOwnNamespaces([] {
    Program penstock(Words("echo ready; exec sleep 1000"), AsUser());
    (void)penstock.AwaitLine("ready");
    const std::string process = "/proc/" + std::to_string(penstock.pid());
    EXPECT_GT(Tasks(penstock.pid()).size(), std::stoul(GetParam().relay_threads));
    for (const std::string& task : Tasks(penstock.pid())) {
      EXPECT_EQ(Line(task, "Seccomp"), "2");
      EXPECT_EQ(Line(task, "NoNewPrivs"), "1");
      if (kThreadSanitized && task != Tasks(penstock.pid()).front()) continue;
      const unsigned long kept = IsPrivileged() ? 1UL << CAP_NET_BIND_SERVICE : 0;
      for (const auto& [set, expected] :
           {std::pair{"CapEff", kept}, {"CapPrm", kept}, {"CapInh", 0UL}, {"CapAmb", 0UL}}) {
        EXPECT_EQ(std::stoul(Line(task, set), nullptr, 16), expected) << set;
      }
    }
    // The files in /proc of a process that can be dumped are its user's.
    struct stat file {};
    ASSERT_EQ(stat((process + "/environ").c_str(), &file), 0);
    EXPECT_EQ(file.st_uid, 0u);
    if (HasOwnRoot()) {
      EXPECT_THAT(Below(process + "/root"), UnorderedElementsAre("/etc", "/etc/resolv.conf"));
      EXPECT_LT(open((process + "/root/etc/x").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600), 0);
      EXPECT_EQ(errno, EROFS);
    }
    penstock.Kill(SIGKILL);
    (void)penstock.Wait();
  });
}

TEST_P(ConfinedRun, TheCommandHasNothingOfIt) {
  InOwnNamespaces([] {
    const std::string script =
        "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status; ls -d /etc/passwd;"
        "ulimit -c; ulimit -u; ulimit -l";
    const Outcome outside = RunProgram({"bash", "-c", script}, AsUser());
    const Outcome inside = RunProgram(Words(script), AsUser());
    EXPECT_EQ(inside.output, outside.output) << inside.errors;
    EXPECT_THAT(inside.output, AllOf(HasSubstr("Seccomp:\t0"), HasSubstr("/etc/passwd")));
  });
}

TEST_P(ConfinedRun, NoneOfItWithoutASandbox) {
  InOwnNamespaces([] {
    Program penstock(Words("echo ready; exec sleep 1000", {"--no-sandbox"}), AsUser());
    (void)penstock.AwaitLine("ready");
    const std::string process = "/proc/" + std::to_string(penstock.pid());
    EXPECT_EQ(Line(process, "Seccomp"), "0");
    EXPECT_EQ(Line(process, "NoNewPrivs"), "0");
    EXPECT_TRUE(std::filesystem::exists(process + "/root/etc/passwd"));
    penstock.Kill(SIGKILL);
    (void)penstock.Wait();
  });
}

// ---------------------------------------------------------------- all kinds of traffic

// A name server on the host's 127.0.0.1, which knows one name.
class NameServer final {
 public:
  NameServer()
      : server_({"dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
                 "--user=root", "--group=root", "--pid-file", "--bind-interfaces",
                 "--listen-address=127.0.0.1", "--host-record=www.example.test,192.0.2.80"}) {
    (void)server_.AwaitErrorLine("dnsmasq: started");
  }

 private:
  Program server_;
};

std::string Echoed(int family, int type, uint16_t port) {
  const Peer peer(family, type, port);
  peer.Send("hello\n");
  return peer.Receive();
}

// A connection that events come on.
Descriptor Watch(const std::string& control) {
  auto client = ConnectToControl(control, std::chrono::seconds(kLimitSeconds));
  if (!client.ok()) throw std::runtime_error(client.status().ToString());
  const std::string request = R"({"execute":"events"})";
  if (write(client->get(), request.data(), request.size()) < 0) throw std::runtime_error("write");
  return *std::move(client);
}

void AwaitEvent(const Descriptor& watch, const std::string& part) {
  std::string said;
  for (char byte; said.find(part) == std::string::npos; said += byte) {
    if (read(watch.get(), &byte, 1) != 1) throw std::runtime_error("no " + part + ": " + said);
  }
}

// In the sandbox: each line that it says is one kind of traffic that worked; then servers.
constexpr const char* kTraffic = R"(
for gateway in 10.0.2.2 fd00::2; do
  exec 3<>"/dev/tcp/$gateway/$0" && echo "tcp $gateway" >&3 && read -r line <&3 && echo "$line"
  exec 3<>"/dev/udp/$gateway/$1" && echo "udp $gateway" >&3 && head -n 1 <&3
  (exec 3<>"/dev/tcp/$gateway/9") 2>/dev/null || echo "refused $gateway"
done
ping -c 1 -W 10 10.0.2.2 >/dev/null && echo ping gateway
ping -c 1 -W 10 198.18.0.1 >/dev/null && echo ping host
getent ahosts www.example.test | grep -qF 192.0.2.80 && echo name
dig +tcp +tries=1 +short www.example.test | grep -qF 192.0.2.80 && echo name by tcp
ncat -lk 80 --exec /bin/cat & ncat -ulk 81 --exec /bin/cat &
until ss -Hltun | grep -q ':80 ' && ss -Hltun | grep -q ':81 '; do :; done
echo serving
read -r end
exit 7)";

TEST_P(ConfinedRun, AllTrafficAndOrdersGetAlong) {
  InOwnNamespaces([] {
    AddRoutes();
    // In a user namespace of the tests' own there is but one group.
    ASSERT_EQ(std::system("cd /proc/sys/net/ipv4; echo 0 65534 > ping_group_range 2>/dev/null ||"
                          "echo 0 0 > ping_group_range"),
              0);
    const NameServer names;
    Program echo({"net-echo", "--tcp", "0", "--udp", "0"});
    const std::string tcp = std::to_string(EchoPort(echo, "TCP"));
    const std::string udp = std::to_string(EchoPort(echo, "UDP"));
    TemporaryFolder folder;
    std::ofstream(folder / "resolv.conf") << "nameserver 127.0.0.1\n";
    ASSERT_EQ(mkfifo((folder / "end").c_str(), 0666), 0);
    chmod((folder / "end").c_str(), 0666);
    const Descriptor end(open((folder / "end").c_str(), O_RDWR | O_CLOEXEC));
    Program penstock(
        Words("exec 0<" + (folder / "end") + ";" + kTraffic,
              {"--host-loopback", "--profile", "all", "--resolv-conf", folder / "resolv.conf",
               "--control", folder / "c", "--stats-file", folder / "stats", "--pcap",
               folder / "pcap", "-p", "8080:80", "-p", "[::1]:8080:80"},
              {tcp, udp}),
        AsUser());
    for (const char* said :
         {"tcp 10.0.2.2", "udp 10.0.2.2", "refused 10.0.2.2", "tcp fd00::2", "udp fd00::2",
          "refused fd00::2", "ping gateway", "ping host", "name", "name by tcp", "serving"}) {
      (void)penstock.AwaitLine(said);
    }
    EXPECT_EQ(Echoed(AF_INET, SOCK_STREAM, 8080), "hello\n");
    EXPECT_EQ(Echoed(AF_INET6, SOCK_STREAM, 8080), "hello\n");

    const Descriptor watch = Watch(folder / "c");  // whoever runs the tests: root may, too
    const auto order = [&](std::vector<std::string> words) {
      words.insert(words.begin(), "penstock");
      words.insert(words.end(), {"--control", folder / "c"});
      const Outcome outcome = RunProgram(words, AsUser());
      EXPECT_EQ(outcome.status, 0) << outcome.errors;
      return outcome.output;
    };
    (void)order({"ports", "add", "8081:81/udp", "lo:8082:80"});
    AwaitEvent(watch, "\"published\"");
    EXPECT_EQ(Echoed(AF_INET, SOCK_DGRAM, 8081), "hello\n");
    EXPECT_EQ(Echoed(AF_INET, SOCK_STREAM, 8082), "hello\n");
    EXPECT_THAT(order({"ports", "list"}), AllOf(HasSubstr(":8080"), HasSubstr(":8081")));
    EXPECT_THAT(order({"flows"}), HasSubstr("10.0.2.15"));
    std::ofstream(folder / "rules") << "default egress deny\n";
    (void)order({"policy", "set", folder / "rules"});
    AwaitEvent(watch, "\"policy-replaced\"");
    (void)order({"ports", "remove", "8081/udp"});

    penstock.Kill(SIGUSR1);
    EXPECT_THAT(folder.AwaitMovedFile("stats"), HasSubstr("flows_open "));
    ASSERT_EQ(write(end.get(), "end\n", 4), 4);
    const Outcome outcome = penstock.Wait();
    EXPECT_EQ(outcome.status, 7) << outcome.errors;
    EXPECT_FALSE(std::filesystem::exists(folder / "c"));
    EXPECT_GT(std::filesystem::file_size(folder / "pcap"), 1'000u);
  });
}

TEST(Confinement, OfAttachServesAndSeesTheEndOfItsPath) {
  InOwnNamespaces([] {
    Holder holder;
    TemporaryFolder folder;
    const std::string path = folder / "netns";
    std::ofstream(path).flush();
    ASSERT_EQ(mount(holder.path().c_str(), path.c_str(), nullptr, MS_BIND, nullptr), 0);
    Attached penstock({"--netns", path, "--stats-file", folder / "stats"});
    EXPECT_EQ(Line("/proc/" + std::to_string(penstock->pid()), "Seccomp"), "2");
    EXPECT_EQ(
        RunProgram({"nsenter", "--net=" + holder.path(), "ping", "-c", "1", "10.0.2.2"}).status, 0);
    ASSERT_EQ(umount(path.c_str()), 0);
    const Outcome outcome = penstock->Wait();
    EXPECT_EQ(outcome.status, 0) << outcome.errors;
    EXPECT_TRUE(std::filesystem::exists(folder / "stats"));
  });
}

// ---------------------------------------------------------------- refusals

TEST(Confinement, ThatCannotBeHadIsAnErrorWhichNamesIt) {
  if (kThreadSanitized) return;  // an ordinary user's has no namespaces of its own there
  const Outcome outcome = RunProgram({"penstock", "run", "--", "true"}, ForbidIpcNamespaces);
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.errors,
              AllOf(StartsWith("penstock: cannot confine penstock: it may not make"),
                    HasSubstr("IPC namespaces"), HasSubstr("--no-sandbox")));
  const Outcome without =
      RunProgram({"penstock", "run", "--no-sandbox", "--", "true"}, ForbidIpcNamespaces);
  EXPECT_EQ(without.status, 0) << without.errors;
}

}  // namespace
}  // namespace penstock::tool
