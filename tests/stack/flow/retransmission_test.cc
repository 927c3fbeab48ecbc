// What the stack repeats, and when. RFC 6298, RFC 5681 3.2; the bounds are the
// stack's own: a lost frame is sent again within 350 ms, a single loss in a stream
// at the third duplicate ACK.
#include <string>
#include <vector>

#include "tests/stack/flow/flow_fixture.h"

namespace penstock {
namespace {

constexpr Duration kLossRecovery = 350ms;

class RetransmissionTest : public FlowTest {
 protected:
  // The guest gets `bytes` of the host's and acknowledges nothing.
  void AwaitUnacknowledged(Connection& connection, std::string_view bytes) {
    const size_t wanted = connection.flow.received().size() + bytes.size();
    WriteAll(connection.host, bytes);
    guest().Until("the host's bytes", [&] { return connection.flow.received().size() >= wanted; });
    connection.flow.Forget();
  }
  void LoseFirstOfStream(Connection connection, uint32_t first_bytes);
};
PENSTOCK_BOTH_FAMILIES(RetransmissionTest);

// A segment that the guest never got (here: does not acknowledge) comes again within
// 350 ms, also as the very first of a flow.
TEST_P(RetransmissionTest, LostSegmentComesAgain) {
  Connection connection = Establish();
  AwaitUnacknowledged(connection, "hello");
  const GuestSegment again = connection.flow.ExpectWithin(kLossRecovery, kTcpAck);
  EXPECT_EQ(again.sequence, 1u);
  EXPECT_EQ(again.payload, "hello");
  EXPECT_EQ(counters().retransmits_by_timer, 1u);
  EXPECT_EQ(counters().retransmits_by_dupack, 0u);
  connection.flow.Send({});
  ExpectAlive(connection);
}

// Not where the guest's window has shrunk meanwhile (one that is told in units of 2^scale does, by
// rounding): then what still fits is a probe's, and no retransmission.
TEST_P(RetransmissionTest, WhatNoLongerFitsIsProbedFor) {
  Connection connection = Establish();
  AwaitUnacknowledged(connection, "hello");
  connection.flow.Send({.acknowledgement = 2, .window = 2});
  const GuestSegment again = connection.flow.ExpectWithin(1s, kTcpAck);
  EXPECT_EQ(again.sequence, 2u);
  EXPECT_EQ(again.payload, "el");
  EXPECT_EQ(counters().retransmits_by_timer, 0u);
  connection.flow.Send({.acknowledgement = 4});
  EXPECT_EQ(connection.flow.Expect(kTcpAck).payload, "lo");
  connection.flow.Send({.window = 65535});
  ExpectAlive(connection);
}

// The tail of a stream comes again, too, where its head was acknowledged.
TEST_P(RetransmissionTest, LostTailComesAgain) {
  Connection connection = Establish();
  const std::string bytes = Pattern(10'000);
  AwaitUnacknowledged(connection, bytes);
  const uint32_t head = 3u * full_segment();
  connection.flow.Send({.acknowledgement = 1 + head});
  connection.flow.Forget();
  const GuestSegment again = connection.flow.ExpectWithin(kLossRecovery, kTcpAck);
  EXPECT_LE(again.sequence, 1 + head);
  connection.flow.Send({});
  ExpectAlive(connection);
}

// A lost FIN comes again like data.
TEST_P(RetransmissionTest, LostFinComesAgain) {
  Connection connection = Establish();
  connection.host.ShutdownWrite();
  connection.flow.Expect(kTcpFin | kTcpAck);
  connection.flow.ExpectWithin(kLossRecovery, kTcpFin | kTcpAck);
  connection.flow.Send({});
  connection.flow.ExpectNothing();
}

// The guest lacks the first `first_bytes` of a stream and says so by duplicate ACKs:
// at the third they come again, with no time gone by, and only they.
void RetransmissionTest::LoseFirstOfStream(Connection connection, uint32_t first_bytes) {
  GuestFlow& flow = connection.flow;
  for (int i = 0; i < 2; ++i) {
    flow.Send({.acknowledgement = 1});
    flow.ExpectNothing();
  }
  flow.Send({.acknowledgement = 1});
  const GuestSegment again = flow.Expect(kTcpAck);
  EXPECT_EQ(again.sequence, 1u);
  EXPECT_GE(again.payload.size(), first_bytes);
  EXPECT_EQ(counters().retransmits_by_dupack, 1u);
  // Further duplicates on the way are no further losses.
  flow.Send({.acknowledgement = 1});
  flow.Send({.acknowledgement = 1});
  EXPECT_EQ(counters().retransmits_by_dupack, 1u);
  flow.Forget();
  flow.Send({});
  flow.ExpectNothing();
  EXPECT_EQ(counters().retransmits_by_timer, 0u);
  ExpectAlive(connection);
}

TEST_P(RetransmissionTest, ThirdDuplicateAckRetransmitsAtOnce) {
  Connection connection = Establish();
  AwaitUnacknowledged(connection, Pattern(14'600));
  LoseFirstOfStream(std::move(connection), 500);
}

TEST_P(RetransmissionTest, ThirdDuplicateAckRetransmitsSuperSegments) {
  Start(LoopbackConfig(), OffloadingLink());
  Connection connection = Establish();
  AwaitUnacknowledged(connection, Pattern(60'000));
  LoseFirstOfStream(std::move(connection), 500);
}

// A loss in the midst of a super-segment: the guest acknowledges the part before,
// and what comes at its third duplicate ACK covers the hole.
TEST_P(RetransmissionTest, HoleInASuperSegmentIsFilled) {
  Start(LoopbackConfig(), OffloadingLink());
  Connection connection = Establish();
  const std::string bytes = Pattern(60'000);
  AwaitUnacknowledged(connection, bytes);
  const uint32_t hole = 1 + 2u * full_segment();
  for (int i = 0; i < 4; ++i) connection.flow.Send({.acknowledgement = hole});
  const GuestSegment again = connection.flow.Expect(kTcpAck);
  EXPECT_LE(again.sequence, hole);
  EXPECT_GE(again.sequence + again.payload.size(), hole + full_segment());
  EXPECT_EQ(counters().retransmits_by_dupack, 1u);
  connection.flow.Forget();
  connection.flow.Send({});
  ExpectAlive(connection);
}

// The timer backs off: each wait is at least the one before, and they grow.
TEST_P(RetransmissionTest, TimerBacksOff) {
  Connection connection = Establish();
  AwaitUnacknowledged(connection, "hello");
  std::vector<Duration> waits;
  Time last = guest().now();
  for (int i = 0; i < 6; ++i) {
    connection.flow.ExpectWithin(2min, kTcpAck);
    waits.push_back(guest().now() - last);
    last = guest().now();
  }
  // Ticks are 100 ms: a wait may seem that much shorter than it was.
  for (size_t i = 1; i < waits.size(); ++i) EXPECT_GE(waits[i] + 100ms, waits[i - 1]);
  EXPECT_GE(waits.back(), 4 * waits.front());
}

// A guest that answers no retransmission for the silent timeout is given up: RST to
// both ends, counted.
TEST_P(RetransmissionTest, SilentGuestIsGivenUp) {
  Connection connection = Establish();
  AwaitUnacknowledged(connection, "hello");
  guest().Advance(14min);
  EXPECT_FALSE(connection.flow.reset());
  EXPECT_EQ(counters().flows_open, 1u);
  guest().Advance(2min);
  EXPECT_TRUE(connection.flow.reset());
  EXPECT_EQ(counters().flows_silent_timeout, 1u);
  ExpectReset(connection.host);
  ExpectNoFlowLeft();
}

// A guest that was paused for ten minutes loses nothing: the first frame from it,
// whatever it says, brings the data in flight again within 200 ms, though the timer
// had backed off far.
TEST_P(RetransmissionTest, FrameFromAPausedGuestRetransmitsSoon) {
  Connection connection = Establish();
  const std::string bytes = Pattern(10'000);
  AwaitUnacknowledged(connection, bytes);
  guest().Advance(10min);
  connection.flow.Forget();
  GuestFlow& stray = guest().Flow(listener().port());
  stray.Send({.sequence = 1, .acknowledgement = 1});  // no flow there: RST
  stray.Expect(kTcpRst);
  const GuestSegment again = connection.flow.ExpectWithin(200ms, kTcpAck);
  EXPECT_EQ(again.sequence, 1u);
  connection.flow.Send({});
  ExpectAlive(connection);
}

}  // namespace
}  // namespace penstock
