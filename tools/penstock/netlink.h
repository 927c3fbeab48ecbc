// Configures network interfaces of the calling thread's network namespace over
// rtnetlink (RFC 3549, rtnetlink(7)) and /proc/sys/net, without ip(8).
//
// Each request asks for an acknowledgement and waits for it; the kernel answers
// at once, so there is no timeout. Runs in the processes that enter a namespace.
#ifndef PENSTOCK_TOOLS_PENSTOCK_NETLINK_H_
#define PENSTOCK_TOOLS_PENSTOCK_NETLINK_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "stack/config.h"
#include "tools/penstock/descriptor.h"
#include "tools/penstock/dhcp_client.h"

namespace penstock::tool {

struct InterfaceSettings {
  std::string name;
  uint32_t mtu = 1500;
  // Guest address, prefix and gateway (the default route) of each family that is
  // enabled; a family that is not is switched off on the interface.
  FamilyConfig ipv4;
  FamilyConfig ipv6;
  // Left to DHCP (the MTU, too), to the kernel's own autoconfiguration: nothing of that
  // family is set here.
  bool ipv4_by_dhcp = false;
  bool ipv6_by_advertisements = false;
};

// Brings `lo` up, then the interface with its MTU, addresses and default routes,
// usable at once: no duplicate-address detection, no waiting for router
// advertisements. A family that is left to others begins to ask when the interface is up.
[[nodiscard]] absl::Status ConfigureNamespace(const InterfaceSettings& settings);

// IPv4 on an interface as DHCP told. Stays in the namespace that it was opened in.
class LeasedInterface final {
 public:
  [[nodiscard]] static absl::StatusOr<LeasedInterface> Open(const std::string& name);

  // What an interface without an address needs so that an answer to everybody is taken
  // for one that comes the right way (rp_filter); Set removes it.
  [[nodiscard]] absl::Status AddBroadcastRoute();
  // Address with its lifetime, MTU, default route: or none, if none was told.
  [[nodiscard]] absl::Status Set(const DhcpLease& lease);
  // An error if the address has gone already, by its lifetime.
  [[nodiscard]] absl::Status Drop(const DhcpLease& lease);

 private:
  Descriptor netlink_;
  int index_ = 0;
};

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_NETLINK_H_
