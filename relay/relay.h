// The host side of one stack on one io_context: dials, reads and writes host
// sockets, one task per flow (flow_task.h) and per UDP socket (datagram_task.h).
//
// The stack puts flows that have something for the relay on `to_relay()` and rings
// `doorbell()`; the relay puts flows that have something for the stack on
// `to_stack()` and rings the stack's doorbell. Pipes of datagrams do the same with lists
// of their own. Listeners of published ports live here too and hand over what they
// accepted. All methods belong to the thread that runs the io_context, but for those that
// are named as the stack's.
#ifndef PENSTOCK_RELAY_RELAY_H_
#define PENSTOCK_RELAY_RELAY_H_

#include <array>
#include <atomic>
#include <boost/intrusive/list.hpp>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "relay/block_pool.h"
#include "relay/counter.h"
#include "relay/datagram_pool.h"
#include "relay/datagram_task.h"
#include "relay/doorbell.h"
#include "relay/flow_pipe.h"
#include "relay/flow_task.h"
#include "relay/inbound.h"
#include "relay/port_task.h"
#include "relay/socket_factory.h"

namespace boost::asio {
class io_context;
}

namespace penstock {

struct RelayOptions {
  uint32_t flow_count_max = 0;
  uint64_t block_bytes_max = 0;
  Duration keepalive_idle{};
  Duration keepalive_interval{};
  int keepalive_probes = 0;
  std::shared_ptr<SocketFactory> socket_factory;
  FlowTaskMaker make_task = &MakeTcpTask;
  GuestSocketMaker make_guest_socket = &MakeGuestSocket;

  // What the factory is asked for, to connect to `destination`.
  [[nodiscard]] SocketRequest RequestFor(const Endpoint& destination) const {
    return {.destination = destination,
            .keepalive_idle = keepalive_idle,
            .keepalive_interval = keepalive_interval,
            .keepalive_probes = keepalive_probes};
  }
};

// Datagrams that a relay's UDP sockets did not pass on, and messages that its streams did
// not. Written by the relay.
struct DatagramCounts {
  Counter lost_to_guest;  // the pipe was at its limit
  Counter lost_to_host;   // the socket refused them, or was closed
  Counter lost_closed;    // to guest, on their way as the pipe was closed
  Counter socket_errors;
  Counter messages_lost;  // to host: the stream ended before it took them
};

// Where a relay's UDP sockets read to, one batch at a time: nothing that arrives is ever
// cut off, and no socket has buffers of its own. Pages that no datagram reaches are never
// touched.
struct DatagramScratch {
  static constexpr size_t kBatch = 32;
  struct Slot {
    std::span<uint8_t> room;
    uint32_t length = 0;
    uint16_t segment_bytes = 0;  // as of Datagram
    DatagramPath path;
  };
  DatagramScratch();
  std::array<Slot, kBatch> slots;

 private:
  std::unique_ptr<uint8_t[]> memory_;
};

class Relay final : public std::enable_shared_from_this<Relay> {
 public:
  // Both doorbells outlive the relay's last task; the io_context outlives the relay.
  Relay(boost::asio::io_context& io, RelayOptions options, Doorbell& stack_doorbell);
  ~Relay();
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  // Serves every flow on to_relay(), then arms the doorbell.
  void RunReady();

  // Closes every socket with a reset and lets go of everything that belongs to the
  // stack. Afterwards the relay touches no pipe and no doorbell.
  void Shutdown();

