// The host of a simulated world: sockets without a descriptor, whose far ends are
// scripted. The relay above is the real one (relay/relay.h with TcpTask<SimSocket>);
// what a SimSocket does, and when, is what Linux's TCP sockets do:
//
//   - what arrived before a reset can still be read, then comes ECONNRESET;
//   - a write after a reset fails with the pending error, then with EPIPE;
//   - closing with unread bytes, or with zero linger, resets the far end;
//   - an error wakes whoever waits for one, although nobody reads.
//
// A far end is a HostPeer. SimHost::on_dial is told of each as it is dialled and
// decides, then or later, with Accept or Fail. A client of a published port is one, too:
// SimHost::Connect makes it (sim_listener.h). Two that are joined (sim_pair.cc) are a stream
// pair, and behave as UNIX sockets do. One thread.
#ifndef PENSTOCK_TESTS_WORLD_SIM_HOST_H_
#define PENSTOCK_TESTS_WORLD_SIM_HOST_H_

#include <sys/uio.h>

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "relay/datagram_task.h"
#include "relay/flow_task.h"
#include "relay/kernel_socket.h"
#include "relay/socket_factory.h"
#include "relay/stream_pair.h"

namespace penstock::world {

class SimHost;
struct SimDatagrams;
struct SimListener;

// A run of bytes that is taken from the front.
class ByteQueue {
 public:
  void Append(std::span<const uint8_t> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  // Moves a prefix of what waits into `room`; returns its length.
  size_t Take(std::span<uint8_t> room);
  [[nodiscard]] size_t size() const { return bytes_.size() - head_; }
  [[nodiscard]] bool empty() const { return size() == 0; }

 private:
  std::vector<uint8_t> bytes_;
  size_t head_ = 0;
};

// A connection of the relay's as its far end sees it, with the two kernels between
// them. Lives as long as either end.
class HostPeer : public std::enable_shared_from_this<HostPeer> {
 public:
  HostPeer(SimHost& host, const SocketRequest& request) : host_(host), request_(request) {}
  // A client of a published port, which waits to be accepted.
  HostPeer(SimHost& host, const SocketRequest& request, const Endpoint& client)
      : host_(host), request_(request), client_(client), connected_(true) {}

  // Where the relay dialled, or where the client did.
  [[nodiscard]] const Endpoint& destination() const { return request_.destination; }
  [[nodiscard]] const Endpoint& client() const { return client_; }

  // ---- The answer to the dial. Nothing happens if the relay has given up.
  void Accept();
  void Fail(int error);
  [[nodiscard]] bool dialling() const { return connect_ != nullptr; }
  [[nodiscard]] bool connected() const { return connected_; }

  // ---- The far end acts.
  // Bytes for the guest. They wait in the relay's socket until it reads.
  void Send(std::span<const uint8_t> bytes);
  [[nodiscard]] size_t unread() const { return to_relay_.size(); }
  // FIN after what was sent.
  void Finish();
  // RST. The relay finds `error`.
  void Reset(int error = ECONNRESET);
  // Closes both directions: FIN, and whatever is written afterwards is answered with
  // RST; RST at once if bytes wait to be taken.
  void Leave();
  // The guest's bytes: how many wait, and a prefix of them. Taking makes room.
  [[nodiscard]] size_t arrived() const { return from_relay_.size(); }
  size_t Take(std::span<uint8_t> room);

  // ---- What the far end saw.
  // The relay's FIN, after all bytes were taken.
  [[nodiscard]] bool saw_end() const { return write_shut_ && !saw_reset_ && from_relay_.empty(); }
  [[nodiscard]] bool saw_reset() const { return saw_reset_; }
  // The relay has closed its descriptor, or the kernel the client's connection.
  [[nodiscard]] bool closed() const { return closed_; }
  // Totals.
  [[nodiscard]] uint64_t bytes_sent() const { return bytes_sent_; }  // by Send
  [[nodiscard]] uint64_t bytes_read() const { return bytes_sent_ - to_relay_.size(); }
  [[nodiscard]] uint64_t bytes_written() const { return bytes_written_; }  // by the relay
  [[nodiscard]] bool finished() const { return finished_; }
  [[nodiscard]] bool was_reset() const { return reset_; }
  // The relay waits for bytes; a write of the relay's would take some.
  [[nodiscard]] bool being_read() const { return read_ != nullptr; }
  [[nodiscard]] bool takes_bytes() const { return !reset_ && from_relay_.size() < send_buffer_; }

  // ---- How the kernel between behaves; may change at any time.
  // Bytes that may wait to be taken.
  void SetSendBuffer(size_t bytes);
  // Largest write and read that one call does; 0: no limit.
  size_t write_max = 0;
  size_t read_max = 0;
  // Every so manieth call fails with EINTR; 0: none.
  uint32_t interrupt_every = 0;
  // Called after anything above has changed by the relay's doing.
  std::function<void()> on_change;

