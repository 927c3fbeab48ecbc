// One penstock between a guest and a host that are plain code, on a clock that stands still
// but for a little in each turn: the same calls do the same work, wherever and whenever they
// run. What benchmarks of instructions and of many flows stand on.
//
// Real: Stack, Relay, the coroutines and handlers of its tasks, the queues, lwIP; driven as
// AsioDriver drives them, on one thread. Counted, where callgrind counts, are they alone.
// Not counted: the link (counted_link.h), the host's sockets (counted_socket.h), and this
// guest. It behaves as Linux behind a tap with offloads: bulk data in super-segments
// without checksums, one ACK for each super-segment that it gets, none for a byte that its own
// next segment will acknowledge. IPv4. One thread.
#ifndef PENSTOCK_BENCH_COUNTED_WORLD_H_
#define PENSTOCK_BENCH_COUNTED_WORLD_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "bench/counted_link.h"
#include "relay/endpoint.h"
#include "relay/time.h"
#include "tests/world/sim_host.h"
#include "tests/world/stepped_stack.h"

namespace penstock::bench {

class CountedWorld final {
 public:
  // Room for so many flows at once.
  explicit CountedWorld(size_t flow_count_max);
  ~CountedWorld();
  CountedWorld(const CountedWorld&) = delete;
  CountedWorld& operator=(const CountedWorld&) = delete;

  // All of these end when nothing more happens at this moment, and abort the program if what
  // should have happened did not.

  // The guest's next segment on the same flow will come too late to carry its ACK: each
  // byte has one of its own, as Linux's timer for delayed ACKs makes it.
  void AcknowledgeAtOnce() { acknowledges_at_once_ = true; }
  // Flows 0 to count - 1, each proven by a round trip.
  void Open(size_t count);
  // One byte from the guest to the host and back.
  void RoundTrip(size_t flow);
  // A multiple of a MiB, in one direction of an open flow.
  void Up(size_t flow, uint64_t bytes);
  void Down(size_t flow, uint64_t bytes);
  // Connect, a byte there and back, closed by the host, then by the guest; from a port that
  // was not used before.
  void ConnectRequestClose();
  // Datagrams of 1,400 bytes, `burst` at once in each turn. The guest speaks first.
  void DatagramsUp(size_t count, size_t burst);
  void DatagramsDown(size_t count, size_t burst);

  // Frames that crossed the link so far, both ways.
  [[nodiscard]] uint64_t frames() const { return link_->frames(); }

 private:
  struct GuestFlow {
    uint32_t next = 0;         // the sequence number behind what the guest has sent
    uint32_t window_edge = 0;  // up to where it may send
    uint32_t expected = 0;     // of the stack's
    uint8_t stack_scale = 0;   // of the stack's window
    uint64_t received = 0;     // bytes
    bool connected = false;
    bool finished = false;  // the stack's FIN came
    bool must_acknowledge = false;
    std::shared_ptr<world::HostPeer> host;
    bool host_changed = false;  // on the list
    uint64_t host_received = 0;
    bool closes = false;  // the host, after its answer
    bool sinks = false;   // the host answers nothing
  };
  struct Segment {
    uint8_t flags = 0;
    uint32_t payload_bytes = 0;
  };

  void Connect(size_t flow);
  void Send(size_t flow, const Segment& segment);
  void SendDatagram();
  // Turns until nothing moves.
  void Pump();
  bool GuestTakes();
  void TakeSegment(size_t flow, const CountedLink::ToGuest& frame);
  bool HostActs();
  void OnDial(world::HostPeer& peer);

  CountedLink* link_ = nullptr;  // the stack's
  std::unique_ptr<SteppedStack> stepped_;
  Time now_;
  std::vector<GuestFlow> flows_;
  bool acknowledges_at_once_ = false;
  size_t connecting_ = 0;     // the flow that is dialled
  size_t next_to_close_ = 0;  // for ConnectRequestClose
  std::vector<size_t> changed_;
  std::vector<size_t> to_acknowledge_;
  std::vector<uint8_t> scratch_;
  std::shared_ptr<world::SimDatagrams> host_datagrams_;
  uint64_t datagrams_at_host_ = 0;
  uint64_t datagrams_at_guest_ = 0;
};

}  // namespace penstock::bench

#endif  // PENSTOCK_BENCH_COUNTED_WORLD_H_
