// What `run`, `attach` and `serve` share: what stands around a link, statistics on demand and
// at the end, the limit on open files.
#ifndef PENSTOCK_TOOLS_PENSTOCK_SERVICE_H_
#define PENSTOCK_TOOLS_PENSTOCK_SERVICE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "stack/link/link.h"
#include "stack/link/pcapng.h"
#include "stack/link/tap.h"
#include "stack/stack.h"
#include "tools/penstock/clerk.h"
#include "tools/penstock/netlink.h"
#include "tools/penstock/options.h"

namespace penstock::tool {

// "penstock: SENTENCE" and a new line on stderr.
void Say(const std::string& sentence);
// From now on this process speaks of somebody: "penstock: WHO: SENTENCE".
void SayOf(std::string who);

// Raises the soft limit on open files to the hard one: a connection is a descriptor.
void RaiseDescriptorLimit();

// Switches IPv6 off, with a warning, where the kernel has none.
void AdaptToSystem(Config& config);

[[nodiscard]] TapOptions TapFor(const CommonOptions& options, const std::string& name);
[[nodiscard]] InterfaceSettings InterfaceFor(const CommonOptions& options, const std::string& name);

// The file of --pcap, or null if there is none. Before anything else is made: its error
// should come while there is nothing to undo.
[[nodiscard]] absl::StatusOr<std::unique_ptr<PcapngWriter>> MakeCapture(
    const CommonOptions& options);

// `link` with what the options want around it.
[[nodiscard]] absl::StatusOr<std::unique_ptr<Link>> MakeLink(
    const CommonOptions& options, absl::StatusOr<std::unique_ptr<Link>> link,
    std::unique_ptr<PcapngWriter> capture);

// On demand: to the file, or to stderr if there is none. Poll thread.
void WriteStatsNow(const CommonOptions& options, const Stack& stack, const Clerk& clerk);
// At the end: wherever the options say.
void WriteStatsAtEnd(const CommonOptions& options, const Stack& stack, const Clerk& clerk);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_SERVICE_H_
