// When the guest's bytes are acknowledged: the part of TcpFlows that lets an acknowledgement
// wait for the answer that takes it along. See HoldAcknowledgements in tcp_flows.h.
#include <algorithm>
#include <utility>
#include <vector>

#include "stack/flow/tcp_flows.h"

namespace penstock {
namespace {

constexpr uint8_t kInVainMax = 64;

}  // namespace

void TcpFlows::Acknowledge(Flow& flow) {
  AcknowledgementWait& wait = flow.acknowledgement;
  if (wait.waiting && flow.pcb.owed == Owed::kNothing) {  // it rode
    wait.waiting = false;
    if (wait.in_vain > 0) --wait.in_vain;
  }
  bool may_wait = acknowledgements_may_wait_ && flow.state == FlowState::kOpen;
  if (may_wait && flow.pcb.owed == Owed::kSoon && !wait.waiting && wait.skip > 0) {
    --wait.skip;
    may_wait = false;
  }
  engine_.Acknowledge(flow.pcb, may_wait ? Owed::kSoon : Owed::kNothing);
  const bool waited = std::exchange(wait.waiting, may_wait && flow.pcb.owed == Owed::kSoon);
  if (!wait.waiting || waited) return;
  wait.since = now_;
  if (std::exchange(wait.listed, true)) return;
  if (holding_.empty()) holding_since_ = now_;
  holding_.push_back(&flow);
}

bool TcpFlows::ReleaseAcknowledgements(Time since) {
  bool released = false;
  holding_since_ = kNever;
  std::erase_if(holding_, [&](Flow* flow) {
    AcknowledgementWait& wait = flow->acknowledgement;
    if (wait.waiting && wait.since > since) {
      holding_since_ = std::min(holding_since_, wait.since);
      return false;
    }
    wait.listed = false;
    if (!std::exchange(wait.waiting, false) || flow->pcb.owed != Owed::kSoon) return true;
    wait.in_vain = std::clamp<uint8_t>(2 * wait.in_vain, 1, kInVainMax);
    wait.skip = wait.in_vain;
    flow->pcb.owed = Owed::kNow;
    MakeReady(*flow);
    released = true;
    return true;
  });
  return released;
}

}  // namespace penstock
