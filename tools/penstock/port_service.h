// --publish and --control: what is published before anybody is told that the network is
// there, and the orders that come later. A part of both tools' supervisors.
//
// The thread that drives the stack.
#ifndef PENSTOCK_TOOLS_PENSTOCK_PORT_SERVICE_H_
#define PENSTOCK_TOOLS_PENSTOCK_PORT_SERVICE_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "relay/time.h"
#include "stack/stack.h"
#include "tools/penstock/control.h"
#include "tools/penstock/lifetime.h"
#include "tools/penstock/options.h"

namespace penstock::tool {

class PortService final {
 public:
  // Opens the control socket, if there is to be one, after the tool's children were
  // forked: they must not hold it. `options` and `lifetime` outlive the service.
  [[nodiscard]] static absl::StatusOr<PortService> Create(const CommonOptions& options,
                                                          Lifetime& lifetime);

  // Publishes what the command line says, or nothing.
  [[nodiscard]] absl::Status Start(Stack& stack) const;

  [[nodiscard]] Time deadline() const { return control_ ? control_->deadline() : kNever; }
  // When the lifetime's descriptor is readable, or deadline() has come.
  void OnEvent(Time now, Stack& stack);

 private:
  explicit PortService(const CommonOptions& options) : options_(options) {}

  const CommonOptions& options_;
  std::unique_ptr<ControlServer> control_;
};

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_PORT_SERVICE_H_
