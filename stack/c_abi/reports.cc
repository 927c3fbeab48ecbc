// What the C ABI tells of a stack: events and metrics. Events are one thread's, of the embedder's
// choice; metrics any thread's.
#include <algorithm>
#include <cstdio>
#include <span>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "stack/c_abi/boundary.h"
#include "stack/metrics.h"

namespace penstock::c_abi {
namespace {

static_assert(static_cast<int>(EventKind::kPolicyReplaced) == PENSTOCK_EVENT_POLICY_REPLACED);
static_assert(static_cast<int>(EventLayer::kTenant) == PENSTOCK_LAYER_TENANT);
static_assert(static_cast<int>(PolicyProtocol::kIcmp) == PENSTOCK_ICMP);
static_assert(static_cast<int>(Direction::kIngress) == PENSTOCK_INGRESS);

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
  const IpAddress address =
      IpAddress::From(std::span(endpoint.address, endpoint.family == 4 ? size_t{4} : size_t{16}));
  return endpoint.port == 0 ? address.ToString() : Endpoint{address, endpoint.port}.ToString();
}

}  // namespace
}  // namespace penstock::c_abi

using namespace penstock;
using namespace penstock::c_abi;

extern "C" {

int penstock_take_event(penstock_stack* stack, penstock_event* event) {
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
