#include "tools/penstock/sandbox.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <utility>

#include "relay/time.h"
#include "tools/penstock/guest_network.h"
#include "tools/penstock/namespaces.h"

namespace penstock::tool {
namespace {

// The keeper's parent-death signal; a parent that gives up sends it too.
int ParentDied() { return SIGRTMIN; }

// As in a shell.
constexpr int kCannotRun = 126;
constexpr int kNotFound = 127;
constexpr int kKilledBySignal = 128;

// For DHCP and the first router advertisement, which take milliseconds but over a link
// that loses frames.
constexpr Duration kConfigurationTime = std::chrono::seconds(10);

int ExitStatus(int wait_status) {
  return WIFSIGNALED(wait_status) ? kKilledBySignal + WTERMSIG(wait_status)
                                  : WEXITSTATUS(wait_status);
}

// Kills and reaps every descendant of the calling subreaper. The children of one
// that dies become ours, so each round goes one generation down.
void SweepDescendants() {
  for (;;) {
    std::ifstream children("/proc/thread-self/children");
    if (!children) return;  // a kernel that lists none, or no /proc: nothing to go by
    for (pid_t child; children >> child;) kill(child, SIGKILL);
    if (waitpid(-1, nullptr, 0) < 0 && errno == ECHILD) return;
  }
}

// In the command's process.
[[noreturn]] void Execute(const std::vector<std::string>& command, const SignalMask& mask,
                          pid_t keeper) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != keeper) _exit(kCannotRun);
  std::vector<char*> arguments;
  arguments.reserve(command.size() + 1);
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  mask.Restore();
  execvp(arguments[0], arguments.data());
  const int error = errno;
  std::fprintf(stderr, "penstock: cannot run %s: %s\n", arguments[0], std::strerror(error));
  _exit(error == ENOENT ? kNotFound : kCannotRun);
}

// The keeper's signals as a descriptor: it sleeps on them and on the network.
class Signals final {
 public:
  explicit Signals(const SignalMask& mask) {
    sigset_t awaited = mask.handled();
    sigaddset(&awaited, SIGCHLD);
    sigaddset(&awaited, ParentDied());
    sigprocmask(SIG_BLOCK, &awaited, nullptr);
    descriptor_.Reset(signalfd(-1, &awaited, SFD_CLOEXEC | SFD_NONBLOCK));
  }
  [[nodiscard]] int descriptor() const { return descriptor_.get(); }
  [[nodiscard]] std::optional<signalfd_siginfo> Next() const {
    signalfd_siginfo info{};
    if (read(descriptor_.get(), &info, sizeof info) != sizeof info) return std::nullopt;
    return info;
  }

 private:
  Descriptor descriptor_;
};

// A signal before there is a command ends the keeper as it would have ended that.
absl::Status Configure(GuestNetwork& network, const Signals& signals) {
  const Time limit = Clock::now() + kConfigurationTime;
  while (!network.usable() && network.error().ok()) {
    if (Clock::now() >= limit) return network.Missing();
    network.Wait(signals.descriptor(), limit);
    while (const auto info = signals.Next()) {
      const int signal = static_cast<int>(info->ssi_signo);
      if (signal != SIGCHLD) _exit(kKilledBySignal + (signal == ParentDied() ? SIGKILL : signal));
    }
  }
  return network.error();
}

void NameServersFor(const SandboxSettings& settings, const std::optional<DhcpLease>& lease) {
  std::vector<IpAddress> nameservers = settings.nameservers;
  std::vector<std::string> search = settings.search;
  if (lease) {
    std::erase_if(nameservers, [](const IpAddress& address) { return address.is_v4(); });
    nameservers.insert(nameservers.begin(), lease->nameservers.begin(), lease->nameservers.end());
    search = lease->search;
  }
  if (absl::Status mounted = MountResolvConf(nameservers, search); !mounted.ok()) {
    std::fprintf(stderr, "penstock: warning: names are resolved as on the host: %s\n",
                 std::string(mounted.message()).c_str());
  }
}

