// What happened, one record each, for whoever watches a sandbox: flows opened and closed,
// what was denied and by which rule, names that were asked for, leases, published ports.
//
// They wait in a ring (event_stream.h) until Stack::TakeEvent takes them. Plain values.
#ifndef PENSTOCK_STACK_EVENTS_H_
#define PENSTOCK_STACK_EVENTS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "relay/endpoint.h"
#include "relay/time.h"
#include "stack/policy/policy.h"

namespace penstock {

enum class EventKind : uint8_t {
  kFlowOpened,  // a connection, a conversation of UDP, echo requests to one host
  kFlowClosed,  // with its bytes, age and reason
  kDenied,      // by `layer`, and by `rule` if one says so
  kName,        // a question to DNS was answered: `name`, `reason`
  kLease,       // `guest`.address was leased by DHCP, or given back: `reason`
  kPublished,   // a host port: `peer` is where it is bound, `guest` where it leads
  kUnpublished,
  kPolicyReplaced,  // of `layer`
};

// Who said no.
enum class EventLayer : uint8_t {
  kNone,
  kLink,      // the frame's source is not the guest's; `reason` is the drop cause
  kAddress,   // an address that never leaves the link, whatever the policy
  kPlatform,  // a policy
  kTenant,
};

[[nodiscard]] std::string_view Name(EventKind kind);    // "flow-opened"
[[nodiscard]] std::string_view Name(EventLayer layer);  // "tenant"

// A name of DNS, in place: at most 253 characters (RFC 1035 2.3.4), in lower case, without
// the last dot.
class EventName {
 public:
  EventName() = default;
  explicit EventName(std::string_view name)
      : length_(static_cast<uint8_t>(name.copy(bytes_.data(), bytes_.size()))) {}
  [[nodiscard]] std::string_view view() const { return {bytes_.data(), length_}; }

 private:
  std::array<char, 253> bytes_{};
  uint8_t length_ = 0;
};

struct Event {
  Time time{};  // of the pass, by the clock that Poll is given
  EventKind kind = EventKind::kFlowOpened;
  Direction direction = Direction::kEgress;
  PolicyProtocol protocol = PolicyProtocol::kTcp;
  EventLayer layer = EventLayer::kNone;
  uint64_t flow = 0;  // the same in a flow's kFlowOpened and kFlowClosed; 0: none
  Endpoint guest;     // the guest's end; echo: the identifier is the port
  Endpoint peer;      // whom the guest speaks to, as it sees it; ingress: the host's client
  EventName name;     // by which `peer` was asked for or shown; empty: not known
  uint64_t bytes_to_host = 0;  // payload
  uint64_t bytes_to_guest = 0;
  Duration age{};
  std::string_view reason;  // in static storage: "closed", "reset by guest", "martian_address", …
  std::shared_ptr<const PolicyRule> rule;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_EVENTS_H_
