// What a frame that the parser refused claims to be: enough to say in an event who wanted
// to speak to whom. Nothing is decided by it. Pure function; any thread.
#ifndef PENSTOCK_STACK_WIRE_CLAIM_H_
#define PENSTOCK_STACK_WIRE_CLAIM_H_

#include <cstdint>
#include <optional>
#include <span>

#include "relay/endpoint.h"

namespace penstock {

struct Claim {
  uint8_t ip_protocol = 0;  // IPv6: of the first header behind the fixed one
  Endpoint source;          // ports of TCP and UDP; else 0
  Endpoint destination;
};

// `packet` begins with the IP header. nullopt: it is too short for one, or of no version.
[[nodiscard]] std::optional<Claim> ReadClaim(std::span<const uint8_t> packet);

}  // namespace penstock

#endif  // PENSTOCK_STACK_WIRE_CLAIM_H_
