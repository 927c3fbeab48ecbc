// One listening TCP socket: accepts the host's clients, asks whether they may, and hands
// them to the stack, which opens a flow for each (relay/inbound.h).
//
// Nothing that accept(2) says ends a listener. Without descriptors or memory it pauses,
// twice as long each time, and the clients wait in the kernel's backlog; what went wrong
// with one client is counted, and the next one has its turn. It also pauses while the
// guest owes an answer to too many clients of the port: so a burst waits in the
// backlog instead of being refused, and a guest's port that answers nobody does not take
// what other ports need.
//
// `Acceptor` is KernelAcceptor, or a scripted one in tests/world. Relay's thread only.
#ifndef PENSTOCK_PUBLISHER_TCP_LISTENER_H_
#define PENSTOCK_PUBLISHER_TCP_LISTENER_H_

#include <errno.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <exception>
#include <memory>
#include <new>
#include <utility>

#include "publisher/proxy_header.h"
#include "publisher/published_port.h"
#include "relay/inbound.h"
#include "relay/port_task.h"
#include "relay/relay.h"

namespace penstock {

struct ListenerSettings {
  Endpoint bound;
  ClientIdentity identity = ClientIdentity::kGateway;
  IngressHook ingress_hook;  // empty: everybody may
  std::shared_ptr<PortGauge> gauge;
};

// Without descriptors: the first pause and the longest.
inline constexpr Duration kAcceptPauseMin = std::chrono::milliseconds(10);
inline constexpr Duration kAcceptPauseMax = std::chrono::seconds(1);

template <typename Acceptor>
class TcpListener final : public PortTask,
                          public std::enable_shared_from_this<TcpListener<Acceptor>> {
 public:
  // `arguments` go to the Acceptor's constructor behind the io_context.
  template <typename... Arguments>
  TcpListener(Relay& relay, ListenerSettings settings, Arguments&&... arguments)
      : relay_(relay),
        settings_(std::move(settings)),
        acceptor_(relay.io(), std::forward<Arguments>(arguments)...) {}
  TcpListener(const TcpListener&) = delete;
  TcpListener& operator=(const TcpListener&) = delete;

  void Begin(std::shared_ptr<PortTask> self) override;
  void Resume() override;
  void Close() override;

 private:
  using Executor = boost::asio::io_context::executor_type;
  static constexpr auto kNoThrow = boost::asio::as_tuple(boost::asio::use_awaitable_t<Executor>());
  // Clients accepted before others of the io_context have their turn.
  static constexpr int kBatch = 64;

  // What stopped a round of accepting.
  enum class Stop : uint8_t { kNobodyWaits, kBatchFull, kDialingLimit, kNoResources };

  void Start();
  boost::asio::awaitable<void, Executor> Run(std::shared_ptr<TcpListener> self);
  Stop AcceptBatch();
  void HandOver(AcceptResult accepted);
  // True: the guest owes too many answers, and Resume will be called.
  [[nodiscard]] bool MustPause();

  Relay& relay_;
  const ListenerSettings settings_;
  Acceptor acceptor_;
  std::shared_ptr<PortTask> self_;  // nullptr once closed
  Duration pause_ = kAcceptPauseMin;
  bool running_ = false;
};

// ---------------------------------------------------------------- definitions

template <typename Acceptor>
void TcpListener<Acceptor>::Begin(std::shared_ptr<PortTask> self) {
  self_ = std::move(self);
  Start();
}

template <typename Acceptor>
void TcpListener<Acceptor>::Start() {
  running_ = true;
  // What it throws is for want of memory, and would be kept by `detached`: a listener that is
  // silent from then on.
  boost::asio::co_spawn(relay_.io(), Run(this->shared_from_this()),
                        [](const std::exception_ptr& thrown) {
                          if (thrown != nullptr) std::rethrow_exception(thrown);
                        });
}

// `self` keeps the listener alive while the coroutine is suspended; once it is closed,
// its relay may be gone.
template <typename Acceptor>
auto TcpListener<Acceptor>::Run([[maybe_unused]] std::shared_ptr<TcpListener> self)
    -> boost::asio::awaitable<void, Executor> {
  while (self_ != nullptr) {
    const Stop stop = AcceptBatch();
    if (stop == Stop::kDialingLimit) break;  // until Resume
    bool failed = stop == Stop::kNoResources;
    if (stop == Stop::kBatchFull) {
      co_await boost::asio::post(relay_.io(), kNoThrow);
    } else if (stop == Stop::kNobodyWaits) {
      const auto [error] = co_await acceptor_.AsyncWaitReadable(kNoThrow);
      failed = bool{error};
    }
    if (failed && self_ != nullptr) {
      relay_.listener_counts().accept_pauses.Add(1);
      co_await acceptor_.AsyncPause(std::exchange(pause_, std::min(2 * pause_, kAcceptPauseMax)),
                                    kNoThrow);
    }
  }
  running_ = false;
}

template <typename Acceptor>
auto TcpListener<Acceptor>::AcceptBatch() -> Stop {
  for (int i = 0; i < kBatch; ++i) {
    if (MustPause()) return Stop::kDialingLimit;
    AcceptResult accepted = acceptor_.Accept();
    switch (accepted.error) {
      case 0:
        pause_ = kAcceptPauseMin;
        HandOver(std::move(accepted));
        break;
      case EAGAIN:
        return Stop::kNobodyWaits;
      case EINTR:
        break;
      // This client is gone, or its network is (accept(2)); or a firewall forbids it.
      case ECONNABORTED:
      case EPERM:
      case EPROTO:
      case ENOPROTOOPT:
      case EOPNOTSUPP:
      case ENETDOWN:
      case ENETUNREACH:
      case EHOSTDOWN:
      case EHOSTUNREACH:
      case ENONET:
        relay_.listener_counts().accept_errors.Add(1);
        break;
      // EMFILE, ENFILE, ENOBUFS, ENOMEM; and whatever else, rather late than never.
      default:
        relay_.listener_counts().accept_errors.Add(1);
        return Stop::kNoResources;
    }
  }
  return Stop::kBatchFull;
}

template <typename Acceptor>
void TcpListener<Acceptor>::HandOver(AcceptResult accepted) {
  PortGauge& gauge = *settings_.gauge;
  const bool with_header = settings_.identity == ClientIdentity::kProxyProtocol;
  const Endpoint host =
      with_header || settings_.ingress_hook ? Acceptor::HostOf(*accepted.socket) : settings_.bound;
  if (settings_.ingress_hook && !settings_.ingress_hook({.protocol = PortProtocol::kTcp,
                                                         .client = accepted.client,
                                                         .host = host,
                                                         .guest_port = gauge.guest_port})) {
    relay_.listener_counts().clients_denied.Add(1);
    return;  // the socket resets
  }
  std::unique_ptr<Inbound> inbound(new (std::nothrow) Inbound);
  if (inbound == nullptr) {
    relay_.listener_counts().accept_errors.Add(1);
    return;  // the socket resets
  }
  if (with_header) inbound->preface = ProxyHeader(PortProtocol::kTcp, accepted.client, host);
  inbound->socket = std::move(accepted.socket);
  inbound->port = settings_.gauge;
  inbound->client = accepted.client;
  inbound->show_client = settings_.identity == ClientIdentity::kPreserveSource;
  gauge.accepted.Add(1);
  gauge.dialing.fetch_add(1, std::memory_order_seq_cst);
  relay_.HandOver(std::move(inbound));
}

template <typename Acceptor>
bool TcpListener<Acceptor>::MustPause() {
  PortGauge& gauge = *settings_.gauge;
  if (gauge.dialing.load(std::memory_order_seq_cst) < gauge.dialing_max) return false;
  gauge.paused.store(true, std::memory_order_seq_cst);
  // The second look: the stack subtracts first and reads `paused` then.
  if (gauge.dialing.load(std::memory_order_seq_cst) > gauge.dialing_max / 2) return true;
  gauge.paused.store(false, std::memory_order_seq_cst);
  return false;
}

template <typename Acceptor>
void TcpListener<Acceptor>::Resume() {
  if (running_ || self_ == nullptr || MustPause()) return;
  settings_.gauge->paused.store(false, std::memory_order_seq_cst);
  Start();
}

template <typename Acceptor>
void TcpListener<Acceptor>::Close() {
  acceptor_.Close();
  self_.reset();
}

}  // namespace penstock

#endif  // PENSTOCK_PUBLISHER_TCP_LISTENER_H_
