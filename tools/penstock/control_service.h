// What both tools do around a stack that runs, beside ending it: publish what the command
// line says before anybody is told that the network is there, take orders (--control), pass
// events on to whoever watches, and say what was denied first. A part of both supervisors.
//
// The thread that drives the stack.
#ifndef PENSTOCK_TOOLS_PENSTOCK_CONTROL_SERVICE_H_
#define PENSTOCK_TOOLS_PENSTOCK_CONTROL_SERVICE_H_

#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "relay/time.h"
#include "stack/stack.h"
#include "tools/penstock/control.h"
#include "tools/penstock/denials.h"
#include "tools/penstock/event_feed.h"
#include "tools/penstock/lifetime.h"
#include "tools/penstock/options.h"

namespace penstock::tool {

class ControlService final {
 public:
  // Opens the control socket, if there is to be one, after the tool's children were
  // forked: they must not hold it. `options` and `lifetime` outlive the service.
  [[nodiscard]] static absl::StatusOr<ControlService> Create(const CommonOptions& options,
                                                             Lifetime& lifetime);

  // Of what the control socket needs files for, somebody else takes care from now on. What has
  // to be removed at the end, if there is a socket.
  [[nodiscard]] std::optional<SocketFile> LeaveFile();
  void AskForUsers(ControlServer::UserOf user_of);

  // Publishes what the command line says, or nothing.
  [[nodiscard]] absl::Status Start(Stack& stack);

  [[nodiscard]] Time deadline() const { return control_ ? control_->deadline() : kNever; }
  // When the lifetime's descriptor is readable, or deadline() has come. Orders are taken at the
  // start of the next pass: the stack goes by its time, and has none of its own between two.
  void OnEvent(Time now, Stack& stack);
  // After each pass.
  void OnPass();
  // Says, if statistics are wanted, how much was not told of what was denied.
  void AtEnd() const;

 private:
  explicit ControlService(const CommonOptions& options);

  const CommonOptions& options_;
  std::unique_ptr<ControlServer> control_;
  std::optional<DenialTeller> denials_;
  bool serving_ = false;               // at the next pass
  std::unique_ptr<EventFeed> events_;  // from the start on, if there are events
};

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_CONTROL_SERVICE_H_
