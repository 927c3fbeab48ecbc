// An event as a line for people, made of what the control socket carries. Any thread.
#ifndef PENSTOCK_TOOLS_PENSTOCK_EVENT_TEXT_H_
#define PENSTOCK_TOOLS_PENSTOCK_EVENT_TEXT_H_

#include <string>
#include <string_view>

namespace penstock::tool {

// Time, what happened, protocol, who and whom, and the rest:
//   12:34:56.789012  denied       tcp   10.0.2.15:40112 -> 10.1.2.3:5432  tenant: private
// `line` itself if it is no event.
[[nodiscard]] std::string EventText(std::string_view line);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_EVENT_TEXT_H_
