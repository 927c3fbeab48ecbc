#include "tests/support/scripted_guest.h"

#include <poll.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "tests/support/packet_builder.h"

namespace penstock {
namespace {

constexpr uint32_t kGuestIsn = 0xffff'fe00;
constexpr uint32_t kIsnStep = 64'000;
constexpr uint32_t kIpv4Headers = 40, kIpv6Headers = 60;
// The smallest segment size that the stack agrees to, and what a SYN without the
// option means (RFC 9293 3.7.1).
constexpr uint32_t kSegmentBytesMin = 216;
constexpr uint16_t kIpv4SegmentBytesDefault = 536, kIpv6SegmentBytesDefault = 1220;
constexpr uint32_t kSequenceAheadMax = uint32_t{1} << 30;

// Far beyond what any wait needs, also under a sanitizer on a busy machine.
constexpr auto kRealLimit = std::chrono::seconds(10);
constexpr int kQuietMilliseconds = 100;
// How often a wait looks at the host's sockets, which ring no bell of the stack.
constexpr int kLookMilliseconds = 2;
constexpr int kPassesMax = 100'000;
constexpr size_t kTraceLinesMax = 120;

bool Readable(int descriptor, int milliseconds) {
  pollfd entry{.fd = descriptor, .events = POLLIN, .revents = 0};
  return poll(&entry, 1, milliseconds) > 0;
}

// a < b in sequence space.
bool Before(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) < 0; }

uint8_t WithoutPush(uint8_t flags) { return static_cast<uint8_t>(flags & ~kTcpPsh); }

}  // namespace

LinkCapabilities OffloadingLink() {
  return {.partial_checksum_to_guest = true, .tcp4_gso_to_guest = true, .tcp6_gso_to_guest = true};
}

Config LoopbackConfig() {
  Config config;
  config.host_loopback = true;
  config.follow_host_routes = false;  // whatever machine this is
  return config;
}

// ---------------------------------------------------------------- GuestFlow

GuestFlow::GuestFlow(ScriptedGuest& world, const Endpoint& guest, const Endpoint& destination,
                     uint32_t guest_isn)
    : world_(world), guest_(guest), destination_(destination), guest_isn_(guest_isn) {}

void GuestFlow::Queue(const GuestSend& send) {
  GuestSegment segment{.source = guest_,
                       .destination = destination_,
                       .flags = send.flags,
                       .sequence = send.sequence.value_or(next_),
                       .acknowledgement = send.acknowledgement.value_or(expected_),
                       .window = send.window.value_or(window_),
                       .mss = send.mss,
                       .window_scale = send.window_scale,
                       .sack_permitted = send.sack_permitted,
                       .payload = send.payload};
  if (send.gso_segment_bytes > 0) {
    segment.offload.gso = guest_.address.is_v4() ? Gso::kTcp4 : Gso::kTcp6;
    segment.offload.segment_bytes = send.gso_segment_bytes;
  }
  const bool syn = segment.Has(kTcpSyn);
  if (!segment.Has(kTcpAck)) segment.acknowledgement = 0;
  window_ = segment.window;
  if (syn && !std::exchange(syn_sent_, true)) {
    const bool v4 = guest_.address.is_v4();
    const uint32_t mtu = world_.config().mtu;
    const uint16_t by_default = v4 ? kIpv4SegmentBytesDefault : kIpv6SegmentBytesDefault;
    segment_bytes_max_ = static_cast<uint16_t>(
        std::min(std::max<uint32_t>(send.mss.value_or(by_default), kSegmentBytesMin),
                 mtu - (v4 ? kIpv4Headers : kIpv6Headers)));
    offered_scale_ = send.window_scale.has_value();
    guest_scale_ = send.window_scale.value_or(0);
    scales_ = offered_scale_ && stack_offered_scale_;
  }
  const uint32_t window = uint32_t{segment.window} << (syn || !scales_ ? 0 : guest_scale_);
  const uint32_t edge = segment.acknowledgement + window;
  if (!segment.Has(kTcpRst) && Before(guest_edge_, edge)) guest_edge_ = edge;

  const uint32_t end = segment.sequence + segment.SequenceLength();
  fin_sent_ |= segment.Has(kTcpFin);
  const bool false_syn = syn && next_ > 0;
  if (!false_syn && (!send.sequence || segment.sequence == next_)) next_ = end;
  if (Before(sent_edge_, end)) sent_edge_ = end;
  world_.Log("> host ", *this, segment);
  segment.sequence += guest_isn_;
  if (segment.Has(kTcpAck)) segment.acknowledgement += stack_isn_;
  const EncodedFrame frame = EncodeFrame(world_.macs_, segment);
  if (send.fragment_bytes == 0) return world_.Queue(frame);
  const auto identification = static_cast<uint32_t>(world_.frames_sent_);
  for (Bytes& fragment : CutFrame(frame.bytes, send.fragment_bytes, identification)) {
    world_.Queue({.bytes = std::move(fragment)});
  }
}

