// One UDP socket of the host's, with any number of peers, and the pipe that joins it to
// the stack (datagram_pipe.h).
//
// Reads in batches into the relay's scratch area (DatagramScratch), until a batch comes
// back short or its turn is over, and copies what came into right-sized buffers of the
// pool, datagrams of one length from one peer into one: one copy in user space, one
// recvmmsg, one wait (an epoll_ctl of Asio's) and at most one ring of the stack's doorbell
// for up to 32 datagrams. What the pool refuses is dropped and counted.
//
// Writes in batches where the stack's datagrams arrive. If the socket is full, one handler
// waits for room, and what the stack gives meanwhile queues up in the pipe, to the stack's
// limit.
//
// An error of the socket is never the end of it: an ICMP error that some peer caused says
// nothing of the others. It is counted, and at most the datagram that met it is lost. A
// guest's socket (kernel_datagram_socket.h) passes on what the error says, as a Datagram
// with a fault. If it could not be opened at all, the stack's datagrams come back with that.
//
// `Socket` is KernelDatagramSocket, or a scripted one in tests/world. Relay's thread only.
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
#include <optional>
#include <span>
#include <utility>

#include "relay/check.h"
#include "relay/datagram_pipe.h"
#include "relay/datagram_task.h"
#include "relay/kernel_datagram_socket.h"
#include "relay/relay.h"
#include "relay/socket_fault.h"

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
  // Of one buffer with several datagrams: a whole frame's on any link, with its headers.
  static constexpr uint32_t kJoinedBytesMax = 65'000;
  // Of a payload in a fault: as much as ICMPv6 quotes at most (RFC 4443 2.4).
  static constexpr uint32_t kQuotedBytesMax = 1'280;
  // Errors taken off a socket in a row.
  static constexpr size_t kFaultsMax = 64;

  void WaitReadable();
  void Read();
  void Deliver(std::span<const DatagramScratch::Slot> slots);
  // How many from the front fit one buffer: one path, one length but for a shorter last one.
  [[nodiscard]] size_t CountJoined(std::span<const DatagramScratch::Slot> slots) const;
  // One buffer of all `slots`; nullptr if the pool refuses.
  [[nodiscard]] Datagram* Gather(std::span<const DatagramScratch::Slot> slots);
  void DeliverFault(const DatagramScratch::Slot& slot, const DatagramFault& fault);
  // Passes on what the socket's errors say; how many there were, and whether the last one
  // was of the kernel's own about the first unsent datagram.
  struct Drained {
    size_t count = 0;
    std::optional<DatagramFault> local;
  };
  Drained DrainFaults();
  // The first unsent datagram met an errno: it is given back, or stays to be tried again.
  void OnSendError(int error);
  // It is lost to `fault`, and given back.
  void Fail(const DatagramFault& fault);
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
  open_ = socket_.ok();
  if (!open_) return;
  if (pipe_->may_join) socket_.JoinArrivals();
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
    if (got.error == EAGAIN || got.error == EWOULDBLOCK) {
      // Woken for nothing that can be read: an error whose errno somebody else took.
      if (i == 0 && socket_.reports_faults()) (void)DrainFaults();
      return WaitReadable();
    }
    if (got.error != 0) {
      if (got.error == EINTR) continue;
      relay_.counts().socket_errors.Add(1);
      if (socket_.reports_faults()) (void)DrainFaults();
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
size_t UdpTask<Socket>::CountJoined(std::span<const DatagramScratch::Slot> slots) const {
  const DatagramScratch::Slot& first = slots.front();
  if (!pipe_->may_join || first.length == 0 || first.segment_bytes != 0) return 1;
  size_t count = 1;
  uint32_t bytes = first.length;
  while (count < slots.size()) {
    const DatagramScratch::Slot& next = slots[count];
    if (next.path != first.path || next.segment_bytes != 0 || next.length == 0 ||
        next.length > first.length || bytes + next.length > kJoinedBytesMax) {
      break;
    }
    bytes += next.length;
    ++count;
    if (next.length < first.length) break;
  }
  return count;
}

template <typename Socket>
Datagram* UdpTask<Socket>::Gather(std::span<const DatagramScratch::Slot> slots) {
  uint32_t bytes = 0;
  for (const DatagramScratch::Slot& slot : slots) bytes += slot.length;
  Datagram* datagram = relay_.datagrams().Take(bytes, bytes_out_);
  if (datagram == nullptr) return nullptr;
  uint8_t* end = datagram->data;
  for (const DatagramScratch::Slot& slot : slots) {
    std::memcpy(end, slot.room.data(), slot.length);
    end += slot.length;
  }
  datagram->path = slots.front().path;
  datagram->segment_bytes =
      slots.size() > 1 ? static_cast<uint16_t>(slots.front().length) : slots.front().segment_bytes;
  return datagram;
}

template <typename Socket>
void UdpTask<Socket>::Deliver(std::span<const DatagramScratch::Slot> slots) {
  Datagram* newest = nullptr;
  Datagram* oldest = nullptr;
  while (!slots.empty()) {
    const size_t joined = CountJoined(slots);
    Datagram* datagram = Gather(slots.first(joined));
    if (datagram == nullptr) {
      const DatagramScratch::Slot& first = slots.front();
      relay_.counts().lost_to_guest.Add(
          first.segment_bytes == 0 ? joined : (first.length - 1) / first.segment_bytes + 1);
    } else {
      datagram->next = newest;
      newest = datagram;
      if (oldest == nullptr) oldest = datagram;
    }
    slots = slots.subspan(joined);
  }
  if (newest == nullptr) return;
  pipe_->to_guest.PushChain(newest, oldest);
  relay_.TellStack(*pipe_);
}

template <typename Socket>
void UdpTask<Socket>::DeliverFault(const DatagramScratch::Slot& slot, const DatagramFault& fault) {
  Datagram* datagram = Gather({&slot, 1});
  if (datagram == nullptr) {
    relay_.counts().lost_to_guest.Add(1);
    return;
  }
  datagram->fault = fault;
  pipe_->to_guest.Push(datagram);
  relay_.TellStack(*pipe_);
}

template <typename Socket>
auto UdpTask<Socket>::DrainFaults() -> Drained {
  Drained drained;
  DatagramScratch::Slot& slot = relay_.scratch().slots.front();
  while (drained.count < kFaultsMax) {
    const auto fault = socket_.TakeFault(slot);
    if (!fault) break;
    ++drained.count;
    if (fault->local) {
      drained.local = fault->what;
    } else if (fault->what.kind != FaultKind::kNone) {
      slot.length = std::min(slot.length, kQuotedBytesMax);
      DeliverFault(slot, fault->what);
    }
  }
  return drained;
}

template <typename Socket>
void UdpTask<Socket>::Fail(const DatagramFault& fault) {
  const Datagram& met = *unsent_head_;
  // After the stack's last word nobody hears of a fault.
  if (fault.kind == FaultKind::kNone || pipe_->stack_done.load(std::memory_order_seq_cst)) {
    relay_.counts().lost_to_host.Add(1);
  } else {
    DeliverFault({.room = {met.data, met.length},
                  .length = std::min(met.length, kQuotedBytesMax),
                  .path = met.path},
                 fault);
  }
  GiveBack(1);
}

template <typename Socket>
void UdpTask<Socket>::OnSendError(int error) {
  relay_.counts().socket_errors.Add(1);
  const bool reports = socket_.reports_faults();
  const Drained drained = reports ? DrainFaults() : Drained();
  if (drained.local) return Fail(*drained.local);
  // The first error may be one that waited in the socket for whoever came next.
  if (!std::exchange(error_met_, true) || drained.count > 0) return;
  Fail(reports ? FaultFromErrno(error) : DatagramFault());
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
      OnSendError(result.error);
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
  if (unsent_head_ == nullptr) return;
  if (socket_.error() != 0) Fail({.kind = FaultKind::kNoSocket, .error = socket_.error()});
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
  Datagram* const left = pipe_->to_guest.TakeAll();
  for (const Datagram* each = left; each != nullptr; each = each->next) {
    relay_.counts().lost_closed.Add(each->count());
  }
  relay_.datagrams().GiveAll(left, bytes_out_);
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
