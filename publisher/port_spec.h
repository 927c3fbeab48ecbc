// What to publish: which host ports lead to which ports of the guest, and the text
// form of it that users write. Plain values; any thread.
//
//   [ADDRESS:]HOSTPORTS:GUESTPORTS[/tcp|/udp]
//
//   8080:80                       127.0.0.1:8080 → the guest's port 80, TCP
//   0.0.0.0:8080:80/tcp           on every IPv4 address
//   [::1]:8080:80                 IPv6 addresses in brackets; [fe80::1%eth0] with a zone
//   *:8080:80                     on every address of both families
//   eth0:5353:53/udp              on the addresses of one interface, both families
//   8000-8010:9000-9010           a range: as many guest ports as host ports, in order
//   8000-8010,~8003,~8005-8006:9000-9010
//                                 without these host ports (and those they lead to)
//   0:80                          a host port that the system chooses and the result tells;
//                                 0:9000-9003 chooses one for each guest port
//
// ADDRESS:    A.B.C.D, [IPV6], [IPV6%INTERFACE] for a link-local one, INTERFACE, or *;
//             left out: 127.0.0.1
// INTERFACE:  1 to 15 printable ASCII characters, at least one of them a letter, none of
//             them / : % * [ ]
// HOSTPORTS:  0, PORT or PORT-PORT, then perhaps ,~PORT or ,~PORT-PORT up to 64 times
// GUESTPORTS: PORT or PORT-PORT
// PORT:       1 to 65535, no zero in front
//
// port_selector.h reads nearly the same text as a question.
#ifndef PENSTOCK_PUBLISHER_PORT_SPEC_H_
#define PENSTOCK_PUBLISHER_PORT_SPEC_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "relay/endpoint.h"

namespace penstock {

enum class PortProtocol : uint8_t { kTcp, kUdp };

// Whom the guest sees as the peer of a published connection.
enum class ClientIdentity : uint8_t {
  kGateway,         // the gateway's address, a port of the stack's choice
  kPreserveSource,  // the client's own address and port, where the guest can answer them
  kProxyProtocol,   // the gateway, and a PROXY protocol v2 header in front of the data
};

// From `first` to `last`, both included.
struct PortRange {
  uint16_t first = 0;
  uint16_t last = 0;

  [[nodiscard]] uint32_t count() const { return uint32_t{last} - first + 1; }
  friend bool operator==(const PortRange&, const PortRange&) = default;
};

// Where the host listens. What a kind does not use keeps its default.
struct BindPlace {
  enum class Kind : uint8_t {
    kAddress,    // `address`; with `interface` the zone of a link-local one
    kInterface,  // every address of `interface`, both families
    kEverywhere  // every address, both families
  };
  Kind kind = Kind::kAddress;
  IpAddress address = IpAddress::V4(127, 0, 0, 1);
  std::string interface;

  friend bool operator==(const BindPlace&, const BindPlace&) = default;
};

// A spec has at most this many excluded ranges, and its text this many bytes; the longest
// text of a valid spec is shorter (port_text.cc has the sum).
inline constexpr size_t kExcludedCountMax = 64;
inline constexpr size_t kPortSpecBytesMax = 1024;

struct PortSpec {
  BindPlace place;
  PortRange host;                   // {0, 0}: chosen by the system, one for each guest port
  PortRange guest;                  // as many as `host`, unless that is {0, 0}
  std::vector<PortRange> excluded;  // of `host`
  PortProtocol protocol = PortProtocol::kTcp;
  ClientIdentity identity = ClientIdentity::kGateway;  // not part of the text

  friend bool operator==(const PortSpec&, const PortSpec&) = default;
};

// InvalidArgument with one sentence, the text and a caret under the wrong character:
//   "the guest's port is 70000: it must be 1 to 65535
//     8080:70000/tcp
//          ^"
// What is not printable ASCII in the text is shown as "?".
[[nodiscard]] absl::StatusOr<PortSpec> ParsePortSpec(std::string_view text);

// What ParsePortSpec reads as the same spec, but for its identity. For a valid spec.
[[nodiscard]] std::string ToString(const PortSpec& spec);

// "8080"; "8000-8010".
[[nodiscard]] std::string ToString(const PortRange& range);
// "127.0.0.1"; "[fe80::1%eth0]"; "eth0"; "*".
[[nodiscard]] std::string ToString(const BindPlace& place);

// "tcp"; "udp".
[[nodiscard]] std::string_view Name(PortProtocol protocol);
// "gateway", "preserve-source", "proxy-protocol".
[[nodiscard]] std::string_view Name(ClientIdentity identity);
// The one with that name.
[[nodiscard]] std::optional<ClientIdentity> ClientIdentityNamed(std::string_view name);

// OK, or InvalidArgument with a sentence that says what cannot work in a spec that was
// not parsed: counts that differ, a guest port 0, an excluded range outside, an address
// that nothing can listen on. The system is not asked.
[[nodiscard]] absl::Status Validate(const PortSpec& spec);

}  // namespace penstock

#endif  // PENSTOCK_PUBLISHER_PORT_SPEC_H_
