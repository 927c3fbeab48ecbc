// What the C ABI tells of a stack: flows, what policies would say, events and metrics. Events are
// one thread's, of the embedder's choice; metrics any thread's; the rest is the poll thread's.
#include <algorithm>
#include <cstdio>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "stack/c_abi/boundary.h"
#include "stack/metrics.h"
#include "stack/policy/canonical_name.h"

namespace penstock::c_abi {
namespace {

static_assert(static_cast<int>(EventKind::kPolicyReplaced) == PENSTOCK_EVENT_POLICY_REPLACED);
static_assert(static_cast<int>(EventLayer::kTenant) == PENSTOCK_LAYER_TENANT);
static_assert(static_cast<int>(PolicyProtocol::kIcmp) == PENSTOCK_ICMP);
static_assert(static_cast<int>(Direction::kIngress) == PENSTOCK_INGRESS);
static_assert(static_cast<int>(Verdict::kAllow) == PENSTOCK_VERDICT_ALLOW);
static_assert(static_cast<int>(Verdict::kDeny) == PENSTOCK_VERDICT_DENY);
static_assert(static_cast<int>(Verdict::kLook) == PENSTOCK_VERDICT_LOOK);

IpAddress AddressOf(const penstock_endpoint& endpoint) {
  return IpAddress::From(
      std::span(endpoint.address, endpoint.family == 4 ? size_t{4} : size_t{16}));
}

// Its texts point into `handle`, or to static storage.
penstock_event EventOf(penstock_stack& handle) {
  const Event& event = handle.event;
  handle.event_name = event.name.view();
  penstock_event result{};
  result.kind = static_cast<uint8_t>(event.kind);
  result.direction = static_cast<uint8_t>(event.direction);
  result.protocol = static_cast<uint8_t>(event.protocol);
  result.layer = static_cast<uint8_t>(event.layer);
  result.time = static_cast<uint64_t>(event.time.time_since_epoch().count());
  result.flow = event.flow;
  result.guest = EndpointOf(event.guest);
  result.peer = EndpointOf(event.peer);
  result.bytes_to_host = event.bytes_to_host;
  result.bytes_to_guest = event.bytes_to_guest;
  result.age = static_cast<uint64_t>(event.age.count());
  result.name = handle.event_name.c_str();
  // Literals, all of them: their 0 is there.
  result.reason = event.reason.empty() ? "" : event.reason.data();
  result.rule = event.rule == nullptr ? "" : event.rule->text.c_str();
  result.rule_line = event.rule == nullptr ? 0 : event.rule->line;
  return result;
}

// Its texts point into `flow`.
penstock_flow FlowOf(const FlowInfo& flow, uint32_t next) {
  penstock_flow result{};
  result.next = next;
  result.direction = flow.client ? PENSTOCK_INGRESS : PENSTOCK_EGRESS;
  result.protocol = static_cast<uint8_t>(flow.protocol);
  result.guest = EndpointOf(flow.guest);
  result.peer = EndpointOf(flow.client.value_or(flow.destination));
  result.bytes_to_host = flow.bytes_to_host;
  result.bytes_to_guest = flow.bytes_to_guest;
  result.age = static_cast<uint64_t>(flow.age.count());
  result.name = flow.name.c_str();
  result.state = flow.state.c_str();
  result.end = flow.end.c_str();
  return result;
}

absl::Status WrongQuestion(const char* what) {
  return absl::InvalidArgumentError(absl::StrCat("penstock_question.", what));
}

// `name` is what the question's points to.
absl::Status ReadQuestion(const penstock_question* from, std::string& name,
                          PolicyQuestion& question) {
  penstock_question read{};
  absl::Status status = ReadSized("penstock_question", from, read);
  if (!status.ok()) return status;
  if (read.direction > PENSTOCK_INGRESS || read.protocol > PENSTOCK_ICMP) {
    return WrongQuestion("direction or protocol is none of its enum");
  }
  if (read.peer.family != 4 && read.peer.family != 6) {
    return WrongQuestion("peer has no address: its family must be 4 or 6");
  }
  if ((read.peer.port == 0) != (read.protocol == PENSTOCK_ICMP)) {
    return WrongQuestion("peer.port must be there for TCP and UDP, and only for those");
  }
  if (read.name != nullptr) {
    const std::optional<std::string> canonical = CanonicalName(read.name);
    if (!canonical) return WrongQuestion("name must be a domain name such as \"example.test\"");
    name = *canonical;
  }
  question = {.direction = static_cast<Direction>(read.direction),
              .protocol = static_cast<PolicyProtocol>(read.protocol),
              .address = AddressOf(read.peer),
              .port = read.peer.port,
              .name = name,
              .looked = !name.empty()};
  return absl::OkStatus();
}

absl::Status Explain(penstock_stack& handle, const penstock_question* from,
                     penstock_answer* answer) {
  absl::Status sizes =
      CheckSizes("penstock_answer", answer, answer->struct_size, answer->struct_size);
  if (!sizes.ok()) return sizes;
  std::string name;
  PolicyQuestion question;
  if (absl::Status status = ReadQuestion(from, name, question); !status.ok()) return status;
  handle.decision = handle.stack->Decide(question);
  handle.explanation = handle.stack->Explain(question);
  const PolicyRule* rule = handle.decision.rule.get();
  penstock_answer result{};
  result.verdict = static_cast<uint8_t>(handle.decision.verdict);
  result.rule_line = rule == nullptr ? 0 : rule->line;
  result.rule = rule == nullptr ? "" : rule->text.c_str();
  result.text = handle.explanation.c_str();
  WriteSized(result, answer);
  return absl::OkStatus();
}

// Names of all metrics, once.
const std::vector<const char*>& MetricNames() {
  static const std::vector<const char*> names = [] {
    std::vector<const char*> list;
    ForEachMetric({}, [&](const char* name, uint64_t, const char*) { list.push_back(name); });
    ForEachDrop({}, [&](const char* name, uint64_t) { list.push_back(name); });
    return list;
  }();
  return names;
}

// Calls visit(index, value) for each, in the order of MetricNames.
template <typename Visit>
void ForEachValue(const CounterSnapshot& snapshot, Visit visit) {
  size_t index = 0;
  ForEachMetric(snapshot, [&](const char*, uint64_t value, const char*) { visit(index++, value); });
  ForEachDrop(snapshot, [&](const char*, uint64_t value) { visit(index++, value); });
}

std::string TextOf(const penstock_endpoint& endpoint) {
  if (endpoint.family == 0) return "";
  const IpAddress address = AddressOf(endpoint);
  return endpoint.port == 0 ? address.ToString() : Endpoint{address, endpoint.port}.ToString();
}

}  // namespace
}  // namespace penstock::c_abi