  // The stack's: pushes and rings; pops.
  [[nodiscard]] ReadyRing& to_relay() { return to_relay_; }
  [[nodiscard]] ReadyRing& to_stack() { return to_stack_; }
  // The same for pipes of datagrams; the stack marks `for_relay`.
  [[nodiscard]] ReadyPipes& pipes_to_relay() { return pipes_to_relay_; }
  [[nodiscard]] ReadyPipes& pipes_to_stack() { return pipes_to_stack_; }
  [[nodiscard]] Doorbell& doorbell() { return doorbell_; }
  // The stack's: nothing waits for it here.
  [[nodiscard]] bool StackIsServed() const {
    return to_stack_.empty() && pipes_to_stack_.empty() && inbound_.empty();
  }
  // The stack's: what listeners handed over, the first accepted first. The caller owns
  // the list.
  [[nodiscard]] Inbound* TakeInbound();
  // The stack's: a task waits for datagrams that the stack has. To be asked after some were
  // given back and marked; if so, the doorbell is to be rung.
  [[nodiscard]] bool wants_datagrams() const noexcept {
    return wants_datagrams_.load(std::memory_order_seq_cst);
  }
  // The stack's: a paused listener may go on. The doorbell is to be rung.
  void ResumePorts() noexcept { resume_ports_.store(true, std::memory_order_seq_cst); }
  // After Shutdown, any one thread; before, the relay's thread.
  [[nodiscard]] BlockPool& blocks() { return blocks_; }
  [[nodiscard]] DatagramPool& datagrams() { return datagrams_; }
  // Any thread.
  [[nodiscard]] const DatagramCounts& datagram_counts() const { return datagram_counts_; }

  // For tasks.
  [[nodiscard]] boost::asio::io_context& io() { return io_; }
  [[nodiscard]] const RelayOptions& options() const { return options_; }
  // `pipe` has something for the stack.
  void TellStack(FlowPipe& pipe);
  // `task` waits until a block comes back to the pool.
  void WaitForBlock(FlowTask& task);  // first come, first served
  void Remove(FlowTask& task);

  // For listeners.
  void Add(std::shared_ptr<PortTask> port);  // and begins it
  void Remove(PortTask& port);               // and closes it
  void HandOver(std::unique_ptr<Inbound> inbound);
  // Totals of what never reached the stack; any thread reads.
  struct ListenerCounts {
    Counter accept_errors;
    Counter accept_pauses;
    Counter clients_denied;
  };
  [[nodiscard]] ListenerCounts& listener_counts() { return listener_counts_; }

  // For tasks with a pipe of datagrams. The relay keeps `task` until it is released.
  void Adopt(std::shared_ptr<DatagramTask> task);
  void Release(DatagramTask& task);
  void TellStack(DatagramPipe& pipe);
  // Only something that was given back: it is enough if the stack sees it in its next pass.
  void TellStackLater(DatagramPipe& pipe);
  // Takes home what the stack gave back of any socket's, and whatever else it has for one.
  void ServePipes();
  // `task` must not lose what it would need a datagram for: it waits until some come home.
  // First come, first served.
  void WaitForDatagrams(DatagramTask& task);
  [[nodiscard]] DatagramScratch& scratch();
  [[nodiscard]] DatagramCounts& counts() { return datagram_counts_; }

 private:
  friend class FlowAudit;  // tests/world
  void Serve(FlowPipe& pipe);
  // The task of the flow that opens, nullptr if none does or there is no memory for it.
  FlowTask* BeginTask(FlowPipe& pipe);
  void RefuseFlow(FlowPipe& pipe, bool is_last);
  // The task of the socket that the stack asked for.
  void OpenSocket(DatagramPipe& pipe);
  void WakeWaiters();
  void WakeDatagramWaiters();
  void Unlist(PortTask& port);

  boost::asio::io_context& io_;
  const RelayOptions options_;
  Doorbell& stack_doorbell_;
  Doorbell doorbell_;
  ReadyRing to_relay_;
  ReadyRing to_stack_;
  ReadyPipes pipes_to_relay_;
  ReadyPipes pipes_to_stack_;
  BlockPool blocks_;
  DatagramPool datagrams_;
  DatagramCounts datagram_counts_;
  std::unique_ptr<DatagramScratch> scratch_;  // once there is a UDP socket
  std::list<std::shared_ptr<DatagramTask>> datagram_tasks_;
  std::list<DatagramTask*> waiting_for_datagrams_;
  std::atomic<bool> wants_datagrams_{false};  // partner: marks of what was given back
  boost::intrusive::list<FlowTask, boost::intrusive::constant_time_size<false>> tasks_;
  std::list<FlowTask*> waiting_for_block_;
  std::list<PortTask*> ports_;
  ReturnList<Inbound> inbound_;
  std::atomic<bool> resume_ports_{false};  // partner: PortGauge::paused
  ListenerCounts listener_counts_;
  bool shut_down_ = false;
};

}  // namespace penstock

#endif  // PENSTOCK_RELAY_RELAY_H_
