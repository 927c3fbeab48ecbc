// The orders about policies (control_protocol.h). The thread that drives the stack.
#ifndef PENSTOCK_TOOLS_PENSTOCK_CONTROL_POLICY_H_
#define PENSTOCK_TOOLS_PENSTOCK_CONTROL_POLICY_H_

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "stack/stack.h"

namespace penstock::tool {

[[nodiscard]] absl::StatusOr<nlohmann::json> ShowPolicy(const nlohmann::json& arguments,
                                                        Stack& stack);
[[nodiscard]] absl::StatusOr<nlohmann::json> SetPolicy(const nlohmann::json& arguments,
                                                       Stack& stack);
[[nodiscard]] absl::StatusOr<nlohmann::json> ExplainPolicy(const nlohmann::json& arguments,
                                                           Stack& stack);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_CONTROL_POLICY_H_
