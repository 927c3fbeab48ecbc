#include "tests/support/sandbox_datagram.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
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

void UdpSocket::SetOption(int level, int name, int value) {
  if (setsockopt(descriptor_.get(), level, name, &value, sizeof value) != 0) {
    ThrowErrno("setsockopt");
  }
}

int UdpSocket::Option(int level, int name) const {
  int value = 0;
  socklen_t length = sizeof value;
  if (getsockopt(descriptor_.get(), level, name, &value, &length) != 0) ThrowErrno("getsockopt");
  return value;
}

void UdpSocket::Connect(const Endpoint& to) {
  const SocketAddress address(to);
  if (connect(descriptor_.get(), address.get(), address.length()) != 0) ThrowErrno("connect");
}

int UdpSocket::TrySend(std::string_view text) {
  return send(descriptor_.get(), text.data(), text.size(), 0) < 0 ? errno : 0;
}

int UdpSocket::NextError(Duration limit) {
  pollfd failed{.fd = descriptor_.get(), .events = 0, .revents = 0};
  const auto limit_ms = std::chrono::duration_cast<std::chrono::milliseconds>(limit).count();
  if (poll(&failed, 1, static_cast<int>(limit_ms)) <= 0) return 0;
  return Option(SOL_SOCKET, SO_ERROR);
}

int UdpSocket::ReceiveControl(int level, int type) {
  pollfd readable{.fd = descriptor_.get(), .events = POLLIN, .revents = 0};
  const auto limit_ms = std::chrono::duration_cast<std::chrono::milliseconds>(kSocketLimit).count();
  if (poll(&readable, 1, static_cast<int>(limit_ms)) <= 0) throw std::runtime_error("no datagram");
  char text[2'048];
  iovec part{text, sizeof text};
  alignas(cmsghdr) std::array<uint8_t, 256> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  if (recvmsg(descriptor_.get(), &message, 0) < 0) ThrowErrno("recvmsg");
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != level || header->cmsg_type != type) continue;
    int value = 0;
    memcpy(&value, CMSG_DATA(header), std::min(sizeof value, header->cmsg_len - CMSG_LEN(0)));
    return value;
  }
  throw std::runtime_error("the datagram comes without that control message");
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
