// A path in the file system at which exactly one live process listens.
//
// The file has mode 0600 from its first moment: bind(2) gives it the mode of the socket's
// own inode, which fchmod sets before, and no umask has to change.
//
// A file that refuses connections is of a dead process and is replaced. Whoever looks for
// that and replaces it holds a lock (flock on PATH.lock, which goes with it), until it
// listens itself: of two that start at once, neither takes the other's for dead.
//
// Any thread.
#ifndef PENSTOCK_TOOLS_PENSTOCK_CONTROL_SOCKET_H_
#define PENSTOCK_TOOLS_PENSTOCK_CONTROL_SOCKET_H_

#include <sys/socket.h>
#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/penstock/descriptor.h"

namespace penstock::tool {

// What the address of a socket holds, without the zero at its end.
inline constexpr size_t kControlPathBytesMax = 107;

// InvalidArgument that says what to change, if the path is empty or too long. `option` is what
// it was given with.
[[nodiscard]] absl::Status CheckSocketPath(const std::string& option, const std::string& path);
[[nodiscard]] absl::Status CheckControlPath(const std::string& path);

// The file of a socket, by name and by what it is.
struct SocketFile {
  std::string path;
  dev_t device = 0;
  ino_t inode = 0;

  // Unless another one has taken its place.
  void Remove() const;
};

class ControlSocket final {
 public:
  // `type`: SOCK_STREAM, or SOCK_DGRAM, which is bound and does not listen. An error says who
  // listens there already (AlreadyExists), or what is in the way.
  [[nodiscard]] static absl::StatusOr<ControlSocket> Listen(const std::string& path,
                                                            int type = SOCK_STREAM);
  ControlSocket(ControlSocket&&) = default;
  ControlSocket& operator=(ControlSocket&&) = delete;
  // Removes the file, unless another one has taken its place or it was left to somebody else.
  ~ControlSocket();
  // From now on somebody else removes it: while this still listens, or a penstock that starts
  // would take it for a dead one's.
  [[nodiscard]] SocketFile LeaveFile();

  // Listens, does not block.
  [[nodiscard]] int descriptor() const { return socket_.get(); }
  // In a child that was forked: closes its copy, and leaves the file alone.
  void CloseCopy() {
    file_ = {};
    socket_.Reset();
  }

 private:
  ControlSocket() = default;

  Descriptor socket_;
  SocketFile file_;  // no path: not to be removed
};

// Connects. Sending and receiving on the result gives up (EAGAIN) after `patience`, as
// does this.
[[nodiscard]] absl::StatusOr<Descriptor> ConnectToControl(const std::string& path,
                                                          std::chrono::seconds patience);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_CONTROL_SOCKET_H_
