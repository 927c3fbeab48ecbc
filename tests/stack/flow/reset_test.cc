// Resets of either side, those that must be doubted, and segments that belong to no
// flow. RFC 9293 3.5.2, 3.5.3, 3.10.7.1, RFC 5961 3 and 4.
#include <string>

#include "tests/stack/flow/flow_fixture.h"

namespace penstock {
namespace {

class ResetTest : public FlowTest {};
PENSTOCK_BOTH_FAMILIES(ResetTest);

// The guest's RST at exactly the next sequence number is ECONNRESET at the host,
// with no answer to the guest.
TEST_P(ResetTest, GuestResetReachesTheHost) {
  Connection connection = Establish();
  ExpectAlive(connection);
  connection.flow.Forget();
  connection.flow.Send({.flags = kTcpRst | kTcpAck});
  ExpectReset(connection.host);
  connection.flow.ExpectNothing();
  EXPECT_EQ(counters().flows_reset_by_guest, 1u);
  ExpectNoFlowLeft();
}

// The same while the relay is blocked in a write to a host that does not read.
TEST_P(ResetTest, GuestResetReachesAHostThatDoesNotRead) {
  ListenWith({.receive_buffer_bytes = 16'384});
  Connection connection = Establish();
  do {
    while (connection.flow.window_left() > 0) {
      const size_t count = std::min<size_t>(connection.flow.window_left(), full_segment());
      connection.flow.Send({.payload = std::string(count, 'x')});
    }
    guest().Pump();
  } while (connection.flow.window_left() > 0 || !guest().StaysQuiet());
  EXPECT_GT(counters().buffer_bytes_to_host, 0u);
  connection.flow.Send({.flags = kTcpRst | kTcpAck});
  ExpectReset(connection.host);
  EXPECT_EQ(counters().flows_reset_by_guest, 1u);
  ExpectNoFlowLeft();
  EXPECT_EQ(counters().buffer_bytes_to_host, 0u);
}

// And while bytes of the host's wait for a guest that takes none.
TEST_P(ResetTest, GuestResetDropsWhatTheHostHadSent) {
  Connection connection = Establish({.window = 0});
  WriteAll(connection.host, Pattern(100'000));
  guest().Until("the host's bytes", [&] { return counters().buffer_bytes_to_guest > 0; });
  connection.flow.Send({.flags = kTcpRst | kTcpAck});
  ExpectReset(connection.host);
  ExpectNoFlowLeft();
  EXPECT_EQ(counters().buffer_bytes_to_guest, 0u);
}

// A guest that shut its side and then resets: no clean end is made up for the host.
TEST_P(ResetTest, GuestResetAfterItsFinReachesTheHost) {
  Connection connection = Establish();
  connection.flow.Send({.flags = kFinAck});
  connection.flow.Expect(kTcpAck);
  connection.flow.Send({.flags = kTcpRst | kTcpAck});
  ExpectReset(connection.host);
  ExpectNoFlowLeft();
}

// A RST within the window but not exact may be forged: it gets a challenge ACK, and
// the flow lives.
TEST_P(ResetTest, InexactResetIsChallenged) {
  Connection connection = Establish();
  GuestFlow& flow = connection.flow;
  flow.Send({.flags = kTcpRst, .sequence = flow.next() + 10});
  const GuestSegment challenge = flow.Expect(kTcpAck);
  EXPECT_EQ(challenge.sequence, flow.expected());
  EXPECT_EQ(challenge.acknowledgement, flow.next());
  ExpectAlive(connection);
  EXPECT_EQ(counters().flows_reset_by_guest, 0u);
}

// A RST outside of the window is nothing at all.
TEST_P(ResetTest, ResetOutsideOfTheWindowIsIgnored) {
  Connection connection = Establish();
  GuestFlow& flow = connection.flow;
  flow.Send({.flags = kTcpRst, .sequence = flow.next() + flow.window_left() + 5000});
  flow.ExpectNothing();
  ExpectAlive(connection);
}

// A SYN on an established flow gets a challenge ACK, wherever its number lies.
TEST_P(ResetTest, SynOnAnEstablishedFlowIsChallenged) {
  Connection connection = Establish();
  ExpectAlive(connection);
  GuestFlow& flow = connection.flow;
  for (const uint32_t sequence : {flow.next(), flow.next() + 100, flow.next() + 0x4000'0000u}) {
    flow.Forget();
    flow.Send({.flags = kTcpSyn, .sequence = sequence, .mss = 1000});
    const GuestSegment challenge = flow.Expect(kTcpAck);
    EXPECT_EQ(challenge.sequence, flow.expected());
    EXPECT_EQ(challenge.acknowledgement, flow.next());
  }
  flow.Forget();
  ExpectAlive(connection);
  EXPECT_EQ(counters().flows_opened, 1u);
}

// The host's RST becomes a RST to the guest that it must believe: at exactly the
// sequence number that it expects.
TEST_P(ResetTest, HostResetReachesTheGuest) {
  Connection connection = Establish();
  ExpectAlive(connection);
  connection.flow.Send({});
  connection.flow.Forget();
  connection.host.Reset();
  guest().Until("RST", [&] { return connection.flow.reset(); });
  ASSERT_EQ(connection.flow.waiting().size(), 1u);
  EXPECT_EQ(connection.flow.waiting().front().sequence, connection.flow.expected());
  EXPECT_EQ(counters().flows_reset_by_host, 1u);
  EXPECT_GE(counters().resets_to_guest, 1u);
  ExpectNoFlowLeft();
}

// The same while bytes are under way to the guest, and while it takes none.
TEST_P(ResetTest, HostResetReachesAGuestThatDoesNotRead) {
  Connection connection = Establish({.window = 0});
  WriteAll(connection.host, Pattern(1'000'000));
  guest().Until("the host's bytes", [&] { return counters().buffer_bytes_to_guest > 0; });
  connection.host.Reset();
  guest().Until("RST", [&] { return connection.flow.reset(); });
  ExpectNoFlowLeft();
  EXPECT_EQ(counters().buffer_bytes_to_guest, 0u);
}

// An ACK of what was never sent is answered, not believed (RFC 9293 3.10.7.4).
TEST_P(ResetTest, AckOfTheFutureIsAnswered) {
  Connection connection = Establish();
  connection.flow.Send({.acknowledgement = 100'000});
  EXPECT_EQ(connection.flow.Expect(kTcpAck).sequence, 1u);
  ExpectAlive(connection);
}

// A segment with ACK for which there is no flow: RST with the number it acknowledges.
TEST_P(ResetTest, SegmentWithoutFlowIsReset) {
  GuestFlow& flow = Start().Flow(listener().port());
  for (const uint8_t flags : {kTcpAck, kFinAck, static_cast<uint8_t>(kTcpSyn | kTcpAck)}) {
    flow.Send({.flags = flags, .sequence = 1000, .acknowledgement = 5000, .payload = "who?"});
    const GuestSegment answer = flow.Expect(kTcpRst);
    EXPECT_EQ(answer.sequence, 5000u);
  }
  EXPECT_EQ(counters().flows_opened, 0u);
  EXPECT_EQ(counters().resets_to_guest, 3u);
}

// A RST for which there is no flow gets no answer, or two resets would go on for
// ever.
TEST_P(ResetTest, ResetWithoutFlowIsIgnored) {
  GuestFlow& flow = Start().Flow(listener().port());
  flow.Send({.flags = kTcpRst, .sequence = 1000});
  flow.ExpectNothing();
  flow.Send({.flags = kTcpRst | kTcpAck, .sequence = 1000, .acknowledgement = 5000});
  flow.ExpectNothing();
  EXPECT_EQ(counters().resets_to_guest, 0u);
}

// Without SYN, RST or ACK a segment says nothing: dropped by name.
TEST_P(ResetTest, SegmentWithoutAnyFlagIsDropped) {
  Connection connection = Establish();
  connection.flow.Send({.flags = kTcpPsh, .sequence = 1, .payload = "nonsense"});
  connection.flow.Send({.flags = kTcpFin, .sequence = 1});
  connection.flow.ExpectNothing();
  EXPECT_EQ(counters().drops_of(DropCause::kTcpFlags), 2u);
  connection.flow.Send({.sequence = 1, .payload = "sense"});
  ReadTo(connection.host, 5);
  EXPECT_EQ(connection.host.received(), "sense");
}

}  // namespace
}  // namespace penstock
