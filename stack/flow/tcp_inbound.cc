// How the connections of published ports begin: a client that a listener accepted
// becomes a flow whose guest is dialled. The part of TcpFlows that opens towards the
// guest; from the handshake on a flow is a flow, whoever opened it. See tcp_flows.h.
//
// The relay's task has the client's socket from the start, so that what the client does
// meanwhile (data, an end, a reset) is known in order. The guest refuses or does not
// answer: the flow is aborted, and the client is reset.
//
// Who the guest sees: the gateway with a port of ours, or the client itself if the guest
// can answer it. A tuple is used again only when it is free; the ports go round, so that
// one that just ended rests as long as possible.
#include <algorithm>
#include <memory>
#include <new>
#include <utility>

#include "stack/flow/tcp_flows.h"
#include "stack/wire/addresses.h"

namespace penstock {
namespace {

// Linux's range of ephemeral ports: no server of the guest's own expects a peer there.
constexpr uint16_t kPortMin = 32'768, kPortMax = 60'999;

// Ports to try before one whose tuple is in TIME_WAIT is used.
constexpr int kFreshPortTries = 64;

// While the guest's MAC address is unknown.
constexpr Duration kSolicitationInterval = std::chrono::milliseconds(100);

}  // namespace

void TcpFlows::OpenInbound(std::unique_ptr<Inbound> inbound) {
  PortGauge& port = *inbound->port;
  std::optional<TcpTuple> tuple;
  if (MayOpenInbound(*inbound)) tuple = ChooseTuple(*inbound);
  const IpAddress& guest = port.family == Family::kIpv4 ? link_.guest4 : link_.guest6;
  const GateQuestion question{.direction = Direction::kIngress,
                              .guest = {guest, port.guest_port},
                              .peer = {inbound->client.address.Unmapped(), inbound->client.port}};
  if (tuple && gate_.Ask(question) == Verdict::kDeny) {
    port.ended.Add(1);
    return OnGuestAnswered(port);  // and the socket resets
  }
  std::unique_ptr<OpenRequest> request(new (std::nothrow) OpenRequest);
  Flow* flow = tuple && request != nullptr ? NewFlow(*tuple) : nullptr;
  if (flow == nullptr) {
    const bool at_limit = !tuple || table_.in_use() >= config_.flow_count_max;
    (at_limit ? counters_.inbound_refused_limit : counters_.flows_out_of_memory)
        .Add(port.cut ? 0 : 1);
    port.ended.Add(1);
    return OnGuestAnswered(port);  // and the socket resets
  }
  counters_.inbound_opened.Add(1);
  flow->port = inbound->port;
  flow->client = inbound->client;
  flow->number = gate_.Open(question);
  flow->negotiated_mss =
      MssFor(tuple->guest.address, static_cast<uint16_t>(std::min(config_.mtu, 0xffffu)));
  std::optional<uint32_t> isn_after;
  if (const TimeWaitState* state = time_wait_.Find(*tuple, now_)) {
    counters_.time_wait_recycled.Add(1);
    isn_after = state->send_next;
    time_wait_.Remove(*tuple);
  }
  SetState(*flow, FlowState::kHandshake);
  request->destination_count = 0;
  request->inbound = std::move(inbound);
  BeginRelay(*flow, std::move(request));
  const uint32_t window = InitialWindow();
  if (!engine_.Connect(
          flow->pcb, *tuple,
          {.negotiated_mss = flow->negotiated_mss, .window_bytes = window, .isn_after = isn_after},
          flow)) {
    counters_.flows_out_of_memory.Add(1);
    return Close(*flow, FlowEnd::kOutOfMemory, true);
  }
  flow->window_bytes = window;
  windows_bytes_ += window;
  UpdateTicking(*flow);  // now: a frame of this pass may make the guest known
  MakeReady(*flow);
}

bool TcpFlows::MayOpenInbound(const Inbound& inbound) {
  return !inbound.port->cut && inbound_half_open_ < config_.half_open_count_max;
}

std::optional<TcpTuple> TcpFlows::ChooseTuple(const Inbound& inbound) {
  const bool v4 = inbound.port->family == Family::kIpv4;
  const FamilyConfig& family = v4 ? config_.ipv4 : config_.ipv6;
  TcpTuple tuple{.guest = {v4 ? link_.guest4 : link_.guest6, inbound.port->guest_port},
                 .destination = {family.gateway, 0}};
  const auto resting = [&] { return time_wait_.Find(tuple, now_) != nullptr; };
  if (inbound.show_client && GuestCanAnswer(inbound.client.address, family)) {
    tuple.destination = inbound.client;
    if (table_.Find(tuple) == nullptr) return tuple;
  }
  for (int i = 0; i <= kPortMax - kPortMin; ++i) {
    next_port_ = next_port_ < kPortMin || next_port_ >= kPortMax
                     ? kPortMin
                     : static_cast<uint16_t>(next_port_ + 1);
    tuple.destination.port = next_port_;
    if (table_.Find(tuple) == nullptr && (i >= kFreshPortTries || !resting())) return tuple;
  }
  return std::nullopt;  // 28,232 live connections to one port of the guest
}

// One client less waits for the guest: a paused listener may go on.
void TcpFlows::OnGuestAnswered(PortGauge& port) {
  const uint32_t before = port.dialing.fetch_sub(1, std::memory_order_seq_cst);
  if (before - 1 > port.dialing_max / 2 || !port.paused.load(std::memory_order_seq_cst)) return;
  relays_[port.relay_index]->ResumePorts();
  relay_to_ring_[port.relay_index] = true;
}

void TcpFlows::Cut(PortGauge& port) {
  port.cut = true;
  table_.ForEach([&](Flow& flow) {
    if (flow.port.get() != &port || flow.state == FlowState::kClosing) return;
    Serve(flow);  // whatever ended it just now counts first
    if (flow.state == FlowState::kFree || flow.state == FlowState::kClosing) return;
    counters_.inbound_cut.Add(1);
    Reset(flow, FlowEnd::kRemoved);
  });
}

// A firewall of the guest says no with an ICMP error: believed for the SYN that it
// quotes. An open flow survives errors (RFC 9293 3.9.2.2).
bool TcpFlows::OnUnreachable(const QuotedSegment& quoted) {
  Flow* flow = table_.Find({.guest = quoted.destination, .destination = quoted.source});
  if (flow == nullptr || !flow->pcb.connecting() ||
      quoted.sequence != flow->pcb.send_unacknowledged()) {
    return false;
  }
  counters_.inbound_refused.Add(1);
  engine_.Drop(flow->pcb);
  Close(*flow, FlowEnd::kUnreachable, true);
  MakeReady(*flow);
  return true;
}

void TcpFlows::Solicit(const IpAddress& guest) {
  if (now_ < next_solicitation_) return;
  next_solicitation_ = now_ + kSolicitationInterval;
  std::array<uint8_t, kEmittedFrameBytesMax> frame;
  const size_t length =
      guest.is_v4()
          ? EmitArpRequest(link_, {.gateway = config_.ipv4.gateway, .guest = guest}, frame)
          : EmitNeighbourSolicitation(link_, guest, frame);
  counters_.solicitations_sent.Add(1);
  if (!batch_.AppendCopy(std::span(frame).first(length))) counters_.replies_lost.Add(1);
}

}  // namespace penstock
