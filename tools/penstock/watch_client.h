// `penstock events` and `penstock flows`: what happens in a penstock that runs, and who talks
// to whom. Both write to stdout as they go. Any thread.
#ifndef PENSTOCK_TOOLS_PENSTOCK_WATCH_CLIENT_H_
#define PENSTOCK_TOOLS_PENSTOCK_WATCH_CLIENT_H_

#include "absl/status/status.h"
#include "tools/penstock/options.h"

namespace penstock::tool {

// Errors as by FollowOrder.
[[nodiscard]] absl::Status ShowEvents(const EventsOptions& options);
// Errors as by GiveOrder.
[[nodiscard]] absl::Status ShowFlows(const FlowsOptions& options);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_WATCH_CLIENT_H_
