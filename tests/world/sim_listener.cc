#include "tests/world/sim_listener.h"

#include <boost/asio/error.hpp>
#include <cerrno>

namespace penstock::world {

using boost::system::error_code;

SimAccepted::~SimAccepted() {
  if (peer_ != nullptr) peer_->CloseByRelay(true);
}

void SimListener::Add(std::shared_ptr<HostPeer> client) {
  clients.push_back(std::move(client));
  Wake();
}

void SimListener::Wake() {
  if (!clients.empty()) Complete(host, waiting, {});
}

void SimListener::Close() {
  if (std::exchange(closed, true)) return;
  for (const auto& client : std::exchange(clients, {})) client->ResetByKernel();
  Complete(host, waiting, boost::asio::error::operation_aborted);
  Complete(host, pausing, boost::asio::error::operation_aborted);
}

AcceptResult SimAcceptor::Accept() {
  SimListener& listener = *listener_;
  if (listener.clients.empty()) return {.error = EAGAIN};
  if (listener.host.on_accept) {
    if (const int error = listener.host.on_accept(listener.bound); error != 0) {
      return {.error = error};
    }
  }
  std::shared_ptr<HostPeer> peer = std::move(listener.clients.front());
  listener.clients.pop_front();
  peer->OpenByRelay();
  const Endpoint client = peer->client();
  return {.socket = std::make_unique<SimAccepted>(std::move(peer)), .client = client};
}

Endpoint SimAcceptor::HostOf(const AcceptedSocket& accepted) {
  return static_cast<const SimAccepted&>(accepted).peer().destination();
}

void SimAcceptor::Pause(Duration duration, SimListener::Handler handler) {
  listener_->pausing = std::move(handler);
  listener_->host.after(
      duration, [listener = listener_] { Complete(listener->host, listener->pausing, {}); });
}

std::shared_ptr<PortTask> MakeSimListener(Relay& relay, ListenerSettings settings, int descriptor) {
  auto& host = static_cast<SimHost&>(*relay.options().socket_factory);
  return std::make_shared<TcpListener<SimAcceptor>>(relay, std::move(settings),
                                                    host.listener(descriptor));
}

// ---------------------------------------------------------------- SimHost's part

PortResult SimHost::OpenPort(const PortRequest& request) {
  if (!request.stream) return OpenDatagrams(request);
  auto listener = std::make_shared<SimListener>(*this);
  listener->bound = request.address;
  if (listener->bound.port == 0) {
    listener->bound.port = static_cast<uint16_t>(kFirstChosenPort + listeners_.size());
  }
  listeners_.push_back(listener);
  return {.descriptor = static_cast<int>(listeners_.size() - 1), .bound = listener->bound};
}

std::shared_ptr<SimListener> SimHost::listener(int descriptor) const {
  return listeners_[static_cast<size_t>(descriptor)];
}

std::shared_ptr<HostPeer> SimHost::Connect(const Endpoint& client, const Endpoint& destination) {
  for (const auto& listener : listeners_) {
    if (listener->closed || listener->bound != destination) continue;
    auto peer =
        std::make_shared<HostPeer>(*this, SocketRequest{.destination = destination}, client);
    peers_.push_back(peer);
    listener->Add(peer);
    return peer;
  }
  return nullptr;
}

bool SimHost::neglects_clients() const {
  for (const auto& listener : listeners_) {
    if (!listener->closed && listener->neglected()) return true;
  }
  return false;
}

}  // namespace penstock::world
