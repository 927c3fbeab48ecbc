// One UDP socket of the host's, with any number of peers, and the pipe that joins it to
// the stack (datagram_pipe.h).
//
// Reads in batches into the relay's scratch area (DatagramScratch), until a batch comes
// back short or its turn is over, and copies each datagram into a right-sized one of the
// pool: one copy in user space, one recvmmsg, one wait (an epoll_ctl of Asio's) and at
// most one ring of the stack's doorbell for up to 32 datagrams. What the pool refuses is
// dropped and counted.
//
// Writes in batches where the stack's datagrams arrive. If the socket is full, one handler
// waits for room, and what the stack gives meanwhile queues up in the pipe, to the stack's
// limit.
//
// An error of the socket is never the end of it: an ICMP error that some peer caused says
// nothing of the others. It is counted, and at most the datagram that met it is lost.
//
// `Socket` is KernelDatagramSocket, or a scripted one in tests/world: bound already.
// Relay's thread only.
#ifndef PENSTOCK_RELAY_UDP_TASK_H_
#define PENSTOCK_RELAY_UDP_TASK_H_

#include <errno.h>

#include <algorithm>
#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/system/error_code.hpp>
#include <cstring>
#include <memory>
#include <span>
#include <utility>

#include "relay/check.h"
#include "relay/datagram_pipe.h"
#include "relay/datagram_task.h"
#include "relay/kernel_datagram_socket.h"
#include "relay/relay.h"

namespace penstock {

template <typename Socket>
class UdpTask final : public DatagramTask, public std::enable_shared_from_this<UdpTask<Socket>> {
 public:
  // `arguments` go to the Socket's constructor behind the io_context.
  template <typename... Arguments>
  UdpTask(Relay& relay, std::shared_ptr<DatagramPipe> pipe, Arguments&&... arguments)
      : relay_(relay),
        pipe_(std::move(pipe)),
        socket_(relay.io(), std::forward<Arguments>(arguments)...) {}
  UdpTask(const UdpTask&) = delete;
  UdpTask& operator=(const UdpTask&) = delete;

  void Begin(std::shared_ptr<PortTask> self) override;
  void Serve() override;
  void Close() override;
  void Abandon() override;

  [[nodiscard]] const Socket& socket() const { return socket_; }

 private:
  friend class FlowAudit;  // tests/world
  // Batches in a row before other handlers of the io_context have their turn.
  static constexpr int kReadBatchesMax = 4;

  void WaitReadable();
  void Read();
  void Deliver(std::span<const DatagramScratch::Slot> slots);
  void TakeHome();
  void Write();
  [[nodiscard]] DatagramResult SendBatch();
  void WaitWritable();
  // The first `count` unsent datagrams go back to the stack.
  void GiveBack(size_t count);
  void GiveBackAll();
  void Finish();

