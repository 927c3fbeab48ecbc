// One flow's host socket and the task that serves it.
//
// The task dials (or adopts what a listener accepted) and then reads. It waits for one thing
// at a time, by one Asio handler: a suspended coroutine with its frames would cost an idle
// flow a kilobyte. It reads first into a small buffer of its own (Asio keeps its edge-triggered
// registration for that, where waiting for readability would re-arm epoll each
// time), and goes on with non-blocking reads straight into blocks while they come
// back full; an idle flow holds no block. Without credit it waits for an error of
// the socket only, so that a reset of the host's peer is passed on at once although
// nothing is read. Writes are plain non-blocking system calls made where the
// guest's bytes arrive; a blocked writer is one handler waiting for room.
//
// Every decision is FlowDecisions'. `Socket` is KernelSocket, or a scripted one in
// tests/world. Relay's thread only.
#ifndef PENSTOCK_RELAY_TCP_TASK_H_
#define PENSTOCK_RELAY_TCP_TASK_H_

#include <errno.h>
#include <string.h>

#include <algorithm>
#include <array>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/system/error_code.hpp>
#include <memory>
#include <new>
#include <utility>

#include "relay/check.h"
#include "relay/flow_decisions.h"
#include "relay/flow_pipe.h"
#include "relay/flow_task.h"
#include "relay/inbound.h"
#include "relay/kernel_socket.h"
#include "relay/relay.h"

namespace penstock {

template <typename Socket>
class TcpTask final : public FlowTask, public std::enable_shared_from_this<TcpTask<Socket>> {
 public:
  TcpTask(std::shared_ptr<Relay> relay, FlowPipe& pipe);
  TcpTask(const TcpTask&) = delete;
  TcpTask& operator=(const TcpTask&) = delete;

  void Begin(std::shared_ptr<FlowTask> self) override;
  void Serve() override;
  void ReadAgain() override;
  void Abandon() override;

 private:
  friend class FlowAudit;  // tests/world
  using Error = boost::system::error_code;
  // Pieces of one write. More than a window of full segments needs.
  static constexpr size_t kWritePiecesMax = 64;
  // Blocks read in a row. Two, because a guest acknowledges every second segment.
  static constexpr size_t kReadBurstBlocks = 2;

  // None of these may end the task; whoever is behind them calls Act().
  void Dial();
  [[nodiscard]] bool OnConnectEnded(int error);
  void OnDialled(int error);
  [[nodiscard]] int OpenSocket(const Endpoint& destination);
  // Takes a listener's client over; 0 or an errno.
  [[nodiscard]] int Adopt(Inbound& inbound);
  void Say(ToGuest word);
  // Performs whatever is decided now. May end the task: touch nothing after it.
  void Act();
  [[nodiscard]] bool MayRead();
  // Waits for what comes next from the host, unless it does already. May end the task, too.
  void AwaitHost();
  void AwaitRead();
  void AwaitError();
  // `begin` begins to wait; false if there was no memory for that.
  [[nodiscard]] static bool Await(auto&& begin);
  void OnTurn();
  void OnRead(Error error, size_t bytes);
  void OnErrorEvent(Error error);
  void ReadBlocks(size_t first_bytes);
  void ReadBurst();
  void TellDelivered();
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
  void Finish();

