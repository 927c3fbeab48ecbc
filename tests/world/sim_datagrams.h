// UDP sockets of a simulated host, without a descriptor: the shape of
// KernelDatagramSocket (relay/kernel_datagram_socket.h). As in Linux, what arrives waits in
// a bounded buffer and is lost beyond it; a batch may come back short although more
// waits; a full socket says EAGAIN and is writable again later; errors come in between
// and end nothing. One thread.
#ifndef PENSTOCK_TESTS_WORLD_SIM_DATAGRAMS_H_
#define PENSTOCK_TESTS_WORLD_SIM_DATAGRAMS_H_

#include <boost/asio/async_result.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "relay/udp_task.h"
#include "tests/world/sim_host.h"

namespace penstock::world {

// The kernel's side of a UDP socket.
struct SimDatagrams {
  using Handler = absl::AnyInvocable<void(boost::system::error_code)>;
  struct Waiting {
    DatagramPath path;
    std::vector<uint8_t> bytes;
  };
  static constexpr size_t kReceiveBufferBytes = 212'992;

  explicit SimDatagrams(SimHost& its_host) : host(its_host) {}

  // A datagram arrives. False: nobody is there, or the buffer is full.
  bool Arrive(const DatagramPath& from, std::span<const uint8_t> bytes);
  // So many datagrams can be sent until the next call; unlimited at first.
  void SetRoom(size_t datagrams);
  void Close();
  void Wake();

  SimHost& host;
  Endpoint bound;
  std::deque<Waiting> waiting;
  size_t waiting_bytes = 0;
  size_t room = SIZE_MAX;
  bool closed = false;
  Handler readable, writable;
  // ---- Scripted.
  // Datagrams that one call moves at most.
  size_t batch_max = SIZE_MAX;
  // Asked before each call: an errno, or 0.
  std::function<int()> error;
  // A datagram leaves.
  std::function<void(const DatagramPath& to, std::span<const uint8_t> bytes)> sent;
  // ---- Totals.
  uint64_t taken_by_relay = 0;
  uint64_t sent_by_relay = 0;
};

class SimDatagramSocket {
 public:
  SimDatagramSocket(boost::asio::io_context&, std::shared_ptr<SimDatagrams> kernel)
      : kernel_(std::move(kernel)) {}
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
  [[nodiscard]] bool ok() const { return true; }
  [[nodiscard]] int error() const { return 0; }
  [[nodiscard]] bool reports_faults() const { return false; }
  void JoinArrivals() {}
  [[nodiscard]] std::optional<KernelDatagramSocket::Fault> TakeFault(DatagramScratch::Slot&) {
    return std::nullopt;
  }
  [[nodiscard]] DatagramResult Receive(std::span<DatagramScratch::Slot> slots);
  [[nodiscard]] DatagramResult Send(std::span<Datagram* const> datagrams);
  void Close() { kernel_->Close(); }

  [[nodiscard]] const SimDatagrams& kernel() const { return *kernel_; }

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

  std::shared_ptr<SimDatagrams> kernel_;
};

// Publisher's UdpTaskMaker of a simulated world.
[[nodiscard]] std::shared_ptr<DatagramTask> MakeSimUdpTask(Relay& relay,
                                                           std::shared_ptr<DatagramPipe> pipe,
                                                           int descriptor);

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_SIM_DATAGRAMS_H_
