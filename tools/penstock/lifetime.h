// What may interrupt or end a tool, behind one descriptor: signals (signalfd), the
// end of a process (pidfd), the end of a path to a network namespace; and what else the
// tool waits for.
//
// A path ends in two ways, each with a messenger of its own: inotify on its folder
// tells of a removal, /proc/self/mountinfo (readable by priority when the table of
// mounts changes) of an unmount. Either only says "look again": the path is gone
// when it no longer leads to the namespace that it led to. Nothing is polled.
//
// The thread that drives the tool.
#ifndef PENSTOCK_TOOLS_PENSTOCK_LIFETIME_H_
#define PENSTOCK_TOOLS_PENSTOCK_LIFETIME_H_

#include <signal.h>
#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/penstock/descriptor.h"

namespace penstock::tool {

// Blocks the signals that the tool handles, for the process and all threads and
// children to come, but for those that whoever started the tool had ignored
// (nohup); the destructor does not undo it. A child that runs somebody
// else's program calls Restore() first.
class SignalMask final {
 public:
  SignalMask();
  // All that a Lifetime reports.
  [[nodiscard]] const sigset_t& handled() const { return handled_; }
  void Restore() const;

 private:
  sigset_t handled_;
  sigset_t original_;
};

struct Signal {
  int number = 0;
  // The kernel sent it to the whole foreground group (Ctrl-C): whoever we would
  // pass it on to has had it already.
  bool from_terminal = false;
};

// A path to a network namespace, and which one that is.
struct NamespacePath {
  std::string path;
  dev_t device = 0;
  ino_t inode = 0;

  [[nodiscard]] bool LeadsThere() const;
};

class Lifetime final {
 public:
  [[nodiscard]] static absl::StatusOr<Lifetime> Create(const SignalMask& mask);

  // Something of the tool's own beside them; it stays open as long as this.
  [[nodiscard]] absl::Status WatchDescriptor(int descriptor);
  // At most one process and one path each.
  [[nodiscard]] absl::Status WatchProcess(Descriptor pidfd);
  [[nodiscard]] absl::Status WatchPath(const std::string& path, int network_namespace);
  // Of WatchPath; null if nothing is watched.
  [[nodiscard]] const NamespacePath* path() const { return path_ ? &*path_ : nullptr; }
  // Who looks whether the path still leads there, of a process that no longer can.
  void LookBy(std::function<bool()> leads_there) { leads_there_ = std::move(leads_there); }

  // Readable when one of the functions below has something to say.
  [[nodiscard]] int descriptor() const { return epoll_.get(); }

  [[nodiscard]] std::optional<Signal> NextSignal();
  [[nodiscard]] bool ProcessEnded() const;
  // Stops watching a process that ended, so that the descriptor falls quiet.
  void ForgetProcess();
  [[nodiscard]] bool PathGone();

 private:
  Lifetime() = default;
  [[nodiscard]] absl::Status Add(int descriptor, uint32_t events);

  Descriptor epoll_;
  Descriptor signals_;
  Descriptor process_;
  Descriptor folder_;
  Descriptor mounts_;
  std::optional<NamespacePath> path_;
  std::function<bool()> leads_there_;
};

// The process whose end is the end of a path into /proc, which inotify does not
// tell: "/proc/PID/ns/net". nullopt for a path elsewhere.
[[nodiscard]] std::optional<pid_t> ProcessOfPath(const std::string& path);

// A descriptor for a process, so that its number can be reused without harm.
[[nodiscard]] absl::StatusOr<Descriptor> OpenProcess(pid_t pid);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_LIFETIME_H_