void GuestFlow::Send(const GuestSend& segment) {
  Queue(segment);
  world_.Pump();
}

bool GuestFlow::HasSegment() {
  const auto is_window_update = [](const GuestSegment& segment) { return segment.window_update; };
  while (!inbox_.empty() && is_window_update(inbox_.front())) inbox_.pop_front();
  return !inbox_.empty();
}

GuestSegment GuestFlow::PopExpected(uint8_t flags) {
  GuestSegment segment = std::move(inbox_.front());
  inbox_.pop_front();
  if (WithoutPush(segment.flags) != WithoutPush(flags)) {
    world_.Fail("expected " + FlagsText(flags) + ", got " + segment.ToString());
  }
  return segment;
}

GuestSegment GuestFlow::Expect(uint8_t flags) {
  world_.Until(FlagsText(flags), [this] { return HasSegment(); });
  return PopExpected(flags);
}

GuestSegment GuestFlow::ExpectWithin(Duration limit, uint8_t flags) {
  world_.AdvanceUntil(FlagsText(flags), limit, [this] { return HasSegment(); });
  return PopExpected(flags);
}

void GuestFlow::ExpectNothing() {
  world_.Pump();
  if (HasSegment()) world_.Fail("expected silence, got " + inbox_.front().ToString());
}

void GuestFlow::SendSyn(const HandshakeOptions& options) {
  const uint32_t fits = 1500 - (guest_.address.is_v4() ? kIpv4Headers : kIpv6Headers);
  Send({.flags = kTcpSyn,
        .sequence = 0,
        .window = options.window,
        .mss = options.mss.value_or(static_cast<uint16_t>(fits)),
        .window_scale = options.window_scale,
        .sack_permitted = options.sack_permitted});
  next_ = 1;
}

GuestSegment GuestFlow::Handshake(const HandshakeOptions& options) {
  SendSyn(options);
  GuestSegment answer = Expect(kTcpSyn | kTcpAck);
  Send({});
  return answer;
}

void GuestFlow::Answer(const HandshakeOptions& options) {
  const uint32_t fits = 1500 - (guest_.address.is_v4() ? kIpv4Headers : kIpv6Headers);
  Send({.flags = kTcpSyn | kTcpAck,
        .sequence = 0,
        .window = options.window,
        .mss = options.mss.value_or(static_cast<uint16_t>(fits)),
        .window_scale = options.window_scale,
        .sack_permitted = options.sack_permitted});
  next_ = 1;
  Expect(kTcpAck);
}

void GuestFlow::SendAll(std::string_view bytes) {
  while (!bytes.empty()) {
    world_.Until("the window opens", [this] { return window_left() > 0 || reset_; });
    if (reset_) world_.Fail("the flow was reset while the guest was sending");
    const size_t count =
        std::min<size_t>({bytes.size(), window_left(), size_t{segment_bytes_max_}});
    Send({.payload = std::string(bytes.substr(0, count))});
    bytes.remove_prefix(count);
    Forget();
  }
}

void GuestFlow::AcknowledgeWaiting() {
  // An acknowledgement may let more of them come within the same pass.
  while (HasSegment()) {
    Forget();
    if (!reset_) Send({});
  }
}

void GuestFlow::ReceiveTo(size_t count) {
  world_.Until(std::to_string(count) + " bytes", [this, count] {
    AcknowledgeWaiting();
    return received_.size() >= count || finished_ || reset_;
  });
}