// Passes signals on and reaps until the command has ended or penstock has died.
int Attend(pid_t command, const Signals& signals, GuestNetwork& network) {
  for (;;) {
    network.Wait(signals.descriptor(), kNever);
    while (const auto info = signals.Next()) {
      const int signal = static_cast<int>(info->ssi_signo);
      if (signal == ParentDied()) return kKilledBySignal + SIGKILL;
      if (signal == SIGCHLD) {
        int status = 0;
        for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
          if (pid == command) return ExitStatus(status);
        }
      } else if (info->ssi_code != SI_KERNEL) {
        kill(command, signal);
      }
    }
  }
}

[[noreturn]] void Fail(const std::string& sentence) {
  std::fprintf(stderr, "penstock: %s\n", sentence.c_str());
  _exit(1);
}

// The keeper after the tap was passed up: starts the command and outlives it.
[[noreturn]] void Keep(const SandboxSettings& settings, const SignalMask& mask, int channel,
                       GuestNetwork network) {
  const Signals signals(mask);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  // Before the wait: a parent that dies earlier ends the channel, later raises this.
  prctl(PR_SET_PDEATHSIG, ParentDied());
  if (!AwaitGo(channel)) _exit(1);
  if (absl::Status configured = Configure(network, signals); !configured.ok()) {
    Fail(std::string(configured.message()));
  }
  NameServersFor(settings, network.lease());

  const pid_t keeper = getpid();
  const pid_t command = fork();
  if (command == 0) Execute(settings.command, mask, keeper);
  if (command < 0) Fail(std::string("cannot start a process: ") + std::strerror(errno));
  const int status = Attend(command, signals, network);
  SweepDescendants();
  _exit(status);
}

absl::StatusOr<GuestNetwork> Furnish(const SandboxSettings& settings,
                                     const SandboxNamespaces& namespaces, int channel) {
  if (absl::Status settled = namespaces.Settle(); !settled.ok()) return settled;
  const absl::StatusOr<std::unique_ptr<Link>> tap = OpenTap(settings.tap);
  if (!tap.ok()) return tap.status();
  absl::StatusOr<GuestNetwork> network = GuestNetwork::Create(settings.interface);
  if (!network.ok()) return network;
  if (absl::Status sent = SendTap(channel, (*tap)->descriptor()); !sent.ok()) return sent;
  return network;
}

}  // namespace

absl::StatusOr<Sandbox> Sandbox::Create(const SandboxSettings& settings, const SignalMask& mask) {
  absl::StatusOr<Channel> channel = OpenChannel();
  if (!channel.ok()) return channel.status();
  std::fflush(nullptr);  // or the child would write our buffers again
  const SandboxNamespaces namespaces(settings.user_namespace);
  const absl::StatusOr<pid_t> keeper = namespaces.Fork();
  if (!keeper.ok()) return keeper.status();
  if (*keeper == 0) {
    channel->parent.Reset();
    absl::StatusOr<GuestNetwork> network = Furnish(settings, namespaces, channel->child.get());
    if (!network.ok()) {
      SendFailure(channel->child.get(), network.status());
      _exit(1);
    }
    Keep(settings, mask, channel->child.get(), *std::move(network));
  }
  channel->child.Reset();
  Sandbox sandbox(*keeper, std::move(channel->parent));
  absl::StatusOr<Descriptor> tap = ReceiveTap(sandbox.channel_.get());
  if (!tap.ok()) return tap.status();
  sandbox.tap_ = *std::move(tap);
  return sandbox;
}

Sandbox::~Sandbox() {
  if (keeper_.pid < 0) return;
  channel_.Reset();  // for a keeper that still waits for its go
  Kill(ParentDied());
  (void)Wait();
}

absl::Status Sandbox::Go() { return SendGo(channel_.get()); }

void Sandbox::Kill(int signal) { kill(keeper_.pid, signal); }

absl::StatusOr<Descriptor> Sandbox::OpenProcess() const { return tool::OpenProcess(keeper_.pid); }

int Sandbox::Wait() {
  int status = 0;
  pid_t ended;
  do {
    ended = waitpid(keeper_.pid, &status, 0);
  } while (ended < 0 && errno == EINTR);
  keeper_.pid = -1;
  return ExitStatus(status);
}

}  // namespace penstock::tool
