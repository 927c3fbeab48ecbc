#include "tools/penstock/lifetime.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace penstock::tool {
namespace {

// What a tool is told by signals: end, or write statistics, or (for run) pass on.
constexpr std::array kHandled{SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

std::string FolderOf(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path();
  return folder.empty() ? "." : folder;
}

}  // namespace

SignalMask::SignalMask() {
  sigemptyset(&handled_);
  for (const int number : kHandled) {
    struct sigaction inherited {};
    sigaction(number, nullptr, &inherited);
    if (inherited.sa_handler != SIG_IGN) sigaddset(&handled_, number);
  }
  // Ignored, it would take the exit status of our children away.
  signal(SIGCHLD, SIG_DFL);
  sigset_t blocked = handled_;
  sigaddset(&blocked, SIGPIPE);  // a reader that left shows itself as EPIPE
  sigprocmask(SIG_BLOCK, &blocked, &original_);
}

void SignalMask::Restore() const { sigprocmask(SIG_SETMASK, &original_, nullptr); }

absl::StatusOr<Lifetime> Lifetime::Create(const SignalMask& mask) {
  Lifetime lifetime;
  lifetime.epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
  lifetime.signals_.Reset(signalfd(-1, &mask.handled(), SFD_CLOEXEC | SFD_NONBLOCK));
  if (!lifetime.epoll_.valid() || !lifetime.signals_.valid()) {
    return ErrnoStatus("cannot watch for signals", errno);
  }
  if (absl::Status added = lifetime.Add(lifetime.signals_.get(), EPOLLIN); !added.ok()) {
    return added;
  }
  return lifetime;
}

absl::Status Lifetime::Add(int descriptor, uint32_t events) {
  epoll_event event{.events = events, .data = {}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, descriptor, &event) != 0) {
    return ErrnoStatus("cannot watch a descriptor", errno);
  }
  return absl::OkStatus();
}

absl::Status Lifetime::WatchDescriptor(int descriptor) { return Add(descriptor, EPOLLIN); }

absl::Status Lifetime::WatchProcess(Descriptor pidfd) {
  process_ = std::move(pidfd);
  return Add(process_.get(), EPOLLIN);
}

absl::Status Lifetime::WatchPath(const std::string& path, int network_namespace) {
  struct stat identity {};
  if (fstat(network_namespace, &identity) != 0) return ErrnoStatus("cannot stat " + path, errno);
  path_ = {.path = path, .device = identity.st_dev, .inode = identity.st_ino};

  folder_.Reset(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  constexpr uint32_t kChanges = IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE |
                                IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
  if (!folder_.valid() || inotify_add_watch(folder_.get(), FolderOf(path).c_str(), kChanges) < 0) {
    return ErrnoStatus(
        absl::StrCat("cannot watch the folder of ", path,
                     " (if inotify is exhausted, raise fs.inotify.max_user_instances and "
                     "max_user_watches with sysctl)"),
        errno);
  }
  // Through a symbolic link, the end may come at either name.
  std::error_code unresolved;
  const std::filesystem::path real = std::filesystem::canonical(path, unresolved);
  if (!unresolved) (void)inotify_add_watch(folder_.get(), FolderOf(real).c_str(), kChanges);
  mounts_.Reset(open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
  if (!mounts_.valid()) return ErrnoStatus("cannot open /proc/self/mountinfo", errno);
  if (absl::Status added = Add(folder_.get(), EPOLLIN); !added.ok()) return added;
  return Add(mounts_.get(), EPOLLPRI);
}

std::optional<Signal> Lifetime::NextSignal() {
  signalfd_siginfo info{};
  if (read(signals_.get(), &info, sizeof info) != sizeof info) return std::nullopt;
  return Signal{.number = static_cast<int>(info.ssi_signo),
                .from_terminal = info.ssi_code == SI_KERNEL};
}

bool Lifetime::ProcessEnded() const {
  if (!process_.valid()) return false;
  pollfd watched{.fd = process_.get(), .events = POLLIN, .revents = 0};
  return poll(&watched, 1, 0) > 0;
}

void Lifetime::ForgetProcess() { process_.Reset(); }

bool Lifetime::PathGone() {
  if (!path_) return false;
  // What the events say in detail does not matter; they only have to be read.
  alignas(inotify_event) std::array<char, 4096> events;
  while (read(folder_.get(), events.data(), events.size()) > 0) {
  }
  epoll_event ignored[4];
  (void)epoll_wait(epoll_.get(), ignored, 4, 0);  // acknowledges the mount table's event
  return !(leads_there_ ? leads_there_() : path_->LeadsThere());
}

bool NamespacePath::LeadsThere() const {
  struct stat now {};
  return stat(path.c_str(), &now) == 0 && now.st_dev == device && now.st_ino == inode;
}

std::optional<pid_t> ProcessOfPath(const std::string& path) {
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::canonical(FolderOf(path), error);
  struct statfs system {};
  if (error || statfs(folder.c_str(), &system) != 0 || system.f_type != PROC_SUPER_MAGIC) {
    return std::nullopt;
  }
  for (const auto& part : folder) {
    pid_t pid;
    if (absl::SimpleAtoi(part.native(), &pid)) return pid;
  }
  return std::nullopt;
}

absl::StatusOr<Descriptor> OpenProcess(pid_t pid) {
  // Close-on-exec by itself. (glibc 2.36 has no C++ declaration of pidfd_open.)
  Descriptor process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!process.valid()) return ErrnoStatus(absl::StrCat("cannot watch process ", pid), errno);
  return process;
}

}  // namespace penstock::tool
