#include "relay/tcp_task.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

namespace penstock {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
constexpr auto kNoThrow = asio::as_tuple(asio::use_awaitable_t<asio::io_context::executor_type>());

// Pieces of one sendmsg. More than a window of full segments needs.
constexpr size_t kWritePiecesMax = 64;

// Blocks read in a row. Two, because a guest acknowledges every second segment.
constexpr size_t kReadBurstBlocks = 2;

asio::generic::stream_protocol::endpoint ToSocketAddress(const Endpoint& endpoint) {
  if (endpoint.address.is_v4()) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(endpoint.port);
    memcpy(&address.sin_addr, endpoint.address.bytes.data(), 4);
    return {&address, sizeof address, IPPROTO_TCP};
  }
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(endpoint.port);
  memcpy(&address.sin6_addr, endpoint.address.bytes.data(), 16);
  return {&address, sizeof address, IPPROTO_TCP};
}

// A loopback connect to an ephemeral port may meet itself (simultaneous open with
// the same address and port at both ends): nobody listens there.
bool ConnectedToItself(int descriptor) {
  sockaddr_storage own{}, peer{};
  socklen_t own_bytes = sizeof own, peer_bytes = sizeof peer;
  return getsockname(descriptor, reinterpret_cast<sockaddr*>(&own), &own_bytes) == 0 &&
         getpeername(descriptor, reinterpret_cast<sockaddr*>(&peer), &peer_bytes) == 0 &&
         own_bytes == peer_bytes && memcmp(&own, &peer, own_bytes) == 0;
}

}  // namespace

TcpTask::TcpTask(std::shared_ptr<Relay> relay, FlowPipe& pipe)
    : relay_(std::move(relay)), pipe_(&pipe), socket_(relay_->io()) {
  pipe.relay_task = this;
}

TcpTask::~TcpTask() = default;

void TcpTask::Begin(std::shared_ptr<TcpTask> self) {
  self_ = std::move(self);
  StartReader();
}

void TcpTask::StartReader() {
  reader_running_ = true;
  asio::co_spawn(relay_->io(), Run(shared_from_this()), asio::detached);
}

// `self` keeps the task alive while the coroutine is suspended.
auto TcpTask::Run([[maybe_unused]] std::shared_ptr<TcpTask> self) -> Task<void> {
  if (pipe_ == nullptr) co_return;  // over before it began
  if (!decisions_.connected()) {
    const int error = co_await Dial();
    if (pipe_ == nullptr) co_return;
    if (error != 0) {
      decisions_.OnDialFailed(error);
    } else {
      decisions_.OnConnected();
      pipe_->PushToGuest({.kind = ToGuest::kConnected});
      relay_->TellStack(*pipe_);
    }
    Act();
  }
  while (pipe_ != nullptr) {
    if (!needs_block_ && more_likely_ && MayRead()) {
      // Whoever else is ready has its turn, and the stack sends what is there: it and
      // the guest work on this burst while the next one is read.
      co_await asio::post(relay_->io(), kNoThrow);
      if (pipe_ == nullptr) break;
      ReadBurst();
    } else if (!needs_block_ && MayRead()) {
      const auto [error, bytes] = co_await socket_.async_read_some(asio::buffer(first_), kNoThrow);
      // Broken: a write met the error first, and the stack was told.
      if (pipe_ == nullptr || decisions_.broken()) break;
      if (!error) {
        ReadBlocks(bytes);
      } else if (error == asio::error::eof) {
        decisions_.OnHostEof();
        pipe_->PushToGuest({.kind = ToGuest::kEof});
        relay_->TellStack(*pipe_);
      } else {
        decisions_.OnHostError(error.value());
      }
    } else if (decisions_.MustWatchErrors() && !errors_unwatched_) {
      reader_parked_ = true;
      const auto [error] = co_await socket_.async_wait(
          Socket::wait_error, asio::bind_cancellation_slot(resume_.slot(), kNoThrow));
      reader_parked_ = false;
      if (pipe_ == nullptr) break;
      if (!error) CheckSocketError();
    } else {
      break;  // until Act() finds something to read
    }
    Act();
  }
  reader_running_ = false;
}

