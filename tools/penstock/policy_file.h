// Texts of policies from files. Any thread.
#ifndef PENSTOCK_TOOLS_PENSTOCK_POLICY_FILE_H_
#define PENSTOCK_TOOLS_PENSTOCK_POLICY_FILE_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "stack/policy/policy_text.h"

namespace penstock::tool {

// What a policy may have.
inline constexpr size_t kPolicyBytesMax = kPolicyTextBytesMax;

// What the file holds; "-" is the standard input. Any error says which and why.
[[nodiscard]] absl::StatusOr<std::string> ReadPolicyFile(const std::string& path);

// What errors call the file.
[[nodiscard]] std::string PolicySource(const std::string& path);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_POLICY_FILE_H_
