#include "tests/support/host_side.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "relay/socket_address.h"

namespace penstock {
namespace {

// Setting up the host's side never fails on a healthy machine: where it does, the
// test ends with the system's words.
int Must(int result, const char* what) {
  if (result < 0) throw std::system_error(errno, std::generic_category(), what);
  return result;
}

SocketAddress Loopback(Family family, uint16_t port) {
  const IpAddress address =
      family == Family::kIpv4 ? IpAddress::V4(127, 0, 0, 1) : *IpAddress::Parse("::1");
  return SocketAddress({address, port});
}

int OpenStream(int domain) { return Must(socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"); }

Endpoint OwnEndpoint(int descriptor) {
  SocketAddress address;
  Must(getsockname(descriptor, address.data(), address.length_pointer()), "getsockname");
  return address.ToEndpoint();
}

uint16_t BoundPort(int descriptor) { return OwnEndpoint(descriptor).port; }

int DomainOf(Family family) { return family == Family::kIpv4 ? AF_INET : AF_INET6; }

}  // namespace

HostDescriptor::HostDescriptor(HostDescriptor&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}

HostDescriptor& HostDescriptor::operator=(HostDescriptor&& other) noexcept {
  if (this != &other) {
    Close();
    descriptor_ = std::exchange(other.descriptor_, -1);
  }
  return *this;
}

void HostDescriptor::Close() {
  if (descriptor_ >= 0) close(std::exchange(descriptor_, -1));
}

HostSocket::HostSocket(int descriptor) : descriptor_(descriptor) {
  const int flags = Must(fcntl(descriptor, F_GETFL), "fcntl");
  Must(fcntl(descriptor, F_SETFL, flags | O_NONBLOCK), "fcntl");
}

size_t HostSocket::Read(size_t bytes_max) {
  size_t total = 0;
  std::array<char, 65536> buffer;
  while (total < bytes_max && !ended_ && error_ == 0) {
    const size_t wanted = std::min(buffer.size(), bytes_max - total);
    const ssize_t count = recv(descriptor_.get(), buffer.data(), wanted, 0);
    if (count > 0) {
      received_.append(buffer.data(), static_cast<size_t>(count));
      total += static_cast<size_t>(count);
    } else if (count == 0) {
      ended_ = true;
    } else if (errno == EAGAIN) {
      break;
    } else if (errno != EINTR) {
      error_ = errno;
    }
  }
  return total;
}

size_t HostSocket::Write(std::string_view bytes) {
  const ssize_t count = send(descriptor_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  if (count >= 0) return static_cast<size_t>(count);
  if (errno != EAGAIN && errno != EINTR && error_ == 0) error_ = errno;
  return 0;
}

bool HostSocket::WasReset() {
  int error = 0;
  socklen_t length = sizeof(error);
  Must(getsockopt(descriptor_.get(), SOL_SOCKET, SO_ERROR, &error, &length), "SO_ERROR");
  if (error != 0) error_ = error;
  return error_ == ECONNRESET || error_ == EPIPE;
}

HostSocket HostSocket::ConnectTo(const Endpoint& destination) {
  HostDescriptor descriptor(OpenStream(DomainOf(destination.address.family)));
  const SocketAddress address(destination);
  Must(connect(descriptor.get(), address.get(), address.length()), "connect");
  return HostSocket(descriptor.Release());
}

Endpoint HostSocket::own() const { return OwnEndpoint(descriptor_.get()); }

void HostSocket::ShutdownWrite() { Must(shutdown(descriptor_.get(), SHUT_WR), "shutdown"); }

void HostSocket::Reset() {
  const linger zero{.l_onoff = 1, .l_linger = 0};
  Must(setsockopt(descriptor_.get(), SOL_SOCKET, SO_LINGER, &zero, sizeof(zero)), "SO_LINGER");
  descriptor_.Close();
}

HostListener::HostListener(Family family, HostListenerOptions options)
    : family_(family), descriptor_(OpenStream(DomainOf(family))) {
  if (options.receive_buffer_bytes > 0) {
    Must(setsockopt(descriptor_.get(), SOL_SOCKET, SO_RCVBUF, &options.receive_buffer_bytes,
                    sizeof(int)),
         "SO_RCVBUF");
  }
  const SocketAddress address = Loopback(family, 0);
  Must(bind(descriptor_.get(), address.get(), address.length()), "bind");
  Must(listen(descriptor_.get(), options.backlog), "listen");
  const int flags = Must(fcntl(descriptor_.get(), F_GETFL), "fcntl");
  Must(fcntl(descriptor_.get(), F_SETFL, flags | O_NONBLOCK), "fcntl");
  port_ = BoundPort(descriptor_.get());
}

std::optional<HostSocket> HostListener::TryAccept() {
  const int accepted = accept4(descriptor_.get(), nullptr, nullptr, SOCK_CLOEXEC);
  if (accepted >= 0) return HostSocket(accepted);
  if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) Must(-1, "accept");
  return std::nullopt;
}

void HostListener::FillBacklog() {
  // A backlog of 0 holds one connection; the kernel drops the SYNs of others.
  filler_ = HostDescriptor(OpenStream(DomainOf(family_)));
  const SocketAddress address = Loopback(family_, port_);
  Must(connect(filler_.get(), address.get(), address.length()), "connect");
}

void HostListener::EmptyBacklog() {
  const std::optional<HostSocket> first = TryAccept();
  if (!first) throw std::runtime_error("the backlog held no connection");
  filler_.Close();
}

bool HostListener::IsBeingDialled() const {
  // Lines such as "0: 0100007F:D431 0100007F:1F90 02 …": local, remote, state.
  constexpr std::string_view kSynSent = "02";
  std::ifstream sockets(family_ == Family::kIpv4 ? "/proc/net/tcp" : "/proc/net/tcp6");
  char port[8];
  std::snprintf(port, sizeof(port), ":%04X", port_);
  std::string line, number, local, remote, state;
  while (std::getline(sockets, line)) {
    std::istringstream words(line);
    words >> number >> local >> remote >> state;
    if (remote.ends_with(port) && state == kSynSent) return true;
  }
  return false;
}

HostRefusedPort::HostRefusedPort() : descriptor_(OpenStream(AF_INET6)) {
  const int off = 0;
  Must(setsockopt(descriptor_.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)), "V6ONLY");
  sockaddr_in6 any{};
  any.sin6_family = AF_INET6;
  any.sin6_addr = in6addr_any;
  Must(bind(descriptor_.get(), reinterpret_cast<sockaddr*>(&any), sizeof(any)), "bind");
  port_ = BoundPort(descriptor_.get());
}

}  // namespace penstock
