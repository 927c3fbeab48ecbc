#include "tools/penstock/control.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <utility>

namespace penstock::tool {
namespace {

// How long no client is accepted after there was no descriptor for one.
constexpr Duration kAcceptPause = std::chrono::milliseconds(100);

bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

std::optional<uid_t> UserOf(int socket) {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return std::nullopt;
  return peer.uid;
}

}  // namespace

std::string JsonLine(const nlohmann::json& value) {
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::string ErrorAnswer(std::string_view sentence) {
  return JsonLine({{"error", {{"desc", sentence}}}});
}

std::optional<size_t> ObjectEnd::Find(std::string_view bytes) {
  for (size_t i = 0; i < bytes.size(); ++i) {
    const char c = bytes[i];
    if (in_string_) {
      in_string_ = escaped_ || c != '"';
      escaped_ = !escaped_ && c == '\\';
    } else if (c == '{') {
      ++depth_;
    } else if (depth_ == 0) {
      hopeless_ = hopeless_ || !IsSpace(c);
    } else if (c == '"') {
      in_string_ = true;
    } else if (c == '}' && --depth_ == 0) {
      return i + 1;
    }
  }
  return std::nullopt;
}

absl::StatusOr<std::unique_ptr<ControlServer>> ControlServer::Open(const std::string& path) {
  absl::StatusOr<ControlSocket> socket = ControlSocket::Listen(path);
  if (!socket.ok()) return socket.status();
  std::unique_ptr<ControlServer> server(new ControlServer(*std::move(socket)));
  server->epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
  if (!server->epoll_.valid() ||
      !server->Watch(EPOLL_CTL_ADD, server->socket_.descriptor(), EPOLLIN)) {
    return ErrnoStatus("cannot watch the control socket", errno);
  }
  return server;
}

bool ControlServer::Watch(int operation, int descriptor, uint32_t events) {
  epoll_event event{.events = events, .data = {}};
  return epoll_ctl(epoll_.get(), operation, descriptor, &event) == 0;
}

Time ControlServer::deadline() const {
  return clients_.empty() ? accept_again_ : std::min(accept_again_, clients_.front().deadline);
}

void ControlServer::Serve(Time now, const Answer& answer) {
  Accept(now);
  for (auto client = clients_.begin(); client != clients_.end();) {
    if (client->deadline <= now && client->answer.empty()) {
      client->answer = ErrorAnswer("the request did not come within 5 s: send it at once");
    }
    const bool goes_on = Attend(*client, answer) && client->deadline > now;
    client = goes_on ? std::next(client) : clients_.erase(client);
  }
}

void ControlServer::Accept(Time now) {
  const int listener = socket_.descriptor();
  if (accept_again_ != kNever) {
    if (now < accept_again_) return;
    accept_again_ = kNever;
    (void)Watch(EPOLL_CTL_MOD, listener, EPOLLIN);
  }
  // At most a full house at a time: who drives the tool has other things to do.
  for (size_t i = 0; i < kControlClientCountMax; ++i) {
    Descriptor socket(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket.valid()) {
      Admit(std::move(socket), now);
    } else if (errno == EAGAIN) {
      return;
    } else if (errno != EINTR && errno != ECONNABORTED) {
      // Out of descriptors or memory. The socket stays readable: not to be looked at.
      accept_again_ = now + kAcceptPause;
      (void)Watch(EPOLL_CTL_MOD, listener, 0);
      return;
    }
  }
}

void ControlServer::Admit(Descriptor socket, Time now) {
  if (!Watch(EPOLL_CTL_ADD, socket.get(), EPOLLIN)) return;
  if (clients_.size() == kControlClientCountMax) {
    Client& oldest = clients_.front();
    if (oldest.answer.empty()) oldest.answer = ErrorAnswer("too many clients at once: try again");
    (void)Write(oldest);
    clients_.pop_front();
  }
  Client& client = clients_.emplace_back();
  client.deadline = now + kControlPatience;
  const std::optional<uid_t> user = UserOf(socket.get());
  client.socket = std::move(socket);
  if (!user || !MayControl(*user, geteuid())) {
    client.answer = ErrorAnswer("only the user who started this penstock, and root, may");
  }
}

bool ControlServer::Attend(Client& client, const Answer& answer) {
  if (client.answer.empty()) Read(client, answer);
  return client.answer.empty() || Write(client);
}

void ControlServer::Read(Client& client, const Answer& answer) {
  std::array<char, 16'384> bytes;
  for (;;) {
    const ssize_t length = recv(client.socket.get(), bytes.data(), bytes.size(), 0);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0 && errno == EAGAIN) return;
    if (length <= 0) {
      client.answer = ErrorAnswer(
          "the request ended early: send one JSON object, such as "
          "{\"execute\":\"ports-list\"}");
      return;
    }
    const std::string_view got(bytes.data(), static_cast<size_t>(length));
    const std::optional<size_t> last = client.end.Find(got);
    client.request.append(got.substr(0, last.value_or(got.size())));
    if (client.request.size() > kControlRequestBytesMax) {
      client.answer = ErrorAnswer("the request is too long: at most 65536 bytes");
    } else if (client.end.hopeless()) {
      client.answer = ErrorAnswer(
          "a request is one JSON object, such as "
          "{\"execute\":\"ports-list\"}");
    } else if (last) {
      client.answer = answer(client.request);
    }
    if (!client.answer.empty()) return;
  }
}

bool ControlServer::Write(Client& client) {
  while (client.answered < client.answer.size()) {
    const ssize_t length = send(client.socket.get(), client.answer.data() + client.answered,
                                client.answer.size() - client.answered, MSG_NOSIGNAL);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) {
      return errno == EAGAIN && Watch(EPOLL_CTL_MOD, client.socket.get(), EPOLLOUT);
    }
    client.answered += static_cast<size_t>(length);
  }
  return false;
}

}  // namespace penstock::tool
