// A stream socket that carries messages, and the pipe that joins it to the stack
// (datagram_pipe.h): each Datagram is one message, with its length in two bytes in front of
// it on the stream, both ways (DNS over TCP: RFC 1035 4.2.2, RFC 7766 8).
//
// Where the socket comes from. The pipe has an AcceptedSocket: that is adopted at once. It
// has none: `path.peer` of the first message to host says where to connect, and messages
// wait for the connection. What comes from there has the same `path.peer`.
//
// To guest. A stream must not lose messages, so nothing is dropped: while the pool refuses,
// or kMessagesMax messages are at the stack, nothing more is read (Relay::WaitForDatagrams),
// and the peer waits. Small messages are read together into a small buffer of the task; the
// rest of a long one is read to where it will stay. An idle stream holds no datagram.
//
// To host. The length is written into the datagram's headroom, and several messages leave by
// one sendmsg; if the socket is full, one handler waits for room. The stack is woken for what
// is given back only where it may wait for that: after the peer's end, after a full socket, or
// after more than kStreamUnsentBytesMax.
//
// The end, which the stack hears exactly once and behind all messages, as a Datagram with a
// fault and no data: kStreamEnd, the peer has finished, and what the stack sends still goes
// there (RFC 7766 6.2.3: a client may shut its side first); kStreamBroken, an error, or an
// end within a message; kNoSocket, the connection could not be made. After the last two
// everything is given back unsent, and counted.
//
// The stack's last word closes the socket: in good order if all was written, else with a
// reset, so that a part does not pass for the whole.
//
// Every handler of the socket looks at `state_` first: kOver, whatever it waited for is of
// no interest. `Socket` is KernelSocket, or a scripted one in tests/world. Relay's thread
// only.
#ifndef PENSTOCK_RELAY_FRAMED_TASK_H_
#define PENSTOCK_RELAY_FRAMED_TASK_H_

#include <errno.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <boost/asio/error.hpp>
#include <boost/system/error_code.hpp>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "relay/check.h"
#include "relay/datagram_pipe.h"
#include "relay/datagram_task.h"
#include "relay/kernel_socket.h"
#include "relay/relay.h"

