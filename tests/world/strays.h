// The segment player: what no sane TCP would send. Segments far outside the window of
// live flows, which must not disturb them; segments of no flow; handshakes that nobody
// completes; IP fragments that overlap, contradict each other or belong to nothing; bytes
// that are no frame at all. And router solicitations. One thread.
#ifndef PENSTOCK_TESTS_WORLD_STRAYS_H_
#define PENSTOCK_TESTS_WORLD_STRAYS_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "stack/config.h"
#include "tests/support/guest_segment.h"
#include "tests/world/random.h"

namespace penstock::world {

class Strays final {
 public:
  // `fragments` per mille of the frames are IP fragments.
  Strays(const Config& config, const MacAddress& guest_mac, uint64_t seed, int64_t fragments);

  // A frame of the guest's TCP, as it passes.
  void Observe(std::span<const uint8_t> frame);
  // The next stray frame.
  [[nodiscard]] std::vector<uint8_t> Next();

 private:
  // An established flow's last segment from the guest, without payload.
  [[nodiscard]] GuestSegment IntoLiveFlow();
  [[nodiscard]] GuestSegment OfNoFlow();
  [[nodiscard]] std::vector<uint8_t> Garbage();
  [[nodiscard]] std::vector<uint8_t> Fragment();
  [[nodiscard]] std::vector<uint8_t> RouterSolicitation();
  // Of an echo request to the gateway, or of a stray segment: all but now and then one.
  void QueueFragments();

  const Config config_;
  const MacPair macs_;
  const int64_t fragments_;
  Dice dice_;
  Dice fragment_dice_;              // its own: without fragments the others are the same
  Dice question_dice_;              // so for solicitations
  std::vector<GuestSegment> live_;  // the last one of each flow
  std::deque<std::vector<uint8_t>> queued_;
};

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_STRAYS_H_
