// Plays a script against a whole stack on virtual time (tests/world/rig.h): a real
// Stack, relay and relay tasks, and a host whose sockets do what the script says.
//
// A script is complete: a segment that it does not expect, at a time at which it does
// not expect it, is a failure, and so are bytes, an end or a reset that the host saw and
// the script does not name. At the end every frame of the guest's must be accounted for.
#ifndef PENSTOCK_TESTS_CONFORMANCE_PLAYER_H_
#define PENSTOCK_TESTS_CONFORMANCE_PLAYER_H_

#include "tests/conformance/script.h"

namespace penstock::conformance {

// Throws ScriptError: which line, what was expected and what came, and the conversation
// until then.
void Play(const Script& script);

}  // namespace penstock::conformance

#endif  // PENSTOCK_TESTS_CONFORMANCE_PLAYER_H_
