// All TCP flows of one stack: the way of every segment, byte, FIN and reset between
// the guest's TCP (lwIP, stack/tcpip) and host sockets (relay).
//
// A pass calls, in this order: BeginPass, TakeFromRelays, Segment for each frame,
// RunTimers, PassOn, RingRelays, TakeFromRelays, ServeReady, then the batch's Flush,
// AfterFlush, RingRelays. Segments
// and messages only record and put their flow on the ready list; Serve does the work
// of one flow, in one place, for whatever reason the flow became ready:
//
//   relay's messages → (a look at the guest's first bytes) → received bytes to the relay →
//   acknowledged blocks back → blocks to lwIP as far as the guest's window lets them leave →
//   FIN → ACK → end
//
// Work is in proportion to the flows that are ready. Poll thread only.
//
// tcp_flows.cc serves open flows, tcp_open.cc begins and refuses those of the guest,
// tcp_inbound.cc those of published ports, tcp_look.cc denies those whose first bytes show
// the wrong name, tcp_acknowledge.cc decides when the guest's bytes are acknowledged, tcp_end.cc
// lets go of them, tcp_timers.cc does what time alone causes.
#ifndef PENSTOCK_STACK_FLOW_TCP_FLOWS_H_
#define PENSTOCK_STACK_FLOW_TCP_FLOWS_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "relay/relay.h"
#include "relay/stream_pair.h"
#include "stack/config.h"
#include "stack/counters.h"
#include "stack/flow/deadlines.h"
#include "stack/flow/flow.h"
#include "stack/flow/flow_table.h"
#include "stack/flow/frame_batch.h"
#include "stack/flow/gate.h"
#include "stack/flow/local_ports.h"
#include "stack/policy/shown_name.h"
#include "stack/stack.h"
#include "stack/tcpip/engine.h"
#include "stack/tcpip/guest_buffer.h"
#include "stack/wire/emit.h"
#include "stack/wire/icmp.h"
#include "stack/wire/packet.h"

namespace penstock {

class TcpFlows final : private SegmentSink {
 public:
  // `link` may learn the guest's MAC later. `slot_bytes`: of the receive slots and the
  // fragments for which the caller takes from buffers(), beside what flows hold. All
  // references outlive this.
  TcpFlows(const Config& config, const LinkCapabilities& capabilities, const LinkAddresses& link,
           FrameBatch& batch, Counters& counters, Gate& gate, std::vector<Relay*> relays,
           uint64_t slot_bytes);
  ~TcpFlows();

  // Connections to what `ports` serves end there, by pairs that `make_pair` makes. Outlives
  // the flows; before the first pass.
  void SetLocalPorts(LocalPorts& ports, StreamPairMaker make_pair) {
    local_ports_ = &ports;
    make_pair_ = make_pair;
  }

  void BeginPass(Time now);
  void TakeFromRelays();
  // A TCP packet. True: `slot`, which it lies in, was kept and needs replacement.
  [[nodiscard]] bool Segment(Packet& packet, GuestBuffer& slot);
  // A guest that was silent for a second or more is heard again.
  void OnGuestAwake();
  // The guest's MAC address is known now: what was sent before never reached it.
  void OnGuestKnown();
  // Asks for the guest's MAC address, at most every 100 ms.
  void Solicit(const IpAddress& guest);
  // True if the report was about a live flow of ours and plausible.
  bool OnPathMtu(const PathMtuReport& report);
  // True if it was about a connection to the guest that is being opened.
  bool OnUnreachable(const QuotedSegment& quoted);
  void RunTimers();
  // What ready flows received goes to their relays; all else is left to ServeReady.
  void PassOn();
  // Serves at most `flows_max`; false if more are ready.
  [[nodiscard]] bool ServeReady(size_t flows_max);
  // With an empty batch: gives acknowledged blocks back and ends flows.
  void AfterFlush();
  // The link takes frames again.
  void OnLinkWritable();
  void RingRelays();
  // From now on, the acknowledgement of bytes may wait until the host's answer takes it along:
  // for a caller that looks for that answer now, and does not go to sleep without
  // ReleaseAcknowledgements. A pass releases what has waited for kAcknowledgementWait.
  void HoldAcknowledgements(bool may_wait) { acknowledgements_may_wait_ = may_wait; }
  // Those that wait since `since` or longer. True: there are some, and the next pass sends them.
  [[nodiscard]] bool ReleaseAcknowledgements(Time since = kNever);
  // About what a program on the host takes to answer at once.
  static constexpr Duration kAcknowledgementWait = std::chrono::microseconds(100);
  [[nodiscard]] Time NextDeadline();
  // Something waits that needs no event from outside.
  [[nodiscard]] bool HasWork() const;

