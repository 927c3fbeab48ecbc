// The host that a request of HTTP/1 names. Only for shown_name.cc; pure functions; any thread.
#ifndef PENSTOCK_STACK_POLICY_SHOWN_HTTP_H_
#define PENSTOCK_STACK_POLICY_SHOWN_HTTP_H_

#include <cstdint>
#include <span>

#include "stack/policy/shown_name.h"

namespace penstock {

// Of at least one byte. What is no HTTP shows no name, as soon as that can be told.
[[nodiscard]] ShownName ShownByHttp(std::span<const uint8_t> bytes);

}  // namespace penstock

#endif  // PENSTOCK_STACK_POLICY_SHOWN_HTTP_H_
