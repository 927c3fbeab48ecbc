// TCP ports that the stack itself serves, such as a name server's: what TcpFlows asks before
// it would dial. A connection to one of them has no host socket; its flow has one end of a
// stream pair in the place of that (relay/stream_pair.h), and whoever serves the port has
// the other one. Poll thread only.
#ifndef PENSTOCK_STACK_FLOW_LOCAL_PORTS_H_
#define PENSTOCK_STACK_FLOW_LOCAL_PORTS_H_

#include <memory>

#include "relay/endpoint.h"
#include "relay/inbound.h"
#include "stack/tcpip/engine.h"

namespace penstock {

class LocalPorts {
 public:
  // `destination` is what the guest connects to.
  [[nodiscard]] virtual bool Serves(const Endpoint& destination) const = 0;
  // The guest connects; the handshake is still to come. What it sends is read from `end`,
  // what is written there it gets; `end` destroyed is a connection that ends at once.
  virtual void Open(const TcpTuple& tuple, std::unique_ptr<AcceptedSocket> end) = 0;

 protected:
  ~LocalPorts() = default;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_FLOW_LOCAL_PORTS_H_
