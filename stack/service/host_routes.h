// Whether the host can reach the world by a family: what DHCP and router advertisements
// tell the guest about default routes. Owned by the stack, set on the poll thread.
#ifndef PENSTOCK_STACK_SERVICE_HOST_ROUTES_H_
#define PENSTOCK_STACK_SERVICE_HOST_ROUTES_H_

namespace penstock {

struct HostRoutes {
  bool ipv4 = true;
  bool ipv6 = true;
  friend bool operator==(const HostRoutes&, const HostRoutes&) = default;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_SERVICE_HOST_ROUTES_H_
