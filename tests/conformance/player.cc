#include "tests/conformance/player.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <deque>
#include <memory>
#include <utility>

#include "tests/conformance/guest_end.h"
#include "tests/world/frame_text.h"
#include "tests/world/rig.h"

namespace penstock::conformance {
namespace {

using world::HostPeer;
using world::Rig;

// How far a script that waits in vain looks for what comes instead.
constexpr Duration kLookAhead = std::chrono::minutes(10);
// RFC 6528 3: an initial sequence number moves by one in this time.
constexpr Duration kIsnTick = std::chrono::microseconds(4);

world::RigOptions RigOptionsFor(const Script& script) {
  world::RigOptions options{.config = script.config};
  if (script.offload) {
    options.link = {
        .partial_checksum_to_guest = true, .tcp4_gso_to_guest = true, .tcp6_gso_to_guest = true};
  }
  return options;
}

std::string Seconds(Duration duration) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.6f", std::chrono::duration<double>(duration).count());
  std::string number(text);
  number.erase(number.find_last_not_of('0') + 1);
  if (number.ends_with('.')) number.pop_back();
  return number + "s";
}

class Player {
 public:
  explicit Player(const Script& script);
  void Play();

 private:
  // What came from the stack, and when.
  struct Arrival {
    Time at;
    std::optional<ScriptSegment> segment;
    std::optional<IcmpError> icmp;
    std::string text;
  };

  void PlayStep(const Step& step);
  void Do(const Send& send);
  void Do(const Expect& expect);
  void Do(const SendIcmp& icmp);
  void Do(const ExpectIcmp& expect);
  void Do(const ExpectNothing& nothing);
  void Do(const Connect& connect);
  void Do(const Again& again);
  void Do(const HostStep& host);
  // Those of HostStep that look.
  void Ask(const HostStep& host);
  void ExpectAllTold();

  // Everything that can happen at this moment.
  void Rest();
  // Time goes by to `when`, or, if asked, to the first frame.
  void AdvanceTo(Time when, bool stop_at_frame);
  void Collect();
  // The next frame, which must come when the step says.
  Arrival Take(std::string_view wanted);
  void RequireSilence();
  void Push(const EncodedFrame& frame);
  void MoveStackIsnTo(uint32_t isn);

  // The host.
  void OnDial(HostPeer& peer);
  void Answer(HostPeer& peer);
  void TakeFromHost(size_t count);
  [[nodiscard]] HostPeer& Peer();

  void Log(std::string text);
  [[noreturn]] void Fail(const std::string& what);

  const Script& script_;
  Rig rig_;
  GuestEnd guest_;
  const Step* step_ = nullptr;
  Time step_time_{};  // of the last step
  std::deque<Arrival> inbox_;
  uint64_t frames_sent_ = 0;
  std::vector<std::string> trace_;

