// The door through which everything comes that opens a flow: it asks the policies, counts
// what they deny, and tells whoever watches (events.h). One per stack, so that there is one
// place where something is denied and one where flows begin and end for a watcher.
//
// TCP is asked once for each connection, UDP and echo once for each conversation (a port of
// the guest's and whom it speaks to), published ports once for each client. Poll thread.
#ifndef PENSTOCK_STACK_FLOW_GATE_H_
#define PENSTOCK_STACK_FLOW_GATE_H_

#include <cstdint>
#include <string_view>

#include "relay/endpoint.h"
#include "relay/time.h"
#include "stack/config.h"
#include "stack/counters.h"
#include "stack/event_stream.h"
#include "stack/policy/policy_engine.h"

namespace penstock {

// Who wants to speak to whom.
struct GateQuestion {
  Direction direction = Direction::kEgress;
  PolicyProtocol protocol = PolicyProtocol::kTcp;
  Endpoint guest;         // the guest's end
  Endpoint peer;          // egress: the destination as the guest sees it; ingress: the client
  std::string_view name;  // shown by the first bytes; empty: none
  // The first bytes were looked at, or will not be.
  bool looked = true;
};

class Gate final {
 public:
  // All references outlive this.
  Gate(const Config& config, Counters& counters);

  void BeginPass(Time now) { now_ = now; }

  // A denial is counted and told.
  [[nodiscard]] Verdict Ask(const GateQuestion& question);
  // Of a flow that lives, after the policy changed: nothing is counted or told.
  [[nodiscard]] bool StillAllows(const GateQuestion& question) const;
  // Something else than a policy said no.
  void TellDenied(const GateQuestion& question, EventLayer layer, std::string_view reason);

  // The beginning of a flow; its number, for the end.
  [[nodiscard]] uint64_t Open(const GateQuestion& question);
  struct Ended {
    uint64_t flow = 0;
    std::string_view reason;  // in static storage
    uint64_t bytes_to_host = 0;
    uint64_t bytes_to_guest = 0;
    Duration age{};
  };
  void Close(const GateQuestion& question, const Ended& ended);

  // Anything else that is told. `time` is filled in.
  void Tell(Event event);

  [[nodiscard]] PolicyEngine& engine() { return engine_; }
  [[nodiscard]] const PolicyEngine& engine() const { return engine_; }
  [[nodiscard]] EventStream& events() { return events_; }

 private:
  [[nodiscard]] PolicyQuestion QuestionOf(const GateQuestion& question) const;
  [[nodiscard]] Event EventOf(EventKind kind, const GateQuestion& question) const;

  Counters& counters_;
  PolicyEngine engine_;
  EventStream events_;
  uint64_t flows_ = 0;
  Time now_{};
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_FLOW_GATE_H_
