#include "tools/penstock/control_protocol.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "publisher/port_selector.h"
#include "publisher/port_spec.h"
#include "tools/penstock/control.h"
#include "tools/penstock/control_arguments.h"
#include "tools/penstock/control_policy.h"
#include "tools/penstock/endpoint_text.h"
#include "tools/penstock/ports.h"

namespace penstock::tool {
namespace {

using nlohmann::json;

// The texts under "publish", each read by `parse`.
template <typename T, typename Parse>
absl::StatusOr<std::vector<T>> Publish(const json& arguments, Parse parse) {
  const auto found = arguments.find("publish");
  if (found == arguments.end() || !found->is_array() || found->empty()) {
    return WrongRequest("\"publish\" must be a list of strings such as [\"8080:80\"]");
  }
  std::vector<T> all;
  for (const json& text : *found) {
    if (!text.is_string()) return WrongRequest("\"publish\" holds something else than strings");
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
      return WrongRequest("\"client_identity\" must be gateway, preserve-source or proxy-protocol");
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
  const absl::StatusOr<std::string> flows = ChoiceOf(arguments, "flows", {"keep", "reset"});
  if (!flows.ok()) return flows.status();
  const absl::StatusOr<size_t> removed =
      UnpublishAll(stack, *selectors, *flows == "reset" ? LiveFlows::kReset : LiveFlows::kKeep);
  if (!removed.ok()) return removed.status();
  return json{{"removed", *removed}};
}

json FlowRow(const FlowInfo& flow) {
  json row = {{"direction", flow.client ? "ingress" : "egress"},
              {"protocol", Name(flow.protocol)},
              {"guest", EndpointText(flow.guest, flow.protocol)},
              {"peer", EndpointText(flow.client.value_or(flow.destination), flow.protocol)},
              {"state", flow.state},
              {"bytes_to_host", flow.bytes_to_host},
              {"bytes_to_guest", flow.bytes_to_guest},
              {"age_us", std::chrono::duration_cast<std::chrono::microseconds>(flow.age).count()}};
  if (!flow.name.empty()) row["name"] = flow.name;
  if (!flow.end.empty()) row["end"] = flow.end;
  return row;
}

absl::StatusOr<json> ListPorts(const json& arguments, Stack& stack) {
  if (absl::Status s = CheckMembers(arguments, "arguments of ports-list", {}); !s.ok()) return s;
  return Rows(stack.PublishedPorts());
}

absl::StatusOr<json> ListFlows(const json& arguments, Stack& stack) {
  if (absl::Status s = CheckMembers(arguments, "arguments of flows-list", {}); !s.ok()) return s;
  json rows = json::array();
  for (const FlowInfo& flow : stack.Flows()) rows.push_back(FlowRow(flow));
  return rows;
}

// The events themselves are passed on by the tool (event_feed.h).
absl::StatusOr<json> BeginEvents(const json& arguments, Stack&) {
  if (absl::Status s = CheckMembers(arguments, "arguments of events", {}); !s.ok()) return s;
  return json::object();
}

struct ControlOrder {
  const char* name;
  absl::StatusOr<json> (*execute)(const json& arguments, Stack& stack);
  bool subscribes = false;
};
constexpr ControlOrder kOrders[] = {{"ports-add", Add},
                                    {"ports-remove", Remove},
                                    {"ports-list", ListPorts},
                                    {"flows-list", ListFlows},
                                    {"policy-show", ShowPolicy},
                                    {"policy-set", SetPolicy},
                                    {"policy-explain", ExplainPolicy},
                                    {"events", BeginEvents, true}};

struct Request {
  const ControlOrder* order = nullptr;
  json arguments;
};

absl::StatusOr<Request> ReadRequest(std::string_view text) {
  json request = json::parse(text.begin(), text.end(), nullptr, false);
  if (request.is_discarded() || !request.is_object()) {
    return WrongRequest(
        "the request is no JSON: send an object such as {\"execute\":\"ports-list\"}");
  }
  if (absl::Status s = CheckMembers(request, "the request", {"execute", "arguments"}); !s.ok()) {
    return s;
  }
  const absl::StatusOr<std::string> command = StringOf(request, "execute");
  if (!command.ok()) return command.status();
  const auto found = request.find("arguments");
  json arguments = found == request.end() ? json::object() : std::move(*found);
  if (!arguments.is_object()) return WrongRequest("\"arguments\" must be an object");

  std::string names;
  for (const ControlOrder& order : kOrders) {
    if (*command == order.name) return Request{&order, std::move(arguments)};
    absl::StrAppend(&names,
                    names.empty()                     ? ""
                    : &order == std::end(kOrders) - 1 ? " or "
                                                      : ", ",
                    order.name);
  }
  return WrongRequest("\"execute\" must be ", names);
}

}  // namespace

ControlServer::Reply AnswerRequest(std::string_view text, Stack& stack) {
  const absl::StatusOr<Request> request = ReadRequest(text);
  const absl::StatusOr<json> result =
      request.ok() ? request->order->execute(request->arguments, stack) : request.status();
  if (!result.ok()) {
    const absl::string_view sentence = result.status().message();
    return {.text = ErrorAnswer({sentence.data(), sentence.size()})};
  }
  return {.text = JsonLine({{"return", *result}}), .subscribe = request->order->subscribes};
}

}  // namespace penstock::tool