namespace penstock {

// Of one message: what two bytes can say.
inline constexpr uint32_t kMessageBytesMax = 65'535;

template <typename Socket>
class FramedTask final : public DatagramTask,
                         public std::enable_shared_from_this<FramedTask<Socket>> {
 public:
  FramedTask(Relay& relay, std::shared_ptr<DatagramPipe> pipe)
      : relay_(relay), pipe_(std::move(pipe)), socket_(relay.io()) {}
  FramedTask(const FramedTask&) = delete;
  FramedTask& operator=(const FramedTask&) = delete;

  void Begin(std::shared_ptr<PortTask> self) override;
  void Serve() override;
  void Close() override;
  void Abandon() override;
  void TakeAgain() override;

 private:
  friend class FlowAudit;  // tests/world
  static constexpr uint32_t kLengthBytes = 2;
  static_assert(kLengthBytes <= kDatagramHeadroomBytes && kMessageBytesMax <= kDatagramBytesMax);
  // At the stack at once.
  static constexpr uint32_t kMessagesMax = 64;
  static constexpr size_t kWritePiecesMax = 64;

  enum class State : uint8_t {
    kUnopened,  // nobody has said where to connect
    kConnecting,
    kOpen,
    kOver,  // no socket any more
  };

  void Connect();
  void OnConnected(int failed);
  // Waits for more of the stream, unless that is over or must wait.
  void Read();
  void OnRead(boost::system::error_code error, size_t bytes, bool into_message);
  // Makes messages of what was read, then reads on.
  void Consume();
  [[nodiscard]] Datagram* NewMessage(uint32_t length);
  void Push(Datagram* datagram);
  // Nothing more is read: `fault` says why, and the stack is told unless it was.
  void EndReading(const DatagramFault& fault);
  void TellEnd();
  void TakeHome();
  void Write();
  void TakeUnsent();
  [[nodiscard]] IoResult WriteBatch();
  void OnWritten(size_t bytes);
  void OnWriteError(int error);
  void WaitWritable();
  void GiveBackAll();
  void CloseSocket();
  void Finish();

  Relay& relay_;                        // keeps the task
  std::shared_ptr<DatagramPipe> pipe_;  // nullptr once it is over
  Socket socket_;
  Endpoint peer_{};
  State state_ = State::kUnopened;

  // From the stream: read and not consumed; then the message that comes.
  std::span<const uint8_t> carried_;
  std::array<uint8_t, kLengthBytes> length_{};
  uint32_t length_bytes_ = 0;         // of length_
  Datagram* message_ = nullptr;       // once its length is known and the pool has room
  uint32_t message_bytes_ = 0;        // of message_
  std::optional<DatagramFault> end_;  // to be told
  bool reading_over_ = false;
  bool reading_ = false;  // a handler waits
  bool stalled_ = false;  // until datagrams come home
  uint32_t messages_out_ = 0;
  uint64_t bytes_out_ = 0;  // of our datagrams

  // To the stream.
  Datagram* unsent_head_ = nullptr;
  Datagram* unsent_tail_ = nullptr;
  uint32_t unsent_offset_ = 0;  // bytes of unsent_head_ that left, its length with them
  int write_error_ = 0;
  bool waiting_writable_ = false;
  bool was_full_ = false;      // since all was written
  uint64_t untold_bytes_ = 0;  // given back since the stack was woken for that

  // Large enough for some questions at once.
  std::array<uint8_t, 512> first_;
};

// ---------------------------------------------------------------- the connection

template <typename Socket>
void FramedTask<Socket>::Begin(std::shared_ptr<PortTask>) {
  pipe_->relay_task = this;
  relay_.Adopt(this->shared_from_this());
  if (pipe_->accepted == nullptr) return;
  const std::unique_ptr<AcceptedSocket> accepted = std::move(pipe_->accepted);
  if (const int error = socket_.Adopt(*accepted); error != 0) {
    return EndReading({.kind = FaultKind::kNoSocket, .error = error});
  }
  state_ = State::kOpen;
  Read();
}

template <typename Socket>
void FramedTask<Socket>::Connect() {
  peer_ = unsent_head_->path.peer;
  state_ = State::kConnecting;
  const int error =
      socket_.Open(*relay_.options().socket_factory, relay_.options().RequestFor(peer_));
  if (error != 0) return EndReading({.kind = FaultKind::kNoSocket, .error = error});
  if (const int failed = socket_.Connect(peer_); failed != EINPROGRESS) return OnConnected(failed);
  socket_.AsyncConnected([self = this->shared_from_this()](boost::system::error_code failed) {
    self->OnConnected(failed.value());
  });
}

template <typename Socket>
void FramedTask<Socket>::OnConnected(int failed) {
  if (state_ != State::kConnecting) return;
  if (failed == 0 && socket_.ConnectedToItself()) failed = ECONNREFUSED;
  if (failed != 0) return EndReading({.kind = FaultKind::kNoSocket, .error = failed});
  state_ = State::kOpen;
  Write();
  Read();
}

// ---------------------------------------------------------------- to guest

template <typename Socket>
void FramedTask<Socket>::Read() {
  if (state_ != State::kOpen || reading_ || reading_over_ || stalled_) return;
  std::span<uint8_t> room(first_);
  bool into_message = false;
  if (message_ != nullptr && message_->length - message_bytes_ > first_.size()) {
    room = {message_->data + message_bytes_, message_->length - message_bytes_};
    into_message = true;
  }
  reading_ = true;
  socket_.AsyncReadSome(room, [self = this->shared_from_this(), into_message](
                                  boost::system::error_code error, size_t bytes) {
    self->OnRead(error, bytes, into_message);
  });
}

template <typename Socket>
void FramedTask<Socket>::OnRead(boost::system::error_code error, size_t bytes, bool into_message) {
  reading_ = false;
  if (state_ != State::kOpen) return;
  if (error == boost::asio::error::eof) {
    const bool within = length_bytes_ > 0;
    if (write_error_ == 0 && !within) return EndReading({.kind = FaultKind::kStreamEnd});
    return EndReading(
        {.kind = FaultKind::kStreamBroken, .error = write_error_ != 0 ? write_error_ : EPROTO});
  }
  if (error) return EndReading({.kind = FaultKind::kStreamBroken, .error = error.value()});
  if (into_message) {
    message_bytes_ += static_cast<uint32_t>(bytes);
  } else {
    carried_ = std::span<const uint8_t>(first_).first(bytes);
  }
  Consume();
}

template <typename Socket>
void FramedTask<Socket>::Consume() {
  const auto take = [this](uint8_t* to, uint32_t room) {
    const size_t bytes = std::min<size_t>(room, carried_.size());
    std::copy_n(carried_.begin(), bytes, to);
    carried_ = carried_.subspan(bytes);
    return static_cast<uint32_t>(bytes);
  };
  bool any = false;
  for (;;) {
    length_bytes_ += take(length_.data() + length_bytes_, kLengthBytes - length_bytes_);
    if (length_bytes_ < kLengthBytes) break;
    if (message_ == nullptr) {
      message_ = NewMessage(uint32_t{length_[0]} << 8 | length_[1]);
      message_bytes_ = 0;
    }
    stalled_ = message_ == nullptr;
    if (stalled_) break;
    message_bytes_ += take(message_->data + message_bytes_, message_->length - message_bytes_);
    if (message_bytes_ < message_->length) break;
    Push(std::exchange(message_, nullptr));
    length_bytes_ = 0;
    any = true;
  }
  if (any) relay_.TellStack(*pipe_);
  if (stalled_) return relay_.WaitForDatagrams(*this);
  Read();
}

template <typename Socket>
Datagram* FramedTask<Socket>::NewMessage(uint32_t length) {
  if (messages_out_ >= kMessagesMax) return nullptr;
  return relay_.datagrams().Take(length, bytes_out_);
}

template <typename Socket>
void FramedTask<Socket>::Push(Datagram* datagram) {
  datagram->path.peer = peer_;
  ++messages_out_;
  pipe_->to_guest.Push(datagram);
}

template <typename Socket>
void FramedTask<Socket>::TakeAgain() {
  stalled_ = false;
  if (end_) return TellEnd();
  if (!reading_over_) Consume();
}

template <typename Socket>
void FramedTask<Socket>::EndReading(const DatagramFault& fault) {
  if (fault.kind != FaultKind::kStreamEnd) CloseSocket();
  if (std::exchange(reading_over_, true)) return;
  end_ = fault;
  TellEnd();
}

template <typename Socket>
void FramedTask<Socket>::TellEnd() {
  Datagram* datagram = relay_.datagrams().Take(0, bytes_out_);
  if (datagram == nullptr) return relay_.WaitForDatagrams(*this);
  datagram->fault = *std::exchange(end_, std::nullopt);
  Push(datagram);
  relay_.TellStack(*pipe_);
}

template <typename Socket>
void FramedTask<Socket>::TakeHome() {
  Datagram* const home = pipe_->delivered.TakeAll();
  for (const Datagram* each = home; each != nullptr; each = each->next) --messages_out_;
  relay_.datagrams().GiveAll(home, bytes_out_);
}

// ---------------------------------------------------------------- to host

template <typename Socket>
void FramedTask<Socket>::Serve() {
  // Before anything is taken: what the stack did before its last word is seen below.
  const bool last = pipe_->stack_done.load(std::memory_order_seq_cst);
  TakeHome();
  Write();
  if (last) Finish();
}

template <typename Socket>
void FramedTask<Socket>::Write() {
  TakeUnsent();
  if (state_ == State::kUnopened && unsent_head_ != nullptr) Connect();
  while (state_ == State::kOpen && write_error_ == 0 && !waiting_writable_ &&
         unsent_head_ != nullptr) {
    const IoResult sent = WriteBatch();
    if (sent.error == 0) {
      OnWritten(sent.bytes);
    } else if (sent.error == EAGAIN || sent.error == EWOULDBLOCK) {
      WaitWritable();
    } else if (sent.error != EINTR) {
      OnWriteError(sent.error);
    }
  }
  if (state_ == State::kOver || write_error_ != 0) GiveBackAll();
}

template <typename Socket>
void FramedTask<Socket>::TakeUnsent() {
  Datagram* taken = pipe_->to_host.TakeInOrder();
  if (taken == nullptr) return;
  (unsent_tail_ == nullptr ? unsent_head_ : unsent_tail_->next) = taken;
  for (unsent_tail_ = taken;; unsent_tail_ = unsent_tail_->next) {
    const uint32_t length = unsent_tail_->length;
    PENSTOCK_CHECK(length <= kMessageBytesMax);
    uint8_t* const framed = unsent_tail_->data - kLengthBytes;
    framed[0] = static_cast<uint8_t>(length >> 8);
    framed[1] = static_cast<uint8_t>(length);
    if (unsent_tail_->next == nullptr) return;
  }
}

template <typename Socket>
IoResult FramedTask<Socket>::WriteBatch() {
  std::array<iovec, kWritePiecesMax> pieces;
  size_t count = 0;
  uint32_t offset = unsent_offset_;
  for (Datagram* datagram = unsent_head_; datagram != nullptr && count < pieces.size();
       datagram = datagram->next) {
    pieces[count++] = {datagram->data - kLengthBytes + offset,
                       kLengthBytes + datagram->length - offset};
    offset = 0;
  }
  return socket_.Write(std::span<const iovec>(pieces).first(count));
}

template <typename Socket>
void FramedTask<Socket>::OnWritten(size_t bytes) {
  bytes += unsent_offset_;
  while (unsent_head_ != nullptr && bytes >= kLengthBytes + unsent_head_->length) {
    Datagram* const datagram = unsent_head_;
    bytes -= kLengthBytes + datagram->length;
    unsent_head_ = datagram->next;
    untold_bytes_ += DatagramPool::Cost(*datagram);
    pipe_->sent.Push(datagram);
  }
  unsent_offset_ = static_cast<uint32_t>(bytes);
  const bool all = unsent_head_ == nullptr;
  if (all) unsent_tail_ = nullptr;
  if (all && (reading_over_ || was_full_ || untold_bytes_ > kStreamUnsentBytesMax)) {
    was_full_ = false;
    untold_bytes_ = 0;
    relay_.TellStack(*pipe_);
  } else {
    relay_.TellStackLater(*pipe_);
  }
}

// Whoever resets us may have answered before: what waits in the socket is read first, and
// the end of that is what the stack is told. Any other error may not show there.
template <typename Socket>
void FramedTask<Socket>::OnWriteError(int error) {
  write_error_ = error;
  const bool will_be_read = (error == EPIPE || error == ECONNRESET) && !reading_over_;
  if (!will_be_read) EndReading({.kind = FaultKind::kStreamBroken, .error = error});
}

template <typename Socket>
void FramedTask<Socket>::WaitWritable() {
  waiting_writable_ = was_full_ = true;
  socket_.AsyncWaitWritable([self = this->shared_from_this()](boost::system::error_code) {
    self->waiting_writable_ = false;
    if (self->state_ == State::kOpen) self->Write();
  });
}

template <typename Socket>
void FramedTask<Socket>::GiveBackAll() {
  if (unsent_head_ == nullptr) return;
  while (unsent_head_ != nullptr) {
    Datagram* const datagram = unsent_head_;
    unsent_head_ = datagram->next;
    pipe_->sent.Push(datagram);
    relay_.counts().messages_lost.Add(1);
  }
  unsent_tail_ = nullptr;
  unsent_offset_ = 0;
  relay_.TellStack(*pipe_);
}

// ---------------------------------------------------------------- the end

template <typename Socket>
void FramedTask<Socket>::CloseSocket() {
  state_ = State::kOver;
  socket_.Close(unsent_head_ != nullptr);
  carried_ = {};
  if (message_ != nullptr) relay_.datagrams().Give(std::exchange(message_, nullptr), bytes_out_);
  GiveBackAll();
}

template <typename Socket>
void FramedTask<Socket>::Close() {
  if (state_ == State::kOver) return;
  Write();
  CloseSocket();
}

template <typename Socket>
void FramedTask<Socket>::Finish() {
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
void FramedTask<Socket>::Abandon() {
  state_ = State::kOver;
  socket_.Close(true);
  if (message_ != nullptr) relay_.datagrams().Give(std::exchange(message_, nullptr), bytes_out_);
  while (unsent_head_ != nullptr) {
    Datagram* const next = unsent_head_->next;
    pipe_->sent.Push(unsent_head_);
    unsent_head_ = next;
  }
  unsent_tail_ = nullptr;
  pipe_->relay_task = nullptr;
  pipe_ = nullptr;
}

}  // namespace penstock

#endif  // PENSTOCK_RELAY_FRAMED_TASK_H_
