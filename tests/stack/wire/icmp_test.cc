// What a guest's ICMP errors say about segments of ours, and what they may not say.
#include "stack/wire/icmp.h"

#include <gtest/gtest.h>

#include "tests/support/packet_builder.h"

namespace penstock {
namespace {

// The head of a segment that the stack sent, as an ICMP error quotes it.
Bytes Quoted(Family family, size_t length = 1000) {
  Bytes packet = IpPacket({.source = Peer(family), .destination = Guest(family)},
                          TcpSegment({.source_port = 80,
                                      .destination_port = 40'000,
                                      .sequence = 0x89abcdef,
                                      .payload = Bytes(1400)}));
  packet.resize(length);
  return packet;
}

Transport TooBig(Family family, uint32_t mtu, const Bytes& quoted) {
  if (family == Family::kIpv4) {
    return Icmpv4Message({.type = 3, .code = 4, .rest_of_header = mtu, .body = quoted});
  }
  return Icmpv6Message({.type = 2, .rest_of_header = mtu, .body = quoted});
}

std::optional<PathMtuReport> Report(Family family, const Transport& message) {
  const Parsed parsed = ParseFrame(
      EthernetFrame(IpPacket({.source = Guest(family), .destination = Peer(family)}, message)));
  EXPECT_EQ(parsed.outcome(), "parsed");
  return parsed.ok() ? ParsePathMtu(parsed.packet()) : std::nullopt;
}

class PathMtuTest : public testing::TestWithParam<Family> {
 protected:
  [[nodiscard]] static Family family() { return GetParam(); }
  [[nodiscard]] static size_t header_bytes() { return TransportAt(family()) - kIpAt; }
};

INSTANTIATE_TEST_SUITE_P(Families, PathMtuTest, testing::Values(Family::kIpv4, Family::kIpv6),
                         [](const auto& test) {
                           return test.param == Family::kIpv4 ? "Ipv4" : "Ipv6";
                         });

TEST_P(PathMtuTest, SaysWhichSegmentAndHowMuchFits) {
  const auto report = Report(family(), TooBig(family(), 1400, Quoted(family())));
  ASSERT_TRUE(report.has_value());
  EXPECT_EQ(report->source, (Endpoint{Peer(family()), 80}));
  EXPECT_EQ(report->destination, (Endpoint{Guest(family()), 40'000}));
  EXPECT_EQ(report->sequence, 0x89abcdefu);
  EXPECT_EQ(report->mtu, 1400u);
}

TEST_P(PathMtuTest, EightBytesOfTcpAreEnoughAndSevenAreNot) {
  EXPECT_TRUE(Report(family(), TooBig(family(), 1400, Quoted(family(), header_bytes() + 8))));
  for (size_t length = 0; length < header_bytes() + 8; ++length) {
    EXPECT_FALSE(Report(family(), TooBig(family(), 1400, Quoted(family(), length)))) << length;
  }
}

TEST_P(PathMtuTest, QuoteMustBeFromWhomTheErrorWasSentTo) {
  Bytes quoted = Quoted(family());
  quoted[family() == Family::kIpv4 ? 15 : 23] ^= 1;  // last byte of the source
  EXPECT_FALSE(Report(family(), TooBig(family(), 1400, quoted)));
}

TEST_P(PathMtuTest, QuoteMustBeTcpOfTheSameFamily) {
  Bytes udp = Quoted(family());
  udp[family() == Family::kIpv4 ? 9 : 6] = 17;
  EXPECT_FALSE(Report(family(), TooBig(family(), 1400, udp)));
  Bytes version = Quoted(family());
  version[0] = 0x55;
  EXPECT_FALSE(Report(family(), TooBig(family(), 1400, version)));
}

TEST_P(PathMtuTest, OtherMessagesSayNothing) {
  EXPECT_FALSE(Report(family(), EchoRequest(family(), Quoted(family()))));
  const bool v4 = family() == Family::kIpv4;
  const Transport unreachable =
      v4 ? Icmpv4Message({.type = 3, .code = 3, .rest_of_header = 1400, .body = Quoted(family())})
         : Icmpv6Message({.type = 1, .code = 4, .rest_of_header = 1400, .body = Quoted(family())});
  EXPECT_FALSE(Report(family(), unreachable));
  const Parsed tcp = ParseFrame(TcpFrame(family(), {}));
  EXPECT_FALSE(ParsePathMtu(tcp.packet()));
}

TEST_P(PathMtuTest, WithoutAnMtuItSaysNothing) {
  EXPECT_FALSE(Report(family(), TooBig(family(), 0, Quoted(family()))));
}

TEST(PathMtuOfIpv4Test, QuotedHeaderLengthIsChecked) {
  for (const int first : {0x40, 0x44, 0x4f}) {
    Bytes quoted = Quoted(Family::kIpv4, 40);
    quoted[0] = static_cast<uint8_t>(first);
    EXPECT_FALSE(Report(Family::kIpv4, TooBig(Family::kIpv4, 1400, quoted))) << first;
  }
}

TEST(PathMtuOfIpv4Test, LaterFragmentsHaveNoPorts) {
  Bytes quoted = Quoted(Family::kIpv4);
  Put16(quoted, 6, 0x2001);
  EXPECT_FALSE(Report(Family::kIpv4, TooBig(Family::kIpv4, 1400, quoted)));
}

Transport Unreachable(Family family, uint8_t code, const Bytes& quoted) {
  return family == Family::kIpv4 ? Icmpv4Message({.type = 3, .code = code, .body = quoted})
                                 : Icmpv6Message({.type = 1, .code = code, .body = quoted});
}

std::optional<QuotedSegment> Rejected(Family family, const Transport& message) {
  const Parsed parsed = ParseFrame(
      EthernetFrame(IpPacket({.source = Guest(family), .destination = Peer(family)}, message)));
  EXPECT_EQ(parsed.outcome(), "parsed");
  return parsed.ok() ? ParseUnreachable(parsed.packet()) : std::nullopt;
}

class UnreachableTest : public PathMtuTest {};

INSTANTIATE_TEST_SUITE_P(Families, UnreachableTest, testing::Values(Family::kIpv4, Family::kIpv6),
                         [](const auto& test) {
                           return test.param == Family::kIpv4 ? "Ipv4" : "Ipv6";
                         });

TEST_P(UnreachableTest, SaysWhichSegmentWasRejected) {
  for (const uint8_t code : {0, 1, 3, 5, 13}) {
    const auto segment = Rejected(family(), Unreachable(family(), code, Quoted(family())));
    ASSERT_TRUE(segment.has_value()) << int{code};
    EXPECT_EQ(segment->source, (Endpoint{Peer(family()), 80}));
    EXPECT_EQ(segment->destination, (Endpoint{Guest(family()), 40'000}));
    EXPECT_EQ(segment->sequence, 0x89abcdefu);
  }
}

TEST_P(UnreachableTest, EightBytesOfTcpAreEnoughAndSevenAreNot) {
  EXPECT_TRUE(Rejected(family(), Unreachable(family(), 3, Quoted(family(), header_bytes() + 8))));
  for (size_t length = 0; length < header_bytes() + 8; ++length) {
    EXPECT_FALSE(Rejected(family(), Unreachable(family(), 3, Quoted(family(), length)))) << length;
  }
}

TEST_P(UnreachableTest, QuoteMustBeFromWhomTheErrorWasSentTo) {
  Bytes quoted = Quoted(family());
  quoted[family() == Family::kIpv4 ? 15 : 23] ^= 1;  // last byte of the source
  EXPECT_FALSE(Rejected(family(), Unreachable(family(), 3, quoted)));
}

TEST_P(UnreachableTest, OtherMessagesRejectNothing) {
  EXPECT_FALSE(Rejected(family(), EchoRequest(family(), Quoted(family()))));
  EXPECT_FALSE(Rejected(family(), TooBig(family(), 1400, Quoted(family()))));
  EXPECT_FALSE(ParseUnreachable(ParseFrame(TcpFrame(family(), {})).packet()));
}

}  // namespace
}  // namespace penstock
