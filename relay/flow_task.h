// What a relay (relay.h) knows of the task that serves one flow. Relay's thread only.
#ifndef PENSTOCK_RELAY_FLOW_TASK_H_
#define PENSTOCK_RELAY_FLOW_TASK_H_

#include <boost/intrusive/list_hook.hpp>
#include <list>
#include <memory>

#include "relay/flow_pipe.h"

namespace penstock {

class Relay;

// Among its relay's tasks.
using FlowTaskHook =
    boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::normal_link>>;

class FlowTask : public FlowTaskHook {
 public:
  virtual ~FlowTask() = default;

  // The flow opened. Keeps `self` until the task has finished or was abandoned.
  virtual void Begin(std::shared_ptr<FlowTask> self) = 0;
  // The stack has something for this flow.
  virtual void Serve() = 0;
  // The pool may have a block again.
  virtual void ReadAgain() = 0;
  // The relay shuts down: reset the socket, let go of the pipe.
  virtual void Abandon() = 0;

 private:
  friend class Relay;
  std::list<FlowTask*>::iterator place_in_queue_;
  bool queued_ = false;  // waits for a block
};

// Makes the task of a flow that opens; nullptr: there is no memory for it.
using FlowTaskMaker = std::shared_ptr<FlowTask> (*)(std::shared_ptr<Relay> relay, FlowPipe& pipe);

// A TCP flow to a socket of the host's kernel (tcp_task.h).
[[nodiscard]] std::shared_ptr<FlowTask> MakeTcpTask(std::shared_ptr<Relay> relay, FlowPipe& pipe);

}  // namespace penstock

#endif  // PENSTOCK_RELAY_FLOW_TASK_H_
