#include "tests/faults/fault_world.h"

#include <time.h>

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <utility>

#include "relay/out_of_memory.h"
#include "tests/faults/failing_allocator.h"
#include "tests/support/packet_builder.h"

namespace penstock::faults {
namespace {

using namespace std::chrono_literals;

// Virtual time: longer than every timeout of a dial and than a few retransmissions. Real
// time: far more than loopback needs.
constexpr Duration kVirtualLimit = 100s, kRealLimit = 10s;
// Where nothing is ready and nothing is due, the kernel may still be carrying something: time
// goes in small steps at first, and in larger ones while that stays so.
constexpr timespec kKernelsTurn{.tv_sec = 0, .tv_nsec = 50'000};
constexpr Duration kIdleStep = 10ms, kIdleStepMax = 1s;
// More than any of it takes, idle steps included.
constexpr int kTurnsMax = 1'000'000;

Config ConfigFor(Config config) {
  config.host_loopback = true;
  config.router_advertisements = false;
  config.guest_mac = kGuestMac;
  return config;
}

}  // namespace

FaultWorld::FaultWorld(FaultWorldOptions options)
    : family_(options.family), config_(ConfigFor(std::move(options.config))) {
  auto rings = FrameRings::Create({});
  if (!rings.ok()) throw std::runtime_error(rings.status().ToString());
  ring_ = std::move(rings->vmm_end);
  stepped_ = std::make_unique<SteppedStack>(options.form, config_, std::move(rings->stack_end), 1,
                                            SteppedStack::Makers::OfKernel());
  world::GuestTcpOptions guest = world::GuestOptionsFor(config_);
  guest.mac = kGuestMac;
  guest.send = [this](std::span<const uint8_t> frame) { Send(frame); };
  guest_ = std::make_unique<world::GuestTcp>(std::move(guest));
  guest_->RunTimers(now_);
}

Endpoint FaultWorld::Gateway(uint16_t port) const {
  return {family_ == Family::kIpv4 ? config_.ipv4.gateway : config_.ipv6.gateway, port};
}

void FaultWorld::Send(std::span<const uint8_t> frame) {
  if (frames_until_loss_ > 0 && --frames_until_loss_ == 0) return;
  if (!ring_->SendToHost(frame, {})) throw std::runtime_error("the ring is full");
  stepped_->OnLink();
}

// As Stack::Poll, the relay's thread and the tool's own loop have it.
bool FaultWorld::TurnStack() {
  const AllocationsCount counted;
  return OrEndWithoutMemory([this] {
    bool moved = false;
    if (stepped_->PassDue(now_)) {
      stepped_->RunPass(now_);
      moved = true;
    }
    while (stepped_->RunRelay(now_)) moved = true;
    return moved;
  });
}

bool FaultWorld::TurnGuest() {
  bool moved = false;
  while (const auto record = ring_->FrontToGuest()) {
    const Bytes frame(record->bytes.begin(), record->bytes.end());
    const Offload offload = record->offload;
    ring_->PopToGuest();
    moved = true;
    guest_->OnFrame(now_, frame);
    if (auto datagram = guest_udp_.Take(frame, offload)) {
      datagrams_.push_back(*std::move(datagram));
    } else {
      frames_.push_back(frame);
    }
  }
  return moved;
}

void FaultWorld::Run(std::string_view until, const std::function<bool()>& step,
                     const std::function<bool()>& done) {
  const Time virtual_end = now_ + kVirtualLimit, real_end = Clock::now() + kRealLimit;
  Duration idle = kIdleStep;
  for (int turn = 0; !done(); ++turn) {
    if (turn > kTurnsMax) throw std::runtime_error("busy without end before " + std::string(until));
    bool moved = TurnStack();
    moved |= TurnGuest();
    moved |= step();
    if (moved) {
      idle = kIdleStep;
      continue;
    }
    nanosleep(&kKernelsTurn, nullptr);
    now_ = std::max(now_, std::min({stepped_->deadline(), guest_->deadline(), now_ + idle}));
    idle = std::min(2 * idle, kIdleStepMax);
    guest_->RunTimers(now_);
    if (now_ > virtual_end && Clock::now() > real_end) {
      throw std::runtime_error("this does not come: " + std::string(until));
    }
  }
}

}  // namespace penstock::faults