  // Both ends of a stream pair: nobody scripts them.
  static void Join(const std::shared_ptr<HostPeer>& a, const std::shared_ptr<HostPeer>& b);

 private:
  friend class SimSocket;
  friend class SimAcceptor;
  friend class SimAccepted;
  friend struct SimListener;
  friend StreamPair MakeSimPair(SocketFactory& factory);
  using Handler = absl::AnyInvocable<void(boost::system::error_code, size_t)>;

  [[nodiscard]] IoResult Read(std::span<uint8_t> room);
  [[nodiscard]] IoResult Write(std::span<const iovec> pieces);
  void ShutdownWrite();
  void OpenByRelay();  // accepted: there is a descriptor
  void CloseByRelay(bool reset);
  void ResetByKernel();  // before it was accepted
  [[nodiscard]] int TakeError() { return std::exchange(error_, 0); }
  // Completes whoever waits for what has happened.
  void Wake();
  void Complete(Handler& handler, boost::system::error_code error, size_t bytes = 0);
  void Changed();
  [[nodiscard]] bool Interrupted();
  // sim_pair.cc
  void CarryTo(HostPeer& other);
  void HangUp();

  SimHost& host_;
  std::shared_ptr<HostPeer> joined_;  // until one of the two closes
  const SocketRequest request_;
  const Endpoint client_{};
  bool connected_ = false;
  ByteQueue to_relay_;
  ByteQueue from_relay_;
  size_t send_buffer_ = 256 << 10;
  uint64_t bytes_sent_ = 0, bytes_written_ = 0;
  uint64_t calls_ = 0;
  int error_ = 0;            // pending at the relay's socket
  bool finished_ = false;    // the far end's FIN
  bool reset_ = false;       // by the far end
  bool gone_ = false;        // the far end has closed
  bool write_shut_ = false;  // the relay's FIN
  bool saw_reset_ = false;   // by the relay
  bool closed_ = false;

  // Who waits.
  Handler connect_, read_, error_wait_, writable_;
  std::span<uint8_t> read_room_;
};

// The socket of a relay task; the shape of KernelSocket.
class SimSocket {
 public:
  explicit SimSocket(boost::asio::io_context&) {}
  ~SimSocket() { Close(false); }
  SimSocket(const SimSocket&) = delete;
  SimSocket& operator=(const SimSocket&) = delete;

  [[nodiscard]] int Open(SocketFactory& factory, const SocketRequest& request);
  [[nodiscard]] int Adopt(AcceptedSocket& accepted);

  [[nodiscard]] int Connect(const Endpoint&) { return EINPROGRESS; }
  template <typename HandlerOfError>
  void AsyncConnected(HandlerOfError handler) {
    BeginConnect(WithoutBytes(std::move(handler)));
  }
  template <typename Token>
  auto AsyncReadSome(std::span<uint8_t> room, Token&& token) {
    return boost::asio::async_initiate<Token, void(boost::system::error_code, size_t)>(
        [this, room](auto handler) {
          peer_->read_room_ = room;
          peer_->read_ = std::move(handler);
          peer_->Wake();
        },
        token);
  }
  template <typename Token>
  auto AsyncWaitError(Token&& token) {
    return boost::asio::async_initiate<Token, void(boost::system::error_code)>(
        [this](auto handler) {
          auto slot = boost::asio::get_associated_cancellation_slot(handler);
          if (slot.is_connected()) {
            slot.assign([peer = peer_.get()](boost::asio::cancellation_type) {
              peer->Complete(peer->error_wait_, boost::asio::error::operation_aborted, 0);
            });
          }
          peer_->error_wait_ = WithoutBytes(std::move(handler));
          peer_->Wake();
        },
        token);
  }
  template <typename Token>
  auto AsyncWaitWritable(Token&& token) {
    return boost::asio::async_initiate<Token, void(boost::system::error_code)>(
        [this](auto handler) {
          peer_->writable_ = WithoutBytes(std::move(handler));
          peer_->Wake();
        },
        token);
  }

  [[nodiscard]] bool ConnectedToItself() { return false; }
  [[nodiscard]] IoResult Read(std::span<uint8_t> room) { return peer_->Read(room); }
  [[nodiscard]] IoResult Write(std::span<const iovec> pieces) { return peer_->Write(pieces); }
  void ShutdownWrite() { peer_->ShutdownWrite(); }
  [[nodiscard]] int TakeError() { return peer_->TakeError(); }
  void Close(bool reset) {
    if (const auto peer = std::exchange(peer_, nullptr)) peer->CloseByRelay(reset);
  }

  [[nodiscard]] const HostPeer* peer() const { return peer_.get(); }

 private:
  template <typename Handler>
  static auto WithoutBytes(Handler handler) {
    return [handler = std::move(handler)](boost::system::error_code error, size_t) mutable {
      std::move(handler)(error);
    };
  }
  void BeginConnect(HostPeer::Handler handler);

