// The embedding example: a stack on the main thread, and a thread that stands for a
// virtual machine monitor. They share a pair of frame rings. The "machine" asks who has
// the gateway's address, gets the stack's answer and switches off; that ends the link,
// and with it the program.
#include <poll.h>

#include <array>
#include <cstdio>
#include <memory>
#include <thread>
#include <utility>

#include "stack/link/frame_ring.h"
#include "stack/stack.h"

namespace {

// An ARP request from 10.0.2.15 (RFC 826): who has 10.0.2.2?
constexpr std::array<uint8_t, 42> kWhoHasTheGateway = {
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0,  0, 0x15, 0x08, 0x06,  // Ethernet
    0,    1,    0x08, 0,    6,    4,    0,    1,                              // a request
    0x02, 0,    0,    0,    0,    0x15, 10,   0, 2, 15,                       // from
    0,    0,    0,    0,    0,    0,    10,   0, 2, 2};                       // about
constexpr size_t kSenderMacAt = 22;

void RunMachine(std::unique_ptr<penstock::FrameRingsGuestEnd> network) {
  network->SendToHost(kWhoHasTheGateway, {});
  while (!network->ended()) {
    if (const auto frame = network->FrontToGuest()) {
      const uint8_t* mac = frame->bytes.data() + kSenderMacAt;
      std::printf("10.0.2.2 is at %02x:%02x:%02x:%02x:%02x:%02x\n", mac[0], mac[1], mac[2], mac[3],
                  mac[4], mac[5]);
      network->PopToGuest();
      return;
    }
    pollfd readable{.fd = network->descriptor(), .events = POLLIN, .revents = 0};
    poll(&readable, 1, -1);
  }
}

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "embed: %s\n", status.ToString().c_str());
  return 1;
}

}  // namespace

// [embed]
int main() {
  // Frames go through memory to the thread that runs the virtual machine.
  auto rings = penstock::FrameRings::Create({});
  if (!rings.ok()) return Fail(rings.status());
  auto stack = penstock::Stack::Create({.host_loopback = true}, std::move(rings->stack_end));
  if (!stack.ok()) return Fail(stack.status());
  std::thread machine(RunMachine, std::move(rings->vmm_end));

  while (!(*stack)->link_ended()) {
    const penstock::Time now = penstock::Clock::now();
    const penstock::Time deadline = (*stack)->Poll(now);
    pollfd readable{.fd = (*stack)->descriptor(), .events = POLLIN, .revents = 0};
    poll(&readable, 1, penstock::PollTimeout(now, deadline));
  }

  machine.join();
  const penstock::CounterSnapshot counters = (*stack)->Snapshot();
  std::printf("frames from the guest: %zu, to the guest: %zu, dropped: %zu\n",
              counters.frames_to_host, counters.frames_to_guest, counters.drops_total());
}
// [/embed]
