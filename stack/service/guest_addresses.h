// Where the guest is reached: the addresses to which published ports lead.
//
// IPv4: what DHCP leased last, else the configuration's. IPv6: the guest chooses (RFC
// 4862), so it is looked at. The first address inside the link's prefix that it uses, or
// is about to (the target of a probe for duplicates), is the one. When it uses another
// one later, the known one is asked for: a guest with several answers, and nothing
// changes; one that has come up anew does not, and after kQuestionCount questions the new
// address is the one. On a link without Ethernet nobody can be asked: the newest wins.
// Before anything was seen it is the configuration's.
//
// Whatever a guest says here only concerns where its own ports lead. Poll thread.
//
// Read first: RFC 4862 5.4 and 5.5, RFC 8981 (addresses that change).
#ifndef PENSTOCK_STACK_SERVICE_GUEST_ADDRESSES_H_
#define PENSTOCK_STACK_SERVICE_GUEST_ADDRESSES_H_

#include <optional>
#include <utility>

#include "relay/time.h"
#include "stack/config.h"
#include "stack/wire/emit.h"
#include "stack/wire/packet.h"

namespace penstock {

class GuestAddresses final {
 public:
  static constexpr int kQuestionCount = 3;
  static constexpr Duration kQuestionInterval = std::chrono::seconds(1);
  // How long an answer lets other addresses pass without a question.
  static constexpr Duration kAnswerLasts = std::chrono::minutes(5);

  // Keeps guest4 and guest6 of `link`, which must live as long as this.
  GuestAddresses(const Config& config, LinkAddresses& link);

  // Each packet of the guest, from Parse.
  void See(const Packet& packet, Time now);
  // nullopt: it gave the last lease back.
  void SetLease(const std::optional<IpAddress>& address);

  // True if an address is another one since the last call.
  [[nodiscard]] bool TakeChanged() { return std::exchange(changed_, false); }

  [[nodiscard]] Time NextDeadline() const { return next_; }
  // Who is to be asked for now; nullopt: nobody.
  [[nodiscard]] std::optional<IpAddress> Question(Time now);

 private:
  void SeeAddress(const IpAddress& address, Time now);
  void Move(const IpAddress& address);

  const FamilyConfig ipv4_;
  const FamilyConfig ipv6_;
  LinkAddresses& link_;
  bool known_ = false;                 // guest6 is the guest's own word
  std::optional<IpAddress> newest_{};  // while guest6 is asked for
  int questions_ = 0;
  Time next_ = kNever;     // of the next question
  Time answered_until_{};  // no question before
  bool changed_ = false;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_SERVICE_GUEST_ADDRESSES_H_
