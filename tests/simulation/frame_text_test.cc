// The text of each kind of frame, of every truncation of it, and of noise. Each frame
// stands in memory of exactly its size, so that the address sanitizer sees every read
// behind its end.
#include "tests/world/frame_text.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>

#include "tests/support/guest_segment.h"
#include "tests/support/packet_builder.h"

namespace penstock {
namespace {

std::string Describe(const Bytes& frame, const Offload& offload = {}) {
  const auto exact = std::make_unique<uint8_t[]>(frame.size());
  std::copy(frame.begin(), frame.end(), exact.get());
  return DescribeFrame({exact.get(), frame.size()}, offload);
}

Bytes Ip(Family family, const Transport& transport) {
  return EthernetFrame(IpPacket({.source = Guest(family), .destination = Peer(family)}, transport));
}

GuestSegment Segment(Family family) {
  return {.source = {Guest(family), 40'001},
          .destination = {Peer(family), 80},
          .flags = kTcpAck | kTcpSyn,
          .sequence = 0x1234,
          .acknowledgement = 0x99,
          .window = 65'535};
}

// One of each kind that the text knows.
std::map<std::string, Bytes> Kinds() {
  GuestSegment sacked = Segment(Family::kIpv4);
  sacked.flags = kTcpAck;
  sacked.sack = {{.begin = 0x10, .end = 0x20}, {.begin = 0x30, .end = 0x40}};
  const TooBig report{.original = Segment(Family::kIpv6), .mtu = 1280};
  TooBig report4{.original = Segment(Family::kIpv4), .mtu = 1400};
  return {
      {"tcp4", TcpFrame(Family::kIpv4, {.flags = kTcpSyn, .options = {2, 4, 5, 0xb4, 3, 3, 7}})},
      {"tcp6", TcpFrame(Family::kIpv6, {.flags = kTcpAck | kTcpFin, .payload = Bytes(5)})},
      {"sack", EncodeFrame({}, sacked).bytes},
      {"udp4", UdpFrame(Family::kIpv4, {.payload = Bytes(7)})},
      {"udp6", UdpFrame(Family::kIpv6, {.payload = Bytes(7)})},
      {"arp", ArpFrame({})},
      {"echo4", Ip(Family::kIpv4, EchoRequest(Family::kIpv4, Bytes(4)))},
      {"echo6", Ip(Family::kIpv6, EchoRequest(Family::kIpv6, Bytes(4)))},
      {"nd", Ip(Family::kIpv6, Solicitation(kGateway6, {1, 1, 2, 0, 0, 0, 0, 0x15}))},
      {"too big 4", EncodeTooBig({}, report4).bytes},
      {"too big 6", EncodeTooBig({}, report).bytes},
  };
}

TEST(FrameTextTest, EachKindHasItsLine) {
  const auto kinds = Kinds();
  const std::map<std::string, std::string> expected = {
      {"tcp4", "10.0.2.15:40000 > 192.0.2.80:80 S 0x3e8:0x3e9(0) win 64240 <mss 1460,wscale 7>"},
      {"tcp6", "[fd00::15]:40000 > [2001:db8::80]:80 FA 0x3e8:0x3ee(5) ack 0x0 win 64240"},
      {"sack",
       "10.0.2.15:40001 > 192.0.2.80:80 . 0x1234:0x1234(0) ack 0x99 win 65535 "
       "<sack 0x10:0x20 0x30:0x40>"},
      {"udp4", "10.0.2.15:40000 > 192.0.2.80:53 udp 7"},
      {"udp6", "[fd00::15]:40000 > [2001:db8::80]:53 udp 7"},
      {"arp", "arp who has 10.0.2.2? tell 10.0.2.15"},
      {"nd", "fd00::15 > 2001:db8::80 nd who has fd00::2 from 02:00:00:00:00:15"},
      {"too big 4",
       "192.0.2.80 > 10.0.2.15 icmp too big, mtu 1400 (10.0.2.15:40001 > 192.0.2.80:80 SA "
       "0x1234:0x1235(0) ack 0x99 win 65535)"},
      {"too big 6",
       "2001:db8::80 > fd00::15 icmp too big, mtu 1280 ([fd00::15]:40001 > [2001:db8::80]:80 SA "
       "0x1234:0x1235(0) ack 0x99 win 65535)"},
  };
  for (const auto& [kind, line] : expected) EXPECT_EQ(Describe(kinds.at(kind)), line) << kind;
  EXPECT_TRUE(Describe(kinds.at("echo4")).starts_with("10.0.2.15 > 192.0.2.80 icmp echo request"));
  EXPECT_TRUE(Describe(kinds.at("echo6")).starts_with("fd00::15 > 2001:db8::80 icmp echo request"));
}

TEST(FrameTextTest, SuperSegmentsAreCounted) {
  GuestSegment segment = Segment(Family::kIpv4);
  segment.flags = kTcpAck;
  segment.payload = std::string(4'000, 'x');
  segment.offload = {.gso = Gso::kTcp4, .segment_bytes = 1460};
  const EncodedFrame frame = EncodeFrame({}, segment);
  EXPECT_EQ(Describe(frame.bytes, frame.offload),
            "10.0.2.15:40001 > 192.0.2.80:80 . 0x1234:0x21d4(4000) ack 0x99 win 65535 "
            "gso 1460x3");
  // What the header claims need not be true.
  EXPECT_TRUE(Describe(frame.bytes, {.gso = Gso::kTcp4}).ends_with("gso 0x0"));
}

TEST(FrameTextTest, ArpReplyAndErrorsOfTheStack) {
  EXPECT_EQ(Describe(ArpFrame({.operation = 2, .target = kGateway4})),
            "arp 10.0.2.15 is at 02:00:00:00:00:15");
  EXPECT_TRUE(Describe(ArpFrame({.operation = 7})).starts_with("arp operation 7, 28 bytes: 00 01"));
  const Bytes quoted = TcpFrame(Family::kIpv4, {.flags = kTcpSyn});
  const Bytes body(quoted.begin() + kIpAt, quoted.end());
  EXPECT_EQ(Describe(Ip(Family::kIpv4, Icmpv4Message({.type = 3, .code = 1, .body = body}))),
            "10.0.2.15 > 192.0.2.80 icmp host unreachable (10.0.2.15:40000 > 192.0.2.80:80 S "
            "0x3e8:0x3e9(0) win 64240)");
  EXPECT_TRUE(Describe(Ip(Family::kIpv4, Icmpv4Message({.type = 3, .code = 99, .body = body})))
                  .starts_with("10.0.2.15 > 192.0.2.80 icmp unreachable, code 99 (10.0.2.15:"));
}

TEST(FrameTextTest, UnknownKindsAreNamedAndShown) {
  EXPECT_EQ(Describe(EthernetFrame({1, 2, 3}, {.ether_type = 0x88cc})),
            "ethernet type 0x88cc, 3 bytes: 01 02 03");
  EXPECT_EQ(Describe(Ip(Family::kIpv4, {.protocol = 132, .bytes = {9, 8}})),
            "10.0.2.15 > 192.0.2.80 protocol 132, 2 bytes: 09 08");
  EXPECT_EQ(Describe(EthernetFrame(
                IpPacket({.source = kGuest4, .destination = kPeer4, .fragment_field = 0x2000 | 185},
                         {.protocol = 17, .bytes = Bytes(24)}))),
            "10.0.2.15 > 192.0.2.80 protocol 17 fragment 1480+24, more");
  EXPECT_EQ(
      Describe(EthernetFrame(FragmentPacket({.source = kGuest6, .destination = kPeer6},
                                            {.offset = 1448, .data = Bytes(24), .protocol = 6}))),
      "fd00::15 > 2001:db8::80 protocol 6 fragment 1448+24");
  EXPECT_EQ(Describe(Bytes{}), "ethernet cut short, 0 bytes");
}

TEST(FrameTextTest, MalformedTcpIsSaidToBe) {
  Bytes options = TcpFrame(Family::kIpv4, {.flags = kTcpSyn, .options = {2, 4, 5, 0xb4, 3, 9}});
  EXPECT_TRUE(Describe(options).ends_with("<mss 1460,malformed>")) << Describe(options);
  Bytes header = TcpFrame(Family::kIpv4, {});
  Put8(header, kTransport4At + 12, 0x40);
  EXPECT_NE(Describe(header).find("tcp with a header of 16 bytes"), std::string::npos);
  Put8(header, kTransport4At + 12, 0xf0);
  EXPECT_NE(Describe(header).find("tcp with a header of 60 bytes"), std::string::npos);
}

// Every prefix of every kind, as bytes that simply end and as a packet whose length
// field still claims the whole.
TEST(FrameTextTest, EveryTruncationHasALine) {
  for (const auto& [kind, frame] : Kinds()) {
    const std::string whole = Describe(frame);
    for (size_t length = 0; length < frame.size(); ++length) {
      const std::string text = Describe(Bytes(frame.begin(), frame.begin() + length));
      EXPECT_FALSE(text.empty()) << kind << " of " << length;
      EXPECT_EQ(text.find('\n'), std::string::npos) << kind << " of " << length;
      // Further behind, what is missing may be what no text shows.
      EXPECT_TRUE(length >= kIpAt + 20 || text != whole) << kind << " of " << length;
    }
  }
}

// Noise, and frames with one byte changed.
TEST(FrameTextTest, NoiseHasALine) {
  std::mt19937 random(1);
  for (const auto& [kind, frame] : Kinds()) {
    for (int i = 0; i < 2'000; ++i) {
      Bytes changed = frame;
      changed[random() % changed.size()] = static_cast<uint8_t>(random());
      changed.resize(changed.size() - random() % 3);
      EXPECT_FALSE(Describe(changed).empty()) << kind;
    }
  }
  for (int i = 0; i < 2'000; ++i) {
    Bytes noise(random() % 120);
    for (uint8_t& byte : noise) byte = static_cast<uint8_t>(random());
    if (noise.size() > 14) Put16(noise, 12, i % 2 == 0 ? 0x0800 : 0x86dd);
    EXPECT_FALSE(Describe(noise, {.gso = Gso::kTcp4}).empty());
  }
}

}  // namespace
}  // namespace penstock
