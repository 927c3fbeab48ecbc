// What an idle flow costs, and how a dead guest is noticed: RFC 1122 4.2.3.6, RFC 9293
// 3.8.4. An idle stack sleeps.
#include "tests/stack/flow/flow_fixture.h"

namespace penstock {
namespace {

class KeepaliveTest : public FlowTest {
 protected:
  // An idle flow, and when it was last heard of.
  Connection EstablishIdle() {
    Connection connection = Establish();
    ExpectAlive(connection);
    connection.flow.Send({});
    connection.flow.Forget();
    return connection;
  }
};
PENSTOCK_BOTH_FAMILIES(KeepaliveTest);

// Nothing is due in a stack without flows, and its descriptor is quiet.
TEST_P(KeepaliveTest, StackWithoutFlowsSleeps) {
  Start();
  EXPECT_EQ(guest().deadline(), kNever);
  EXPECT_TRUE(guest().StaysQuiet());
}

// With idle flows nothing is due before the keepalive either: no tick runs for them.
TEST_P(KeepaliveTest, IdleFlowsAreNotTickedBeforeTheKeepalive) {
  Connection first = EstablishIdle();
  Connection second = EstablishIdle();
  const Time quiet = guest().now();
  guest().Advance(10s);
  const uint64_t polls = counters().polls;
  EXPECT_GE(guest().deadline(), quiet + 2h - 10s);
  EXPECT_LE(guest().deadline(), quiet + 2h + 10s);
  EXPECT_TRUE(guest().StaysQuiet());
  guest().Advance(1h);
  // The two passes that Advance itself makes.
  EXPECT_LE(counters().polls - polls, 2u);
  first.flow.ExpectNothing();
  second.flow.ExpectNothing();
  ExpectAlive(first);
}

// After two hours idle the guest is probed one below the next sequence number; its
// answer keeps the flow for two hours more.
TEST_P(KeepaliveTest, AnsweredKeepaliveKeepsTheFlow) {
  Connection connection = EstablishIdle();
  GuestFlow& flow = connection.flow;
  for (int i = 0; i < 3; ++i) {
    const Time idle = guest().now();
    const GuestSegment probe = flow.ExpectWithin(2h + 10s, kTcpAck);
    EXPECT_GE(guest().now() - idle, 2h - 10s);
    EXPECT_EQ(probe.sequence, flow.expected() - 1);
    EXPECT_LE(probe.payload.size(), 1u);
    EXPECT_EQ(counters().keepalives_sent, static_cast<uint64_t>(i + 1));
    flow.Send({});
    flow.ExpectNothing();
  }
  ExpectAlive(connection);
}

// Nine probes without an answer, 75 s apart: the guest is gone, the flow and its host
// socket with it.
TEST_P(KeepaliveTest, UnansweredKeepalivesEndTheFlow) {
  Connection connection = EstablishIdle();
  GuestFlow& flow = connection.flow;
  flow.ExpectWithin(2h + 10s, kTcpAck);
  for (int i = 1; i < 9; ++i) {
    const Time last = guest().now();
    flow.ExpectWithin(76s, kTcpAck);
    EXPECT_GE(guest().now() - last, 74s);
  }
  EXPECT_EQ(counters().keepalives_sent, 9u);
  EXPECT_FALSE(flow.reset());
  guest().Advance(76s);
  EXPECT_TRUE(flow.reset());
  EXPECT_EQ(counters().flows_keepalive_timeout, 1u);
  ExpectReset(connection.host);
  ExpectNoFlowLeft();
}

// An answer to any probe starts the count again.
TEST_P(KeepaliveTest, LateAnswerKeepsTheFlow) {
  Connection connection = EstablishIdle();
  GuestFlow& flow = connection.flow;
  flow.ExpectWithin(2h + 10s, kTcpAck);
  for (int i = 1; i < 9; ++i) flow.ExpectWithin(76s, kTcpAck);
  flow.Send({});
  guest().Advance(1h);
  flow.ExpectNothing();
  ExpectAlive(connection);
  EXPECT_EQ(counters().flows_keepalive_timeout, 0u);
}

// Half-closed flows, of either side, are probed like others and live as long as the
// guest answers.
TEST_P(KeepaliveTest, HalfClosedFlowsLiveAsLongAsTheGuestAnswers) {
  Connection by_guest = EstablishIdle();
  Connection by_host = EstablishIdle();
  by_guest.flow.Send({.flags = kTcpFin | kTcpAck});
  by_guest.flow.Expect(kTcpAck);
  by_host.host.ShutdownWrite();
  by_host.flow.Expect(kTcpFin | kTcpAck);
  by_host.flow.Send({});
  for (int i = 0; i < 2; ++i) {
    guest().AdvanceUntil("both probes", 3h, [&] {
      return !by_guest.flow.waiting().empty() && !by_host.flow.waiting().empty();
    });
    by_guest.flow.Forget();
    by_host.flow.Forget();
    by_guest.flow.Send({});
    by_host.flow.Send({});
  }
  by_host.flow.Send({.payload = "still sending"});
  ReadTo(by_host.host, by_host.host.received().size() + 13);
  WriteAll(by_guest.host, "still answering");
  by_guest.flow.ReceiveTo(by_guest.flow.received().size() + 15);
  EXPECT_FALSE(by_guest.flow.reset());
  EXPECT_FALSE(by_host.flow.reset());
}

}  // namespace
}  // namespace penstock