auto TcpTask::Dial() -> Task<int> {
  const std::unique_ptr<OpenRequest> request = std::move(pipe_->open);
  block_bytes_ = request->block_bytes;
  int result = EINVAL;
  for (uint8_t i = 0; i < request->destination_count; ++i) {
    const Endpoint& destination = request->destinations[i];
    result = OpenSocket(destination);
    if (result != 0) co_return result;
    const auto [error] = co_await socket_.async_connect(ToSocketAddress(destination), kNoThrow);
    if (pipe_ == nullptr) co_return ECANCELED;
    result = error.value();
    if (result == 0 && ConnectedToItself(socket_.native_handle())) result = ECONNREFUSED;
    if (result == 0) co_return 0;
    error_code ignored;
    socket_.close(ignored);
    if (result != ECONNREFUSED) break;
  }
  co_return result;
}

int TcpTask::OpenSocket(const Endpoint& destination) {
  const RelayOptions& options = relay_->options();
  const SocketResult opened =
      options.socket_factory->OpenStream({.destination = destination,
                                          .keepalive_idle = options.keepalive_idle,
                                          .keepalive_interval = options.keepalive_interval,
                                          .keepalive_probes = options.keepalive_probes});
  if (opened.descriptor < 0) return opened.error != 0 ? opened.error : EMFILE;
  const int family = destination.address.is_v4() ? AF_INET : AF_INET6;
  error_code error;
  socket_.assign({family, IPPROTO_TCP}, opened.descriptor, error);
  if (error) {
    close(opened.descriptor);  // Asio did not take it
    return error.value();
  }
  socket_.non_blocking(true, error);
  return error.value();
}

void TcpTask::Serve() {
  ToHostMessage message;
  while (pipe_->to_host.Pop(message)) {
    switch (message.kind) {
      case ToHost::kOpen:
        break;  // Relay::BeginTask has seen to it
      case ToHost::kData:
        (unwritten_head_ == nullptr ? unwritten_head_ : unwritten_tail_->next) = message.chunks;
        unwritten_tail_ = message.chunks;
        while (unwritten_tail_->next != nullptr) unwritten_tail_ = unwritten_tail_->next;
        decisions_.OnGuestData(message.value);
        break;
      case ToHost::kFin:
        decisions_.OnGuestFin();
        break;
      case ToHost::kClose:
        decisions_.OnClose();
        break;
      case ToHost::kAbort:
        // What the guest sent before its reset is the peer's, as far as it fits.
        if (decisions_.MayWrite()) Write();
        decisions_.OnAbort();
        break;
    }
  }
  for (Block* block = pipe_->returned.TakeAll(); block != nullptr;) {
    Block* next = block->next;
    decisions_.OnBlockReturned(block->capacity);
    relay_->blocks().Give(block);
    block = next;
  }
  Act();
}

void TcpTask::Act() {
  while (decisions_.MayWrite()) Write();
  if (decisions_.MustDiscard()) ReleaseAll();
  if (decisions_.MustShutWrite()) {
    error_code error;
    socket_.shutdown(Socket::shutdown_send, error);
    decisions_.OnWriteShut();
    // ENOTCONN: the peer reset just now; reading or the error watch tells.
  }
  int error = 0;
  if (decisions_.TakeFailure(error)) {
    pipe_->PushToGuest({.value = static_cast<uint32_t>(error), .kind = ToGuest::kFailed});
    relay_->TellStack(*pipe_);
  } else if (decisions_.TakeReset(error)) {
    pipe_->PushToGuest({.value = static_cast<uint32_t>(error), .kind = ToGuest::kReset});
    relay_->TellStack(*pipe_);
  }
  if (decisions_.done()) return Finish();
  if (needs_block_ || !decisions_.connected() || !MayRead()) return;
  if (reader_parked_) {
    resume_.emit(asio::cancellation_type::terminal);
  } else if (!reader_running_) {
    StartReader();
  }
}

bool TcpTask::MayRead() { return decisions_.MayRead(relay_->blocks().flow_limit_bytes()); }

void TcpTask::ReadAgain() {
  needs_block_ = false;
  Act();
}

// `first_bytes` of the socket's bytes are in first_.
void TcpTask::ReadBlocks(size_t first_bytes) {
  const bool more_likely = first_bytes == first_.size();
  Block* block = more_likely ? TakeBlock() : relay_->blocks().TakeSmall();
  if (block == nullptr) block = relay_->blocks().TakeSmall();
  if (block == nullptr) {
    // The pool is empty and these bytes must not be lost: a small block beyond the
    // pool's limit, and no further read until blocks come back.
    block = relay_->blocks().TakeBeyondLimit();
    needs_block_ = true;
    relay_->WaitForBlock(*this);
  }
  memcpy(block->data, first_.data(), first_bytes);
  block->length = static_cast<uint32_t>(first_bytes);
  more_likely_ = more_likely && !needs_block_ && ReadInto(*block);
  Deliver(block);
  ReadBurst();
}

