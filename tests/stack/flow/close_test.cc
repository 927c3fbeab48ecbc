// How flows end in good order: half-close, both orders of FIN, TIME_WAIT and its
// reuse. RFC 9293 3.6 and 3.10.7.
#include <string>

#include "tests/stack/flow/flow_fixture.h"

namespace penstock {
namespace {

class CloseTest : public FlowTest {
 protected:
  // Host first, then the guest: the stack's end is in TIME_WAIT.
  Connection CloseFromTheHost() {
    Connection connection = Establish();
    ExpectAlive(connection);
    connection.host.ShutdownWrite();
    connection.flow.Expect(kFinAck);
    connection.flow.Send({.flags = kFinAck});
    EXPECT_EQ(connection.flow.Expect(kTcpAck).acknowledgement, connection.flow.next());
    ReadToEnd(connection.host);
    return connection;
  }
};
PENSTOCK_BOTH_FAMILIES(CloseTest);

// The guest's FIN becomes EOF at the host, whose own bytes go on flowing; when the
// host closes, too, the flow is gone.
TEST_P(CloseTest, GuestFinIsAHalfClose) {
  Connection connection = Establish();
  auto& [flow, host] = connection;
  flow.Send({.payload = "last words"});
  flow.Expect(kTcpAck);
  flow.Send({.flags = kFinAck});
  EXPECT_EQ(flow.Expect(kTcpAck).acknowledgement, 12u);
  ReadToEnd(host);
  EXPECT_EQ(host.received(), "last words");

  const std::string bytes = Pattern(300'000);
  size_t written = 0;
  guest().Until("all bytes", [&] {
    written += host.Write(std::string_view(bytes).substr(written));
    flow.Forget();
    flow.Send({});
    return flow.received().size() == bytes.size();
  });
  EXPECT_EQ(flow.received(), bytes);
  EXPECT_FALSE(flow.finished());
  flow.Forget();
  host.Close();
  flow.Expect(kFinAck);
  flow.Send({});
  ExpectNoFlowLeft();
  EXPECT_EQ(counters().flows_closed, 1u);
}

// The host's EOF comes as FIN behind all of its bytes; the guest's go on flowing.
TEST_P(CloseTest, HostFinIsAHalfClose) {
  Connection connection = Establish();
  auto& [flow, host] = connection;
  const std::string down = Pattern(300'000, 1), up = Pattern(100'000, 2);
  size_t written = 0;
  guest().Until("all bytes and FIN", [&] {
    if (written < down.size()) {
      written += host.Write(std::string_view(down).substr(written));
      if (written == down.size()) host.ShutdownWrite();
    }
    flow.Forget();
    flow.Send({});
    return flow.finished();
  });
  EXPECT_EQ(flow.received(), down);

  flow.SendAll(up);
  ReadTo(host, up.size());
  EXPECT_EQ(host.received(), up);
  EXPECT_FALSE(host.ended());
  flow.Send({.flags = kFinAck});
  ReadToEnd(host);
  ExpectNoFlowLeft();
  EXPECT_EQ(counters().flows_closed, 1u);
}

// A server that sends and closes at once: no close cuts the tail, however slowly the
// guest takes it.
TEST_P(CloseTest, CloseKeepsTheTail) {
  Connection connection = Establish({.window = 3000});
  auto& [flow, host] = connection;
  const std::string bytes = Pattern(200'000);
  WriteAll(host, bytes);
  host.Close();
  flow.ReceiveWithin(2min, SIZE_MAX);
  EXPECT_TRUE(flow.finished());
  EXPECT_EQ(flow.received(), bytes);
}

// FIN with data: both count.
TEST_P(CloseTest, FinMayCarryData) {
  Connection connection = Establish();
  connection.flow.Send({.flags = kFinAck, .payload = "bye"});
  EXPECT_EQ(connection.flow.Expect(kTcpAck).acknowledgement, 5u);
  ReadToEnd(connection.host);
  EXPECT_EQ(connection.host.received(), "bye");
}

// A FIN that overtook data waits for it.
TEST_P(CloseTest, FinBehindAHoleWaits) {
  Connection connection = Establish();
  auto& [flow, host] = connection;
  flow.Send({.flags = kFinAck, .sequence = 6, .payload = "world"});
  EXPECT_EQ(flow.Expect(kTcpAck).acknowledgement, 1u);
  host.Read();
  EXPECT_FALSE(host.ended());
  flow.Send({.sequence = 1, .payload = "hello"});
  EXPECT_EQ(flow.Expect(kTcpAck).acknowledgement, 12u);
  ReadToEnd(host);
  EXPECT_EQ(host.received(), "helloworld");
}

// Both FINs cross on the wire.
TEST_P(CloseTest, SimultaneousClose) {
  Connection connection = Establish();
  auto& [flow, host] = connection;
  host.ShutdownWrite();
  EXPECT_EQ(flow.Expect(kFinAck).sequence, 1u);
  flow.Send({.flags = kFinAck, .acknowledgement = 1});
  EXPECT_EQ(flow.Expect(kTcpAck).acknowledgement, 2u);
  ReadToEnd(host);
  flow.Send({.acknowledgement = 2});
  flow.ExpectNothing();
  ExpectNoFlowLeft();
  EXPECT_EQ(counters().flows_closed, 1u);
}

// A FIN whose ACK was lost comes again, to TIME_WAIT, and is acknowledged again.
TEST_P(CloseTest, RepeatedFinIsAcknowledgedInTimeWait) {
  Connection connection = CloseFromTheHost();
  GuestFlow& flow = connection.flow;
  flow.Send({.flags = kFinAck, .sequence = flow.next() - 1});
  const GuestSegment answer = flow.Expect(kTcpAck);
  EXPECT_EQ(answer.acknowledgement, flow.next());
  EXPECT_EQ(answer.sequence, flow.expected());
}

// TIME_WAIT ends by itself, and then nothing is due any more.
TEST_P(CloseTest, TimeWaitEnds) {
  Connection connection = CloseFromTheHost();
  ExpectNoFlowLeft();
  guest().Advance(5min);
  EXPECT_EQ(guest().deadline(), kNever);
  GuestFlow& flow = connection.flow;
  flow.Send({.payload = "late"});
  EXPECT_EQ(flow.Expect(kTcpRst).sequence, flow.expected());
}

// A guest may use the port again at once: a SYN beyond the old flow's numbers is
// accepted on a tuple in TIME_WAIT (RFC 1122 4.2.2.13), with a later initial
// sequence number of ours, and works.
TEST_P(CloseTest, NewSynInTimeWaitOpensANewFlow) {
  Connection old = CloseFromTheHost();
  ExpectNoFlowLeft();
  GuestFlow& flow = guest().FlowAgain(old.flow);
  flow.Handshake();
  Connection connection{.flow = flow, .host = Accept()};
  EXPECT_GT(static_cast<int32_t>(flow.stack_isn() - (old.flow.stack_isn() + old.flow.expected())),
            0);
  ExpectAlive(connection);
  EXPECT_EQ(counters().time_wait_recycled, 1u);
}

// Where the guest's FIN came first, its own end keeps TIME_WAIT: the tuple is free
// at once.
TEST_P(CloseTest, TupleIsFreeAtOnceWhenTheGuestClosedFirst) {
  Connection old = Establish();
  old.flow.Send({.flags = kFinAck});
  old.flow.Expect(kTcpAck);
  ReadToEnd(old.host);
  old.host.Close();
  old.flow.Expect(kFinAck);
  old.flow.Send({});
  ExpectNoFlowLeft();

  GuestFlow& flow = guest().FlowAgain(old.flow);
  flow.Handshake();
  Connection connection{.flow = flow, .host = Accept()};
  ExpectAlive(connection);
  EXPECT_EQ(counters().time_wait_recycled, 0u);
}

// The initial sequence number of one tuple moves with time by a tick in 4 µs
// (RFC 6528 3), so that old segments of it are told from new ones.
TEST_P(CloseTest, InitialSequenceNumberOfATupleMovesWithTime) {
  Connection old = Establish();
  old.flow.Send({.flags = kTcpRst});
  ExpectNoFlowLeft();
  const Time before = guest().now();
  guest().Advance(100s);
  GuestFlow& again = guest().FlowAgain(old.flow);
  again.Handshake();
  const auto ticks = static_cast<uint32_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(guest().now() - before).count() / 4);
  EXPECT_NEAR(again.stack_isn() - old.flow.stack_isn(), ticks, ticks / 20);
}

// A flow is gone when both FINs are acknowledged: data after it gets RST.
TEST_P(CloseTest, DataAfterTheEndIsReset) {
  Connection connection = Establish();
  auto& [flow, host] = connection;
  flow.Send({.flags = kFinAck});
  flow.Expect(kTcpAck);
  ReadToEnd(host);
  host.Close();
  flow.Expect(kFinAck);
  flow.Send({});
  ExpectNoFlowLeft();
  flow.Send({.payload = "late"});
  EXPECT_EQ(flow.Expect(kTcpRst).sequence, flow.expected());
}

// A host that closed for good cannot take the guest's bytes: it says RST, and so
// does the stack.
TEST_P(CloseTest, DataForAHostThatIsGoneIsReset) {
  Connection connection = Establish();
  auto& [flow, host] = connection;
  host.Close();
  flow.Expect(kFinAck);
  flow.Send({.payload = "anybody there?"});
  guest().Until("RST", [&] { return flow.reset(); });
  ExpectNoFlowLeft();
}

}  // namespace
}  // namespace penstock
