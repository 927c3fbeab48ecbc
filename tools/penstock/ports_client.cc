#include "tools/penstock/ports_client.h"

#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tools/penstock/control.h"
#include "tools/penstock/control_socket.h"
#include "tools/penstock/port_table.h"

namespace penstock::tool {
namespace {

using nlohmann::json;

// Without a byte from the penstock.
constexpr std::chrono::seconds kPatience{5};
// All 65535 ports on many addresses; what is longer did not come from a penstock.
constexpr size_t kAnswerBytesMax = size_t{256} << 20;

std::string RequestOf(const PortsOptions& options) {
  switch (options.order) {
    case PortsOptions::Order::kAdd:
      return JsonLine(
          {{"execute", "ports-add"},
           {"arguments",
            {{"publish", options.specs}, {"client_identity", Name(options.identity)}}}});
    case PortsOptions::Order::kRemove:
      return JsonLine(
          {{"execute", "ports-remove"},
           {"arguments",
            {{"publish", options.specs}, {"flows", options.reset ? "reset" : "keep"}}}});
    case PortsOptions::Order::kList:
      break;
  }
  return JsonLine({{"execute", "ports-list"}});
}

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

absl::StatusOr<std::string> ReceiveAll(int socket, const std::string& path) {
  std::string answer;
  std::vector<char> bytes(65'536);
  for (;;) {
    const ssize_t length = recv(socket, bytes.data(), bytes.size(), 0);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) return NoAnswer(path, errno);
    if (length == 0) return answer;
    answer.append(bytes.data(), static_cast<size_t>(length));
    if (answer.size() > kAnswerBytesMax) return NoAnswer(path, EMSGSIZE);
  }
}

// A member of that type, or the default if it is not there or something else.
std::string TextOf(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "?";
}
uint64_t NumberOf(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_number_unsigned() ? found->get<uint64_t>() : 0;
}

std::vector<PortRow> RowsOf(const json& result) {
  std::vector<PortRow> rows;
  for (const json& row : result) {
    if (!row.is_object()) continue;
    rows.push_back({.bound = TextOf(row, "bound"),
                    .guest = TextOf(row, "guest"),
                    .protocol = TextOf(row, "protocol"),
                    .identity = TextOf(row, "client_identity"),
                    .flows_live = NumberOf(row, "flows_live"),
                    .flows_total = NumberOf(row, "flows_total"),
                    .bytes_to_guest = NumberOf(row, "bytes_to_guest"),
                    .bytes_to_host = NumberOf(row, "bytes_to_host")});
  }
  return rows;
}

std::string Shown(const PortsOptions& options, const json& result) {
  switch (options.order) {
    case PortsOptions::Order::kAdd: {
      std::string text;
      for (const PortRow& row : RowsOf(result)) {
        absl::StrAppend(&text, row.bound, " -> ", row.guest, "/", row.protocol, "\n");
      }
      return text;
    }
    case PortsOptions::Order::kRemove: {
      const uint64_t removed = NumberOf(result, "removed");
      return absl::StrCat("removed ", removed, removed == 1 ? " port\n" : " ports\n");
    }
    case PortsOptions::Order::kList:
      break;
  }
  return PortTable(RowsOf(result));
}

}  // namespace

absl::StatusOr<std::string> GiveOrder(const PortsOptions& options) {
  absl::StatusOr<Descriptor> socket = ConnectToControl(options.control, kPatience);
  if (!socket.ok()) return socket.status();
  if (absl::Status s = Send(socket->get(), RequestOf(options), options.control); !s.ok()) return s;
  const absl::StatusOr<std::string> text = ReceiveAll(socket->get(), options.control);
  if (!text.ok()) return text.status();

  const json answer = json::parse(*text, nullptr, false);
  if (answer.is_object() && answer.contains("error") && answer["error"].is_object()) {
    return absl::FailedPreconditionError(TextOf(answer["error"], "desc"));
  }
  if (!answer.is_object() || !answer.contains("return")) {
    return absl::InternalError(absl::StrCat("what answers at ", options.control,
                                            " is no penstock, or it ended: look at the path"));
  }
  return options.json ? *text : Shown(options, answer["return"]);
}

}  // namespace penstock::tool
