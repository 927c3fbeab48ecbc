// A policy as it is asked: what policy_text.h read, sorted by what a question knows. Of all
// rules that match a question the first one decides, so each part says which of its own
// comes first, and the lowest of these numbers is the answer:
//
//   any       rules for every address, and for all of one family (length 0)
//   group     rules for the address's group
//   networks  rules for networks that hold it (network_index.h)
//   names     rules for names (name_index.h), of egress only
//
// Each part ends in a table by protocol and port (rule_tables.h). None is searched rule by
// rule. Only for this folder; immutable; any thread.
#ifndef PENSTOCK_STACK_POLICY_COMPILED_POLICY_H_
#define PENSTOCK_STACK_POLICY_COMPILED_POLICY_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "stack/policy/name_index.h"
#include "stack/policy/name_pins.h"
#include "stack/policy/network_index.h"
#include "stack/policy/policy.h"
#include "stack/policy/policy_text.h"
#include "stack/policy/rule_tables.h"

namespace penstock {

// What is shut unless named, of which only naming rules and denials open or close anything.
enum class Shut : uint8_t { kNothing, kHost, kMetadata };
inline constexpr size_t kShutCount = 3;
inline constexpr size_t kGroupCount = 8;

class CompiledPolicy final {
 public:
  CompiledPolicy(std::string text, ParsedPolicy parsed);

  // Whom a question is about, as every part wants it.
  struct Whom {
    Direction direction = Direction::kEgress;
    IpAddress address;  // not mapped
    AddressGroup group = AddressGroup::kNone;
    Shut shut = Shut::kNothing;
  };
  // Only what names it may allow it.
  [[nodiscard]] static bool IsShut(const Whom& whom, PolicyProtocol protocol) {
    return whom.shut == Shut::kMetadata ||
           (whom.shut == Shut::kHost && protocol != PolicyProtocol::kIcmp);
  }
  // A decision, and what it depends on.
  struct Outcome {
    Verdict verdict = Verdict::kDeny;
    uint32_t rule = kNoRule;        // the first one that matches
    uint32_t by_address = kNoRule;  // of those without names
    uint32_t name_deny = kNoRule;   // kLook: the first for this port that denies a name
    Whom whom;
  };
  [[nodiscard]] Outcome Decide(const PolicyQuestion& question, const PolicyContext& context,
                               const NamePins& pins, Time now) const;
  [[nodiscard]] Outcome MayReach(const Policy::Reach& reach, const PolicyContext& context) const;

  // The first of the rules that mean `name`; without those that allow unless `may_allow`.
  [[nodiscard]] uint32_t FirstByName(std::string_view name, bool may_allow, PolicyProtocol protocol,
                                     uint16_t port) const;

  // What rule `index` says; kNoRule: the default.
  [[nodiscard]] bool Allows(uint32_t index, const Whom& whom, PolicyProtocol protocol) const {
    if (index != kNoRule) return allows_[index];
    return allow_by_default(whom.direction) && !IsShut(whom, protocol);
  }
  [[nodiscard]] bool allow_by_default(Direction direction) const {
    return allow_by_default_[static_cast<size_t>(direction)];
  }
  // With all that is known of it, for explanations.
  [[nodiscard]] const PolicyTarget& target(uint32_t index) const { return targets_[index]; }
  // nullptr of kNoRule. Shares the ownership of all rules: nothing is allocated.
  [[nodiscard]] std::shared_ptr<const PolicyRule> rule(uint32_t index) const {
    if (index == kNoRule) return nullptr;
    return {rules_, rules_->data() + index};
  }

  [[nodiscard]] const std::string& text() const { return text_; }
  [[nodiscard]] size_t rule_count() const { return rules_->size(); }
  [[nodiscard]] bool has_names() const { return !names_.empty(); }

 private:
  // The rules of one direction that are about addresses.
  struct ByAddress {
    // By Shut and family (IPv4, IPv6).
    std::array<std::array<RuleTables::Id, 2>, kShutCount> any{};
    std::array<RuleTables::Id, kGroupCount> groups{};
    NetworkIndex<Ipv4Key> networks4;
    NetworkIndex<Ipv6Key> networks6;
  };
  class Builder;

  [[nodiscard]] static Whom WhomOf(Direction direction, const IpAddress& address,
                                   const PolicyContext& context);
  // The first of the rules without names; kNoRule: none, the default decides.
  [[nodiscard]] uint32_t FirstByAddress(const Whom& whom, PolicyProtocol protocol,
                                        uint16_t port) const;
  [[nodiscard]] uint32_t ReachByAddress(const Whom& whom) const;
  // The first of the rules with names that match.
  [[nodiscard]] uint32_t FirstByNames(const PolicyQuestion& question, const Whom& whom,
                                      const NamePins& pins, Time now) const;
  [[nodiscard]] uint32_t ReachByName(std::string_view name, const Whom& whom) const;
  // Calls visit(table) for each table that may have a rule before `first`.
  template <typename Visit>
  void VisitByAddress(const Whom& whom, const uint32_t& first, Visit&& visit) const;

  const std::string text_;
  std::shared_ptr<const std::vector<PolicyRule>> rules_;
  std::vector<bool> allows_;
  std::vector<PolicyTarget> targets_;
  std::array<bool, 2> allow_by_default_;
  RuleTables tables_;
  std::array<ByAddress, 2> by_address_;  // by Direction
  NameIndex names_;
  RuleTables::Id name_denies_ = RuleTables::kEmpty;  // all of them
  RuleTables::Id unaddressed_ = RuleTables::kEmpty;  // for a name that nobody has looked up
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_POLICY_COMPILED_POLICY_H_
