// The way of events out of the stack: to the subscribers of the control socket, and to who
// says what was denied first. Whatever happened in a pass is passed on after it.
//
// The thread that drives the stack.
#ifndef PENSTOCK_TOOLS_PENSTOCK_EVENT_FEED_H_
#define PENSTOCK_TOOLS_PENSTOCK_EVENT_FEED_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "stack/events.h"
#include "stack/policy/policy.h"
#include "tools/penstock/control.h"
#include "tools/penstock/denials.h"

namespace penstock::tool {

// Events that wait in the stack between two passes; some 600 bytes each.
inline constexpr uint32_t kEventCountMax = 4'096;

class EventFeed final {
 public:
  // Where events come from.
  struct Source {
    // The oldest one; false: none waits.
    std::function<bool(Event&)> take;
    // How many were lost since the beginning, for want of room.
    std::function<uint64_t()> lost;
    // The tenant's policy; may be null.
    std::function<std::shared_ptr<const Policy>()> policy;
  };

  explicit EventFeed(Source source) : source_(std::move(source)) {}

  // Either may be null. `say` gets a sentence about what was denied.
  void PassOn(ControlServer* subscribers, DenialTeller* denials,
              const std::function<void(const std::string&)>& say);

 private:
  const Source source_;
  Event event_;  // it is large
  uint64_t lost_ = 0;
};

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_EVENT_FEED_H_
