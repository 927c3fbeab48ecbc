// Who carries datagrams between the pipes of published UDP ports and the guest: the stack,
// as the publisher knows it. Poll thread.
#ifndef PENSTOCK_PUBLISHER_DATAGRAM_PORTS_H_
#define PENSTOCK_PUBLISHER_DATAGRAM_PORTS_H_

#include <cstdint>
#include <memory>

#include "publisher/published_port.h"
#include "relay/datagram_pipe.h"
#include "relay/relay.h"

namespace penstock {

class DatagramPorts {
 public:
  virtual ~DatagramPorts() = default;

  // `info.id` is new; `pipe` is that of a task of `relay`, which may run already.
  // `info.guest` has an address of a family that is on.
  virtual void Add(const PublishedPort& info, std::shared_ptr<DatagramPipe> pipe, Relay& relay) = 0;
  // The guest's answers go nowhere from now on, and the relay's task will end with the
  // stack's next pass. False if there is no such port.
  virtual bool Remove(uint32_t id) = 0;
  // Sets the numbers of the row: peers and bytes. False if there is no such port.
  virtual bool Describe(PublishedPort& row) const = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_PUBLISHER_DATAGRAM_PORTS_H_
