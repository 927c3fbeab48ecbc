// Fragments through the whole stack: put together, answered, and the answer cut to the
// MTU again; time, counts and addresses on the way.
#include <gtest/gtest.h>

#include <memory>

#include "stack/stack.h"
#include "stack/wire/reassembly.h"
#include "tests/support/memory_link.h"
#include "tests/support/packet_builder.h"

namespace penstock {
namespace {

using namespace std::chrono_literals;

constexpr Time kFragmentsStart = Time{} + std::chrono::hours(24);

class StackFragmentsTest : public testing::TestWithParam<Family> {
 protected:
  StackFragmentsTest() { Start(); }
  ~StackFragmentsTest() override { ExpectBalance(); }

  [[nodiscard]] static Family family() { return GetParam(); }
  [[nodiscard]] static bool v4() { return family() == Family::kIpv4; }
  [[nodiscard]] static IpAddress Gateway() { return v4() ? kGateway4 : kGateway6; }
  [[nodiscard]] static IpSpec ToGateway() {
    return {.source = Guest(family()), .destination = Gateway()};
  }
  [[nodiscard]] static size_t fragment_bytes() { return v4() ? 1480 : 1448; }

  void Start(const Config& config = {}, LinkCapabilities capabilities = {}) {
    auto owned = std::make_unique<MemoryLink>(capabilities);
    link_ = owned.get();
    stack_ = Stack::Create(config, std::move(owned)).value();
  }

  Time Send(const Bytes& packet) {
    link_->PushToHost(EthernetFrame(packet));
    return stack_->Poll(now_);
  }
  void SendAll(const std::vector<Bytes>& packets) {
    for (const Bytes& packet : packets) link_->PushToHost(EthernetFrame(packet));
    while (stack_->Poll(now_) == now_) {
    }
  }

  // What the guest has got: the transport part of one datagram from the gateway, in one
  // frame or in fragments in order. Each frame fits the MTU.
  Bytes Received(uint8_t protocol) {
    Bytes transport;
    bool more = true;
    while (more) {
      const auto frame = link_->PopToGuest();
      if (!frame) {
        ADD_FAILURE() << "no frame after " << transport.size() << " bytes";
        return transport;
      }
      const auto packet = std::span(frame->bytes).subspan(kIpAt);
      EXPECT_LE(packet.size(), 1500u);
      const bool fragmented = !v4() && packet[6] == 44;
      const size_t header_bytes = v4() ? 20 : fragmented ? 48 : 40;
      const uint16_t field = v4()         ? static_cast<uint16_t>(Get16(packet, 6) << 3)
                             : fragmented ? Get16(packet, 42)
                                          : uint16_t{0};
      more = v4() ? (packet[6] & 0x20) != 0 : (field & 1) != 0;
      EXPECT_EQ(field & 0xfff8, transport.size());
      EXPECT_EQ(v4() ? packet[9] : fragmented ? packet[40] : packet[6], protocol);
      transport = Concat(transport, packet.subspan(header_bytes));
    }
    EXPECT_EQ(SlowTransportSum(Gateway(), Guest(family()), protocol, transport), 0xffff);
    return transport;
  }

  void ExpectBalance() {
    const CounterSnapshot counters = stack_->Snapshot();
    EXPECT_EQ(counters.frames_to_host,
              counters.frames_consumed + counters.drops_total() + counters.fragments_held);
  }
  [[nodiscard]] uint64_t drops(DropCause cause) const { return stack_->Snapshot().drops_of(cause); }

