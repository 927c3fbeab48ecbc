#include "stack/policy/compiled_policy.h"

#include <algorithm>
#include <map>
#include <string_view>

namespace penstock {
namespace {

using Kind = PolicyTarget::Kind;
using Use = RuleTables::Use;

Shut ShutOf(Direction direction, AddressGroup group, const PolicyContext& context) {
  if (direction == Direction::kIngress) return Shut::kNothing;
  if (group == AddressGroup::kMetadata) return Shut::kMetadata;
  return group == AddressGroup::kHost && !context.host_named ? Shut::kHost : Shut::kNothing;
}

size_t FamilyIndex(const IpAddress& address) { return address.is_v4() ? 0 : 1; }

}  // namespace

// Collects the rules of each destination, in their order, and makes the tables of them.
class CompiledPolicy::Builder final {
 public:
  Builder(CompiledPolicy& policy, const std::vector<bool>& allows)
      : policy_(policy), allows_(allows) {}

  void Add(Direction direction, uint32_t rule, const PolicyTarget& target);
  void Finish();

 private:
  struct Collected {
    std::vector<Use> any4, any6;
    std::array<std::vector<Use>, kGroupCount> groups;
    std::map<std::pair<IpAddress, int>, std::vector<Use>> networks;
  };

  void FinishAny(ByAddress& to, size_t family, const std::vector<Use>& uses);
  void FinishNetworks(ByAddress& to, const Collected& from);
  void FinishNames();