void GuestFlow::ReceiveWithin(Duration limit, size_t count) {
  world_.AdvanceUntil(std::to_string(count) + " bytes", limit, [this, count] {
    AcknowledgeWaiting();
    return received_.size() >= count || finished_ || reset_;
  });
}

GuestSegment GuestFlow::AsSent(uint32_t sequence) const {
  return {.source = destination_,
          .destination = guest_,
          .flags = kTcpAck,
          .sequence = stack_isn_ + sequence,
          .acknowledgement = guest_isn_ + acked_};
}

void GuestFlow::Take(GuestSegment segment) {
  if (segment.Has(kTcpSyn) && !has_stack_isn_) {
    has_stack_isn_ = true;
    stack_isn_ = segment.sequence;
    stack_offered_scale_ = segment.window_scale.has_value();
    stack_scale_ = segment.window_scale.value_or(0);
    scales_ = offered_scale_ && stack_offered_scale_;
  }
  segment.sequence -= stack_isn_;
  for (SackBlock& block : segment.sack) {
    block.begin -= guest_isn_;
    block.end -= guest_isn_;
  }
  if (segment.Has(kTcpAck)) segment.acknowledgement -= guest_isn_;
  segment.window_update = !fin_sent_ && WithoutPush(segment.flags) == kTcpAck &&
                          segment.payload.empty() && segment.sack.empty() &&
                          segment.acknowledgement == acked_ &&
                          Before(window_edge_, WindowEdge(segment));
  world_.Log("> guest", *this, segment);
  Check(segment);
  Note(segment);
  inbox_.push_back(std::move(segment));
}

// What no segment of the stack's may ever do, whatever the script.
void GuestFlow::Check(const GuestSegment& segment) {
  if (segment.Has(kTcpUrg) || segment.Has(kTcpEce) || segment.Has(kTcpCwr)) {
    world_.Fail("urgent or ECN flags");
  }
  if (segment.offload.gso == Gso::kNone && segment.ip_bytes > world_.config().mtu) {
    world_.Fail("a packet above the MTU");
  }
  if (segment.Has(kTcpRst)) return;
  if (segment.Has(kTcpSyn) && !syn_sent_) return;  // the stack opens
  if (!segment.Has(kTcpAck)) world_.Fail("a segment without ACK");
  if (Before(sent_edge_, segment.acknowledgement)) world_.Fail("ACK of what was never sent");
  if (Before(segment.acknowledgement, acked_)) world_.Fail("an ACK that went back");
  CheckWindow(segment);
  CheckPayload(segment);
}

uint32_t GuestFlow::WindowEdge(const GuestSegment& segment) const {
  const bool scaled = scales_ && !segment.Has(kTcpSyn);
  return segment.acknowledgement + (uint32_t{segment.window} << (scaled ? stack_scale_ : 0));
}

// The right edge never moves left (RFC 9293 3.8.6), but for what the scale cannot
// say (RFC 7323 2.4).
void GuestFlow::CheckWindow(const GuestSegment& segment) {
  const uint32_t slack = scales_ ? (uint32_t{1} << stack_scale_) - 1 : 0;
  if (Before(WindowEdge(segment) + slack, window_edge_)) world_.Fail("the window shrank");
}

void GuestFlow::CheckPayload(const GuestSegment& segment) {
  const bool gso = segment.offload.gso != Gso::kNone;
  const size_t segment_bytes = gso ? segment.offload.segment_bytes : segment.payload.size();
  if (segment_bytes > segment_bytes_max_) world_.Fail("more than the negotiated MSS");
  if (segment.payload.empty()) return;

  const uint32_t end = segment.sequence + static_cast<uint32_t>(segment.payload.size());
  // One byte may probe a closed window.
  const uint32_t edge = guest_edge_ + (segment.payload.size() == 1 ? 1 : 0);
  if (Before(edge, end)) world_.Fail("more than the guest's window");
  // Old bytes are the same bytes.
  const size_t begin = segment.sequence - 1;
  if (begin > kSequenceAheadMax) {
    if (segment.payload.size() > 1) world_.Fail("data before the first byte");
    return;  // a keepalive probe before any data
  }
  if (seen_.size() < begin + segment.payload.size()) {
    seen_.resize(begin + segment.payload.size());
    is_seen_.resize(seen_.size());
  }
  // A keepalive probe may carry a byte of garbage (RFC 1122 4.2.3.6).
  const bool keepalive = segment.payload.size() == 1 && segment.sequence == expected_ - 1;
  for (size_t i = 0; i < segment.payload.size(); ++i) {
    const bool differs = is_seen_[begin + i] && seen_[begin + i] != segment.payload[i];
    if (differs && !keepalive) world_.Fail("a retransmission with other bytes");
    if (!is_seen_[begin + i]) seen_[begin + i] = segment.payload[i];
    is_seen_[begin + i] = true;
  }
}

