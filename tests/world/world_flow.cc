#include "tests/world/world_flow.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "publisher/tcp_listener.h"
#include "stack/config.h"
#include "tests/world/guest_port.h"

namespace penstock::world {
namespace {

using std::chrono::milliseconds;

// How long an application waits for a connection.
constexpr Duration kPatience = std::chrono::seconds(300);
// Beyond the host's answer: the guest may have to repeat its SYN for want of a neighbour.
constexpr Duration kConnectsWithin = std::chrono::seconds(10);
// The guest's, of a client that is dialled, retransmissions included.
constexpr Duration kHandshakeTakes = std::chrono::seconds(5);
// Beyond what the link takes: segments of one connection must not meet the next one on
// its ports. TCP cannot tell them apart after a reset, when nothing rests in TIME_WAIT.
constexpr Duration kSegmentLifetime = std::chrono::seconds(1);
// A name is looked for for 5 s, and a page may be read for 30 s.
constexpr Duration kDenialTakes = std::chrono::seconds(35);
// What waits unread in the relay's socket at most.
constexpr size_t kUnreadMax = 64 << 10;

class HostPort final : public Port {
 public:
  explicit HostPort(HostPeer& peer) : peer_(peer) {}
  [[nodiscard]] bool open() const override { return peer_.connected() && !Broken(); }
  [[nodiscard]] size_t WriteRoom() const override {
    return kUnreadMax - std::min(kUnreadMax, peer_.unread());
  }
  [[nodiscard]] size_t Write(std::span<const uint8_t> bytes) override {
    bytes = bytes.first(std::min(bytes.size(), WriteRoom()));
    if (bytes.empty()) return 0;
    peer_.Send(bytes);
    return bytes.size();
  }
  [[nodiscard]] size_t Read(std::span<uint8_t> room) override { return peer_.Take(room); }
  [[nodiscard]] bool AtEnd() const override { return peer_.saw_end(); }
  [[nodiscard]] bool Broken() const override { return peer_.saw_reset() || peer_.was_reset(); }
  void Finish() override { peer_.Finish(); }
  void Reset() override { peer_.Reset(); }
  void Leave() override { peer_.Leave(); }

