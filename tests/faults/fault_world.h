// A whole connection's life in one process and one thread: the real stack and relay with
// sockets of the kernel's on loopback, a guest that is a second lwIP, and time that the test
// moves. What the stack and its relay allocate is counted (failing_allocator.h); what guest,
// host and link allocate is not.
//
// One FaultWorld in a process: GuestTcp allows no second one (tests/world/child.h).
#ifndef PENSTOCK_TESTS_FAULTS_FAULT_WORLD_H_
#define PENSTOCK_TESTS_FAULTS_FAULT_WORLD_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "stack/link/frame_ring.h"
#include "tests/support/host_side.h"
#include "tests/support/udp_guest.h"
#include "tests/world/guest_tcp.h"
#include "tests/world/stepped_stack.h"

namespace penstock::faults {

struct FaultWorldOptions {
  Family family = Family::kIpv4;
  SteppedStack::Form form = SteppedStack::Form::kOneThread;
  Config config{};
};

class FaultWorld final {
 public:
  explicit FaultWorld(FaultWorldOptions options);

  // Everything that is ready has its turn, the applications at both ends among them
  // (`step`, which says whether it did something), and where nothing is, time goes by, until
  // `done`. Throws if that does not come.
  void Run(std::string_view until, const std::function<bool()>& step,
           const std::function<bool()>& done);

  // A frame of the guest's as it is; of its TCP they come by themselves.
  void Send(std::span<const uint8_t> frame);
  // The guest's frame with this number from now on, from 1, is lost.
  void LoseFrame(int number) { frames_until_loss_ = number; }

  [[nodiscard]] Time now() const { return now_; }
  [[nodiscard]] world::GuestTcp& guest() { return *guest_; }
  [[nodiscard]] UdpGuest& guest_udp() { return guest_udp_; }
  [[nodiscard]] Stack& stack() { return stepped_->stack(); }
  [[nodiscard]] CounterSnapshot counters() { return stack().Snapshot(); }
  // Where the guest finds the host's loopback.
  [[nodiscard]] Endpoint Gateway(uint16_t port) const;
  [[nodiscard]] Family family() const { return family_; }
  // UDP and echo replies that came for the guest.
  [[nodiscard]] std::vector<GuestDatagram>& datagrams() { return datagrams_; }
  [[nodiscard]] std::vector<Bytes>& frames() { return frames_; }

 private:
  // True if something happened.
  bool TurnStack();
  bool TurnGuest();

  const Family family_;
  const Config config_;
  Time now_{std::chrono::hours(1)};
  std::unique_ptr<FrameRingsGuestEnd> ring_;
  std::unique_ptr<SteppedStack> stepped_;
  std::unique_ptr<world::GuestTcp> guest_;
  UdpGuest guest_udp_;
  std::vector<GuestDatagram> datagrams_;
  std::vector<Bytes> frames_;  // to the guest, of neither TCP nor UDP
  int frames_until_loss_ = 0;
};

}  // namespace penstock::faults

#endif  // PENSTOCK_TESTS_FAULTS_FAULT_WORLD_H_
