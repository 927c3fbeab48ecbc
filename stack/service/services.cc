#include "stack/service/services.h"

namespace penstock {

Services::Services(const Config& config, LinkAddresses& link, Counters& counters)
    : link_(link),
      dhcp_(config, routes_, link, counters),
      dhcpv6_(config, link, counters),
      routers_(config, routes_, link, counters),
      guest_(config, link),
      counters_(counters) {}

void Services::See(const Packet& packet, Time now) {
  if (packet.source.is_v4()) return;
  guest_.See(packet, now);
  routers_.OnGuestHeard(now);
}

std::optional<ServiceAnswer> Services::Handle(const Packet& packet, Time now,
                                              std::span<uint8_t> out) {
  if (routers_.IsFor(packet)) return routers_.Handle(packet, now, out);
  if (dhcpv6_.IsFor(packet)) return dhcpv6_.Handle(packet, out);
  if (!dhcp_.IsFor(packet)) return std::nullopt;
  const ServiceAnswer answer = dhcp_.Handle(packet, now, out);
  guest_.SetLease(dhcp_.leased());
  return answer;
}

size_t Services::Tick(Time now, std::span<uint8_t> out) {
  if (const auto asked = guest_.Question(now)) {
    counters_.solicitations_sent.Add(1);
    return EmitNeighbourSolicitation(link_, *asked, out);
  }
  return routers_.Advertise(now, out);
}

void Services::SetHostRoutes(const HostRoutes& routes, Time now) {
  if (routes == routes_) return;
  const bool ipv6_changed = routes.ipv6 != routes_.ipv6;
  routes_ = routes;
  if (ipv6_changed) routers_.OnRoutesChanged(now);
}

}  // namespace penstock
