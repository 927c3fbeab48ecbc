// What the stack does for the link besides flows, but for the gateway's own answers: the
// guest's configuration (DHCP, DHCPv6, router advertisements), and where the guest is.
// One object, so that a pass knows one. Poll thread.
#ifndef PENSTOCK_STACK_SERVICE_SERVICES_H_
#define PENSTOCK_STACK_SERVICE_SERVICES_H_

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>

#include "stack/service/dhcp.h"
#include "stack/service/dhcpv6.h"
#include "stack/service/guest_addresses.h"
#include "stack/service/host_routes.h"
#include "stack/service/router_advertiser.h"

namespace penstock {

class Services final {
 public:
  // Keeps the guest's addresses in `link`; all but `config` must live as long as this.
  Services(const Config& config, LinkAddresses& link, Counters& counters);

  // Each packet of the guest, before anything else is done with it.
  void See(const Packet& packet, Time now);
  // nullopt: for none of these.
  [[nodiscard]] std::optional<ServiceAnswer> Handle(const Packet& packet, Time now,
                                                    std::span<uint8_t> out);
  // Writes a frame that is due; 0: none is. Once a pass.
  [[nodiscard]] size_t Tick(Time now, std::span<uint8_t> out);
  [[nodiscard]] Time NextDeadline() const {
    return std::min(routers_.NextDeadline(), guest_.NextDeadline());
  }

  void SetHostRoutes(const HostRoutes& routes, Time now);

  // What DHCP leased: the guest may use it besides the configuration's address.
  [[nodiscard]] const std::optional<IpAddress>& leased() const { return dhcp_.leased(); }
  [[nodiscard]] bool TakeGuestMoved() { return guest_.TakeChanged(); }

 private:
  const LinkAddresses& link_;
  HostRoutes routes_;
  DhcpServer dhcp_;
  Dhcpv6Server dhcpv6_;
  RouterAdvertiser routers_;
  GuestAddresses guest_;
  Counters& counters_;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_SERVICE_SERVICES_H_
