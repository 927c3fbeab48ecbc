// The guest's own UDP and echo on the stack's side, with the relay's end of the pipes played
// by the test: what is handed over of a packet, what comes back to whom, faults as ICMP
// errors, limits, the end of a mapping.
#include "stack/flow/guest_datagrams.h"

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <cerrno>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "stack/wire/protocols.h"
#include "tests/support/memory_link.h"
#include "tests/support/played_socket.h"
#include "tests/support/udp_guest.h"

namespace penstock {
namespace {

using namespace std::chrono_literals;

class GuestDatagramsTest : public testing::TestWithParam<Family> {
 protected:
  [[nodiscard]] static Family family() { return GetParam(); }
  [[nodiscard]] static bool v4() { return family() == Family::kIpv4; }
  [[nodiscard]] static Endpoint Server(uint16_t port) { return {Peer(family()), port}; }
  [[nodiscard]] static IpAddress Gateway() { return v4() ? kGateway4 : kGateway6; }

  void SetUp() override {
    PlayedSockets().clear();
    Make();
  }
  void Make() {
    gate_.emplace(config_, counters_);
    udp_.emplace(DatagramKind::kUdp, config_, to_guest_, ends_, counters_, *gate_);
    echo_.emplace(DatagramKind::kEcho, config_, to_guest_, ends_, counters_, *gate_);
  }
  void TearDown() override {
    relay_->Shutdown();
    ends_.ShutdownBatch();
    udp_->Shutdown();
    echo_->Shutdown();
    EXPECT_EQ(relay_->datagrams().bytes_out(), 0u);
    for (const auto& socket : PlayedSockets()) socket->self = nullptr;
  }
  void Pass(const std::vector<Bytes>& frames = {}, const Offload& offload = {}) {
    batch_.SetTime(now_);
    gate_->BeginPass(now_);
    udp_->BeginPass(now_);
    echo_->BeginPass(now_);
    ends_.TakeFromRelays();
    for (const Bytes& frame : frames) {
      const Parsed parsed = ParseFrame(frame, TestParseOptions(), offload);
      ASSERT_TRUE(parsed.ok()) << parsed.outcome();
      (parsed.packet().protocol == Protocol::kUdp ? *udp_ : *echo_).FromGuest(parsed.packet());
    }
    EXPECT_TRUE(ends_.ServeReady(512));
    (void)batch_.Flush();
    ends_.AfterFlush();
    ends_.RingRelays();
    relay_->ServePipes();
    while (const auto frame = link_->PopToGuest()) frames_.push_back(*frame);
  }
  [[nodiscard]] static Bytes Frame(const Bytes& payload, uint16_t port = 5'000,
                                   const Endpoint& to = Server(7), IpSpec spec = {}) {
    spec.source = Guest(family()), spec.destination = to.address;
    return EthernetFrame(IpPacket(
        spec, UdpDatagram({.source_port = port, .destination_port = to.port, .payload = payload})));
  }
  [[nodiscard]] static Bytes Echo(uint16_t identifier, const Bytes& data) {
    Transport message = EchoRequest(family(), data);
    Put16(message.bytes, 4, identifier);
    return EthernetFrame(
        IpPacket({.source = Guest(family()), .destination = Peer(family())}, message));
  }
  std::vector<GuestDatagram> Received() {
    std::vector<GuestDatagram> received;
    for (const MemoryLink::Frame& frame : std::exchange(frames_, {})) {
      if (auto datagram = guest_.Take(frame.bytes, frame.offload)) {
        received.push_back(*std::move(datagram));
      }
    }
    return received;
  }
  // The one frame that the guest got: an ICMP error; its ICMP part.
  Bytes Error() {
    EXPECT_EQ(frames_.size(), 1u);
    if (frames_.empty()) return Bytes(8);
    const Bytes frame = std::exchange(frames_, {}).front().bytes;
    return {frame.begin() + 14 + (v4() ? 20 : 40), frame.end()};
  }

