#include "tools/penstock/vmm_door.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "tools/penstock/lifetime.h"
#include "tools/penstock/service.h"

namespace penstock::tool {
namespace {

// Who sent the datagram that waits.
struct Sender {
  sockaddr_un address{};
  socklen_t length = 0;
  pid_t process = 0;  // 0: not seen from here
};

// Nothing if none waits.
std::optional<Sender> Peek(int socket) {
  Sender sender;
  char byte;
  iovec room{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred))];
  msghdr message{};
  message.msg_name = &sender.address;
  message.msg_namelen = sizeof sender.address;
  message.msg_iov = &room;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (recvmsg(socket, &message, MSG_PEEK | MSG_DONTWAIT) < 0) return std::nullopt;
  sender.length = message.msg_namelen;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_CREDENTIALS) continue;
    ucred credentials;
    std::memcpy(&credentials, CMSG_DATA(part), sizeof credentials);
    sender.process = credentials.pid;
  }
  return sender;
}

void Drop(int socket) {
  char byte;
  (void)recv(socket, &byte, 1, MSG_DONTWAIT);
}

}  // namespace

absl::StatusOr<VmmDoor> VmmDoor::Make(const std::string& path, int type) {
  absl::StatusOr<ControlSocket> socket = ControlSocket::Listen(path, type);
  if (!socket.ok()) {
    if (type != SOCK_STREAM || !absl::IsAlreadyExists(socket.status())) return socket.status();
    return absl::AlreadyExistsError(
        absl::StrCat(socket.status().message(), " (if it is a VMM that listens: --connect)"));
  }
  VmmDoor door(*std::move(socket), type);
  if (type == SOCK_DGRAM && !door.LearnSenders(true)) {
    return ErrnoStatus(absl::StrCat("cannot learn who sends to ", path), errno);
  }
  return door;
}

bool VmmDoor::LearnSenders(bool wanted) const {
  const int value = wanted ? 1 : 0;
  return setsockopt(descriptor(), SOL_SOCKET, SO_PASSCRED, &value, sizeof value) == 0;
}

absl::StatusOr<std::optional<VmmDoor::Visitor>> VmmDoor::Open() {
  return type_ == SOCK_STREAM ? Accept() : Meet();
}

absl::StatusOr<std::optional<VmmDoor::Visitor>> VmmDoor::Accept() {
  Descriptor visitor(accept4(descriptor(), nullptr, nullptr, SOCK_CLOEXEC));
  if (visitor.valid()) return Visitor{.socket = std::move(visitor), .process = {}};
  switch (errno) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
      return ErrnoStatus("a VMM has to wait", errno);
    default:  // it is gone again
      return std::nullopt;
  }
}

absl::StatusOr<std::optional<VmmDoor::Visitor>> VmmDoor::Meet() {
  const std::optional<Sender> sender = Peek(descriptor());
  if (!sender) return std::nullopt;
  if (sender->length <= sizeof(sa_family_t)) {
    Say("a VMM sends from a socket without an address, and cannot be answered: it must bind its "
        "own (QEMU's local.path)");
    Drop(descriptor());
    return std::nullopt;
  }
  if (connect(descriptor(), reinterpret_cast<const sockaddr*>(&sender->address), sender->length) !=
      0) {
    Drop(descriptor());  // gone again, or somebody whom one may not answer
    return std::nullopt;
  }
  Visitor visitor;
  visitor.socket.Reset(fcntl(descriptor(), F_DUPFD_CLOEXEC, 0));
  if (!visitor.socket.valid()) {
    const int error = errno;
    Close();
    return ErrnoStatus("a VMM has to wait", error);
  }
  if (sender->process > 0) {
    // Not there any more, or its number means nothing here: its end shows when it is sent to.
    absl::StatusOr<Descriptor> process = OpenProcess(sender->process);
    if (process.ok()) visitor.process = *std::move(process);
  }
  (void)LearnSenders(false);  // it costs something for each
  return visitor;
}

void VmmDoor::Close() {
  if (type_ == SOCK_STREAM) return;
  (void)LearnSenders(true);
  const sockaddr none{.sa_family = AF_UNSPEC, .sa_data = {}};
  (void)connect(descriptor(), &none, sizeof none);
}

}  // namespace penstock::tool
