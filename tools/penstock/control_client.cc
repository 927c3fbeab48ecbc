#include "tools/penstock/control_client.h"

#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <chrono>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tools/penstock/control.h"
#include "tools/penstock/control_socket.h"
#include "tools/penstock/text_table.h"

namespace penstock::tool {
namespace {

using nlohmann::json;

// Without a byte from the penstock.
constexpr std::chrono::seconds kPatience{5};
// All 65535 ports on many addresses; what is longer did not come from a penstock.
constexpr size_t kAnswerBytesMax = size_t{256} << 20;

absl::Status NoAnswer(const std::string& path, int error) {
  if (error == EAGAIN) {
    return absl::DeadlineExceededError(absl::StrCat("the penstock at ", path,
                                                    " has not answered for 5 s: look whether it is "
                                                    "stopped or busy"));
  }
  return ErrnoStatus(absl::StrCat("cannot talk to the penstock at ", path), error);
}

absl::Status Send(int socket, std::string_view request, const std::string& path) {
  while (!request.empty()) {
    const ssize_t length = send(socket, request.data(), request.size(), MSG_NOSIGNAL);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0 && errno == EPIPE) return absl::OkStatus();  // its answer says why
    if (length < 0) return NoAnswer(path, errno);
    request.remove_prefix(static_cast<size_t>(length));
  }
  return absl::OkStatus();
}

absl::StatusOr<Descriptor> SendOrder(const std::string& path, const json& request) {
  absl::StatusOr<Descriptor> socket = ConnectToControl(path, kPatience);
  if (!socket.ok()) return socket.status();
  if (absl::Status s = Send(socket->get(), JsonLine(request), path); !s.ok()) return s;
  return socket;
}

// What comes next; empty at the end.
absl::StatusOr<std::string> Receive(int socket, const std::string& path) {
  std::string bytes(65'536, '\0');
  for (;;) {
    const ssize_t length = recv(socket, bytes.data(), bytes.size(), 0);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) return NoAnswer(path, errno);
    bytes.resize(static_cast<size_t>(length));
    return bytes;
  }
}

}  // namespace

absl::StatusOr<OrderResult> ResultOf(std::string text, const std::string& path) {
  json answer = json::parse(text, nullptr, false);
  if (answer.is_object() && answer.contains("error") && answer["error"].is_object()) {
    return absl::FailedPreconditionError(TextOf(answer["error"], "desc"));
  }
  if (!answer.is_object() || !answer.contains("return")) {
    return absl::InternalError(
        absl::StrCat("what answers at ", path, " is no penstock, or it ended: look at the path"));
  }
  return OrderResult{.value = std::move(answer["return"]), .text = std::move(text)};
}

absl::StatusOr<OrderResult> GiveOrder(const std::string& path, const json& request) {
  const absl::StatusOr<Descriptor> socket = SendOrder(path, request);
  if (!socket.ok()) return socket.status();
  std::string text;
  for (;;) {
    const absl::StatusOr<std::string> more = Receive(socket->get(), path);
    if (!more.ok()) return more.status();
    if (more->empty()) return ResultOf(std::move(text), path);
    text += *more;
    if (text.size() > kAnswerBytesMax) return NoAnswer(path, EMSGSIZE);
  }
}

absl::Status FollowOrder(const std::string& path, const json& request,
                         const std::function<bool(std::string_view)>& take) {
  const absl::StatusOr<Descriptor> socket = SendOrder(path, request);
  if (!socket.ok()) return socket.status();
  std::string text;
  bool answered = false;
  for (;;) {
    size_t start = 0;
    for (size_t end; (end = text.find('\n', start)) != std::string::npos; start = end + 1) {
      const std::string_view line = std::string_view(text).substr(start, end - start);
      if (answered) {
        if (!take(line)) return absl::OkStatus();
        continue;
      }
      if (const auto result = ResultOf(std::string(line), path); !result.ok()) {
        return result.status();
      }
      answered = true;
      const timeval no_limit{};  // from here on it speaks when there is something to say
      (void)setsockopt(socket->get(), SOL_SOCKET, SO_RCVTIMEO, &no_limit, sizeof no_limit);
    }
    text.erase(0, start);
    if (text.size() > kAnswerBytesMax) return NoAnswer(path, EMSGSIZE);
    const absl::StatusOr<std::string> more = Receive(socket->get(), path);
    if (!more.ok()) return more.status();
    if (more->empty()) return answered ? absl::OkStatus() : ResultOf(text, path).status();
    text += *more;
  }
}

std::string TextOf(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "?";
}

std::string PrintableOf(const json& object, const char* name) {
  return object.contains(name) ? Printable(TextOf(object, name)) : std::string();
}

uint64_t NumberOf(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_number_unsigned() ? found->get<uint64_t>() : 0;
}

}  // namespace penstock::tool
