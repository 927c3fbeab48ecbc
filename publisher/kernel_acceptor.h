// A listening socket of the host's kernel as a listener (tcp_listener.h) uses it: Asio's
// waiting, accept4 for the rest. The seam below which tests/world has a class of the
// same shape without a descriptor. Relay's thread only.
#ifndef PENSTOCK_PUBLISHER_KERNEL_ACCEPTOR_H_
#define PENSTOCK_PUBLISHER_KERNEL_ACCEPTOR_H_

#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <boost/asio/wait_traits.hpp>
#include <memory>
#include <utility>

#include "relay/endpoint.h"
#include "relay/inbound.h"
#include "relay/time.h"

namespace penstock {

class KernelAcceptor {
 public:
  // Owns `descriptor`, a socket that listens and does not block.
  KernelAcceptor(boost::asio::io_context& io, int descriptor);
  ~KernelAcceptor() { Close(); }
  KernelAcceptor(const KernelAcceptor&) = delete;
  KernelAcceptor& operator=(const KernelAcceptor&) = delete;

  // Complete with error_code.
  template <typename Token>
  auto AsyncWaitReadable(Token&& token) {
    return watch_.async_wait(Watch::wait_read, std::forward<Token>(token));
  }
  template <typename Token>
  auto AsyncPause(Duration duration, Token&& token) {
    timer_.expires_after(duration);
    return timer_.async_wait(std::forward<Token>(token));
  }

  // The next client; EAGAIN if none waits.
  [[nodiscard]] AcceptResult Accept();
  // The address that `accepted` came to: for a socket bound to many.
  [[nodiscard]] static Endpoint HostOf(const AcceptedSocket& accepted);
  // Waits that are under way complete with operation_aborted.
  void Close();

 private:
  using Executor = boost::asio::io_context::executor_type;
  using Watch = boost::asio::posix::basic_stream_descriptor<Executor>;
  using Timer = boost::asio::basic_waitable_timer<Clock, boost::asio::wait_traits<Clock>, Executor>;

  int descriptor_;
  Watch watch_;  // closes it
  Timer timer_;
};

}  // namespace penstock

#endif  // PENSTOCK_PUBLISHER_KERNEL_ACCEPTOR_H_
