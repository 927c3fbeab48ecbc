// Which names were told to be at which addresses, until when: what DNS answers tied
// together, for rules with names (policy.h).
//
// A pin is one name at one address. It ends when the answer's time to live is over; an
// answer that says longer extends it, none shortens it, since the guest may go by the
// earlier one. IPv4-mapped addresses are taken as the IPv4 address.
//
// Bounded, as a guest may ask for names of its own without end: kPinCountMax in all, as many
// as a stack has flows unless told otherwise (2 to 8 MB, if there are so many), and
// kPinsPerAddressMax at one address, as a decision looks at them all. Beyond either, what
// ends first gives way. So nothing that the guest still goes by is lost to what it asked for
// later and may hold for a shorter time.
//
// A pin whose time is up counts for nothing at once. What it occupies is given back when
// pins are added, at most kExpireMax at a time: nobody needs to be woken for it. Deadlines
// make adding O(log n); looking is O(1) in the number of pins. Poll thread.
#ifndef PENSTOCK_STACK_POLICY_NAME_PINS_H_
#define PENSTOCK_STACK_POLICY_NAME_PINS_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "relay/endpoint.h"
#include "relay/time.h"
#include "stack/flow/deadlines.h"
#include "stack/tcpip/siphash.h"

namespace penstock {

class NamePins final {
 public:
  static constexpr size_t kPinCountMax = 16'384;
  static constexpr size_t kPinsPerAddressMax = 64;
  // A time to live of 0 says "for this one connection": it has to begin after the answer.
  static constexpr std::chrono::seconds kTtlMin{1};
  // What RFC 8767 4 advises caches to take an answer for at most: a week.
  static constexpr std::chrono::seconds kTtlMax{7 * 24 * 3'600};

  NamePins();
  NamePins(const NamePins&) = delete;
  NamePins& operator=(const NamePins&) = delete;

  // `name` in any case, with or without a last dot; what is no name of letters, digits,
  // hyphens and underscores is not pinned, for no rule can mean it.
  void Add(std::string_view name, const IpAddress& address, std::chrono::seconds ttl, Time now);

  // Calls visit(name) for each name at `address`, canonical (lower case, no last dot), in no
  // particular order.
  template <typename Visit>
  void ForEach(const IpAddress& address, Time now, Visit&& visit) const;
  // `name` is canonical.
  [[nodiscard]] bool Has(std::string_view name, const IpAddress& address, Time now) const;

  struct Seen {
    std::string_view name;  // until pins are added
    Time end;
  };
  // Those at `address`, the one that was answered last in front.
  [[nodiscard]] std::vector<Seen> At(const IpAddress& address, Time now) const;
  // The name that was answered last for `address`; empty if there is none. For events.
  [[nodiscard]] std::string_view Newest(const IpAddress& address, Time now) const;

  // With those whose time is up and that still occupy something.
  [[nodiscard]] size_t size() const { return deadlines_.size(); }
  // How many gave way before their time was up, ever.
  [[nodiscard]] uint64_t displaced() const { return displaced_; }

 private:
  struct Pin {
    std::string name;
    IpAddress address;
    uint64_t answered = 0;  // by which answer, counted
    Time deadline;          // these two are Deadlines'
    uint32_t deadline_slot = kNoDeadlineSlot;
  };
  using Pins = std::vector<std::unique_ptr<Pin>>;  // of one address
  struct AddressHash {
    SipKey key;
    size_t operator()(const IpAddress& address) const { return SipHash(key, address.bytes); }
  };
  static constexpr int kExpireMax = 8;

  [[nodiscard]] const Pins* Find(const IpAddress& address) const {
    const auto found = by_address_.find(address.Unmapped());
    return found == by_address_.end() ? nullptr : &found->second;
  }
  // Of a pin that is off the heap.
  void Forget(const Pin& pin);
  void Displace(Pin& pin, Time now);

  absl::flat_hash_map<IpAddress, Pins, AddressHash> by_address_;
  Deadlines<Pin> deadlines_;
  uint64_t answers_ = 0;
  uint64_t displaced_ = 0;
};

template <typename Visit>
void NamePins::ForEach(const IpAddress& address, Time now, Visit&& visit) const {
  const Pins* pins = Find(address);
  if (pins == nullptr) return;
  for (const auto& pin : *pins) {
    if (pin->deadline > now) visit(std::string_view(pin->name));
  }
}

}  // namespace penstock

#endif  // PENSTOCK_STACK_POLICY_NAME_PINS_H_
