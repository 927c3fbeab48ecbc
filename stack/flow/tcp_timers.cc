// What happens to flows by time alone: lwIP's tick for those that need it, and the
// deadlines of TcpFlows. No progress of healthy traffic depends on any of it.
#include <algorithm>

#include "stack/flow/tcp_flows.h"

namespace penstock {

void TcpFlows::RunTimers() {
  if (next_tick_ <= now_) RunTick();
  while (Flow* flow = deadlines_.TakeDue(now_)) OnDeadline(*flow);
}

Time TcpFlows::NextDeadline() { return std::min(next_tick_, deadlines_.next()); }

void TcpFlows::RunTick() {
  engine_.Tick(ticking_);
  for (Flow* flow : ticking_flows_) MakeReady(*flow);
  next_tick_ = now_ + kTick;
}

void TcpFlows::OnGuestKnown() {
  for (Pcb* pcb : ticking_) engine_.HurryConnect(*pcb);
}

// After a pause (a stopped virtual machine) everything in flight is overdue.
void TcpFlows::OnGuestAwake() {
  for (Pcb* pcb : ticking_) engine_.HurryRetransmission(*pcb);
}

// True while the guest owes an acknowledgement or keeps its window shut; the clocks
// of both start when that begins.
bool TcpFlows::NoteWaiting(Flow& flow) {
  const bool waiting = flow.unwritten != nullptr || !flow.pcb.drained();
  if (waiting && !flow.waiting) flow.waiting_since = now_;
  flow.waiting = waiting;
  return waiting;
}

// The flow's next deadline from what it waits for. Lazy: a later deadline than the
// scheduled one costs nothing (deadlines.h).
void TcpFlows::SetDeadline(Flow& flow) {
  switch (flow.state) {
    case FlowState::kFree:
      flow.deadline = kNever;
      return;
    case FlowState::kDialing:
      flow.deadline = After(flow.opened_at, config_.dial_timeout);
      break;
    case FlowState::kHandshake:
      flow.deadline = After(flow.last_progress, flow.port != nullptr ? config_.inbound_dial_timeout
                                                                     : config_.handshake_timeout);
      break;
    case FlowState::kOpen:
      if (!flow.pcb.alive()) {
        flow.deadline = After(flow.last_progress, config_.stall_timeout);
      } else if (NoteWaiting(flow)) {
        flow.deadline = std::min(
            After(std::max(flow.last_heard, flow.waiting_since), config_.silent_timeout),
            After(std::max(flow.last_progress, flow.waiting_since), config_.stall_timeout));
      } else {
        flow.deadline = After(flow.last_heard, config_.keepalive_idle);
        // One after the other: each may be as good as never.
        for (int probe = 0; probe < flow.keepalives_unanswered; ++probe) {
          flow.deadline = After(flow.deadline, config_.keepalive_interval);
        }
      }
      if (IsWaitedFor(flow)) {
        flow.deadline = std::min(flow.deadline, After(flow.looking_since, kLookTimeout));
      }
      if (flow.answering) flow.deadline = After(flow.looking_since, config_.handshake_timeout);
      break;
    case FlowState::kClosing:
      // The relay writes what is left; a host that takes nothing is given up.
      flow.deadline = flow.abort ? kNever : After(flow.last_progress, config_.stall_timeout);
      break;
  }
  deadlines_.Schedule(flow);
}

void TcpFlows::Reset(Flow& flow, FlowEnd end) {
  if (flow.pcb.alive()) {
    engine_.Abort(flow.pcb);
    counters_.resets_to_guest.Add(1);
  }
  Close(flow, end, true);
  MakeReady(flow);
}

void TcpFlows::OnDeadline(Flow& flow) {
  SetDeadline(flow);  // something may have moved since
  if (flow.deadline > now_) return;
  flow.deadline = kNever;
  switch (flow.state) {
    case FlowState::kFree:
      return;
    case FlowState::kDialing:
      counters_.flows_dial_timeout.Add(1);
      return Close(flow, FlowEnd::kDialTimeout, true);
    case FlowState::kHandshake:
      (flow.port != nullptr ? counters_.inbound_dial_timeout : counters_.flows_handshake_timeout)
          .Add(1);
      return Reset(flow, FlowEnd::kHandshakeTimeout);
    case FlowState::kClosing:
      flow.abort = true;
      counters_.flows_stalled_timeout.Add(1);
      if (!flow.close_told) return;  // AfterFlush will say it
      // May cross the relay's last word, which takes it for nothing.
      flow.pipe.words_to_host.Say(ToHost::kAbort);
      return TellRelay(flow);
    case FlowState::kOpen:
      break;
  }
  if (flow.answering) return Reset(flow, FlowEnd::kDenied);
  if (IsWaitedFor(flow) && After(flow.looking_since, kLookTimeout) <= now_) {
    NoteRecord(flow);  // what came in this pass counts, and is the host's no more than the rest
    Look(flow, true);
    return MakeReady(flow);
  }
  if (!flow.pcb.alive()) {
    counters_.flows_stalled_timeout.Add(1);
    return Reset(flow, FlowEnd::kStalled);
  }
  if (flow.waiting) {
    const bool silent =
        After(std::max(flow.last_heard, flow.waiting_since), config_.silent_timeout) <= now_;
    (silent ? counters_.flows_silent_timeout : counters_.flows_stalled_timeout).Add(1);
    return Reset(flow, silent ? FlowEnd::kSilent : FlowEnd::kStalled);
  }
  if (flow.keepalives_unanswered >= config_.keepalive_probes) {
    counters_.flows_keepalive_timeout.Add(1);
    return Reset(flow, FlowEnd::kKeepalive);
  }
  // A pass that comes late (a stopped process, a clock that jumped) sends one probe and waits
  // for its answer, rather than all that were due, and a reset behind them.
  const Duration due_after =
      config_.keepalive_idle + flow.keepalives_unanswered * config_.keepalive_interval;
  flow.last_heard = std::max(flow.last_heard, now_ - due_after);
  ++flow.keepalives_unanswered;
  counters_.keepalives_sent.Add(1);
  engine_.SendKeepalive(flow.pcb);
  SetDeadline(flow);
}

}  // namespace penstock
