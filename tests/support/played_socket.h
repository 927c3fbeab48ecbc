// The relay's end of the pipes of datagrams that a stack opens, played by the test: what the
// stack sends is looked at, what arrives at the socket is said. One thread.
//
//   Relay relay(io, RelayOptions{.make_guest_socket = &PlaySocket}, bell);
//   …
//   PlayedSockets()[0]->Arrive(server, bytes);
#ifndef PENSTOCK_TESTS_SUPPORT_PLAYED_SOCKET_H_
#define PENSTOCK_TESTS_SUPPORT_PLAYED_SOCKET_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "relay/datagram_task.h"
#include "relay/relay.h"
#include "tests/support/packet_builder.h"

namespace penstock {

class PlayedSocket final : public DatagramTask {
 public:
  PlayedSocket(Relay& relay, std::shared_ptr<DatagramPipe> its_pipe)
      : pipe(std::move(its_pipe)), relay_(relay) {}
  void Begin(std::shared_ptr<PortTask>) override {
    pipe->relay_task = this;
    relay_.Adopt(std::static_pointer_cast<DatagramTask>(self));
  }
  void Serve() override {
    const bool last = pipe->stack_done.load();
    relay_.datagrams().GiveAll(pipe->delivered.TakeAll(), bytes_out);
    if (!last) return;
    GiveBack();
    relay_.datagrams().GiveAll(pipe->to_guest.TakeAll(), bytes_out);
    const std::shared_ptr<DatagramPipe> kept = pipe;
    pipe->relay_task = nullptr;
    closed = true;
    pipe->relay_done.store(true);
    relay_.TellStack(*kept);
    relay_.Release(*this);
  }
  void Close() override {}
  void Abandon() override { GiveBack(); }
  // What the stack wants to send, once.
  std::vector<Datagram> Sent() {
    std::vector<Datagram> sent;
    for (Datagram* d = pipe->to_host.TakeInOrder(); d != nullptr;) {
      sent.push_back(*d);
      contents.emplace_back(d->data, d->data + d->length);
      Datagram* next = d->next;
      pipe->sent.Push(d);
      d = next;
    }
    return sent;
  }
  void Arrive(const Endpoint& from, const Bytes& bytes, const DatagramFault& fault = {},
              uint16_t segment_bytes = 0) {
    Datagram* datagram = relay_.datagrams().Take(static_cast<uint32_t>(bytes.size()), bytes_out);
    ASSERT_NE(datagram, nullptr);
    std::copy(bytes.begin(), bytes.end(), datagram->data);
    datagram->path.peer = from;
    datagram->fault = fault;
    datagram->segment_bytes = segment_bytes;
    pipe->to_guest.Push(datagram);
    relay_.TellStack(*pipe);
  }

  std::shared_ptr<DatagramPipe> pipe;
  std::shared_ptr<PlayedSocket> self;
  std::vector<Bytes> contents;  // of what was sent, in order
  uint64_t bytes_out = 0;
  bool closed = false;

 private:
  void GiveBack() { (void)Sent(); }
  Relay& relay_;
};

// All that were opened, in order; the test empties it.
inline std::vector<std::shared_ptr<PlayedSocket>>& PlayedSockets() {
  static std::vector<std::shared_ptr<PlayedSocket>> sockets;
  return sockets;
}
inline std::shared_ptr<DatagramTask> PlaySocket(Relay& relay, std::shared_ptr<DatagramPipe> pipe) {
  auto socket = std::make_shared<PlayedSocket>(relay, std::move(pipe));
  socket->self = socket;
  PlayedSockets().push_back(socket);
  return socket;
}

}  // namespace penstock

#endif  // PENSTOCK_TESTS_SUPPORT_PLAYED_SOCKET_H_
