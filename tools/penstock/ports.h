// Publishing for the tool: several specs as one, what people are told of it, and the
// rows as text. The thread that drives the stack.
#ifndef PENSTOCK_TOOLS_PENSTOCK_PORTS_H_
#define PENSTOCK_TOOLS_PENSTOCK_PORTS_H_

#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "publisher/port_selector.h"
#include "publisher/port_spec.h"
#include "publisher/published_port.h"
#include "stack/stack.h"

namespace penstock::tool {

// All of them, or none and the reason of the first that failed. Ports that the system
// chose are reported if `report_chosen`; what can be reached from beyond loopback is a
// warning.
enum class ReportChosen : bool { kNo, kYes };
[[nodiscard]] absl::StatusOr<std::vector<PublishedPort>> PublishAll(Stack& stack,
                                                                    std::span<const PortSpec> specs,
                                                                    ReportChosen report_chosen);

// Whatever the selectors select; NotFound, and nothing was done, if one selects nothing.
// The result is how many there were.
[[nodiscard]] absl::StatusOr<size_t> UnpublishAll(Stack& stack,
                                                  std::span<const PortSelector> selectors,
                                                  LiveFlows live);

// "127.0.0.1:8080"; "[fe80::1%eth0]:8080"; "0.0.0.0%eth0:8080" if bound to an interface.
[[nodiscard]] std::string BoundText(const PublishedPort& port);
// "127.0.0.1:8080 -> 10.0.2.15:80/tcp".
[[nodiscard]] std::string PortText(const PublishedPort& port);
// "loopback", "address", "interface", "everywhere".
[[nodiscard]] std::string_view ExposureName(Exposure exposure);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_PORTS_H_
