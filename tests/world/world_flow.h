// One flow of a scenario: the application in the guest, its connection, and the far ends
// that the relay dialled for it (more than one if the guest's SYN had to be repeated); or,
// for an inbound one, the client of a published port (inbound_flow.cc).
// A policy may deny it, at its SYN, by the name that it says first, or in the middle
// (denied_flow.cc). Once it is over the flow may begin again, from the same port to the same port:
// the next *round*, with other bytes. Flows are told apart by their destination port. One thread.
#ifndef PENSTOCK_TESTS_WORLD_WORLD_FLOW_H_
#define PENSTOCK_TESTS_WORLD_WORLD_FLOW_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "publisher/port_spec.h"
#include "relay/endpoint.h"
#include "stack/events.h"
#include "tests/world/guest_tcp.h"
#include "tests/world/scenario.h"
#include "tests/world/sim_host.h"
#include "tests/world/talker.h"
#include "tests/world/timeline.h"

namespace penstock::world {

inline constexpr uint16_t kFirstPort = 1000;

// FlowScript::answer.
inline constexpr int64_t kAccept = 0, kSilence = 3, kDeniedByHook = 4, kDeniedByPolicy = 5;

// Where flow `index` leads: of an inbound one the guest's port counts. Whom the guest may not
// reach, and hears so by a page, listens at the port of HTTP.
[[nodiscard]] Endpoint DestinationOf(const Scenario& scenario, size_t index);
// The address of an inbound flow's clients.
[[nodiscard]] IpAddress ClientAddressOf(const FlowScript& flow);
// The text of the policy, or of the one that replaces it; empty: none.
[[nodiscard]] std::string PolicyText(const Scenario& scenario, bool second);

// What a flow's end may have to be excused with.
struct LinkFacts {
  bool good = false;      // nothing disturbs: everything must be quick
  bool lossy = false;     // frames may be lost
  bool reorders = false;  // or keeps frames back
  bool limited = false;   // the stack refused SYNs because of a limit
  // The guest was paused, or its frames were lost, for longer than a handshake may take.
  bool handshakes_given_up = false;
  Duration jump{};        // of the clock
  bool given_up = false;  // and some guest had owed an acknowledgement for too long then
  // For longer than a guest keeps a connection that it has only half accepted.
  bool paused_long = false;
  bool clients_refused = false;  // by a limit, or because the guest did not answer in time
  bool unpublished = false;
  bool cut = false;  // with the connections
  Time second_policy_at = kNever;
  bool events_whole = false;  // none was lost
};

class WorldFlow final {
 public:
  WorldFlow(const Scenario& scenario, size_t index, Timeline& timeline, GuestTcp& guest,
            SimHost& host, std::function<void(const std::string&)> note);

  [[nodiscard]] const Endpoint& destination() const { return destination_; }
  [[nodiscard]] uint16_t source_port() const { return source_port_; }
  // From SimHost.
  [[nodiscard]] int OnOpen();
  void OnDial(HostPeer& peer);

  // Inbound: what to publish for it, and where that is.
  [[nodiscard]] bool inbound() const { return script_.inbound != 0; }
  [[nodiscard]] PortSpec Spec() const;
  void OnPublished(const Endpoint& bound) { bound_ = bound; }
  [[nodiscard]] const Endpoint& bound() const { return bound_; }
  // errno of the next accept.
  [[nodiscard]] int OnAccept();

  // Of this flow.
  void OnClosedEvent(const Event& event) { closed_events_.push_back(event); }
  // The second policy ended what was alive of it.
  void OnCutByPolicy() { cut_by_policy_ = true; }
  // The policy may deny it at some time.
  [[nodiscard]] bool MayBeDenied() const {
    return script_.answer == kDeniedByPolicy || script_.deny_later != 0 || script_.says != 0;
  }
  [[nodiscard]] bool deny_later() const { return script_.deny_later != 0; }
  [[nodiscard]] bool MayReadPage() const {
    return !inbound() && denial_answer_ == DenialAnswer::kPage &&
           (script_.says != 0 || script_.answer == kDeniedByPolicy);
  }

