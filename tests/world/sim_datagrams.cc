#include "tests/world/sim_datagrams.h"

#include <algorithm>
#include <boost/asio/error.hpp>
#include <cerrno>

#include "relay/framed_task.h"

namespace penstock::world {

using boost::system::error_code;

namespace {

constexpr size_t kJoinedBytesMax = 65'507;

}  // namespace

bool SimDatagrams::Arrive(const DatagramPath& from, std::span<const uint8_t> bytes) {
  if (closed || waiting_bytes + bytes.size() > kReceiveBufferBytes) return false;
  waiting.push_back({.path = from, .bytes = {bytes.begin(), bytes.end()}});
  waiting_bytes += bytes.size();
  Wake();
  return true;
}

bool SimDatagrams::ArriveFault(const DatagramFault& what, const Endpoint& destination,
                               std::span<const uint8_t> quoted) {
  if (closed) return false;
  faults.push_back({{.what = what}, destination, {quoted.begin(), quoted.end()}});
  pending_error = what.kind == FaultKind::kPort     ? ECONNREFUSED
                  : what.kind == FaultKind::kTooBig ? EMSGSIZE
                                                    : EHOSTUNREACH;
  Wake();
  return true;
}

void SimDatagrams::SetRoom(size_t datagrams) {
  room = datagrams;
  Wake();
}

void SimDatagrams::Close() {
  if (std::exchange(closed, true)) return;
  waiting.clear();
  faults.clear();
  if (request) --host.open_guest_sockets_;
  Complete(host, readable, boost::asio::error::operation_aborted);
  Complete(host, writable, boost::asio::error::operation_aborted);
  if (on_close) on_close();
}

void SimDatagrams::Wake() {
  const bool failed = pending_error != 0 || !faults.empty();
  if (!waiting.empty() || failed) Complete(host, readable, {});
  if (room > 0 || failed) Complete(host, writable, {});
}

size_t SimDatagrams::TakeInto(DatagramScratch::Slot& slot) {
  slot.path = waiting.front().path;
  slot.length = 0;
  slot.segment_bytes = 0;
  const size_t each = waiting.front().bytes.size();
  const size_t count_max = joins && each > 0 ? join_max : 1;
  size_t count = 0;
  while (count < count_max && !waiting.empty()) {
    const Waiting& next = waiting.front();
    const size_t bytes = next.bytes.size();
    if (count > 0 && (next.path != slot.path || bytes > each || bytes == 0 ||
                      slot.length + bytes > kJoinedBytesMax)) {
      break;
    }
    std::copy(next.bytes.begin(), next.bytes.end(), slot.room.begin() + slot.length);
    slot.length += static_cast<uint32_t>(bytes);
    waiting_bytes -= bytes;
    waiting.pop_front();
    ++count;
    if (bytes < each) break;
  }
  if (count > 1) slot.segment_bytes = static_cast<uint16_t>(each);
  return count;
}

// ---------------------------------------------------------------- the socket

int SimDatagramSocket::CallError() {
  if (const int error = std::exchange(kernel_->pending_error, 0); error != 0) return error;
  return kernel_->error ? kernel_->error() : 0;
}

DatagramResult SimDatagramSocket::Receive(std::span<DatagramScratch::Slot> slots) {
  if (const int error = CallError(); error != 0) return {.error = error};
  if (kernel_->waiting.empty()) return {.error = EAGAIN};
  size_t count = 0;
  for (; count < std::min(slots.size(), kernel_->batch_max) && !kernel_->waiting.empty(); ++count) {
    const size_t taken = kernel_->TakeInto(slots[count]);
    kernel_->taken_by_relay += taken;
    kernel_->host.CountTaken(*kernel_, taken);
  }
  return {.count = count};
}

int SimDatagramSocket::Refusal(const Datagram& datagram) {
  if (!kernel_->refuse) return 0;
  const DatagramFault fault = kernel_->refuse(datagram);
  if (fault.kind == FaultKind::kNone) return 0;
  kernel_->faults.push_back({{.what = fault, .local = true}, datagram.path.peer, {}});
  kernel_->Wake();
  return EMSGSIZE;
}

void SimDatagramSocket::Leave(Datagram& datagram) {
  constexpr size_t kIdentifierAt = 4;
  const std::span<uint8_t> bytes(datagram.data, datagram.length);
  if (kernel_->identifier != 0 && bytes.size() >= kIdentifierAt + 2) {
    bytes[kIdentifierAt] = static_cast<uint8_t>(kernel_->identifier >> 8);
    bytes[kIdentifierAt + 1] = static_cast<uint8_t>(kernel_->identifier);
  }
  ++kernel_->sent_by_relay;
  kernel_->host.CountSent(*kernel_);
  if (kernel_->sent) kernel_->sent(datagram);
}

DatagramResult SimDatagramSocket::Send(std::span<Datagram* const> datagrams) {
  if (const int error = CallError(); error != 0) return {.error = error};
  const size_t count_max = std::min({datagrams.size(), kernel_->batch_max, kernel_->room});
  if (count_max == 0) return {.error = EAGAIN};
  size_t count = 0;
  for (Datagram* datagram : datagrams.first(count_max)) {
    if (kernel_->room == 0) break;
    // As in sendmmsg(2): the first one's errno; behind others it is found by the next call.
    if (count > 0 && kernel_->refuse && kernel_->refuse(*datagram).kind != FaultKind::kNone) break;
    if (const int error = Refusal(*datagram); error != 0) return {.error = error};
    if (kernel_->room != SIZE_MAX) --kernel_->room;
    Leave(*datagram);
    ++count;
  }
  return {.count = count};
}

std::optional<KernelDatagramSocket::Fault> SimDatagramSocket::TakeFault(
    DatagramScratch::Slot& slot) {
  if (kernel_->faults.empty()) return std::nullopt;
  const SimDatagrams::Fault fault = std::move(kernel_->faults.front());
  kernel_->faults.pop_front();
  std::copy(fault.quoted.begin(), fault.quoted.end(), slot.room.begin());
  slot.length = static_cast<uint32_t>(fault.quoted.size());
  slot.segment_bytes = 0;
  slot.path = {.peer = fault.destination};
  return fault.what;
}

std::shared_ptr<DatagramTask> MakeSimUdpTask(Relay& relay, std::shared_ptr<DatagramPipe> pipe,
                                             int descriptor) {
  auto& host = static_cast<SimHost&>(*relay.options().socket_factory);
  return std::make_shared<UdpTask<SimDatagramSocket>>(relay, std::move(pipe),
                                                      host.datagrams(descriptor));
}

std::shared_ptr<DatagramTask> MakeSimGuestSocket(Relay& relay, std::shared_ptr<DatagramPipe> pipe) {
  auto& host = static_cast<SimHost&>(*relay.options().socket_factory);
  const DatagramRequest request = *pipe->request;
  if (request.kind == DatagramKind::kFramedStream) {
    return std::make_shared<FramedTask<SimSocket>>(relay, std::move(pipe));
  }
  const int error = host.on_guest_socket ? host.on_guest_socket(request) : 0;
  return std::make_shared<UdpTask<SimDatagramSocket>>(
      relay, std::move(pipe), error == 0 ? host.OpenGuestSocket(request) : nullptr, error);
}

// ---------------------------------------------------------------- SimHost's part

std::shared_ptr<SimDatagrams> SimHost::OpenGuestSocket(const DatagramRequest& request) {
  constexpr uint16_t kIdentifiers = 0x7fff;
  auto socket = std::make_shared<SimDatagrams>(*this);
  socket->request = request;
  const uint64_t number = guest_sockets_opened_++;
  if (request.kind == DatagramKind::kEcho) {
    socket->identifier = static_cast<uint16_t>(1 + number % kIdentifiers);
  }
  ++open_guest_sockets_;
  std::erase_if(guest_sockets_, [](const auto& other) { return other->closed; });
  guest_sockets_.push_back(socket);
  if (on_guest_socket_opened) on_guest_socket_opened(socket);
  return socket;
}

void SimHost::CountSent(const SimDatagrams& socket) {
  if (!socket.request) return;
  ++(socket.request->kind == DatagramKind::kUdp ? guest_totals_.udp_sent : guest_totals_.echo_sent);
}

void SimHost::CountTaken(const SimDatagrams& socket, size_t datagrams) {
  if (!socket.request) return;
  const bool udp = socket.request->kind == DatagramKind::kUdp;
  (udp ? guest_totals_.udp_taken : guest_totals_.echo_taken) += datagrams;
}

PortResult SimHost::OpenDatagrams(const PortRequest& request) {
  auto socket = std::make_shared<SimDatagrams>(*this);
  socket->bound = request.address;
  if (socket->bound.port == 0) {
    socket->bound.port = static_cast<uint16_t>(kFirstChosenPort + datagrams_.size());
  }
  datagrams_.push_back(socket);
  return {.descriptor = static_cast<int>(datagrams_.size() - 1), .bound = socket->bound};
}

std::shared_ptr<SimDatagrams> SimHost::datagrams(int descriptor) const {
  return datagrams_[static_cast<size_t>(descriptor)];
}

}  // namespace penstock::world
