// The namespaces in which `penstock run` runs a command, and the processes in them.
//
//   penstock          stays in the host's namespaces, drives the stack
//     └ keeper        forked child: makes the namespaces and the tap, passes the
//       │             tap up, waits for "go", has the network configured by the
//       │             stack, starts the command, passes signals on, renews the lease
//       └ COMMAND …   and whatever it starts
//
// No process outlives the sandbox. The keeper is a subreaper: when the command has
// ended, or penstock has died by whatever means (parent-death signal), everything
// below it is killed and reaped. (penstock itself sweeps nothing: it may have been
// given children before it was executed.) Should the keeper be killed, the command
// gets a parent-death signal. The namespaces and their mounts vanish with the last
// process and the tap's descriptor.
//
// All functions: the thread that drives the tool, before it has started others.
#ifndef PENSTOCK_TOOLS_PENSTOCK_SANDBOX_H_
#define PENSTOCK_TOOLS_PENSTOCK_SANDBOX_H_

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "stack/link/tap.h"
#include "tools/penstock/channel.h"
#include "tools/penstock/descriptor.h"
#include "tools/penstock/lifetime.h"
#include "tools/penstock/netlink.h"

namespace penstock::tool {

struct SandboxSettings {
  std::vector<std::string> command;  // not empty
  bool user_namespace = false;
  TapOptions tap;
  InterfaceSettings interface;
  // Of resolv.conf, as far as DHCP does not tell.
  std::vector<IpAddress> nameservers;  // of the families that are on
  std::vector<std::string> search;     // domains
};

class Sandbox final {
 public:
  // Makes everything but the command's process. On error nothing is left behind.
  [[nodiscard]] static absl::StatusOr<Sandbox> Create(const SandboxSettings& settings,
                                                      const SignalMask& mask);
  Sandbox(Sandbox&&) = default;
  Sandbox& operator=(Sandbox&&) = delete;
  // Kills whatever still runs.
  ~Sandbox();

  // The tap's descriptor; the caller owns it.
  [[nodiscard]] int ReleaseTap() { return tap_.Release(); }
  // Starts the command, once the network is configured: the stack must run for that. A
  // failure is a sentence on stderr and exit status 1.
  [[nodiscard]] absl::Status Go();
  [[nodiscard]] pid_t keeper() const { return keeper_.pid; }
  // Passes a signal on to the command.
  void Kill(int signal);
  // Readable when the command and everything that it started have ended.
  [[nodiscard]] absl::StatusOr<Descriptor> OpenProcess() const;
  // Waits for that; returns the command's exit status, 128 + the signal that ended
  // it, 126 or 127 if it could not be run (what is there is no program; nothing is
  // there). Once.
  [[nodiscard]] int Wait();

 private:
  Sandbox(pid_t keeper, Descriptor channel) : keeper_(keeper), channel_(std::move(channel)) {}

  // A moved-from Sandbox owns no process.
  struct Process {
    explicit Process(pid_t id) : pid(id) {}
    Process(Process&& other) noexcept : pid(std::exchange(other.pid, -1)) {}
    pid_t pid;
  };
  Process keeper_;
  Descriptor channel_;
  Descriptor tap_;
};

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_SANDBOX_H_
