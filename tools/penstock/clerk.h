// What a confined penstock cannot do itself, because it sees no files: a child that stays
// outside does it. It was forked before the confinement (confinement.h), does the five things
// below and nothing else, and ends with penstock.
//
//   resolv.conf      the host's is followed, and what it says is written into penstock's own
//                    root, in the same place
//   statistics       --stats-file is replaced
//   control socket   its file is removed at the end; who is at the other end of a connection
//                    (from inside a user namespace of its own, penstock would see numbers that
//                    mean nothing)
//   attach           whether the path still leads to the namespace
//
// Paths are fixed when it starts: penstock asks, and cannot say where. It asks on a socket
// pair, one question at a time, and waits for the answer; the end of the stream is the end of
// the clerk. Signals that the tool handles are blocked in it, so that it is there until the
// last statistics are written.
//
// The thread that drives the tool, before it has started others (Start) and after.
#ifndef PENSTOCK_TOOLS_PENSTOCK_CLERK_H_
#define PENSTOCK_TOOLS_PENSTOCK_CLERK_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/penstock/control_socket.h"
#include "tools/penstock/descriptor.h"
#include "tools/penstock/lifetime.h"

namespace penstock::tool {

struct ClerkDuties {
  std::string resolv_conf;  // absolute; empty: none
  std::string stats_file;   // empty: none
  std::optional<SocketFile> control;
  std::optional<NamespacePath> path;
};

class Clerk final {
 public:
  [[nodiscard]] static absl::StatusOr<Clerk> Start(const ClerkDuties& duties);
  Clerk(Clerk&&) = default;
  Clerk& operator=(Clerk&&) = delete;
  // Removes the control socket's file and waits for the clerk's end.
  ~Clerk();

  // Once: writes resolv.conf below `root`, a folder's descriptor, now and whenever it changes.
  [[nodiscard]] absl::Status Furnish(int root) const;
  [[nodiscard]] absl::Status ReplaceStats(const std::string& text) const;
  // Of a connected unix socket.
  [[nodiscard]] std::optional<uid_t> UserOf(int socket) const;
  // True also where nobody can say any more.
  [[nodiscard]] bool PathLeadsThere() const;

 private:
  struct Process {
    explicit Process(pid_t id) : pid(id) {}
    Process(Process&& other) noexcept : pid(std::exchange(other.pid, -1)) {}
    pid_t pid;
  };
  Clerk(pid_t pid, Descriptor channel) : process_(pid), channel_(std::move(channel)) {}

  Process process_;
  Descriptor channel_;
};

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_CLERK_H_
