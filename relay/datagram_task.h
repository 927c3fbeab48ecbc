// What a relay (relay.h) knows of the task that serves one UDP socket. Relay's thread
// only.
#ifndef PENSTOCK_RELAY_DATAGRAM_TASK_H_
#define PENSTOCK_RELAY_DATAGRAM_TASK_H_

#include <list>
#include <memory>

#include "relay/datagram_pipe.h"

namespace penstock {

class DatagramTask {
 public:
  virtual ~DatagramTask() = default;

  // The stack has something in the pipe: datagrams, or its last word.
  virtual void Serve() = 0;
  // Sends what the stack gave, as far as the socket takes it at once, and closes the
  // socket: its address is free when this returns. The pipe goes on until the stack's
  // last word.
  virtual void CloseSocket() = 0;
  // The relay shuts down: close the socket, let go of the pipe.
  virtual void Abandon() = 0;

 private:
  friend class Relay;
  std::list<std::shared_ptr<DatagramTask>>::iterator place_;  // among the relay's
};

}  // namespace penstock

#endif  // PENSTOCK_RELAY_DATAGRAM_TASK_H_
