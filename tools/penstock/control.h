// The control socket's connections: one request in, one answer out, and the end, or for
// subscribers a stream of lines from then on. What a request means is somebody else's
// (control_protocol.h).
//
// A request is a JSON object; it ends with its closing brace, or where the client stops
// sending. Clients are those of the tool's own user, and root. Each has five seconds from
// its arrival to the end of its answer, and there are at most sixteen: the oldest gives
// way to a new one, so that one that stalls holds nobody up. Whatever goes wrong is told
// to the client as an answer.
//
// A subscriber stays until it leaves. Each has a backlog of its own; one that reads slower
// than lines come loses the newest ones, and finds a line that says how many where they
// would have been. There are at most sixteen: who comes then is refused.
//
// Nothing here blocks. Serve does what is ready; descriptor() says when, deadline() when
// at the latest. The thread that drives the tool.
#ifndef PENSTOCK_TOOLS_PENSTOCK_CONTROL_H_
#define PENSTOCK_TOOLS_PENSTOCK_CONTROL_H_

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "relay/time.h"
#include "tools/penstock/control_socket.h"
#include "tools/penstock/descriptor.h"

namespace penstock::tool {

inline constexpr size_t kControlClientCountMax = 16;
inline constexpr size_t kControlSubscriberCountMax = 16;
// The longest policy, with what JSON makes of it.
inline constexpr size_t kControlRequestBytesMax = size_t{8} << 20;
// What waits for one subscriber, beside what its socket holds.
inline constexpr size_t kControlBacklogBytesMax = 262'144;
inline constexpr std::chrono::seconds kControlPatience{5};

// As one line. Text that is not UTF-8 loses the bytes that are not, rather than to throw.
[[nodiscard]] std::string JsonLine(const nlohmann::json& value);
// {"error":{"desc":"SENTENCE"}} as one line.
[[nodiscard]] std::string ErrorAnswer(std::string_view sentence);
// {"event":"lost","count":COUNT} as one line.
[[nodiscard]] std::string LostLine(uint64_t count);

// May a process of `user` give orders to one of `owner`?
[[nodiscard]] constexpr bool MayControl(uid_t user, uid_t owner) {
  return user == owner || user == 0;
}

// Finds the end of a JSON object in a stream of bytes, each looked at once. It knows
// braces and strings only; whether the object is one, the parser says.
class ObjectEnd final {
 public:
  // How many bytes of `bytes` belong to the object, if it ends in them.
  [[nodiscard]] std::optional<size_t> Find(std::string_view bytes);
  // Something else than an object has begun.
  [[nodiscard]] bool hopeless() const { return hopeless_; }

 private:
  size_t depth_ = 0;
  bool in_string_ = false;
  bool escaped_ = false;
  bool hopeless_ = false;
};

class ControlServer final {
 public:
  // A whole answer. With `subscribe` it is the first line of many.
  struct Reply {
    std::string text;
    bool subscribe = false;
  };
  // Turns a whole request into one.
  using Answer = std::function<Reply(std::string_view request)>;

  // Of what user the process at the other end of a connected socket is.
  using UserOf = std::function<std::optional<uid_t>(int socket)>;

  [[nodiscard]] static absl::StatusOr<std::unique_ptr<ControlServer>> Open(const std::string& path);
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

  // Whoever is to remove the socket's file instead of this.
  [[nodiscard]] SocketFile LeaveFile() { return socket_.LeaveFile(); }
  // Who is asked that instead of the kernel, of a process that the kernel tells nothing.
  void AskForUsers(UserOf user_of) { user_of_ = std::move(user_of); }

  // Readable when Serve has something to do.
  [[nodiscard]] int descriptor() const { return epoll_.get(); }
  // When Serve must be called at the latest.
  [[nodiscard]] Time deadline() const;
  void Serve(Time now, const Answer& answer);

  // `line` ends with a new line and goes to all subscribers. It leaves with the next Flush
  // (or Serve): one after the last line of a batch saves system calls.
  void Publish(std::string_view line);
  // So many lines could not be published, for none was there to be given.
  void PublishLoss(uint64_t count);
  void Flush();

  [[nodiscard]] size_t client_count() const { return clients_.size(); }
  [[nodiscard]] size_t subscriber_count() const { return subscribers_.size(); }

 private:
  struct Client {
    Descriptor socket;
    Time deadline{};
    std::string request;
    ObjectEnd end;
    std::string answer;  // not empty: the request is no longer read
    size_t answered = 0;
    bool subscribes = false;
  };

  struct Subscriber {
    Descriptor socket;
    std::string backlog;  // whole lines, but for the first, of which `sent` bytes are gone
    size_t sent = 0;
    uint64_t lost = 0;  // lines since the last one in the backlog
    bool waits_for_room = false;

    [[nodiscard]] size_t waiting() const { return backlog.size() - sent; }
  };

  explicit ControlServer(ControlSocket socket);
  [[nodiscard]] bool Watch(int operation, int descriptor, uint32_t events);
  void Accept(Time now);
  void Admit(Descriptor socket, Time now);
  // False: the client is done with.
  [[nodiscard]] bool Attend(Client& client, const Answer& answer);
  void Read(Client& client, const Answer& answer);
  [[nodiscard]] bool Write(Client& client);
  void Subscribe(Client& client);
  static void Append(Subscriber& subscriber, std::string_view line);
  static void TellLoss(Subscriber& subscriber);
  // False: it is gone.
  [[nodiscard]] bool Flush(Subscriber& subscriber);
  void ForgetThoseThatLeft();

  ControlSocket socket_;
  UserOf user_of_;
  Descriptor epoll_;
  std::list<Client> clients_;  // the oldest first, and so by deadline
  std::list<Subscriber> subscribers_;
  Time accept_again_ = kNever;  // set: no descriptor was free
};

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_CONTROL_H_
