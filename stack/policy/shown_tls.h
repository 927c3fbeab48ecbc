// The server name of a ClientHello. Only for shown_name.cc; pure functions; any thread.
#ifndef PENSTOCK_STACK_POLICY_SHOWN_TLS_H_
#define PENSTOCK_STACK_POLICY_SHOWN_TLS_H_

#include <cstdint>
#include <span>

#include "stack/policy/shown_name.h"

namespace penstock {

// At least one byte: a record of TLS, or the front of one.
[[nodiscard]] bool MayBeTls(std::span<const uint8_t> bytes);
// Of such bytes.
[[nodiscard]] ShownName ShownByTls(std::span<const uint8_t> bytes);

}  // namespace penstock

#endif  // PENSTOCK_STACK_POLICY_SHOWN_TLS_H_
