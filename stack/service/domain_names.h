// Domain names as DHCP and router advertisements carry them: labels, each behind its
// length, and an empty one at the end (RFC 1035 3.1), without compression. Pure
// functions; any thread.
#ifndef PENSTOCK_STACK_SERVICE_DOMAIN_NAMES_H_
#define PENSTOCK_STACK_SERVICE_DOMAIN_NAMES_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace penstock {

// One or more labels of 1 to 63 letters, digits, hyphens and underscores, at most 253
// bytes with their dots; a dot at the end may be there.
[[nodiscard]] bool IsDomainName(std::string_view name);

// One behind the other; each IsDomainName.
[[nodiscard]] std::vector<uint8_t> EncodeDomainNames(std::span<const std::string> names);

// The names up to the first that is not whole or no name: what was received proves
// nothing. A compressed name (RFC 3397 allows it) ends the list, too.
[[nodiscard]] std::vector<std::string> DecodeDomainNames(std::span<const uint8_t> bytes);

}  // namespace penstock

#endif  // PENSTOCK_STACK_SERVICE_DOMAIN_NAMES_H_
