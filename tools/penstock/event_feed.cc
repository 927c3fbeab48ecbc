#include "tools/penstock/event_feed.h"

#include "tools/penstock/event_json.h"

namespace penstock::tool {

void EventFeed::PassOn(ControlServer* subscribers, DenialTeller* denials,
                       const std::function<void(const std::string&)>& say) {
  if (!source_.take(event_)) return;
  const bool watched = subscribers != nullptr && subscribers->subscriber_count() > 0;
  const ClockPair clocks = ClockPair::Now();
  uint32_t count = 0;
  do {
    ++count;
    if (watched) subscribers->Publish(EventLine(event_, clocks));
    if (denials == nullptr) continue;
    const std::optional<std::string> sentence = denials->Tell(event_, source_.policy().get());
    if (sentence) say(*sentence);
  } while (source_.take(event_));
  event_.rule.reset();  // of a policy that may be another one soon
  if (count >= kEventCountMax) {
    // There was no more room: whether something came then, only the counter knows.
    const uint64_t lost = source_.lost();
    if (watched && lost != lost_) subscribers->PublishLoss(lost - lost_);
    lost_ = lost;
  }
  if (watched) subscribers->Flush();
}

}  // namespace penstock::tool
