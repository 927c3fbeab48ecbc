// The two ways a tool drives a stack: everything on one io_context
// (config.relay_threads == 0), or a loop of poll(2) beside relay threads. Both
// sleep until a frame, a relay thread, a deadline or the tool's own descriptor
// wants them.
//
// One thread, the caller's.
#ifndef PENSTOCK_TOOLS_PENSTOCK_DRIVER_H_
#define PENSTOCK_TOOLS_PENSTOCK_DRIVER_H_

#include <memory>

#include "absl/status/status.h"
#include "relay/time.h"
#include "stack/stack.h"

namespace penstock::tool {

// What the tool does around the stack.
class Supervisor {
 public:
  virtual ~Supervisor() = default;
  // The stack is there, the first pass is about to come. An error ends the drive.
  [[nodiscard]] virtual absl::Status OnStart(Stack& stack) = 0;
  // When it is readable, or deadline() has come, OnEvent is called.
  [[nodiscard]] virtual int descriptor() const = 0;
  [[nodiscard]] virtual Time deadline() const = 0;
  // After each pass of the stack: what it left to be taken.
  virtual void OnPass() = 0;
  // False ends the drive.
  [[nodiscard]] virtual bool OnEvent(Time now, Stack& stack) = 0;
  // The link has ended, and the drive with it: how. Unless somebody knows better, a tap has been
  // deleted.
  [[nodiscard]] virtual absl::Status OnLinkEnd(const Stack& stack);
};

// Creates the stack and drives it until the supervisor ends it (OK), something
// fails, or the link ends (what the supervisor says of it). `busy_poll`: AsioDriver::Run's.
[[nodiscard]] absl::Status Drive(Config config, std::unique_ptr<Link> link, Duration busy_poll,
                                 Supervisor& supervisor);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_DRIVER_H_
