// `penstock run` around the command: its exit status and signals, what it finds
// inside, what is left when it has ended. The network itself is tested elsewhere.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <sstream>

#include "tests/tools/isolation.h"
#include "tests/tools/program.h"

namespace penstock::tool {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

// `penstock run` with a shell script inside, as root and as an ordinary user.
class Run : public testing::TestWithParam<bool> {
 protected:
  static std::function<void()> AsUser() {
    return GetParam() ? BecomeOrdinaryUser : std::function<void()>();
  }
  static std::vector<std::string> Words(const std::string& script,
                                        const std::vector<std::string>& options = {}) {
    std::vector<std::string> words{"penstock", "run"};
    words.insert(words.end(), options.begin(), options.end());
    words.insert(words.end(), {"--", "sh", "-c", script});
    return words;
  }
  static Outcome Script(const std::string& script, const std::vector<std::string>& options = {}) {
    return RunProgram(Words(script, options), AsUser());
  }
};

INSTANTIATE_TEST_SUITE_P(All, Run, testing::Bool(),
                         [](const auto& test) { return test.param ? "OrdinaryUser" : "Caller"; });

TEST_P(Run, PassesTheExitStatusOn) {
  EXPECT_EQ(Script("exit 0").status, 0);
  EXPECT_EQ(Script("exit 7").status, 7);
  EXPECT_EQ(Script("kill -TERM $$").status, 128 + SIGTERM);
  EXPECT_EQ(Script("kill -KILL $$").status, 128 + SIGKILL);
}

TEST_P(Run, SaysWhyACommandCannotBeRun) {
  const Outcome missing = RunProgram({"penstock", "run", "--", "/no/such/program"}, AsUser());
  EXPECT_EQ(missing.status, 127);
  EXPECT_EQ(missing.errors, "penstock: cannot run /no/such/program: No such file or directory\n");
  const Outcome no_program = RunProgram({"penstock", "run", "--", "/proc/version"}, AsUser());
  EXPECT_EQ(no_program.status, 126);
  EXPECT_THAT(no_program.errors, StartsWith("penstock: cannot run /proc/version: "));
}

TEST_P(Run, PassesSignalsOnAndWaitsForTheCommand) {
  const std::pair<int, const char*> signals[] = {
      {SIGTERM, "TERM"}, {SIGINT, "INT"}, {SIGHUP, "HUP"}, {SIGQUIT, "QUIT"}, {SIGUSR2, "USR2"}};
  for (const auto& [number, name] : signals) {
    Program penstock(
        Words(std::string("trap 'echo got; exit 42' ") + name + "; sleep 1000 & echo ready; wait"),
        AsUser());
    (void)penstock.AwaitLine("ready");
    penstock.Kill(number);
    const Outcome outcome = penstock.Wait();
    EXPECT_EQ(outcome.status, 42) << name << ": " << outcome.errors;
    EXPECT_THAT(outcome.output, HasSubstr("got"));
  }
}

TEST_P(Run, ConfiguresTheNetworkInsideItselfIfAsked) {
  const Outcome outcome = Script(
      "ip -o address; ip -o link; ip route; ip -6 route; cat /etc/resolv.conf;"
      "cat /proc/sys/net/ipv6/conf/tap0/accept_ra /proc/sys/net/ipv4/ping_group_range",
      {"--static"});
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_EQ(outcome.errors, "");
  EXPECT_THAT(outcome.output,
              AllOf(HasSubstr("127.0.0.1/8"), HasSubstr("::1/128"), HasSubstr("10.0.2.15/24"),
                    HasSubstr("fd00::15/64"), HasSubstr("mtu 1500"), HasSubstr("qlen 1000")));
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("default via 10.0.2.2 dev tap0"),
                                    HasSubstr("default via fd00::2 dev tap0")));
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("nameserver 10.0.2.3\nnameserver fd00::3\n"),
                                    Not(ContainsRegex("fd00::15/64[^\n]*tentative")),
                                    Not(ContainsRegex("fd00::15/64[^\n]*dynamic"))));
  const std::string group =
      std::to_string(GetParam() && getegid() == 0 ? OrdinaryUser() : getegid());
  EXPECT_THAT(outcome.output, HasSubstr("0\n" + group + "\t" + group + "\n"));
}

TEST_P(Run, LetsAServerHaveAnyPortInside) {
  const Outcome outcome = Script("cat /proc/sys/net/ipv4/ip_unprivileged_port_start");
  EXPECT_EQ(outcome.output, "0\n") << outcome.errors;
}

TEST_P(Run, HonoursFamiliesAddressesAndMtu) {
  const Outcome only4 =
      Script("ip -o address; cat /etc/resolv.conf", {"--no-ipv6", "--mtu", "576"});
  EXPECT_THAT(only4.output, AllOf(HasSubstr("10.0.2.15/24"), Not(HasSubstr("tap0    inet6")),
                                  Not(HasSubstr("fd00::3"))));
  const Outcome only6 = Script("ip -o address; ip -o link; cat /etc/resolv.conf",
                               {"--no-ipv4", "--mtu", "65520", "--guest-ip6", "fd09::7/80",
                                "--gateway-ip6", "fd09::1", "--dns-ip6", "fd09::2"});
  EXPECT_THAT(only6.output, AllOf(HasSubstr("fd09::7/80"), HasSubstr("mtu 65520"),
                                  HasSubstr("nameserver fd09::2\n"), Not(HasSubstr("10.0.2."))));
}

