#include "tests/world/audit.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/world/stepped_stack.h"

namespace penstock {

void FlowAudit::Note(const std::string& what) {
  if (wrong_.empty()) wrong_ = what;
}
void FlowAudit::Note(const Flow& flow, const char* what) { Note(NameOf(flow) + what); }
void FlowAudit::Note(const EndName& name, const char* what) { Note(name.ToString() + what); }

FlowAudit::PortSum& FlowAudit::Sums::Of(const PortGauge* gauge) {
  for (PortSum& sum : ports) {
    if (sum.gauge == gauge) return sum;
  }
  return ports.emplace_back(PortSum{.gauge = gauge});
}

std::string FlowAudit::NameOf(const Flow& flow) {
  return absl::StrCat("flow ", flow.tuple.guest.ToString(), " > ",
                      flow.tuple.destination.ToString(), " (state ", static_cast<int>(flow.state),
                      "): ");
}

std::string FlowAudit::EndName::ToString() const {
  return guest == nullptr ? absl::StrCat(kind, " ", id, ": ")
                          : absl::StrCat(kind, " ", guest->ToString(), ": ");
}

FlowAudit::Task* FlowAudit::TaskOf(const Flow& flow) {
  return static_cast<Task*>(static_cast<FlowTask*>(flow.pipe.relay_task));
}

// ---------------------------------------------------------------- between steps

std::string FlowAudit::BetweenSteps() {
  Sums sums;
  flows_.table_.ForEachSlot([&](Flow& flow) { AuditSlot(flow, sums); });
  AuditSums(sums);
  AuditPorts(sums);
  AuditDatagrams();
  AuditFrames();
  return wrong_;
}

FlowAudit::Holding FlowAudit::Count(const Flow& flow) {
  Holding holding;
  const auto block = [&](const Block& b) {
    ++holding.blocks;
    holding.block_capacity += b.capacity;
  };
  for (const Block* b = flow.blocks_head; b != nullptr; b = b->next) {
    block(*b);
    holding.block_bytes += b->length;
  }
  flow.pipe.to_guest.ForEach(block);
  flow.pipe.returned.ForEach(block);
  for (const auto& [owner, b] : flows_.acknowledged_) {
    if (owner == &flow) block(*b);
  }
  const auto chunks = [](const Chunk* chunk) {
    uint64_t bytes = 0;
    for (; chunk != nullptr; chunk = chunk->next) bytes += chunk->length;
    return bytes;
  };
  flow.pipe.to_host.ForEach([&](const Chunk& chunk) { holding.at_relay += chunk.length; });
  flow.pipe.taken.ForEach([&](const Chunk& chunk) { holding.at_relay += chunk.length; });
  if (const Task* task = TaskOf(flow)) holding.unwritten = chunks(task->unwritten_head_);
  holding.at_relay += holding.unwritten;
  holding.pending = chunks(flow.pending_head);
  return holding;
}

// Most slots are, and hold nothing: there is nothing to be counted in them.
bool FlowAudit::IsEmpty(const Flow& flow) const {
  if (flow.state != FlowState::kFree) return false;
  if (flow.opened_at == Time{}) return true;  // no flow was ever here: nobody knows of it
  return !flow.pcb.alive() && TaskOf(flow) == nullptr && flow.blocks_head == nullptr &&
         flow.pending_head == nullptr && flow.pipe.to_guest.empty() && flow.pipe.returned.empty() &&
         flow.pipe.to_host.empty() && flow.pipe.taken.empty() && flows_.acknowledged_.empty();
}

void FlowAudit::AuditSlot(Flow& flow, Sums& sums) {
  if (IsEmpty(flow)) return;
  const Holding holding = Count(flow);
  sums.blocks_bytes += holding.block_capacity;
  if (flow.state == FlowState::kFree) {
    Require(!flow.pcb.alive(), flow, "a free slot has a PCB");
    Require(holding.at_relay == 0 && holding.pending == 0, flow, "a free slot holds bytes");
    Require(TaskOf(flow) == nullptr, flow, "a free slot has a relay task");
    return;
  }
  ++sums.in_use;
  sums.windows += flow.window_bytes;
  sums.held_to_host += flow.pending_bytes + flow.bytes_at_relay;
  sums.held_to_guest += flow.block_bytes;
  sums.own_ends += flow.no_host != nullptr ? 1 : 0;
  AuditBytes(flow, holding);
  AuditLife(flow);
  AuditDenial(flow);
  if (flow.port != nullptr) {
    PortSum& sum = sums.Of(flow.port.get());
    sum.dialing += flow.state == FlowState::kHandshake ? 1 : 0;
    sum.live += flow.state != FlowState::kClosing ? 1 : 0;
  }
  switch (flow.state) {
    case FlowState::kFree:
      return;
    case FlowState::kDialing:
      ++sums.dialing;
      return;
    case FlowState::kHandshake:
      ++sums.handshake;
      return;
    case FlowState::kOpen:
      ++sums.open;
      return;
    case FlowState::kClosing:
      ++sums.closing;
      return;
  }
}

void FlowAudit::AuditBytes(const Flow& flow, const Holding& holding) {
  Require(holding.pending == flow.pending_bytes, flow, "pending bytes and their count differ");
  Require(holding.at_relay == flow.bytes_at_relay, flow,
          "the guest's bytes at the relay and their count differ");
  Require(holding.block_bytes == flow.block_bytes, flow,
          "the host's bytes that are held and their count differ");
  if (const Task* task = TaskOf(flow)) {
    Require(holding.unwritten == task->decisions_.unwritten_bytes() + task->unwritten_offset_, flow,
            "the relay's unwritten bytes and their count differ");
    Require(holding.blocks == task->decisions_.blocks_out(), flow,
            "blocks between host and guest, and the credit given for them, differ");
  }
  if (!flow.pcb.alive() || flow.pcb.in_handshake()) return;
  const uint64_t held = flow.pending_bytes + flow.bytes_at_relay + flow.pcb.received_bytes;
  const uint64_t window = held + flow.pcb.receive_window();
  // A FIN takes one of the window.
  Require(window <= flow.window_bytes && window + 1 >= flow.window_bytes, flow,
          "what the window promises and what is held is not the window");
  Require(flow.pcb.announced_window() <= flow.window_bytes, flow,
          "the guest was told a window beyond its buffer");
}

// Something exists that will end the flow.
void FlowAudit::AuditLife(const Flow& flow) {
  const bool told =
      !flow.pipe.words_to_host.Peek().empty() || !flow.pipe.words_to_guest.Peek().empty();
  const bool has_task = TaskOf(flow) != nullptr;
  switch (flow.state) {
    case FlowState::kFree:
      return;
    case FlowState::kDialing:
      Require(flow.syn != nullptr, flow, "dialling without the guest's SYN");
      Require(has_task || told, flow, "dialling, and the relay does not know of it");
      break;
    case FlowState::kHandshake:
    case FlowState::kOpen:
      Require(flow.pcb.alive() || flow.pcb.end != PcbEnd::kNone, flow,
              "no PCB, and no reason for that");
      Require(has_task || told, flow, "open, and neither a relay task nor a word of it");
      break;
    case FlowState::kClosing: {
      const bool will_tell =
          std::find(flows_.closing_.begin(), flows_.closing_.end(), &flow) != flows_.closing_.end();
      Require(will_tell || flow.close_told, flow, "closing, and nobody tells the relay");
      Require(will_tell || has_task || told, flow, "closing, and the relay's last word is lost");
      if (flow.abort) return;
      break;
    }
  }
  Require(flow.ready || flow.deadline != kNever, flow, "no deadline will end it");
}

// Nothing of the guest's goes on before its name is known, nor what is denied.
void FlowAudit::AuditDenial(const Flow& flow) {
  const bool live = flow.state != FlowState::kClosing;
  if (flow.looking || flow.answering) {
    Require(flow.bytes_at_relay == 0 && !flow.fin_to_relay, flow,
            "the guest's bytes go on before their name is known");
  }
  if (flow.looking && flow.state == FlowState::kOpen && flow.pending_bytes > 0) {
    const Time until = After(flow.looking_since, std::chrono::seconds(5));
    Require(flow.ready || flow.looking_since != Time{}, flow, "its bytes are not looked at");
    Require(flow.ready || flow.deadline <= until, flow, "nothing ends the wait for its name");
  }
  Require(!flow.answering || flow.unwritten == nullptr, flow,
          "its page comes after the host's word");
  if (!flow.denied || !live) return;
  Require(flow.no_host != nullptr, flow, "denied, and nobody is there for a host");
  const Task* task = TaskOf(flow);
  const world::HostPeer* peer = task != nullptr ? task->socket_.peer() : nullptr;
  Require(peer == nullptr || peer->destination() == Endpoint{}, flow, "denied, and it has a host");
}

void FlowAudit::AuditSums(const Sums& sums) {
  Require(sums.in_use == flows_.table_.in_use(), "flows in use and their count differ");
  Require(sums.dialing == flows_.dialing_ && sums.handshake == flows_.handshake_ &&
              sums.open == flows_.open_ && sums.closing == flows_.closing_count_,
          "flows in each state and their counts differ");
  Require(sums.dialing + sums.handshake == flows_.half_open_ + flows_.inbound_half_open_,
          "the half-open count is wrong");
  Require(sums.windows == flows_.windows_bytes_, "the sum of the windows is wrong");
  Require(sums.held_to_host == flows_.to_host_bytes_, "the sum of the guest's bytes is wrong");
  Require(sums.held_to_guest == flows_.to_guest_bytes_, "the sum of the host's bytes is wrong");
  if (sums.blocks_bytes != relay_.blocks().bytes_out()) {
    Note(absl::StrCat("blocks are lost: ", relay_.blocks().bytes_out(), " bytes are out, ",
                      sums.blocks_bytes, " are to be found"));
  }

  const Config& config = inside_.config_;
  Require(sums.in_use <= config.flow_count_max, "more flows than allowed");
  Require(flows_.half_open_ <= config.half_open_count_max, "more half-open flows than allowed");
  Require(flows_.inbound_half_open_ <= config.half_open_count_max,
          "more clients wait for the guest than allowed");
  Require(sums.held_to_host <= sums.windows + sums.closing * kWindowBytesMax,
          "more of the guest's bytes are held than windows were promised");
  // Beyond the limit there is one small block for each flow at most.
  Require(relay_.blocks().bytes_out() <=
              config.buffer_bytes_max + uint64_t{sums.in_use} * kSmallBlockBytes,
          "more of the host's bytes are held than allowed");
  uint64_t slots = 0;
  for (const GuestBuffer* slot : inside_.slots_) slots += slot->capacity;
  const Reassembly& reassembly = *inside_.reassembly_;
  Require(reassembly.set_count() <= Reassembly::kSetsMax, "more fragments wait than allowed");
  Require(flows_.buffers_.bytes_out() >= slots + reassembly.bytes_held() + sums.held_to_host,
          "buffers of the guest's bytes were given back more than once");
  size_t handed_over = 0;
  relay_.inbound_.ForEach([&](const Inbound&) { ++handed_over; });
  Require(host_.open_sockets() <= sums.in_use + sums.own_ends + handed_over + StreamCount(),
          "more host sockets than flows");
}

// What the gauges of published ports say is what there is.
void FlowAudit::AuditPorts(Sums& sums) {
  relay_.inbound_.ForEach([&](const Inbound& inbound) {
    PortSum& sum = sums.Of(inbound.port.get());
    ++sum.dialing;
    ++sum.live;
  });
  for (const auto& [id, port] : inside_.publisher_->ports_) {
    if (port.gauge != nullptr) (void)sums.Of(port.gauge.get());
  }
  for (const PortSum& sum : sums.ports) {
    const PortGauge& gauge = *sum.gauge;
    Require(gauge.dialing.load() == sum.dialing, "clients that wait, and their count, differ");
    Require(gauge.accepted.value() - gauge.ended.value() == sum.live,
            "a published port's connections and their count differ");
    Require(sum.dialing <= gauge.dialing_max, "more clients of a port wait than allowed");
  }
}

void FlowAudit::AuditFrames() {
  const Counters& counters = inside_.counters_;
  const uint64_t came = counters.frames_to_host.value();
  const uint64_t consumed = counters.frames_consumed.value();
  const uint64_t wait = counters.fragments_held.value();
  uint64_t dropped = 0;
  for (const Counter& count : counters.drops) dropped += count.value();
  if (came == consumed + dropped + wait) return;
  Note(absl::StrCat(came, " frames came, ", consumed, " were consumed, ", dropped,
                    " dropped by a named cause and ", wait, " are fragments that wait"));
}

// ---------------------------------------------------------------- asleep

std::string FlowAudit::Asleep() {
  Require(relay_.to_relay().empty(), "a flow stands ready for the relay, which sleeps");
  Require(relay_.to_stack().empty(), "a flow stands ready for the stack, which sleeps");
  AsleepDatagrams();
  Require(relay_.inbound_.empty(), "a client was handed over, and the stack sleeps");
  for (const auto& [id, port] : inside_.publisher_->ports_) {
    if (port.gauge == nullptr) continue;
    Require(!port.gauge->paused.load() || port.gauge->dialing.load() > port.gauge->dialing_max / 2,
            "a listener pauses, and nobody lets it go on");
  }
  Require(flows_.ready_.empty(), "a flow is ready, and the stack sleeps");
  Require(flows_.holding_.empty(), "an acknowledgement waits, and the stack sleeps");
  Require(inside_.reassembly_->NextDeadline() > inside_.now_, "fragments wait beyond their time");
  if (!flows_.batch_.link_full()) {
    Require(flows_.batch_.empty(), "frames wait although the link takes them");
    Require(flows_.held_resets_.empty(), "a reset is held although the link takes it");
    Require(flows_.acknowledged_.empty(), "acknowledged blocks are not given back");
    Require(flows_.closing_.empty(), "flows have closed, and their relay was not told");
  }
  flows_.table_.ForEach([this](Flow& flow) { AsleepFlow(flow); });
  return wrong_;
}

void FlowAudit::AsleepFlow(const Flow& flow) {
  Require(flow.pipe.to_host.empty(), flow, "messages to the host wait, and the relay sleeps");
  Require(flow.pipe.to_guest.empty(), flow, "messages to the guest wait, and the stack sleeps");
  Require(flow.pipe.taken.empty(), flow, "taken bytes wait, and the stack sleeps");
  Require(flow.pipe.returned.empty(), flow, "returned blocks wait, and the relay sleeps");
  if (flow.state == FlowState::kOpen) {
    // A paused stack looks late, but never sleeps past the wait for a name.
    Require(!flow.looking || flow.pending_bytes == 0 ||
                flows_.now_ < After(flow.looking_since, std::chrono::seconds(5)),
            flow, "its name is waited for too long");
    // Behind bytes that the host does not take, places in the pipe are of no use.
    Require(flow.pending_head == nullptr || flow.bytes_at_relay > 0 || flow.looking, flow,
            "the guest's bytes wait for nobody");
    const bool fin_waits = flow.pending_head != nullptr || flow.answering;
    Require(!flow.pcb.guest_fin || flow.fin_to_relay || fin_waits, flow,
            "the guest's FIN was not passed on");
  }
  if (flow.state == FlowState::kOpen && flow.pcb.alive() && !flows_.batch_.link_full()) {
    const uint32_t rest =
        flow.unwritten == nullptr ? 0 : flow.unwritten->length - flow.unwritten_offset;
    Require(rest == 0 || flows_.engine_.SendRoom(flow.pcb, rest) == 0, flow,
            "the host's bytes wait although the guest's window is open");
    Require(!flow.host_eof || flow.unwritten != nullptr || flow.fin_to_guest, flow,
            "the host's FIN was not passed on");
    Require(!flow.host_reset, flow, "the host's reset was not passed on");
    Require(!flow.pcb.NeedsTick() || flow.ticking, flow, "needs lwIP's tick and gets none");
  }
  if (flow.deadline != kNever) {
    Require(flows_.NextDeadline() <= flow.deadline, flow, "the stack sleeps past its deadline");
  }
  if (flow.ticking) {
    Require(flows_.next_tick_ != kNever, flow, "ticks are needed and none will come");
  }
  if (Task* task = TaskOf(flow)) AsleepTask(flow, *task);
}

void FlowAudit::AsleepTask(const Flow& flow, Task& task) {
  FlowDecisions& decisions = task.decisions_;
  const world::HostPeer* peer = task.socket_.peer();
  Require(!decisions.done(), flow, "the relay task is done and has not ended");
  Require(!decisions.MayWrite(), flow, "the relay could write and does not");
  Require(!decisions.MustShutWrite(), flow, "the guest's FIN is not at the host's socket");
  if (peer == nullptr || !decisions.connected()) return;
  Require(decisions.unwritten_bytes() == 0 || decisions.MustDiscard() || !peer->takes_bytes(), flow,
          "the host takes bytes, and the relay waits");
  if (decisions.broken()) return;
  if (task.needs_block_) {
    Require(!relay_.blocks().HasRoom(), flow, "there are blocks again, and a reader waits");
  } else if (decisions.blocks_out() == 0) {
    // With blocks out it goes on when they come back, whatever others have given back.
    const bool may = FlowDecisions(decisions).MayRead(relay_.blocks().flow_limit_bytes());
    Require(!may || peer->being_read(), flow, "the relay may read and does not");
  } else if (decisions.MustWatchErrors() && !task.errors_unwatched_ && !peer->finished()) {
    Require(!peer->was_reset(), flow, "the host's reset was not noticed");
  }
}

// ---------------------------------------------------------------- the end

std::string FlowAudit::NothingLeft() {
  (void)BetweenSteps();
  Require(flows_.table_.in_use() == 0, "flows are left");
  Require(host_.open_sockets() == 0, "host sockets are left");
  Require(relay_.blocks().bytes_out() == 0, "blocks are left");
  NoDatagramsLeft();
  uint64_t slots = 0;
  for (const GuestBuffer* slot : inside_.slots_) slots += slot->capacity;
  // Fragments may still wait for what will not come.
  Require(flows_.buffers_.bytes_out() == slots + inside_.reassembly_->bytes_held(),
          "buffers of the guest's bytes are left");
  Require(flows_.ticking_.empty() && flows_.next_tick_ == kNever, "lwIP's tick goes on");
  return wrong_;
}

// ---------------------------------------------------------------- of a stepped stack

std::string SteppedStack::Audit() {
  has_run_ = false;
  return FlowAudit(*inside_, *relay_, *host_).BetweenSteps();
}
std::string SteppedStack::AuditAsleep() { return FlowAudit(*inside_, *relay_, *host_).Asleep(); }
std::string SteppedStack::AuditEnd() { return FlowAudit(*inside_, *relay_, *host_).NothingLeft(); }

}  // namespace penstock
