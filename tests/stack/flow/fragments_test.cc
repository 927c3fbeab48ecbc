// TCP segments that come in IP fragments: to the flow they are segments like any other,
// kept where they were put together if they are large, and lost as a whole.
#include "stack/wire/reassembly.h"
#include "tests/stack/flow/flow_fixture.h"
#include "tests/support/packet_builder.h"

namespace penstock {
namespace {

class TcpFragmentsTest : public FlowTest {
 protected:
  // What fits 1500 bytes in each fragment.
  [[nodiscard]] uint32_t fragment_bytes() const { return v4() ? 1480 : 1448; }
};
PENSTOCK_BOTH_FAMILIES(TcpFragmentsTest);

TEST_P(TcpFragmentsTest, ASynIsAnsweredWhenAllOfItCame) {
  Start();
  GuestFlow& flow = guest().Flow(listener().port());
  // A header of 32 bytes; IPv6 wants 20 of them in the first fragment.
  flow.Send({.flags = kTcpSyn,
             .mss = 1400,
             .window_scale = 0,
             .sack_permitted = true,
             .fragment_bytes = v4() ? 8u : 24u});
  EXPECT_EQ(flow.Expect(kTcpSyn | kTcpAck).acknowledgement, 1u);
  EXPECT_EQ(counters().flows_opened, 1u);
  EXPECT_EQ(counters().frames_consumed, v4() ? 4u : 2u);
}

TEST_P(TcpFragmentsTest, SegmentsOfAnySizeReachTheHost) {
  Connection connection = Establish();
  std::string sent;
  // Copied, and kept in the buffer that they were put together in (from 16 KiB on).
  for (const size_t length : {size_t{1'000}, size_t{3'000}, size_t{16'384}, size_t{16'385},
                              size_t{40'000}, size_t{60'000}}) {
    const std::string payload = Pattern(length, static_cast<uint32_t>(length));
    connection.flow.Send({.payload = payload, .fragment_bytes = fragment_bytes()});
    sent += payload;
    ReadTo(connection.host, sent.size());
    guest().Until("the window", [&] {
      connection.flow.Send({});
      return connection.flow.window_left() >= 60'000;
    });
  }
  EXPECT_EQ(connection.host.received(), sent);
  EXPECT_EQ(counters().fragments_held, 0u);
  EXPECT_EQ(counters().drops_total(), 0u);
  ExpectAlive(connection);
}

TEST_P(TcpFragmentsTest, WhatIsNotWholeIsLost) {
  Connection connection = Establish();
  GuestFlow& flow = connection.flow;
  const uint32_t sequence = flow.next();
  flow.Queue({.payload = Pattern(3'000), .fragment_bytes = fragment_bytes()});
  // The link loses the first fragment.
  std::vector<FrameToHost> lost(1);
  Bytes room(kFrameBytesMax);
  lost[0].room = room;
  ASSERT_EQ(guest().link().Receive(guest().now(), lost), 1u);
  guest().Pump();
  EXPECT_EQ(counters().fragments_held, 2u);
  EXPECT_LE(guest().deadline(), guest().now() + Reassembly::kLifetime);
  // Sent again as a guest does it, with another identification.
  flow.Send({.sequence = sequence, .payload = Pattern(3'000), .fragment_bytes = fragment_bytes()});
  ReadTo(connection.host, 3'000);
  EXPECT_EQ(connection.host.received(), Pattern(3'000));
  guest().Advance(Reassembly::kLifetime);
  EXPECT_EQ(counters().drops_of(DropCause::kFragmentTimeout), 2u);
  EXPECT_EQ(counters().fragments_held, 0u);
  // One that came, and is not there for the fixture to count.
  guest().link().PushToHost(Bytes(13));
}

TEST_P(TcpFragmentsTest, ABadChecksumCostsTheWholeSegment) {
  Connection connection = Establish();
  GuestFlow& flow = connection.flow;
  flow.Queue({.payload = Pattern(3'000), .fragment_bytes = fragment_bytes()});
  std::vector<FrameToHost> frames(4);
  std::vector<Bytes> rooms(4, Bytes(kFrameBytesMax));
  for (size_t i = 0; i < frames.size(); ++i) frames[i].room = rooms[i];
  ASSERT_EQ(guest().link().Receive(guest().now(), frames), 3u);
  frames[1].bytes().back() ^= 1;
  for (size_t i = 0; i < 3; ++i) guest().link().PushToHost(frames[i].bytes());
  guest().Pump();
  EXPECT_EQ(counters().drops_of(DropCause::kTcpChecksum), 3u);
}

}  // namespace
}  // namespace penstock
