#include "relay/kernel_socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <new>

namespace penstock {

using boost::system::error_code;

namespace {

void ResetOnClose(int descriptor) {
  const linger zero{1, 0};
  (void)setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &zero, sizeof zero);
}

}  // namespace

KernelAccepted::~KernelAccepted() {
  if (descriptor_ < 0) return;
  ResetOnClose(descriptor_);
  close(descriptor_);
}

int KernelSocket::Open(SocketFactory& factory, const SocketRequest& request) {
  const SocketResult opened = factory.OpenStream(request);
  if (opened.descriptor < 0) return opened.error != 0 ? opened.error : EMFILE;
  return Assign(opened.descriptor, request.destination.address.is_v4() ? AF_INET : AF_INET6);
}

int KernelSocket::Adopt(AcceptedSocket& accepted) {
  auto& mine = static_cast<KernelAccepted&>(accepted);
  return Assign(mine.Release(), mine.domain());
}

int KernelSocket::Assign(int descriptor, int domain) {
  error_code error;
  try {
    socket_.assign({domain, domain == AF_UNIX ? 0 : int{IPPROTO_TCP}}, descriptor, error);
  } catch (const std::bad_alloc&) {
    error.assign(ENOMEM, boost::system::system_category());
  }
  if (error) {
    ResetOnClose(descriptor);
    close(descriptor);  // Asio did not take it
    return error.value();
  }
  socket_.non_blocking(true, error);
  return error.value();
}

int KernelSocket::Connect(const Endpoint& destination) {
  const SocketAddress address(destination);
  const int descriptor = socket_.native_handle();
  if (connect(descriptor, address.get(), address.length()) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  pollfd over{.fd = descriptor, .events = POLLOUT, .revents = 0};
  return poll(&over, 1, 0) == 1 ? TakeError() : EINPROGRESS;
}

bool KernelSocket::ConnectedToItself() {
  const int descriptor = socket_.native_handle();
  sockaddr_storage own{}, peer{};
  socklen_t own_bytes = sizeof own, peer_bytes = sizeof peer;
  return getsockname(descriptor, reinterpret_cast<sockaddr*>(&own), &own_bytes) == 0 &&
         getpeername(descriptor, reinterpret_cast<sockaddr*>(&peer), &peer_bytes) == 0 &&
         own_bytes == peer_bytes && memcmp(&own, &peer, own_bytes) == 0;
}

IoResult KernelSocket::Read(std::span<uint8_t> room) {
  const ssize_t got = recv(socket_.native_handle(), room.data(), room.size(), MSG_DONTWAIT);
  if (got < 0) return {.error = errno};
  return {.bytes = static_cast<size_t>(got)};
}

IoResult KernelSocket::Write(std::span<const iovec> pieces) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(pieces.data());
  message.msg_iovlen = pieces.size();
  const ssize_t sent = sendmsg(socket_.native_handle(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0) return {.error = errno};
  return {.bytes = static_cast<size_t>(sent)};
}

void KernelSocket::ShutdownWrite() {
  error_code error;
  socket_.shutdown(Socket::shutdown_send, error);
  // ENOTCONN: the peer reset just now; reading or the error watch tells.
}

int KernelSocket::TakeError() {
  int error = 0;
  socklen_t bytes = sizeof error;
  // Where it cannot be asked it is not known to be well: it counts as failed.
  const int asked = getsockopt(socket_.native_handle(), SOL_SOCKET, SO_ERROR, &error, &bytes);
  return asked == 0 ? error : errno;
}

void KernelSocket::Close(bool reset) {
  if (!socket_.is_open()) return;
  if (reset) ResetOnClose(socket_.native_handle());
  error_code error;
  socket_.close(error);
}

}  // namespace penstock