  CompiledPolicy& policy_;
  const std::vector<bool>& allows_;
  std::array<Collected, 2> collected_;
  std::map<std::pair<std::string_view, bool>, std::array<std::vector<Use>, 2>> names_;
  std::vector<Use> name_denies_, unaddressed_;
};

void CompiledPolicy::Builder::Add(Direction direction, uint32_t rule, const PolicyTarget& target) {
  Collected& to = collected_[static_cast<size_t>(direction)];
  const bool is_egress = direction == Direction::kEgress;
  const Use use{.rule = rule, .target = &target, .allow = allows_[rule]};
  switch (target.kind) {
    case Kind::kAny:
      to.any4.push_back(use);
      to.any6.push_back(use);
      if (is_egress) unaddressed_.push_back(use);
      return;
    case Kind::kNetwork:
      if (target.prefix_length > 0) {
        to.networks[{target.address, target.prefix_length}].push_back(use);
        return;
      }
      (target.address.is_v4() ? to.any4 : to.any6).push_back(use);
      // The other family may still be reached.
      if (is_egress && use.allow) unaddressed_.push_back(use);
      return;
    case Kind::kGroup:
      to.groups[static_cast<size_t>(target.group)].push_back(use);
      if (is_egress && target.group == AddressGroup::kPublic) unaddressed_.push_back(use);
      return;
    case Kind::kName:
    case Kind::kNameBelow:
      names_[{target.name, target.kind == Kind::kNameBelow}][use.allow ? 1 : 0].push_back(use);
      if (!use.allow) name_denies_.push_back(use);
      return;
  }
}

// Once for each thing that is shut: of the rules that do not name it, those that deny are
// left, and for ICMP to the host all.
void CompiledPolicy::Builder::FinishAny(ByAddress& to, size_t family,
                                        const std::vector<Use>& uses) {
  for (const Shut shut : {Shut::kNothing, Shut::kHost, Shut::kMetadata}) {
    std::vector<Use> left;
    for (Use use : uses) {
      if (shut != Shut::kNothing && use.allow) {
        if (shut == Shut::kMetadata || !use.target->has(PolicyProtocol::kIcmp)) continue;
        use.icmp_only = true;
      }
      left.push_back(use);
    }
    to.any[static_cast<size_t>(shut)][family] = policy_.tables_.Add(left);
  }
}

void CompiledPolicy::Builder::FinishNetworks(ByAddress& to, const Collected& from) {
  std::vector<NetworkIndex<Ipv4Key>::Network> networks4;
  std::vector<NetworkIndex<Ipv6Key>::Network> networks6;
  for (const auto& [network, uses] : from.networks) {
    const auto& [address, prefix_length] = network;
    const RuleTables::Id table = policy_.tables_.Add(uses);
    if (address.is_v4()) {
      networks4.push_back({AddressKey<Ipv4Key>(address), prefix_length, table});
    } else {
      networks6.push_back({AddressKey<Ipv6Key>(address), prefix_length, table});
    }
  }
  to.networks4.Build(std::move(networks4), policy_.tables_);
  to.networks6.Build(std::move(networks6), policy_.tables_);
}

void CompiledPolicy::Builder::FinishNames() {
  for (const auto& [name, uses] : names_) {
    const NameIndex::Tables tables{.allow = policy_.tables_.Add(uses[1]),
                                   .deny = policy_.tables_.Add(uses[0])};
    policy_.names_.Add(name.first, name.second, tables);
  }
  policy_.name_denies_ = policy_.tables_.Add(name_denies_);
  policy_.unaddressed_ = policy_.tables_.Add(unaddressed_);
}

void CompiledPolicy::Builder::Finish() {
  for (size_t direction = 0; direction < collected_.size(); ++direction) {
    const Collected& from = collected_[direction];
    ByAddress& to = policy_.by_address_[direction];
    FinishAny(to, 0, from.any4);
    FinishAny(to, 1, from.any6);
    for (size_t group = 0; group < kGroupCount; ++group) {
      to.groups[group] = policy_.tables_.Add(from.groups[group]);
    }
    FinishNetworks(to, from);
  }
  FinishNames();
}

CompiledPolicy::CompiledPolicy(std::string text, ParsedPolicy parsed)
    : text_(std::move(text)), allow_by_default_(parsed.allow_by_default) {
  auto rules = std::make_shared<std::vector<PolicyRule>>();
  rules->reserve(parsed.rules.size());
  targets_.reserve(parsed.rules.size());
  for (ParsedRule& rule : parsed.rules) {
    rules->push_back(std::move(rule.written));
    targets_.push_back(std::move(rule.target));
    allows_.push_back(rule.allow);
  }
  rules_ = std::move(rules);
  Builder builder(*this, allows_);
  for (size_t i = 0; i < parsed.rules.size(); ++i) {
    builder.Add(parsed.rules[i].direction, static_cast<uint32_t>(i), targets_[i]);
  }
  builder.Finish();
}

CompiledPolicy::Whom CompiledPolicy::WhomOf(Direction direction, const IpAddress& address,
                                            const PolicyContext& context) {
  const IpAddress plain = address.Unmapped();
  const AddressGroup group = GroupOf(plain, context);
  return {.direction = direction,
          .address = plain,
          .group = group,
          .shut = ShutOf(direction, group, context)};
}

template <typename Visit>
void CompiledPolicy::VisitByAddress(const Whom& whom, const uint32_t& first, Visit&& visit) const {
  const ByAddress& rules = by_address_[static_cast<size_t>(whom.direction)];
  visit(rules.any[static_cast<size_t>(whom.shut)][FamilyIndex(whom.address)]);
  visit(rules.groups[static_cast<size_t>(whom.group)]);
  if (whom.address.is_v4()) {
    rules.networks4.ForEach(AddressKey<Ipv4Key>(whom.address), first, visit);
  } else {
    rules.networks6.ForEach(AddressKey<Ipv6Key>(whom.address), first, visit);
  }
}

uint32_t CompiledPolicy::FirstByAddress(const Whom& whom, PolicyProtocol protocol,
                                        uint16_t port) const {
  uint32_t first = kNoRule;
  VisitByAddress(whom, first, [&](RuleTables::Id table) {
    first = std::min(first, tables_.First(table, protocol, port));
  });
  return first;
}

uint32_t CompiledPolicy::ReachByAddress(const Whom& whom) const {
  uint32_t first = kNoRule;
  VisitByAddress(whom, first, [&](RuleTables::Id table) {
    first = std::min(first, tables_.FirstForReach(table));
  });
  return first;
}

uint32_t CompiledPolicy::FirstByName(std::string_view name, bool may_allow, PolicyProtocol protocol,
                                     uint16_t port) const {
  uint32_t first = kNoRule;
  names_.ForEach(name, [&](const NameIndex::Tables& tables) {
    first = std::min(first, tables_.First(tables.deny, protocol, port));
    if (may_allow) first = std::min(first, tables_.First(tables.allow, protocol, port));
  });
  return first;
}

uint32_t CompiledPolicy::FirstByNames(const PolicyQuestion& question, const Whom& whom,
                                      const NamePins& pins, Time now) const {
  const bool may_allow = !IsShut(whom, question.protocol);
  if (!question.name.empty()) {
    const bool is_pinned = may_allow && pins.Has(question.name, whom.address, now);
    return FirstByName(question.name, is_pinned, question.protocol, question.port);
  }
  uint32_t first = kNoRule;
  pins.ForEach(whom.address, now, [&](std::string_view name) {
    first = std::min(first, FirstByName(name, may_allow, question.protocol, question.port));
  });
  return first;
}

CompiledPolicy::Outcome CompiledPolicy::Decide(const PolicyQuestion& question,
                                               const PolicyContext& context, const NamePins& pins,
                                               Time now) const {
  Outcome out{.whom = WhomOf(question.direction, question.address, context)};
  const PolicyProtocol protocol = question.protocol;
  out.rule = out.by_address = FirstByAddress(out.whom, protocol, question.port);
  const bool names_count = has_names() && question.direction == Direction::kEgress;
  if (names_count) out.rule = std::min(out.rule, FirstByNames(question, out.whom, pins, now));
  if (!Allows(out.rule, out.whom, protocol)) return out;
  out.verdict = Verdict::kAllow;
  if (!names_count || protocol != PolicyProtocol::kTcp || question.looked ||
      !question.name.empty()) {
    return out;
  }
  // The worst that may be shown is a name that nothing is pinned for: it matches no allow
  // and may match any deny. It makes a difference where the rules that are left deny, or
  // allow only behind a deny of names.
  out.name_deny = tables_.First(name_denies_, protocol, question.port);
  const bool only_by_name = !Allows(out.by_address, out.whom, protocol);
  if (only_by_name || out.name_deny < out.by_address) out.verdict = Verdict::kLook;
  return out;
}

uint32_t CompiledPolicy::ReachByName(std::string_view name, const Whom& whom) const {
  uint32_t first = kNoRule;
  names_.ForEach(name, [&](const NameIndex::Tables& tables) {
    first = std::min(first, tables_.FirstForReach(tables.deny));
    // Where something is shut, a name may allow no more than it may in Decide: ICMP to the
    // host.
    if (whom.shut == Shut::kNothing) {
      first = std::min(first, tables_.FirstForReach(tables.allow));
    } else if (whom.shut == Shut::kHost) {
      first = std::min(first, tables_.First(tables.allow, PolicyProtocol::kIcmp, 0));
    }
  });
  return first;
}

CompiledPolicy::Outcome CompiledPolicy::MayReach(const Policy::Reach& reach,
                                                 const PolicyContext& context) const {
  Outcome out;
  if (reach.address.has_value()) {
    out.whom = WhomOf(Direction::kEgress, *reach.address, context);
    out.by_address = ReachByAddress(out.whom);
  } else {
    out.whom.group = AddressGroup::kPublic;
    out.by_address = tables_.FirstForReach(unaddressed_);
  }
  out.rule = out.by_address;
  if (!reach.name.empty()) out.rule = std::min(out.rule, ReachByName(reach.name, out.whom));
  // To ICMP the least is shut: what it may reach may be reached.
  if (Allows(out.rule, out.whom, PolicyProtocol::kIcmp)) out.verdict = Verdict::kAllow;
  return out;
}

}  // namespace penstock
