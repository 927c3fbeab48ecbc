// A scenario in a process of its own: for what may exist once in a process (GuestTcp),
// and so that a crash ends one scenario and is reported as one.
#ifndef PENSTOCK_TESTS_WORLD_CHILD_H_
#define PENSTOCK_TESTS_WORLD_CHILD_H_

#include <chrono>
#include <functional>
#include <string>

#include "relay/time.h"

namespace penstock::world {

// Forks, runs `scenario` in the child and waits for its end, at most `limit` of real
// time; then the child is killed. Returns "" if the scenario returned, and otherwise a
// sentence: what it threw, or the signal or the status that ended it (a sanitizer's
// report is on stderr). gtest's expectations in a child reach nobody: throw.
//
// The child begins with the calling thread and no other, so call it from where there are
// no others. It ends without destructors of statics and exit handlers, and with its
// parent.
[[nodiscard]] std::string RunInChild(const std::function<void()>& scenario,
                                     Duration limit = std::chrono::seconds(50));

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_CHILD_H_
