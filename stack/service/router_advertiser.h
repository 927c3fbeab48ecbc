// The router of the link, for IPv6: what the guest makes its address, its default route,
// its MTU and its name servers of.
//
// A solicitation is answered at once, to who asked, or to all nodes if that has no address
// yet; of more than a handful in a second the rest is dropped. Unasked, an advertisement
// goes out every ten minutes once a guest has been heard, which is what keeps a guest's
// settings alive that came up with an earlier stack. Initial ones in quick succession (RFC
// 4861 6.2.4 allows them) are of no use here: there is no guest before it is heard. And
// one goes out when the host's routes change: with a router lifetime of 0 where the host
// has none for IPv6, the addresses staying as they are.
//
// A prefix that is not 64 bits long cannot make addresses (RFC 4862 5.5.3): it is told
// as on-link only. Poll thread.
//
// Read first: RFC 4861 4.2, 4.6 and 6.2, RFC 4862 5.5.3, RFC 8106 5, RFC 9096 3.4.
#ifndef PENSTOCK_STACK_SERVICE_ROUTER_ADVERTISER_H_
#define PENSTOCK_STACK_SERVICE_ROUTER_ADVERTISER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "relay/time.h"
#include "stack/config.h"
#include "stack/counters.h"
#include "stack/service/host_routes.h"
#include "stack/service/service_frames.h"
#include "stack/wire/packet.h"

namespace penstock {

class RouterAdvertiser final {
 public:
  static constexpr Duration kInterval = std::chrono::seconds(600);
  // Until the first unasked one, for a guest that does not ask.
  static constexpr Duration kFirstInterval = std::chrono::seconds(200);
  // Between two that nobody asked for (RFC 4861 10, MIN_DELAY_BETWEEN_RAS).
  static constexpr Duration kDelayMin = std::chrono::seconds(3);
  // Answers in a burst; one more is earned in each interval.
  static constexpr int kAnswersMax = 8;
  static constexpr Duration kAnswerInterval = std::chrono::seconds(1);
  // Three intervals: two may be lost.
  static constexpr uint32_t kRouterLifetimeSeconds = 1'800;
  // RFC 9096's, with which a guest leaves a network in time that is no more.
  static constexpr uint32_t kPreferredSeconds = 2'700, kValidSeconds = 5'400;

  // All but `config` must live as long as this.
  RouterAdvertiser(const Config& config, const HostRoutes& routes, const LinkAddresses& link,
                   Counters& counters);

  // True for router solicitations.
  [[nodiscard]] bool IsFor(const Packet& packet) const;
  [[nodiscard]] ServiceAnswer Handle(const Packet& packet, Time now, std::span<uint8_t> out);

  // For each IPv6 packet of the guest.
  void OnGuestHeard(Time now);
  void OnRoutesChanged(Time now);

  // When the next one is due that nobody asked for.
  [[nodiscard]] Time NextDeadline() const { return next_; }
  // Writes it if it is due; returns its length.
  [[nodiscard]] size_t Advertise(Time now, std::span<uint8_t> out);

 private:
  [[nodiscard]] size_t Emit(const MacAddress& to, const IpAddress& destination,
                            std::span<uint8_t> out);
  [[nodiscard]] bool MayAnswer(Time now);

  const bool enabled_;
  const bool other_by_dhcp_;
  const FamilyConfig ipv6_;
  const uint32_t mtu_;
  const std::vector<uint8_t> search_;  // padded to 8 bytes
  const HostRoutes& routes_;
  const LinkAddresses& link_;
  Counters& counters_;

  Time next_ = kNever;
  Time last_{};  // the last one that nobody asked for
  int answers_ = kAnswersMax;
  Time answers_counted_{};
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_SERVICE_ROUTER_ADVERTISER_H_
