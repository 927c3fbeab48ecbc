#include "tests/world/event_watch.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "stack/config.h"
#include "tests/world/violation.h"

namespace penstock::world {

void EventWatch::Take(const Event& event) {
  switch (event.kind) {
    case EventKind::kFlowOpened:
      if (event.flow <= newest_) throw Violation("a flow is told of as new twice");
      newest_ = event.flow;
      open_.emplace(event.flow, event);
      return;
    case EventKind::kFlowClosed:
      return TakeClosed(event);
    case EventKind::kDenied: {
      const bool by_policy =
          event.layer == EventLayer::kTenant || event.layer == EventLayer::kPlatform;
      denied_ += by_policy ? 1 : 0;
      return;
    }
    default:
      return;
  }
}

void EventWatch::TakeClosed(const Event& event) {
  const auto found = open_.find(event.flow);
  if (found == open_.end()) {
    ++unheard_of_;
    return;
  }
  const Event& opened = found->second;
  if (event.direction != opened.direction || event.protocol != opened.protocol ||
      event.guest != opened.guest || event.peer != opened.peer) {
    throw Violation(absl::StrCat("flow ", event.flow, " ends as another one than began"));
  }
  if (event.protocol == PolicyProtocol::kTcp) {
    ended_denied_ += event.reason == "denied" ? 1 : 0;
    if (event.age != event.time - opened.time) {
      throw Violation(absl::StrCat("flow ", event.flow, " is told to be older or younger"));
    }
  }
  open_.erase(found);
}

void EventWatch::VerifyEnd(const CounterSnapshot& counters, const Scenario& scenario) const {
  const uint64_t lost = counters.events_lost;
  const auto left =
      static_cast<uint64_t>(std::count_if(open_.begin(), open_.end(), [](const auto& each) {
        const Event& event = each.second;
        return event.direction == Direction::kEgress || event.protocol == PolicyProtocol::kTcp;
      }));
  if (left > lost || unheard_of_ > lost) {
    throw Violation(absl::StrCat(left, " flows have ended and ", unheard_of_,
                                 " have begun without an event, and ", lost, " events were lost"));
  }
  const uint64_t denied = counters.denied_to_host + counters.denied_to_guest;
  if (denied_ > denied || denied_ + lost < denied) {
    throw Violation(absl::StrCat(denied, " were denied, ", denied_, " are told of and ", lost,
                                 " events were lost"));
  }
  // Who reads a page may end in another way.
  const uint64_t ended = counters.flows_cut + counters.flows_denied;
  const bool page = static_cast<DenialAnswer>(scenario.denial_answer) == DenialAnswer::kPage;
  if (ended_denied_ > ended || (!page && ended_denied_ + lost < ended)) {
    throw Violation(absl::StrCat(ended, " flows were cut or denied, ", ended_denied_,
                                 " are told to have ended so, and ", lost, " events were lost"));
  }
}

}  // namespace penstock::world
