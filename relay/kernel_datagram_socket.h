// The host's UDP socket as a relay task (udp_task.h) uses it: Asio's waiting, plain
// non-blocking system calls in batches for the rest.
//
// A socket that is bound to every address tells for each datagram which of them its peer
// asked, and answers from that one (IP_PKTINFO, RFC 3542 6): an answer from another
// address is none.
//
// This is the seam below which tests/world has a class of the same shape without a
// descriptor. Relay's thread only.
#ifndef PENSTOCK_RELAY_KERNEL_DATAGRAM_SOCKET_H_
#define PENSTOCK_RELAY_KERNEL_DATAGRAM_SOCKET_H_

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <cstddef>
#include <span>
#include <utility>

#include "relay/datagram_pipe.h"
#include "relay/relay.h"

namespace penstock {

// Datagrams moved, or the errno of the first one.
struct DatagramResult {
  size_t count = 0;
  int error = 0;
};

class KernelDatagramSocket {
 public:
  // Owns `descriptor`, a UDP socket that is bound.
  KernelDatagramSocket(boost::asio::io_context& io, int descriptor);
  // False: epoll had no room for it, and it is closed.
  [[nodiscard]] bool ok() const { return socket_.is_open(); }

  // Complete with error_code.
  template <typename Token>
  auto AsyncWaitReadable(Token&& token) {
    return socket_.async_wait(Socket::wait_read, std::forward<Token>(token));
  }
  template <typename Token>
  auto AsyncWaitWritable(Token&& token) {
    return socket_.async_wait(Socket::wait_write, std::forward<Token>(token));
  }

  // Fills `slots` from the front. Fewer than there are: no more wait now.
  [[nodiscard]] DatagramResult Receive(std::span<DatagramScratch::Slot> slots);
  // Sends a prefix of `datagrams` (at most DatagramScratch::kBatch), each to its peer.
  [[nodiscard]] DatagramResult Send(std::span<Datagram* const> datagrams);
  // Waits that are under way complete with operation_aborted.
  void Close();

 private:
  // The io_context's own executor; see kernel_socket.h.
  using Socket =
      boost::asio::posix::basic_stream_descriptor<boost::asio::io_context::executor_type>;

  Socket socket_;
  bool bound_to_all_ = false;
};

}  // namespace penstock

#endif  // PENSTOCK_RELAY_KERNEL_DATAGRAM_SOCKET_H_
