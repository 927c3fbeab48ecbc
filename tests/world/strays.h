// The segment player: what no sane TCP would send. Segments far outside the window of
// live flows, which must not disturb them; segments of no flow; handshakes that nobody
// completes; bytes that are no frame at all. One thread.
#ifndef PENSTOCK_TESTS_WORLD_STRAYS_H_
#define PENSTOCK_TESTS_WORLD_STRAYS_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "stack/config.h"
#include "tests/support/guest_segment.h"
#include "tests/world/random.h"

namespace penstock::world {

class Strays final {
 public:
  Strays(const Config& config, const MacAddress& guest_mac, uint64_t seed);

  // A frame of the guest's TCP, as it passes.
  void Observe(std::span<const uint8_t> frame);
  // The next stray frame.
  [[nodiscard]] std::vector<uint8_t> Next();

 private:
  // An established flow's last segment from the guest, without payload.
  [[nodiscard]] GuestSegment IntoLiveFlow();
  [[nodiscard]] GuestSegment OfNoFlow();
  [[nodiscard]] std::vector<uint8_t> Garbage();

  const Config config_;
  const MacPair macs_;
  Dice dice_;
  std::vector<GuestSegment> live_;  // the last one of each flow
};

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_STRAYS_H_
