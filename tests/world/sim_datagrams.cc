#include "tests/world/sim_datagrams.h"

#include <algorithm>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <cerrno>

namespace penstock::world {

using boost::system::error_code;

namespace {

void Complete(SimHost& host, SimDatagrams::Handler& handler, error_code error) {
  if (!handler) return;
  boost::asio::post(
      host.io(), [handler = std::exchange(handler, nullptr), error]() mutable { handler(error); });
}

}  // namespace

bool SimDatagrams::Arrive(const DatagramPath& from, std::span<const uint8_t> bytes) {
  if (closed || waiting_bytes + bytes.size() > kReceiveBufferBytes) return false;
  waiting.push_back({.path = from, .bytes = {bytes.begin(), bytes.end()}});
  waiting_bytes += bytes.size();
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
  Complete(host, readable, boost::asio::error::operation_aborted);
  Complete(host, writable, boost::asio::error::operation_aborted);
}

void SimDatagrams::Wake() {
  if (!waiting.empty()) Complete(host, readable, {});
  if (room > 0) Complete(host, writable, {});
}

DatagramResult SimDatagramSocket::Receive(std::span<DatagramScratch::Slot> slots) {
  if (kernel_->error) {
    if (const int error = kernel_->error(); error != 0) return {.error = error};
  }
  if (kernel_->waiting.empty()) return {.error = EAGAIN};
  size_t count = 0;
  for (; count < std::min(slots.size(), kernel_->batch_max) && !kernel_->waiting.empty(); ++count) {
    const SimDatagrams::Waiting& next = kernel_->waiting.front();
    std::copy(next.bytes.begin(), next.bytes.end(), slots[count].room.begin());
    slots[count].length = static_cast<uint32_t>(next.bytes.size());
    slots[count].path = next.path;
    kernel_->waiting_bytes -= next.bytes.size();
    kernel_->waiting.pop_front();
  }
  kernel_->taken_by_relay += count;
  return {.count = count};
}

DatagramResult SimDatagramSocket::Send(std::span<Datagram* const> datagrams) {
  if (kernel_->error) {
    if (const int error = kernel_->error(); error != 0) return {.error = error};
  }
  const size_t count = std::min({datagrams.size(), kernel_->batch_max, kernel_->room});
  if (count == 0) return {.error = EAGAIN};
  if (kernel_->room != SIZE_MAX) kernel_->room -= count;
  kernel_->sent_by_relay += count;
  for (const Datagram* datagram : datagrams.first(count)) {
    if (kernel_->sent) kernel_->sent(datagram->path, {datagram->data, datagram->length});
  }
  return {.count = count};
}

std::shared_ptr<DatagramTask> MakeSimUdpTask(Relay& relay, std::shared_ptr<DatagramPipe> pipe,
                                             int descriptor) {
  auto& host = static_cast<SimHost&>(*relay.options().socket_factory);
  return std::make_shared<UdpTask<SimDatagramSocket>>(relay, std::move(pipe),
                                                      host.datagrams(descriptor));
}

// ---------------------------------------------------------------- SimHost's part

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
