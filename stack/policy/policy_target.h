// Reads DESTINATION[:PORTS][/PROTOCOLS]. Only for this folder; any thread.
#ifndef PENSTOCK_STACK_POLICY_POLICY_TARGET_H_
#define PENSTOCK_STACK_POLICY_POLICY_TARGET_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "stack/policy/policy_text.h"

namespace penstock {

struct TargetFault {
  size_t column = 0;  // from 0
  std::string sentence;
};

// nullopt, and `fault` says why.
[[nodiscard]] std::optional<PolicyTarget> ReadTarget(std::string_view text, TargetFault& fault);

}  // namespace penstock

#endif  // PENSTOCK_STACK_POLICY_POLICY_TARGET_H_
