// The one that everybody in a stack asks: may this be? Two policies stand on top of each
// other, the platform's and the tenant's; both must allow. With them it keeps what else a
// decision depends on: the pins that DNS answers made, and what of the stack is named
// (PolicyContext).
//
// Policies are replaced whole, between two questions. Who remembers an answer remembers the
// generation with it.
//
// Poll thread.
#ifndef PENSTOCK_STACK_POLICY_POLICY_ENGINE_H_
#define PENSTOCK_STACK_POLICY_POLICY_ENGINE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "relay/time.h"
#include "stack/events.h"
#include "stack/policy/name_pins.h"
#include "stack/policy/policy.h"

namespace penstock {

class PolicyEngine final {
 public:
  explicit PolicyEngine(const PolicyContext& context);
  PolicyEngine(const PolicyEngine&) = delete;
  PolicyEngine& operator=(const PolicyEngine&) = delete;

  struct Answer {
    Verdict verdict = Verdict::kDeny;
    // Who denies, or needs the look: the platform before the tenant. Of what is allowed,
    // the last layer that was asked. kNone: no layer has a policy.
    EventLayer layer = EventLayer::kNone;
    std::shared_ptr<const PolicyRule> rule;  // of that layer; as in Decision
    AddressGroup group = AddressGroup::kNone;

    [[nodiscard]] bool allowed() const { return verdict == Verdict::kAllow; }
    [[nodiscard]] bool denied() const { return verdict == Verdict::kDeny; }
  };

  // kDeny if a layer denies; else kLook if one needs it. A layer without a policy is not
  // asked; where none has one, the profile "all" answers.
  [[nodiscard]] Answer Decide(const PolicyQuestion& question, Time now) const;
  // As Policy::MayReach.
  [[nodiscard]] Answer MayReach(const Policy::Reach& reach) const;

  // nullptr: the layer has none any more. Counts a generation.
  void SetPolicy(PolicyLayer layer, std::shared_ptr<const Policy> policy);
  [[nodiscard]] const std::shared_ptr<const Policy>& policy(PolicyLayer layer) const {
    return policies_[static_cast<size_t>(layer)];
  }
  // From 0; grows with every SetPolicy.
  [[nodiscard]] uint64_t generation() const { return generation_; }
  // A layer has a rule with a name.
  [[nodiscard]] bool has_names() const { return has_names_; }

  // Pins are kept also where no rule has a name: the next policy may.
  [[nodiscard]] NamePins& pins() { return pins_; }
  [[nodiscard]] const NamePins& pins() const { return pins_; }
  [[nodiscard]] const PolicyContext& context() const { return context_; }

  // For humans, several lines, each with a line feed at its end: what is asked, which names
  // are pinned to the address, and what each layer says and why.
  [[nodiscard]] std::string Explain(const PolicyQuestion& question, Time now) const;

 private:
  // The first denial, else the first look, else the last permission of the layers.
  template <typename Ask>
  [[nodiscard]] Answer AskLayers(const Ask& ask) const;

  const PolicyContext context_;
  std::array<std::shared_ptr<const Policy>, 2> policies_;
  const std::shared_ptr<const Policy> without_;  // what answers where no layer has a policy
  NamePins pins_;
  uint64_t generation_ = 0;
  bool has_names_ = false;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_POLICY_POLICY_ENGINE_H_
