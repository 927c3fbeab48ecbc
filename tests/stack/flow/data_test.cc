// Bytes in both directions: order, overlap, windows' edges, segment sizes and
// offloads, and that an answer never waits for a timer. RFC 9293 3.10.7.4, 3.7.1,
// RFC 2018.
#include <algorithm>

#include "tests/stack/flow/flow_fixture.h"

namespace penstock {
namespace {

class DataTest : public FlowTest {
 protected:
  // The largest payload, and the largest piece that one of its segments will be on
  // the wire, among the segments that wait.
  struct Sizes {
    size_t payload = 0;
    size_t piece = 0;
  };
  static Sizes LargestOf(const GuestFlow& flow) {
    Sizes sizes;
    for (const GuestSegment& segment : flow.waiting()) {
      const bool gso = segment.offload.gso != Gso::kNone;
      const size_t piece = gso ? segment.offload.segment_bytes : segment.payload.size();
      sizes.payload = std::max(sizes.payload, segment.payload.size());
      sizes.piece = std::max(sizes.piece, piece);
    }
    return sizes;
  }
  // The host's `bytes` come without an acknowledgement of the guest's.
  void AwaitUnacknowledged(Connection& connection, std::string_view bytes) {
    connection.flow.Forget();
    const size_t wanted = connection.flow.received().size() + bytes.size();
    WriteAll(connection.host, bytes);
    guest().Until("the host's bytes", [&] { return connection.flow.received().size() >= wanted; });
  }
};
PENSTOCK_BOTH_FAMILIES(DataTest);

// Every byte arrives once and in order, both ways, and nothing of it waits for a
// timer: no virtual time goes by.
TEST_P(DataTest, BytesArriveInOrder) {
  Connection connection = Establish();
  const std::string up = Pattern(300'000, 1), down = Pattern(300'000, 2);
  size_t sent = 0, written = 0;
  while (sent < up.size() || written < down.size()) {
    const std::string piece = up.substr(sent, 10'000);
    connection.flow.SendAll(piece);
    sent += piece.size();
    written += connection.host.Write(std::string_view(down).substr(written, 10'000));
    connection.host.Read();
  }
  ReadTo(connection.host, up.size());
  connection.flow.ReceiveTo(down.size());
  EXPECT_EQ(connection.host.received(), up);
  EXPECT_EQ(connection.flow.received(), down);
  EXPECT_EQ(counters().retransmits_by_timer + counters().retransmits_by_dupack, 0u);
}

// A hole is answered at once by a duplicate ACK whose SACK block says what came;
// once it is filled, everything is acknowledged and delivered.
TEST_P(DataTest, HoleIsReportedAndFilled) {
  Connection connection = Establish();
  const std::string bytes = Pattern(300);
  connection.flow.Send({.sequence = 101, .payload = bytes.substr(100, 100)});
  GuestSegment answer = connection.flow.Expect(kTcpAck);
  EXPECT_EQ(answer.acknowledgement, 1u);
  ASSERT_EQ(answer.sack.size(), 1u);
  EXPECT_EQ(answer.sack[0], (SackBlock{.begin = 101, .end = 201}));

  connection.flow.Send({.sequence = 201, .payload = bytes.substr(200, 100)});
  answer = connection.flow.Expect(kTcpAck);
  EXPECT_EQ(answer.acknowledgement, 1u);
  ASSERT_EQ(answer.sack.size(), 1u);
  EXPECT_EQ(answer.sack[0], (SackBlock{.begin = 101, .end = 301}));

  connection.flow.Send({.sequence = 1, .payload = bytes.substr(0, 100)});
  answer = connection.flow.Expect(kTcpAck);
  EXPECT_EQ(answer.acknowledgement, 301u);
  EXPECT_TRUE(answer.sack.empty());
  ReadTo(connection.host, bytes.size());
  EXPECT_EQ(connection.host.received(), bytes);
}

// A guest that did not offer SACK gets bare duplicate ACKs.
TEST_P(DataTest, HoleWithoutSackIsABareDuplicateAck) {
  Connection connection = Establish({.sack_permitted = false});
  connection.flow.Send({.sequence = 101, .payload = "later"});
  const GuestSegment answer = connection.flow.Expect(kTcpAck);
  EXPECT_EQ(answer.acknowledgement, 1u);
  EXPECT_TRUE(answer.sack.empty());
}

// Bytes that come twice, in whole or in part, in order or not, are delivered once.
TEST_P(DataTest, OverlapsAreTakenOnce) {
  Connection connection = Establish();
  GuestFlow& flow = connection.flow;
  const std::string bytes = Pattern(400);
  const auto send = [&](size_t begin, size_t end) {
    flow.Send({.sequence = static_cast<uint32_t>(begin + 1),
               .payload = bytes.substr(begin, end - begin)});
  };
  send(0, 100);
  send(50, 150);   // old head
  send(250, 350);  // hole of 100
  send(200, 300);  // overlaps what waits
  send(300, 400);
  send(100, 260);  // fills, with old bytes at both ends
  send(0, 400);    // all of it again
  flow.Forget();
  ReadTo(connection.host, bytes.size());
  EXPECT_EQ(connection.host.received(), bytes);
  flow.Send({.sequence = 401, .payload = "end"});
  EXPECT_EQ(flow.Expect(kTcpAck).acknowledgement, 404u);
  ReadTo(connection.host, bytes.size() + 3);
  EXPECT_EQ(connection.host.received(), bytes + "end");
}

// A segment beyond the window is not taken; its answer is an ACK that says where
// the window is.
TEST_P(DataTest, DataBeyondTheWindowIsAnsweredOnly) {
  Connection connection = Establish();
  GuestFlow& flow = connection.flow;
  flow.Send({.sequence = flow.next() + flow.window_left() + 1000, .payload = "far away"});
  const GuestSegment answer = flow.Expect(kTcpAck);
  EXPECT_EQ(answer.acknowledgement, 1u);
  EXPECT_TRUE(answer.sack.empty());
  EXPECT_EQ(counters().payload_bytes_to_host, 0u);
  ExpectAlive(connection);
}

// A segment below the window, a retransmission whose ACK was lost, is acknowledged
// again.
TEST_P(DataTest, OldDataIsAcknowledgedAgain) {
  Connection connection = Establish();
  connection.flow.Send({.payload = "hello"});
  EXPECT_EQ(connection.flow.Expect(kTcpAck).acknowledgement, 6u);
  connection.flow.Send({.sequence = 1, .payload = "hello"});
  EXPECT_EQ(connection.flow.Expect(kTcpAck).acknowledgement, 6u);
  ReadTo(connection.host, 5);
  ExpectAlive(connection);
}

// A pass that received data ends with its ACK: nothing is delayed for a ping-pong
// to feel.
TEST_P(DataTest, DataIsAcknowledgedInTheSamePass) {
  Connection connection = Establish();
  for (uint32_t i = 0; i < 3; ++i) {
    connection.flow.Forget();
    connection.flow.Queue({.payload = "ping"});
    guest().Pass();
    ASSERT_FALSE(connection.flow.waiting().empty());
    EXPECT_EQ(connection.flow.waiting().back().acknowledgement, 1 + 4 * (i + 1));
  }
}

// Where the host's answer lies ready in the same pass, the ACK rides on it.
TEST_P(DataTest, AckRidesOnTheHostsData) {
  Connection connection = Establish();
  guest().Pump();
  connection.flow.Forget();
  ASSERT_EQ(connection.host.Write("answer"), 6u);
  guest().UntilWoken();
  connection.flow.Queue({.payload = "question"});
  guest().Pass();
  ASSERT_EQ(connection.flow.waiting().size(), 1u);
  const GuestSegment& only = connection.flow.waiting().front();
  EXPECT_EQ(only.payload, "answer");
  EXPECT_EQ(only.acknowledgement, 9u);
}

// An MSS of 1 would make a segment of every byte: 216 is the least that the stack
// agrees to.
TEST_P(DataTest, TinyMssIsRaised) {
  Connection connection = Establish({.mss = 1});
  const std::string bytes = Pattern(21'600);
  AwaitUnacknowledged(connection, bytes);
  EXPECT_EQ(connection.flow.received(), bytes);
  EXPECT_EQ(LargestOf(connection.flow).piece, 216u);
}

// An MSS above what the MTU allows is cut to it.
TEST_P(DataTest, HugeMssIsCutToTheMtu) {
  Connection connection = Establish({.mss = 65535});
  AwaitUnacknowledged(connection, Pattern(20'000));
  EXPECT_EQ(LargestOf(connection.flow).piece, full_segment());
}

// A SYN without the option means 536 over IPv4 and 1220 over IPv6.
TEST_P(DataTest, MissingMssMeansTheDefault) {
  GuestFlow& flow = Start().Flow(listener().port());
  flow.Send({.flags = kTcpSyn, .sequence = 0});
  flow.Expect(kTcpSyn | kTcpAck);
  flow.Send({});
  Connection connection{.flow = flow, .host = Accept()};
  AwaitUnacknowledged(connection, Pattern(20'000));
  EXPECT_EQ(LargestOf(flow).piece, v4() ? 536u : 1220u);
}

// The option counts in the first SYN only: neither a data segment nor a repeated SYN
// changes the segment size, up or down.
TEST_P(DataTest, MssOptionAfterTheFirstSynIsIgnored) {
  GuestFlow& flow = Start().Flow(listener().port());
  flow.SendSyn({.mss = 1000});
  flow.Expect(kTcpSyn | kTcpAck);
  flow.Send({.flags = kTcpSyn, .sequence = 0, .mss = 1400});
  flow.Expect(kTcpSyn | kTcpAck);
  flow.Send({});
  Connection connection{.flow = flow, .host = Accept()};
  flow.Send({.mss = 300, .payload = "x"});
  flow.Expect(kTcpAck);
  flow.Send({.mss = 1400, .payload = "y"});
  flow.Expect(kTcpAck);
  AwaitUnacknowledged(connection, Pattern(20'000));
  EXPECT_EQ(LargestOf(flow).piece, 1000u);
}

// Without offloads every frame is a packet of at most the MTU with its whole
// checksum (which every script checks).
TEST_P(DataTest, LinkWithoutOffloadsGetsWholePackets) {
  Connection connection = Establish();
  AwaitUnacknowledged(connection, Pattern(60'000));
  for (const GuestSegment& segment : connection.flow.waiting()) {
    EXPECT_EQ(segment.offload.gso, Gso::kNone);
    EXPECT_NE(segment.offload.checksum, ChecksumState::kPartial);
    EXPECT_LE(segment.ip_bytes, 1500u);
  }
}

// With offloads bulk data leaves as super-segments that are cut at the negotiated
// MSS, never at another size; their partial checksum is checked in every script.
TEST_P(DataTest, LinkWithOffloadsGetsSuperSegments) {
  Start(LoopbackConfig(), OffloadingLink());
  Connection connection = Establish({.mss = 1200, .window_scale = 7});
  const std::string bytes = Pattern(400'000);
  connection.flow.Forget();
  WriteAll(connection.host, bytes);
  size_t largest = 0;
  const auto inspect = [&] {
    for (const GuestSegment& segment : connection.flow.waiting()) {
      largest = std::max(largest, segment.payload.size());
      if (segment.payload.size() > 1200) {
        EXPECT_EQ(segment.offload.segment_bytes, 1200);
      }
    }
    connection.flow.Forget();
  };
  guest().Until("all bytes", [&] {
    inspect();
    connection.flow.Send({});
    return connection.flow.received().size() == bytes.size();
  });
  inspect();  // what came with the last acknowledgement
  EXPECT_EQ(connection.flow.received(), bytes);
  EXPECT_GT(largest, 12'000u);
}

// A link may do one thing and not the other: segmentation for the other family
// only, or checksums without segmentation.
TEST_P(DataTest, LinkWithChecksumOffloadOnlyGetsPackets) {
  Start(LoopbackConfig(),
        {.partial_checksum_to_guest = true, .tcp4_gso_to_guest = !v4(), .tcp6_gso_to_guest = v4()});
  Connection connection = Establish();
  AwaitUnacknowledged(connection, Pattern(60'000));
  for (const GuestSegment& segment : connection.flow.waiting()) {
    EXPECT_EQ(segment.offload.gso, Gso::kNone);
  }
  EXPECT_EQ(LargestOf(connection.flow).payload, full_segment());
}

// A guest's unsegmented frame is taken whole and acknowledged.
TEST_P(DataTest, SuperSegmentFromTheGuestIsTakenWhole) {
  Start(LoopbackConfig(), OffloadingLink());
  Connection connection = Establish();
  const std::string bytes = Pattern(60'000);
  connection.flow.Send({.payload = bytes, .gso_segment_bytes = full_segment()});
  EXPECT_EQ(connection.flow.Expect(kTcpAck).acknowledgement, 60'001u);
  ReadTo(connection.host, bytes.size());
  EXPECT_EQ(connection.host.received(), bytes);
}

// A link that is full loses no TCP data: it goes out when the link has room again,
// without a timer; until then the stack does not spin.
TEST_P(DataTest, FullLinkDelaysDataOnly) {
  Connection connection = Establish();
  const std::string bytes = Pattern(50'000);
  guest().link().SetRoom(3);
  WriteAll(connection.host, bytes);
  guest().Until("the link is full", [&] { return counters().link_refusals > 0; });
  EXPECT_LT(connection.flow.received().size(), bytes.size());
  guest().Until("the relay has said all", [&] { return guest().StaysQuiet(); });
  guest().link().SetRoom(MemoryLink::kUnlimited);
  connection.flow.ReceiveTo(bytes.size());
  EXPECT_EQ(connection.flow.received(), bytes);
  EXPECT_EQ(counters().retransmits_by_timer, 0u);
  ExpectAlive(connection);
}

}  // namespace
}  // namespace penstock
