// Clocks that jump: a machine that was suspended, a process that was stopped, and a clock
// that goes back, which a steady one never does, but a virtual machine's has been seen to.
#include "tests/stack/flow/flow_fixture.h"

namespace penstock {
namespace {

class ClockTest : public FlowTest {};
PENSTOCK_BOTH_FAMILIES(ClockTest);

TEST_P(ClockTest, AnIdleConnectionOutlivesAJumpOfHours) {
  Connection connection = Establish();
  guest().Oversleep(5h);
  EXPECT_EQ(counters().keepalives_sent, 1u) << "one, though all nine are overdue";
  EXPECT_FALSE(connection.flow.reset());
  connection.flow.Forget();
  ExpectAlive(connection);
  EXPECT_EQ(counters().flows_keepalive_timeout, 0u);
}

TEST_P(ClockTest, AfterAJumpADeadGuestIsGivenUpInTime) {
  const Config config;
  Connection connection = Establish();
  guest().Oversleep(5h);
  const Duration taken = guest().AdvanceUntil(
      "the end of a silent guest", 1h, [&] { return counters().flows_keepalive_timeout == 1; });
  EXPECT_EQ(taken, config.keepalive_probes * config.keepalive_interval);
  ExpectReset(connection.host);
}

TEST_P(ClockTest, BetweenKeepalivesMayBeForever) {
  Config config = LoopbackConfig();
  config.keepalive_interval = Duration::max();
  Start(config);
  Connection connection = Establish();
  guest().Oversleep(5h);
  guest().Oversleep(1000h);
  EXPECT_EQ(counters().keepalives_sent, 1u);
  connection.flow.Forget();
  ExpectAlive(connection);
}

TEST_P(ClockTest, WhatWasInFlightIsSentAgainAfterAJump) {
  Connection connection = Establish();
  connection.flow.Send({.payload = "before"});
  ReadTo(connection.host, 6);
  connection.flow.Forget();
  WriteAll(connection.host, "in flight");
  (void)connection.flow.Expect(kTcpAck);
  guest().Oversleep(10min);
  const GuestSegment again = connection.flow.ExpectWithin(1s, kTcpAck);
  EXPECT_EQ(again.payload, "in flight");
}

TEST_P(ClockTest, TrafficGoesOnWhileTheClockGoesBack) {
  Connection connection = Establish();
  guest().Oversleep(-1h);
  ExpectAlive(connection);
  guest().Oversleep(2h);
  ExpectAlive(connection);
  connection.flow.Send({.flags = kTcpAck | kTcpFin});
  ReadToEnd(connection.host);
  connection.host.Close();
  connection.flow.Forget();
  EXPECT_EQ(counters().flows_reset_by_guest + counters().resets_to_guest, 0u);
}

}  // namespace
}  // namespace penstock
