// The simulated world: the real stack and relay on virtual time, a guest with a TCP of
// its own (guest_tcp.h) behind a bad link (world_link.h), and a scripted host
// (sim_host.h). One seed decides everything; the same scenario gives the same run, step
// by step.
//
// A *step* is one of: a pass of the stack, one handler of the relay, one frame to the
// guest, the guest's timers, one event of the script. Which of those that are possible
// comes next is drawn; when none is, time goes to the next one that is due. After each
// step the oracles look (audit.h, talker.h); when both sides sleep they look closer; at
// the end every flow must have ended as its script demands, and nothing may be left.
#ifndef PENSTOCK_TESTS_WORLD_WORLD_H_
#define PENSTOCK_TESTS_WORLD_WORLD_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "stack/link/pcapng.h"
#include "tests/world/dns_talk.h"
#include "tests/world/event_watch.h"
#include "tests/world/guest_talk.h"
#include "tests/world/guest_tcp.h"
#include "tests/world/random.h"
#include "tests/world/repeats.h"
#include "tests/world/scenario.h"
#include "tests/world/stepped_stack.h"
#include "tests/world/strays.h"
#include "tests/world/timeline.h"
#include "tests/world/trace.h"
#include "tests/world/udp_talk.h"
#include "tests/world/world_flow.h"
#include "tests/world/world_link.h"

namespace penstock::world {

struct WorldResult {
  uint64_t steps = 0;
  Duration virtual_time{};
  CounterSnapshot counters;
};

// One in a process, ever (GuestTcp). One thread.
class World final {
 public:
  // `trace` and `capture` may be null.
  World(const Scenario& scenario, Trace* trace, PcapngWriter* capture);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // Throws Violation, with the moment and what every flow had come to.
  WorldResult Run();

 private:
  void Wire();
  void Publish();
  void ReplacePolicy();
  // The flow of the script; nullptr: a stray's.
  [[nodiscard]] WorldFlow* FlowTo(Direction direction, const Endpoint& guest, const Endpoint& peer);
  void TakeEvents();
  [[nodiscard]] int OnAccept(const Endpoint& bound);
  void Pause();
  void Jump();
  void OnFrame(const char* direction, const WireFrame& frame);
  void OnDial(HostPeer& peer);
  [[nodiscard]] bool Step();
  void TakeFrame();
  void BeginTalks();
  void VerifyTalks(const LinkFacts& facts) const;
  void TurnFlows();
  void NextRounds();
  [[nodiscard]] LinkFacts Facts() const;
  [[nodiscard]] bool GivenUpByAJump(const CounterSnapshot& counters) const;
  void Check(const std::string& wrong);
  [[nodiscard]] Time NextEvent() const;
  [[nodiscard]] bool Over() const;
  // The guest has asked from ports that are not forgotten yet.
  [[nodiscard]] bool Mapped() const;
  // Nothing of the stack's, nor of the link's, is left that would go on.
  [[nodiscard]] bool NothingWaits() const;
  // Nothing in this scenario excuses that something takes long.
  [[nodiscard]] bool Good() const;
  // Good, and quick: no timer has to send anything again.
  [[nodiscard]] bool Prompt() const;
  // Virtual time that this scenario may take.
  [[nodiscard]] Duration Limit() const;
  void Loop();
  void CutShort();
  void AtEnd();
  [[noreturn]] void Fail(const std::string& what);

  const Scenario scenario_;
  Trace* const trace_;
  PcapngWriter* const capture_;
  Dice dice_;
  Timeline timeline_;
  WorldLink* link_ = nullptr;  // the stack's
  std::unique_ptr<SteppedStack> stack_;
  std::unique_ptr<GuestTcp> guest_;
  std::vector<std::unique_ptr<WorldFlow>> flows_;
  std::unique_ptr<Strays> strays_;
  std::deque<std::vector<uint8_t>> to_guest_;
  bool guest_paused_ = false;
  bool guest_has_run_ = false;  // in the last step; or the script has, which may concern it
  bool cut_ = false;
  // Null: none in this scenario.
  std::unique_ptr<UdpTalk> udp_;
  std::unique_ptr<GuestTalk> guest_talk_;
  std::unique_ptr<DnsTalk> dns_;
  bool unpublished_ = false;
  Time second_policy_at_ = kNever;
  EventWatch events_;
  std::optional<Repeats> repeats_;  // where it is Prompt()
  WorldResult result_;
};

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_WORLD_H_
