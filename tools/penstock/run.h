// `penstock run`: a command in namespaces of its own, with its network by a stack.
#ifndef PENSTOCK_TOOLS_PENSTOCK_RUN_H_
#define PENSTOCK_TOOLS_PENSTOCK_RUN_H_

#include "absl/status/statusor.h"
#include "tools/penstock/lifetime.h"
#include "tools/penstock/options.h"

namespace penstock::tool {

// Returns the exit status; an error if the set-up failed, and then nothing is left.
[[nodiscard]] absl::StatusOr<int> Run(RunOptions options, const SignalMask& mask);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_RUN_H_
