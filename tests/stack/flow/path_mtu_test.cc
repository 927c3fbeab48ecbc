// ICMP "fragmentation needed" and "packet too big" from behind the guest: believed if
// they quote what is in flight, and never below the floor. RFC 1191, RFC 8201,
// RFC 5927 (why the sequence number is checked).
#include <algorithm>
#include <string>

#include "tests/stack/flow/flow_fixture.h"

namespace penstock {
namespace {

class TcpPathMtuTest : public FlowTest {
 protected:
  // A flow with bytes in flight.
  Connection EstablishInFlight(size_t count) {
    Connection connection = Establish();
    SendToGuest(connection, count);
    return connection;
  }
  void SendToGuest(Connection& connection, size_t count) {
    const size_t wanted = connection.flow.received().size() + count;
    connection.flow.Forget();
    WriteAll(connection.host, Pattern(count));
    guest().Until("the host's bytes", [&] { return connection.flow.received().size() >= wanted; });
  }
  static size_t LargestOf(const GuestFlow& flow) {
    size_t largest = 0;
    for (const GuestSegment& segment : flow.waiting()) {
      const bool gso = segment.offload.gso != Gso::kNone;
      const size_t piece = gso ? segment.offload.segment_bytes : segment.payload.size();
      largest = std::max(largest, piece);
    }
    return largest;
  }
  [[nodiscard]] uint32_t headers() const { return v4() ? 40 : 60; }
  // What comes of `mtu`: at once, and for all later segments.
  void ExpectSegmentSizeAfter(uint32_t mtu, uint32_t segment_bytes, LinkCapabilities link = {});
};
PENSTOCK_BOTH_FAMILIES(TcpPathMtuTest);

void TcpPathMtuTest::ExpectSegmentSizeAfter(uint32_t mtu, uint32_t segment_bytes,
                                            LinkCapabilities link) {
  Start(LoopbackConfig(), link);
  Connection connection = EstablishInFlight(14'600);
  GuestFlow& flow = connection.flow;
  flow.Forget();
  guest().SendTooBig({.original = flow.AsSent(1), .mtu = mtu});
  EXPECT_EQ(counters().path_mtu_updates, 1u);
  ASSERT_FALSE(flow.waiting().empty()) << guest().Trace();
  EXPECT_EQ(flow.waiting().front().sequence, 1u);
  EXPECT_LE(LargestOf(flow), segment_bytes);

  flow.Send({});
  SendToGuest(connection, 14'600);
  EXPECT_EQ(LargestOf(flow), segment_bytes);
  flow.Send({});
  ExpectAlive(connection);
}

// The segment size goes down, and what did not fit comes again at once.
TEST_P(TcpPathMtuTest, TooBigLowersTheSegmentSizeAndRetransmits) {
  ExpectSegmentSizeAfter(1400, 1400 - headers());
}

// The same where segments are cut by the guest's kernel.
TEST_P(TcpPathMtuTest, TooBigLowersTheSizeThatSuperSegmentsAreCutAt) {
  ExpectSegmentSizeAfter(1400, 1400 - headers(), OffloadingLink());
}

// A tiny MTU is a lie or a mistake: 536 and 1,220 are the least.
TEST_P(TcpPathMtuTest, SegmentSizeHasAFloor) { ExpectSegmentSizeAfter(100, v4() ? 536 : 1220); }

// What is cut anew may wait for a full link when its acknowledgement comes: it still
// leaves with its own bytes (which every script checks).
TEST_P(TcpPathMtuTest, WaitingSegmentsOutliveTheirAcknowledgement) {
  Connection connection = EstablishInFlight(14'600);
  GuestFlow& flow = connection.flow;
  flow.Forget();
  guest().link().SetRoom(0);
  guest().SendTooBig({.original = flow.AsSent(1), .mtu = 1400});
  EXPECT_EQ(counters().path_mtu_updates, 1u);
  EXPECT_GT(counters().link_refusals, 0u);
  flow.Send({});
  EXPECT_TRUE(flow.waiting().empty());
  guest().link().SetRoom(MemoryLink::kUnlimited);
  guest().Pump();
  EXPECT_FALSE(flow.waiting().empty());
  ExpectAlive(connection);
}

// What the timer has sent again, and a full link refused, is cut, too: nothing else is in flight.
TEST_P(TcpPathMtuTest, WhatWaitsToBeSentAgainIsCut) {
  Connection connection = EstablishInFlight(14'600);
  GuestFlow& flow = connection.flow;
  flow.Forget();
  guest().link().SetRoom(0);
  guest().Advance(1s);
  EXPECT_GT(counters().retransmits_by_timer, 0u);
  guest().SendTooBig({.original = flow.AsSent(1), .mtu = 1400});
  EXPECT_EQ(counters().path_mtu_updates, 1u);
  guest().link().SetRoom(MemoryLink::kUnlimited);
  guest().Pump();
  // Behind the frames that were made before.
  EXPECT_TRUE(std::ranges::any_of(flow.waiting(), [this](const GuestSegment& segment) {
    return segment.sequence == 1 && segment.payload.size() == 1400 - headers();
  })) << guest().Trace();
  flow.Send({});
  ExpectAlive(connection);
}

// An error that quotes nothing in flight is a forgery or late: it changes nothing.
TEST_P(TcpPathMtuTest, WrongSequenceNumberIsIgnored) {
  Connection connection = EstablishInFlight(14'600);
  GuestFlow& flow = connection.flow;
  flow.Forget();
  for (const uint32_t sequence : {1'000'000u, 0xffff'0000u}) {
    guest().SendTooBig({.original = flow.AsSent(sequence), .mtu = 1300});
  }
  flow.ExpectNothing();
  flow.Send({});
  guest().SendTooBig({.original = flow.AsSent(1), .mtu = 1300});  // acknowledged by now
  flow.ExpectNothing();
  EXPECT_EQ(counters().path_mtu_updates, 0u);
  SendToGuest(connection, 14'600);
  EXPECT_EQ(LargestOf(flow), full_segment());
}

// An MTU that is no smaller changes nothing, and one that quotes no flow neither.
TEST_P(TcpPathMtuTest, LargerMtuAndOtherTuplesAreIgnored) {
  Connection connection = EstablishInFlight(14'600);
  GuestFlow& flow = connection.flow;
  flow.Forget();
  guest().SendTooBig({.original = flow.AsSent(1), .mtu = 1500});
  GuestSegment other = flow.AsSent(1);
  other.destination.port = 4;
  guest().SendTooBig({.original = other, .mtu = 1300});
  flow.ExpectNothing();
  EXPECT_EQ(counters().path_mtu_updates, 0u);
}

}  // namespace
}  // namespace penstock
