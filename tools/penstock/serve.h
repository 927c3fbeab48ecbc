// `penstock serve`: the network of virtual machines, at a socket that their VMMs come to.
#ifndef PENSTOCK_TOOLS_PENSTOCK_SERVE_H_
#define PENSTOCK_TOOLS_PENSTOCK_SERVE_H_

#include "absl/status/status.h"
#include "tools/penstock/lifetime.h"
#include "tools/penstock/options.h"

namespace penstock::tool {

// OK after one of the ordinary ends; an error if the set-up failed, or the one guest of a socket
// that was passed sent what cannot be frames.
[[nodiscard]] absl::Status Serve(ServeOptions options, const SignalMask& mask);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_SERVE_H_
