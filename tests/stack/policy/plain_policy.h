// A policy as its description says it, without any cleverness: every question goes through
// every rule. What policies are compared with. Any thread.
#ifndef PENSTOCK_TESTS_STACK_POLICY_PLAIN_POLICY_H_
#define PENSTOCK_TESTS_STACK_POLICY_PLAIN_POLICY_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "stack/policy/policy.h"

namespace penstock {

struct PlainRule {
  enum class Kind { kAny, kNetwork, kGroup, kName, kNameBelow };
  Direction direction = Direction::kEgress;
  bool allow = false;
  Kind kind = Kind::kAny;
  IpAddress address;
  int prefix_length = 0;
  AddressGroup group = AddressGroup::kNone;
  std::string name;
  std::vector<std::pair<uint16_t, uint16_t>> ports;  // empty: all
  bool tcp = true, udp = true, icmp = true;

  [[nodiscard]] std::string ToString() const;
};

struct PlainPin {
  std::string name;
  IpAddress address;
  Time end;
};

struct PlainPolicy {
  std::vector<PlainRule> rules;
  bool allow_egress = false, allow_ingress = true;

  [[nodiscard]] std::string ToString() const;  // a rule a line, the defaults last

  struct Answer {
    Verdict verdict = Verdict::kDeny;
    int line = 0;  // 0: no rule
    friend bool operator==(const Answer&, const Answer&) = default;
  };
  [[nodiscard]] Answer Decide(const PolicyQuestion& question, const PolicyContext& context,
                              const std::vector<PlainPin>& pins, Time now) const;
  [[nodiscard]] Answer MayReach(const Policy::Reach& reach, const PolicyContext& context) const;
};

[[nodiscard]] AddressGroup PlainGroup(const IpAddress& address, const PolicyContext& context);

}  // namespace penstock

#endif  // PENSTOCK_TESTS_STACK_POLICY_PLAIN_POLICY_H_
