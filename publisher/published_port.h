// One published port as its owner sees it, and whom a client is that asks for it.
// Plain values; any thread.
#ifndef PENSTOCK_PUBLISHER_PUBLISHED_PORT_H_
#define PENSTOCK_PUBLISHER_PUBLISHED_PORT_H_

#include <cstdint>
#include <functional>
#include <string>

#include "publisher/port_spec.h"
#include "relay/endpoint.h"

namespace penstock {

// Who can reach a port.
enum class Exposure : uint8_t { kLoopback, kAddress, kInterface, kEverywhere };

// One bound socket. A range, or a place with both families, makes several.
struct PublishedPort {
  uint32_t id = 0;  // never used again while the stack lives
  PortProtocol protocol = PortProtocol::kTcp;
  Endpoint bound;         // with the port that the system chose, if it was asked to
  std::string interface;  // set if bound to one, or the zone of a link-local address
  Endpoint guest;
  ClientIdentity identity = ClientIdentity::kGateway;
  Exposure exposure = Exposure::kLoopback;
  // TCP: connections from their acceptance to their end. UDP: peers that are mapped.
  uint64_t flows_live = 0;
  uint64_t flows_total = 0;
  uint64_t bytes_to_guest = 0;  // payload
  uint64_t bytes_to_host = 0;
};

// What the ingress hook is asked: may this client have this port?
struct IngressRequest {
  PortProtocol protocol = PortProtocol::kTcp;
  Endpoint client;
  Endpoint host;  // the address that the client came to
  uint16_t guest_port = 0;
};

// Called once for each connection, or each UDP peer that is new. False: a TCP client is
// reset, a UDP datagram dropped (its sender is new again with the next one); both are
// counted. Called on relay threads (TCP) and the poll thread (UDP), several at once; must
// not block.
using IngressHook = std::function<bool(const IngressRequest&)>;

}  // namespace penstock

#endif  // PENSTOCK_PUBLISHER_PUBLISHED_PORT_H_