  Config config_;
  LinkCapabilities capabilities_;
  LinkAddresses addresses_{.gateway_mac = kGatewayMac, .guest_mac = kGuestMac};
  std::unique_ptr<MemoryLink> link_ = std::make_unique<MemoryLink>();
  Counters counters_;
  FrameBatch batch_{*link_, counters_};
  boost::asio::io_context io_;
  Doorbell stack_bell_;
  std::shared_ptr<Relay> relay_ =
      std::make_shared<Relay>(io_, RelayOptions{.make_guest_socket = &PlaySocket}, stack_bell_);
  DatagramsToGuest to_guest_{config_, capabilities_, addresses_, batch_, counters_};
  DatagramEnds ends_{batch_, counters_, {relay_.get()}};
  std::optional<Gate> gate_;
  std::optional<GuestDatagrams> udp_, echo_;
  UdpGuest guest_;
  Time now_{1h};
  std::vector<MemoryLink::Frame> frames_;
};

INSTANTIATE_TEST_SUITE_P(Families, GuestDatagramsTest,
                         testing::Values(Family::kIpv4, Family::kIpv6), [](const auto& info) {
                           return info.param == Family::kIpv4 ? "Ipv4" : "Ipv6";
                         });

TEST_P(GuestDatagramsTest, AQuestionAndItsAnswer) {
  Pass({Frame(Bytes(10, 1))});
  ASSERT_EQ(PlayedSockets().size(), 1u);
  PlayedSocket& socket = *PlayedSockets()[0];
  EXPECT_EQ(socket.pipe->request->family, family());
  EXPECT_EQ(socket.pipe->request->kind, DatagramKind::kUdp);
  const auto sent = socket.Sent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].path.peer, Server(7));
  EXPECT_EQ(socket.contents[0], Bytes(10, 1));
  socket.Arrive(Server(7), Bytes(20, 2));
  socket.Arrive(Server(8), Bytes(30, 3));  // nobody asked it
  Pass();
  const auto received = Received();
  ASSERT_EQ(received.size(), 1u);
  EXPECT_EQ(received[0], (GuestDatagram{Server(7), {Guest(family()), 5'000}, Bytes(20, 2)}));
  EXPECT_EQ(counters_.udp_filtered.value(), 1u);
  EXPECT_EQ(counters_.udp_mappings.value(), 1u);
}

TEST_P(GuestDatagramsTest, OfThePacketsHeaderIsCarriedWhatMatters) {
  Pass({Frame(Bytes(1), 5'000, Server(7), {.hop_limit = 9, .traffic_class = 0xbb})});
  const auto sent = PlayedSockets()[0]->Sent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].hop_limit, 8);
  EXPECT_EQ(sent[0].traffic_class, 0xb8) << "ECN is not";
  EXPECT_EQ(sent[0].dont_fragment, true);
}

// Many in one frame that the guest left to us to cut.
TEST_P(GuestDatagramsTest, ASuperDatagramIsCut) {
  Bytes payload(2'500);
  for (size_t i = 0; i < payload.size(); ++i) payload[i] = static_cast<uint8_t>(i * 7);
  Pass({Frame(payload)}, {.gso = Gso::kUdp, .segment_bytes = 1'000});
  PlayedSocket& socket = *PlayedSockets()[0];
  EXPECT_EQ(socket.Sent().size(), 3u);
  EXPECT_EQ(socket.contents[0].size(), 1'000u);
  EXPECT_EQ(socket.contents[2].size(), 500u);
  EXPECT_EQ(Concat(Concat(socket.contents[0], socket.contents[1]), socket.contents[2]), payload);
  EXPECT_EQ(counters_.udp_datagrams_to_host.value(), 3u);
  EXPECT_EQ(counters_.frames_consumed.value(), 1u);
}

TEST_P(GuestDatagramsTest, SeveralAtOnceForTheGuest) {
  Pass({Frame(Bytes(1))});
  Bytes payload(2'500);
  for (size_t i = 0; i < payload.size(); ++i) payload[i] = static_cast<uint8_t>(i * 3);
  PlayedSockets()[0]->Arrive(Server(7), payload, {}, 1'000);
  Pass();
  const auto cut = Received();  // the link has no offload for it
  ASSERT_EQ(cut.size(), 3u);
  EXPECT_EQ(cut[2].payload.size(), 500u);
  EXPECT_EQ(Concat(Concat(cut[0].payload, cut[1].payload), cut[2].payload), payload);
  EXPECT_EQ(counters_.udp_datagrams_to_guest.value(), 3u);

  capabilities_.udp_gso_to_guest = true;
  PlayedSockets()[0]->Arrive(Server(7), payload, {}, 1'000);
  Pass();
  ASSERT_EQ(frames_.size(), 1u);
  const Offload& offload = frames_[0].offload;
  EXPECT_EQ(offload.gso, Gso::kUdp);
  EXPECT_EQ(offload.segment_bytes, 1'000);
  EXPECT_EQ(offload.header_bytes, 14 + (v4() ? 20 : 40) + 8);
  EXPECT_EQ(offload.checksum, ChecksumState::kPartial);
  EXPECT_EQ(frames_[0].bytes.size(), offload.header_bytes + payload.size());
  EXPECT_EQ(counters_.udp_datagrams_to_guest.value(), 6u);
  frames_.clear();
  // Segments that do not fit the MTU go as fragments, each for itself.
  PlayedSockets()[0]->Arrive(Server(7), Bytes(4'000, 5), {}, 2'000);
  Pass();
  const auto large = Received();
  ASSERT_EQ(large.size(), 2u);
  EXPECT_EQ(large[1].payload, Bytes(2'000, 5));
}

TEST_P(GuestDatagramsTest, EchoGetsItsIdentifierBack) {
  Pass({Echo(0x1234, Bytes(40, 6))});
  Pass({Echo(0x9999, Bytes(4, 1))});
  ASSERT_EQ(PlayedSockets().size(), 2u);
  PlayedSocket& socket = *PlayedSockets()[0];
  EXPECT_EQ(socket.pipe->request->kind, DatagramKind::kEcho);
  EXPECT_FALSE(socket.pipe->may_join);
  ASSERT_EQ(socket.Sent().size(), 1u);
  Bytes reply = socket.contents[0];
  ASSERT_EQ(reply.size(), 48u);
  reply[0] = v4() ? 0 : 129;
  reply[4] = 0xab, reply[5] = 0xcd;  // the kernel's own identifier
  socket.Arrive({Peer(family()), 0}, reply);
  Pass();
  ASSERT_EQ(frames_.size(), 1u);
  const Bytes message = Error();
  EXPECT_EQ(message[0], v4() ? 0 : 129);
  EXPECT_EQ(Get16(message, 4), 0x1234);
  EXPECT_EQ(Bytes(message.begin() + 8, message.end()), Bytes(40, 6));
  EXPECT_EQ(SlowTransportSum(Peer(family()), Guest(family()), v4() ? 1 : 58, message), 0xffff);
  EXPECT_EQ(counters_.echo_replies_to_guest.value(), 1u);
  // What is shorter than a reply is none.
  socket.Arrive({Peer(family()), 0}, Bytes(7));
  Pass();
  EXPECT_TRUE(frames_.empty());
}

// ---------------------------------------------------------------- faults

TEST_P(GuestDatagramsTest, FaultsQuoteTheGuestsPacket) {
  Pass({Frame(Bytes(100, 9))});
  const IpAddress router = v4() ? IpAddress::V4(203, 0, 113, 9) : *IpAddress::Parse("2001:db8::9");
  struct Case {
    DatagramFault fault;
    int type4, code4, type6, code6;
    IpAddress from;
  };
  for (const Case& c :
       {Case{{.kind = FaultKind::kPort, .offender = Peer(family())}, 3, 3, 1, 4, Peer(family())},
        Case{{.kind = FaultKind::kHost}, 3, 1, 1, 3, Gateway()},
        Case{{.kind = FaultKind::kTooBig, .mtu = 1'280}, 3, 4, 2, 0, Gateway()},
        Case{{.kind = FaultKind::kHopLimit, .offender = router}, 11, 0, 3, 0, router},
        Case{{.kind = FaultKind::kProhibited,
        .offender = v4() ? IpAddress::V4(127, 0, 0, 1) : *IpAddress::Parse("::1")},
             3,
             13,
             1,
             1,
             Gateway()}}) {
    PlayedSockets()[0]->Arrive(Server(7), Bytes(100, 9), c.fault);
    Pass();
    ASSERT_EQ(frames_.size(), 1u);
    const Bytes frame = frames_[0].bytes;
    const auto source = std::span(frame).subspan(14 + (v4() ? 12 : 8), v4() ? 4 : 16);
    EXPECT_EQ(IpAddress::From(source), c.from);
    const Bytes error = Error();
    EXPECT_EQ(error[0], v4() ? c.type4 : c.type6);
    EXPECT_EQ(error[1], v4() ? c.code4 : c.code6);
    EXPECT_EQ(Get32(error, 4), c.fault.mtu);
    const auto quote = std::span(error).subspan(8);
    const auto udp = quote.subspan(v4() ? 20 : 40);
    EXPECT_EQ(IpAddress::From(quote.subspan(v4() ? 12 : 8, v4() ? 4 : 16)), Guest(family()));
    EXPECT_EQ(IpAddress::From(quote.subspan(v4() ? 16 : 24, v4() ? 4 : 16)), Peer(family()));
    EXPECT_EQ(Get16(udp, 0), 5'000);
    EXPECT_EQ(Get16(udp, 2), 7);
    EXPECT_EQ(Get16(udp, 4), 108);
    EXPECT_EQ(Bytes(udp.begin() + 8, udp.end()), Bytes(100, 9));
  }
  EXPECT_EQ(counters_.host_errors_to_guest.value(), 5u);
}

TEST_P(GuestDatagramsTest, TheHostsLoopbackIsTheGateway) {
  const IpAddress loopback = v4() ? IpAddress::V4(127, 0, 0, 1) : *IpAddress::Parse("::1");
  config_.host_loopback = true;
  Make();
  Pass({Frame(Bytes(3), 5'000, {Gateway(), 7}, {.hop_limit = 1})});
  PlayedSocket& socket = *PlayedSockets()[0];
  const auto sent = socket.Sent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].path.peer, (Endpoint{loopback, 7}));
  EXPECT_EQ(sent[0].hop_limit, 1) << "no hop away";
  socket.Arrive({loopback, 7}, Bytes(4, 4));
  Pass();
  const auto received = Received();
  ASSERT_EQ(received.size(), 1u);
  EXPECT_EQ(received[0].source, (Endpoint{Gateway(), 7}));
}

TEST_P(GuestDatagramsTest, ForbiddenEchoIsToldAndSaidOnce) {
  std::vector<std::string> warnings;
  config_.warn = [&](std::string_view text) { warnings.emplace_back(text); };
  for (int i = 0; i < 2; ++i) {
    Pass({Echo(7, Bytes(8, 1))});
    PlayedSocket& socket = *PlayedSockets().back();
    ASSERT_EQ(socket.Sent().size(), 1u);
    socket.Arrive({Peer(family()), 0}, socket.contents[0],
                  {.kind = FaultKind::kNoSocket, .error = EACCES});
    Pass();
    const Bytes error = Error();
    EXPECT_EQ(error[1], v4() ? 13 : 1);
    EXPECT_EQ(Get16(std::span(error).subspan(8 + (v4() ? 20 : 40)), 4), 7);
  }
  EXPECT_EQ(PlayedSockets().size(), 2u) << "the next one tries again";
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("ping_group_range"), std::string::npos);
  EXPECT_EQ(counters_.echo_forbidden.value(), 2u);
}

TEST_P(GuestDatagramsTest, WithoutDescriptorsADatagramIsLostAndCounted) {
  Pass({Frame(Bytes(3))});
  (void)PlayedSockets()[0]->Sent();
  PlayedSockets()[0]->Arrive(Server(7), Bytes(3), {.kind = FaultKind::kNoSocket, .error = EMFILE});
  Pass();
  EXPECT_TRUE(frames_.empty());
  EXPECT_EQ(counters_.udp_lost_no_socket.value(), 1u);
  Pass({Frame(Bytes(3))});
  EXPECT_EQ(PlayedSockets().size(), 2u);
  EXPECT_TRUE(PlayedSockets()[0]->closed);
  EXPECT_EQ(counters_.udp_mappings.value(), 1u);
}

// ---------------------------------------------------------------- limits and the end

TEST_P(GuestDatagramsTest, TheLeastRecentMappingGivesWay) {
  config_.udp_mapping_count_max = 3;
  Make();
  for (uint16_t port = 1; port <= 3; ++port) Pass({Frame(Bytes(1), port)});
  now_ += 1s;
  Pass({Frame(Bytes(1), 1)});
  Pass({Frame(Bytes(1), 4)});
  EXPECT_TRUE(PlayedSockets()[1]->closed);
  EXPECT_FALSE(PlayedSockets()[0]->closed);
  EXPECT_EQ(counters_.udp_mappings_evicted.value(), 1u);
  EXPECT_EQ(counters_.udp_mappings.value(), 3u);
}

// Whoever answers for it then is filtered; a guest that asks too many is named.
TEST_P(GuestDatagramsTest, AConversationThatGivesWayIsCounted) {
  config_.udp_mapping_count_max = 1;
  Make();
  for (uint8_t host = 1; host <= 17; ++host) {
    EXPECT_EQ(counters_.conversations_evicted.value(), 0u);
    Pass({Frame(Bytes(1), 1, Server(host))});
  }
  EXPECT_EQ(counters_.conversations_evicted.value(), 1u);
}

TEST_P(GuestDatagramsTest, AMappingEndsWithItsTime) {
  Pass({Frame(Bytes(1))});
  EXPECT_EQ(udp_->NextDeadline(), now_ + 121s);  // its socket's; nobody may answer by then
  now_ += 121s;
  Pass();
  EXPECT_TRUE(PlayedSockets()[0]->closed);
  EXPECT_EQ(udp_->NextDeadline(), kNever);
  EXPECT_EQ(counters_.udp_mappings_expired.value(), 1u);
  EXPECT_EQ(counters_.udp_mappings.value(), 0u);
}

TEST_P(GuestDatagramsTest, MoreIdentifiersThanAllowedAtOnce) {
  for (uint16_t identifier = 0; identifier < 70; ++identifier) {
    Pass({Echo(identifier, Bytes(8))});
  }
  EXPECT_EQ(counters_.echo_mappings.value(), 64u);
  EXPECT_TRUE(PlayedSockets()[0]->closed);
  EXPECT_FALSE(PlayedSockets()[69]->closed);
}

// The relay takes nothing: what is beyond the limit is dropped by name, and the memory is
// bounded.
TEST_P(GuestDatagramsTest, ASocketThatTakesNothing) {
  const Bytes frame = Frame(Bytes(1'400));
  for (int i = 0; i < 3'000; ++i) Pass({frame});
  EXPECT_GT(counters_.Snapshot().drops_of(DropCause::kUdpQueueFull), 100u);
  EXPECT_LE(PlayedSockets()[0]->Sent().size() * 1'400, DatagramPool::kPipeBytesMax);
}

// ---------------------------------------------------------------- the policy

std::shared_ptr<const Policy> PolicyOf(std::string_view text) {
  auto policy = Policy::Parse(text);
  EXPECT_TRUE(policy.ok()) << policy.status().message();
  return policy.ok() ? *policy : nullptr;
}

TEST_P(GuestDatagramsTest, WhatIsDeniedCostsNoSocketAndIsProhibited) {
  config_.tenant_policy = PolicyOf("deny egress any:7\ndefault egress allow\n");
  config_.event_count_max = 16;
  Make();
  Pass({Frame(Bytes(10, 1))});
  EXPECT_EQ(PlayedSockets().size(), 0u);
  const Bytes error = Error();
  EXPECT_EQ(error[0], v4() ? 3 : 1);
  EXPECT_EQ(error[1], v4() ? 13 : 1);
  EXPECT_EQ(counters_.drops[static_cast<size_t>(DropCause::kPolicyDenied)].value(), 1u);
  Event event;
  ASSERT_TRUE(gate_->events().Take(event));
  EXPECT_EQ(event.kind, EventKind::kDenied);
  EXPECT_EQ(event.protocol, PolicyProtocol::kUdp);
  EXPECT_EQ(event.peer, Server(7));
  EXPECT_EQ(event.rule->text, "deny egress any:7");
  // Another port of the same host is another conversation.
  Pass({Frame(Bytes(10, 1), 5'000, Server(8))});
  EXPECT_EQ(PlayedSockets().size(), 1u);
  // From a mapping that lives it is denied all the same.
  Pass({Frame(Bytes(10, 1), 5'000, Server(7))});
  EXPECT_EQ(PlayedSockets()[0]->Sent().size(), 1u);
}

TEST_P(GuestDatagramsTest, OrIsMetWithSilence) {
  config_.tenant_policy = PolicyOf("deny egress any\n");
  config_.denial_answer = DenialAnswer::kSilence;
  Make();
  Pass({Frame(Bytes(10, 1)), Echo(1, Bytes(4))});
  EXPECT_TRUE(frames_.empty());
  EXPECT_EQ(PlayedSockets().size(), 0u);
  EXPECT_EQ(counters_.denied_to_host.value(), 2u);
}

// The filtering by address takes what another port of the host sends, but the guest may
// speak only to those ports that the policy has.
TEST_P(GuestDatagramsTest, EachPortIsAskedForWhateverTheFiltering) {
  config_.tenant_policy = PolicyOf("deny egress any:9\ndefault egress allow\n");
  for (const UdpFiltering filtering : {UdpFiltering::kAddress, UdpFiltering::kNone}) {
    PlayedSockets().clear();
    frames_.clear();
    config_.udp_filtering = filtering;
    Make();
    Pass({Frame(Bytes(10, 1)), Frame(Bytes(10, 1), 5'000, Server(9))});
    EXPECT_EQ(PlayedSockets()[0]->Sent().size(), 1u);
    frames_.clear();
    // Nor may whom it may not speak to speak to it.
    PlayedSockets()[0]->Arrive(Server(9), Bytes(4, 1));
    PlayedSockets()[0]->Arrive(Server(10), Bytes(4, 2));
    Pass();
    const auto received = Received();
    ASSERT_EQ(received.size(), 1u);
    EXPECT_EQ(received[0].source, Server(10));
    for (const auto& socket : PlayedSockets()) (void)socket->Sent();
    relay_->ServePipes();
    ends_.ShutdownBatch();
    udp_->Shutdown();
    echo_->Shutdown();
    for (const auto& socket : PlayedSockets()) socket->self = nullptr;
  }
}

TEST_P(GuestDatagramsTest, ANewPolicyLeavesConversationsUnlessItIsToCut) {
  config_.event_count_max = 16;
  Make();
  Pass({Frame(Bytes(10, 1)), Frame(Bytes(10, 1), 5'000, Server(8))});
  gate_->engine().SetPolicy(PolicyLayer::kTenant,
                            PolicyOf("deny egress any:7\ndefault egress allow\n"));
  Pass({Frame(Bytes(10, 1))});
  EXPECT_EQ(PlayedSockets()[0]->Sent().size(), 3u);
  udp_->CutDenied();
  EXPECT_EQ(counters_.flows_cut.value(), 1u);
  Pass({Frame(Bytes(10, 1)), Frame(Bytes(10, 1), 5'000, Server(8))});
  EXPECT_EQ(PlayedSockets()[0]->Sent().size(), 1u);
  EXPECT_EQ(PlayedSockets().size(), 1u);
  std::vector<Event> closed;
  for (Event event; gate_->events().Take(event);) {
    if (event.kind == EventKind::kFlowClosed) closed.push_back(event);
  }
  ASSERT_EQ(closed.size(), 1u);
  EXPECT_EQ(closed[0].peer, Server(7));
  EXPECT_EQ(closed[0].bytes_to_host, 20u);
}

// The last conversation takes the socket with it.
TEST_P(GuestDatagramsTest, CutAltogetherTheSocketIsClosed) {
  Pass({Frame(Bytes(10, 1))});
  gate_->engine().SetPolicy(PolicyLayer::kPlatform, PolicyOf("deny egress any\n"));
  udp_->CutDenied();
  Pass();
  EXPECT_TRUE(PlayedSockets()[0]->closed);
  EXPECT_EQ(counters_.udp_mappings.value(), 0u);
}

}  // namespace
}  // namespace penstock
