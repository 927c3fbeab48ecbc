#include "stack/policy/name_pins.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "relay/check.h"
#include "stack/policy/canonical_name.h"

namespace penstock {

NamePins::NamePins() : by_address_(0, AddressHash{RandomSipKey()}) {}

void NamePins::Add(std::string_view name, const IpAddress& address, std::chrono::seconds ttl,
                   Time now) {
  std::optional<std::string> canonical = CanonicalName(name);
  if (!canonical) return;
  for (int i = 0; i < kExpireMax; ++i) {
    const Pin* due = deadlines_.TakeDue(now);
    if (due == nullptr) break;
    Forget(*due);
  }
  const Time end = After(now, std::clamp(ttl, kTtlMin, kTtlMax));
  const IpAddress at = address.Unmapped();
  ++answers_;
  if (const auto pins = by_address_.find(at); pins != by_address_.end()) {
    for (const auto& pin : pins->second) {
      if (pin->name != *canonical) continue;
      pin->answered = answers_;
      pin->deadline = std::max(pin->deadline, end);
      deadlines_.Schedule(*pin);
      return;
    }
    if (pins->second.size() >= kPinsPerAddressMax) {
      Displace(**std::min_element(
                   pins->second.begin(), pins->second.end(),
                   [](const auto& a, const auto& b) { return a->deadline < b->deadline; }),
               now);
    }
  }
  if (size() >= kPinCountMax) {
    Pin* first = deadlines_.TakeDue(kNever);
    PENSTOCK_CHECK(first != nullptr);
    displaced_ += first->deadline > now ? 1 : 0;
    Forget(*first);
  }
  auto pin = std::make_unique<Pin>(
      Pin{.name = *std::move(canonical), .address = at, .answered = answers_, .deadline = end});
  deadlines_.Schedule(*pin);
  by_address_[at].push_back(std::move(pin));
}

void NamePins::Forget(const Pin& pin) {
  const auto found = by_address_.find(pin.address);
  PENSTOCK_CHECK(found != by_address_.end());
  Pins& pins = found->second;
  const auto it = std::find_if(pins.begin(), pins.end(),
                               [&pin](const auto& other) { return other.get() == &pin; });
  PENSTOCK_CHECK(it != pins.end());
  std::swap(*it, pins.back());
  pins.pop_back();
  if (pins.empty()) by_address_.erase(found);
}

void NamePins::Displace(Pin& pin, Time now) {
  displaced_ += pin.deadline > now ? 1 : 0;
  // The first of all on the heap, and so off it.
  pin.deadline = Time::min();
  deadlines_.Schedule(pin);
  PENSTOCK_CHECK(deadlines_.TakeDue(Time::min()) == &pin);
  Forget(pin);
}

bool NamePins::Has(std::string_view name, const IpAddress& address, Time now) const {
  bool has = false;
  ForEach(address, now, [&](std::string_view pinned) { has = has || pinned == name; });
  return has;
}

std::vector<NamePins::Seen> NamePins::At(const IpAddress& address, Time now) const {
  std::vector<const Pin*> live;
  if (const Pins* pins = Find(address)) {
    for (const auto& pin : *pins) {
      if (pin->deadline > now) live.push_back(pin.get());
    }
  }
  std::sort(live.begin(), live.end(),
            [](const Pin* a, const Pin* b) { return a->answered > b->answered; });
  std::vector<Seen> seen;
  seen.reserve(live.size());
  for (const Pin* pin : live) seen.push_back({.name = pin->name, .end = pin->deadline});
  return seen;
}

std::string_view NamePins::Newest(const IpAddress& address, Time now) const {
  const Pins* pins = Find(address);
  if (pins == nullptr) return {};
  const Pin* newest = nullptr;
  for (const auto& pin : *pins) {
    if (pin->deadline <= now) continue;
    if (newest == nullptr || pin->answered > newest->answered) newest = pin.get();
  }
  return newest == nullptr ? std::string_view() : newest->name;
}

}  // namespace penstock
