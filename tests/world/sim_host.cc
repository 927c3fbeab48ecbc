#include "tests/world/sim_host.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstring>

#include "relay/tcp_task.h"
#include "tests/world/sim_listener.h"

namespace penstock::world {

using boost::system::error_code;

namespace {

error_code Errno(int error) { return {error, boost::system::system_category()}; }

}  // namespace

size_t ByteQueue::Take(std::span<uint8_t> room) {
  const size_t count = std::min(room.size(), size());
  std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(head_), count, room.begin());
  head_ += count;
  if (head_ == bytes_.size()) {
    bytes_.clear();
    head_ = 0;
  } else if (head_ > (size_t{1} << 16) && head_ * 2 > bytes_.size()) {
    bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<ptrdiff_t>(head_));
    head_ = 0;
  }
  return count;
}

// ---------------------------------------------------------------- the far end

void HostPeer::Accept() {
  if (connect_ == nullptr) return;
  connected_ = true;
  Complete(connect_, {});
}

void HostPeer::Fail(int error) {
  if (connect_ != nullptr) Complete(connect_, Errno(error));
}

void HostPeer::Send(std::span<const uint8_t> bytes) {
  if (!connected_ || finished_ || reset_) return;
  if (closed_) {
    saw_reset_ = true;  // nobody is there any more
    return;
  }
  bytes_sent_ += bytes.size();
  to_relay_.Append(bytes);
  Wake();
}

void HostPeer::Finish() {
  if (!connected_ || finished_ || reset_) return;
  finished_ = true;
  Wake();
}

void HostPeer::Reset(int error) {
  if (!connected_ || reset_ || closed_) return;
  reset_ = true;
  error_ = error;
  Wake();
}

void HostPeer::Leave() {
  if (!from_relay_.empty()) return Reset();
  Finish();
  gone_ = true;
}

size_t HostPeer::Take(std::span<uint8_t> room) {
  const size_t taken = from_relay_.Take(room);
  if (taken > 0) Wake();
  return taken;
}

void HostPeer::SetSendBuffer(size_t bytes) {
  send_buffer_ = bytes;
  Wake();
}

// ---------------------------------------------------------------- the relay's system calls

bool HostPeer::Interrupted() { return interrupt_every != 0 && ++calls_ % interrupt_every == 0; }

IoResult HostPeer::Read(std::span<uint8_t> room) {
  if (read_max != 0) room = room.first(std::min(room.size(), read_max));
  if (!to_relay_.empty()) {
    if (Interrupted()) return {.error = EINTR};
    const IoResult result{.bytes = to_relay_.Take(room)};
    Changed();
    return result;
  }
  if (const int error = TakeError(); error != 0) return {.error = error};
  if (finished_ || reset_) return {};
  return {.error = EAGAIN};
}

IoResult HostPeer::Write(std::span<const iovec> pieces) {
  if (const int error = TakeError(); error != 0) return {.error = error};
  if (reset_ || write_shut_) return {.error = EPIPE};
  if (Interrupted()) return {.error = EINTR};
  size_t room = send_buffer_ > from_relay_.size() ? send_buffer_ - from_relay_.size() : 0;
  if (room == 0) return {.error = EAGAIN};
  if (write_max != 0) room = std::min(room, write_max);
  IoResult result;
  for (const iovec& piece : pieces) {
    const size_t count = std::min(piece.iov_len, room - result.bytes);
    if (!gone_) from_relay_.Append({static_cast<const uint8_t*>(piece.iov_base), count});
    result.bytes += count;
    if (result.bytes == room) break;
  }
  bytes_written_ += result.bytes;
  if (gone_) Reset();
  Changed();
  return result;
}

void HostPeer::ShutdownWrite() {
  if (reset_) return;
  write_shut_ = true;
  Wake();  // a hang-up counts as an error once both directions are shut
  Changed();
}

void HostPeer::OpenByRelay() { ++host_.open_sockets_; }

void HostPeer::ResetByKernel() {
  saw_reset_ = closed_ = true;
  Changed();
}

void HostPeer::CloseByRelay(bool reset) {
  closed_ = true;
  --host_.open_sockets_;
  if (joined_ != nullptr) HangUp();
  if (connected_ && !reset_) {
    if (reset || !to_relay_.empty()) {
      saw_reset_ = true;
    } else {
      write_shut_ = true;
    }
  }
  for (Handler* handler : {&connect_, &read_, &error_wait_, &writable_}) {
    Complete(*handler, boost::asio::error::operation_aborted, 0);
  }
  Changed();
}

// ---------------------------------------------------------------- waiting

void HostPeer::Complete(Handler& handler, error_code error, size_t bytes) {
  if (handler == nullptr) return;
  boost::asio::post(host_.io_, [handler = std::exchange(handler, nullptr), error, bytes]() mutable {
    handler(error, bytes);
  });
}

void HostPeer::Wake() {
  if (closed_) return;
  const bool hung_up = (finished_ && write_shut_) || reset_;
  if (read_ != nullptr && (!to_relay_.empty() || error_ != 0 || finished_ || reset_)) {
    Handler reader = std::exchange(read_, nullptr);  // reading may bring more, and wake
    IoResult result = Read(read_room_);
    while (result.error == EINTR) result = Read(read_room_);
    if (result.error == 0 && result.bytes == 0) {
      Complete(reader, boost::asio::error::eof, 0);
    } else {
      Complete(reader, Errno(result.error), result.bytes);
    }
  }
  if (error_wait_ != nullptr && (error_ != 0 || hung_up)) Complete(error_wait_, {});
  if (writable_ != nullptr && (from_relay_.size() < send_buffer_ || error_ != 0 || hung_up)) {
    Complete(writable_, {});
  }
}

void HostPeer::Changed() {
  if (joined_ != nullptr) {
    CarryTo(*joined_);
    joined_->CarryTo(*this);
  }
  if (on_change) on_change();
}

// ---------------------------------------------------------------- the socket

int SimSocket::Open(SocketFactory& factory, const SocketRequest& request) {
  auto& host = static_cast<SimHost&>(factory);
  if (host.on_open) {
    if (const int error = host.on_open(request); error != 0) return error;
  }
  peer_ = std::make_shared<HostPeer>(host, request);
  host.peers_.push_back(peer_);
  ++host.open_sockets_;
  return 0;
}

int SimSocket::Adopt(AcceptedSocket& accepted) {
  peer_ = static_cast<SimAccepted&>(accepted).Release();
  return 0;
}

void SimSocket::BeginConnect(HostPeer::Handler handler) {
  peer_->connect_ = std::move(handler);
  const auto peer = peer_;  // on_dial may fail it at once
  if (peer->host_.on_dial) {
    peer->host_.on_dial(*peer);
  } else {
    peer->Accept();
  }
}

void Complete(SimHost& host, SimWaitHandler& handler, error_code error) {
  if (!handler) return;
  boost::asio::post(
      host.io(), [handler = std::exchange(handler, nullptr), error]() mutable { handler(error); });
}

std::shared_ptr<FlowTask> MakeSimTask(std::shared_ptr<Relay> relay, FlowPipe& pipe) {
  return std::make_shared<TcpTask<SimSocket>>(std::move(relay), pipe);
}

}  // namespace penstock::world
