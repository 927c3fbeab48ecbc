// Where VMMs come to: a path in the file system with a stream socket, each of whose connections
// is a visitor, or with a datagram socket, which has one visitor at a time.
//
// A visitor by datagrams is whoever sent the first one: the socket is connected to its address,
// which a confined process could not do (it sees no paths). From then on the kernel takes
// datagrams from nobody else. Such a socket tells nothing of the other end's end, so the
// visitor's process is found, too: the kernel says who sent the datagram (SCM_CREDENTIALS). Its
// first byte, and with it all the others, is left for whoever serves the visitor.
//
// The thread that drives the tool.
#ifndef PENSTOCK_TOOLS_PENSTOCK_VMM_DOOR_H_
#define PENSTOCK_TOOLS_PENSTOCK_VMM_DOOR_H_

#include <sys/socket.h>

#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "tools/penstock/control_socket.h"
#include "tools/penstock/descriptor.h"

namespace penstock::tool {

class VmmDoor final {
 public:
  struct Visitor {
    Descriptor socket;
    Descriptor process;  // perhaps invalid: a stream, or a process that is not seen from here
  };

  // `type`: SOCK_STREAM or SOCK_DGRAM. An error says what is at `path` already.
  [[nodiscard]] static absl::StatusOr<VmmDoor> Make(const std::string& path, int type);

  // Readable when somebody waits; a datagram socket also while it has a visitor.
  [[nodiscard]] int descriptor() const { return socket_.descriptor(); }
  // While there are others. (What waits in a datagram socket is then the visitor's.)
  [[nodiscard]] bool visitors_wait() const { return type_ == SOCK_STREAM; }
  // The next visitor; nothing: who waited is gone, or cannot be answered and was told about. An
  // error is one that waiting may cure.
  [[nodiscard]] absl::StatusOr<std::optional<Visitor>> Open();
  // The visitor has left: a datagram socket is anybody's again, and what waits in it is lost.
  void Close();
  // In a child that was forked: nothing of it is left there.
  void CloseCopy() { socket_.CloseCopy(); }

 private:
  VmmDoor(ControlSocket socket, int type) : socket_(std::move(socket)), type_(type) {}
  [[nodiscard]] absl::StatusOr<std::optional<Visitor>> Accept();
  [[nodiscard]] absl::StatusOr<std::optional<Visitor>> Meet();
  // Of a datagram socket: whether each datagram says whose it is.
  [[nodiscard]] bool LearnSenders(bool wanted) const;

  ControlSocket socket_;
  int type_;
};

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_VMM_DOOR_H_