  Time now_ = kFragmentsStart;
  MemoryLink* link_ = nullptr;
  std::unique_ptr<Stack> stack_;
};

INSTANTIATE_TEST_SUITE_P(Families, StackFragmentsTest,
                         testing::Values(Family::kIpv4, Family::kIpv6), [](const auto& test) {
                           return test.param == Family::kIpv4 ? "Ipv4" : "Ipv6";
                         });

// Linux's `ping -s`, up to the largest.
TEST_P(StackFragmentsTest, EchoOfAnySizeIsAnswered) {
  const size_t data_bytes_max = v4() ? 65'507 : 65'527;
  for (const size_t length : {size_t{1'473}, size_t{8'000}, data_bytes_max}) {
    Bytes data(length);
    for (size_t i = 0; i < length; ++i) data[i] = static_cast<uint8_t>(i * 7 + i / 256);
    const auto packets =
        FragmentPackets(ToGateway(), EchoRequest(family(), data), fragment_bytes());
    const uint64_t before = stack_->Snapshot().frames_consumed;
    SendAll(packets);
    const Bytes reply = Received(v4() ? 1 : 58);
    ASSERT_EQ(reply.size(), 8 + length);
    EXPECT_EQ(reply[0], v4() ? 0 : 129);
    EXPECT_EQ(Bytes(reply.begin() + 8, reply.end()), data);
    EXPECT_EQ(stack_->Snapshot().frames_consumed, before + packets.size());
    EXPECT_FALSE(link_->PopToGuest());
  }
  EXPECT_EQ(stack_->Snapshot().drops_total(), 0u);
}

TEST_P(StackFragmentsTest, RepliesInFragmentsHaveIdentificationsOfTheirOwn) {
  const auto packets = FragmentPackets(ToGateway(), EchoRequest(family(), Bytes(2'000)), 1'000);
  std::vector<uint16_t> seen;
  for (int i = 0; i < 2; ++i) {
    SendAll(packets);
    while (const auto frame = link_->PopToGuest()) {
      seen.push_back(Get16(frame->bytes, kIpAt + (v4() ? 4 : 46)));
    }
  }
  ASSERT_EQ(seen.size(), 4u);
  EXPECT_EQ(seen[0], seen[1]);
  EXPECT_EQ(seen[2], seen[3]);
  EXPECT_NE(seen[0], seen[2]);
}

// With room for one frame the rest is lost, and counted; nothing waits for ever.
TEST_P(StackFragmentsTest, AFullLinkLosesTheRestOfAReply) {
  // Longer than the batch.
  const auto packets =
      FragmentPackets(ToGateway(), EchoRequest(family(), Bytes(40'000)), fragment_bytes());
  link_->SetRoom(1);
  SendAll(packets);
  EXPECT_EQ(stack_->Snapshot().replies_lost, 1u);
  EXPECT_EQ(stack_->Snapshot().frames_consumed, packets.size());
}

TEST_P(StackFragmentsTest, ASynInFragmentsIsAnswered) {
  // Nothing of the gateway's listens: a reset.
  SendAll(FragmentPackets(ToGateway(), TcpSegment({.flags = kTcpSyn, .options = {2, 4, 5, 0xb4}}),
                          v4() ? 8 : 24));
  if (!v4()) {
    SendAll(FragmentPackets(ToGateway(), TcpSegment({.flags = kTcpSyn, .payload = Bytes(40)}), 24));
  }
  const Bytes answer = Received(6);
  ASSERT_EQ(answer.size(), 20u);
  EXPECT_EQ(answer[13], kTcpRst | kTcpAck);
}

// Every frame of a datagram that nobody wants is dropped by that cause.
TEST_P(StackFragmentsTest, ARefusedDatagramIsAllItsFrames) {
  const auto packets = FragmentPackets(
      ToGateway(), UdpDatagram({.destination_port = 9, .payload = Bytes(4'000)}), fragment_bytes());
  ASSERT_EQ(packets.size(), 3u);
  SendAll(packets);
  EXPECT_EQ(drops(DropCause::kUdpRefused), 3u);
  EXPECT_EQ(stack_->Snapshot().frames_consumed, 0u);
  // The error quotes the datagram as it was put together.
  const Bytes error = Received(v4() ? 1 : 58);
  EXPECT_EQ(error.size(), v4() ? 556u : 1240u);
  EXPECT_EQ(error[0], v4() ? 3 : 1);

  auto spoiled = FragmentPackets(ToGateway(), EchoRequest(family(), Bytes(2'000)), 1'000);
  spoiled[0].back() ^= 1;
  SendAll(spoiled);
  EXPECT_EQ(drops(DropCause::kIcmpChecksum), 3u);
  EXPECT_FALSE(link_->PopToGuest());
}

TEST_P(StackFragmentsTest, TheStackWakesToForget) {
  const auto packets = FragmentPackets(ToGateway(), EchoRequest(family(), Bytes(100)), 64);
  EXPECT_EQ(Send(packets[0]), kFragmentsStart + Reassembly::kLifetime);
  EXPECT_EQ(stack_->Snapshot().fragments_held, 1u);
  ExpectBalance();
  now_ += Reassembly::kLifetime;
  EXPECT_EQ(stack_->Poll(now_), kNever);
  EXPECT_EQ(drops(DropCause::kFragmentTimeout), 1u);
  EXPECT_EQ(stack_->Snapshot().fragments_held, 0u);
}

TEST_P(StackFragmentsTest, ASpoofedFragmentOccupiesNothing) {
  IpSpec ip = ToGateway();
  ip.source = v4() ? Address("10.0.2.99") : Address("2001:db8::9");
  EXPECT_EQ(Send(FragmentPacket(ip, {.more = true, .data = Bytes(64)})), kNever);
  EXPECT_EQ(drops(DropCause::kFalseSourceAddress), 1u);
  EXPECT_EQ(stack_->Snapshot().fragments_held, 0u);
}

// From the first valid packet on the guest's MAC is fixed; a fragment is none.
TEST_P(StackFragmentsTest, ADatagramTellsTheGuestsMac) {
  const MacAddress other{2, 0, 0, 0, 0, 0x99};
  const auto packets = FragmentPackets(ToGateway(), EchoRequest(family(), Bytes(100)), 64);
  link_->PushToHost(EthernetFrame(packets[0], {.source = other}));
  link_->PushToHost(EthernetFrame(packets[0], {.source = kGuestMac}));
  (void)stack_->Poll(now_);
  EXPECT_EQ(drops(DropCause::kFragmentDuplicate), 1u);
  link_->PushToHost(EthernetFrame(packets[1], {.source = kGuestMac}));
  (void)stack_->Poll(now_);
  const auto reply = link_->PopToGuest();
  ASSERT_TRUE(reply);
  EXPECT_EQ(Bytes(reply->bytes.begin(), reply->bytes.begin() + 6),
            Bytes(kGuestMac.begin(), kGuestMac.end()));
  link_->PushToHost(EthernetFrame(packets[0], {.source = other}));
  (void)stack_->Poll(now_);
  EXPECT_EQ(drops(DropCause::kFalseSourceMac), 1u);
}

TEST_P(StackFragmentsTest, ALinkWithoutEthernetHasThemToo) {
  Start({}, {.ethernet = false});
  const auto packets =
      FragmentPackets(ToGateway(), EchoRequest(family(), Bytes(3'000)), fragment_bytes());
  for (const Bytes& packet : packets) link_->PushToHost(packet);
  (void)stack_->Poll(now_);
  size_t bytes = 0;
  for (const size_t header_bytes = v4() ? 20 : 48; const auto frame = link_->PopToGuest();) {
    EXPECT_LE(frame->bytes.size(), 1500u);
    bytes += frame->bytes.size() - header_bytes;
  }
  EXPECT_EQ(bytes, 3'008u);
}

}  // namespace
}  // namespace penstock
