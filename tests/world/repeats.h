// Segments that the stack sends a second time although a good guest may still be about to
// acknowledge the first: a guest delays its acknowledgement of a lone segment by up to 250 ms
// (stock lwIP's fast timer), and the third of the stack's ticks, each 100 ms, comes 200 to
// 300 ms after a segment.
#ifndef PENSTOCK_TESTS_WORLD_REPEATS_H_
#define PENSTOCK_TESTS_WORLD_REPEATS_H_

#include <compare>
#include <cstdint>
#include <map>
#include <vector>

#include "relay/endpoint.h"
#include "relay/time.h"
#include "tests/world/world_link.h"

namespace penstock::world {

class Repeats final {
 public:
  // `frame`: as the stack's link got it.
  void OnFrameToGuest(Time now, const WireFrame& frame);

  // How many were sent again less than 300 ms after they were first sent.
  [[nodiscard]] uint64_t soon() const { return soon_; }

 private:
  struct Connection {
    Endpoint source;
    Endpoint destination;
    friend auto operator<=>(const Connection&, const Connection&) = default;
  };
  struct Sent {
    uint32_t end = 0;
    Time at{};
  };

  std::map<Connection, std::vector<Sent>> sent_;  // in the order of their numbers
  uint64_t soon_ = 0;
};

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_REPEATS_H_
