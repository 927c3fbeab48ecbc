#include "tools/penstock/control.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"

namespace penstock::tool {
namespace {

// How long no client is accepted after there was no descriptor for one.
constexpr Duration kAcceptPause = std::chrono::milliseconds(100);

bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

std::optional<uid_t> KernelsUserOf(int socket) {
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

std::string LostLine(uint64_t count) { return JsonLine({{"event", "lost"}, {"count", count}}); }

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

ControlServer::ControlServer(ControlSocket socket)
    : socket_(std::move(socket)), user_of_(KernelsUserOf) {}

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
    if (!goes_on && client->subscribes) Subscribe(*client);
    client = goes_on ? std::next(client) : clients_.erase(client);
  }
  ForgetThoseThatLeft();
  Flush();
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
  const std::optional<uid_t> user = user_of_(socket.get());
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
      client.answer = ErrorAnswer(
          absl::StrCat("the request is too long: at most ", kControlRequestBytesMax, " bytes"));
    } else if (client.end.hopeless()) {
      client.answer = ErrorAnswer(
          "a request is one JSON object, such as "
          "{\"execute\":\"ports-list\"}");
    } else if (last) {
      Reply reply = answer(client.request);
      const bool full = subscribers_.size() >= kControlSubscriberCountMax;
      if (reply.subscribe && full) reply = {ErrorAnswer("too many watch already: end one first")};
      client.answer = std::move(reply.text);
      client.subscribes = reply.subscribe;
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

// ---------------------------------------------------------------- subscribers

// Whatever of its answer has not left yet is the first of its backlog.
void ControlServer::Subscribe(Client& client) {
  // Several may have been answered since there was room for one.
  if (subscribers_.size() >= kControlSubscriberCountMax) return;
  // Nothing more is read from it: only its end (EPOLLHUP, which needs no asking) counts.
  if (!Watch(EPOLL_CTL_MOD, client.socket.get(), 0)) return;
  Subscriber& subscriber = subscribers_.emplace_back();
  subscriber.socket = std::move(client.socket);
  subscriber.backlog = client.answer.substr(client.answered);
}

void ControlServer::Publish(std::string_view line) {
  for (Subscriber& subscriber : subscribers_) Append(subscriber, line);
}

void ControlServer::PublishLoss(uint64_t count) {
  for (Subscriber& subscriber : subscribers_) {
    subscriber.lost += count;
    TellLoss(subscriber);
  }
}

void ControlServer::Append(Subscriber& subscriber, std::string_view line) {
  TellLoss(subscriber);
  if (subscriber.lost != 0 || subscriber.waiting() + line.size() > kControlBacklogBytesMax) {
    ++subscriber.lost;
  } else {
    subscriber.backlog.append(line);
  }
}

// Not before the backlog is half empty, or there would be one such line for each that fits.
void ControlServer::TellLoss(Subscriber& subscriber) {
  if (subscriber.lost == 0 || subscriber.waiting() > kControlBacklogBytesMax / 2) return;
  subscriber.backlog += LostLine(std::exchange(subscriber.lost, 0));
}

void ControlServer::Flush() {
  subscribers_.remove_if([this](Subscriber& subscriber) { return !Flush(subscriber); });
}

bool ControlServer::Flush(Subscriber& subscriber) {
  for (;;) {
    TellLoss(subscriber);
    if (subscriber.waiting() == 0) break;
    const ssize_t length =
        send(subscriber.socket.get(), subscriber.backlog.data() + subscriber.sent,
             subscriber.waiting(), MSG_NOSIGNAL);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0 && errno != EAGAIN) return false;
    if (length < 0) break;
    subscriber.sent += static_cast<size_t>(length);
  }
  // What is gone is dropped now and then: moving the rest costs as much as it is long.
  if (subscriber.waiting() == 0 || subscriber.sent > kControlBacklogBytesMax) {
    subscriber.backlog.erase(0, std::exchange(subscriber.sent, 0));
  }
  const bool waits = subscriber.waiting() != 0;
  if (waits == subscriber.waits_for_room) return true;
  subscriber.waits_for_room = waits;
  return Watch(EPOLL_CTL_MOD, subscriber.socket.get(), waits ? uint32_t{EPOLLOUT} : 0U);
}

void ControlServer::ForgetThoseThatLeft() {
  subscribers_.remove_if([](const Subscriber& subscriber) {
    // One that only stopped sending still reads: POLLHUP is the end of both ways.
    pollfd watched{.fd = subscriber.socket.get(), .events = 0, .revents = 0};
    return poll(&watched, 1, 0) == 1;
  });
}

}  // namespace penstock::tool
