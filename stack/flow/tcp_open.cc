// How flows begin, and how those that cannot are refused: the part of TcpFlows
// that answers SYNs and segments without a flow. See tcp_flows.h.
//
// Truthful connect: a SYN is held while the host is dialled, and what the guest
// then sees is what the host saw. Connected: the SYN is fed to lwIP, which answers.
// Refused: a reset. Unreachable: an ICMP error. No answer: silence, and the guest's
// own timer speaks.
#include <errno.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <utility>

#include "stack/flow/tcp_flows.h"
#include "stack/wire/addresses.h"

namespace penstock {
namespace {

// a < b in sequence space (RFC 9293 3.4).
bool SequenceBefore(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) < 0; }

// Below this a guest could make thousands of tiny segments out of one block.
constexpr uint32_t kMssMin = 216;
constexpr uint32_t kMssDefaultIpv4 = 536;  // RFC 9293 3.7.1
constexpr uint32_t kMssDefaultIpv6 = 1'220;
constexpr uint32_t kPathMssMinIpv4 = 536;
constexpr uint32_t kPathMssMinIpv6 = 1'220;

// nullptr: there is no memory.
std::unique_ptr<HeldSyn> Hold(const Packet& packet) {
  std::unique_ptr<HeldSyn> syn(new (std::nothrow) HeldSyn);
  if (syn == nullptr) return nullptr;
  syn->tcp_header_bytes = static_cast<uint8_t>(packet.tcp.header_bytes);
  std::memcpy(syn->tcp_header.data(), packet.transport.data(), packet.tcp.header_bytes);
  syn->quote_bytes = static_cast<uint8_t>(std::min(packet.ip.size(), syn->quote.size()));
  std::memcpy(syn->quote.data(), packet.ip.data(), syn->quote_bytes);
  syn->sequence = packet.tcp.sequence;
  syn->payload_bytes = static_cast<uint32_t>(packet.payload.size());
  return syn;
}

}  // namespace

bool TcpFlows::Segment(Packet& packet, GuestBuffer& slot) {
  const TcpTuple tuple{.guest = {packet.source, packet.source_port},
                       .destination = {packet.destination, packet.destination_port}};
  Flow* flow = table_.Find(tuple);
  if (flow != nullptr && flow->state != FlowState::kDialing && !flow->pcb.alive()) {
    // It ended in this pass or waits for the relay: its tuple is free already.
    Serve(*flow);
    table_.Unlist(*flow);
    flow = nullptr;
  }
  const bool is_syn = (packet.tcp.flags & (kTcpSyn | kTcpAck | kTcpRst)) == kTcpSyn;
  if (flow == nullptr) {
    std::optional<uint32_t> isn_after;
    if (const TimeWaitState* state = time_wait_.Find(tuple, now_)) {
      if (!is_syn || !SequenceBefore(state->receive_next - 1, packet.tcp.sequence)) {
        AnswerTimeWait(packet, tuple, *state);
        return false;
      }
      if (HalfOpenLimitReached(packet)) return false;  // the tuple goes on resting
      counters_.time_wait_recycled.Add(1);
      isn_after = state->send_next;
      time_wait_.Remove(tuple);
    }
    if (is_syn) {
      OpenFlow(packet, tuple, isn_after);
    } else {
      AnswerWithoutFlow(packet, tuple);
    }
    return false;
  }
  flow->last_heard = now_;
  flow->keepalives_unanswered = 0;
  if (flow->state == FlowState::kDialing) {
    // A guest that gave up and began anew on the same port: the newest SYN counts.
    if (is_syn && packet.tcp.sequence != flow->syn->sequence) {
      if (std::unique_ptr<HeldSyn> syn = Hold(packet); syn != nullptr) {
        syn->isn_after = flow->syn->isn_after;
        flow->syn = std::move(syn);
        flow->negotiated_mss = MssFor(tuple.guest.address, packet.tcp.mss);
      }
    }
    counters_.Drop(is_syn ? DropCause::kSynWhileDialing : DropCause::kNotSynWhileDialing);
    return false;
  }
  return FeedSegment(*flow, packet, slot);
}

