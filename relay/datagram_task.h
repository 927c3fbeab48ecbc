// What a relay (relay.h) knows of the task that serves one UDP socket, or one stream of
// messages: a port's task whose datagrams go through a pipe. Relay's thread only.
#ifndef PENSTOCK_RELAY_DATAGRAM_TASK_H_
#define PENSTOCK_RELAY_DATAGRAM_TASK_H_

#include <list>
#include <memory>

#include "relay/datagram_pipe.h"
#include "relay/port_task.h"

namespace penstock {

class Relay;

// Begin: the relay adopts the task. Close: sends what the stack gave, as far as the socket
// takes it at once, and closes the socket; the pipe goes on until the stack's last word.
class DatagramTask : public PortTask {
 public:
  // The stack has something in the pipe: datagrams, or its last word.
  virtual void Serve() = 0;
  // The relay shuts down: close the socket, let go of the pipe.
  virtual void Abandon() = 0;
  // The pool may have a datagram again (Relay::WaitForDatagrams).
  virtual void TakeAgain() {}
  void Resume() final {}

 private:
  friend class Relay;
  std::list<std::shared_ptr<DatagramTask>>::iterator place_in_pipes_;
  std::list<DatagramTask*>::iterator place_in_queue_;
  bool queued_ = false;  // waits for datagrams
};

// Makes the task of a UDP socket, which is bound already and whose descriptor it owns from
// then on. nullptr: the system has no room to wait for it.
using UdpTaskMaker = std::shared_ptr<DatagramTask> (*)(Relay& relay,
                                                       std::shared_ptr<DatagramPipe> pipe,
                                                       int descriptor);

// With a socket of the host's kernel (udp_task.h).
[[nodiscard]] std::shared_ptr<DatagramTask> MakeUdpTask(Relay& relay,
                                                        std::shared_ptr<DatagramPipe> pipe,
                                                        int descriptor);

// Makes the task of a socket that the stack asked for (pipe->request), and opens that. Where
// the system gives none, the task tells the stack so for each datagram.
using GuestSocketMaker = std::shared_ptr<DatagramTask> (*)(Relay& relay,
                                                           std::shared_ptr<DatagramPipe> pipe);

// From the relay's socket factory.
[[nodiscard]] std::shared_ptr<DatagramTask> MakeGuestSocket(Relay& relay,
                                                            std::shared_ptr<DatagramPipe> pipe);

// Of kFramedStream (framed_task.h).
[[nodiscard]] std::shared_ptr<DatagramTask> MakeFramedStream(Relay& relay,
                                                             std::shared_ptr<DatagramPipe> pipe);

}  // namespace penstock

#endif  // PENSTOCK_RELAY_DATAGRAM_TASK_H_
