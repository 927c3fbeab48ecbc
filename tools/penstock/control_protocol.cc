#include "tools/penstock/control_protocol.h"

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "publisher/port_selector.h"
#include "publisher/port_spec.h"
#include "tools/penstock/control.h"
#include "tools/penstock/ports.h"

namespace penstock::tool {
namespace {

using nlohmann::json;

template <typename... Parts>
absl::Status Wrong(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

// A member of an object that holds nothing but `names`.
absl::Status CheckMembers(const json& object, const char* what,
                          std::initializer_list<const char*> names) {
  for (const auto& [key, value] : object.items()) {
    bool known = false;
    for (const char* name : names) known = known || key == name;
    if (known) continue;
    std::string list;
    for (const char* name : names) absl::StrAppend(&list, list.empty() ? "" : ", ", name);
    return Wrong(what, " holds \"", key, "\": it may hold ", list.empty() ? "nothing" : list);
  }
  return absl::OkStatus();
}

// Empty if there is none.
absl::StatusOr<std::string> StringOf(const json& arguments, const char* name) {
  const auto found = arguments.find(name);
  if (found == arguments.end()) return std::string();
  if (!found->is_string()) return Wrong("\"", name, "\" must be a string");
  return found->get<std::string>();
}

// The texts under "publish", each read by `parse`.
template <typename T, typename Parse>
absl::StatusOr<std::vector<T>> Publish(const json& arguments, Parse parse) {
  const auto found = arguments.find("publish");
  if (found == arguments.end() || !found->is_array() || found->empty()) {
    return Wrong("\"publish\" must be a list of strings such as [\"8080:80\"]");
  }
  std::vector<T> all;
  for (const json& text : *found) {
    if (!text.is_string()) return Wrong("\"publish\" holds something else than strings");
    auto one = parse(text.get_ref<const std::string&>());
    if (!one.ok()) return one.status();
    all.push_back(*std::move(one));
  }
  return all;
}

json Row(const PublishedPort& port) {
  return {{"id", port.id},
          {"protocol", Name(port.protocol)},
          {"bound", BoundText(port)},
          {"guest", port.guest.ToString()},
          {"client_identity", Name(port.identity)},
          {"exposure", ExposureName(port.exposure)},
          {"flows_live", port.flows_live},
          {"flows_total", port.flows_total},
          {"bytes_to_guest", port.bytes_to_guest},
          {"bytes_to_host", port.bytes_to_host}};
}

json Rows(const std::vector<PublishedPort>& ports) {
  json rows = json::array();
  for (const PublishedPort& port : ports) rows.push_back(Row(port));
  return rows;
}

absl::StatusOr<json> Add(const json& arguments, Stack& stack) {
  absl::Status members =
      CheckMembers(arguments, "arguments of ports-add", {"publish", "client_identity"});
  if (!members.ok()) return members;
  absl::StatusOr<std::vector<PortSpec>> specs = Publish<PortSpec>(arguments, ParsePortSpec);
  if (!specs.ok()) return specs.status();
  const absl::StatusOr<std::string> name = StringOf(arguments, "client_identity");
  if (!name.ok()) return name.status();
  if (!name->empty()) {
    const std::optional<ClientIdentity> identity = ClientIdentityNamed(*name);
    if (!identity) {
      return Wrong("\"client_identity\" must be gateway, preserve-source or proxy-protocol");
    }
    for (PortSpec& spec : *specs) spec.identity = *identity;
  }
  const auto ports = PublishAll(stack, *specs, ReportChosen::kNo);
  if (!ports.ok()) return ports.status();
  return Rows(*ports);
}

absl::StatusOr<json> Remove(const json& arguments, Stack& stack) {
  absl::Status members = CheckMembers(arguments, "arguments of ports-remove", {"publish", "flows"});
  if (!members.ok()) return members;
  const absl::StatusOr<std::vector<PortSelector>> selectors =
      Publish<PortSelector>(arguments, ParsePortSelector);
  if (!selectors.ok()) return selectors.status();
  const absl::StatusOr<std::string> flows = StringOf(arguments, "flows");
  if (!flows.ok()) return flows.status();
  if (!flows->empty() && *flows != "keep" && *flows != "reset") {
    return Wrong("\"flows\" must be keep or reset");
  }
  const absl::StatusOr<size_t> removed =
      UnpublishAll(stack, *selectors, *flows == "reset" ? LiveFlows::kReset : LiveFlows::kKeep);
  if (!removed.ok()) return removed.status();
  return json{{"removed", *removed}};
}

absl::StatusOr<json> Execute(std::string_view text, Stack& stack) {
  const json request = json::parse(text.begin(), text.end(), nullptr, false);
  if (request.is_discarded() || !request.is_object()) {
    return Wrong("the request is no JSON: send an object such as {\"execute\":\"ports-list\"}");
  }
  if (absl::Status s = CheckMembers(request, "the request", {"execute", "arguments"}); !s.ok()) {
    return s;
  }
  const absl::StatusOr<std::string> command = StringOf(request, "execute");
  if (!command.ok()) return command.status();
  const auto found = request.find("arguments");
  const json arguments = found == request.end() ? json::object() : *found;
  if (!arguments.is_object()) return Wrong("\"arguments\" must be an object");

  if (*command == "ports-add") return Add(arguments, stack);
  if (*command == "ports-remove") return Remove(arguments, stack);
  if (*command == "ports-list") {
    absl::Status members = CheckMembers(arguments, "arguments of ports-list", {});
    if (!members.ok()) return members;
    return Rows(stack.PublishedPorts());
  }
  return Wrong("\"execute\" must be ports-add, ports-remove or ports-list");
}

}  // namespace

std::string AnswerRequest(std::string_view request, Stack& stack) {
  const absl::StatusOr<json> result = Execute(request, stack);
  if (!result.ok()) {
    const absl::string_view sentence = result.status().message();
    return ErrorAnswer({sentence.data(), sentence.size()});
  }
  return JsonLine({{"return", *result}});
}

}  // namespace penstock::tool
