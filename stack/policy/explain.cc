#include "stack/policy/explain.h"

#include <chrono>
#include <string_view>

#include "publisher/text_fault.h"

namespace penstock {
namespace {

// `line 3, "deny egress @private"`
std::string Quoted(const CompiledPolicy& policy, uint32_t index) {
  const auto rule = policy.rule(index);
  return Sentence("line ", std::to_string(rule->line), ", \"", rule->text, "\"");
}

class Explanation final {
 public:
  Explanation(const CompiledPolicy& policy, const PolicyQuestion& question, const NamePins& pins,
              Time now, const CompiledPolicy::Outcome& outcome)
      : policy_(policy),
        question_(question),
        pins_(pins),
        now_(now),
        outcome_(outcome),
        address_(outcome.whom.address.ToString()) {}

  [[nodiscard]] std::string Text() const {
    const bool looks = outcome_.verdict == Verdict::kLook;
    const bool denies = outcome_.verdict == Verdict::kDeny;
    std::string text = denies  ? "denied by "
                       : looks ? "to be looked at: allowed by "
                               : "allowed by ";
    text += outcome_.rule == kNoRule ? Default() : Quoted(policy_, outcome_.rule) + WhyRule();
    if (looks) text += WhyLook();
    if (denies) text += WhyNotByName();
    return text;
  }

 private:
  [[nodiscard]] std::string Default() const {
    if (CompiledPolicy::IsShut(outcome_.whom, question_.protocol)) {
      return Sentence("no rule, and ", address_, " is ", Name(outcome_.whom.group),
                      ", which is shut unless its group, a network or its address is allowed");
    }
    return Sentence("the default of ", Name(question_.direction), ": no rule is for it");
  }

  // Why the rule that decides matches.
  [[nodiscard]] std::string WhyRule() const {
    const PolicyTarget& target = policy_.target(outcome_.rule);
    if (target.kind == PolicyTarget::Kind::kNetwork && target.prefix_length > 0) {
      return Sentence(", which has ", address_);
    }
    if (target.kind == PolicyTarget::Kind::kGroup) {
      return Sentence(", as ", address_, " is ", Name(target.group));
    }
    if (!target.is_name()) return "";
    if (!question_.name.empty()) {
      const std::string pinned = policy_.Allows(outcome_.rule, outcome_.whom, question_.protocol)
                                     ? Sentence(" and is pinned to ", address_)
                                     : "";
      return Sentence(", as the name ", question_.name, " is shown", pinned);
    }
    for (const NamePins::Seen& seen : pins_.At(outcome_.whom.address, now_)) {
      if (FirstByName(seen.name) != outcome_.rule) continue;
      const auto left = std::chrono::ceil<std::chrono::seconds>(seen.end - now_);
      return Sentence(", as the name ", seen.name, " is pinned to ", address_, " for ",
                      std::to_string(left.count()), " s more");
    }
    return "";
  }

  [[nodiscard]] std::string WhyLook() const {
    if (!policy_.Allows(outcome_.by_address, outcome_.whom, question_.protocol)) {
      return "; its first bytes may show a name that is denied";
    }
    return Sentence("; its first bytes may show a name that is denied by ",
                    Quoted(policy_, outcome_.name_deny), ", or by a later rule");
  }

  // A rule with a name that would have come first, if a pin were there.
  [[nodiscard]] std::string WhyNotByName() const {
    if (question_.name.empty() || CompiledPolicy::IsShut(outcome_.whom, question_.protocol)) {
      return "";
    }
    const uint32_t rule = FirstByName(question_.name);
    if (rule >= outcome_.rule) return "";
    return Sentence("; ", Quoted(policy_, rule), " is not for it, as ", question_.name,
                    " is not pinned to ", address_);
  }

  [[nodiscard]] uint32_t FirstByName(std::string_view name) const {
    return policy_.FirstByName(name, true, question_.protocol, question_.port);
  }

  const CompiledPolicy& policy_;
  const PolicyQuestion& question_;
  const NamePins& pins_;
  const Time now_;
  const CompiledPolicy::Outcome& outcome_;
  const std::string address_;
};

}  // namespace

std::string ExplainOutcome(const CompiledPolicy& policy, const PolicyQuestion& question,
                           const NamePins& pins, Time now, const CompiledPolicy::Outcome& outcome) {
  return Explanation(policy, question, pins, now, outcome).Text();
}

}  // namespace penstock