  // Resets the flows of a published port that was removed, and those that come yet.
  void Cut(PortGauge& port);
  // Resets the flows that the policies deny now.
  void CutDenied();

  // After the relays were shut down: every flow and buffer is let go.
  void Shutdown();

  [[nodiscard]] GuestBufferPool& buffers() { return buffers_; }
  // A row for each live flow; for each of the last ended ones.
  void AddLiveTo(std::vector<FlowInfo>& rows) const;
  void AddClosedTo(std::vector<FlowInfo>& rows) const;

 private:
  friend class FlowAudit;  // tests/world: looks at everything between two steps
  // tcp_flows.cc
  bool SendSegment(const SegmentToGuest& segment) noexcept override;
  // A reset that the link has no room for leaves before anything else once it has.
  [[nodiscard]] bool HoldReset(std::span<const uint8_t> headers, const Offload& offload) noexcept;
  void SendHeldResets();
  void SetState(Flow& flow, FlowState state);
  void MakeReady(Flow& flow);
  void Serve(Flow& flow);
  // tcp_acknowledge.cc
  void Acknowledge(Flow& flow);
  // tcp_flows.cc
  void TakeWords(Flow& flow);
  void TakeBlocks(Flow& flow);
  void TakeBackChunks(Flow& flow);
  void PassToRelay(Flow& flow);
  void ReleaseAcknowledged(Flow& flow);
  void GrowCredit(Flow& flow, uint32_t acknowledged_bytes);
  void Feed(Flow& flow);
  void NoteRecord(Flow& flow);
  void GrowWindow(Flow& flow);
  void EndIfOver(Flow& flow);
  void UpdateTicking(Flow& flow);
  void ReturnBlock(Flow& flow, Block* block);
  // The pipe has something for the relay.
  void TellRelay(Flow& flow);

  // tcp_look.cc
  // Decides about a flow whose guest's first bytes are held back, if they say enough or
  // `last` (nothing more will be waited for).
  void Look(Flow& flow, bool last);
  void OnLooked(Flow& flow, const ShownName& shown);
  // Who is denied there hears it by a page, if it speaks HTTP.
  [[nodiscard]] bool GetsPage(const Endpoint& destination) const;
  // The guest gets a page; false: there is no room for it.
  [[nodiscard]] bool AnswerWithPage(Flow& flow);
  void DiscardPending(Flow& flow);
  [[nodiscard]] static GateQuestion QuestionOf(const Flow& flow);

  // tcp_end.cc
  // Ends the flow: `abort` resets the host socket. The PCB must be gone.
  void Close(Flow& flow, FlowEnd end, bool abort);
  void Free(Flow& flow);
  void DropChunks(Flow& flow);

  // tcp_inbound.cc
  void OpenInbound(std::unique_ptr<Inbound> inbound);
  [[nodiscard]] bool MayOpenInbound(const Inbound& inbound);
  [[nodiscard]] std::optional<TcpTuple> ChooseTuple(const Inbound& inbound);
  void OnGuestAnswered(PortGauge& port);