bool TcpFlows::FeedSegment(Flow& flow, Packet& packet, GuestBuffer& slot) {
  if (engine_.BeyondWindow(flow.pcb, packet.tcp.sequence)) {
    counters_.Drop(DropCause::kBeyondWindow);
    if ((packet.tcp.flags & kTcpRst) == 0) flow.pcb.owed = Owed::kNow;
    MakeReady(flow);
    return false;
  }
  // What lwIP may keep must not pin the big slot, unless it nearly fills it.
  const bool may_be_kept = !packet.payload.empty() || (packet.tcp.flags & kTcpFin) != 0;
  const bool in_place = packet.transport.size() > kKeepInPlaceBytes;
  GuestBuffer* buffer = &slot;
  if (may_be_kept) {
    if (!in_place) buffer = buffers_.Take(packet.transport.size());
    if (buffer == nullptr || (in_place && !buffers_.Reserve(kFrameBytesMax))) {
      // Lost like what a full NIC queue loses; the guest sends it again.
      counters_.Drop(DropCause::kNoBuffer);
      return false;
    }
  }
  counters_.frames_consumed.Add(1);
  // lwIP would take a new segment size or window scale from a repeated SYN.
  if (flow.pcb.connecting() && (packet.tcp.flags & kTcpSyn) != 0) {
    flow.negotiated_mss = MssFor(flow.tuple.guest.address, packet.tcp.mss);
    engine_.SetNegotiatedMss(flow.pcb, flow.negotiated_mss);
  } else if ((packet.tcp.flags & kTcpSyn) != 0) {
    DefuseTcpOptions(packet.transport.first(packet.tcp.header_bytes));
  }
  std::span<uint8_t> segment = packet.transport;
  if (buffer != &slot) {
    std::memcpy(buffer->data, segment.data(), segment.size());
    segment = buffer->room().first(segment.size());
  }
  const bool kept = buffer == &slot && may_be_kept;
  if (kept) slot.is_slot = false;
  MakeReady(flow);
  engine_.Receive(flow.pcb, *buffer, segment);
  return kept;
}

// ---------------------------------------------------------------- a new flow

void TcpFlows::OpenFlow(Packet& packet, const TcpTuple& tuple, std::optional<uint32_t> isn_after) {
  if (HalfOpenLimitReached(packet)) return;
  const bool local = IsLocal(tuple.destination);
  const GateQuestion question{.guest = tuple.guest, .peer = tuple.destination, .looked = false};
  const Verdict verdict = local ? Verdict::kAllow : gate_.Ask(question);
  const bool denied = verdict == Verdict::kDeny;
  if (denied && !GetsPage(tuple.destination)) return Deny(packet);
  OpenRequest request;
  std::unique_ptr<AcceptedSocket> own_end;  // of a connection to the stack itself
  const Refusal refusal =
      local || denied ? JoinLocal(request, own_end) : Resolve(tuple.destination, request);
  if (refusal != Refusal::kNone) return Refuse(packet, refusal);
  std::unique_ptr<HeldSyn> syn = Hold(packet);
  std::unique_ptr<OpenRequest> open(new (std::nothrow) OpenRequest(std::move(request)));
  const bool has_memory = syn != nullptr && open != nullptr;
  Flow* flow = has_memory ? NewFlow(tuple) : nullptr;
  if (flow == nullptr) {
    const bool at_limit = has_memory && table_.in_use() >= config_.flow_count_max;
    (at_limit ? counters_.flows_refused_limit : counters_.flows_out_of_memory).Add(1);
    counters_.Drop(DropCause::kFlowLimit);
    return SendReset(packet);
  }
  counters_.frames_consumed.Add(1);
  counters_.flows_opened.Add(1);
  flow->looking = denied || verdict == Verdict::kLook;
  flow->denied = denied;
  flow->number = denied ? 0 : gate_.Open(question);
  flow->negotiated_mss = MssFor(tuple.guest.address, packet.tcp.mss);
  flow->syn = std::move(syn);
  flow->syn->isn_after = isn_after;
  SetState(*flow, FlowState::kDialing);
  BeginRelay(*flow, std::move(open));
  SetDeadline(*flow);
  if (denied) {
    flow->looking_since = now_;
    flow->no_host = std::move(own_end);
  } else if (local) {
    counters_.flows_local.Add(1);
    local_ports_->Open(tuple, std::move(own_end));
  }
}

void TcpFlows::Refuse(const Packet& packet, Refusal refusal) {
  counters_.frames_consumed.Add(1);
  if (refusal == Refusal::kReset) {
    counters_.flows_refused.Add(1);
    SendReset(packet);
  } else {
    counters_.flows_unreachable.Add(1);
    SendUnreachable(FaultKind::kHost, packet.ip);
  }
}

