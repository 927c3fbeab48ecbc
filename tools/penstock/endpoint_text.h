// Addresses with ports as users write them. Any thread.
#ifndef PENSTOCK_TOOLS_PENSTOCK_ENDPOINT_TEXT_H_
#define PENSTOCK_TOOLS_PENSTOCK_ENDPOINT_TEXT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "relay/endpoint.h"
#include "stack/policy/policy.h"

namespace penstock::tool {

// "10.0.2.2:80", "[fd00::2]:80"; without a port also "10.0.2.2", "fd00::2" and "[fd00::2]",
// if there is a `default_port`.
[[nodiscard]] std::optional<Endpoint> ParseEndpoint(std::string_view text,
                                                    std::optional<uint16_t> default_port);

// "10.0.2.2:80"; of ICMP, which has no ports, "10.0.2.2".
[[nodiscard]] std::string EndpointText(const Endpoint& endpoint, PolicyProtocol protocol);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_ENDPOINT_TEXT_H_