  // tcp_open.cc
  // A free slot under `tuple`, as new; nullptr at the limit.
  [[nodiscard]] Flow* NewFlow(const TcpTuple& tuple);
  void BeginRelay(Flow& flow, std::unique_ptr<OpenRequest> request);
  // A segment of a live flow; true as Segment().
  [[nodiscard]] bool FeedSegment(Flow& flow, Packet& packet, GuestBuffer& slot);
  void OpenFlow(Packet& packet, const TcpTuple& tuple, std::optional<uint32_t> isn_after);
  // The policy denies a SYN.
  void Deny(const Packet& packet);
  enum class Refusal : uint8_t { kNone, kReset, kHostUnreachable };
  void Refuse(const Packet& packet, Refusal refusal);
  [[nodiscard]] Refusal Resolve(const Endpoint& destination, OpenRequest& request) const;
  // Instead, for a port of the stack's own: `own_end` is for whoever serves it.
  [[nodiscard]] Refusal JoinLocal(OpenRequest& request, std::unique_ptr<AcceptedSocket>& own_end);
  // Served by the stack itself, which decides for itself: no policy is asked.
  [[nodiscard]] bool IsLocal(const Endpoint& destination) const {
    return local_ports_ != nullptr && local_ports_->Serves(destination);
  }
  [[nodiscard]] bool HalfOpenLimitReached(const Packet& packet);
  void CountHalfOpen(const Flow& flow, int change);
  void OnConnected(Flow& flow);
  void OnDialFailed(Flow& flow, int error);
  void AnswerWithoutFlow(const Packet& packet, const TcpTuple& tuple);
  void AnswerTimeWait(const Packet& packet, const TcpTuple& tuple, const TimeWaitState& state);
  void SendReset(const Packet& packet);
  void SendResetForSyn(const Flow& flow);
  void SendUnreachable(FaultKind kind, std::span<const uint8_t> quote);
  void SendControl(const TcpControl& segment);
  [[nodiscard]] uint32_t MssFor(const IpAddress& guest, std::optional<uint16_t> offered) const;
  [[nodiscard]] uint32_t InitialWindow() const;

  // tcp_timers.cc
  // How long, from its first byte on, a guest may take to show a name.
  // Longer than a local guest takes, busy as it may be.
  static constexpr Duration kLongRoundTrip = std::chrono::milliseconds(5);
  static constexpr Duration kLookTimeout = std::chrono::seconds(5);
  // It has begun to show one, or has to.
  [[nodiscard]] static bool IsWaitedFor(const Flow& flow) {
    return flow.looking && (flow.denied || flow.pending_bytes > 0);
  }
  void SetDeadline(Flow& flow);
  [[nodiscard]] bool NoteWaiting(Flow& flow);
  void OnDeadline(Flow& flow);
  void RunTick();
  void Reset(Flow& flow, FlowEnd end);

  const Config& config_;
  const LinkCapabilities& capabilities_;
  const LinkAddresses& link_;
  FrameBatch& batch_;
  Counters& counters_;
  Gate& gate_;
  const std::vector<Relay*> relays_;
  std::vector<bool> relay_to_ring_;
  LocalPorts* local_ports_ = nullptr;
  StreamPairMaker make_pair_ = &MakeStreamPair;
  GuestBufferPool buffers_;
  Engine engine_;
  FlowTable table_;
  TimeWaitTable time_wait_;
  Deadlines<Flow> deadlines_;
  Time now_{};

  std::vector<Flow*> ready_, serving_;
  std::vector<Flow*> blocked_by_link_;
  std::vector<Flow*> holding_;  // acknowledgements that wait, none longer than since
  Time holding_since_{};
  bool acknowledgements_may_wait_ = false;
  std::vector<Pcb*> ticking_;  // with their flows in ticking_flows_, same index
  std::vector<Flow*> ticking_flows_;
  Time next_tick_ = kNever;

  // Blocks acknowledged and flows closed while frames wait in the batch.
  std::vector<std::pair<Flow*, Block*>> acknowledged_;
  std::vector<Flow*> closing_;

  absl::flat_hash_map<IpAddress, uint32_t, AddressHash> half_open_by_destination_;
  uint32_t half_open_ = 0;          // opened by the guest
  uint32_t inbound_half_open_ = 0;  // of published ports
  uint16_t next_port_;              // to be tried for the gateway's end of an inbound flow
  Time next_solicitation_{};
  uint32_t dialing_ = 0, handshake_ = 0, open_ = 0, closing_count_ = 0;
  uint64_t windows_bytes_ = 0;   // sum of the flows' windows: promised to guests
  uint64_t to_guest_bytes_ = 0;  // held
  uint64_t to_host_bytes_ = 0;
  uint16_t ip_identification_ = 0;

  struct HeldReset {
    std::vector<uint8_t> headers;
    Offload offload;
  };
  std::vector<HeldReset> held_resets_;  // at most `flow_count_max`

  std::vector<uint8_t> first_bytes_;  // of the flow that is looked at

  static constexpr size_t kClosedMax = 64;
  std::vector<FlowInfo> closed_;  // the last ones, a ring
  size_t closed_next_ = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_FLOW_TCP_FLOWS_H_
