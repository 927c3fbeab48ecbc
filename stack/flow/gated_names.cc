#include "stack/flow/gated_names.h"

#include <chrono>
#include <utility>

namespace penstock {

bool GatedNames::MayAsk(std::string_view name, Time) {
  return !gate_.engine().MayReach({.name = name}).denied();
}

bool GatedNames::MayAnswer(std::string_view name, const IpAddress& address, Time) {
  return !gate_.engine().MayReach({.name = name, .address = address}).denied();
}

void GatedNames::Pin(std::string_view name, const IpAddress& address, Duration ttl, Time now) {
  NamePins& pins = gate_.engine().pins();
  pins.Add(name, address, std::chrono::duration_cast<std::chrono::seconds>(ttl), now);
  counters_.name_pins_displaced.Set(pins.displaced());
}

void GatedNames::OnOutcome(const DnsSubject& subject, DnsOutcome outcome, const IpAddress* refused,
                           Time) {
  const bool denied = outcome == DnsOutcome::kDenied || outcome == DnsOutcome::kRebinding;
  if (denied) counters_.denied_to_host.Add(1);
  if (!gate_.events().on()) return;
  Event event{.kind = denied ? EventKind::kDenied : EventKind::kName,
              .protocol = subject.transport == DnsTransport::kTcp ? PolicyProtocol::kTcp
                                                                  : PolicyProtocol::kUdp,
              .guest = subject.guest,
              .peer = subject.asked,
              .name = EventName(subject.name),
              .reason = Name(outcome)};
  if (denied) {
    Policy::Reach reach{.name = subject.name};
    if (refused != nullptr) {
      reach.address = *refused;
      event.peer = {*refused, 0};
    }
    const PolicyEngine::Answer answer = gate_.engine().MayReach(reach);
    event.layer = answer.layer;
    event.rule = answer.rule;
  }
  gate_.Tell(std::move(event));
}

}  // namespace penstock