void TcpTask::ReadBurst() {
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
  relay_->TellStack(*pipe_);
}

Block* TcpTask::TakeBlock() {
  BlockPool& pool = relay_->blocks();
  return decisions_.BigBlockFits(pool.flow_limit_bytes()) ? pool.TakeBig() : pool.TakeSmall();
}

bool TcpTask::ReadInto(Block& block) {
  const uint32_t full = std::min(block.capacity, block_bytes_);
  if (block.length >= full) return true;
  const size_t room = full - block.length;
  const ssize_t got = recv(socket_.native_handle(), block.data + block.length, room, MSG_DONTWAIT);
  // An end or an error is read again by the coroutine, which tells the stack.
  if (got <= 0) return false;
  block.length += static_cast<uint32_t>(got);
  return static_cast<size_t>(got) == room;
}

void TcpTask::Deliver(Block* block) {
  decisions_.OnBlockRead(block->capacity);
  pipe_->PushToGuest({.block = block, .value = block->length, .kind = ToGuest::kData});
}

void TcpTask::Write() {
  std::array<iovec, kWritePiecesMax> pieces;
  size_t count = 0;
  uint32_t offset = unwritten_offset_;
  for (Chunk* chunk = unwritten_head_; chunk != nullptr && count < pieces.size();
       chunk = chunk->next) {
    pieces[count++] = {const_cast<uint8_t*>(chunk->data) + offset, chunk->length - offset};
    offset = 0;
  }
  msghdr message{};
  message.msg_iov = pieces.data();
  message.msg_iovlen = count;
  const ssize_t sent = sendmsg(socket_.native_handle(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent >= 0) {
    decisions_.OnWrote(static_cast<uint64_t>(sent));
    ReleaseWritten(static_cast<uint64_t>(sent));
    return;
  }
  if (errno == EINTR) return;
  if (errno == EAGAIN || errno == EWOULDBLOCK) {
    decisions_.OnWriteBlocked();
    return WaitWritable();
  }
  decisions_.OnHostError(errno);
}

void TcpTask::WaitWritable() {
  socket_.async_wait(Socket::wait_write, [self = shared_from_this()](error_code error) {
    if (self->pipe_ == nullptr || error == asio::error::operation_aborted) return;
    self->decisions_.OnWritable();
    self->Act();
  });
}

void TcpTask::ReleaseWritten(uint64_t bytes) {
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

void TcpTask::ReleaseAll() {
  if (unwritten_head_ == nullptr) return;
  decisions_.OnWrote(decisions_.unwritten_bytes());
  ReleaseWritten(~uint64_t{0});
}

void TcpTask::CheckSocketError() {
  int error = 0;
  socklen_t bytes = sizeof error;
  if (getsockopt(socket_.native_handle(), SOL_SOCKET, SO_ERROR, &error, &bytes) == 0 &&
      error != 0) {
    decisions_.OnHostError(error);
  } else {
    // Both directions are shut, or urgent data waits: no error, and level-triggered.
    // Whatever is wrong later shows when the socket is read or written.
    errors_unwatched_ = true;
  }
}

void TcpTask::CloseSocket() {
  if (!socket_.is_open()) return;
  error_code error;
  if (decisions_.MustReset()) {
    const linger zero{1, 0};
    (void)setsockopt(socket_.native_handle(), SOL_SOCKET, SO_LINGER, &zero, sizeof zero);
  }
  socket_.close(error);
}

void TcpTask::Finish() {
  CloseSocket();
  FlowPipe* pipe = std::exchange(pipe_, nullptr);
  pipe->relay_task = nullptr;
  relay_->Remove(*this);
  pipe->PushToGuest({.kind = ToGuest::kClosed});
  relay_->TellStack(*pipe);
  self_.reset();
}

void TcpTask::Abandon() {
  decisions_.OnAbort();
  ReleaseAll();
  CloseSocket();
  pipe_->relay_task = nullptr;
  pipe_ = nullptr;
  relay_->Remove(*this);
  self_.reset();
}

}  // namespace penstock
