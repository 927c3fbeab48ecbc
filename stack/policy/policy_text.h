// The text of a policy, read: rules and defaults as values. What it may say is described
// in stack/policy/README.md; in short, a line each:
//
//   allow|deny egress|ingress DESTINATION[:PORTS][/PROTOCOLS]     # a comment
//   default egress|ingress allow|deny
//
// Reading knows nothing of how a decision is made. Every mistake is one sentence with the
// line, the column and a caret, and says what to write instead. Pure functions; any thread.
#ifndef PENSTOCK_STACK_POLICY_POLICY_TEXT_H_
#define PENSTOCK_STACK_POLICY_POLICY_TEXT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "publisher/port_spec.h"
#include "stack/policy/policy.h"

namespace penstock {

// A rule has some 40 bytes of text, so a text of as many rules as there may be has less than
// that; the longest line is a name and 64 ranges of ports.
inline constexpr size_t kPolicyRuleCountMax = 65'536;
inline constexpr size_t kPolicyTextBytesMax = 4 << 20;
inline constexpr size_t kPolicyLineBytesMax = 1'200;
inline constexpr size_t kPolicyPortRangesMax = 64;  // of one rule

struct PolicyTarget {
  enum class Kind : uint8_t {
    kAny,
    kNetwork,  // `address`/`prefix_length`; one address is a network, too
    kGroup,
    kName,       // exactly `name`
    kNameBelow,  // every name below `name`, at any depth, not itself
  };
  Kind kind = Kind::kAny;
  IpAddress address;  // not mapped, no bit set behind the prefix
  int prefix_length = 0;
  AddressGroup group = AddressGroup::kNone;
  std::string name;                 // canonical
  std::vector<PortRange> ports;     // empty: all
  std::array<bool, 3> protocols{};  // by PolicyProtocol; one at least

  [[nodiscard]] bool is_name() const { return kind == Kind::kName || kind == Kind::kNameBelow; }
  [[nodiscard]] bool has(PolicyProtocol protocol) const {
    return protocols[static_cast<size_t>(protocol)];
  }
  // For every port of every protocol.
  [[nodiscard]] bool is_whole() const {
    return ports.empty() && protocols == std::array{true, true, true};
  }
};

// DESTINATION[:PORTS][/PROTOCOLS] alone, as `--allow` has it. `source` is put before the
// column in an error.
[[nodiscard]] absl::StatusOr<PolicyTarget> ParsePolicyTarget(std::string_view text,
                                                             std::string_view source);

struct ParsedRule {
  Direction direction = Direction::kEgress;
  bool allow = false;
  PolicyTarget target;
  PolicyRule written;
};

struct ParsedPolicy {
  std::vector<ParsedRule> rules;  // in the order of the text
  // By Direction: a guest reaches nothing that nobody allowed; who reaches it was chosen by
  // whoever published a port.
  std::array<bool, 2> allow_by_default{false, true};
};

[[nodiscard]] absl::StatusOr<ParsedPolicy> ParsePolicyText(std::string_view text,
                                                           std::string_view source);

}  // namespace penstock

#endif  // PENSTOCK_STACK_POLICY_POLICY_TEXT_H_
