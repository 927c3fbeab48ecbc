// The facade that an embedder drives: one guest, one link, one poll loop.
//
//   auto stack = Stack::Create({.host_loopback = true}, std::move(link));
//   while (running) {
//     const Time now = Clock::now();
//     const Time deadline = (*stack)->Poll(now);
//     pollfd readable{.fd = (*stack)->descriptor(), .events = POLLIN, .revents = 0};
//     poll(&readable, 1, PollTimeout(now, deadline));   // or epoll, io_context, …
//   }
//
// Poll does a bounded amount of work and never blocks. Whatever needs the stack
// earlier than the deadline (a frame, a relay thread, Wake, Post) makes the
// descriptor readable. The clock is the caller's: Poll takes any steady time.
#ifndef PENSTOCK_STACK_STACK_H_
#define PENSTOCK_STACK_STACK_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "publisher/port_selector.h"
#include "publisher/port_spec.h"
#include "publisher/published_port.h"
#include "relay/endpoint.h"
#include "relay/time.h"
#include "stack/config.h"
#include "stack/counters.h"
#include "stack/events.h"
#include "stack/link/link.h"
#include "stack/policy/policy.h"

namespace penstock {

// One row of the flow table.
struct FlowInfo {
  PolicyProtocol protocol = PolicyProtocol::kTcp;
  Endpoint guest;                  // of echo the port is the identifier
  Endpoint destination;            // as the guest sees it
  std::optional<Endpoint> client;  // the host's, of a published port: it opened the flow
  std::string name;                // of the destination, that the first bytes showed; or empty
  // "dialing", "handshake", "established", "half-closed", "closing", "closed"; of UDP and echo
  // "unanswered", "answered"
  std::string state;
  std::string end;  // for closed ones: "closed", "reset by guest", …
  uint64_t bytes_to_host = 0;
  uint64_t bytes_to_guest = 0;
  Duration age{};  // for closed ones: how long the flow lived
};

// A deadline as poll(2) and epoll_wait want it: milliseconds from `now` on, rounded up, so that
// nobody wakes before it; 0 if it has come, -1 for kNever.
[[nodiscard]] int PollTimeout(Time now, Time deadline);

// What becomes of the flows of a port that is published no longer.
enum class LiveFlows : uint8_t { kKeep, kReset };

class Stack {
 public:
  // Validates, opens descriptors, starts relay threads. On error nothing is left
  // behind. `link` is owned from then on.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<Stack>> Create(Config config,
                                                                     std::unique_ptr<Link> link);
  // Resets live flows without a word to the guest, joins relay threads, closes
  // every descriptor. Not from within Poll.
  ~Stack();
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  // One pass. `now` must not go back. Returns when to call again at the latest:
  // `now` itself if the pass stopped at its budget, kNever if nothing is due.
  // One thread at a time; it may be another one each time. Where operator new finds no memory
  // the process ends with a sentence (relay/out_of_memory.h).
  [[nodiscard]] Time Poll(Time now);

  // An epoll descriptor: readable (level-triggered) whenever Poll has work, quiet
  // after a complete pass. Owned by the stack; nest it, or sleep on it.
  [[nodiscard]] int descriptor() const;

  // Makes the descriptor readable. Any thread, and signal handlers; coalesces.
  void Wake() noexcept;

  // Runs `task` at the start of the next Poll, on its thread. Any thread.
  void Post(std::function<void(Stack&)> task);

  // Any thread.
  [[nodiscard]] CounterSnapshot Snapshot() const;

  // Live connections, then conversations of UDP and echo, then the last closed connections
  // (at most 64), newest first. Poll thread.
  [[nodiscard]] std::vector<FlowInfo> Flows() const;

  // Listens on the host for what `spec` says; the result has one row for each socket.
  // All or nothing: InvalidArgument (a spec that cannot work), AlreadyExists (address
  // in use), PermissionDenied, NotFound (no such address or interface),
  // ResourceExhausted (no descriptors) name the address and the reason, and nothing
  // stays bound. Poll thread; waits for a relay thread's next turn.
  [[nodiscard]] absl::StatusOr<std::vector<PublishedPort>> Publish(const PortSpec& spec);
  // Stops listening at once: when it returns, clients are refused and the address is
  // free. NotFound, and nothing was done, if an id is not there. Poll thread; waits
  // likewise.
  [[nodiscard]] absl::Status Unpublish(std::span<const uint32_t> ids, LiveFlows live);
  // All ports that `selector` means; NotFound if it means none.
  [[nodiscard]] absl::Status Unpublish(const PortSelector& selector, LiveFlows live);
  // In the order of their ids. Poll thread.
  [[nodiscard]] std::vector<PublishedPort> PublishedPorts() const;
  // The one with the lowest id above this one, which need not be there. Poll thread.
  [[nodiscard]] std::optional<PublishedPort> NextPublishedPort(uint32_t id) const;

  // Replaces a policy whole; nullptr: that layer allows what is not shut unless named. New
  // flows see it at once. kReset: live flows that the policies deny now are cut, others are
  // not touched. Poll thread.
  void SetPolicy(PolicyLayer layer, std::shared_ptr<const Policy> policy, LiveFlows live);
  [[nodiscard]] std::shared_ptr<const Policy> policy(PolicyLayer layer) const;  // poll thread
  // What the policies say to `question` now, and why: a value, and lines for humans. Poll
  // thread.
  [[nodiscard]] Decision Decide(const PolicyQuestion& question) const;
  [[nodiscard]] std::string Explain(const PolicyQuestion& question) const;

  // The oldest event (Config::event_count_max); false: none waits. Any one thread.
  [[nodiscard]] bool TakeEvent(Event& event);

  // True once the link is gone for good; the pass that finds it so returns `now`. Poll
  // may go on being called.
  [[nodiscard]] bool link_ended() const;

 private:
  friend class AsioDriver;
  friend class SteppedStack;  // tests/world: on virtual time, without threads
  friend class FlowAudit;
  friend class StackPeer;  // tests/support
  class Impl;
  explicit Stack(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_STACK_H_
