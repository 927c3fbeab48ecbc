// What the tests of policies share: addresses as text, a clock that stands still, and
// questions written in one line. Any thread.
#ifndef PENSTOCK_TESTS_STACK_POLICY_POLICY_QUESTION_H_
#define PENSTOCK_TESTS_STACK_POLICY_POLICY_QUESTION_H_

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "stack/policy/name_pins.h"
#include "stack/policy/policy.h"

namespace penstock {

inline constexpr Time kNow = Time() + std::chrono::hours(1);

// Fail the case if the text is none.
[[nodiscard]] IpAddress Address(std::string_view text);
[[nodiscard]] std::shared_ptr<const Policy> PolicyOf(std::string_view text);

// The gateways are 10.0.2.2, fd00::2 and fe80::2.
[[nodiscard]] PolicyContext Context(bool host_named = false);

// "NAME ADDRESS, NAME ADDRESS": pinned from kNow on for a minute.
void Pin(NamePins& pins, std::string_view list);

// [in] PROTOCOL ADDRESS PORT [shows NAME | looked] "in": ingress. UDP and ICMP are always
// looked at.
struct AskedQuestion {
  explicit AskedQuestion(std::string_view line);
  AskedQuestion(const AskedQuestion&) = delete;
  AskedQuestion& operator=(const AskedQuestion&) = delete;

  std::string name;  // that `question` has
  PolicyQuestion question;
};

// "allow 3", "deny", "look 1": the verdict, and the line of the rule if one decided.
[[nodiscard]] std::string ToString(const Decision& decision);

}  // namespace penstock

#endif  // PENSTOCK_TESTS_STACK_POLICY_POLICY_QUESTION_H_
