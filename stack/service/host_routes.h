// Which families the host has a way out for, followed as that changes. A guest is told by
// what the services make of it: no default router, no names of that family (README.md).
//
// What counts is any unicast route that leads off the host, in any table but the
// kernel's own: a default route, but also one to a single network, for a guest of a host
// that has only those must reach them. Loopback's, link-local's and multicast's do not
// count (an IPv6 that is switched on and not connected has them), nor do routes that
// refuse, nor those over an interface that is down.
//
// How: an rtnetlink socket says that something about routes, addresses or interfaces
// changed, and no more is read out of it, because the kernel does not tell of each IPv4
// route that vanishes with its interface. Then the routes are dumped anew, until the
// first one that counts: with a full table that is one answer of the kernel's.
//
// Poll thread, which stays in the network namespace that it was made in.
//
// Read first: rtnetlink(7).
#ifndef PENSTOCK_STACK_SERVICE_HOST_ROUTES_H_
#define PENSTOCK_STACK_SERVICE_HOST_ROUTES_H_

#include <functional>

#include "relay/endpoint.h"

namespace penstock {

struct HostRoutes {
  bool ipv4 = true;
  bool ipv6 = true;

  [[nodiscard]] bool of(Family family) const { return family == Family::kIpv4 ? ipv4 : ipv6; }
  friend bool operator==(const HostRoutes&, const HostRoutes&) = default;
};

class RouteFollower final {
 public:
  // Looks once. Where netlink cannot be had, both families are taken to have routes for
  // ever: a connect still finds out. `on_change` comes from within Update.
  explicit RouteFollower(std::function<void(const HostRoutes&)> on_change = {});
  ~RouteFollower();
  RouteFollower(const RouteFollower&) = delete;
  RouteFollower& operator=(const RouteFollower&) = delete;

  // Readable (level-triggered) when Update has something to look at; -1: never.
  [[nodiscard]] int descriptor() const { return descriptor_; }
  // One system call if nothing happened. True if routes() is another than before.
  bool Update();
  [[nodiscard]] const HostRoutes& routes() const { return routes_; }

 private:
  // Messages read by one Update, at most; more keep the descriptor readable.
  static constexpr int kMessagesMax = 64;

  const std::function<void(const HostRoutes&)> on_change_;
  int descriptor_ = -1;
  HostRoutes routes_;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_SERVICE_HOST_ROUTES_H_