void GuestFlow::Note(const GuestSegment& segment) {
  if (segment.Has(kTcpRst)) {
    reset_ = true;
    return;
  }
  const uint32_t end = segment.sequence + segment.SequenceLength();
  if (!Before(expected_, segment.sequence) && Before(expected_, end)) {
    const uint32_t known = expected_ - segment.sequence;
    const uint32_t skip = std::min<uint32_t>(known, static_cast<uint32_t>(segment.payload.size()));
    if (!segment.Has(kTcpSyn)) received_.append(segment.payload, skip);
    expected_ = end;
    if (segment.Has(kTcpFin)) finished_ = true;
  }
  const uint32_t edge = WindowEdge(segment);
  if (Before(window_edge_, edge)) window_edge_ = edge;
  if (Before(acked_, segment.acknowledgement)) acked_ = segment.acknowledgement;
}

// ------------------------------------------------------------ ScriptedGuest

ScriptedGuest::ScriptedGuest(ScriptOptions options)
    : options_(std::move(options)), now_(Time{} + std::chrono::hours(24)) {
  macs_.source = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
  macs_.destination = options_.config.gateway_mac;
  // Scripts say which frames come, and when: none of its own accord.
  options_.config.router_advertisements = false;
  auto link = std::make_unique<MemoryLink>(options_.link);
  link_ = link.get();
  auto stack = Stack::Create(options_.config, std::move(link));
  if (!stack.ok()) throw ScriptError(std::string(stack.status().message()));
  stack_ = *std::move(stack);
  Pump();
}

const FamilyConfig& ScriptedGuest::Addresses(Family family) const {
  return family == Family::kIpv4 ? options_.config.ipv4 : options_.config.ipv6;
}

GuestFlow& ScriptedGuest::Flow(uint16_t port) { return Flow(port, options_.family); }

GuestFlow& ScriptedGuest::Flow(uint16_t port, Family family) {
  const FamilyConfig& addresses = Addresses(family);
  const Endpoint guest{.address = addresses.guest, .port = next_port_++};
  const Endpoint destination{.address = addresses.gateway, .port = port};
  return *flows_.emplace_back(std::make_unique<GuestFlow>(*this, guest, destination, kGuestIsn));
}

GuestFlow& ScriptedGuest::FlowAgain(const GuestFlow& again) {
  return *flows_.emplace_back(std::make_unique<GuestFlow>(
      *this, again.guest(), again.destination(), again.guest_isn_ + again.sent_edge_ + kIsnStep));
}

GuestFlow& ScriptedGuest::Arrived() {
  Until("a SYN from the stack", [this] { return !arrived_.empty(); });
  GuestFlow& flow = *arrived_.front();
  arrived_.pop_front();
  return flow;
}

void ScriptedGuest::Pass() {
  deadline_ = stack_->Poll(now_);
  Collect();
}

void ScriptedGuest::Pump() {
  for (int pass = 0; pass < kPassesMax; ++pass) {
    Pass();
    if (deadline_ > now_) return;
  }
  Fail("Poll never comes to rest");
}

void ScriptedGuest::Advance(Duration duration) {
  const Time end = now_ + duration;
  Pump();
  while (deadline_ <= end) {
    now_ = deadline_;
    Pump();
  }
  now_ = end;
  Pump();
}

void ScriptedGuest::Oversleep(Duration duration) {
  now_ += duration;
  Pump();
}

