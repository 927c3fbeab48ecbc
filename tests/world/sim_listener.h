// Listening sockets of a simulated host, without a descriptor: the shape of
// KernelAcceptor. As in Linux, a client is connected once it is in the backlog, whether
// or not it was accepted; a listener that closes resets those who wait. One thread.
#ifndef PENSTOCK_TESTS_WORLD_SIM_LISTENER_H_
#define PENSTOCK_TESTS_WORLD_SIM_LISTENER_H_

#include <boost/asio/async_result.hpp>
#include <boost/asio/io_context.hpp>
#include <deque>
#include <memory>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "publisher/kernel_acceptor.h"
#include "publisher/tcp_listener.h"
#include "tests/world/sim_host.h"

namespace penstock::world {

// Accepted and not adopted yet.
class SimAccepted final : public AcceptedSocket {
 public:
  explicit SimAccepted(std::shared_ptr<HostPeer> peer) : peer_(std::move(peer)) {}
  ~SimAccepted() override;
  [[nodiscard]] std::shared_ptr<HostPeer> Release() { return std::exchange(peer_, nullptr); }
  [[nodiscard]] const HostPeer& peer() const { return *peer_; }

 private:
  std::shared_ptr<HostPeer> peer_;
};

// The kernel's side of a listening socket.
struct SimListener {
  using Handler = SimWaitHandler;

  explicit SimListener(SimHost& its_host) : host(its_host) {}
  void Add(std::shared_ptr<HostPeer> client);
  void Close();
  void Wake();
  // Clients wait, and nobody will accept them: not asked for, and not pausing for time.
  [[nodiscard]] bool neglected() const { return !clients.empty() && !waiting && !pausing; }

  SimHost& host;
  Endpoint bound;
  std::deque<std::shared_ptr<HostPeer>> clients;
  Handler waiting, pausing;
  bool closed = false;
};

class SimAcceptor {
 public:
  SimAcceptor(boost::asio::io_context&, std::shared_ptr<SimListener> listener)
      : listener_(std::move(listener)) {}
  ~SimAcceptor() { Close(); }
  SimAcceptor(const SimAcceptor&) = delete;
  SimAcceptor& operator=(const SimAcceptor&) = delete;

  template <typename Token>
  auto AsyncWaitReadable(Token&& token) {
    return boost::asio::async_initiate<Token, void(boost::system::error_code)>(
        [this](auto handler) {
          listener_->waiting = std::move(handler);
          listener_->Wake();
        },
        token);
  }
  template <typename Token>
  auto AsyncPause(Duration duration, Token&& token) {
    return boost::asio::async_initiate<Token, void(boost::system::error_code)>(
        [this, duration](auto handler) { Pause(duration, std::move(handler)); }, token);
  }
  [[nodiscard]] AcceptResult Accept();
  [[nodiscard]] static Endpoint HostOf(const AcceptedSocket& accepted);
  void Close() { listener_->Close(); }

 private:
  void Pause(Duration duration, SimListener::Handler handler);

  std::shared_ptr<SimListener> listener_;
};

// Publisher's ListenerMaker of a simulated world.
[[nodiscard]] std::shared_ptr<PortTask> MakeSimListener(Relay& relay, ListenerSettings settings,
                                                        int descriptor);

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_SIM_LISTENER_H_
