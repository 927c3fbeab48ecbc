#include "publisher/kernel_acceptor.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <new>
#include <utility>

#include "relay/kernel_socket.h"
#include "relay/socket_address.h"

namespace penstock {

KernelAcceptor::KernelAcceptor(boost::asio::io_context& io, int descriptor)
    : descriptor_(descriptor), watch_(io), timer_(io) {
  boost::system::error_code error;
  watch_.assign(descriptor, error);
  // Without room in epoll every wait fails: the listener pauses and tries again.
}

AcceptResult KernelAcceptor::Accept() {
  SocketAddress client;
  const int accepted =
      accept4(descriptor_, client.data(), client.length_pointer(), SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (accepted < 0) return {.error = errno};
  const Endpoint endpoint = client.ToEndpoint();
  const int domain = endpoint.address.is_v4() ? AF_INET : AF_INET6;
  std::unique_ptr<KernelAccepted> socket(new (std::nothrow) KernelAccepted(accepted, domain));
  if (socket == nullptr) {
    const KernelAccepted refused(accepted, domain);  // which resets it
    return {.error = ENOMEM};
  }
  return {.socket = std::move(socket), .client = endpoint};
}

Endpoint KernelAcceptor::HostOf(const AcceptedSocket& accepted) {
  SocketAddress host;
  const int descriptor = static_cast<const KernelAccepted&>(accepted).descriptor();
  if (getsockname(descriptor, host.data(), host.length_pointer()) != 0) return {};
  return host.ToEndpoint();
}

void KernelAcceptor::Close() {
  if (descriptor_ < 0) return;
  boost::system::error_code ignored;
  timer_.cancel();
  if (watch_.is_open()) {
    watch_.close(ignored);
  } else {
    close(descriptor_);
  }
  descriptor_ = -1;
}

}  // namespace penstock
