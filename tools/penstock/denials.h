// What `penstock run` says of what it denied: the first of each kind (protocol, direction,
// who said no and why: a policy's why is the group of the address, or that it is about a
// name), in one line, with the option that would have let it through. What the sandbox
// repeats, or varies within a kind, is counted and no more: it cannot flood anybody's
// terminal.
//
// Names come from the sandbox. They are shown only if they are plain, so that neither a
// terminal nor the shell into which an option is pasted finds anything else in them.
//
// The thread that drives the stack.
#ifndef PENSTOCK_TOOLS_PENSTOCK_DENIALS_H_
#define PENSTOCK_TOOLS_PENSTOCK_DENIALS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "stack/events.h"
#include "stack/policy/policy.h"

namespace penstock::tool {

// There are fewer kinds than this; should the stack learn more reasons, the rest is counted.
inline constexpr size_t kDenialKindCountMax = 256;

class DenialTeller final {
 public:
  // `option_lines`: that many lines at the head of the tenant's policy are of --allow and
  // --deny.
  // `allow_option` stands before the target that is to be allowed.
  DenialTeller(uint32_t option_lines, std::string allow_option)
      : option_lines_(option_lines), allow_option_(std::move(allow_option)) {}

  // The sentence to say, if `event` is a denial and the first of its kind. `tenant` is the
  // policy of now, nullptr if there is none.
  [[nodiscard]] std::optional<std::string> Tell(const Event& event, const Policy* tenant);

  // Denials that were not told.
  [[nodiscard]] uint64_t untold() const { return untold_; }

 private:
  // Reasons are texts in static storage.
  using Kind = std::tuple<PolicyProtocol, Direction, EventLayer, std::string_view>;

  [[nodiscard]] std::string Remedy(const Event& event, const Policy* tenant) const;

  const uint32_t option_lines_;
  const std::string allow_option_;
  std::set<Kind> told_;
  uint64_t untold_ = 0;
};

// A name that shows nothing but itself, wherever it is written.
[[nodiscard]] bool IsPlainName(std::string_view name);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_DENIALS_H_
