// What confines `penstock run`, `attach` and `serve` themselves: a stack that hostile bytes
// have taken over should find nothing there to take. In two steps, for the stack starts
// threads in between:
//
//   Enter   one thread, the stack not made yet
//           a clerk stays outside (clerk.h): it has what needs files
//           mount and IPC namespaces of its own, in a new user namespace unless it may make
//             them without; the network namespace stays the host's: there are the host sockets
//           an empty, read-only root with a copy of resolv.conf in it
//           no capabilities but, of a privileged penstock, the one for ports below 1024
//           no new privileges, no core dumps, nobody attaches to it (non-dumpable)
//   Seal    the stack is made, ports are published, no frame has been read
//           limits: no further process, no locked memory, no message queues
//           the list of system calls (call_filter.h), for all threads
//
// What was forked before, the command of `run` above all, has nothing of it. Whatever cannot
// be had is an error that names it; --no-sandbox goes without all of it, but for the clerk.
//
// Two kinds of penstock keep the host's root, and what they may open of it is what the list
// of calls lets them: one to whom only CAP_NET_BIND_SERVICE was given (setcap), which a user
// namespace would take away, and an ordinary user's under the thread sanitizer, whose own
// thread forbids entering one.
//
// The thread that drives the tool.
#ifndef PENSTOCK_TOOLS_PENSTOCK_CONFINEMENT_H_
#define PENSTOCK_TOOLS_PENSTOCK_CONFINEMENT_H_

#include <sys/types.h>

#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/penstock/clerk.h"
#include "tools/penstock/control_service.h"
#include "tools/penstock/lifetime.h"
#include "tools/penstock/options.h"

namespace penstock::tool {

class Confinement final {
 public:
  // After everything else was opened and forked: `lifetime` and `service` ask the clerk from
  // here on, and must not be asked after the confinement's end.
  [[nodiscard]] static absl::StatusOr<Confinement> Enter(CommonOptions& options, Lifetime& lifetime,
                                                         ControlService& service);

  // `signalled`: the one process that it may send signals to.
  [[nodiscard]] absl::Status Seal(std::optional<pid_t> signalled) const;
  [[nodiscard]] const Clerk& clerk() const { return *clerk_; }

 private:
  Confinement(std::unique_ptr<Clerk> clerk, bool confined)
      : clerk_(std::move(clerk)), confined_(confined) {}

  std::unique_ptr<Clerk> clerk_;
  bool confined_;
};

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_CONFINEMENT_H_
