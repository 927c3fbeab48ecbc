// The C ABI's calls on a stack: each checks its arguments, calls the facade and tells what it
// said. Threads are the facade's (stack/stack.h).
#include <algorithm>
#include <chrono>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "publisher/port_selector.h"
#include "publisher/port_spec.h"
#include "stack/c_abi/boundary.h"
#include "stack/c_abi/config_values.h"

namespace penstock::c_abi {
namespace {

constexpr uint64_t kTimeMax = std::numeric_limits<int64_t>::max();

Time TimeOf(uint64_t nanoseconds) {
  return Time(Duration(static_cast<int64_t>(std::min(nanoseconds, kTimeMax))));
}

uint64_t NanosecondsOf(Time time) {
  return time == kNever ? PENSTOCK_NEVER : static_cast<uint64_t>(time.time_since_epoch().count());
}

static_assert(std::is_same_v<Duration, std::chrono::nanoseconds>);

absl::StatusOr<LiveFlows> LiveFlowsOf(uint32_t live) {
  if (live == PENSTOCK_FLOWS_KEEP) return LiveFlows::kKeep;
  if (live == PENSTOCK_FLOWS_RESET) return LiveFlows::kReset;
  return absl::InvalidArgumentError(
      absl::StrCat("live is ", live, ": it must be PENSTOCK_FLOWS_KEEP or _RESET"));
}

penstock_port PortOf(const PublishedPort& port) {
  penstock_port result{};
  result.id = port.id;
  result.protocol = static_cast<uint8_t>(port.protocol);
  result.identity = static_cast<uint8_t>(port.identity);
  result.bound = EndpointOf(port.bound);
  result.guest = EndpointOf(port.guest);
  result.flows_live = port.flows_live;
  result.flows_total = port.flows_total;
  result.bytes_to_guest = port.bytes_to_guest;
  result.bytes_to_host = port.bytes_to_host;
  return result;
}

static_assert(static_cast<int>(PortProtocol::kUdp) == PENSTOCK_UDP);
static_assert(static_cast<int>(ClientIdentity::kProxyProtocol) == PENSTOCK_IDENTITY_PROXY_PROTOCOL);

absl::Status CreateStack(const penstock_config* from, penstock_link* link,
                         std::unique_ptr<penstock_stack>& handle) {
  const std::unique_ptr<penstock_link> owned(link);
  penstock_config read{};
  if (absl::Status status = ReadSized("penstock_config", from, read); !status.ok()) return status;
  absl::StatusOr<Config> config = ConfigFrom(read);
  if (!config.ok()) return config.status();
  auto stack = Stack::Create(*std::move(config), std::move(owned->link));
  if (!stack.ok()) return stack.status();
  handle = std::make_unique<penstock_stack>();
  handle->stack = *std::move(stack);
  return absl::OkStatus();
}

absl::Status PublishSpec(Stack& stack, const char* text, uint32_t identity, penstock_port* first) {
  auto spec = ParsePortSpec(text);
  if (!spec.ok()) return spec.status();
  if (identity > PENSTOCK_IDENTITY_PROXY_PROTOCOL) {
    return absl::InvalidArgumentError(
        absl::StrCat("identity is ", identity, ": it must be of enum penstock_identity"));
  }
  spec->identity = static_cast<ClientIdentity>(identity);
  if (first != nullptr) {
    absl::Status status =
        CheckSizes("penstock_port", first, first->struct_size, first->struct_size);
    if (!status.ok()) return status;
  }
  const auto ports = stack.Publish(*spec);
  if (!ports.ok()) return ports.status();
  const auto lowest = std::ranges::min_element(*ports, {}, &PublishedPort::id);
  if (first != nullptr && lowest != ports->end()) WriteSized(PortOf(*lowest), first);
  return absl::OkStatus();
}

absl::Status UnpublishSelected(Stack& stack, const char* text, uint32_t live) {
  const auto selector = ParsePortSelector(text);
  if (!selector.ok()) return selector.status();
  const auto flows = LiveFlowsOf(live);
  if (!flows.ok()) return flows.status();
  return stack.Unpublish(*selector, *flows);
}

absl::Status ReplacePolicy(Stack& stack, uint32_t layer, const char* text, uint32_t live) {
  if (layer != PENSTOCK_LAYER_PLATFORM && layer != PENSTOCK_LAYER_TENANT) {
    return absl::InvalidArgumentError(
        absl::StrCat("layer is ", layer, ": it must be PENSTOCK_LAYER_PLATFORM or _TENANT"));
  }
  const auto flows = LiveFlowsOf(live);
  if (!flows.ok()) return flows.status();
  auto policy = PolicyOf(text, "policy");
  if (!policy.ok()) return policy.status();
  stack.SetPolicy(layer == PENSTOCK_LAYER_PLATFORM ? PolicyLayer::kPlatform : PolicyLayer::kTenant,
                  *std::move(policy), *flows);
  return absl::OkStatus();
}

}  // namespace
}  // namespace penstock::c_abi