  std::shared_ptr<Relay> relay_;
  FlowPipe* pipe_;  // nullptr once the flow is over
  FlowDecisions decisions_;
  Socket socket_;
  boost::asio::cancellation_signal resume_;
  std::shared_ptr<FlowTask> self_;
  std::unique_ptr<OpenRequest> request_;  // while dialling
  uint8_t dialled_ = 0;                   // of its destinations
  Chunk* unwritten_head_ = nullptr;
  Chunk* unwritten_tail_ = nullptr;
  uint32_t unwritten_offset_ = 0;  // bytes of unwritten_head_ already written
  bool awaits_host_ = false;
  bool awaits_error_ = false;      // and nothing else
  bool errors_unwatched_ = false;  // an event came that was no error: watch no more
  bool needs_block_ = false;
  bool more_likely_ = false;  // the last read filled its block
  uint32_t block_bytes_;      // of OpenRequest
  // Large enough for most messages of interactive protocols.
  std::array<uint8_t, 128> first_;
};

// ---------------------------------------------------------------- definitions

template <typename Socket>
TcpTask<Socket>::TcpTask(std::shared_ptr<Relay> relay, FlowPipe& pipe)
    : relay_(std::move(relay)), pipe_(&pipe), socket_(relay_->io()) {}

// The relay serves a task right after it has begun.
template <typename Socket>
void TcpTask<Socket>::Begin(std::shared_ptr<FlowTask> self) {
  self_ = std::move(self);
  request_ = std::move(pipe_->open);
  block_bytes_ = request_->block_bytes;
  if (request_->inbound != nullptr) {
    OnDialled(Adopt(*request_->inbound));
  } else {
    Dial();
  }
}

template <typename Socket>
void TcpTask<Socket>::Dial() {
  while (dialled_ < request_->destination_count) {
    const Endpoint& destination = request_->destinations[dialled_++];
    if (const int error = OpenSocket(destination); error != 0) return OnDialled(error);
    const int error = socket_.Connect(destination);
    if (error != EINPROGRESS) {
      if (OnConnectEnded(error)) return;
      continue;
    }
    const bool waits = Await([&] {
      socket_.AsyncConnected([self = this->shared_from_this()](Error result) {
        if (self->pipe_ == nullptr) return;
        if (!self->OnConnectEnded(result.value())) self->Dial();
        self->Act();
      });
    });
    if (!waits) (void)OnConnectEnded(ENOMEM);
    return;
  }
}

template <typename Socket>
bool TcpTask<Socket>::Await(auto&& begin) {
  try {
    begin();
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

// False if the next destination is to be dialled.
template <typename Socket>
bool TcpTask<Socket>::OnConnectEnded(int error) {
  if (error == 0 && socket_.ConnectedToItself()) error = ECONNREFUSED;
  if (error != 0) socket_.Close(false);
  if (error == ECONNREFUSED && dialled_ < request_->destination_count) return false;
  OnDialled(error);
  return true;
}

template <typename Socket>
void TcpTask<Socket>::OnDialled(int error) {
  request_.reset();
  if (error != 0) return decisions_.OnDialFailed(error);
  decisions_.OnConnected();
  Say(ToGuest::kConnected);
}

template <typename Socket>
void TcpTask<Socket>::Say(ToGuest word) {
  pipe_->words_to_guest.Say(word);
  relay_->TellStack(*pipe_);
}

template <typename Socket>
void TcpTask<Socket>::AwaitHost() {
  if (awaits_host_) return;
  const bool reads = !needs_block_ && MayRead();
  if (!reads && (!decisions_.MustWatchErrors() || errors_unwatched_)) return;
  awaits_host_ = true;
  awaits_error_ = !reads;
  if (Await([&] { reads ? AwaitRead() : AwaitError(); })) return;
  awaits_host_ = awaits_error_ = false;
  decisions_.OnHostError(ENOMEM);
  Act();
}

template <typename Socket>
void TcpTask<Socket>::AwaitRead() {
  if (more_likely_) {
    // Whoever else is ready has its turn, and the stack sends what is there: it and
    // the guest work on this burst while the next one is read.
    boost::asio::post(relay_->io(), [self = this->shared_from_this()] { self->OnTurn(); });
  } else {
    socket_.AsyncReadSome(first_, [self = this->shared_from_this()](Error error, size_t bytes) {
      self->OnRead(error, bytes);
    });
  }
}

template <typename Socket>
void TcpTask<Socket>::AwaitError() {
  socket_.AsyncWaitError(boost::asio::bind_cancellation_slot(
      resume_.slot(),
      [self = this->shared_from_this()](Error error) { self->OnErrorEvent(error); }));
}

template <typename Socket>
void TcpTask<Socket>::OnTurn() {
  awaits_host_ = false;
  if (pipe_ == nullptr) return;
  ReadBurst();
  Act();
  TellDelivered();
}

// After Act() has begun the next read: an end that the host said right behind its bytes is
// found by that, and leaves with them in one segment.
template <typename Socket>
void TcpTask<Socket>::TellDelivered() {
  if (pipe_ != nullptr) relay_->TellStack(*pipe_);
}

template <typename Socket>
void TcpTask<Socket>::OnRead(Error error, size_t bytes) {
  awaits_host_ = false;
  // Broken: a write met the error first, and the stack was told.
  if (pipe_ == nullptr || decisions_.broken()) return;
  if (!error) {
    ReadBlocks(bytes);
  } else if (error == boost::asio::error::eof) {
    decisions_.OnHostEof();
    Say(ToGuest::kEof);
  } else {
    decisions_.OnHostError(error.value());
  }
  Act();
  if (!error) TellDelivered();
}

template <typename Socket>
void TcpTask<Socket>::OnErrorEvent(Error error) {
  awaits_host_ = awaits_error_ = false;
  if (pipe_ == nullptr) return;
  if (!error) CheckSocketError();
  Act();
}

template <typename Socket>
int TcpTask<Socket>::Adopt(Inbound& inbound) {
  const int error = socket_.Adopt(*inbound.socket);
  if (error != 0 || inbound.preface.empty()) return error;
  // At most a small block, of which a flow may always have one.
  Block* block = relay_->blocks().TakeSmall();
  if (block == nullptr) block = relay_->blocks().TakeBeyondLimit();
  if (block == nullptr) return ENOMEM;
  PENSTOCK_CHECK(inbound.preface.size() <= block->capacity);
  memcpy(block->data, inbound.preface.data(), inbound.preface.size());
  block->length = static_cast<uint32_t>(inbound.preface.size());
  Deliver(block);
  return 0;
}

template <typename Socket>
int TcpTask<Socket>::OpenSocket(const Endpoint& destination) {
  const RelayOptions& options = relay_->options();
  return socket_.Open(*options.socket_factory, options.RequestFor(destination));
}

template <typename Socket>
void TcpTask<Socket>::Serve() {
  const Words<ToHost> words = pipe_->words_to_host.Take();
  if (Chunk* first = pipe_->to_host.TakeInOrder(); first != nullptr) {
    (unwritten_head_ == nullptr ? unwritten_head_ : unwritten_tail_->next) = first;
    uint64_t bytes = 0;
    for (Chunk* chunk = first; chunk != nullptr; chunk = chunk->next) {
      bytes += chunk->length;
      unwritten_tail_ = chunk;
    }
    decisions_.OnGuestData(bytes);
  }
  if (words.Has(ToHost::kFin)) decisions_.OnGuestFin();
  if (words.Has(ToHost::kClose)) decisions_.OnClose();
  if (words.Has(ToHost::kAbort)) {
    // What the guest sent before its reset is the peer's, as far as it fits.
    if (decisions_.MayWrite()) Write();
    decisions_.OnAbort();
  }
  decisions_.OnCredit(pipe_->block_credit.load(std::memory_order_relaxed));
  for (Block* block = pipe_->returned.TakeAll(); block != nullptr;) {
    Block* next = block->next;
    decisions_.OnBlockReturned(block->capacity);
    relay_->blocks().Give(block);
    block = next;
  }
  Act();
}

template <typename Socket>
void TcpTask<Socket>::Act() {
  while (decisions_.MayWrite()) Write();
  if (decisions_.MustDiscard()) ReleaseAll();
  if (decisions_.MustShutWrite()) {
    socket_.ShutdownWrite();
    decisions_.OnWriteShut();
  }
  int error = 0;
  if (decisions_.TakeFailure(error)) {
    pipe_->error = error;
    Say(ToGuest::kFailed);
  } else if (decisions_.TakeReset(error)) {
    pipe_->error = error;
    Say(ToGuest::kReset);
  }
  if (decisions_.done()) return Finish();
  if (!decisions_.connected()) return;
  if (awaits_error_ && !needs_block_ && MayRead()) {
    resume_.emit(boost::asio::cancellation_type::terminal);
  } else {
    AwaitHost();
  }
}

template <typename Socket>
bool TcpTask<Socket>::MayRead() {
  return decisions_.MayRead(relay_->blocks().flow_limit_bytes());
}

template <typename Socket>
void TcpTask<Socket>::ReadAgain() {
  needs_block_ = false;
  Act();
}

// `first_bytes` of the socket's bytes are in first_.
template <typename Socket>
void TcpTask<Socket>::ReadBlocks(size_t first_bytes) {
  const bool more_likely = first_bytes == first_.size();
  Block* block = more_likely ? TakeBlock() : relay_->blocks().TakeSmall();
  if (block == nullptr) block = relay_->blocks().TakeSmall();
  if (block == nullptr) {
    // The pool is empty and these bytes must not be lost: a small block beyond the
    // pool's limit, and no further read until blocks come back.
    block = relay_->blocks().TakeBeyondLimit();
    if (block == nullptr) return decisions_.OnHostError(ENOMEM);
    needs_block_ = true;
    relay_->WaitForBlock(*this);
  }
  memcpy(block->data, first_.data(), first_bytes);
  block->length = static_cast<uint32_t>(first_bytes);
  more_likely_ = more_likely && !needs_block_ && ReadInto(*block);
  Deliver(block);
  ReadBurst();
}

template <typename Socket>
void TcpTask<Socket>::ReadBurst() {
  for (size_t i = 0; i < kReadBurstBlocks && more_likely_ && MayRead(); ++i) {
    Block* block = TakeBlock();
    if (block == nullptr) {
      more_likely_ = false;  // the next first bytes will wait for the pool
      break;
    }
    more_likely_ = ReadInto(*block);
    if (block->length > 0) {
      Deliver(block);
    } else {
      relay_->blocks().Give(block);
    }
  }
}

template <typename Socket>
Block* TcpTask<Socket>::TakeBlock() {
  BlockPool& pool = relay_->blocks();
  return decisions_.BigBlockFits(pool.flow_limit_bytes()) ? pool.TakeBig() : pool.TakeSmall();
}

template <typename Socket>
bool TcpTask<Socket>::ReadInto(Block& block) {
  const uint32_t full = std::min(block.capacity, block_bytes_);
  if (block.length >= full) return true;
  const size_t room = full - block.length;
  const IoResult got = socket_.Read({block.data + block.length, room});
  // An end is read again by AwaitHost's handler, which tells the stack. An error is not: the
  // system call that reports it clears it, and the next one would find a clean end.
  if (got.error != 0 && got.error != EAGAIN && got.error != EWOULDBLOCK && got.error != EINTR) {
    decisions_.OnHostError(got.error);
  }
  block.length += static_cast<uint32_t>(got.bytes);
  return got.bytes == room;
}

template <typename Socket>
void TcpTask<Socket>::Deliver(Block* block) {
  decisions_.OnBlockRead(block->capacity);
  pipe_->to_guest.Push(block);
}

template <typename Socket>
void TcpTask<Socket>::Write() {
  std::array<iovec, kWritePiecesMax> pieces;
  size_t count = 0;
  uint32_t offset = unwritten_offset_;
  for (Chunk* chunk = unwritten_head_; chunk != nullptr && count < pieces.size();
       chunk = chunk->next) {
    pieces[count++] = {const_cast<uint8_t*>(chunk->data) + offset, chunk->length - offset};
    offset = 0;
  }
  const IoResult sent = socket_.Write(std::span(pieces).first(count));
  if (sent.error == 0) {
    decisions_.OnWrote(sent.bytes);
    ReleaseWritten(sent.bytes);
  } else if (sent.error == EAGAIN || sent.error == EWOULDBLOCK) {
    decisions_.OnWriteBlocked();
    WaitWritable();
  } else if (sent.error != EINTR) {
    decisions_.OnHostError(sent.error);
  }
}

template <typename Socket>
void TcpTask<Socket>::WaitWritable() {
  const bool waits = Await([&] {
    socket_.AsyncWaitWritable([self = this->shared_from_this()](Error error) {
      if (self->pipe_ == nullptr || error == boost::asio::error::operation_aborted) return;
      self->decisions_.OnWritable();
      self->Act();
    });
  });
  if (!waits) decisions_.OnHostError(ENOMEM);
}

template <typename Socket>
void TcpTask<Socket>::ReleaseWritten(uint64_t bytes) {
  bool any = false;
  while (unwritten_head_ != nullptr) {
    Chunk* chunk = unwritten_head_;
    const uint32_t rest = chunk->length - unwritten_offset_;
    if (bytes < rest) {
      unwritten_offset_ += static_cast<uint32_t>(bytes);
      break;
    }
    bytes -= rest;
    unwritten_offset_ = 0;
    unwritten_head_ = chunk->next;
    pipe_->taken.Push(chunk);
    any = true;
  }
  if (unwritten_head_ == nullptr) unwritten_tail_ = nullptr;
  if (any) relay_->TellStack(*pipe_);
}

template <typename Socket>
void TcpTask<Socket>::ReleaseAll() {
  if (unwritten_head_ == nullptr) return;
  decisions_.OnWrote(decisions_.unwritten_bytes());
  ReleaseWritten(~uint64_t{0});
}

template <typename Socket>
void TcpTask<Socket>::CheckSocketError() {
  if (const int error = socket_.TakeError(); error != 0) {
    decisions_.OnHostError(error);
  } else {
    // Both directions are shut, or urgent data waits: no error, and level-triggered.
    // Whatever is wrong later shows when the socket is read or written.
    errors_unwatched_ = true;
  }
}

template <typename Socket>
void TcpTask<Socket>::Finish() {
  socket_.Close(decisions_.MustReset());
  FlowPipe* pipe = std::exchange(pipe_, nullptr);
  pipe->relay_task = nullptr;
  relay_->Remove(*this);
  pipe->words_to_guest.Say(ToGuest::kClosed);
  relay_->TellStack(*pipe);
  self_.reset();
}

template <typename Socket>
void TcpTask<Socket>::Abandon() {
  decisions_.OnAbort();
  ReleaseAll();
  socket_.Close(decisions_.MustReset());
  pipe_->relay_task = nullptr;
  pipe_ = nullptr;
  relay_->Remove(*this);
  self_.reset();
}

}  // namespace penstock

#endif  // PENSTOCK_RELAY_TCP_TASK_H_
