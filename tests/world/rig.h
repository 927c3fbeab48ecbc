// The smallest world: one stack on virtual time, a scripted host (sim_host.h), and a
// link in memory whose other end the test is. For tests and fuzzers that say frame by
// frame what happens; World (world.h) adds a guest's TCP and a bad network.
//
//   Rig rig({.config = {...}});
//   rig.host().on_dial = [](HostPeer& peer) { peer.Accept(); };
//   rig.link().PushToHost(frame);
//   rig.Settle();                          // everything that can happen at this moment
//   auto reply = rig.link().PopToGuest();
//   rig.AdvanceTo(rig.next());             // to when something is due, and settles
#ifndef PENSTOCK_TESTS_WORLD_RIG_H_
#define PENSTOCK_TESTS_WORLD_RIG_H_

#include <cstdint>
#include <string>

#include "tests/support/memory_link.h"
#include "tests/world/sim_host.h"
#include "tests/world/stepped_stack.h"
#include "tests/world/timeline.h"
#include "tests/world/violation.h"

namespace penstock::world {

struct RigOptions {
  Config config{};
  LinkCapabilities link{};
  SteppedStack::Form form = SteppedStack::Form::kRelayThread;
  uint64_t seed = 1;
};

class Rig final {
 public:
  explicit Rig(const RigOptions& options);

  // Runs passes, relay handlers and due events until nothing more happens at this
  // moment, and audits. Throws Violation if an invariant does not hold, or if it never
  // ends.
  void Settle();
  // When something is due next; kNever if nothing is.
  [[nodiscard]] Time next() const;
  // Time goes by up to `when`, and everything that is due on the way happens.
  void AdvanceTo(Time when);
  void Advance(Duration duration) { AdvanceTo(After(timeline_.now(), duration)); }

  [[nodiscard]] Time now() const { return timeline_.now(); }
  [[nodiscard]] Timeline& timeline() { return timeline_; }
  [[nodiscard]] MemoryLink& link() { return *link_; }
  [[nodiscard]] SimHost& host() { return stepped_.host(); }
  [[nodiscard]] Stack& stack() { return stepped_.stack(); }
  [[nodiscard]] SteppedStack& stepped() { return stepped_; }

 private:
  Timeline timeline_;
  MemoryLink* link_;
  SteppedStack stepped_;
};

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_RIG_H_
