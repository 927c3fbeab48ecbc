#include "tests/support/sandbox_datagram.h"

#include <poll.h>
#include <sys/socket.h>

#include <stdexcept>
#include <system_error>

#include "relay/socket_address.h"

namespace penstock::e2e {

UdpSocket::UdpSocket(Family family)
    : descriptor_(
          socket(family == Family::kIpv4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
  if (descriptor_.get() < 0) ThrowErrno("socket");
}

void UdpSocket::Bind(const Endpoint& own) {
  const SocketAddress address(own);
  if (bind(descriptor_.get(), address.get(), address.length()) != 0) ThrowErrno("bind");
}

Endpoint UdpSocket::own() const {
  SocketAddress address;
  if (getsockname(descriptor_.get(), address.data(), address.length_pointer()) != 0) {
    ThrowErrno("getsockname");
  }
  return address.ToEndpoint();
}

void UdpSocket::SendTo(const Endpoint& to, std::string_view text) {
  const SocketAddress address(to);
  const ssize_t sent =
      sendto(descriptor_.get(), text.data(), text.size(), 0, address.get(), address.length());
  if (sent != static_cast<ssize_t>(text.size())) ThrowErrno("sendto");
}

std::optional<UdpSocket::Datagram> UdpSocket::TryReceive(Duration limit) {
  pollfd readable{.fd = descriptor_.get(), .events = POLLIN, .revents = 0};
  const auto limit_ms = std::chrono::duration_cast<std::chrono::milliseconds>(limit).count();
  if (poll(&readable, 1, static_cast<int>(limit_ms)) <= 0) return std::nullopt;
  Datagram datagram{.text = std::string(65'536, '\0'), .from = {}};
  SocketAddress from;
  const ssize_t got = recvfrom(descriptor_.get(), datagram.text.data(), datagram.text.size(), 0,
                               from.data(), from.length_pointer());
  if (got < 0) ThrowErrno("recvfrom");
  datagram.text.resize(static_cast<size_t>(got));
  datagram.from = from.ToEndpoint();
  return datagram;
}

UdpSocket::Datagram UdpSocket::Receive() {
  auto datagram = TryReceive(kSocketLimit);
  if (!datagram) throw std::runtime_error("no datagram comes");
  return *std::move(datagram);
}

}  // namespace penstock::e2e
