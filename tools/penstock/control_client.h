// The other end of the control socket: sends an order to a penstock that runs. Blocks; any
// thread.
#ifndef PENSTOCK_TOOLS_PENSTOCK_CONTROL_CLIENT_H_
#define PENSTOCK_TOOLS_PENSTOCK_CONTROL_CLIENT_H_

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace penstock::tool {

struct OrderResult {
  nlohmann::json value;  // of "return"
  std::string text;      // the whole answer as it came
};

// An error if the penstock is not there, refuses, or says nothing for five seconds.
[[nodiscard]] absl::StatusOr<OrderResult> GiveOrder(const std::string& path,
                                                    const nlohmann::json& request);

// Subscribes. `take` gets each line that comes, without its end, until it returns false or
// the penstock ends; either is OK. Errors as by GiveOrder, before the first line.
[[nodiscard]] absl::Status FollowOrder(const std::string& path, const nlohmann::json& request,
                                       const std::function<bool(std::string_view)>& take);

// What a whole answer says; `path` is where it came from.
[[nodiscard]] absl::StatusOr<OrderResult> ResultOf(std::string text, const std::string& path);

// A member of that type, or "?" (0) if it is not there or something else.
[[nodiscard]] std::string TextOf(const nlohmann::json& object, const char* name);
[[nodiscard]] uint64_t NumberOf(const nlohmann::json& object, const char* name);
// The text as a terminal may show it (text_table.h); "" if there is no such member.
[[nodiscard]] std::string PrintableOf(const nlohmann::json& object, const char* name);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_CONTROL_CLIENT_H_
