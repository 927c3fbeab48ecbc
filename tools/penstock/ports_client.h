// `penstock ports`: sends an order to a penstock that runs and prints its answer.
#ifndef PENSTOCK_TOOLS_PENSTOCK_PORTS_CLIENT_H_
#define PENSTOCK_TOOLS_PENSTOCK_PORTS_CLIENT_H_

#include <string>

#include "absl/status/statusor.h"
#include "tools/penstock/options.h"

namespace penstock::tool {

// What to print. Errors as by GiveOrder.
[[nodiscard]] absl::StatusOr<std::string> OrderPorts(const PortsOptions& options);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_PORTS_CLIENT_H_