  HostStep answer_{HostVerb::kSilent};
  std::shared_ptr<HostPeer> peer_;
  bool reading_ = true;
  uint64_t host_written_ = 0;  // places in the streams
  uint64_t host_taken_ = 0;
  uint64_t host_told_ = 0;  // of host_taken_: named by the script
  bool eof_told_ = false, reset_told_ = false;
};

Player::Player(const Script& script)
    : script_(script), rig_(RigOptionsFor(script)), guest_(script) {
  rig_.host().on_dial = [this](HostPeer& peer) { OnDial(peer); };
  if (script_.stack_isn) MoveStackIsnTo(*script_.stack_isn);
  step_time_ = rig_.now();
}

void Player::Play() {
  for (const Step& step : script_.steps) PlayStep(step);
  RequireSilence();
  ExpectAllTold();
  const CounterSnapshot counters = rig_.stack().Snapshot();
  if (counters.frames_to_host != frames_sent_ ||
      counters.frames_to_host != counters.frames_consumed + counters.drops_total()) {
    Fail("a frame of the guest's is not accounted for");
  }
}

void Player::PlayStep(const Step& step) {
  step_ = &step;
  try {
    const bool waits = std::holds_alternative<Expect>(step.action) ||
                       std::holds_alternative<ExpectIcmp>(step.action);
    if (!waits) {
      RequireSilence();
      AdvanceTo(step_time_ + step.when.earliest, false);
      RequireSilence();
    }
    std::visit([this](const auto& action) { Do(action); }, step.action);
    step_time_ = rig_.now();
  } catch (const world::Violation& violation) {
    Fail(violation.what());
  }
}

// ---------------------------------------------------------------- the guest

void Player::Push(const EncodedFrame& frame) {
  ++frames_sent_;
  rig_.link().PushToHost(frame.bytes, frame.offload);
}

void Player::Do(const Send& send) {
  Log("> " + ToString(send.segment));
  Push(guest_.Encode(send.segment));
  if (!send.with_next) Rest();
}

void Player::Do(const SendIcmp& icmp) {
  const EncodedFrame frame = guest_.Encode(icmp);
  Log("> " + DescribeFrame(frame.bytes, frame.offload));
  Push(frame);
  Rest();
}

void Player::Do(const Expect& expect) {
  const Arrival arrival = Take(ToString(expect.segment));
  if (!arrival.segment) Fail("this came instead of a segment: " + arrival.text);
  const std::string difference = GuestEnd::Difference(expect.segment, *arrival.segment);
  if (!difference.empty()) Fail(difference + ", this came: < " + arrival.text);
}

void Player::Do(const ExpectIcmp& expect) {
  const Arrival arrival = Take("an ICMP error");
  if (arrival.icmp != expect.error) Fail("this came: < " + arrival.text);
}

void Player::Do(const ExpectNothing& nothing) {
  AdvanceTo(rig_.now() + nothing.during, true);
  RequireSilence();
}

void Player::Do(const Connect& connect) {
  Do(Send{.segment = connect.syn});
  Do(HostStep{HostVerb::kAccept});
  const Arrival answer = Take("SA 0:0(0) ack 1");
  constexpr uint8_t kSynAck = kTcpSyn | kTcpAck;
  if (!answer.segment || answer.segment->flags != kSynAck) Fail("this came: < " + answer.text);
  ScriptSegment ack{.flags = kTcpAck, .sequence = 1, .acknowledgement = 1};
  ack.window = connect.syn.window;
  Do(Send{.segment = ack});
}

void Player::Do(const class Again& again) {
  ExpectAllTold();
  guest_.Again(again.sequence_step);
  if (peer_ != nullptr && !peer_->dialling()) peer_ = nullptr;
  host_written_ = host_taken_ = host_told_ = 0;
  eof_told_ = reset_told_ = false;
}

Player::Arrival Player::Take(std::string_view wanted) {
  const When when = step_ == nullptr ? When{} : step_->when;
  if (inbox_.empty()) AdvanceTo(step_time_ + when.latest, true);
  if (inbox_.empty()) {
    AdvanceTo(rig_.now() + kLookAhead, true);
    std::string what = "nothing came";
    if (!inbox_.empty()) {
      what +=
          "; the next is +" + Seconds(inbox_.front().at - step_time_) + " < " + inbox_.front().text;
    }
    Fail(what + ", expected: < " + std::string(wanted));
  }
  const Arrival arrival = std::move(inbox_.front());
  inbox_.pop_front();
  if (arrival.at < step_time_ + when.earliest) {
    Fail("too early: +" + Seconds(arrival.at - step_time_) + " < " + arrival.text);
  }
  return arrival;
}

void Player::RequireSilence() {
  if (inbox_.empty()) return;
  const Arrival& first = inbox_.front();
  Fail("the script does not expect +" + Seconds(first.at - step_time_) + " < " + first.text);
}

// ---------------------------------------------------------------- time

void Player::Rest() {
  rig_.Settle();
  while (reading_ && peer_ != nullptr && peer_->arrived() > 0) {
    TakeFromHost(peer_->arrived());
    rig_.Settle();
  }
  Collect();
}

void Player::AdvanceTo(Time when, bool stop_at_frame) {
  while (rig_.next() <= when && !(stop_at_frame && !inbox_.empty())) {
    rig_.AdvanceTo(rig_.next());
    Rest();
  }
  if (!stop_at_frame || inbox_.empty()) rig_.AdvanceTo(when);
}

void Player::Collect() {
  while (std::optional<MemoryLink::Frame> frame = rig_.link().PopToGuest()) {
    Arrival arrival{.at = rig_.now()};
    try {
      arrival.segment = guest_.Decode(frame->bytes, frame->offload);
    } catch (const ScriptError& error) {
      Fail(error.what());
    }
    if (!arrival.segment) arrival.icmp = guest_.DecodeIcmp(frame->bytes);
    arrival.text =
        arrival.segment ? ToString(*arrival.segment) : DescribeFrame(frame->bytes, frame->offload);
    Log("< " + arrival.text);
    inbox_.push_back(std::move(arrival));
  }
}

// The initial sequence numbers of one tuple count the time: a first connection tells
// where they are, and it is waited until they are where the script wants them.
void Player::MoveStackIsnTo(uint32_t isn) {
  answer_ = {HostVerb::kAccept};
  Push(guest_.Encode(ScriptSegment{.flags = kTcpSyn}));
  Rest();
  const uint32_t first = guest_.stack_isn();
  Push(guest_.Encode(ScriptSegment{.flags = kTcpRst, .sequence = 1}));
  Rest();
  rig_.Advance(kIsnTick * (isn - first));
  guest_.Again(1'000'000);
  inbox_.clear();
  trace_.clear();
  peer_ = nullptr;
  answer_ = {HostVerb::kSilent};
}

// ---------------------------------------------------------------- the host

void Player::OnDial(HostPeer& peer) {
  peer_ = peer.shared_from_this();
  Answer(peer);
}

void Player::Answer(HostPeer& peer) {
  switch (answer_.verb) {
    case HostVerb::kAccept:
      return peer.Accept();
    case HostVerb::kRefuse:
      return peer.Fail(ECONNREFUSED);
    case HostVerb::kUnreachable:
      return peer.Fail(EHOSTUNREACH);
    case HostVerb::kSlow:
      return rig_.timeline().In(answer_.delay,
                                [peer = peer.shared_from_this()] { peer->Accept(); });
    default:
      return;
  }
}

HostPeer& Player::Peer() {
  if (peer_ == nullptr) Fail("the host was not dialled");
  return *peer_;
}

void Player::Do(const HostStep& host) {
  switch (host.verb) {
    case HostVerb::kAccept:
    case HostVerb::kRefuse:
    case HostVerb::kUnreachable:
    case HostVerb::kSilent:
    case HostVerb::kSlow:
      answer_ = host;
      if (peer_ != nullptr && peer_->dialling()) Answer(*peer_);
      break;
    case HostVerb::kWrite: {
      std::vector<uint8_t> bytes(host.count);
      for (uint8_t& byte : bytes) byte = StreamByte(Stream::kToGuest, host_written_++);
      Peer().Send(bytes);
      break;
    }
    case HostVerb::kRead:
      if (Peer().arrived() < host.count) {
        Fail("only " + std::to_string(peer_->arrived()) + " bytes are there to read");
      }
      TakeFromHost(host.count);
      break;
    case HostVerb::kStopReading:
      reading_ = false;
      break;
    case HostVerb::kReadOn:
      reading_ = true;
      break;
    case HostVerb::kBuffer:
      Peer().SetSendBuffer(host.count);
      break;
    case HostVerb::kFin:
      Peer().Finish();
      break;
    case HostVerb::kClose:
      Peer().Leave();
      break;
    case HostVerb::kReset:
      Peer().Reset();
      break;
    case HostVerb::kGot:
    case HostVerb::kSawEof:
    case HostVerb::kSawReset:
      return Ask(host);
  }
  if (std::holds_alternative<HostStep>(step_->action)) Log(step_->text);
  Rest();
}

void Player::Ask(const HostStep& host) {
  switch (host.verb) {
    case HostVerb::kGot:
      if (const uint64_t got = host_taken_ - host_told_; got != host.count) {
        Fail("the host got " + std::to_string(got) + " bytes");
      }
      host_told_ = host_taken_;
      return;
    case HostVerb::kSawEof:
      if (!Peer().saw_end()) Fail("the host saw no end");
      eof_told_ = true;
      return;
    default:
      if (!Peer().saw_reset()) Fail("the host saw no reset");
      reset_told_ = true;
  }
}

// Nothing happened at the host that the script does not name.
void Player::ExpectAllTold() {
  if (peer_ == nullptr) return;
  if (host_taken_ != host_told_) {
    Fail("the host got " + std::to_string(host_taken_ - host_told_) + " bytes more");
  }
  if (peer_->saw_end() && peer_->connected() && !eof_told_) Fail("the host saw an end, too");
  if (peer_->saw_reset() && !reset_told_) Fail("the host saw a reset, too");
}

void Player::TakeFromHost(size_t count) {
  std::vector<uint8_t> bytes(count);
  const size_t taken = peer_->Take(bytes);
  for (size_t i = 0; i < taken; ++i) {
    if (bytes[i] != StreamByte(Stream::kToHost, host_taken_ + i)) {
      Fail("the host got a wrong byte at " + std::to_string(host_taken_ + i));
    }
  }
  host_taken_ += taken;
}

// ---------------------------------------------------------------- telling

void Player::Log(std::string text) {
  char stamp[32];
  std::snprintf(stamp, sizeof(stamp), "  %12.6f ", rig_.timeline().seconds());
  trace_.push_back(stamp + std::move(text));
}

void Player::Fail(const std::string& what) {
  std::string text = script_.name;
  if (step_ != nullptr) text += ":" + std::to_string(step_->line) + ": " + step_->text;
  text += "\n  " + what + "\n";
  for (const std::string& line : trace_) text += line + "\n";
  throw ScriptError(text);
}

}  // namespace

void Play(const Script& script) { Player(script).Play(); }

}  // namespace penstock::conformance