  // `guest_runs`: false while the guest is paused.
  void Turn(bool guest_runs);
  // Asked after each step: a round is over, and another one is left.
  [[nodiscard]] bool NextRoundIsDue() const { return round_ != script_.again && RoundOver(); }
  // The round that is over is verified, and the next one begins. Empty, or what was wrong
  // with it.
  [[nodiscard]] std::string NextRound(const LinkFacts& facts);
  // Nothing will happen any more at the guest's end, or at the host's ends; no round is
  // left.
  [[nodiscard]] bool GuestOver() const;
  [[nodiscard]] bool HostOver() const;
  // The guest will never hear of the end: the frame that told it was lost.
  [[nodiscard]] bool MayHang(const LinkFacts& facts) const;

  // Empty, or how the flow ended otherwise than its script demands.
  [[nodiscard]] std::string Verify(const LinkFacts& facts) const;
  [[nodiscard]] std::string Describe() const;
  // Virtual time that the script takes on a good link.
  [[nodiscard]] Duration Estimate(Duration round_trip, int64_t window_bytes) const;

 private:
  struct HostEnd {
    std::shared_ptr<HostPeer> peer;
    std::unique_ptr<Port> port;
    std::unique_ptr<Talker> talker;
  };

  void BeginRound();
  [[nodiscard]] std::string GuestSaysFirst() const;
  void Connect();
  void Answer(const std::shared_ptr<HostPeer>& peer);
  void AddHostEnd(HostPeer& peer);
  void ConnectClient();
  void OnAccepted(GuestConnection& connection);
  [[nodiscard]] std::string VerifyRefusal(const LinkFacts& facts) const;
  [[nodiscard]] std::string VerifyDial(const LinkFacts& facts) const;
  [[nodiscard]] bool RoundOver() const;
  [[nodiscard]] bool ConnectionOver() const;
  [[nodiscard]] bool WillConnect() const;
  [[nodiscard]] std::string VerifyWhole(const LinkFacts& facts) const;
  // denied_flow.cc
  [[nodiscard]] bool HostBroke() const;
  [[nodiscard]] bool HostSawReset() const;
  [[nodiscard]] bool GuestBroke() const;
  // It wrote its end and read the other one.
  [[nodiscard]] bool GuestIsThrough() const;
  [[nodiscard]] bool DeniedAtOnce(const LinkFacts& facts) const;
  [[nodiscard]] std::string VerifyDenied(const LinkFacts& facts) const;
  [[nodiscard]] std::string VerifyDeniedClient(const LinkFacts& facts) const;
  [[nodiscard]] bool SaysAll() const;
  [[nodiscard]] bool MayBeDeniedByName(const LinkFacts& facts) const;
  [[nodiscard]] bool MustBeDeniedByName() const;
  [[nodiscard]] bool HostHadBytes() const;
  [[nodiscard]] std::string VerifyDeniedByName(const LinkFacts& facts) const;
  [[nodiscard]] std::string VerifyPage() const;
  [[nodiscard]] std::string VerifyCutByPolicy(const LinkFacts& facts) const;
  [[nodiscard]] std::string VerifyEvents() const;

  const FlowScript script_;
  const size_t index_;
  Timeline& timeline_;
  GuestTcp& guest_;
  SimHost& host_;
  const std::function<void(const std::string&)> note_;
  const Duration dial_timeout_;
  // Until nothing of the former round is on its way, or at a paused guest.
  const Duration again_after_;
  const uint64_t spoilt_max_;
  const bool doubles_;  // the link sends frames twice
  const bool looked_at_;
  const DenialAnswer denial_answer_;
  Endpoint destination_;
  uint64_t stream_key_;
  int64_t round_ = 0;
  Stream to_host_{0}, to_guest_{0};  // of this round
  uint16_t source_port_ = 0;
  GuestConnection* connection_ = nullptr;
  std::unique_ptr<Port> guest_port_;
  std::unique_ptr<Talker> guest_talker_;
  std::vector<HostEnd> ends_;
  Time connects_at_{}, connected_at_{};
  bool started_ = false;
  bool gave_up_ = false;
  bool told_error_ = false;
  // Inbound.
  Endpoint bound_, client_;
  int64_t accept_errors_left_ = 0;
  std::string wrong_;  // seen when the guest accepted
  // Of this round, too.
  std::string page_;  // that the guest read
  std::vector<Event> closed_events_;
  bool cut_by_policy_ = false;
};

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_WORLD_FLOW_H_