TEST_P(Run, NamesACaptureFileThatCannotBeMadeBeforeAnythingStarts) {
  for (const auto& [file, reason] :
       {std::pair{"/no/such/folder/f", "No such file"}, {"/dev/full", "No space left"}}) {
    const Outcome outcome = Script("echo started", {"--pcap", file});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_EQ(outcome.output, "");
    EXPECT_THAT(outcome.errors,
                AllOf(StartsWith("penstock: "), HasSubstr(file), HasSubstr(reason)));
  }
}

constexpr rlim_t kFewFiles = 321;

void LimitFiles() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = kFewFiles;
  setrlimit(RLIMIT_NOFILE, &limit);
}

TEST_P(Run, KeepsUserDescriptorsAndLimits) {
  const std::string script =
      "id -u; ulimit -n; ls /proc/self/fd; grep -E '^(SigBlk|SigIgn)' /proc/self/status";
  const auto setup = [] {
    LimitFiles();
    if (GetParam()) BecomeOrdinaryUser();
  };
  const Outcome without = RunProgram({"sh", "-c", script}, setup);
  const Outcome with = RunProgram(Words(script), setup);
  EXPECT_THAT(without.output, HasSubstr("\n321\n"));
  EXPECT_EQ(with.output, without.output) << with.errors;
}

TEST_P(Run, RaisesItsOwnDescriptorLimit) {
  Program penstock(Words("echo ready; exec sleep 1000"), [] {
    LimitFiles();
    if (GetParam()) BecomeOrdinaryUser();
  });
  (void)penstock.AwaitLine("ready");
  std::istringstream limits(ReadFile("/proc/" + std::to_string(penstock.pid()) + "/limits"));
  std::string line;
  while (std::getline(limits, line) && !line.starts_with("Max open files")) {
  }
  std::istringstream words(line.substr(std::string("Max open files").size()));
  std::string soft, hard;
  words >> soft >> hard;
  EXPECT_NE(soft, std::to_string(kFewFiles));
  EXPECT_EQ(soft, hard);
}

// Marks whatever descends from a program by its environment. Neither process ids nor
// the numbers of namespaces would do: the kernel gives a freed one to the next who asks.
class Mark final {
 public:
  Mark() : text_(std::string(kName) + "=" + std::to_string(getpid())) {}

  // For the set-up of a program.
  void Put() const { putenv(const_cast<char*>(text_.c_str())); }
  [[nodiscard]] std::vector<std::string> Bearers() const {
    std::vector<std::string> bearers;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      if (ReadFile(entry.path() / "environ").find(text_) == std::string::npos) continue;
      bearers.push_back(entry.path().filename().string() + " " +
                        ReadFile(entry.path() / "cmdline"));
    }
    return bearers;
  }

 private:
  static constexpr const char* kName = "PENSTOCK_TEST_OF";
  std::string text_;
};

constexpr const char* kLeaveSomethingRunning =
    "sleep 1000 & echo sleeper=$!; (setsid sleep 1001 & echo orphan=$!); echo ready;";

TEST_P(Run, LeavesNothingBehind) {
  const Mark mark;
  const std::string mounts = ReadFile("/proc/self/mountinfo");
  Program penstock(Words(std::string(kLeaveSomethingRunning) + "wait"), [&mark] {
    mark.Put();
    if (GetParam()) BecomeOrdinaryUser();
  });
  (void)penstock.AwaitLine("ready");
  EXPECT_GE(mark.Bearers().size(), 3U);  // penstock, its child and the shell at least
  kill(std::stoi(penstock.AwaitLine("sleeper=")), SIGKILL);
  EXPECT_EQ(penstock.Wait().status, 0);
  EXPECT_THAT(mark.Bearers(), IsEmpty());
  EXPECT_EQ(ReadFile("/proc/self/mountinfo"), mounts);
}

TEST_P(Run, LeavesNothingBehindWhenItIsKilled) {
  const Mark mark;
  Program penstock(Words(std::string(kLeaveSomethingRunning) + "wait"), [&mark] {
    mark.Put();
    if (GetParam()) BecomeOrdinaryUser();
  });
  (void)penstock.AwaitLine("ready");
  penstock.Kill(SIGKILL);
  // Its end is when the last process that holds our pipe has gone, too.
  EXPECT_EQ(penstock.Wait().status, 128 + SIGKILL);
  for (const char* name : {"sleeper=", "orphan="}) {
    EXPECT_TRUE(AwaitEnd(std::stoi(penstock.AwaitLine(name))));
  }
  EXPECT_THAT(mark.Bearers(), IsEmpty());
}

