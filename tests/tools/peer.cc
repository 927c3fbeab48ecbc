#include "tests/tools/peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "tests/tools/program.h"

namespace penstock::tool {
namespace {

// 0, or the error.
int ConnectToLoopback(int socket, int family, uint16_t port) {
  sockaddr_in6 to{};
  to.sin6_family = AF_INET6;
  to.sin6_port = htons(port);
  to.sin6_addr = in6addr_loopback;
  sockaddr_in to4{};
  to4.sin_family = AF_INET;
  to4.sin_port = htons(port);
  to4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int result = family == AF_INET6
                         ? connect(socket, reinterpret_cast<sockaddr*>(&to), sizeof to)
                         : connect(socket, reinterpret_cast<sockaddr*>(&to4), sizeof to4);
  return result == 0 ? 0 : errno;
}

}  // namespace

Peer::Peer(int family, int type, uint16_t port) : socket_(socket(family, type | SOCK_CLOEXEC, 0)) {
  const timeval limit{.tv_sec = kLimitSeconds, .tv_usec = 0};
  setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (const int error = ConnectToLoopback(socket_, family, port); error != 0) {
    throw std::runtime_error(std::string("cannot connect: ") + std::strerror(error));
  }
}

Peer::~Peer() { close(socket_); }

void Peer::Send(const std::string& text) const {
  size_t sent = 0;
  while (sent < text.size()) {
    const ssize_t n = send(socket_, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) throw std::runtime_error("cannot send");
    sent += size_t(n);
  }
}

void Peer::Finish() const { shutdown(socket_, SHUT_WR); }

std::string Peer::Receive() const {
  std::array<char, 65536> bytes;
  const ssize_t n = recv(socket_, bytes.data(), bytes.size(), 0);
  if (n < 0) throw std::runtime_error(std::string("nothing came: ") + std::strerror(errno));
  return {bytes.data(), size_t(n)};
}

std::string Peer::ReceiveAll() const {
  std::string all;
  for (std::string some; !(some = Receive()).empty();) all += some;
  return all;
}

bool IsRefused(int family, uint16_t port) {
  const int client = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int error = ConnectToLoopback(client, family, port);
  close(client);
  return error == ECONNREFUSED;
}

}  // namespace penstock::tool
