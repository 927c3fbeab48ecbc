// Whatever a guest sends: no read outside the frame (the sanitizers see it, the
// buffer is exactly as long as the frame) and, where Parse accepts, views that lie
// within each other and fields that agree with the bytes.
#include <gtest/gtest.h>

#include <random>

#include "stack/wire/icmp.h"
#include "tests/support/packet_builder.h"

namespace penstock {
namespace {

constexpr int kIterations = 200'000;

std::vector<Bytes> Seeds() {
  const Bytes quoted4 = IpPacket({.source = kPeer4, .destination = kGuest4}, TcpSegment({}));
  const Bytes quoted6 = IpPacket({.source = kPeer6, .destination = kGuest6}, TcpSegment({}));
  std::vector<Bytes> seeds{ArpFrame({})};
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    seeds.push_back(TcpFrame(
        family, {.flags = kTcpSyn,
                 .options = {2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7}}));
    seeds.push_back(TcpFrame(family, {.flags = kTcpAck | kTcpPsh, .payload = Bytes(64, 0x55)}));
    seeds.push_back(UdpFrame(family, {.payload = Bytes(16, 0xaa)}));
    seeds.push_back(EthernetFrame(IpPacket({.source = Guest(family), .destination = Peer(family)},
                                           EchoRequest(family, Bytes(8, 1)))));
  }
  seeds.push_back(EthernetFrame(
      IpPacket({.source = kGuest4, .destination = kPeer4, .options = {7, 7, 4, 0, 0, 0, 0, 1}},
               Icmpv4Message({.type = 3, .code = 4, .rest_of_header = 1400, .body = quoted4}))));
  seeds.push_back(
      EthernetFrame(IpPacket({.source = kGuest6, .destination = kPeer6},
                             Icmpv6Message({.type = 2, .rest_of_header = 1400, .body = quoted6}))));
  seeds.push_back(EthernetFrame(IpPacket({.source = kGuest6,
                                          .destination = kGateway6,
                                          .hop_limit = 255,
                                          .extensions = {{0, {0, 5, 2, 0, 0, 1, 0}}, {60, {0}}}},
                                         Solicitation(kGateway6, {1, 1, 2, 0, 0, 0, 0, 0x15}))));
  return seeds;
}

Bytes Mutated(Bytes frame, std::mt19937& random) {
  for (uint32_t count = random() % 4; count > 0 && !frame.empty(); --count) {
    const size_t at = random() % frame.size();
    switch (random() % 6) {
      case 0:
        frame[at] = static_cast<uint8_t>(random());
        break;
      case 1:
        frame[at] = static_cast<uint8_t>(frame[at] ^ 1u << random() % 8);
        break;
      case 2:
        frame[at] = random() % 2 == 0 ? 0 : 0xff;
        break;
      case 3:
        frame[at] = static_cast<uint8_t>(frame[at] + random() % 5 - 2);
        break;
      case 4:
        frame.resize(at);
        break;
      default:
        frame.resize(frame.size() + random() % 40);
        break;
    }
  }
  // Half of the headers are made consistent again, so that mutations get past the
  // first checksum.
  if (random() % 2 == 0 && frame.size() >= kTransport4At + 40 && frame[kIpAt] >> 4 == 4) {
    FixIpv4Checksum(frame);
  }
  return frame;
}

Offload RandomOffload(std::mt19937& random) {
  if (random() % 4 == 0) return {};
  if (random() % 2 == 0) return {.checksum = ChecksumState::kComplete};
  return {
      .checksum = static_cast<ChecksumState>(random() % 3),
      .gso = static_cast<Gso>(random() % 4),
      .checksum_start = static_cast<uint16_t>(random() % 2 == 0 ? kTransport4At : kTransport6At),
      .checksum_offset = static_cast<uint16_t>(random() % 2 == 0 ? 16 : random() % 64),
      .segment_bytes = static_cast<uint16_t>(random() % 3),
      .header_bytes = static_cast<uint16_t>(random())};
}

bool Within(std::span<const uint8_t> inner, std::span<const uint8_t> outer) {
  return inner.data() >= outer.data() && inner.data() + inner.size() <= outer.data() + outer.size();
}

void CheckTcp(const Packet& packet) {
  ASSERT_GE(packet.tcp.header_bytes, 20);
  ASSERT_EQ(packet.transport.size(), packet.tcp.header_bytes + packet.payload.size());
  ASSERT_EQ(packet.transport[12] >> 4, packet.tcp.header_bytes / 4);
  ASSERT_EQ(Get16(packet.transport, 0), packet.source_port);
  ASSERT_EQ(packet.transport[13], packet.tcp.flags);
  ASSERT_EQ(packet.tcp.flags & (kTcpUrg | kTcpEce | kTcpCwr), 0);
  // Options, walked once more without help: each fits, none is left to lwIP that
  // only a SYN may carry.
  for (size_t at = 20; at < packet.tcp.header_bytes && packet.transport[at] != 0;) {
    const uint8_t kind = packet.transport[at];
    if (kind == 1) {
      ++at;
      continue;
    }
    ASSERT_LT(at + 1, packet.tcp.header_bytes);
    const size_t length = packet.transport[at + 1];
    ASSERT_GE(length, 2u);
    ASSERT_LE(at + length, packet.tcp.header_bytes);
    const bool syn = (packet.tcp.flags & kTcpSyn) != 0;
    ASSERT_TRUE(syn || kind < 2 || kind > 4) << int{kind};
    ASSERT_TRUE(kind != 2 || length == 4) << length;
    ASSERT_TRUE(kind != 3 || length == 3) << length;
    at += length;
  }
}

void CheckPacket(const Parsed& parsed) {
  const Packet& packet = parsed.packet();
  ASSERT_TRUE(Within(packet.transport, parsed.bytes));
  if (packet.protocol == Protocol::kArp) {
    ASSERT_EQ(packet.transport.size(), 28u);
    return;
  }
  ASSERT_TRUE(Within(packet.ip, parsed.bytes));
  ASSERT_TRUE(Within(packet.transport, packet.ip));
  ASSERT_EQ(packet.source.family, packet.destination.family);
  ASSERT_EQ(packet.ip[0] >> 4, packet.source.is_v4() ? 4 : 6);
  if (packet.protocol == Protocol::kTcp) {
    ASSERT_TRUE(Within(packet.payload, packet.transport));
    CheckTcp(packet);
  } else if (packet.protocol == Protocol::kUdp) {
    ASSERT_TRUE(Within(packet.payload, packet.transport));
    ASSERT_EQ(packet.transport.size(), 8 + packet.payload.size());
  } else {
    ASSERT_GE(packet.transport.size(), 8u);
    const auto report = ParsePathMtu(packet);
    ASSERT_TRUE(!report || report->source.address == packet.destination);
  }
}

TEST(ParseMutationTest, AcceptedPacketsAreSoundAndNothingElseHappens) {
  std::mt19937 random(20'240'607);
  const std::vector<Bytes> seeds = Seeds();
  int accepted = 0;
  for (int i = 0; i < kIterations; ++i) {
    const Bytes frame = Mutated(seeds[random() % seeds.size()], random);
    ParseOptions options = TestParseOptions();
    options.unsegmented_tcp_to_host = random() % 2 == 0;
    options.ethernet = random() % 16 != 0;
    const Parsed parsed = ParseFrame(frame, options, RandomOffload(random));
    if (!parsed.ok()) continue;
    ++accepted;
    ASSERT_NO_FATAL_FAILURE(CheckPacket(parsed)) << "iteration " << i;
  }
  // Enough got through to mean something, and enough did not.
  EXPECT_GT(accepted, kIterations / 20);
  EXPECT_LT(accepted, kIterations * 9 / 10);
}

}  // namespace
}  // namespace penstock
