// The one form in which names are compared: lower case, no last dot. Any thread.
#ifndef PENSTOCK_STACK_POLICY_CANONICAL_NAME_H_
#define PENSTOCK_STACK_POLICY_CANONICAL_NAME_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace penstock {

// RFC 1035 2.3.4, as text without the last dot.
inline constexpr size_t kNameBytesMax = 253;
inline constexpr size_t kLabelBytesMax = 63;

// nullopt unless it is labels of 1 to 63 letters, digits, hyphens and underscores, at most
// 253 bytes with their dots; one dot at the end may be there.
[[nodiscard]] std::optional<std::string> CanonicalName(std::string_view name);

// True for what programs take for an IPv4 address where a name may stand: the last label is
// a number (inet_aton(3) reads "127.1" and "0x7f000001" as 127.0.0.1).
[[nodiscard]] bool LooksLikeIpv4(std::string_view name);

}  // namespace penstock

#endif  // PENSTOCK_STACK_POLICY_CANONICAL_NAME_H_
