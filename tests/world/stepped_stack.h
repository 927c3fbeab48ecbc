// A real stack with a real relay, in steps: no thread, no clock, no system call on the
// way. The world decides what runs next.
//
// Both forms of driving exist as interleavings. *Relay thread*: the stack's passes on
// one side, the relay's handlers on the other, in any order, and the relay may also run
// in the middle of a pass (RunRelay is safe to call from the link). *One thread*: a
// pass and the relay's ready flows in turn, as AsioDriver does it; busy, it looks for events
// before it sleeps, as AsioDriver::Run does it: acknowledgements wait for some handlers.
#ifndef PENSTOCK_TESTS_WORLD_STEPPED_STACK_H_
#define PENSTOCK_TESTS_WORLD_STEPPED_STACK_H_

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "relay/relay.h"
#include "stack/stack.h"
#include "stack/stack_impl.h"
#include "tests/world/sim_datagrams.h"
#include "tests/world/sim_host.h"
#include "tests/world/sim_listener.h"

namespace penstock {

// In penstock's own namespace because Stack names it as a friend.
class SteppedStack final {
 public:
  enum class Form : uint8_t { kOneThread, kRelayThread, kOneThreadBusy };
  // Who makes the relay's tasks and sockets: over the simulated host's, or somebody's own.
  struct Makers {
    FlowTaskMaker make_task = &world::MakeSimTask;
    GuestSocketMaker make_guest_socket = &world::MakeSimGuestSocket;
    ListenerMaker make_listener = &world::MakeSimListener;
    UdpTaskMaker make_udp_task = &world::MakeSimUdpTask;
    StreamPairMaker make_pair = &world::MakeSimPair;
    std::shared_ptr<SocketFactory> socket_factory = nullptr;  // the simulated host
    // Those of production, over sockets of the kernel's. Nothing simulated is left but the
    // order of steps and the time; what audits look at is the simulated host's.
    [[nodiscard]] static Makers OfKernel();
  };

  // The config's factory and ISN key are set here, so that runs repeat.
  SteppedStack(Form form, Config config, std::unique_ptr<Link> link, uint64_t seed)
      : SteppedStack(form, std::move(config), std::move(link), seed, Makers{}) {}
  SteppedStack(Form form, Config config, std::unique_ptr<Link> link, uint64_t seed,
               const Makers& makers);
  ~SteppedStack();
  SteppedStack(const SteppedStack&) = delete;
  SteppedStack& operator=(const SteppedStack&) = delete;

  // Whom the guest's connections to DNS ask; before the first pass.
  void ServeDnsStreams(DnsStreamsService service);

  // A pass is due: something rang, the stack's descriptor is readable, or the last deadline has
  // come.
  [[nodiscard]] bool PassDue(Time now) const { return deadline() <= now; }
  // The link has frames, or takes frames again.
  void OnLink() { woken_ = true; }
  // One turn of the stack's side. Returns the deadline.
  Time RunPass(Time now);
  [[nodiscard]] Time deadline() const;

  // Runs one handler of the relay's side; false if there was none. In the one-thread form
  // a pass may be what it runs.
  bool RunRelay(Time now) {
    now_ = now;
    if (io_.poll_one() == 0) return false;
    has_run_ = true;
    return true;
  }

  // What must hold between any two steps, when both sides sleep, and when everything
  // has ended (audit.h): empty, or the first thing that does not.
  [[nodiscard]] std::string Audit();
  // Since the last audit something ran here, or somebody had the stack. Otherwise no audit
  // would say anything new: what happens at the host and at the guest reaches either side by
  // a handler or a pass.
  [[nodiscard]] bool HasRun() const { return has_run_; }
  [[nodiscard]] std::string AuditAsleep();
  [[nodiscard]] std::string AuditEnd();

  [[nodiscard]] world::SimHost& host() { return *host_; }
  [[nodiscard]] Stack& stack() {
    has_run_ = true;
    return *stack_;
  }
  [[nodiscard]] bool TakeEvent(Event& event) { return stack_->TakeEvent(event); }
  [[nodiscard]] Relay& relay() { return *relay_; }
  [[nodiscard]] Form form() const { return form_; }
  // True while Poll is on the call stack.
  [[nodiscard]] bool in_pass() const { return in_pass_; }

 private:
  void RunOneThread();
  void ReleaseLater();
  void PostRelease();

  const Form form_;
  Time now_{};
  boost::asio::io_context io_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  std::shared_ptr<world::SimHost> host_;
  std::shared_ptr<Relay> relay_;
  std::unique_ptr<Stack> stack_;
  Stack::Impl* inside_ = nullptr;
  Time deadline_ = Time::min();
  bool woken_ = true;
  bool has_run_ = true;
  bool in_pass_ = false;
  bool pass_posted_ = false;
  int release_in_ = 0;  // handlers
};

}  // namespace penstock

#endif  // PENSTOCK_TESTS_WORLD_STEPPED_STACK_H_
