// One virtual machine of `penstock serve`: a link on its socket, a stack of its own, and what
// `attach` has around a stack as well (published ports, orders, statistics, confinement), in the
// calling process, until the VMM leaves or somebody ends it.
//
// So every connection is another process. What a guest had (flows, lease, addresses, names
// that it was told, orders that were given for it) is gone with it by construction, and a guest
// that takes its stack over finds no other guest there.
#ifndef PENSTOCK_TOOLS_PENSTOCK_SERVED_GUEST_H_
#define PENSTOCK_TOOLS_PENSTOCK_SERVED_GUEST_H_

#include <functional>

#include "absl/status/status.h"
#include "tools/penstock/descriptor.h"
#include "tools/penstock/lifetime.h"
#include "tools/penstock/options.h"

namespace penstock::tool {

struct ServedGuest {
  Descriptor socket;  // to the VMM
  Descriptor vmm;     // its process, if a socket says nothing of its end; perhaps invalid
  Descriptor server;  // the end of this stream is ours; perhaps invalid
  // The stack is there, ports are published, no frame was read. An error ends it.
  std::function<absl::Status()> on_ready;
};

// OK when the VMM has left or a signal came; an error if the set-up failed, or what came could
// not be frames.
[[nodiscard]] absl::Status ServeGuest(ServeOptions options, ServedGuest guest,
                                      const SignalMask& mask);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_SERVED_GUEST_H_
