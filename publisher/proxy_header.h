// The PROXY protocol's version 2 header, by which a server learns whom a proxy speaks
// for. Pure function; any thread.
//
// Read first: haproxy.org, doc/proxy-protocol.txt, section 2.2.
#ifndef PENSTOCK_PUBLISHER_PROXY_HEADER_H_
#define PENSTOCK_PUBLISHER_PROXY_HEADER_H_

#include <cstdint>
#include <vector>

#include "publisher/port_spec.h"
#include "relay/endpoint.h"

namespace penstock {

// "PROXY from `client` to `host`", 28 bytes for IPv4 and 52 for IPv6. Both addresses
// are of one family. TCP: in front of the stream; UDP: of each datagram.
[[nodiscard]] std::vector<uint8_t> ProxyHeader(PortProtocol protocol, const Endpoint& client,
                                               const Endpoint& host);

}  // namespace penstock

#endif  // PENSTOCK_PUBLISHER_PROXY_HEADER_H_