void TcpFlows::Deny(const Packet& packet) {
  counters_.Drop(DropCause::kPolicyDenied);
  if (config_.denial_answer != DenialAnswer::kSilence) SendReset(packet);
}

Flow* TcpFlows::NewFlow(const TcpTuple& tuple) {
  Flow* flow = table_.Add(tuple);
  if (flow == nullptr) return nullptr;
  flow->pcb.Clear();
  flow->end = FlowEnd::kNone;
  flow->fin_to_relay = flow->host_eof = flow->host_reset = flow->fin_to_guest = flow->abort =
      flow->close_told = flow->waiting = flow->looking = flow->denied = flow->answering = false;
  flow->name.reset();
  flow->looking_since = Time{};
  flow->keepalives_unanswered = 0;
  flow->acknowledgement = {.listed = flow->acknowledgement.listed};
  flow->bytes_at_relay = flow->drained_since_growth = 0;
  flow->unwritten_offset = flow->acknowledged_offset = 0;
  flow->in_flight_bytes = flow->timed_bytes = 0;
  flow->bytes_to_host = flow->bytes_to_guest = 0;
  flow->opened_at = flow->last_heard = flow->last_progress = now_;
  return flow;
}

void TcpFlows::BeginRelay(Flow& flow, std::unique_ptr<OpenRequest> request) {
  // One block makes one segment, or a whole number of them.
  const bool v4 = flow.tuple.guest.address.is_v4();
  const uint32_t segment_max = v4 ? kSuperSegmentBytesIpv4 : kSuperSegmentBytesIpv6;
  request->block_bytes = segment_max / flow.negotiated_mss * flow.negotiated_mss;
  flow.pipe.open = std::move(request);
  flow.pipe.block_credit.store(kBlockCredit, std::memory_order_relaxed);
  flow.pipe.words_to_host.SayFirst(ToHost::kOpen);
  TellRelay(flow);
}

TcpFlows::Refusal TcpFlows::Resolve(const Endpoint& destination, OpenRequest& request) const {
  const bool v4 = destination.address.is_v4();
  const FamilyConfig& family = v4 ? config_.ipv4 : config_.ipv6;
  request.destinations = {destination};
  if (destination.address == family.gateway) {
    // The policy allowed it: somebody named the host.
    const Endpoint loopback4{IpAddress::V4(127, 0, 0, 1), destination.port};
    const Endpoint loopback6{*IpAddress::Parse("::1"), destination.port};
    request.destinations = {v4 ? loopback4 : loopback6, v4 ? loopback6 : loopback4};
    request.destination_count = 2;
    return Refusal::kNone;
  }
  // Nothing of ours listens there, nor at the gateway's link-local address, the only
  // one of its kind that the parser lets pass.
  static const IpAddress kLinkLocal = *IpAddress::Parse("fe80::");
  if (destination.address == family.dns || InPrefix(destination.address, kLinkLocal, 10)) {
    return Refusal::kReset;
  }
  // The link's other addresses, and those behind the guest, are nobody's but the guest's.
  if (InPrefix(destination.address, family.gateway, family.prefix_length) ||
      IsBehindGuest(destination.address, family)) {
    return Refusal::kHostUnreachable;
  }
  return Refusal::kNone;
}

TcpFlows::Refusal TcpFlows::JoinLocal(OpenRequest& request,
                                      std::unique_ptr<AcceptedSocket>& own_end) {
  StreamPair pair = make_pair_(*config_.socket_factory);
  if (pair.error != 0) {
    counters_.flows_local_refused.Add(1);
    return Refusal::kReset;
  }
  request.destination_count = 0;
  request.inbound = std::make_unique<Inbound>();
  request.inbound->socket = std::move(pair.flow_end);
  own_end = std::move(pair.own_end);
  return Refusal::kNone;
}

bool TcpFlows::HalfOpenLimitReached(const Packet& packet) {
  // The guest's retry finds room later: silence, not a reset.
  if (half_open_ >= config_.half_open_count_max) {
    counters_.Drop(DropCause::kHalfOpenLimit);
    return true;
  }
  const auto found = half_open_by_destination_.find(packet.destination);
  if (found != half_open_by_destination_.end() &&
      found->second >= config_.half_open_per_destination_max) {
    counters_.Drop(DropCause::kHalfOpenDestinationLimit);
    return true;
  }
  return false;
}

