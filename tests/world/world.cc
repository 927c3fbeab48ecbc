#include "tests/world/world.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/world/frame_text.h"
#include "tests/world/violation.h"

namespace penstock::world {
namespace {

using std::chrono::milliseconds;

constexpr uint64_t kStepsMax = 20'000'000;
// On a good link everything must be done in twice the time that it takes, and this.
constexpr Duration kGrace = std::chrono::seconds(60);
// Longer than any mapping outlives its last datagram.
constexpr Duration kMappingsEnd = std::chrono::minutes(10);
// A bad one costs retransmissions, and keepalives if the last word was lost.
constexpr Duration kBadLinkGrace = std::chrono::hours(2);
// A guest that reads nothing, or is paused, does so for 100 s each.
constexpr Duration kStallsMax = std::chrono::minutes(5);

// nullptr: there is none.
std::shared_ptr<const Policy> PolicyOf(const Scenario& scenario, bool second) {
  const std::string text = PolicyText(scenario, second);
  return text.empty() ? nullptr : *Policy::Parse(text);
}

Config ConfigOf(const Scenario& scenario) {
  Config config;
  config.mtu = static_cast<uint32_t>(scenario.mtu);
  if (scenario.mac_unknown == 0) config.guest_mac = GuestTcpOptions{}.mac;
  config.buffer_bytes_max = static_cast<uint64_t>(scenario.buffer_kib) << 10;
  config.flow_count_max = static_cast<uint32_t>(std::max<int64_t>(scenario.flow_max, 1));
  config.half_open_count_max =
      static_cast<uint32_t>(std::clamp<int64_t>(scenario.half_open_max, 1, config.flow_count_max));
  config.half_open_per_destination_max =
      std::min(config.half_open_per_destination_max, config.half_open_count_max);
  // Nothing of this machine's gets in, and nobody asks it: DnsTalk plays the service.
  config.dns.upstreams = {{IpAddress::V4(203, 0, 113, 53), 53}};
  // Soon enough that a run ends in which the guest's last word was lost.
  config.keepalive_idle = std::chrono::minutes(10);
  config.keepalive_interval = std::chrono::seconds(10);
  config.udp_peer_count_max = static_cast<uint32_t>(std::max<int64_t>(scenario.udp_peer_max, 1));
  config.udp_peer_timeout = milliseconds(std::max<int64_t>(scenario.udp_timeout_ms, 1));
  config.host_loopback = scenario.guest_asks > 0;
  config.udp_mapping_count_max =
      static_cast<uint32_t>(std::max<int64_t>(scenario.guest_mapping_max, 1));
  config.echo_count_max = std::min(config.echo_count_max, config.udp_mapping_count_max);
  config.udp_filtering = static_cast<UdpFiltering>(scenario.guest_filtering);
  config.udp_timeout = milliseconds(std::max<int64_t>(scenario.guest_timeout_ms, 1));
  config.udp_answered_timeout = 2 * config.udp_timeout;
  config.udp_name_timeout = config.udp_timeout / 2 + milliseconds(1);
  config.echo_timeout = config.udp_timeout;
  config.tenant_policy = PolicyOf(scenario, false);
  config.denial_answer = static_cast<DenialAnswer>(scenario.denial_answer);
  config.event_count_max = static_cast<uint32_t>(scenario.event_max);
  return config;
}

// lwIP's, in SYN_RCVD.
constexpr int64_t kGuestHandshakeMs = 20'000;

bool Denies(const Scenario& scenario, const IngressRequest& request) {
  const size_t index = request.guest_port - size_t{kFirstPort};
  return index < scenario.flows.size() && scenario.flows[index].answer == kDeniedByHook;
}

// 0 for what is not TCP.
uint16_t TcpDestinationPort(std::span<const uint8_t> frame) {
  constexpr size_t kIpAt = 14, kIpv4Bytes = 20, kIpv6Bytes = 40;
  if (frame.size() < kIpAt + kIpv6Bytes) return 0;
  const bool v4 = frame[12] == 8;
  if (frame[v4 ? kIpAt + 9 : kIpAt + 6] != 6) return 0;
  const size_t at = kIpAt + (v4 ? kIpv4Bytes : kIpv6Bytes) + 2;
  return at + 2 <= frame.size() ? static_cast<uint16_t>(frame[at] << 8 | frame[at + 1]) : 0;
}

bool Lossy(const Scenario& scenario) {
  return scenario.drop > 0 || scenario.segment_drop > 0 || scenario.corrupt > 0;
}

}  // namespace

World::World(const Scenario& scenario, Trace* trace, PcapngWriter* capture)
    : scenario_(scenario), trace_(trace), capture_(capture), dice_(scenario.seed ^ 0x776f726c64) {
  Config config = ConfigOf(scenario_);
  config.ingress_hook = [this](const IngressRequest& request) {
    return !Denies(scenario_, request);
  };
  auto link = std::make_unique<WorldLink>(scenario_);
  link_ = link.get();
  stack_ = std::make_unique<SteppedStack>(static_cast<SteppedStack::Form>(scenario_.form), config,
                                          std::move(link), scenario_.seed);
  GuestTcpOptions options = GuestOptionsFor(config);
  options.receive_buffer = static_cast<uint32_t>(scenario_.guest_window_kib) << 10;
  options.seed = scenario_.seed;
  options.send = [this](std::span<const uint8_t> frame) {
    if (strays_ != nullptr) strays_->Observe(frame);
    link_->PushToHost(frame);
  };
  guest_ = std::make_unique<GuestTcp>(std::move(options));
  if (scenario_.strays > 0) {
    strays_ = std::make_unique<Strays>(config, GuestTcpOptions{}.mac, scenario_.seed,
                                       scenario_.stray_fragments);
  }
  for (size_t i = 0; i < scenario_.flows.size(); ++i) {
    flows_.push_back(std::make_unique<WorldFlow>(scenario_, i, timeline_, *guest_, stack_->host(),
                                                 [this](const std::string& what) {
                                                   if (trace_ != nullptr)
                                                     trace_->Note(timeline_.seconds(), what);
                                                 }));
  }
  Wire();
  Publish();
  BeginTalks();
}

void World::BeginTalks() {
  const auto note = [this](const std::string& what) {
    if (trace_ != nullptr) trace_->Note(timeline_.seconds(), what);
  };
  if (scenario_.dns_clients > 0) {
    dns_ = std::make_unique<DnsTalk>(scenario_, ConfigOf(scenario_), timeline_, *stack_, *guest_,
                                     note);
  }
  if (scenario_.guest_asks > 0) {
    guest_talk_ = std::make_unique<GuestTalk>(
        scenario_, timeline_, *stack_,
        GuestTalkEnds{
            .send = [this](std::span<const uint8_t> frame,
                           const Offload& offload) { link_->PushToHost(frame, offload); },
            .guest_paused = [this] { return guest_paused_; },
            .forgets = [this] { return stack_->stack().Snapshot().conversations_evicted > 0; }});
  }
  if (scenario_.udp_ports > 0) {
    udp_ = std::make_unique<UdpTalk>(
        scenario_, timeline_, *stack_,
        UdpTalkEnds{.send = [this](std::span<const uint8_t> frame) { link_->PushToHost(frame); },
                    .guest_paused = [this] { return guest_paused_; },
                    .note = note});
  }
}

World::~World() = default;

void World::Wire() {
  link_->deliver = [this](std::span<const uint8_t> frame) {
    to_guest_.emplace_back(frame.begin(), frame.end());
  };
  if (scenario_.mid_pass > 0 && stack_->form() == SteppedStack::Form::kRelayThread) {
    link_->in_pass = [this] {
      while (dice_.PerMille(scenario_.mid_pass) && stack_->RunRelay(timeline_.now())) continue;
    };
  }
  link_->on_refusal = [this] {
    timeline_.In(std::chrono::microseconds(dice_.From(0, 5000)), [this] {
      link_->TakeAgain();
      stack_->OnLink();
    });
  };
  if (Prompt()) repeats_.emplace();
  if (trace_ != nullptr || capture_ != nullptr || repeats_) {
    link_->on_frame = [this](const char* direction, const WireFrame& frame) {
      OnFrame(direction, frame);
    };
  }
  stack_->host().on_open = [this](const SocketRequest& request) {
    WorldFlow* flow = FlowTo(Direction::kEgress, {}, request.destination);
    return flow != nullptr ? flow->OnOpen() : 0;
  };
  stack_->host().on_dial = [this](HostPeer& peer) { OnDial(peer); };
  stack_->host().on_accept = [this](const Endpoint& bound) { return OnAccept(bound); };
  stack_->host().after = [this](Duration duration, std::function<void()> event) {
    timeline_.In(duration, std::move(event));
  };
  if (scenario_.pause_ms > 0) {
    timeline_.In(milliseconds(scenario_.pause_at_ms), [this] { Pause(); });
  }
  if (scenario_.jump_ms > 0) {
    timeline_.In(milliseconds(scenario_.jump_at_ms), [this] { Jump(); });
  }
  for (int64_t i = 1; i <= scenario_.strays; ++i) {
    timeline_.In(std::chrono::microseconds(scenario_.stray_gap_us * i),
                 [this] { link_->PushToHost(strays_->Next()); });
  }
  if (scenario_.policy_at_ms > 0) {
    timeline_.In(milliseconds(scenario_.policy_at_ms), [this] { ReplacePolicy(); });
  }
  if (scenario_.cut_at_ms > 0) {
    timeline_.In(milliseconds(scenario_.cut_at_ms), [this] { cut_ = true; });
  }
}

void World::Publish() {
  std::vector<uint32_t> ids;
  for (const auto& flow : flows_) {
    if (!flow->inbound()) continue;
    const auto rows = stack_->stack().Publish(flow->Spec());
    if (!rows.ok()) Fail(rows.status().ToString());
    flow->OnPublished(rows->front().bound);
    ids.push_back(rows->front().id);
  }
  if (scenario_.unpublish_at_ms == 0 || ids.empty()) return;
  timeline_.In(milliseconds(scenario_.unpublish_at_ms), [this, ids] {
    const LiveFlows live = scenario_.unpublish_reset != 0 ? LiveFlows::kReset : LiveFlows::kKeep;
    if (trace_ != nullptr) trace_->Note(timeline_.seconds(), "the published ports are removed");
    const absl::Status removed = stack_->stack().Unpublish(ids, live);
    if (!removed.ok()) Fail(removed.ToString());
    unpublished_ = true;
  });
}

WorldFlow* World::FlowTo(Direction direction, const Endpoint& guest, const Endpoint& peer) {
  const bool inbound = direction == Direction::kIngress;
  for (const auto& flow : flows_) {
    if (flow->inbound() != inbound) continue;
    const Endpoint& leads_to = flow->destination();
    // Whose guest is given, for those that share a destination.
    const bool of_guest = guest == Endpoint{} || flow->source_port() == guest.port;
    if (inbound ? leads_to.port == guest.port : leads_to == peer && of_guest) return flow.get();
  }
  return nullptr;
}

// Whatever the second policy denies is over when it is there.
void World::ReplacePolicy() {
  if (trace_ != nullptr) trace_->Note(timeline_.seconds(), "another policy");
  Stack& stack = stack_->stack();
  const auto flow_of = [this](const FlowInfo& row) {
    const bool inbound = row.client.has_value();
    return FlowTo(inbound ? Direction::kIngress : Direction::kEgress, row.guest, row.destination);
  };
  const auto denied = [&](const FlowInfo& row) {
    const WorldFlow* flow = flow_of(row);
    return row.protocol == PolicyProtocol::kTcp && row.state != "closed" && flow != nullptr &&
           flow->deny_later();
  };
  std::vector<FlowInfo> before = stack.Flows();
  std::erase_if(before, [&](const FlowInfo& row) { return !denied(row); });
  const CounterSnapshot counted = stack.Snapshot();
  stack.SetPolicy(PolicyLayer::kTenant, PolicyOf(scenario_, true), LiveFlows::kReset);
  second_policy_at_ = timeline_.now();
  const std::vector<FlowInfo> after = stack.Flows();
  uint64_t cut = 0;
  for (const FlowInfo& row : after) {
    // Who reads a page has been denied already.
    if (denied(row) && !flow_of(row)->MayReadPage()) Fail("a flow lives on that the policy denies");
  }
  for (const FlowInfo& row : before) {
    const auto same = std::find_if(after.begin(), after.end(), [&](const FlowInfo& other) {
      return other.guest == row.guest && other.destination == row.destination;
    });
    if (same == after.end() || same->state != "closed" || same->end != "denied") continue;
    ++cut;
    flow_of(row)->OnCutByPolicy();
  }
  const CounterSnapshot now = stack.Snapshot();
  const uint64_t cuts = now.flows_cut - counted.flows_cut;
  if (cuts + now.flows_denied - counted.flows_denied < cut || cuts > cut) {
    Fail(absl::StrCat("a policy cut ", cut, " flows, and ", cuts, " were counted"));
  }
}

// What is told is taken after each step.
void World::TakeEvents() {
  for (Event event; stack_->TakeEvent(event);) {
    events_.Take(event);
    if (event.protocol != PolicyProtocol::kTcp) continue;
    WorldFlow* flow = FlowTo(event.direction, event.guest, event.peer);
    if (event.kind == EventKind::kFlowClosed && flow != nullptr) flow->OnClosedEvent(event);
    const bool by_policy = event.layer == EventLayer::kTenant;
    if (event.kind == EventKind::kDenied && by_policy && flow != nullptr && !flow->MayBeDenied()) {
      Fail("an event tells that the policy denied a flow, which no rule does");
    }
  }
}

int World::OnAccept(const Endpoint& bound) {
  for (const auto& flow : flows_) {
    if (flow->inbound() && flow->bound() == bound) return flow->OnAccept();
  }
  return 0;
}

void World::Pause() {
  guest_paused_ = true;
  if (trace_ != nullptr) trace_->Note(timeline_.seconds(), "the guest is paused");
  timeline_.In(milliseconds(scenario_.pause_ms), [this] {
    guest_paused_ = false;
    if (trace_ != nullptr) trace_->Note(timeline_.seconds(), "the guest goes on");
  });
}

void World::Jump() {
  const Duration jump = milliseconds(scenario_.jump_ms);
  const Time before = timeline_.now();
  timeline_.Jump(jump);
  guest_->Sleep(jump);
  if (trace_ != nullptr) trace_->Note(timeline_.seconds(), "the clock has jumped");
  if (udp_ != nullptr) udp_->OnJump(before);
  if (guest_talk_ != nullptr) guest_talk_->OnJump(before);
}

void World::OnFrame(const char* direction, const WireFrame& frame) {
  if (trace_ != nullptr) {
    trace_->Note(timeline_.seconds(),
                 absl::StrCat(direction, "  ", DescribeFrame(frame.bytes, frame.offload)));
  }
  const bool to_host = direction[3] == 'h';
  if (repeats_ && !to_host) repeats_->OnFrameToGuest(timeline_.now(), frame);
  if (capture_ != nullptr) {
    capture_->Write(timeline_.now().time_since_epoch(),
                    to_host ? PcapngWriter::Direction::kToHost : PcapngWriter::Direction::kToGuest,
                    std::span<const uint8_t>(frame.bytes));
  }
}

void World::OnDial(HostPeer& peer) {
  WorldFlow* flow = FlowTo(Direction::kEgress, {}, peer.destination());
  if (flow != nullptr) return flow->OnDial(peer);
  // A stray's. Some connect, and find that nobody completes the handshake.
  dice_.PerMille(500) ? peer.Accept() : peer.Fail(ECONNREFUSED);
}

// ---------------------------------------------------------------- steps

void World::TakeFrame() {
  const std::vector<uint8_t> frame = std::move(to_guest_.front());
  to_guest_.pop_front();
  const bool of_guest = guest_talk_ != nullptr && guest_talk_->OnFrame(frame);
  const bool of_ports = udp_ != nullptr && udp_->OnFrame(frame);
  if (of_guest || of_ports) return;
  const size_t index = TcpDestinationPort(frame) - size_t{kFirstPort};
  const bool swallowed = index < flows_.size() && flows_[index]->inbound() &&
                         scenario_.flows[index].answer == kSilence;
  if (!swallowed) guest_->OnFrame(timeline_.now(), frame);
}

// One of what is possible now; false if nothing is.
bool World::Step() {
  const Time now = timeline_.now();
  if (link_->FramesWait(now)) stack_->OnLink();
  enum Kind : uint8_t { kPass, kFrame, kTimers, kEvent };
  Kind possible[4];
  size_t count = 0;
  if (stack_->PassDue(now)) possible[count++] = kPass;
  if (!guest_paused_ && !to_guest_.empty()) possible[count++] = kFrame;
  if (!guest_paused_ && guest_->deadline() <= now) possible[count++] = kTimers;
  if (timeline_.next() <= now) possible[count++] = kEvent;
  // The relay comes last. Who lags lets another go first, if there is one.
  uint64_t choice = dice_.Below(count + 1);
  if (choice == count && count > 0 && dice_.PerMille(scenario_.relay_lag)) {
    choice = dice_.Below(count);
  }
  if (choice < count && possible[choice] == kPass && count > 1 &&
      dice_.PerMille(scenario_.stack_lag)) {
    choice = 1 + dice_.Below(count - 1);  // a pass is the first of them
  }
  if (choice == count) {
    // If the relay has nothing to do, any other.
    guest_has_run_ = false;
    if (stack_->RunRelay(timeline_.now())) return true;
    if (count == 0) return false;
    choice = dice_.Below(count);
  }
  guest_has_run_ = possible[choice] != kPass;
  switch (possible[choice]) {
    case kPass:
      stack_->RunPass(now);
      return true;
    case kFrame:
      TakeFrame();
      return true;
    case kTimers:
      guest_->RunTimers(now);
      return true;
    case kEvent:
      return timeline_.RunDue();
  }
  return true;
}

void World::TurnFlows() {
  for (const auto& flow : flows_) flow->Turn(!guest_paused_);
  if (dns_ != nullptr) dns_->Turn(!guest_paused_, guest_has_run_);
}

Time World::NextEvent() const {
  const Time guest = guest_paused_ ? kNever : guest_->deadline();
  return std::min({timeline_.next(), stack_->deadline(), guest});
}

bool World::Over() const {
  return std::all_of(flows_.begin(), flows_.end(),
                     [](const auto& flow) { return flow->GuestOver() && flow->HostOver(); }) &&
         (dns_ == nullptr || dns_->Over());
}

bool World::Good() const {
  const bool answered =
      std::all_of(scenario_.flows.begin(), scenario_.flows.end(), [this](const FlowScript& flow) {
        const bool denied = flow.answer == kDeniedByPolicy || flow.deny_later != 0;
        const bool silent = denied && scenario_.denial_answer == 1 && flow.inbound == 0;
        return (flow.answer < 2 || flow.answer == kDeniedByPolicy) && !silent &&
               flow.answer_ms < 30'000;
      });
  return !Lossy(scenario_) && scenario_.reorder == 0 && scenario_.duplicate == 0 &&
         scenario_.strays == 0 && answered && scenario_.pause_ms == 0 && scenario_.jump_ms == 0 &&
         scenario_.flow_max > 100 && scenario_.half_open_max > 100 && scenario_.mac_unknown == 0 &&
         !unpublished_;
}

bool World::Prompt() const {
  return Good() && scenario_.refuse == 0 && scenario_.path_mtu == 0 &&
         scenario_.delay_us + scenario_.jitter_us <= 10'000;
}

Duration World::Limit() const {
  const Duration round_trip =
      2 * std::chrono::microseconds(scenario_.delay_us + scenario_.jitter_us) + milliseconds(10);
  const int64_t window = std::min<int64_t>(scenario_.guest_window_kib << 10, 4096);
  Duration longest = milliseconds(scenario_.pause_at_ms + scenario_.pause_ms);
  for (const auto& flow : flows_) longest = std::max(longest, flow->Estimate(round_trip, window));
  if (udp_ != nullptr) longest = std::max(longest, udp_->Length());
  if (guest_talk_ != nullptr) longest = std::max(longest, guest_talk_->Length());
  if (dns_ != nullptr) longest = std::max(longest, dns_->Length());
  longest = 2 * longest + milliseconds(scenario_.pause_ms) + kGrace;
  return Good() ? longest : 10 * longest + kBadLinkGrace + milliseconds(scenario_.jump_ms);
}

void World::Check(const std::string& wrong) {
  if (!wrong.empty()) Fail(wrong);
}

void World::Loop() {
  const Time end = timeline_.now() + Limit();
  for (; !cut_; ++result_.steps) {
    if (result_.steps > kStepsMax) Fail("it does not come to rest");
    if (Step()) {
      TurnFlows();
      if (stack_->HasRun()) {
        Check(stack_->Audit());
        TakeEvents();
      }
      NextRounds();
      continue;
    }
    Check(stack_->AuditAsleep());
    if (stack_->host().neglects_clients()) Fail("clients wait, and nobody will accept them");
    if (timeline_.next() == kNever && Over() && NothingWaits()) return;
    const Time next = NextEvent();
    // What the guest asked from is forgotten by its own deadlines.
    if (next == kNever || (next > end && next > (Mapped() ? After(end, kMappingsEnd) : end)))
      return;
    timeline_.AdvanceTo(next);
  }
}

bool World::Mapped() const {
  const CounterSnapshot counters = stack_->stack().Snapshot();
  return counters.udp_mappings + counters.echo_mappings > 0;
}

bool World::NothingWaits() const {
  // A datagram that the link holds back is nobody's to wait for; its arrival is checked.
  const bool talks = udp_ != nullptr || guest_talk_ != nullptr;
  if (talks && link_->deadline() != kNever) return false;
  return !Mapped() && (stack_->host().open_sockets() == 0 || stack_->stack().Flows().empty());
}

WorldResult World::Run() {
  try {
    Loop();
    cut_ ? CutShort() : AtEnd();
  } catch (const Violation&) {
    throw;
  } catch (const std::exception& failure) {
    Fail(failure.what());
  }
  result_.virtual_time = timeline_.now() - kBegin;
  return result_;
}

// The stack goes while flows are alive: nothing may be left of them.
void World::CutShort() {
  result_.counters = stack_->stack().Snapshot();
  const auto host = stack_->host().shared_from_this();
  link_->in_pass = [] { throw Violation("a stack that goes speaks to the guest"); };
  stack_.reset();
  if (host->open_sockets() + host->open_guest_sockets() != 0)
    Fail("host sockets are left behind by a stack that is gone");
}

// What a guest owed when it was suspended it may owe for longer than the stack waits.
bool World::GivenUpByAJump(const CounterSnapshot& counters) const {
  return milliseconds(scenario_.jump_ms) + kStallsMax >= Config{}.silent_timeout &&
         counters.flows_silent_timeout + counters.flows_stalled_timeout +
                 (scenario_.pause_ms > 0 ? counters.flows_keepalive_timeout : 0) >
             0;
}

LinkFacts World::Facts() const {
  const CounterSnapshot counters = stack_->stack().Snapshot();
  return {.good = Good(),
          .lossy = Lossy(scenario_),
          .reorders = scenario_.reorder > 0 || scenario_.refuse > 0,
          .limited = counters.drops_of(DropCause::kHalfOpenLimit) +
                         counters.drops_of(DropCause::kHalfOpenDestinationLimit) +
                         counters.drops_of(DropCause::kFlowLimit) >
                     0,
          .handshakes_given_up = counters.flows_handshake_timeout > 0,
          .jump = milliseconds(scenario_.jump_ms),
          .given_up = GivenUpByAJump(counters),
          .paused_long = scenario_.pause_ms >= kGuestHandshakeMs,
          .clients_refused = counters.inbound_refused_limit + counters.inbound_dial_timeout > 0,
          .unpublished = unpublished_,
          .cut = unpublished_ && scenario_.unpublish_reset != 0,
          .second_policy_at = second_policy_at_,
          .events_whole = scenario_.event_max > 0 && counters.events_lost == 0};
}

void World::NextRounds() {
  for (size_t i = 0; i < flows_.size(); ++i) {
    if (!flows_[i]->NextRoundIsDue()) continue;
    if (const std::string wrong = flows_[i]->NextRound(Facts()); !wrong.empty()) {
      Fail(absl::StrCat("flow ", i, ": ", wrong));
    }
  }
}

void World::VerifyTalks(const LinkFacts& facts) const {
  const SimHost::GuestTotals& own = stack_->host().guest_totals();
  const bool lossless = !facts.lossy && !facts.reorders && scenario_.strays == 0 &&
                        scenario_.duplicate == 0 && scenario_.refuse == 0;
  if (guest_talk_ != nullptr) guest_talk_->VerifyEnd(result_.counters, lossless);
  if (udp_ == nullptr) return;
  udp_->VerifyEnd(
      result_.counters,
      {.asks = guest_talk_ != nullptr,
       .to_host = own.udp_sent,
       .to_guest = own.udp_taken + own.echo_taken - result_.counters.echo_replies_to_guest,
       .arrived = guest_talk_ != nullptr ? guest_talk_->answers_arrived() : 0},
      lossless);
}

void World::AtEnd() {
  result_.counters = stack_->stack().Snapshot();
  const LinkFacts facts = Facts();
  for (size_t i = 0; i < flows_.size(); ++i) {
    const WorldFlow& flow = *flows_[i];
    if (!flow.HostOver()) Fail(absl::StrCat("flow ", i, " never ends at the host"));
    if (!flow.GuestOver()) {
      if (flow.MayHang(facts)) continue;
      Fail(absl::StrCat("flow ", i, " never ends at the guest"));
    }
    if (const std::string wrong = flow.Verify(facts); !wrong.empty()) {
      Fail(absl::StrCat("flow ", i, ": ", wrong));
    }
  }
  VerifyTalks(facts);
  if (dns_ != nullptr) dns_->VerifyEnd(result_.counters, facts.good, facts.limited);
  Check(stack_->AuditEnd());
  TakeEvents();
  if (scenario_.event_max > 0) events_.VerifyEnd(result_.counters, scenario_);
  if (!repeats_) return;
  // Healthy traffic needs no timer. (A stock lwIP that has closed says nothing of data and FIN.)
  uint64_t excused = repeats_->soon();
  for (const FlowScript& flow : scenario_.flows) {
    const bool left = flow.guest_end == static_cast<uint64_t>(TalkerScript::End::kLeave);
    const bool hears = flow.host_bytes > 0 || flow.identity == 2 || flow.says != 0;
    if (left && hears) excused += 1 + flow.again;
  }
  if (dns_ != nullptr) excused += dns_->left();
  if (result_.counters.retransmits_by_timer > excused) {
    Fail("nothing was lost or late, and a timer sent it again");
  }
}

void World::Fail(const std::string& what) {
  std::string text =
      absl::StrCat(what, "\nat ", timeline_.seconds(), " s, step ", result_.steps, "; flows:");
  for (const auto& flow : flows_) absl::StrAppend(&text, "\n", flow->Describe());
  if (dns_ != nullptr) text += dns_->Describe();
  if (stack_ != nullptr) {
    absl::StrAppend(&text, "\nthe stack's:");
    for (const FlowInfo& row : stack_->stack().Flows()) {
      absl::StrAppend(&text, "\n  ", row.guest.ToString(), " > ", row.destination.ToString(), " ",
                      row.state, " ", row.end, " ", row.bytes_to_host, " to host, ",
                      row.bytes_to_guest, " to guest");
    }
  }
  if (trace_ != nullptr) trace_->Note(timeline_.seconds(), absl::StrCat("VIOLATION: ", what));
  throw Violation(text);
}

}  // namespace penstock::world
