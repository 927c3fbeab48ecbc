#include "tests/support/sandbox_socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <vector>

namespace penstock::e2e {
namespace {

struct SocketAddress {
  explicit SocketAddress(const Endpoint& endpoint) {
    if (endpoint.address.is_v4()) {
      auto& v4 = reinterpret_cast<sockaddr_in&>(storage);
      v4.sin_family = AF_INET;
      v4.sin_port = htons(endpoint.port);
      std::memcpy(&v4.sin_addr, endpoint.address.bytes.data(), 4);
      size = sizeof v4;
    } else {
      auto& v6 = reinterpret_cast<sockaddr_in6&>(storage);
      v6.sin6_family = AF_INET6;
      v6.sin6_port = htons(endpoint.port);
      std::memcpy(&v6.sin6_addr, endpoint.address.bytes.data(), 16);
      size = sizeof v6;
    }
  }
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr_storage storage{};
  socklen_t size = 0;
};

Descriptor NewSocket(int domain) {
  Descriptor descriptor(socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (descriptor.get() < 0) ThrowErrno("socket");
  return descriptor;
}

void SetLimits(const Descriptor& descriptor) {
  timeval limit{.tv_sec = kSocketLimit.count(), .tv_usec = 0};
  if (setsockopt(descriptor.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0 ||
      setsockopt(descriptor.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0) {
    ThrowErrno("setsockopt SO_RCVTIMEO");
  }
}

// SplitMix64: a word of the stream depends on its place only.
uint64_t PatternWord(uint64_t seed, uint64_t index) {
  uint64_t z = seed * 0xD1342543DE82EF95u + index * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

bool IsWait(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

// One side of a connection while Perform runs.
class Performer {
 public:
  Performer(TcpSocket& socket, const Exchange& exchange)
      : socket_(socket), exchange_(exchange), buffer_(exchange.chunk_max) {}

  void Run() {
    while (!sending_ended_ || !receiving_ended_) {
      short events =
          static_cast<short>((WantsToSend() ? POLLOUT : 0) | (receiving_ended_ ? 0 : POLLIN));
      pollfd ready{.fd = socket_.descriptor(), .events = events, .revents = 0};
      int count =
          poll(&ready, 1, static_cast<int>(std::chrono::milliseconds(kSocketLimit).count()));
      if (count == 0) throw std::runtime_error("no progress: " + Progress());
      if (WantsToSend() && (ready.revents & ~POLLIN) != 0) SendSome();
      if (!receiving_ended_ && (ready.revents & ~POLLOUT) != 0) ReceiveSome();
    }
    socket_.Close();
  }

 private:
  [[nodiscard]] bool WantsToSend() const {
    if (sending_ended_) return false;
    return sent_ < exchange_.send.bytes || !exchange_.end_last || receiving_ended_;
  }

  void SendSome() {
    if (sent_ < exchange_.send.bytes) {
      size_t size = std::min<uint64_t>(buffer_.size(), exchange_.send.bytes - sent_);
      FillPattern(exchange_.send.seed, sent_, {buffer_.data(), size});
      ssize_t taken = send(socket_.descriptor(), buffer_.data(), size, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (taken < 0 && !IsWait(errno)) ThrowErrno("send failed: " + Progress());
      if (taken > 0) sent_ += static_cast<uint64_t>(taken);
    }
    if (sent_ == exchange_.send.bytes && (!exchange_.end_last || receiving_ended_)) {
      socket_.ShutdownSending();
      sending_ended_ = true;
    }
  }

  void ReceiveSome() {
    if (exchange_.read_pause > Duration::zero()) {
      poll(nullptr, 0,
           static_cast<int>(
               std::chrono::ceil<std::chrono::milliseconds>(exchange_.read_pause).count()));
    }
    ssize_t size = recv(socket_.descriptor(), buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (size < 0) {
      if (IsWait(errno)) return;
      ThrowErrno("receive failed: " + Progress());
    }
    if (size == 0) {
      receiving_ended_ = true;
      if (received_ < exchange_.receive.bytes) throw std::runtime_error("cut off: " + Progress());
      return;
    }
    CheckPattern(exchange_.receive.seed, received_, {buffer_.data(), static_cast<size_t>(size)});
    received_ += static_cast<uint64_t>(size);
    if (received_ > exchange_.receive.bytes) throw std::runtime_error("too much: " + Progress());
    if (exchange_.hook && !hook_done_ && received_ >= exchange_.hook_after) {
      hook_done_ = true;
      exchange_.hook();
    }
  }

  [[nodiscard]] std::string Progress() const {
    return "sent " + std::to_string(sent_) + " of " + std::to_string(exchange_.send.bytes) +
           " bytes, received " + std::to_string(received_) + " of " +
           std::to_string(exchange_.receive.bytes) + (sending_ended_ ? ", sending ended" : "") +
           (receiving_ended_ ? ", receiving ended" : "");
  }

  TcpSocket& socket_;
  const Exchange& exchange_;
  std::vector<uint8_t> buffer_;
  uint64_t sent_ = 0;
  uint64_t received_ = 0;
  bool sending_ended_ = false;
  bool receiving_ended_ = false;
  bool hook_done_ = false;
};

}  // namespace

TcpSocket::TcpSocket(Family family)
    : TcpSocket(NewSocket(family == Family::kIpv4 ? AF_INET : AF_INET6)) {}

TcpSocket::TcpSocket(Descriptor descriptor) : descriptor_(std::move(descriptor)) {
  SetLimits(descriptor_);
}

void TcpSocket::Set(int level, int name, int value) {
  if (setsockopt(descriptor(), level, name, &value, sizeof value) != 0) ThrowErrno("setsockopt");
}

void TcpSocket::Bind(const Endpoint& own) {
  SocketAddress address(own);
  if (bind(descriptor(), address.get(), address.size) != 0) ThrowErrno("bind " + own.ToString());
}

int TcpSocket::TryConnect(const Endpoint& destination) {
  SocketAddress address(destination);
  return connect(descriptor(), address.get(), address.size) == 0 ? 0 : errno;
}

void TcpSocket::Connect(const Endpoint& destination) {
  errno = TryConnect(destination);
  if (errno != 0) ThrowErrno("connect to " + destination.ToString());
}

size_t TcpSocket::Send(std::span<const uint8_t> bytes, int flags) {
  ssize_t size = send(descriptor(), bytes.data(), bytes.size(), flags | MSG_NOSIGNAL);
  if (size < 0) ThrowErrno("send");
  return static_cast<size_t>(size);
}

size_t TcpSocket::Receive(std::span<uint8_t> bytes, int flags) {
  ssize_t size = recv(descriptor(), bytes.data(), bytes.size(), flags);
  if (size < 0) ThrowErrno("recv");
  return static_cast<size_t>(size);
}

void TcpSocket::SendAll(std::string_view text, int flags) {
  std::span<const uint8_t> rest(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  while (!rest.empty()) rest = rest.subspan(Send(rest, flags));
}

std::string TcpSocket::ReceiveToEnd() {
  std::string text;
  uint8_t buffer[16384];
  while (size_t size = Receive(buffer)) text.append(reinterpret_cast<char*>(buffer), size);
  return text;
}

bool TcpSocket::WaitFor(short events, Duration limit) const {
  pollfd ready{.fd = descriptor(), .events = events, .revents = 0};
  auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(limit);
  return poll(&ready, 1, static_cast<int>(milliseconds.count())) > 0;
}

void TcpSocket::ShutdownSending() {
  if (shutdown(descriptor(), SHUT_WR) != 0) ThrowErrno("shutdown");
}

void TcpSocket::Reset() {
  linger none{.l_onoff = 1, .l_linger = 0};
  if (setsockopt(descriptor(), SOL_SOCKET, SO_LINGER, &none, sizeof none) != 0) {
    ThrowErrno("setsockopt SO_LINGER");
  }
  Close();
}

TcpListener::TcpListener(uint16_t port) : descriptor_(NewSocket(AF_INET6)) {
  SetLimits(descriptor_);
  int on = 1;
  if (setsockopt(descriptor_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) {
    ThrowErrno("setsockopt SO_REUSEADDR");
  }
  SocketAddress any(Endpoint{.address = *IpAddress::Parse("::"), .port = port});
  if (bind(descriptor_.get(), any.get(), any.size) != 0) ThrowErrno("bind a listener");
  if (listen(descriptor_.get(), 4096) != 0) ThrowErrno("listen");
  sockaddr_in6 bound{};
  socklen_t size = sizeof bound;
  if (getsockname(descriptor_.get(), reinterpret_cast<sockaddr*>(&bound), &size) != 0) {
    ThrowErrno("getsockname");
  }
  port_ = ntohs(bound.sin6_port);
}

TcpSocket TcpListener::Accept() {
  Descriptor accepted(accept4(descriptor_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (accepted.get() < 0) ThrowErrno("accept");
  return TcpSocket(std::move(accepted));
}

void FillPattern(uint64_t seed, uint64_t offset, std::span<uint8_t> bytes) {
  while (!bytes.empty()) {
    uint64_t word = PatternWord(seed, offset / 8);
    size_t skipped = offset % 8;
    size_t size = std::min(bytes.size(), 8 - skipped);
    std::memcpy(bytes.data(), reinterpret_cast<uint8_t*>(&word) + skipped, size);
    bytes = bytes.subspan(size);
    offset += size;
  }
}

void CheckPattern(uint64_t seed, uint64_t offset, std::span<const uint8_t> bytes) {
  std::vector<uint8_t> expected(bytes.size());
  FillPattern(seed, offset, expected);
  auto wrong = std::mismatch(bytes.begin(), bytes.end(), expected.begin()).first;
  if (wrong == bytes.end()) return;
  throw std::runtime_error("byte " +
                           std::to_string(offset + static_cast<uint64_t>(wrong - bytes.begin())) +
                           " of stream " + std::to_string(seed) + " is wrong");
}

void Perform(TcpSocket& socket, const Exchange& exchange) { Performer(socket, exchange).Run(); }

void SendStream(TcpSocket& socket, const Stream& stream) {
  std::vector<uint8_t> buffer(65536);
  for (uint64_t sent = 0; sent < stream.bytes;) {
    size_t size = std::min<uint64_t>(buffer.size(), stream.bytes - sent);
    FillPattern(stream.seed, sent, {buffer.data(), size});
    sent += socket.Send({buffer.data(), size});
  }
}

uint64_t SendUntilBlocked(TcpSocket& socket, uint64_t seed, uint64_t offset, Duration quiet) {
  std::vector<uint8_t> buffer(65536);
  while (socket.WaitFor(POLLOUT, quiet)) {
    FillPattern(seed, offset, buffer);
    ssize_t size =
        send(socket.descriptor(), buffer.data(), buffer.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (size < 0 && !IsWait(errno)) ThrowErrno("send");
    if (size > 0) offset += static_cast<uint64_t>(size);
  }
  return offset;
}

}  // namespace penstock::e2e
