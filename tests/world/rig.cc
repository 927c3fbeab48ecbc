#include "tests/world/rig.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace penstock::world {
namespace {

// More turns than any one moment needs; a stack that never comes to rest is wrong.
constexpr int kTurnsMax = 100'000;

// What a rig's link carries is what its test said, and when: nothing is advertised. Nor is the
// host's resolv.conf followed: the kernel takes a hundredth of a second to end a watch.
Config Silent(Config config) {
  config.router_advertisements = false;
  if (config.dns.upstreams.empty()) {
    config.dns.upstreams = {{IpAddress::V4(203, 0, 113, 53), 53}};
  }
  return config;
}

}  // namespace

Rig::Rig(const RigOptions& options)
    : stepped_(
          options.form, Silent(options.config),
          [&] {
            auto link = std::make_unique<MemoryLink>(options.link);
            link_ = link.get();
            return link;
          }(),
          options.seed) {
  host().after = [this](Duration duration, std::function<void()> event) {
    timeline_.In(duration, std::move(event));
  };
  Settle();
}

void Rig::Settle() {
  for (int turn = 0; turn < kTurnsMax; ++turn) {
    bool moved = timeline_.RunDue();
    if (link_->waiting_to_host() > 0) stepped_.OnLink();
    if (stepped_.PassDue(timeline_.now())) {
      stepped_.RunPass(timeline_.now());
      moved = true;
    }
    while (stepped_.RunRelay(timeline_.now())) moved = true;
    if (const std::string wrong = stepped_.Audit(); !wrong.empty()) throw Violation(wrong);
    if (moved) continue;
    if (const std::string wrong = stepped_.AuditAsleep(); !wrong.empty()) throw Violation(wrong);
    return;
  }
  throw Violation("the stack does not come to rest");
}

Time Rig::next() const { return std::min(timeline_.next(), stepped_.deadline()); }

void Rig::AdvanceTo(Time when) {
  while (next() <= when) {
    timeline_.AdvanceTo(next());
    Settle();
  }
  timeline_.AdvanceTo(when);
}

}  // namespace penstock::world
