// The sandbox's network as a stock guest has it: IPv4 by DHCP, IPv6 by the kernel's own
// autoconfiguration, both from the stack at the other end of the tap. A family may be set
// by hand instead (InterfaceSettings).
//
// In the keeper's process, on its only thread. Create brings the interface up, before the
// stack is there; Wait does what is due from then on, first until usable(), then for as
// long as the command runs: an address is renewed at half of its lease, and asked for anew
// if it was lost. DHCP's port is open only while an answer is awaited, so that a client of
// the command's own finds it free.
#ifndef PENSTOCK_TOOLS_PENSTOCK_GUEST_NETWORK_H_
#define PENSTOCK_TOOLS_PENSTOCK_GUEST_NETWORK_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "relay/time.h"
#include "tools/penstock/descriptor.h"
#include "tools/penstock/dhcp_client.h"
#include "tools/penstock/netlink.h"
#include "tools/penstock/route_watch.h"

namespace penstock::tool {

class GuestNetwork final {
 public:
  [[nodiscard]] static absl::StatusOr<GuestNetwork> Create(const InterfaceSettings& settings);

  // Every family that is on can be used.
  [[nodiscard]] bool usable() const { return !watch_ && (!client_ || client_->lease()); }
  // What the kernel refused; OK as long as it did not.
  [[nodiscard]] const absl::Status& error() const { return error_; }
  // A sentence about what is not usable yet, and what to do.
  [[nodiscard]] absl::Status Missing() const;
  // What DHCP told, if it is asked and has.
  [[nodiscard]] std::optional<DhcpLease> lease() const;

  // Sleeps until `descriptor` is readable, `limit` has come or something is due, does
  // that, and returns.
  void Wait(int descriptor, Time limit);

 private:
  GuestNetwork() = default;
  void Work(Time now);
  void Send(const DhcpClient::Outgoing& message);
  void Receive(Time now);
  void Follow();
  [[nodiscard]] absl::Status OpenSocket();
  void Note(const absl::Status& status);

  std::string name_;
  std::optional<RouteWatch> watch_;  // until the IPv6 address is there
  std::optional<DhcpClient> client_;
  std::optional<LeasedInterface> interface_;
  std::optional<DhcpLease> set_;  // what the interface has
  Descriptor socket_;
  absl::Status error_;
};

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_GUEST_NETWORK_H_