  Relay& relay_;                        // keeps the task
  std::shared_ptr<DatagramPipe> pipe_;  // nullptr once it is over
  Socket socket_;
  uint64_t bytes_out_ = 0;  // of our datagrams
  Datagram* unsent_head_ = nullptr;
  Datagram* unsent_tail_ = nullptr;
  bool open_ = true;
  bool waiting_writable_ = false;
  bool error_met_ = false;  // by the first unsent datagram
};

// ---------------------------------------------------------------- definitions

template <typename Socket>
void UdpTask<Socket>::Begin(std::shared_ptr<PortTask>) {
  pipe_->relay_task = this;
  relay_.Adopt(this->shared_from_this());
  WaitReadable();
}

template <typename Socket>
void UdpTask<Socket>::WaitReadable() {
  socket_.AsyncWaitReadable([self = this->shared_from_this()](boost::system::error_code) {
    self->Read();  // nothing, if the socket was closed
  });
}

template <typename Socket>
void UdpTask<Socket>::Read() {
  // Room first: other sockets' datagrams count as well.
  if (open_) relay_.ServePipes();
  for (int i = 0; i < kReadBatchesMax && open_; ++i) {
    const std::span slots(relay_.scratch().slots);
    const DatagramResult got = socket_.Receive(slots);
    if (got.error == EAGAIN || got.error == EWOULDBLOCK) return WaitReadable();
    if (got.error != 0) {
      if (got.error != EINTR) relay_.counts().socket_errors.Add(1);
      continue;
    }
    Deliver(slots.first(got.count));
    // A short batch was the last; one that comes just now is found by the wait.
    if (got.count < slots.size()) return WaitReadable();
  }
  if (!open_) return;
  boost::asio::post(relay_.io(), [self = this->shared_from_this()] { self->Read(); });
}

template <typename Socket>
void UdpTask<Socket>::Deliver(std::span<const DatagramScratch::Slot> slots) {
  Datagram* newest = nullptr;
  Datagram* oldest = nullptr;
  for (const DatagramScratch::Slot& slot : slots) {
    Datagram* datagram = relay_.datagrams().Take(slot.length, bytes_out_);
    if (datagram == nullptr) {
      relay_.counts().lost_to_guest.Add(1);
      continue;
    }
    std::memcpy(datagram->data, slot.room.data(), slot.length);
    datagram->path = slot.path;
    datagram->next = newest;
    newest = datagram;
    if (oldest == nullptr) oldest = datagram;
  }
  if (newest == nullptr) return;
  pipe_->to_guest.PushChain(newest, oldest);
  relay_.TellStack(*pipe_);
}

template <typename Socket>
void UdpTask<Socket>::TakeHome() {
  relay_.datagrams().GiveAll(pipe_->delivered.TakeAll(), bytes_out_);
}

template <typename Socket>
void UdpTask<Socket>::Serve() {
  // Before anything is taken: what the stack did before its last word is seen below.
  const bool last = pipe_->stack_done.load(std::memory_order_seq_cst);
  TakeHome();
  Write();
  if (last) Finish();
}

template <typename Socket>
void UdpTask<Socket>::Write() {
  Datagram* taken = pipe_->to_host.TakeInOrder();
  if (taken != nullptr) {
    (unsent_tail_ == nullptr ? unsent_head_ : unsent_tail_->next) = taken;
    while (taken->next != nullptr) taken = taken->next;
    unsent_tail_ = taken;
  }
  while (open_ && !waiting_writable_ && unsent_head_ != nullptr) {
    const DatagramResult result = SendBatch();
    if (result.error == 0) {
      GiveBack(result.count);
    } else if (result.error == EAGAIN || result.error == EWOULDBLOCK) {
      WaitWritable();
    } else if (result.error != EINTR) {
      relay_.counts().socket_errors.Add(1);
      // The first error may be one that waited in the socket for whoever came next.
      if (!std::exchange(error_met_, true)) continue;
      relay_.counts().lost_to_host.Add(1);
      GiveBack(1);
    }
  }
  if (!open_) GiveBackAll();
}

template <typename Socket>
DatagramResult UdpTask<Socket>::SendBatch() {
  std::array<Datagram*, DatagramScratch::kBatch> batch;
  size_t count = 0;
  for (Datagram* datagram = unsent_head_; datagram != nullptr && count < batch.size();
       datagram = datagram->next) {
    batch[count++] = datagram;
  }
  return socket_.Send(std::span(batch).first(count));
}

template <typename Socket>
void UdpTask<Socket>::WaitWritable() {
  waiting_writable_ = true;
  socket_.AsyncWaitWritable([self = this->shared_from_this()](boost::system::error_code) {
    self->waiting_writable_ = false;
    if (self->open_) self->Write();
  });
}

template <typename Socket>
void UdpTask<Socket>::GiveBack(size_t count) {
  error_met_ = false;
  for (; count > 0; --count) {
    Datagram* datagram = unsent_head_;
    unsent_head_ = datagram->next;
    if (unsent_head_ == nullptr) unsent_tail_ = nullptr;
    pipe_->sent.Push(datagram);
  }
  relay_.TellStackLater(*pipe_);
}

template <typename Socket>
void UdpTask<Socket>::GiveBackAll() {
  size_t count = 0;
  for (const Datagram* datagram = unsent_head_; datagram != nullptr; datagram = datagram->next) {
    ++count;
  }
  if (count == 0) return;
  relay_.counts().lost_to_host.Add(count);
  GiveBack(count);
}

template <typename Socket>
void UdpTask<Socket>::Close() {
  if (!open_) return;
  Write();
  open_ = false;
  socket_.Close();
  GiveBackAll();
}

template <typename Socket>
void UdpTask<Socket>::Finish() {
  Close();
  // The stack reads to_guest no longer.
  relay_.datagrams().GiveAll(pipe_->to_guest.TakeAll(), bytes_out_);
  PENSTOCK_CHECK(bytes_out_ == 0);
  const std::shared_ptr<DatagramPipe> pipe = std::exchange(pipe_, nullptr);
  pipe->relay_task = nullptr;
  pipe->relay_done.store(true, std::memory_order_seq_cst);
  relay_.TellStack(*pipe);
  relay_.Release(*this);  // may be the end of this
}

template <typename Socket>
void UdpTask<Socket>::Abandon() {
  open_ = false;
  socket_.Close();
  for (Datagram* datagram = unsent_head_; datagram != nullptr;) {
    Datagram* next = datagram->next;
    pipe_->sent.Push(datagram);
    datagram = next;
  }
  unsent_head_ = unsent_tail_ = nullptr;
  pipe_->relay_task = nullptr;
  pipe_ = nullptr;
}

}  // namespace penstock

#endif  // PENSTOCK_RELAY_UDP_TASK_H_