using penstock::Clock;
using penstock::PublishedPort;
using penstock::Stack;
using penstock::c_abi::CreateStack;
using penstock::c_abi::Guarded;
using penstock::c_abi::HasSize;
using penstock::c_abi::NanosecondsOf;
using penstock::c_abi::PortOf;
using penstock::c_abi::PublishSpec;
using penstock::c_abi::ReplacePolicy;
using penstock::c_abi::TellNull;
using penstock::c_abi::TimeOf;
using penstock::c_abi::UnpublishSelected;
using penstock::c_abi::WithoutThrowing;
using penstock::c_abi::WriteSized;

extern "C" {

uint64_t penstock_now() { return NanosecondsOf(Clock::now()); }

int penstock_timeout(uint64_t now, uint64_t deadline) {
  constexpr uint64_t kNanosecondsEach = 1'000'000;
  if (deadline == PENSTOCK_NEVER) return -1;
  if (deadline <= now) return 0;
  const uint64_t milliseconds = (deadline - now - 1) / kNanosecondsEach + 1;
  return static_cast<int>(std::min<uint64_t>(milliseconds, std::numeric_limits<int>::max()));
}

penstock_status penstock_create(const penstock_config* config, penstock_link* link,
                                penstock_stack** stack) {
  if (stack != nullptr) *stack = nullptr;
  if (stack == nullptr || config == nullptr) {
    delete link;
    return TellNull(config == nullptr ? "config" : "stack");
  }
  if (link == nullptr) return TellNull("link");
  return Guarded([&] {
    std::unique_ptr<penstock_stack> handle;
    absl::Status status = CreateStack(config, link, handle);
    *stack = handle.release();
    return status;
  });
}

void penstock_destroy(penstock_stack* stack) { delete stack; }

uint64_t penstock_poll(penstock_stack* stack, uint64_t now) {
  return WithoutThrowing([&] { return NanosecondsOf(stack->stack->Poll(TimeOf(now))); });
}

int penstock_descriptor(const penstock_stack* stack) { return stack->stack->descriptor(); }

void penstock_wake(penstock_stack* stack) { stack->stack->Wake(); }

penstock_status penstock_post(penstock_stack* stack, void (*task)(penstock_stack*, void*),
                              void* context) {
  if (stack == nullptr || task == nullptr) return TellNull(stack == nullptr ? "stack" : "task");
  return Guarded([&] {
    stack->stack->Post([stack, task, context](Stack&) { task(stack, context); });
    return absl::OkStatus();
  });
}

int penstock_link_ended(const penstock_stack* stack) { return stack->stack->link_ended() ? 1 : 0; }

penstock_status penstock_set_policy(penstock_stack* stack, uint32_t layer, const char* text,
                                    uint32_t live) {
  if (stack == nullptr) return TellNull("stack");
  return Guarded([&] { return ReplacePolicy(*stack->stack, layer, text, live); });
}

penstock_status penstock_publish(penstock_stack* stack, const char* spec, uint32_t identity,
                                 penstock_port* first) {
  if (stack == nullptr || spec == nullptr) return TellNull(stack == nullptr ? "stack" : "spec");
  return Guarded([&] { return PublishSpec(*stack->stack, spec, identity, first); });
}

penstock_status penstock_unpublish(penstock_stack* stack, const char* selector, uint32_t live) {
  if (stack == nullptr || selector == nullptr) {
    return TellNull(stack == nullptr ? "stack" : "selector");
  }
  return Guarded([&] { return UnpublishSelected(*stack->stack, selector, live); });
}

int penstock_next_port(const penstock_stack* stack, penstock_port* port) {
  if (!HasSize("penstock_port", port)) return 0;
  return WithoutThrowing([&] {
    const std::optional<PublishedPort> next = stack->stack->NextPublishedPort(port->id);
    if (next) WriteSized(PortOf(*next), port);
    return next ? 1 : 0;
  });
}

}  // extern "C"
