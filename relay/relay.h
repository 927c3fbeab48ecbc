// The host side of one stack on one io_context: dials, reads and writes host
// sockets, one task per flow (flow_task.h).
//
// The stack puts flows that have something for the relay on `to_relay()` and rings
// `doorbell()`; the relay puts flows that have something for the stack on
// `to_stack()` and rings the stack's doorbell. Listeners of published ports live here
// too and hand over what they accepted. All methods belong to the thread that runs the
// io_context, but for those that are named as the stack's.
#ifndef PENSTOCK_RELAY_RELAY_H_
#define PENSTOCK_RELAY_RELAY_H_

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>

#include "absl/status/status.h"
#include "relay/block_pool.h"
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
  [[nodiscard]] Doorbell& doorbell() { return doorbell_; }
  // The stack's: nothing waits for it here.
  [[nodiscard]] bool StackIsServed() const { return to_stack_.empty() && inbound_.empty(); }
  // The stack's: what listeners handed over, the first accepted first. The caller owns
  // the list.
  [[nodiscard]] Inbound* TakeInbound();
  // The stack's: a paused listener may go on. The doorbell is to be rung.
  void ResumePorts() noexcept { resume_ports_.store(true, std::memory_order_seq_cst); }
  // After Shutdown, any one thread; before, the relay's thread.
  [[nodiscard]] BlockPool& blocks() { return blocks_; }

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
    std::atomic<uint64_t> accept_errors{0};
    std::atomic<uint64_t> accept_pauses{0};
    std::atomic<uint64_t> clients_denied{0};
  };
  [[nodiscard]] ListenerCounts& listener_counts() { return listener_counts_; }

 private:
  friend class FlowAudit;  // tests/world
  void Serve(FlowPipe& pipe);
  // The task of the flow that opens, nullptr if none does.
  FlowTask* BeginTask(FlowPipe& pipe);
  void WakeWaiters();

  boost::asio::io_context& io_;
  const RelayOptions options_;
  Doorbell& stack_doorbell_;
  Doorbell doorbell_;
  ReadyRing to_relay_;
  ReadyRing to_stack_;
  BlockPool blocks_;
  std::list<FlowTask*> tasks_;
  std::list<FlowTask*> waiting_for_block_;
  std::list<PortTask*> ports_;
  ReturnList<Inbound> inbound_;
  std::atomic<bool> resume_ports_{false};  // partner: PortGauge::paused
  ListenerCounts listener_counts_;
  bool shut_down_ = false;
};

}  // namespace penstock

#endif  // PENSTOCK_RELAY_RELAY_H_
