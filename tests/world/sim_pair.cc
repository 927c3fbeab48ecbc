// Stream pairs of a simulated world: two of the relay's sockets that are each other's far
// end. As with Linux's UNIX sockets: bytes are there at once, until so many wait unread; the
// end comes behind them; a close ends both directions, without a reset unless bytes were left
// unread, whatever the linger time; and who writes to an end that is closed gets EPIPE.
#include <array>
#include <utility>

#include "tests/world/sim_host.h"
#include "tests/world/sim_listener.h"

namespace penstock::world {

StreamPair MakeSimPair(SocketFactory& factory) {
  auto& host = static_cast<SimHost&>(factory);
  if (const int error = host.on_pair ? host.on_pair() : 0; error != 0) return {.error = error};
  const auto make = [&host] {
    auto end = std::make_shared<HostPeer>(host, SocketRequest{}, Endpoint{});
    end->OpenByRelay();
    if (host.on_pair_end) host.on_pair_end(*end);
    return end;
  };
  auto a = make(), b = make();
  HostPeer::Join(a, b);
  return {.flow_end = std::make_unique<SimAccepted>(std::move(a)),
          .own_end = std::make_unique<SimAccepted>(std::move(b))};
}

void HostPeer::Join(const std::shared_ptr<HostPeer>& a, const std::shared_ptr<HostPeer>& b) {
  a->joined_ = b;
  b->joined_ = a;
}

// What was written to this end, as far as the other one has room.
void HostPeer::CarryTo(HostPeer& other) {
  std::array<uint8_t, 4'096> room;
  bool moved = false;
  while (!from_relay_.empty() && other.to_relay_.size() < other.send_buffer_) {
    const size_t bytes = from_relay_.Take(room);
    other.to_relay_.Append(std::span(room).first(bytes));
    other.bytes_sent_ += bytes;
    moved = true;
  }
  if (write_shut_ && from_relay_.empty()) moved |= !std::exchange(other.finished_, true);
  if (!moved) return;
  Wake();
  other.Wake();
}

// This end is closed: what it wrote is still to be read, what it did not read is lost.
void HostPeer::HangUp() {
  const std::shared_ptr<HostPeer> other = std::exchange(joined_, nullptr);
  other->joined_ = nullptr;
  const bool unread = !to_relay_.empty() || !other->from_relay_.empty();
  std::array<uint8_t, 4'096> room;
  for (size_t bytes; (bytes = from_relay_.Take(room)) > 0;) {
    other->to_relay_.Append(std::span(room).first(bytes));
    other->bytes_sent_ += bytes;
  }
  while (other->from_relay_.Take(room) > 0) {
  }
  other->error_ = unread ? ECONNRESET : 0;
  other->finished_ = other->reset_ = true;
  other->Wake();
}

}  // namespace penstock::world
