// Configures network interfaces of the calling thread's network namespace over
// rtnetlink (RFC 3549, rtnetlink(7)) and /proc/sys/net, without ip(8).
//
// Each request asks for an acknowledgement and waits for it; the kernel answers
// at once, so there is no timeout. Runs in the short-lived processes that enter a
// namespace.
#ifndef PENSTOCK_TOOLS_PENSTOCK_NETLINK_H_
#define PENSTOCK_TOOLS_PENSTOCK_NETLINK_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "stack/config.h"

namespace penstock::tool {

struct InterfaceSettings {
  std::string name;
  uint32_t mtu = 1500;
  // Guest address, prefix and gateway (the default route) of each family that is
  // enabled; a family that is not is switched off on the interface.
  FamilyConfig ipv4;
  FamilyConfig ipv6;
};

// Brings `lo` up, then the interface with its MTU, addresses and default routes,
// usable at once: no duplicate-address detection, no waiting for router
// advertisements.
[[nodiscard]] absl::Status ConfigureNamespace(const InterfaceSettings& settings);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_NETLINK_H_
