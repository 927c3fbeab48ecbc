// What may be asked of a running penstock (tools/README.md has the protocol): a request
// in, an answer out, both JSON. Nothing in a request can do more than what it says: types
// and names are checked, and what is unknown is an error.
//
// The thread that drives the stack.
#ifndef PENSTOCK_TOOLS_PENSTOCK_CONTROL_PROTOCOL_H_
#define PENSTOCK_TOOLS_PENSTOCK_CONTROL_PROTOCOL_H_

#include <string_view>

#include "stack/stack.h"
#include "tools/penstock/control.h"

namespace penstock::tool {

// {"return":...} or {"error":{"desc":"SENTENCE"}}, and a new line. Whoever ordered events
// subscribes to them with it.
[[nodiscard]] ControlServer::Reply AnswerRequest(std::string_view request, Stack& stack);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_CONTROL_PROTOCOL_H_
