// Why a policy decides as it does, for humans. Only for this folder; any thread.
#ifndef PENSTOCK_STACK_POLICY_EXPLAIN_H_
#define PENSTOCK_STACK_POLICY_EXPLAIN_H_

#include <string>

#include "relay/time.h"
#include "stack/policy/compiled_policy.h"
#include "stack/policy/name_pins.h"
#include "stack/policy/policy.h"

namespace penstock {

// One sentence about `outcome`, which is what `policy` decides about `question`.
[[nodiscard]] std::string ExplainOutcome(const CompiledPolicy& policy,
                                         const PolicyQuestion& question, const NamePins& pins,
                                         Time now, const CompiledPolicy::Outcome& outcome);

}  // namespace penstock

#endif  // PENSTOCK_STACK_POLICY_EXPLAIN_H_
