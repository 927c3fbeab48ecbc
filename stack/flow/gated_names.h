// DNS behind the gate: which names the guest may ask for and hear of is asked of the same
// policies as its flows, what it is told is pinned for their rules with names, and what
// becomes of each question is told. Poll thread.
#ifndef PENSTOCK_STACK_FLOW_GATED_NAMES_H_
#define PENSTOCK_STACK_FLOW_GATED_NAMES_H_

#include <string_view>

#include "stack/counters.h"
#include "stack/dns/dns_policy.h"
#include "stack/flow/gate.h"

namespace penstock {

class GatedNames final : public DnsPolicy {
 public:
  // References outlive this.
  GatedNames(Gate& gate, Counters& counters) : gate_(gate), counters_(counters) {}

  [[nodiscard]] bool MayAsk(std::string_view name, Time now) override;
  [[nodiscard]] bool MayAnswer(std::string_view name, const IpAddress& address, Time now) override;
  void Pin(std::string_view name, const IpAddress& address, Duration ttl, Time now) override;
  void OnOutcome(const DnsSubject& subject, DnsOutcome outcome, const IpAddress* refused,
                 Time now) override;

 private:
  Gate& gate_;
  Counters& counters_;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_FLOW_GATED_NAMES_H_