void TcpFlows::CountHalfOpen(const Flow& flow, int change) {
  if (flow.port != nullptr) {
    inbound_half_open_ += static_cast<uint32_t>(change);
    if (change < 0) OnGuestAnswered(*flow.port);
    return;
  }
  half_open_ += static_cast<uint32_t>(change);
  uint32_t& count = half_open_by_destination_[flow.tuple.destination.address];
  count += static_cast<uint32_t>(change);
  if (count == 0) half_open_by_destination_.erase(flow.tuple.destination.address);
}

uint32_t TcpFlows::MssFor(const IpAddress& guest, std::optional<uint16_t> offered) const {
  const uint32_t headers = guest.is_v4() ? 40 : 60;
  const uint32_t fallback = guest.is_v4() ? kMssDefaultIpv4 : kMssDefaultIpv6;
  return std::min(std::max<uint32_t>(offered.value_or(fallback), kMssMin), config_.mtu - headers);
}

// 64 KiB while half the budget is free, less when many flows share it, so that what
// is promised to guests never exceeds it.
uint32_t TcpFlows::InitialWindow() const {
  if (windows_bytes_ < config_.buffer_bytes_max / 2) return kInitialWindowBytes;
  if (windows_bytes_ < config_.buffer_bytes_max / 4 * 3) return 16'384;
  return 4'096;
}

void TcpFlows::OnConnected(Flow& flow) {
  const std::unique_ptr<HeldSyn> syn = std::move(flow.syn);
  const uint32_t window = InitialWindow();
  SetState(flow, FlowState::kHandshake);
  const std::span<uint8_t> header = std::span(syn->tcp_header).first(syn->tcp_header_bytes);
  const OpenOptions options{
      .negotiated_mss = flow.negotiated_mss, .window_bytes = window, .isn_after = syn->isn_after};
  if (!engine_.Accept(flow.pcb, flow.tuple, header, options, &flow)) {
    counters_.flows_out_of_memory.Add(1);
    return Close(flow, FlowEnd::kOutOfMemory, true);
  }
  flow.window_bytes = window;
  flow.last_progress = now_;  // the handshake's clock
  windows_bytes_ += window;
}

void TcpFlows::OnDialFailed(Flow& flow, int error) {
  const std::span<const uint8_t> quote = std::span(flow.syn->quote).first(flow.syn->quote_bytes);
  FlowEnd end = FlowEnd::kUnreachable;
  switch (error) {
    case ENETUNREACH:
    case EAFNOSUPPORT:  // a kernel without this family
      SendUnreachable(FaultKind::kNetwork, quote);
      break;
    case EHOSTUNREACH:
    case EHOSTDOWN:
      SendUnreachable(FaultKind::kHost, quote);
      break;
    case EACCES:
    case EPERM:
      SendUnreachable(FaultKind::kProhibited, quote);
      break;
    case ETIMEDOUT:
      end = FlowEnd::kDialTimeout;
      break;
    default:
      // ECONNREFUSED, and whatever says that there is no way in: no descriptors, no
      // memory, no local address.
      end = FlowEnd::kRefused;
      SendResetForSyn(flow);
  }
  switch (end) {
    case FlowEnd::kUnreachable:
      counters_.flows_unreachable.Add(1);
      break;
    case FlowEnd::kDialTimeout:
      counters_.flows_dial_timeout.Add(1);
      break;
    default:
      counters_.flows_refused.Add(1);
  }
  Close(flow, end, true);
}

// ---------------------------------------------------------------- no flow

// RFC 9293 3.10.7.1: a segment for a connection that does not exist is answered
// with a reset, unless it is one.
void TcpFlows::AnswerWithoutFlow(const Packet& packet, const TcpTuple&) {
  counters_.Drop(DropCause::kNoFlow);
  if ((packet.tcp.flags & kTcpRst) == 0) SendReset(packet);
}

