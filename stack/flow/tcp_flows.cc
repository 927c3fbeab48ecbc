#include "stack/flow/tcp_flows.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "relay/check.h"
#include "relay/out_of_memory.h"

namespace penstock {
namespace {

// Blocks: 2 MiB. With one stream at an MTU of 65520 on two cores 512 KiB were 0.7 of it, and
// 4 MiB 1.07.
constexpr uint8_t kBlockCreditNear = 32;

}  // namespace

TcpFlows::TcpFlows(const Config& config, const LinkCapabilities& capabilities,
                   const LinkAddresses& link, FrameBatch& batch, Counters& counters, Gate& gate,
                   std::vector<Relay*> relays, uint64_t slot_bytes)
    : config_(config),
      capabilities_(capabilities),
      link_(link),
      batch_(batch),
      counters_(counters),
      gate_(gate),
      relays_(std::move(relays)),
      relay_to_ring_(relays_.size()),
      // Twice the windows promised: a kept byte may cost more than one (its buffer),
      // and out-of-order data is kept too. What does not fit is dropped and counted.
      buffers_(2 * config.buffer_bytes_max + slot_bytes),
      engine_({.mtu = config.mtu,
               .super_segments_ipv4 = capabilities.tcp4_gso_to_guest,
               .super_segments_ipv6 = capabilities.tcp6_gso_to_guest,
               .isn_key = config.isn_key ? *config.isn_key : RandomSipKey()},
              *this),
      table_(config.flow_count_max, static_cast<uint8_t>(relays_.size())),
      time_wait_(config.flow_count_max, config.time_wait),
      // Not the same ones after each start: a guest may remember connections.
      next_port_(static_cast<uint16_t>(config.isn_key ? (*config.isn_key)[0] : RandomSipKey()[0])) {
}

TcpFlows::~TcpFlows() = default;

void TcpFlows::BeginPass(Time now) {
  now_ = now;
  engine_.SetTime(now);
  if (!holding_.empty() && now - holding_since_ >= kAcknowledgementWait) {
    (void)ReleaseAcknowledgements(now - kAcknowledgementWait);
  }
}

// ---------------------------------------------------------------- the ready list

void TcpFlows::MakeReady(Flow& flow) {
  if (flow.ready) return;
  flow.ready = true;
  ready_.push_back(&flow);
}

void TcpFlows::TakeFromRelays() {
  for (Relay* relay : relays_) {
    for (Inbound* inbound = relay->TakeInbound(); inbound != nullptr;) {
      Inbound* const next = inbound->next;
      OpenInbound(std::unique_ptr<Inbound>(inbound));
      inbound = next;
    }
    FlowPipe* pipe;
    while (relay->to_stack().Pop(pipe)) {
      BeginService(pipe->ready_for_stack);
      Flow& flow = *static_cast<Flow*>(pipe->stack_flow);
      // A late mark of a flow that is over.
      if (flow.state != FlowState::kFree) MakeReady(flow);
    }
  }
}

void TcpFlows::PassOn() {
  for (Flow* flow : ready_) {
    NoteRecord(*flow);
    PassToRelay(*flow);
  }
}

bool TcpFlows::ServeReady(size_t flows_max) {
  SendHeldResets();
  std::swap(ready_, serving_);
  size_t served = 0;
  for (; served < serving_.size() && served < flows_max; ++served) {
    Flow& flow = *serving_[served];
    flow.ready = false;
    Serve(flow);
  }
  // Those beyond the budget come first in the next pass.
  if (served < serving_.size()) {
    serving_.erase(serving_.begin(), serving_.begin() + static_cast<ptrdiff_t>(served));
    serving_.insert(serving_.end(), ready_.begin(), ready_.end());
    std::swap(ready_, serving_);
  }
  serving_.clear();
  return ready_.empty();
}

bool TcpFlows::HasWork() const {
  return !ready_.empty() || (batch_.empty() && (!acknowledged_.empty() || !closing_.empty())) ||
         (!held_resets_.empty() && !batch_.link_full());
}

void TcpFlows::OnLinkWritable() {
  for (Flow* flow : std::exchange(blocked_by_link_, {})) {
    flow->blocked_by_link = false;
    if (flow->state != FlowState::kFree) MakeReady(*flow);
  }
}

// ---------------------------------------------------------------- one flow

void TcpFlows::Serve(Flow& flow) {
  if (flow.state == FlowState::kFree) return;
  const bool was_full = batch_.link_full();
  const uint64_t refusals = batch_.refusals();
  TakeWords(flow);
  if (flow.state == FlowState::kFree) return;
  TakeBackChunks(flow);
  NoteRecord(flow);
  if (flow.looking) Look(flow, false);
  PassToRelay(flow);
  ReleaseAcknowledged(flow);
  Feed(flow);
  if (flow.pcb.alive()) Acknowledge(flow);
  EndIfOver(flow);
  UpdateTicking(flow);
  SetDeadline(flow);
  // Whatever of the above the link kept from being done is done once it is open again,
  // be it open again already.
  const bool kept_back = was_full || batch_.link_full() || batch_.refusals() != refusals;
  if (kept_back && flow.pcb.alive() && !flow.blocked_by_link) {
    flow.blocked_by_link = true;
    blocked_by_link_.push_back(&flow);
  }
}

void TcpFlows::TakeWords(Flow& flow) {
  const Words<ToGuest> words = flow.pipe.words_to_guest.Take();
  TakeBlocks(flow);
  if (words.Has(ToGuest::kConnected) && flow.state == FlowState::kDialing) OnConnected(flow);
  if (words.Has(ToGuest::kFailed)) {
    if (flow.state == FlowState::kDialing) OnDialFailed(flow, flow.pipe.error);
    if (flow.port != nullptr) flow.host_reset = true;  // could not be adopted
  }
  if (words.Has(ToGuest::kEof)) flow.host_eof = true;
  if (words.Has(ToGuest::kReset)) flow.host_reset = !flow.answering;
  if (words.Has(ToGuest::kClosed)) Free(flow);
}

void TcpFlows::TakeBlocks(Flow& flow) {
  Block* first = flow.pipe.to_guest.TakeInOrder();
  if (first == nullptr) return;
  if (flow.state == FlowState::kClosing || flow.answering) {
    // No frame refers to them: back at once, before the slot can be the next flow's.
    flow.pipe.returned.PushInOrder(first);
    return TellRelay(flow);
  }
  (flow.blocks_head == nullptr ? flow.blocks_head : flow.blocks_tail->next) = first;
  if (flow.unwritten == nullptr) {
    flow.unwritten = first;
    flow.unwritten_offset = 0;
  }
  uint32_t bytes = 0;
  for (Block* block = first; block != nullptr; block = block->next) {
    bytes += block->length;
    flow.blocks_tail = block;
  }
  flow.block_bytes += bytes;
  to_guest_bytes_ += bytes;
  counters_.payload_bytes_to_guest.Add(bytes);
}

// What the host took: the window opens again.
void TcpFlows::TakeBackChunks(Flow& flow) {
  uint32_t bytes = 0;
  for (Chunk* chunk = flow.pipe.taken.TakeAll(); chunk != nullptr;) {
    Chunk* next = chunk->next;
    bytes += chunk->length;
    auto* buffer = reinterpret_cast<GuestBuffer*>(chunk);
    buffer->pool->Give(buffer);
    chunk = next;
  }
  if (bytes == 0) return;
  to_host_bytes_ -= bytes;
  flow.bytes_at_relay -= bytes;
  flow.last_progress = now_;
  engine_.Consume(flow.pcb, bytes);
  flow.drained_since_growth += bytes;
  GrowWindow(flow);
}

// A flow's window doubles each time a whole window went through, up to half of what is
// free below three quarters of the budget: so flows that stall later leave room for
// others, and the last quarter is for new flows.
void TcpFlows::GrowWindow(Flow& flow) {
  if (!flow.pcb.alive()) return;
  const uint32_t window = flow.window_bytes;
  if (flow.drained_since_growth < window || window >= kWindowBytesMax) return;
  flow.drained_since_growth = 0;
  const uint32_t wider = std::min(window * 2, kWindowBytesMax);
  const uint64_t shared = config_.buffer_bytes_max / 4 * 3;
  if (windows_bytes_ >= shared || wider > (shared - windows_bytes_) / 2) return;
  windows_bytes_ += wider - window;
  flow.window_bytes = wider;
  engine_.GrowWindow(flow.pcb, wider);
}

// What lwIP's callbacks recorded since the last time.
void TcpFlows::NoteRecord(Flow& flow) {
  Pcb& pcb = flow.pcb;
  if (pcb.received_head != nullptr) {
    (flow.pending_head == nullptr ? flow.pending_head : flow.pending_tail->next) =
        pcb.received_head;
    flow.pending_tail = pcb.received_tail;
    flow.pending_bytes += pcb.received_bytes;
    flow.bytes_to_host += pcb.received_bytes;
    if (flow.port != nullptr) flow.port->bytes_to_host.Add(pcb.received_bytes);
    flow.last_progress = now_;
    to_host_bytes_ += pcb.received_bytes;
    counters_.payload_bytes_to_host.Add(pcb.received_bytes);
    pcb.received_head = pcb.received_tail = nullptr;
    pcb.received_bytes = 0;
    if (flow.answering) DiscardPending(flow);
  }
  if (pcb.established && flow.state == FlowState::kHandshake) {
    SetState(flow, FlowState::kOpen);
    counters_.flows_established.Add(1);
  }
  counters_.retransmits_by_dupack.Add(std::exchange(pcb.retransmits_by_dupack, 0));
  counters_.retransmits_by_timer.Add(std::exchange(pcb.retransmits_by_timer, 0));
  counters_.zero_window_probes.Add(std::exchange(pcb.zero_window_probes, 0));
}

void TcpFlows::PassToRelay(Flow& flow) {
  bool told = false;
  if (flow.state == FlowState::kOpen && !flow.looking && !flow.answering) {
    if (flow.pending_head != nullptr) {
      flow.pipe.to_host.PushInOrder(flow.pending_head);
      flow.bytes_at_relay += flow.pending_bytes;
      flow.pending_head = flow.pending_tail = nullptr;
      flow.pending_bytes = 0;
      told = true;
    }
    if (flow.pcb.guest_fin && !flow.fin_to_relay) {
      flow.pipe.words_to_host.Say(ToHost::kFin);
      flow.fin_to_relay = true;
      told = true;
    }
  }
  if (told) TellRelay(flow);
}

void TcpFlows::TellRelay(Flow& flow) {
  MarkReady(flow.pipe.ready_for_relay, relays_[flow.relay_index]->to_relay(), flow.pipe);
  relay_to_ring_[flow.relay_index] = true;
}

void TcpFlows::ReleaseAcknowledged(Flow& flow) {
  uint32_t bytes = std::exchange(flow.pcb.acknowledged_bytes, 0);
  if (bytes == 0) return;
  flow.last_progress = now_;
  if (flow.answering) return;  // the page is nobody's block
  GrowCredit(flow, bytes);
  flow.in_flight_bytes -= bytes;
  flow.bytes_to_guest += bytes;
  if (flow.port != nullptr) flow.port->bytes_to_guest.Add(bytes);
  while (bytes > 0) {
    Block* block = flow.blocks_head;
    PENSTOCK_CHECK(block != nullptr);
    const uint32_t rest = block->length - flow.acknowledged_offset;
    if (bytes < rest) {
      flow.acknowledged_offset += bytes;
      return;
    }
    bytes -= rest;
    flow.acknowledged_offset = 0;
    flow.blocks_head = block->next;
    if (flow.blocks_head == nullptr) flow.blocks_tail = nullptr;
    flow.block_bytes -= block->length;
    to_guest_bytes_ -= block->length;
    ReturnBlock(flow, block);
  }
}

// What is between the host's socket and the guest's acknowledgement is all that a round
// trip carries: if the credit is what was spent, it doubles, so that a reader of the socket
// seldom stops (near: up to 2 MiB, behind which a local guest is no faster), and all the way
// if the round trip takes long. A guest that stands still gets none, its window bounds it as
// well, and the pool each flow's share.
void TcpFlows::GrowCredit(Flow& flow, uint32_t acknowledged_bytes) {
  if (flow.timed_bytes == 0) return;
  if (flow.timed_bytes > acknowledged_bytes) {
    flow.timed_bytes -= acknowledged_bytes;
    return;
  }
  flow.timed_bytes = 0;
  const uint8_t credit = flow.pipe.block_credit.load(std::memory_order_relaxed);
  const bool spent = flow.block_bytes >= credit * kBigBlockBytes / 2;
  const bool is_long = now_ - flow.timed_since >= kLongRoundTrip;
  if (!spent || credit >= (is_long ? kBlockCreditMax : kBlockCreditNear)) return;
  flow.pipe.block_credit.store(credit * 2, std::memory_order_relaxed);
}

void TcpFlows::ReturnBlock(Flow& flow, Block* block) { acknowledged_.emplace_back(&flow, block); }

// lwIP is fed late: it gets only what may leave now. So nothing waits inside lwIP
// but for a timeout, nothing needs splitting when the window is small, and a
// segment is as large as it can be.
void TcpFlows::Feed(Flow& flow) {
  if (flow.state != FlowState::kOpen || !flow.pcb.alive()) return;
  // What the link refused before goes first: there is no room behind it.
  if (!batch_.link_full()) engine_.Output(flow.pcb);
  while (flow.pcb.alive() && flow.unwritten != nullptr) {
    Block* block = flow.unwritten;
    const uint32_t rest = block->length - flow.unwritten_offset;
    const uint32_t room = engine_.SendRoom(flow.pcb, rest);
    if (room == 0) break;
    const uint32_t bytes = std::min(room, rest);
    const bool last = bytes == rest && block->next == nullptr;
    const bool fin = last && flow.host_eof && !flow.fin_to_guest && !flow.host_reset;
    const Behind behind = fin ? Behind::kFin : last ? Behind::kNothing : Behind::kMore;
    if (!engine_.Write(flow.pcb, {block->data + flow.unwritten_offset, bytes}, behind)) break;
    flow.fin_to_guest |= fin;
    flow.unwritten_offset += bytes;
    flow.in_flight_bytes += bytes;
    if (flow.timed_bytes == 0) {
      flow.timed_bytes = flow.in_flight_bytes;
      flow.timed_since = now_;
    }
    if (bytes == rest) {
      flow.unwritten = block->next;
      flow.unwritten_offset = 0;
    }
  }
  if (flow.host_eof && !flow.fin_to_guest && !flow.host_reset && flow.unwritten == nullptr) {
    flow.fin_to_guest = true;
    engine_.ShutdownWrite(flow.pcb);
  }
}

void TcpFlows::EndIfOver(Flow& flow) {
  if (flow.state == FlowState::kClosing || flow.state == FlowState::kDialing) return;
  if (flow.host_reset && flow.pcb.alive()) {
    // What the host's peer sent before its reset has left as far as the window let
    // it; the reset follows in order. It is said once, so the link has to take it: if
    // it is full, the flow is served again when it is not.
    if (!batch_.HasRoomForHeader()) return;
    engine_.Abort(flow.pcb);
    counters_.resets_to_guest.Add(1);
    counters_.flows_reset_by_host.Add(1);
    return Close(flow, FlowEnd::kResetByHost, true);
  }
  switch (flow.pcb.end) {
    case PcbEnd::kNone:
      return;
    case PcbEnd::kReset:
      if (flow.port != nullptr && flow.state == FlowState::kHandshake) {
        counters_.inbound_refused.Add(1);
        return Close(flow, FlowEnd::kRefused, true);
      }
      counters_.flows_reset_by_guest.Add(1);
      return Close(flow, FlowEnd::kResetByGuest, true);
    case PcbEnd::kFailed:
      counters_.flows_out_of_memory.Add(1);
      return Close(flow, FlowEnd::kOutOfMemory, true);
    case PcbEnd::kTimeWait:
      time_wait_.Add(flow.tuple, flow.pcb.time_wait(), now_);
      [[fallthrough]];
    case PcbEnd::kClosed:
      if (flow.answering) return Close(flow, FlowEnd::kDenied, true);
      // The last bytes may still wait for their name to be known.
      if (flow.pending_head != nullptr || !flow.fin_to_relay) {
        flow.pcb.end = PcbEnd::kClosed;
        return;
      }
      counters_.flows_closed.Add(1);
      return Close(flow, FlowEnd::kClosed, false);
  }
}

void TcpFlows::UpdateTicking(Flow& flow) {
  const bool needed = flow.pcb.NeedsTick();
  if (needed == flow.ticking) return;
  flow.ticking = needed;
  if (needed) {
    if (ticking_.empty()) next_tick_ = now_ + kTick;
    flow.tick_slot = static_cast<uint32_t>(ticking_.size());
    ticking_.push_back(&flow.pcb);
    ticking_flows_.push_back(&flow);
    return;
  }
  const uint32_t slot = flow.tick_slot;
  ticking_[slot] = ticking_.back();
  ticking_flows_[slot] = ticking_flows_.back();
  ticking_flows_[slot]->tick_slot = slot;
  ticking_.pop_back();
  ticking_flows_.pop_back();
  if (ticking_.empty()) next_tick_ = kNever;
}

void TcpFlows::RingRelays() {
  for (size_t i = 0; i < relays_.size(); ++i) {
    if (!relay_to_ring_[i]) continue;
    relay_to_ring_[i] = false;
    if (relays_[i]->doorbell().RingIfArmed()) counters_.wakes_to_relay.Add(1);
  }
}

void TcpFlows::SetState(Flow& flow, FlowState state) {
  static constexpr auto kAllowed = [](FlowState from, FlowState to) {
    switch (from) {
      case FlowState::kFree:
        return to == FlowState::kDialing || to == FlowState::kHandshake;
      case FlowState::kDialing:
        return to == FlowState::kHandshake || to == FlowState::kClosing;
      case FlowState::kHandshake:
        return to == FlowState::kOpen || to == FlowState::kClosing;
      case FlowState::kOpen:
        return to == FlowState::kClosing;
      case FlowState::kClosing:
        return to == FlowState::kFree;
    }
    return false;
  };
  PENSTOCK_CHECK(kAllowed(flow.state, state));
  const auto count = [this](FlowState which) -> uint32_t* {
    switch (which) {
      case FlowState::kFree:
        return nullptr;
      case FlowState::kDialing:
        return &dialing_;
      case FlowState::kHandshake:
        return &handshake_;
      case FlowState::kOpen:
        return &open_;
      case FlowState::kClosing:
        return &closing_count_;
    }
    return nullptr;
  };
  const auto half_open = [](FlowState which) {
    return which == FlowState::kDialing || which == FlowState::kHandshake;
  };
  if (half_open(state) != half_open(flow.state)) CountHalfOpen(flow, half_open(state) ? 1 : -1);
  if (uint32_t* counter = count(flow.state)) --*counter;
  if (uint32_t* counter = count(state)) ++*counter;
  flow.state = state;
  counters_.flows_dialing.Set(dialing_);
  counters_.flows_handshake.Set(handshake_);
  counters_.flows_open.Set(open_);
  counters_.flows_closing.Set(closing_count_);
}

// ---------------------------------------------------------------- segments to the guest

namespace {

uint16_t TcpChecksum(const SegmentToGuest& segment, uint16_t pseudo_header_sum) {
  uint64_t sum = ChecksumAdd(segment.header, pseudo_header_sum);
  bool odd = false;
  // A part that starts at an odd offset counts byte-swapped.
  const auto add = [&](std::span<const uint8_t> part) {
    const auto folded = static_cast<uint16_t>(~ChecksumFinish(ChecksumAdd(part, 0)));
    sum += odd ? static_cast<uint16_t>(folded << 8 | folded >> 8) : folded;
    odd ^= (part.size() & 1) != 0;
  };
  add(segment.own_payload);
  for (const iovec& part : segment.payload) {
    add({static_cast<const uint8_t*>(part.iov_base), part.iov_len});
  }
  return ChecksumFinish(sum);
}

}  // namespace

bool TcpFlows::SendSegment(const SegmentToGuest& segment) noexcept {
  const IpAddress& guest = segment.tuple.guest.address;
  if (link_.ethernet && link_.guest_mac == MacAddress{}) {
    // Only a published port speaks before the guest does. OnGuestKnown sends it again.
    Solicit(guest);
    return true;
  }
  const Family family = guest.family;
  std::array<uint8_t, kEthernetHeaderBytes + 40 + 60> header;
  size_t used = EmitEthernet(link_, family, header);
  const auto tcp_bytes = static_cast<uint32_t>(segment.header.size()) + segment.payload_bytes;
  const size_t transport = used + EmitIpHeader({.source = segment.tuple.destination.address,
                                                .destination = guest,
                                                .protocol = 6,
                                                .identification = ip_identification_++,
                                                .payload_bytes = tcp_bytes},
                                               std::span(header).subspan(used));
  std::memcpy(header.data() + transport, segment.header.data(), segment.header.size());
  used = transport + segment.header.size();
  const uint16_t pseudo = PseudoHeaderSum(segment.tuple.destination.address, guest, 6, tcp_bytes);
  constexpr size_t kChecksumOffset = 16;  // RFC 9293 3.1
  uint8_t* checksum = header.data() + transport + kChecksumOffset;
  Offload offload{.checksum = ChecksumState::kComplete};
  uint16_t value;
  if (capabilities_.partial_checksum_to_guest) {
    value = pseudo;
    offload.checksum = ChecksumState::kPartial;
    offload.checksum_start = static_cast<uint16_t>(transport);
    offload.checksum_offset = kChecksumOffset;
  } else {
    value = TcpChecksum(segment, pseudo);
  }
  checksum[0] = static_cast<uint8_t>(value >> 8);
  checksum[1] = static_cast<uint8_t>(value);
  // Where the link does not segment, a larger one was made before the path was known to carry
  // less, and is still to be cut: it goes as it was.
  const bool cuts =
      family == Family::kIpv4 ? capabilities_.tcp4_gso_to_guest : capabilities_.tcp6_gso_to_guest;
  if (cuts && segment.payload_bytes > segment.negotiated_mss) {
    offload.gso = family == Family::kIpv4 ? Gso::kTcp4 : Gso::kTcp6;
    offload.segment_bytes = static_cast<uint16_t>(segment.negotiated_mss);
    offload.header_bytes = static_cast<uint16_t>(used);
  }
  const auto headers = std::span(header).first(used);
  if (batch_.Append(headers, segment.own_payload, segment.payload, offload)) return true;
  constexpr size_t kFlagsOffset = 13;
  return (segment.header[kFlagsOffset] & kTcpRst) != 0 && HoldReset(headers, offload);
}

// Whoever is reset has no connection left that could say so again: a guest that only reads
// would wait for ever.
bool TcpFlows::HoldReset(std::span<const uint8_t> headers, const Offload& offload) noexcept {
  if (held_resets_.size() >= config_.flow_count_max) return false;
  OrEndWithoutMemory([&] {
    held_resets_.push_back({.headers = {headers.begin(), headers.end()}, .offload = offload});
  });
  return true;
}

void TcpFlows::SendHeldResets() {
  size_t sent = 0;
  for (const HeldReset& held : held_resets_) {
    if (!batch_.Append(held.headers, {}, {}, held.offload)) break;
    ++sent;
  }
  held_resets_.erase(held_resets_.begin(), held_resets_.begin() + static_cast<ptrdiff_t>(sent));
}

}  // namespace penstock
