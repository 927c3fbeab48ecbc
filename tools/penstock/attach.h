// `penstock attach`: a tap in a network namespace that somebody else made, served
// until the namespace's owner or a signal ends it.
#ifndef PENSTOCK_TOOLS_PENSTOCK_ATTACH_H_
#define PENSTOCK_TOOLS_PENSTOCK_ATTACH_H_

#include "absl/status/status.h"
#include "tools/penstock/lifetime.h"
#include "tools/penstock/options.h"

namespace penstock::tool {

// OK after one of the ordinary ends; an error if the set-up failed (then nothing is
// left behind) or the tap was deleted.
[[nodiscard]] absl::Status Attach(AttachOptions options, const SignalMask& mask);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_ATTACH_H_