TEST_P(Run, ThatFailsLeavesNothingBehindAndSaysWhatToChange) {
  const Outcome outcome = RunProgram(Words("echo never"), [] {
    RemoveTunDevice();
    if (GetParam()) DropRoot();
  });
  EXPECT_EQ(outcome.status, 1);
  EXPECT_EQ(outcome.output, "");
  EXPECT_THAT(outcome.errors, AllOf(StartsWith("penstock: "), HasSubstr("/dev/net/tun")));
  EXPECT_EQ(std::count(outcome.errors.begin(), outcome.errors.end(), '\n'), 1) << outcome.errors;
}

TEST(RunRefusals, TunDeviceThatOnlyRootMayOpen) {
  // Only root can make the device node that this is about; an ordinary user's own
  // tests need one that is open, so for them the refusal is another one.
  if (geteuid() != 0) {
    const Outcome outcome = RunProgram({"penstock", "run", "--", "true"}, RemoveTunDevice);
    EXPECT_EQ(outcome.status, 1);
    return;
  }
  const Outcome outcome =
      RunProgram({"penstock", "run", "--", "true"}, BecomeOrdinaryUserWithoutTun);
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.errors, AllOf(StartsWith("penstock: "), HasSubstr("/dev/net/tun")));
}

TEST(RunRefusals, UserNamespacesForbidden) {
  const Outcome outcome = RunProgram({"penstock", "run", "--user-namespace", "--", "echo", "never"},
                                     ForbidUserNamespaces);
  EXPECT_EQ(outcome.status, 1);
  EXPECT_EQ(outcome.output, "");
  EXPECT_THAT(outcome.errors, AllOf(StartsWith("penstock: no user namespace can be made here"),
                                    HasSubstr("user.max_user_namespaces")));
}

TEST(RunResolvConf, FollowsASymbolicLinkAndSparesTheHostsFile) {
  TemporaryFolder folder;
  const std::string target = folder / "real.conf";
  const Outcome outcome = RunProgram({"penstock", "run", "--", "cat", "/etc/resolv.conf", target},
                                     [&] { ReplaceEtc(target.c_str()); });
  EXPECT_EQ(outcome.status, 0) << outcome.errors;
  const std::string ours =
      "# made by penstock for this sandbox\nnameserver 10.0.2.3\nnameserver fd00::3\n";
  EXPECT_EQ(outcome.output, ours + ours);
  EXPECT_EQ(ReadFile(target), "the host's own\n");
}

TEST(RunResolvConf, MissingIsAWarning) {
  const Outcome outcome =
      RunProgram({"penstock", "run", "--", "echo", "runs"}, [] { ReplaceEtc(nullptr); });
  EXPECT_EQ(outcome.status, 0);
  EXPECT_EQ(outcome.output, "runs\n");
  EXPECT_THAT(outcome.errors, AllOf(StartsWith("penstock: warning: "),
                                    HasSubstr("/etc/resolv.conf: No such file")));
}

std::string ValueOf(const std::string& lines, const std::string& name) {
  std::istringstream in(lines);
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(name + " ")) return line.substr(name.size() + 1);
  }
  return "no line " + name;
}

// Both ways to drive the stack, for what they share.
class RunThreads : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, RunThreads, testing::Values("0", "1"));

TEST_P(RunThreads, SignalWritesStatistics) {
  TemporaryFolder folder;
  // A ping makes frames; whether it is answered does not matter here.
  Program penstock({"penstock", "run", "--relay-threads", GetParam(), "--stats-file",
                    folder / "stats", "--", "sh", "-c",
                    "ping -c 1 -W 1 10.0.2.2 > /dev/null; echo ready; sleep 1000"});
  (void)penstock.AwaitLine("ready");
  penstock.Kill(SIGUSR1);
  const std::string lines = folder.AwaitMovedFile("stats");
  EXPECT_GT(std::stoi(ValueOf(lines, "frames_to_host")), 0) << lines;
  EXPECT_GT(std::stoi(ValueOf(lines, "polls")), 0);
  EXPECT_EQ(ValueOf(lines, "drop_vlan_tag"), "0");
  EXPECT_EQ(ValueOf(lines, "flows_open"), "0");
  penstock.Kill(SIGTERM);
  EXPECT_EQ(penstock.Wait().status, 128 + SIGTERM);
}

TEST_P(RunThreads, StatisticsAtTheEnd) {
  TemporaryFolder folder;
  const Outcome outcome =
      RunProgram({"penstock", "run", "--relay-threads", GetParam(), "--stats", "--stats-file",
                  folder / "stats", "--", "sh", "-c", "ping -c 1 -W 1 10.0.2.2 > /dev/null; true"});
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.errors, AllOf(HasSubstr("penstock: flows"), HasSubstr("frames_to_host  ")));
  EXPECT_GT(std::stoi(ValueOf(ReadFile(folder / "stats"), "frames_to_host")), 0);
}

}  // namespace
}  // namespace penstock::tool
