// What a relay (relay.h) knows of the task behind one published port: a listener
// (publisher/). Relay's thread only.
#ifndef PENSTOCK_RELAY_PORT_TASK_H_
#define PENSTOCK_RELAY_PORT_TASK_H_

#include <list>
#include <memory>

namespace penstock {

class PortTask {
 public:
  virtual ~PortTask() = default;

  // Begins to listen. `self` is kept until Close.
  virtual void Begin(std::shared_ptr<PortTask> self) = 0;
  // The stack has caught up with what was handed over.
  virtual void Resume() = 0;
  // Closes the socket: clients are refused, the address is free. May let go of `self`.
  virtual void Close() = 0;

 private:
  friend class Relay;
  std::list<PortTask*>::iterator place_;  // among the relay's ports
  bool listed_ = false;
};

}  // namespace penstock

#endif  // PENSTOCK_RELAY_PORT_TASK_H_
