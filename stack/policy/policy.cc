#include "stack/policy/policy.h"

#include <utility>

#include "stack/policy/compiled_policy.h"
#include "stack/policy/explain.h"
#include "stack/policy/policy_text.h"

namespace penstock {

struct Policy::Compiled final {
  [[nodiscard]] Decision DecisionOf(const CompiledPolicy::Outcome& outcome) const {
    return {
        .verdict = outcome.verdict, .rule = rules.rule(outcome.rule), .group = outcome.whom.group};
  }

  CompiledPolicy rules;
};

Policy::Policy(std::unique_ptr<const Compiled> compiled) : compiled_(std::move(compiled)) {}

Policy::~Policy() = default;

absl::StatusOr<std::shared_ptr<const Policy>> Policy::Parse(std::string_view text,
                                                            std::string_view source) {
  absl::StatusOr<ParsedPolicy> parsed = ParsePolicyText(text, source);
  if (!parsed.ok()) return parsed.status();
  std::unique_ptr<const Compiled> compiled(
      new Compiled{.rules = CompiledPolicy(std::string(text), *std::move(parsed))});
  return std::shared_ptr<const Policy>(new Policy(std::move(compiled)));
}

Decision Policy::Decide(const PolicyQuestion& question, const PolicyContext& context,
                        const NamePins& pins, Time now) const {
  return compiled_->DecisionOf(compiled_->rules.Decide(question, context, pins, now));
}

Decision Policy::MayReach(const Reach& reach, const PolicyContext& context) const {
  return compiled_->DecisionOf(compiled_->rules.MayReach(reach, context));
}

std::string Policy::Explain(const PolicyQuestion& question, const PolicyContext& context,
                            const NamePins& pins, Time now) const {
  return ExplainOutcome(compiled_->rules, question, pins, now,
                        compiled_->rules.Decide(question, context, pins, now));
}

const std::string& Policy::text() const { return compiled_->rules.text(); }
size_t Policy::rule_count() const { return compiled_->rules.rule_count(); }
bool Policy::has_names() const { return compiled_->rules.has_names(); }

}  // namespace penstock
