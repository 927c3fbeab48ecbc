// The control socket's connections: one request in, one answer out, and the end. What a
// request means is somebody else's (control_protocol.h).
//
// A request is a JSON object; it ends with its closing brace, or where the client stops
// sending. Clients are those of the tool's own user, and root. Each has five seconds from
// its arrival to the end of its answer, and there are at most sixteen: the oldest gives
// way to a new one, so that one that stalls holds nobody up. Whatever goes wrong is told
// to the client as an answer.
//
// Nothing here blocks. Serve does what is ready; descriptor() says when, deadline() when
// at the latest. The thread that drives the tool.
#ifndef PENSTOCK_TOOLS_PENSTOCK_CONTROL_H_
#define PENSTOCK_TOOLS_PENSTOCK_CONTROL_H_

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "relay/time.h"
#include "tools/penstock/control_socket.h"
#include "tools/penstock/descriptor.h"

namespace penstock::tool {

inline constexpr size_t kControlClientCountMax = 16;
inline constexpr size_t kControlRequestBytesMax = 65'536;
inline constexpr std::chrono::seconds kControlPatience{5};

// As one line. Text that is not UTF-8 loses the bytes that are not, rather than to throw.
[[nodiscard]] std::string JsonLine(const nlohmann::json& value);
// {"error":{"desc":"SENTENCE"}} as one line.
[[nodiscard]] std::string ErrorAnswer(std::string_view sentence);

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
  // Turns a whole request into a whole answer.
  using Answer = std::function<std::string(std::string_view request)>;

  [[nodiscard]] static absl::StatusOr<std::unique_ptr<ControlServer>> Open(const std::string& path);
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

  // Readable when Serve has something to do.
  [[nodiscard]] int descriptor() const { return epoll_.get(); }
  // When Serve must be called at the latest.
  [[nodiscard]] Time deadline() const;
  void Serve(Time now, const Answer& answer);

  [[nodiscard]] size_t client_count() const { return clients_.size(); }

 private:
  struct Client {
    Descriptor socket;
    Time deadline{};
    std::string request;
    ObjectEnd end;
    std::string answer;  // not empty: the request is no longer read
    size_t answered = 0;
  };

  explicit ControlServer(ControlSocket socket) : socket_(std::move(socket)) {}
  [[nodiscard]] bool Watch(int operation, int descriptor, uint32_t events);
  void Accept(Time now);
  void Admit(Descriptor socket, Time now);
  // False: the client is done with.
  [[nodiscard]] bool Attend(Client& client, const Answer& answer);
  void Read(Client& client, const Answer& answer);
  [[nodiscard]] bool Write(Client& client);

  ControlSocket socket_;
  Descriptor epoll_;
  std::list<Client> clients_;   // the oldest first, and so by deadline
  Time accept_again_ = kNever;  // set: no descriptor was free
};

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_CONTROL_H_
