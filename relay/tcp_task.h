// One flow's host socket and the task that serves it.
//
// A coroutine dials and then reads: at most one suspended coroutine per flow. It
// reads first into a small buffer of the task (Asio keeps its edge-triggered
// registration for that, where waiting for readability would re-arm epoll each
// time), and goes on with non-blocking reads straight into blocks while they come
// back full; an idle flow holds no block. Without credit it waits for an error of
// the socket only, so that a reset of the host's peer is passed on at once although
// nothing is read. Writes are plain non-blocking system calls made where the
// guest's bytes arrive; a blocked writer is one handler waiting for room.
//
// Every decision is FlowDecisions'. Relay's thread only.
#ifndef PENSTOCK_RELAY_TCP_TASK_H_
#define PENSTOCK_RELAY_TCP_TASK_H_

#include <array>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <memory>

#include "relay/flow_decisions.h"
#include "relay/flow_pipe.h"
#include "relay/relay.h"

namespace penstock {

class TcpTask final : public std::enable_shared_from_this<TcpTask> {
 public:
  TcpTask(std::shared_ptr<Relay> relay, FlowPipe& pipe);
  ~TcpTask();
  TcpTask(const TcpTask&) = delete;
  TcpTask& operator=(const TcpTask&) = delete;

  // Takes ownership of itself until Finish or Abandon.
  void Begin(std::shared_ptr<TcpTask> self);
  // The stack has something for this flow.
  void Serve();
  // The pool may have a block again.
  void ReadAgain();
  // The relay shuts down: reset the socket, let go of the pipe.
  void Abandon();

 private:
  // The io_context's own executor: the type-erased one would cost each suspended
  // coroutine and handler some hundred bytes.
  using Executor = boost::asio::io_context::executor_type;
  using Socket = boost::asio::basic_stream_socket<boost::asio::generic::stream_protocol, Executor>;
  template <typename T>
  using Task = boost::asio::awaitable<T, Executor>;

  Task<void> Run(std::shared_ptr<TcpTask> self);
  Task<int> Dial();
  [[nodiscard]] int OpenSocket(const Endpoint& destination);
  // Performs whatever is decided now. May end the task: touch nothing after it.
  void Act();
  [[nodiscard]] bool MayRead();
  void ReadBlocks(size_t first_bytes);
  void ReadBurst();
  // A big one if the flow's share allows it; nullptr if the pool is empty.
  [[nodiscard]] Block* TakeBlock();
  // Reads into `block` behind what it holds; false if nothing more is to be read.
  [[nodiscard]] bool ReadInto(Block& block);
  void Deliver(Block* block);
  void Write();
  void WaitWritable();
  // Gives `bytes` written (or, with everything, all) of the pending chunks back.
  void ReleaseWritten(uint64_t bytes);
  void ReleaseAll();
  void CheckSocketError();
  void StartReader();
  void CloseSocket();
  void Finish();

  std::shared_ptr<Relay> relay_;
  FlowPipe* pipe_;  // nullptr once the flow is over
  FlowDecisions decisions_;
  Socket socket_;
  boost::asio::cancellation_signal resume_;
  std::shared_ptr<TcpTask> self_;
  Chunk* unwritten_head_ = nullptr;
  Chunk* unwritten_tail_ = nullptr;
  uint32_t unwritten_offset_ = 0;  // bytes of unwritten_head_ already written
  bool reader_running_ = false;
  bool reader_parked_ = false;     // waits for an error only
  bool errors_unwatched_ = false;  // an event came that was no error: watch no more
  bool needs_block_ = false;
  bool more_likely_ = false;  // the last read filled its block
  uint32_t block_bytes_;      // of OpenRequest
  // Large enough for most messages of interactive protocols.
  std::array<uint8_t, 128> first_;
};

}  // namespace penstock

#endif  // PENSTOCK_RELAY_TCP_TASK_H_