 private:
  HostPeer& peer_;
};

// Each end would wait for the other's FIN for ever: then the guest does not.
bool BothWait(const FlowScript& flow) { return flow.guest_end == 2 && flow.host_end == 2; }

// No end waits for more bytes than there are.
uint64_t EndAt(const FlowScript& flow, int64_t end_at) {
  return static_cast<uint64_t>(std::min(end_at, std::max(flow.guest_bytes, flow.host_bytes)));
}

TalkerScript GuestScript(const FlowScript& flow) {
  return {.bytes = static_cast<uint64_t>(flow.guest_bytes),
          .write = static_cast<uint64_t>(std::max<int64_t>(flow.guest_write, 1)),
          .read = static_cast<uint64_t>(std::max<int64_t>(flow.guest_read, 1)),
          .write_pause = milliseconds(flow.guest_write_ms),
          .read_pause = milliseconds(flow.guest_read_ms),
          .stall_at = static_cast<uint64_t>(flow.guest_stall_at),
          .stall = milliseconds(flow.guest_stall_ms),
          .end = static_cast<TalkerScript::End>(BothWait(flow) ? 0 : flow.guest_end),
          .end_at = EndAt(flow, flow.guest_end_at)};
}

TalkerScript HostScript(const FlowScript& flow, uint64_t spoilt_max) {
  return {.bytes = static_cast<uint64_t>(flow.host_bytes),
          .write = static_cast<uint64_t>(std::max<int64_t>(flow.host_write, 1)),
          .read = static_cast<uint64_t>(std::max<int64_t>(flow.host_read, 1)),
          .write_pause = milliseconds(flow.host_write_ms),
          .read_pause = milliseconds(flow.host_read_ms),
          .stall_at = static_cast<uint64_t>(flow.host_stall_at),
          .stall = milliseconds(flow.host_stall_ms),
          .end = static_cast<TalkerScript::End>(flow.host_end),
          .end_at = EndAt(flow, flow.host_end_at),
          .spoilt_max = spoilt_max};
}

}  // namespace

WorldFlow::WorldFlow(const Scenario& scenario, size_t index, Timeline& timeline, GuestTcp& guest,
                     SimHost& host, std::function<void(const std::string&)> note)
    : script_(scenario.flows[index]),
      index_(index),
      timeline_(timeline),
      guest_(guest),
      host_(host),
      note_(std::move(note)),
      dial_timeout_(Config{}.dial_timeout),
      again_after_(milliseconds(script_.again_ms + scenario.pause_ms) + kSegmentLifetime +
                   4 * std::chrono::microseconds(scenario.delay_us + scenario.jitter_us)),
      spoilt_max_(SpoiltBytesMax(scenario)),
      doubles_(scenario.duplicate > 0),
      looked_at_(scenario.policy != 0 && script_.inbound == 0),
      denial_answer_(static_cast<DenialAnswer>(scenario.denial_answer)),
      destination_(DestinationOf(scenario, index)),
      stream_key_(scenario.seed * 1'000'000 + index * 1'000) {
  BeginRound();
  if (inbound() && (script_.answer == kAccept || script_.answer == kDeniedByPolicy)) {
    guest_.Listen(destination_.port, [this](GuestConnection& c) { OnAccepted(c); });
  }
  timeline_.In(milliseconds(script_.at_ms), [this] { Connect(); });
}

void WorldFlow::BeginRound() {
  to_host_ = Stream(stream_key_ + static_cast<uint64_t>(round_) * 2, GuestSaysFirst());
  // Not as a page does.
  to_guest_ = Stream(stream_key_ + static_cast<uint64_t>(round_) * 2 + 1,
                     MayReadPage() ? "\xfd" : std::string());
  guest_talker_ = std::make_unique<Talker>(
      absl::StrCat("flow ", index_, "'s guest"), GuestScript(script_), to_host_, to_guest_,
      [this](Time when) { timeline_.At(when, [] {}); }, note_);
  connection_ = nullptr;
  guest_port_.reset();
  ends_.clear();
  started_ = gave_up_ = told_error_ = cut_by_policy_ = false;
  page_.clear();
  closed_events_.clear();
  accept_errors_left_ = script_.accept_errors;
}

// A round that is over is verified by itself; the next one begins after a while.
std::string WorldFlow::NextRound(const LinkFacts& facts) {
  std::string wrong = Verify(facts);
  ++round_;
  note_(absl::StrCat("flow ", index_, ": begins again"));
  BeginRound();
  timeline_.In(again_after_, [this] { Connect(); });
  return wrong;
}

// ---------------------------------------------------------------- the guest

void WorldFlow::Connect() {
  started_ = true;
  if (inbound()) return ConnectClient();
  connection_ = guest_.Connect(timeline_.now(), destination_, source_port_);
  if (connection_ == nullptr) {
    timeline_.In(milliseconds(100), [this] { Connect(); });
    return;
  }
  connects_at_ = timeline_.now();
  source_port_ = connection_->source_port();
  note_(absl::StrCat("flow ", index_, "'s guest: connects from port ", source_port_));
  std::string* page = MayReadPage() ? &page_ : nullptr;
  guest_port_ = std::make_unique<GuestPort>(*connection_, std::vector<uint8_t>(), page);
  timeline_.In(kPatience, [this, connection = connection_] {
    if (connection->connected() || connection->error() != 0) return;
    note_(absl::StrCat("flow ", index_, "'s guest: gives up"));
    gave_up_ = true;
    connection->Abort();
  });
}

bool WorldFlow::RoundOver() const {
  if (!started_ || (connection_ == nullptr && !inbound()) || !HostOver()) return false;
  // The applications at the host read what is left, too.
  const bool read = std::all_of(ends_.begin(), ends_.end(), [](const HostEnd& end) {
    return end.talker->over() || !end.peer->connected();
  });
  return read && ConnectionOver();
}

bool WorldFlow::GuestOver() const {
  if (!started_ || round_ < script_.again) return false;
  if (connection_ == nullptr) return inbound() && HostOver();
  return ConnectionOver();
}

bool WorldFlow::ConnectionOver() const {
  if (connection_ == nullptr) return true;  // a client's that was refused
  if (!connection_->connected()) return gave_up_ || connection_->error() != 0;
  return guest_talker_->over() && (connection_->closed() || connection_->error() != 0);
}

// ---------------------------------------------------------------- the host

int WorldFlow::OnOpen() { return script_.answer == 4 ? EMFILE : 0; }

void WorldFlow::AddHostEnd(HostPeer& peer) {
  const auto shared = peer.shared_from_this();
  const auto number = static_cast<int64_t>(ends_.size());
  peer.write_max = static_cast<size_t>(script_.short_write);
  peer.read_max = static_cast<size_t>(script_.short_read);
  peer.interrupt_every = static_cast<uint32_t>(script_.interrupt_every);
  peer.SetSendBuffer(static_cast<size_t>(std::max<int64_t>(script_.send_buffer, 1)));
  ends_.push_back({.peer = shared,
                   .port = std::make_unique<HostPort>(peer),
                   .talker = std::make_unique<Talker>(
                       absl::StrCat("flow ", index_, "'s host",
                                    number == 0 ? "" : absl::StrCat(" (dial ", number + 1, ")")),
                       HostScript(script_, spoilt_max_), to_guest_, to_host_,
                       [this](Time when) { timeline_.At(when, [] {}); }, note_)});
}

void WorldFlow::OnDial(HostPeer& peer) {
  AddHostEnd(peer);
  const auto shared = peer.shared_from_this();
  note_(absl::StrCat("flow ", index_, "'s host: is dialled"));
  if (DeniedAtOnce({})) wrong_ = "the host was dialled for what the policy denies";
  if (script_.answer == kSilence) return;
  if (script_.answer_ms == 0) return Answer(shared);
  timeline_.In(milliseconds(script_.answer_ms), [this, shared] { Answer(shared); });
}

void WorldFlow::Answer(const std::shared_ptr<HostPeer>& peer) {
  if (!peer->dialling()) return;
  switch (script_.answer) {
    case 0:
      return peer->Accept();
    case 1:
      return peer->Fail(ECONNREFUSED);
    default:
      return peer->Fail(EHOSTUNREACH);
  }
}

bool WorldFlow::HostOver() const {
  return std::all_of(ends_.begin(), ends_.end(),
                     [](const HostEnd& end) { return end.peer->closed(); });
}

void WorldFlow::Turn(bool guest_runs) {
  if (connection_ != nullptr && guest_runs) {
    if (!connection_->connected()) connected_at_ = timeline_.now();
    uint64_t host_sent = 0;
    for (const HostEnd& end : ends_) host_sent = std::max(host_sent, end.talker->sent());
    guest_talker_->Turn(timeline_.now(), *guest_port_, host_sent);
    if (connection_->error() != 0 && !std::exchange(told_error_, true)) {
      note_(absl::StrCat("flow ", index_, "'s guest: error ", connection_->error()));
    }
  }
  for (HostEnd& end : ends_) {
    end.talker->Turn(timeline_.now(), *end.port, guest_talker_->sent());
  }
}

// ---------------------------------------------------------------- oracles

bool WorldFlow::WillConnect() const {
  return script_.answer == kAccept && milliseconds(script_.answer_ms) < dial_timeout_;
}

bool WorldFlow::MayHang(const LinkFacts& facts) const {
  if (!facts.lossy) return false;
  if (script_.answer == kDeniedByPolicy || cut_by_policy_) return true;
  return std::any_of(ends_.begin(), ends_.end(), [](const HostEnd& end) {
    return end.peer->was_reset() || end.peer->saw_reset() || end.talker->left();
  });
}

std::string WorldFlow::VerifyWhole(const LinkFacts& facts) const {
  const auto whole = [this](const HostEnd& end) {
    return end.talker->received() == static_cast<uint64_t>(script_.guest_bytes) &&
           end.talker->finished() && end.talker->at_end() && !end.talker->broken();
  };
  // A last ACK may be lost, and asked for when nobody knows of the flow any more.
  const bool late = facts.lossy && guest_talker_->finished() && guest_talker_->at_end();
  const bool cut_off = late && facts.paused_long && HostSawReset();
  if (connection_->error() != 0 && !late) {
    return absl::StrCat("the guest's connection broke with errno ", connection_->error(),
                        ", and nobody broke it");
  }
  if (guest_talker_->received() != static_cast<uint64_t>(script_.host_bytes)) {
    return "the guest did not get every byte";
  }
  if (!guest_talker_->at_end()) return "the guest did not see the host's end";
  if (std::none_of(ends_.begin(), ends_.end(), whole) && !cut_off) {
    return "the host did not get every byte and the guest's end";
  }
  return facts.good && facts.events_whole ? VerifyEvents() : "";
}

// What the guest made of a dial that nobody was to answer, or nobody did.
std::string WorldFlow::VerifyDial(const LinkFacts& facts) const {
  const int error = connection_->error();
  if (!WillConnect()) {
    if (connection_->connected()) return "connected to where nobody answers";
    if (script_.answer == 1 && milliseconds(script_.answer_ms) < dial_timeout_ &&
        error != ECONNREFUSED && !facts.limited && !facts.lossy) {
      return absl::StrCat("refused, and the guest's errno is ", error);
    }
    return "";
  }
  // Of 24 s that lwIP waits for an answer, one that was paused may already have spent three.
  const bool impatient = facts.paused_long && script_.answer_ms > 20'000 && error == ETIMEDOUT;
  const bool overslept = facts.jump > Duration::zero() &&
                         milliseconds(script_.answer_ms) + facts.jump >= dial_timeout_;
  // A reset may overtake the SYN-ACK, or one that the link refused.
  const bool excused =
      impatient || overslept || facts.limited || facts.lossy || (facts.reorders && HostBroke());
  return excused ? "" : "an answered dial did not connect";
}

std::string WorldFlow::Verify(const LinkFacts& facts) const {
  const bool host_broke = HostBroke();
  const bool host_saw_reset = HostSawReset();
  if (!wrong_.empty()) return wrong_;
  if (DeniedAtOnce(facts)) return VerifyDenied(facts);
  if (cut_by_policy_) return VerifyCutByPolicy(facts);
  // Its SYN came too late, or again.
  const bool denied_now = script_.deny_later != 0 && facts.second_policy_at != kNever;
  if (denied_now && (connection_ == nullptr || !connection_->connected())) return "";
  if (inbound() && connection_ == nullptr) return VerifyRefusal(facts);
  const int error = connection_->error();
  if (!WillConnect() || !connection_->connected()) return VerifyDial(facts);
  if ((facts.handshakes_given_up && error == ECONNRESET) || (inbound() && facts.cut)) return "";
  // The guest's end of the handshake was under way.
  const bool overslept =
      inbound() && facts.clients_refused &&
      (facts.lossy || facts.jump + kHandshakeTakes >= Config{}.inbound_dial_timeout);
  if (overslept && error == ECONNRESET) return "";
  if (facts.given_up && (error != 0 || host_saw_reset)) return "";
  if (facts.good && connected_at_ - connects_at_ > milliseconds(script_.answer_ms) +
                                                       script_.accept_errors * kAcceptPauseMax +
                                                       kConnectsWithin) {
    return "nothing disturbed, and it took long to connect";
  }
  if (MayBeDeniedByName(facts) && !HostHadBytes()) return VerifyDeniedByName(facts);
  if (MustBeDeniedByName() && HostHadBytes())
    return "the host has heard a request that the policy denies";
  if (!host_broke && !GuestBroke()) return VerifyWhole(facts);
  if (guest_talker_->reset() && !host_broke && !host_saw_reset) {
    return "the guest's reset did not reach the host";
  }
  const bool host_reset_only =
      std::any_of(ends_.begin(), ends_.end(), [](const HostEnd& e) { return e.talker->reset(); }) &&
      !GuestBroke();
  if (host_reset_only && error == 0 && !facts.lossy) {
    return "the host's reset did not reach the guest";
  }
  return "";
}

std::string WorldFlow::Describe() const {
  std::string text = absl::StrCat("  ", guest_talker_->Describe());
  if (connection_ != nullptr) {
    absl::StrAppend(&text, ", errno ", connection_->error(),
                    connection_->closed() ? ", closed" : ", alive");
  }
  for (const HostEnd& end : ends_) {
    absl::StrAppend(&text, "\n  ", end.talker->Describe(),
                    end.peer->closed() ? ", closed by the relay" : ", open at the relay",
                    end.peer->saw_reset() ? ", saw a reset" : "");
  }
  return text;
}

Duration WorldFlow::Estimate(Duration round_trip, int64_t window_bytes) const {
  const auto turns = [](int64_t bytes, int64_t step) {
    return bytes / std::max<int64_t>(step, 1) + 1;
  };
  const auto windows = turns(script_.guest_bytes + script_.host_bytes, window_bytes);
  // A small read opens the window by little: each may cost a probe.
  const auto total =
      milliseconds(script_.at_ms + std::min<int64_t>(script_.answer_ms, 400'000)) +
      milliseconds(turns(script_.guest_bytes, script_.guest_write) * script_.guest_write_ms) +
      milliseconds(turns(script_.guest_bytes, std::min(script_.host_read, script_.send_buffer)) *
                   script_.host_read_ms) +
      milliseconds(turns(script_.host_bytes, script_.host_write) * script_.host_write_ms) +
      milliseconds(turns(script_.host_bytes, script_.guest_read) * script_.guest_read_ms) +
      milliseconds(script_.guest_stall_ms + script_.host_stall_ms) +
      script_.accept_errors * kAcceptPauseMax + (MayBeDenied() ? kDenialTakes : Duration::zero());
  // What the guest's own TIME_WAIT takes before a port can be used again comes to it.
  return (total + windows * (round_trip + milliseconds(1))) * (script_.again + 1) +
         script_.again * (again_after_ + std::chrono::seconds(65));
}

}  // namespace penstock::world
