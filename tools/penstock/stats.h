// Counters and the flow table as text: a summary for people, and lines for
// programs.
//
// The file holds "NAME VALUE" for every counter and level ("drop_CAUSE VALUE" for
// frames dropped), then one line for each flow, newest first:
//   flow guest=A:P destination=A:P state=S end=E to_host=BYTES to_guest=BYTES age_ms=N
// where E is "-" for a live flow and spaces in S and E are written "_"; then one line for
// each published port, in the order of their ids:
//   port id=N bound=A:P guest=A:P protocol=tcp|udp identity=I exposure=X live=N total=N
//        to_host=BYTES to_guest=BYTES            (in one line)
//
// The thread that drives the stack.
#ifndef PENSTOCK_TOOLS_PENSTOCK_STATS_H_
#define PENSTOCK_TOOLS_PENSTOCK_STATS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "publisher/published_port.h"
#include "stack/counters.h"
#include "stack/stack.h"

namespace penstock::tool {

// What there is to tell, of one moment.
struct Statistics {
  CounterSnapshot counters;
  std::vector<FlowInfo> flows;
  std::vector<PublishedPort> ports;
};
[[nodiscard]] Statistics StatisticsOf(const Stack& stack);

// Counters that are zero and causes without drops are left out.
[[nodiscard]] std::string Summary(const Statistics& statistics);

[[nodiscard]] std::string Lines(const Statistics& statistics);

// Replaces `path` in one step: a reader sees the old text or the new one.
[[nodiscard]] absl::Status ReplaceFile(const std::string& path, const std::string& text);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_STATS_H_