Duration ScriptedGuest::AdvanceUntil(std::string_view what, Duration limit,
                                     const std::function<bool()>& done) {
  const Time begin = now_;
  Pump();
  while (!done()) {
    // What the relay thread has to say comes before time goes on.
    if (Readable(stack_->descriptor(), 0)) {
      Pump();
      continue;
    }
    if (deadline_ > begin + limit) {
      // Nothing is due in time: then it is the relay thread's turn.
      if (WaitForWake()) {
        Pump();
        continue;
      }
      now_ = begin + limit;
      Pump();
      if (done()) break;
      Fail("not in time: " + std::string(what));
    }
    now_ = deadline_;
    Pump();
  }
  return now_ - begin;
}

void ScriptedGuest::Until(std::string_view what, const std::function<bool()>& done) {
  const auto limit = Clock::now() + kRealLimit;
  while (true) {
    Pump();
    if (done()) return;
    if (Clock::now() > limit) Fail("waited in vain: " + std::string(what));
    (void)Readable(stack_->descriptor(), kLookMilliseconds);
  }
}

bool ScriptedGuest::WaitForWake() const {
  const auto limit = std::chrono::duration_cast<std::chrono::milliseconds>(kRealLimit);
  return Readable(stack_->descriptor(), static_cast<int>(limit.count()));
}

void ScriptedGuest::UntilWoken() {
  if (!WaitForWake()) Fail("waited in vain: the stack's descriptor");
}

bool ScriptedGuest::StaysQuiet() { return !Readable(stack_->descriptor(), kQuietMilliseconds); }

void ScriptedGuest::SendTooBig(const TooBig& report) {
  trace_.push_back("> host  too big: " + std::to_string(report.mtu));
  Queue(EncodeTooBig(macs_, report));
  Pump();
}

void ScriptedGuest::SendFrames(const std::vector<std::vector<uint8_t>>& frames) {
  for (const std::vector<uint8_t>& frame : frames) Queue({.bytes = frame});
  Pump();
}

void ScriptedGuest::DestroyStack() {
  link_ = nullptr;
  stack_.reset();
}

void ScriptedGuest::Queue(const EncodedFrame& frame) {
  ++frames_sent_;
  link_->PushToHost(frame.bytes, frame.offload);
}

void ScriptedGuest::Collect() {
  while (std::optional<MemoryLink::Frame> frame = link_->PopToGuest()) {
    std::optional<GuestSegment> segment = DecodeFrame(frame->bytes, frame->offload);
    if (!segment) {
      trace_.push_back("> guest a frame without TCP");
      other_frames_.push_back(frame->bytes);
      continue;
    }
    const auto owner = std::find_if(flows_.rbegin(), flows_.rend(), [&](const auto& flow) {
      return flow->guest() == segment->destination && flow->destination() == segment->source;
    });
    if (owner != flows_.rend()) {
      (*owner)->Take(*std::move(segment));
      continue;
    }
    if (WithoutPush(segment->flags) != kTcpSyn) Fail("for nobody: " + segment->ToString());
    arrived_.push_back(flows_
                           .emplace_back(std::make_unique<GuestFlow>(*this, segment->destination,
                                                                     segment->source, kGuestIsn))
                           .get());
    arrived_.back()->Take(*std::move(segment));
  }
}

void ScriptedGuest::Log(std::string_view direction, const GuestFlow& flow,
                        const GuestSegment& relative) {
  char stamp[32];
  const std::chrono::duration<double> since = now_ - Time{} - std::chrono::hours(24);
  std::snprintf(stamp, sizeof(stamp), "%10.3f ", since.count());
  trace_.push_back(stamp + std::string(direction) + " " + std::to_string(flow.guest().port) + " " +
                   relative.ToString());
}

std::string ScriptedGuest::Trace() const {
  std::string text;
  const size_t skipped = trace_.size() - std::min(trace_.size(), kTraceLinesMax);
  if (skipped > 0) text += "  (" + std::to_string(skipped) + " earlier)\n";
  for (size_t i = skipped; i < trace_.size(); ++i) text += "  " + trace_[i] + "\n";
  return text;
}

void ScriptedGuest::Fail(const std::string& what) const {
  throw ScriptError(what + "\n" + Trace());
}

}  // namespace penstock