// RFC 9293 3.10.7.4 for TIME-WAIT; RFC 1337: a reset does not end it.
void TcpFlows::AnswerTimeWait(const Packet& packet, const TcpTuple& tuple,
                              const TimeWaitState& state) {
  const bool occupies = !packet.payload.empty() || (packet.tcp.flags & (kTcpSyn | kTcpFin)) != 0;
  // A keepalive, for one, is owed an answer.
  const bool in_window = packet.tcp.sequence - state.receive_next <= 0xffff;
  const bool reset = (packet.tcp.flags & kTcpRst) != 0;
  if (reset || (!occupies && in_window)) {
    // With the exact number it is a guest that was told of the old connection when it
    // began a new one: its next SYN is welcome, whatever its number. As in Linux; the
    // old duplicates that RFC 1337 fears do not live on a link of one hop.
    if (reset && packet.tcp.sequence == state.receive_next) time_wait_.Remove(tuple);
    counters_.Drop(DropCause::kTimeWait);
    return;
  }
  counters_.frames_consumed.Add(1);
  const TimeWaitState copy = state;  // Add may move the table
  // RFC 9293 3.10.7.4, eighth: a FIN restarts the wait.
  if ((packet.tcp.flags & kTcpFin) != 0) time_wait_.Add(tuple, copy, now_);
  SendControl({.source = tuple.destination,
               .destination = tuple.guest,
               .sequence = copy.send_next,
               .acknowledgement = copy.receive_next,
               .window = 0xffff,
               .flags = kTcpAck});
}

void TcpFlows::SendReset(const Packet& packet) {
  const bool has_ack = (packet.tcp.flags & kTcpAck) != 0;
  const auto length = static_cast<uint32_t>(packet.payload.size()) +
                      ((packet.tcp.flags & kTcpSyn) != 0 ? 1u : 0u) +
                      ((packet.tcp.flags & kTcpFin) != 0 ? 1u : 0u);
  SendControl({.source = {packet.destination, packet.destination_port},
               .destination = {packet.source, packet.source_port},
               .sequence = has_ack ? packet.tcp.acknowledgement : 0,
               .acknowledgement = has_ack ? 0 : packet.tcp.sequence + length,
               .flags = static_cast<uint8_t>(has_ack ? kTcpRst : kTcpRst | kTcpAck)});
  counters_.resets_to_guest.Add(1);
}

void TcpFlows::SendResetForSyn(const Flow& flow) {
  SendControl({.source = flow.tuple.destination,
               .destination = flow.tuple.guest,
               .sequence = 0,
               .acknowledgement = flow.syn->sequence + 1 + flow.syn->payload_bytes,
               .flags = kTcpRst | kTcpAck});
  counters_.resets_to_guest.Add(1);
}

void TcpFlows::SendControl(const TcpControl& segment) {
  std::array<uint8_t, kEmittedFrameBytesMax> frame;
  const size_t length = EmitTcpControl(link_, segment, frame);
  if (!batch_.AppendCopy(std::span(frame).first(length))) {
    counters_.replies_lost.Add(1);
  }
}

void TcpFlows::SendUnreachable(FaultKind kind, std::span<const uint8_t> quote) {
  std::array<uint8_t, kEmittedFrameBytesMax> frame;
  const bool v4 = (quote[0] >> 4) == 4;
  const size_t length =
      EmitIcmpError(link_, {kind, v4 ? config_.ipv4.gateway : config_.ipv6.gateway}, quote, frame);
  if (length > 0 && !batch_.AppendCopy(std::span(frame).first(length))) {
    counters_.replies_lost.Add(1);
  }
}

// ---------------------------------------------------------------- path MTU

// RFC 1191, RFC 8201; RFC 5927 section 7: believed only for a sequence number that
// is in flight.
bool TcpFlows::OnPathMtu(const PathMtuReport& report) {
  Flow* flow = table_.Find({.guest = report.destination, .destination = report.source});
  if (flow == nullptr || !flow->pcb.alive() || flow->state != FlowState::kOpen) return false;
  Pcb& pcb = flow->pcb;
  if (SequenceBefore(report.sequence, pcb.send_unacknowledged()) ||
      !SequenceBefore(report.sequence, pcb.send_next())) {
    return false;
  }
  const bool v4 = report.destination.address.is_v4();
  const uint32_t headers = v4 ? 40 : 60;
  const uint32_t floor = v4 ? kPathMssMinIpv4 : kPathMssMinIpv6;
  const uint32_t reported = report.mtu > headers ? report.mtu - headers : 0;
  const uint32_t mss = std::max(reported, std::min(floor, pcb.negotiated_mss()));
  if (mss >= pcb.negotiated_mss()) return false;
  counters_.path_mtu_updates.Add(1);
  flow->negotiated_mss = mss;
  engine_.LowerMss(pcb, mss);
  MakeReady(*flow);
  return true;
}

}  // namespace penstock
