// How a datagram is cut into frames: what the guest gets when it puts them together by
// the rules, whatever the size, and what each frame says about itself.
#include "stack/wire/udp_frames.h"

#include <gtest/gtest.h>

#include "tests/support/packet_builder.h"

namespace penstock {
namespace {

constexpr size_t kEthernet = 14;

// One frame as the guest receives it, its buffers copied together.
struct Sent {
  Bytes frame;
  Offload offload;
};

class UdpFramesTest : public testing::TestWithParam<Family> {
 protected:
  [[nodiscard]] static Family family() { return GetParam(); }
  [[nodiscard]] static bool v4() { return family() == Family::kIpv4; }
  [[nodiscard]] static size_t header_bytes() { return v4() ? 20 : 48; }
  [[nodiscard]] static size_t payload_bytes_max() {
    return v4() ? kUdpPayloadBytesMaxIpv4 : kUdpPayloadBytesMaxIpv6;
  }

  UdpToGuest Datagram(const Bytes& payload) {
    return {.source = {Peer(family()), 53},
            .destination = {Guest(family()), 40'000},
            .payload = payload,
            .identification = 0x0102'0304};
  }

  std::vector<Sent> Send(const Bytes& payload) {
    std::vector<Sent> sent;
    UdpFrames frames(options_, Datagram(payload));
    while (const auto frame = frames.Next()) {
      sent.push_back({Concat(Bytes(frame->header.begin(), frame->header.end()), frame->payload),
                      frame->offload});
    }
    return sent;
  }

  // The bytes behind the IP headers of all fragments, each at its offset, with the rules
  // for a fragment checked on the way.
  Bytes Joined(const std::vector<Sent>& sent) {
    Bytes joined;
    for (size_t i = 0; i < sent.size(); ++i) {
      const auto packet = std::span(sent[i].frame).subspan(kEthernet);
      const bool last = i + 1 == sent.size();
      EXPECT_LE(packet.size(), options_.limits.mtu);
      const auto data = packet.subspan(header_bytes());
      EXPECT_TRUE(last || data.size() % 8 == 0);
      EXPECT_EQ(Offset(packet), joined.size());
      EXPECT_EQ(More(packet), !last);
      EXPECT_EQ(sent[i].offload.checksum, ChecksumState::kUnknown);
      // As much as fits: the next eight bytes would not have.
      EXPECT_TRUE(last || packet.size() + 8 > options_.limits.mtu);
      joined = Concat(joined, data);
    }
    return joined;
  }

  static size_t Offset(std::span<const uint8_t> packet) {
    return v4() ? (Get16(packet, 6) & 0x1fffu) * 8 : Get16(packet, 42) & 0xfff8u;
  }
  static bool More(std::span<const uint8_t> packet) {
    return v4() ? (Get16(packet, 6) & 0x2000) != 0 : (Get16(packet, 42) & 1) != 0;
  }

  void ExpectDatagram(const Bytes& udp, const Bytes& payload) {
    ASSERT_EQ(udp.size(), 8 + payload.size());
    EXPECT_EQ(Get16(udp, 0), 53);
    EXPECT_EQ(Get16(udp, 2), 40'000);
    EXPECT_EQ(Get16(udp, 4), udp.size());
    EXPECT_NE(Get16(udp, 6), 0) << "says that there is no checksum";
    EXPECT_EQ(SlowTransportSum(Peer(family()), Guest(family()), 17, udp), 0xffff);
    EXPECT_EQ(Bytes(udp.begin() + 8, udp.end()), payload);
  }

  UdpFrameOptions options_{
      .limits = {.link = {.gateway_mac = kGatewayMac, .guest_mac = kGuestMac}}};
};

INSTANTIATE_TEST_SUITE_P(Families, UdpFramesTest, testing::Values(Family::kIpv4, Family::kIpv6),
                         [](const auto& test) {
                           return test.param == Family::kIpv4 ? "Ipv4" : "Ipv6";
                         });

TEST_P(UdpFramesTest, WhatFitsIsOneFrame) {
  const size_t whole_max = 1500 - (v4() ? 20 : 40) - 8;
  for (const size_t length : {size_t{0}, size_t{1}, size_t{9}, whole_max}) {
    const Bytes payload = PatternBytes(length);
    const std::vector<Sent> sent = Send(payload);
    ASSERT_EQ(sent.size(), 1u) << length;
    EXPECT_EQ(sent[0].offload.checksum, ChecksumState::kComplete);
    const auto frame = std::span(sent[0].frame);
    EXPECT_EQ(Bytes(frame.begin(), frame.begin() + kEthernet),
              EthernetFrame({}, {.destination = kGuestMac,
                                 .source = kGatewayMac,
                                 .ether_type = v4() ? 0x0800 : 0x86dd}));
    if (v4()) {
      EXPECT_EQ(Get16(frame, kIpAt + 4), 0x0304) << "identification";
      EXPECT_EQ(Get16(frame, kIpAt + 6), 0x4000) << "don't fragment";
    }
    const auto udp = frame.subspan(TransportAt(family()));
    ExpectDatagram({udp.begin(), udp.end()}, payload);
  }
}

TEST_P(UdpFramesTest, AByteMoreMakesTwo) {
  EXPECT_EQ(Send(PatternBytes(1500 - (v4() ? 20 : 40) - 8 + 1)).size(), 2u);
}

TEST_P(UdpFramesTest, FragmentsAreTheDatagram) {
  for (const uint32_t mtu : {1280u, 1281u, 1287u, 1500u, 9000u}) {
    options_.limits.mtu = mtu;
    for (const size_t around : {size_t{1500}, size_t{2952}, size_t{8192}, size_t{65'500}}) {
      for (size_t length = around; length < around + 8; ++length) {
        const Bytes payload = PatternBytes(length);
        const std::vector<Sent> sent = Send(payload);
        if (sent.size() == 1) continue;
        ExpectDatagram(Joined(sent), payload);
      }
    }
  }
}

TEST_P(UdpFramesTest, TheLargestDatagramPassesEachMtu) {
  const Bytes payload = PatternBytes(payload_bytes_max());
  for (const uint32_t mtu : {1280u, 65'521u, 65'535u}) {
    options_.limits.mtu = mtu;
    const std::vector<Sent> sent = Send(payload);
    if (mtu == 65'535 && v4()) {
      EXPECT_EQ(sent.size(), 1u);
    } else {
      ExpectDatagram(Joined(sent), payload);
    }
  }
}

TEST_P(UdpFramesTest, FragmentsAreToldApartByTheirIdentification) {
  for (const Sent& sent : Send(PatternBytes(4000))) {
    if (v4()) {
      EXPECT_EQ(Get16(sent.frame, kIpAt + 4), 0x0304);
      EXPECT_EQ(Get16(sent.frame, kIpAt + 6) & 0x4000, 0) << "don't fragment";
      EXPECT_EQ(sent.frame[kIpAt + 9], 17);
      EXPECT_EQ(SlowSum(std::span(sent.frame).subspan(kIpAt, 20)), 0xffff);
    } else {
      EXPECT_EQ(sent.frame[kIpAt + 6], 44);
      EXPECT_EQ(sent.frame[kIpAt + 40], 17);
      EXPECT_EQ(Get32(sent.frame, kIpAt + 44), 0x0102'0304u);
    }
  }
}

TEST_P(UdpFramesTest, PayloadLeavesFromWhereItLies) {
  const Bytes payload = PatternBytes(4000);
  UdpFrames frames(options_, Datagram(payload));
  const uint8_t* at = payload.data();
  while (const auto frame = frames.Next()) {
    EXPECT_EQ(frame->payload.data(), at);
    at += frame->payload.size();
  }
  EXPECT_EQ(at, payload.data() + payload.size());
}

TEST_P(UdpFramesTest, PartialChecksumIsForWholeDatagrams) {
  options_.partial_checksum = true;
  const std::vector<Sent> sent = Send(PatternBytes(100));
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].offload.checksum, ChecksumState::kPartial);
  EXPECT_EQ(sent[0].offload.checksum_start, TransportAt(family()));
  EXPECT_EQ(sent[0].offload.checksum_offset, 6);
  EXPECT_EQ(Get16(sent[0].frame, TransportAt(family()) + 6),
            PseudoHeaderSum(Peer(family()), Guest(family()), 17, 108));
  const Bytes payload = PatternBytes(4000);
  ExpectDatagram(Joined(Send(payload)), payload);
}

TEST_P(UdpFramesTest, AChecksumOfZeroIsSentAsAllOnes) {
  // Two zero bytes replaced by their own checksum make the sum come out as 0.
  Bytes payload(2);
  std::array<uint8_t, 8> header;
  ASSERT_EQ(EmitUdpHeader(Datagram(payload), ChecksumState::kUnknown, header), 8u);
  Put16(payload, 0, Get16(header, 6));
  ASSERT_EQ(EmitUdpHeader(Datagram(payload), ChecksumState::kUnknown, header), 8u);
  EXPECT_EQ(Get16(header, 6), 0xffff);
}

TEST_P(UdpFramesTest, LinkWithoutEthernetHasNoLinkHeader) {
  options_.limits.link = {.ethernet = false};
  options_.partial_checksum = true;
  const std::vector<Sent> sent = Send(PatternBytes(10));
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].frame.size(), TransportAt(family()) - kIpAt + 18);
  EXPECT_EQ(sent[0].frame[0] >> 4, v4() ? 4 : 6);
  EXPECT_EQ(sent[0].offload.checksum_start, TransportAt(family()) - kIpAt);
}

// An echo reply, say, longer than the MTU.
TEST_P(UdpFramesTest, WhatWasEmittedWholeIsCutToo) {
  const Bytes message = PatternBytes(4000);
  Bytes packet(48);
  const IpHeaderFields ip{.source = Peer(family()),
                          .destination = Guest(family()),
                          .protocol = 1,
                          .hop_limit = 33,
                          .payload_bytes = static_cast<uint32_t>(message.size())};
  packet.resize(EmitIpHeader(ip, packet));
  packet = Concat(packet, message);
  std::vector<Sent> sent;
  IpFrames frames = IpFrames::Of(options_.limits, packet, 7);
  while (const auto frame = frames.Next()) {
    sent.push_back({Concat(Bytes(frame->header.begin(), frame->header.end()), frame->payload),
                    frame->offload});
  }
  EXPECT_EQ(Joined(sent), message);
  for (const Sent& each : sent) {
    const auto header = std::span(each.frame).subspan(kIpAt);
    EXPECT_EQ(header[v4() ? 8 : 7], 33);
    EXPECT_EQ(header[v4() ? 9 : 40], 1);
    EXPECT_EQ(Get16(header, v4() ? 4 : 46), 7);
  }
}

TEST_P(UdpFramesTest, WhatNoHeaderCanSayIsNotSent) {
  EXPECT_FALSE(Send(Bytes(payload_bytes_max())).empty());
  EXPECT_TRUE(Send(Bytes(payload_bytes_max() + 1)).empty());
  options_.limits.mtu = 27;
  EXPECT_TRUE(Send(Bytes(10)).empty());
}

}  // namespace
}  // namespace penstock
