// The host's TCP socket as a relay task (tcp_task.h, framed_task.h) uses it: Asio's waiting,
// plain non-blocking system calls for the rest. What a task waits for takes an Asio
// completion token; what it does at once returns like the system call, with the errno.
// One end of a stream pair (stream_pair.h) will do as well.
//
// This is the one seam below which nothing of the relay is simulated: tests/world has
// a class of the same shape without a descriptor. Relay's thread only.
#ifndef PENSTOCK_RELAY_KERNEL_SOCKET_H_
#define PENSTOCK_RELAY_KERNEL_SOCKET_H_

#include <netinet/in.h>
#include <sys/uio.h>

#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <span>
#include <utility>

#include "relay/endpoint.h"
#include "relay/inbound.h"
#include "relay/socket_address.h"
#include "relay/socket_factory.h"

namespace penstock {

// Bytes moved, or the errno.
struct IoResult {
  size_t bytes = 0;
  int error = 0;
};

// A connected stream socket, from accept(2) or socketpair(2), until a KernelSocket adopts it.
class KernelAccepted final : public AcceptedSocket {
 public:
  // Owns `descriptor`, which is non-blocking, of `domain` (AF_INET, AF_INET6, AF_UNIX).
  KernelAccepted(int descriptor, int domain) : descriptor_(descriptor), domain_(domain) {}
  ~KernelAccepted() override;
  KernelAccepted(const KernelAccepted&) = delete;
  KernelAccepted& operator=(const KernelAccepted&) = delete;

  [[nodiscard]] int Release() { return std::exchange(descriptor_, -1); }
  [[nodiscard]] int descriptor() const { return descriptor_; }
  [[nodiscard]] int domain() const { return domain_; }

 private:
  int descriptor_;
  const int domain_;
};

class KernelSocket {
 public:
  explicit KernelSocket(boost::asio::io_context& io) : socket_(io) {}

  // Takes a socket for the request's destination from `factory`; 0 or an errno.
  [[nodiscard]] int Open(SocketFactory& factory, const SocketRequest& request);

  // Takes a KernelAccepted over; 0 or an errno.
  [[nodiscard]] int Adopt(AcceptedSocket& accepted);

  // 0, an errno, or EINPROGRESS: AsyncConnected tells the end. To an address of the host's
  // own it is over when connect(2) returns, which says EINPROGRESS all the same.
  [[nodiscard]] int Connect(const Endpoint& destination);
  // Completes with error_code. `handler` keeps this alive.
  template <typename Handler>
  void AsyncConnected(Handler handler) {
    socket_.async_wait(Socket::wait_write, [this, handler = std::move(handler)](
                                               boost::system::error_code error) mutable {
      if (!error) error.assign(TakeError(), boost::system::system_category());
      handler(error);
    });
  }
  // Completes with error_code, size_t; the end is asio::error::eof.
  template <typename Token>
  auto AsyncReadSome(std::span<uint8_t> room, Token&& token) {
    return socket_.async_read_some(boost::asio::buffer(room.data(), room.size()),
                                   std::forward<Token>(token));
  }
  // Complete with error_code.
  template <typename Token>
  auto AsyncWaitError(Token&& token) {
    return socket_.async_wait(Socket::wait_error, std::forward<Token>(token));
  }
  template <typename Token>
  auto AsyncWaitWritable(Token&& token) {
    return socket_.async_wait(Socket::wait_write, std::forward<Token>(token));
  }

  // A loopback connect to an ephemeral port may meet itself (simultaneous open with
  // the same address and port at both ends): nobody listens there.
  [[nodiscard]] bool ConnectedToItself();
  // {0, 0} is the peer's end.
  [[nodiscard]] IoResult Read(std::span<uint8_t> room);
  // All pieces by one system call.
  [[nodiscard]] IoResult Write(std::span<const iovec> pieces);
  void ShutdownWrite();
  // The socket's pending error, which is cleared, or why it cannot be told; 0 if there is none.
  [[nodiscard]] int TakeError();
  // Waits that are under way complete with operation_aborted. `reset`: with zero
  // linger, so that the peer gets RST. (The other end of a pair sees the end: AF_UNIX has
  // no reset but for closing with unread bytes.)
  void Close(bool reset);

 private:
  // The io_context's own executor: the type-erased one would cost each waiting
  // handler some hundred bytes.
  using Socket = boost::asio::basic_stream_socket<boost::asio::generic::stream_protocol,
                                                  boost::asio::io_context::executor_type>;
  [[nodiscard]] int Assign(int descriptor, int domain);
  Socket socket_;
};

}  // namespace penstock

#endif  // PENSTOCK_RELAY_KERNEL_SOCKET_H_
