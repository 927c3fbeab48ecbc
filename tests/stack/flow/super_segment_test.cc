// Super-segments where TCP is difficult: segment sizes that divide nothing, pieces that are
// lost, late, doubled or across the window's edge. However a link cuts and joins, it is the
// same stream. (Plain offloads: data_test; tiny windows: window_test.)
#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "tests/stack/flow/flow_fixture.h"

namespace penstock {
namespace {

class SuperSegmentTest : public FlowTest {
 protected:
  // Sizes that a guest's MSS may have at MTU 1500, of both families.
  static constexpr uint16_t kOddSizes[] = {1'221, 1'333, 1'439, 1'440};

  // A connection of a guest whose MSS is `mss`, over a link with all offloads.
  Connection EstablishWith(uint16_t mss) { return Establish({.mss = mss, .window_scale = 7}); }
  // Takes what waits; every piece is of `mss` bytes, but for the last of each segment.
  static void ExpectCutAt(uint16_t mss, GuestFlow& flow) {
    for (const GuestSegment& segment : flow.waiting()) {
      if (segment.offload.gso == Gso::kNone) {
        EXPECT_LE(segment.payload.size(), mss);
      } else {
        EXPECT_EQ(segment.offload.segment_bytes, mss);
        EXPECT_GT(segment.payload.size(), mss);
      }
    }
    flow.Forget();
  }
};
PENSTOCK_BOTH_FAMILIES(SuperSegmentTest);

TEST_P(SuperSegmentTest, ToGuestIsCutAtAnyMss) {
  Start(LoopbackConfig(), OffloadingLink());
  for (const uint16_t mss : kOddSizes) {
    SCOPED_TRACE(mss);
    Connection connection = EstablishWith(mss);
    const std::string bytes = Pattern(300'001, mss);
    WriteAll(connection.host, bytes);
    guest().Until("all bytes", [&] {
      ExpectCutAt(mss, connection.flow);
      connection.flow.Send({});
      return connection.flow.received().size() == bytes.size();
    });
    ExpectCutAt(mss, connection.flow);
    EXPECT_EQ(connection.flow.received(), bytes);
  }
}

// The pieces of one size after another are lost, at places that are no multiple of another's:
// three duplicates bring each again, and GuestFlow checks that no byte has changed.
TEST_P(SuperSegmentTest, HoleAtAnyPieceIsFilled) {
  Start(LoopbackConfig(), OffloadingLink());
  for (const uint16_t mss : kOddSizes) {
    SCOPED_TRACE(mss);
    Connection connection = EstablishWith(mss);
    GuestFlow& flow = connection.flow;
    const std::string bytes = Pattern(60'000, mss);
    WriteAll(connection.host, bytes);
    guest().Until("all bytes", [&] { return flow.received().size() == bytes.size(); });
    for (const uint32_t lost : {1u, 2u, 7u}) {
      flow.Forget();
      const uint32_t hole = 1 + lost * mss;
      for (int i = 0; i < 4; ++i) flow.Send({.acknowledgement = hole});
      const GuestSegment again = flow.Expect(kTcpAck);
      EXPECT_LE(again.sequence, hole);
      EXPECT_GE(again.sequence + again.payload.size(), hole + mss);
    }
    flow.Forget();
    flow.Send({});
    flow.ExpectNothing();
    ExpectAlive(connection);
  }
  EXPECT_EQ(counters().retransmits_by_timer, 0u);
}

// A guest's super-segments, none as long as another nor a multiple of its pieces, overtake
// each other, and half of them come twice: every byte is the host's, once, and none has to be
// sent again.
TEST_P(SuperSegmentTest, ToHostInAnyOrder) {
  Start(LoopbackConfig(), OffloadingLink());
  std::mt19937 random(20'260);
  for (const uint16_t mss : kOddSizes) {
    SCOPED_TRACE(mss);
    Connection connection = EstablishWith(mss);
    GuestFlow& flow = connection.flow;
    const std::string bytes = Pattern(60'000, mss);
    std::vector<std::pair<size_t, size_t>> pieces;  // where from, how long
    for (size_t at = 0; at < bytes.size();) {
      const size_t length = std::min(bytes.size() - at, mss + 1 + random() % 15'000);
      pieces.emplace_back(at, length);
      if (random() % 2 == 0) pieces.emplace_back(at, length);
      at += length;
    }
    std::shuffle(pieces.begin(), pieces.end(), random);
    for (const auto& [at, length] : pieces) {
      flow.Queue({.sequence = static_cast<uint32_t>(at + 1),
                  .payload = bytes.substr(at, length),
                  .gso_segment_bytes = length > mss ? mss : uint16_t{0}});
    }
    ReadTo(connection.host, bytes.size());
    EXPECT_EQ(connection.host.received(), bytes);
    flow.Forget();
    flow.Send({.sequence = 60'001, .payload = "end"});
    EXPECT_EQ(flow.Expect(kTcpAck).acknowledgement, 60'004u);
    ReadTo(connection.host, bytes.size() + 3);
    EXPECT_EQ(connection.host.received(), bytes + "end");
  }
}

// What of one lies beyond the window is not taken, the rest is.
TEST_P(SuperSegmentTest, AcrossTheWindowsEdge) {
  Start(LoopbackConfig(), OffloadingLink());
  Connection connection = EstablishWith(1'333);
  GuestFlow& flow = connection.flow;
  const uint32_t window = flow.window_left();
  const std::string bytes = Pattern(window + 10'000);
  const uint32_t front = window - 40'000;
  // The first waits behind a hole, so that the window stays where it is.
  flow.Send({.sequence = 1 + front, .payload = bytes.substr(front), .gso_segment_bytes = 1'333});
  flow.Forget();
  flow.Send({.sequence = 1, .payload = bytes.substr(0, front), .gso_segment_bytes = 1'333});
  const uint32_t taken = flow.Expect(kTcpAck).acknowledgement - 1;
  EXPECT_LE(taken, window);
  EXPECT_GT(taken, window - 1'333);
  ReadTo(connection.host, taken);
  // Only then is there room for the rest; it is sent once.
  guest().Until("an open window",
                [&] { return flow.window_left() >= 1 + bytes.size() - flow.next(); });
  flow.Send({.sequence = 1 + taken, .payload = bytes.substr(taken), .gso_segment_bytes = 1'333});
  ReadTo(connection.host, bytes.size());
  EXPECT_EQ(connection.host.received(), bytes);
}

}  // namespace
}  // namespace penstock