using penstock::EventKind;
using penstock::Name;
using penstock::c_abi::EventOf;
using penstock::c_abi::Explain;
using penstock::c_abi::FlowOf;
using penstock::c_abi::ForEachValue;
using penstock::c_abi::Guarded;
using penstock::c_abi::HasSize;
using penstock::c_abi::MetricNames;
using penstock::c_abi::TellNull;
using penstock::c_abi::TextOf;
using penstock::c_abi::WithoutThrowing;
using penstock::c_abi::WriteSized;

extern "C" {

int penstock_next_flow(penstock_stack* stack, penstock_flow* flow) {
  if (!HasSize("penstock_flow", flow)) return 0;
  return WithoutThrowing([&] {
    const uint32_t index = flow->next;
    if (index == 0) stack->flows = stack->stack->Flows();
    if (index >= stack->flows.size()) {
      stack->flows = {};
      return 0;
    }
    WriteSized(FlowOf(stack->flows[index], index + 1), flow);
    return 1;
  });
}

penstock_status penstock_explain(penstock_stack* stack, const penstock_question* question,
                                 penstock_answer* answer) {
  if (stack == nullptr || question == nullptr || answer == nullptr) {
    return TellNull(stack == nullptr ? "stack" : question == nullptr ? "question" : "answer");
  }
  return Guarded([&] { return Explain(*stack, question, answer); });
}

int penstock_take_event(penstock_stack* stack, penstock_event* event) {
  if (!HasSize("penstock_event", event)) return 0;
  if (!stack->stack->TakeEvent(stack->event)) return 0;
  WithoutThrowing([&] { WriteSized(EventOf(*stack), event); });
  return 1;
}

const char* penstock_event_kind_name(uint8_t kind) {
  if (kind > PENSTOCK_EVENT_POLICY_REPLACED) return "";
  return Name(static_cast<EventKind>(kind)).data();
}

const char* penstock_endpoint_text(const penstock_endpoint* endpoint, char* text,
                                   size_t text_bytes) {
  WithoutThrowing([&] { std::snprintf(text, text_bytes, "%s", TextOf(*endpoint).c_str()); });
  return text;
}

const char* penstock_metric_name(size_t index) {
  const auto& names = WithoutThrowing([]() -> const auto& { return MetricNames(); });
  return index < names.size() ? names[index] : nullptr;
}

penstock_status penstock_metric(const penstock_stack* stack, const char* name, uint64_t* value) {
  if (stack == nullptr || name == nullptr || value == nullptr) {
    return TellNull(stack == nullptr ? "stack" : name == nullptr ? "name" : "value");
  }
  return Guarded([&]() -> absl::Status {
    const auto& names = MetricNames();
    const auto found = std::find(names.begin(), names.end(), std::string_view(name));
    if (found == names.end()) {
      return absl::NotFoundError(absl::StrCat("there is no metric \"", name, "\""));
    }
    const auto wanted = static_cast<size_t>(found - names.begin());
    ForEachValue(stack->stack->Snapshot(), [&](size_t index, uint64_t counted) {
      if (index == wanted) *value = counted;
    });
    return absl::OkStatus();
  });
}

size_t penstock_metrics(const penstock_stack* stack, uint64_t* values, size_t count) {
  size_t metric_count = 0;
  ForEachValue(stack->stack->Snapshot(), [&](size_t index, uint64_t counted) {
    if (index < count) values[index] = counted;
    metric_count = index + 1;
  });
  return metric_count;
}

}  // extern "C"
