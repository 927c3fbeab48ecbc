// What requests are made of, checked: members and their types. Only for control_*.cc; any
// thread.
#ifndef PENSTOCK_TOOLS_PENSTOCK_CONTROL_ARGUMENTS_H_
#define PENSTOCK_TOOLS_PENSTOCK_CONTROL_ARGUMENTS_H_

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace penstock::tool {

template <typename... Parts>
absl::Status WrongRequest(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

// Wrong if `object`, of which the sentence speaks as `what`, holds anything but `names`.
[[nodiscard]] absl::Status CheckMembers(const nlohmann::json& object, const char* what,
                                        std::initializer_list<const char*> names);

// Empty if there is none.
[[nodiscard]] absl::StatusOr<std::string> StringOf(const nlohmann::json& object, const char* name);
// The first of `values` if there is none; wrong if it is no other of them.
[[nodiscard]] absl::StatusOr<std::string> ChoiceOf(const nlohmann::json& object, const char* name,
                                                   std::initializer_list<const char*> values);
// False if there is none.
[[nodiscard]] absl::StatusOr<bool> FlagOf(const nlohmann::json& object, const char* name);
// 1 to 65535; nullopt if there is none.
[[nodiscard]] absl::StatusOr<std::optional<uint16_t>> PortOf(const nlohmann::json& object,
                                                             const char* name);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_CONTROL_ARGUMENTS_H_
