// `penstock policy`: orders about policies, and answers that need no penstock. Any thread.
#ifndef PENSTOCK_TOOLS_PENSTOCK_POLICY_CLIENT_H_
#define PENSTOCK_TOOLS_PENSTOCK_POLICY_CLIENT_H_

#include <string>

#include "absl/status/statusor.h"
#include "tools/penstock/options.h"

namespace penstock::tool {

inline constexpr int kDeniedExitStatus = 3;
inline constexpr int kNameDecidesExitStatus = 4;

struct PolicyOrderResult {
  std::string text;  // to print
  int exit_status = 0;
};

// InvalidArgument: the text of a policy is wrong. Else errors as by GiveOrder.
[[nodiscard]] absl::StatusOr<PolicyOrderResult> OrderPolicy(const PolicyOptions& options);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_POLICY_CLIENT_H_