  std::shared_ptr<HostPeer> peer_;
};

class SimHost final : public SocketFactory, public std::enable_shared_from_this<SimHost> {
 public:
  explicit SimHost(boost::asio::io_context& io) : io_(io) {}

  // Told of each dial; the peer may be answered at once or later. Without it every
  // dial is accepted.
  std::function<void(HostPeer&)> on_dial;
  // Asked before a socket is made: an errno (EMFILE, …) or 0.
  std::function<int(const SocketRequest&)> on_open;
  // Asked before a client is accepted, with the listener's address: likewise.
  std::function<int(const Endpoint&)> on_accept;
  // Runs something when so much virtual time has gone by.
  std::function<void(Duration, std::function<void()>)> after;

  // A client connects; nullptr: refused, nobody listens.
  std::shared_ptr<HostPeer> Connect(const Endpoint& client, const Endpoint& destination);
  // There are clients whom nobody will accept.
  [[nodiscard]] bool neglects_clients() const;
  [[nodiscard]] std::shared_ptr<SimListener> listener(int descriptor) const;
  // UDP sockets of published ports, in order (sim_datagrams.h).
  [[nodiscard]] std::shared_ptr<SimDatagrams> datagrams(int descriptor) const;

  // Asked before a stream pair is made: an errno or 0. Told of each end.
  std::function<int()> on_pair;
  std::function<void(HostPeer&)> on_pair_end;

  // Asked before a socket for the guest's own datagrams is made: an errno or 0.
  std::function<int(const DatagramRequest&)> on_guest_socket;
  std::function<void(std::shared_ptr<SimDatagrams>)> on_guest_socket_opened;
  // The newest ones; all that are open are among them.
  [[nodiscard]] const std::vector<std::shared_ptr<SimDatagrams>>& guest_sockets() const {
    return guest_sockets_;
  }
  [[nodiscard]] size_t open_guest_sockets() const { return open_guest_sockets_; }
  // Datagrams of all of them that left, and that the relay took.
  struct GuestTotals {
    uint64_t udp_sent = 0, udp_taken = 0;
    uint64_t echo_sent = 0, echo_taken = 0;
  };
  [[nodiscard]] const GuestTotals& guest_totals() const { return guest_totals_; }

  // Every connection that was dialled, or came, in order.
  [[nodiscard]] const std::vector<std::shared_ptr<HostPeer>>& peers() const { return peers_; }
  // Descriptors that the relay holds.
  [[nodiscard]] size_t open_sockets() const { return open_sockets_; }

  [[nodiscard]] boost::asio::io_context& io() { return io_; }

 private:
  friend class SimSocket;
  friend class SimDatagramSocket;
  friend class HostPeer;
  friend struct SimDatagrams;
  friend std::shared_ptr<DatagramTask> MakeSimGuestSocket(Relay& relay,
                                                          std::shared_ptr<DatagramPipe> pipe);
  // The kernel's OpenStream is not used: SimSocket::Open knows that this is a SimHost.
  [[nodiscard]] SocketResult OpenStream(const SocketRequest&) override { return {.error = ENOSYS}; }
  // The "descriptor" is the listener's number.
  [[nodiscard]] PortResult OpenPort(const PortRequest& request) override;
  static constexpr uint16_t kFirstChosenPort = 20'000;

  boost::asio::io_context& io_;
  std::vector<std::shared_ptr<HostPeer>> peers_;
  [[nodiscard]] PortResult OpenDatagrams(const PortRequest& request);
  std::vector<std::shared_ptr<SimListener>> listeners_;
  // sim_datagrams.cc
  [[nodiscard]] std::shared_ptr<SimDatagrams> OpenGuestSocket(const DatagramRequest& request);
  void CountSent(const SimDatagrams& socket);
  void CountTaken(const SimDatagrams& socket, size_t datagrams);
  std::vector<std::shared_ptr<SimDatagrams>> datagrams_;
  std::vector<std::shared_ptr<SimDatagrams>> guest_sockets_;
  uint64_t guest_sockets_opened_ = 0;
  GuestTotals guest_totals_;
  size_t open_sockets_ = 0;
  size_t open_guest_sockets_ = 0;
};

// Posts the handler if there is one, and leaves none.
using SimWaitHandler = absl::AnyInvocable<void(boost::system::error_code)>;
void Complete(SimHost& host, SimWaitHandler& handler, boost::system::error_code error);

// RelayOptions::make_task of a simulated world.
[[nodiscard]] std::shared_ptr<FlowTask> MakeSimTask(std::shared_ptr<Relay> relay, FlowPipe& pipe);

// StreamPairMaker of a simulated world; `factory` is its SimHost.
[[nodiscard]] StreamPair MakeSimPair(SocketFactory& factory);

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_SIM_HOST_H_
