// UDP sockets of a simulated host, without a descriptor: the shape of
// KernelDatagramSocket (relay/kernel_datagram_socket.h). As in Linux, what arrives waits in
// a bounded buffer and is lost beyond it; a batch may come back short although more
// waits; a full socket says EAGAIN and is writable again later; errors come in between
// and end nothing.
//
// A guest's socket also has an error queue: what a router or a host said of a datagram
// fails the next call, once, with its errno, and waits there until it is taken; what the
// kernel itself refuses fails the call that sends it. Either completes who waits for
// something to read. An echo socket puts an identifier of its own into what leaves, and
// joins nothing. One thread.
#ifndef PENSTOCK_TESTS_WORLD_SIM_DATAGRAMS_H_
#define PENSTOCK_TESTS_WORLD_SIM_DATAGRAMS_H_

#include <boost/asio/async_result.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "relay/udp_task.h"
#include "tests/world/sim_host.h"

namespace penstock::world {

// The kernel's side of a UDP socket.
struct SimDatagrams {
  using Handler = SimWaitHandler;
  struct Waiting {
    DatagramPath path;
    std::vector<uint8_t> bytes;
  };
  // An entry of the error queue.
  struct Fault {
    KernelDatagramSocket::Fault what;
    Endpoint destination;
    std::vector<uint8_t> quoted;
  };
  static constexpr size_t kReceiveBufferBytes = 212'992;

  explicit SimDatagrams(SimHost& its_host) : host(its_host) {}

  // A datagram arrives. False: nobody is there, or the buffer is full.
  bool Arrive(const DatagramPath& from, std::span<const uint8_t> bytes);
  // So many datagrams can be sent until the next call; unlimited at first.
  void SetRoom(size_t datagrams);
  // An ICMP error arrives, about a datagram to `destination` that began with `quoted`. False:
  // nobody is there.
  bool ArriveFault(const DatagramFault& what, const Endpoint& destination,
                   std::span<const uint8_t> quoted);
  void Close();
  void Wake();
  // Joins what it takes off the buffer, if it may; how many.
  size_t TakeInto(DatagramScratch::Slot& slot);

  SimHost& host;
  Endpoint bound;
  std::optional<DatagramRequest> request;  // of a guest's
  uint16_t identifier = 0;                 // of an echo socket
  std::deque<Fault> faults;
  int pending_error = 0;
  bool joins = false;
  std::deque<Waiting> waiting;
  size_t waiting_bytes = 0;
  size_t room = SIZE_MAX;
  bool closed = false;
  Handler readable, writable;
  // ---- Scripted.
  // Datagrams that one call moves at most.
  size_t batch_max = SIZE_MAX;
  // Datagrams that arrive as one at most.
  size_t join_max = 1;
  // Asked before each call: an errno, or 0.
  std::function<int()> error;
  // Asked before a datagram leaves a guest's socket: what the kernel itself says against it.
  std::function<DatagramFault(const Datagram& datagram)> refuse;
  // A datagram leaves.
  std::function<void(const Datagram& datagram)> sent;
  std::function<void()> on_close;
  // ---- Totals.
  uint64_t taken_by_relay = 0;
  uint64_t sent_by_relay = 0;
};

class SimDatagramSocket {
 public:
  // A port's, or a guest's; of a guest's that could not be opened there is no kernel's side.
  SimDatagramSocket(boost::asio::io_context&, std::shared_ptr<SimDatagrams> kernel, int error = 0)
      : kernel_(std::move(kernel)), error_(error) {}
  ~SimDatagramSocket() { Close(); }
  SimDatagramSocket(const SimDatagramSocket&) = delete;
  SimDatagramSocket& operator=(const SimDatagramSocket&) = delete;

  template <typename Token>
  auto AsyncWaitReadable(Token&& token) {
    return Wait(kernel_->readable, std::forward<Token>(token));
  }
  template <typename Token>
  auto AsyncWaitWritable(Token&& token) {
    return Wait(kernel_->writable, std::forward<Token>(token));
  }
  [[nodiscard]] bool ok() const { return kernel_ != nullptr; }
  [[nodiscard]] int error() const { return error_; }
  [[nodiscard]] bool reports_faults() const { return kernel_->request.has_value(); }
  void JoinArrivals() { kernel_->joins = true; }
  [[nodiscard]] std::optional<KernelDatagramSocket::Fault> TakeFault(DatagramScratch::Slot& slot);
  [[nodiscard]] DatagramResult Receive(std::span<DatagramScratch::Slot> slots);
  [[nodiscard]] DatagramResult Send(std::span<Datagram* const> datagrams);
  void Close() {
    if (kernel_ != nullptr) kernel_->Close();
  }

  [[nodiscard]] const SimDatagrams& kernel() const { return *kernel_; }  // of one that is ok

 private:
  template <typename Token>
  auto Wait(SimDatagrams::Handler& place, Token&& token) {
    return boost::asio::async_initiate<Token, void(boost::system::error_code)>(
        [this, &place](auto handler) {
          place = std::move(handler);
          kernel_->Wake();
        },
        token);
  }

  // The errno that fails this call, or 0.
  [[nodiscard]] int CallError();
  // The kernel refuses `datagram`: an errno, and its entry of the error queue; or 0.
  [[nodiscard]] int Refusal(const Datagram& datagram);
  void Leave(Datagram& datagram);

  std::shared_ptr<SimDatagrams> kernel_;
  int error_ = 0;
};

// Publisher's UdpTaskMaker of a simulated world.
[[nodiscard]] std::shared_ptr<DatagramTask> MakeSimUdpTask(Relay& relay,
                                                           std::shared_ptr<DatagramPipe> pipe,
                                                           int descriptor);

// RelayOptions::make_guest_socket of a simulated world.
[[nodiscard]] std::shared_ptr<DatagramTask> MakeSimGuestSocket(Relay& relay,
                                                               std::shared_ptr<DatagramPipe> pipe);

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_SIM_DATAGRAMS_H_
