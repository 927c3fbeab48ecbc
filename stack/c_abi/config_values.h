// The C ABI's config as the stack's own. Any thread.
#ifndef PENSTOCK_STACK_C_ABI_CONFIG_VALUES_H_
#define PENSTOCK_STACK_C_ABI_CONFIG_VALUES_H_

#include "absl/status/statusor.h"
#include "stack/config.h"
#include "stack/penstock.h"

namespace penstock::c_abi {

// 0 and NULL become the defaults. InvalidArgument names the field that is no address, no choice
// or no policy; whether the values go together Stack::Create says.
[[nodiscard]] absl::StatusOr<Config> ConfigFrom(const penstock_config& from);

}  // namespace penstock::c_abi

#endif  // PENSTOCK_STACK_C_ABI_CONFIG_VALUES_H_
