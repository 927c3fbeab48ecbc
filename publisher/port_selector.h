// Which published ports somebody means: the text of a spec (port_spec.h) as a question,
// for removing them.
//
//   [ADDRESS:]HOSTPORTS[:GUESTPORTS][/tcp|/udp]
//
//   8080                    host port 8080, TCP, on whatever address, to whatever port
//   8080:80                 the same, if it leads to the guest's port 80
//   eth0:8000-8010,~8003    those of the interface that are published
//   5353/udp
//
// The text of a spec selects what it published (but not one with host port 0: the number
// that was chosen is to be written). ADDRESS is to be the same as in the spec: 0.0.0.0
// does not select 127.0.0.1, and * selects what is published on every address.
//
// Plain values; any thread.
#ifndef PENSTOCK_PUBLISHER_PORT_SELECTOR_H_
#define PENSTOCK_PUBLISHER_PORT_SELECTOR_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "publisher/port_spec.h"
#include "publisher/published_port.h"

namespace penstock {

struct PortSelector {
  std::optional<BindPlace> place;  // unset: any
  PortRange host;
  std::vector<PortRange> excluded;  // of `host`
  std::optional<PortRange> guest;   // as many as `host`; unset: any
  PortProtocol protocol = PortProtocol::kTcp;

  friend bool operator==(const PortSelector&, const PortSelector&) = default;
};

// InvalidArgument as by ParsePortSpec.
[[nodiscard]] absl::StatusOr<PortSelector> ParsePortSelector(std::string_view text);

// What ParsePortSelector reads as the same selector.
[[nodiscard]] std::string ToString(const PortSelector& selector);

[[nodiscard]] bool Matches(const PortSelector& selector, const PublishedPort& port);

}  // namespace penstock

#endif  // PENSTOCK_PUBLISHER_PORT_SELECTOR_H_
