#include "tools/penstock/sandbox.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "tools/penstock/namespaces.h"

namespace penstock::tool {
namespace {

// The keeper's parent-death signal; a parent that gives up sends it too.
int ParentDied() { return SIGRTMIN; }

// As in a shell.
constexpr int kCannotRun = 126;
constexpr int kNotFound = 127;
constexpr int kKilledBySignal = 128;

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
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  mask.Restore();
  execvp(arguments[0], arguments.data());
  const int error = errno;
  std::fprintf(stderr, "penstock: cannot run %s: %s\n", arguments[0], std::strerror(error));
  _exit(error == ENOENT ? kNotFound : kCannotRun);
}

// Passes signals on and reaps until the command has ended or penstock has died.
int Attend(pid_t command, const sigset_t& awaited) {
  for (;;) {
    siginfo_t info{};
    const int signal = sigwaitinfo(&awaited, &info);
    if (signal == ParentDied()) return kKilledBySignal + SIGKILL;
    if (signal == SIGCHLD) {
      int status = 0;
      for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (pid == command) return ExitStatus(status);
      }
    } else if (signal > 0 && info.si_code != SI_KERNEL) {
      kill(command, signal);
    }
  }
}

// The keeper after the tap was passed up: starts the command and outlives it.
[[noreturn]] void Keep(const SandboxSettings& settings, const SignalMask& mask, int channel) {
  sigset_t awaited = mask.handled();
  sigaddset(&awaited, SIGCHLD);
  sigaddset(&awaited, ParentDied());
  sigprocmask(SIG_BLOCK, &awaited, nullptr);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  // Before the wait: a parent that dies earlier ends the channel, later raises this.
  prctl(PR_SET_PDEATHSIG, ParentDied());
  if (!AwaitGo(channel)) _exit(1);

  const pid_t keeper = getpid();
  const pid_t command = fork();
  if (command == 0) Execute(settings.command, mask, keeper);
  if (command < 0) {
    std::fprintf(stderr, "penstock: cannot start a process: %s\n", std::strerror(errno));
    _exit(1);
  }
  const int status = Attend(command, awaited);
  SweepDescendants();
  _exit(status);
}

absl::Status Furnish(const SandboxSettings& settings, const SandboxNamespaces& namespaces,
                     int channel) {
  if (absl::Status settled = namespaces.Settle(); !settled.ok()) return settled;
  const absl::StatusOr<std::unique_ptr<Link>> tap = OpenTap(settings.tap);
  if (!tap.ok()) return tap.status();
  if (absl::Status configured = ConfigureNamespace(settings.interface); !configured.ok()) {
    return configured;
  }
  if (absl::Status mounted = MountResolvConf(settings.nameservers, settings.search);
      !mounted.ok()) {
    std::fprintf(stderr, "penstock: warning: names are resolved as on the host: %s\n",
                 std::string(mounted.message()).c_str());
  }
  return SendTap(channel, (*tap)->descriptor());
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
    if (absl::Status done = Furnish(settings, namespaces, channel->child.get()); !done.ok()) {
      SendFailure(channel->child.get(), done);
      _exit(1);
    }
    Keep(settings, mask, channel->child.get());
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
