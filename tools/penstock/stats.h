// Counters and the flow table as text: a summary for people, and lines for
// programs.
//
// The file holds "NAME VALUE" for every counter and level ("drop_CAUSE VALUE" for
// frames dropped), then one line for each flow, newest first:
//   flow guest=A:P destination=A:P state=S end=E to_host=BYTES to_guest=BYTES age_ms=N
// where E is "-" for a live flow and spaces in S and E are written "_".
//
// The thread that drives the stack.
#ifndef PENSTOCK_TOOLS_PENSTOCK_STATS_H_
#define PENSTOCK_TOOLS_PENSTOCK_STATS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "stack/counters.h"
#include "stack/stack.h"

namespace penstock::tool {

// Counters that are zero and causes without drops are left out.
[[nodiscard]] std::string Summary(const CounterSnapshot& counters,
                                  const std::vector<FlowInfo>& flows);

[[nodiscard]] std::string Lines(const CounterSnapshot& counters,
                                const std::vector<FlowInfo>& flows);

// Replaces `path` in one step: a reader sees the old text or the new one.
[[nodiscard]] absl::Status ReplaceFile(const std::string& path, const std::string& text);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_STATS_H_
