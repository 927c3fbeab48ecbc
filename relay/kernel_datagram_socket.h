// The host's UDP socket, or the one for ICMP echo, as a relay task (udp_task.h) uses it:
// Asio's waiting, plain non-blocking system calls in batches for the rest.
//
// Two kinds. A *port's* is bound when it comes here; where it is bound to every address it
// tells for each datagram which of them its peer asked, and answers from that one
// (IP_PKTINFO, RFC 3542 6): an answer from another address is none. A *guest's* was opened
// for the guest's own datagrams: it sends with the guest's hop limit, traffic class and
// don't-fragment bit, and hears of ICMP errors, which it matches to destinations
// (IP_RECVERR in ip(7): an unconnected socket learns of them in no other way).
//
// Datagrams of the same length to the same peer leave as one message that the kernel cuts
// (UDP_SEGMENT), and what the kernel joined arrives as one (UDP_GRO): both in udp(7).
//
// This is the seam below which tests/world has a class of the same shape without a
// descriptor. Relay's thread only.
#ifndef PENSTOCK_RELAY_KERNEL_DATAGRAM_SOCKET_H_
#define PENSTOCK_RELAY_KERNEL_DATAGRAM_SOCKET_H_

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
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
  // A port's. Owns `descriptor`, a UDP socket that is bound.
  KernelDatagramSocket(boost::asio::io_context& io, int descriptor);
  // A guest's. Owns the descriptor, if there is one.
  KernelDatagramSocket(boost::asio::io_context& io, const SocketResult& socket,
                       const DatagramRequest& request);
  // False: there is no socket, or epoll had no room for it and it is closed.
  [[nodiscard]] bool ok() const { return socket_.is_open(); }
  [[nodiscard]] int error() const { return error_; }  // errno; of one that is not ok
  // A guest's: after an error of Receive or Send, TakeFault tells what it meant.
  [[nodiscard]] bool reports_faults() const { return request_.has_value(); }

  // Complete with error_code.
  template <typename Token>
  auto AsyncWaitReadable(Token&& token) {
    return socket_.async_wait(Socket::wait_read, std::forward<Token>(token));
  }
  template <typename Token>
  auto AsyncWaitWritable(Token&& token) {
    return socket_.async_wait(Socket::wait_write, std::forward<Token>(token));
  }

  // From now on the kernel may join what arrives.
  void JoinArrivals();
  // Fills `slots` from the front. Fewer than there are: no more wait now.
  [[nodiscard]] DatagramResult Receive(std::span<DatagramScratch::Slot> slots);
  // Sends a prefix of `datagrams` (at most DatagramScratch::kBatch), each to its peer.
  [[nodiscard]] DatagramResult Send(std::span<Datagram* const> datagrams);
  // The next error that waits; nullopt: none does. `slot` gets where the datagram went and
  // the head of its payload, as far as the error quoted it.
  struct Fault {
    DatagramFault what;
    bool local = false;  // of the datagram that Send failed for just now
  };
  [[nodiscard]] std::optional<Fault> TakeFault(DatagramScratch::Slot& slot);
  // Waits that are under way complete with operation_aborted.
  void Close();

 private:
  // The io_context's own executor; see kernel_socket.h.
  using Socket =
      boost::asio::posix::basic_stream_descriptor<boost::asio::io_context::executor_type>;

  void Assign(int descriptor);
  [[nodiscard]] bool is_v4() const { return request_->family == Family::kIpv4; }
  // Has what leaves next leave with the guest's header fields.
  void AdoptHeader(const Datagram& datagram);
  [[nodiscard]] DatagramResult SendMessages(std::span<Datagram* const> datagrams);

  Socket socket_;
  int error_ = 0;
  std::optional<DatagramRequest> request_;
  bool bound_to_all_ = false;
  // The socket's options now; 0: the system's own.
  uint8_t hop_limit_ = 0;
  uint8_t traffic_class_ = 0;
  std::optional<bool> dont_fragment_;
  // The longest datagram of which several may leave as one message; lowered when the
  // kernel refuses.
  uint32_t segment_bytes_max_ = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_RELAY_KERNEL_DATAGRAM_SOCKET_H_
