// The handshake as the guest sees it: a SYN gets the answer that the host's
// connect got, when it got it. RFC 9293 3.5 and 3.10.7, RFC 6528, RFC 7323 2.
#include <cerrno>
#include <cstring>
#include <set>
#include <vector>

#include "tests/stack/flow/flow_fixture.h"

namespace penstock {
namespace {

class HandshakeTest : public FlowTest {};
PENSTOCK_BOTH_FAMILIES(HandshakeTest);

// The guest hears nothing before the host's connect has a result.
TEST_P(HandshakeTest, SynIsAnsweredOnlyAfterTheHostConnected) {
  GuestFlow& flow = DialBlackHole();
  EXPECT_EQ(counters().flows_dialing, 1u);
  guest().Advance(10s);
  flow.ExpectNothing();

  listener().EmptyBacklog();
  const GuestSegment answer = flow.Expect(kSynAck);
  EXPECT_EQ(answer.acknowledgement, 1u);
  flow.Send({});
  Connection connection{.flow = flow, .host = Accept()};
  EXPECT_EQ(counters().flows_established, 1u);
  ExpectAlive(connection);
}

// A refused connect is a RST that answers the SYN, and never a SYN-ACK before it
// (RFC 9293 3.10.7.1: sequence 0, acknowledgement of the SYN).
TEST_P(HandshakeTest, RefusedConnectIsAnsweredWithReset) {
  const HostRefusedPort refused;
  GuestFlow& flow = Start().Flow(refused.port());
  flow.SendSyn();
  const GuestSegment answer = flow.Expect(kRstAck);
  EXPECT_EQ(answer.sequence, 0u);
  EXPECT_EQ(answer.acknowledgement, 1u);
  EXPECT_EQ(counters().flows_refused, 1u);
  EXPECT_EQ(counters().flows_established, 0u);
  ExpectNoFlowLeft();
}

// A host socket factory that has nothing to give but an errno.
class FailingFactory final : public SocketFactory {
 public:
  explicit FailingFactory(int error) : error_(error) {}
  SocketResult OpenStream(const SocketRequest& /*request*/) override {
    return {.descriptor = -1, .error = error_};
  }

 private:
  const int error_;
};

// Unreachable is ICMP unreachable, so that the guest's errno is the host's.
TEST_P(HandshakeTest, UnreachableHostIsAnsweredWithIcmp) {
  Config config = LoopbackConfig();
  config.socket_factory = std::make_shared<FailingFactory>(EHOSTUNREACH);
  GuestFlow& flow = Start(config).Flow(9);
  flow.SendSyn();
  guest().Until("an ICMP error", [&] { return !guest().other_frames().empty(); });
  const std::vector<uint8_t>& frame = guest().other_frames().front();
  const size_t icmp = kEthernetHeaderBytes + (v4() ? 20 : 40);
  ASSERT_GT(frame.size(), icmp + 8);
  EXPECT_EQ(frame[icmp], v4() ? 3 : 1);      // destination unreachable
  EXPECT_EQ(frame[icmp + 1], v4() ? 1 : 3);  // host; address
  flow.ExpectNothing();
  EXPECT_EQ(counters().flows_unreachable, 1u);
  ExpectNoFlowLeft();
}

// The host has no route, or a kernel without this family: an unreachable network, at once.
TEST_P(HandshakeTest, HostWithoutRouteIsAnUnreachableNetwork) {
  Config config = LoopbackConfig();
  for (const int reason : {ENETUNREACH, EAFNOSUPPORT}) {
    SCOPED_TRACE(strerror(reason));
    config.socket_factory = std::make_shared<FailingFactory>(reason);
    GuestFlow& flow = Start(config).Flow(9);
    flow.SendSyn();
    guest().Until("an ICMP error", [&] { return !guest().other_frames().empty(); });
    const std::vector<uint8_t>& frame = guest().other_frames().front();
    const size_t icmp = kEthernetHeaderBytes + (v4() ? 20 : 40);
    ASSERT_GT(frame.size(), icmp + 8);
    EXPECT_EQ(frame[icmp], v4() ? 3 : 1);  // destination unreachable
    EXPECT_EQ(frame[icmp + 1], 0);         // network; no route
    ExpectNoFlowLeft();
  }
}

// Out of descriptors, the host refuses new flows.
TEST_P(HandshakeTest, NoDescriptorIsAnsweredWithReset) {
  Config config = LoopbackConfig();
  config.socket_factory = std::make_shared<FailingFactory>(EMFILE);
  GuestFlow& flow = Start(config).Flow(9);
  flow.SendSyn();
  EXPECT_EQ(flow.Expect(kRstAck).acknowledgement, 1u);
  ExpectNoFlowLeft();
}

// While the host is dialled, the guest's retransmitted SYN creates nothing new.
TEST_P(HandshakeTest, SynRetransmissionsWhileDialingCreateNothing) {
  GuestFlow& flow = DialBlackHole();
  flow.SendSyn();
  flow.SendSyn();
  EXPECT_EQ(counters().flows_opened, 1u);
  EXPECT_EQ(counters().flows_dialing, 1u);
  EXPECT_EQ(counters().drops_of(DropCause::kSynWhileDialing), 2u);

  listener().EmptyBacklog();
  flow.Expect(kSynAck);
  flow.Send({});
  Connection connection{.flow = flow, .host = Accept()};
  ExpectAlive(connection);
  EXPECT_FALSE(listener().TryAccept().has_value());
  EXPECT_EQ(counters().flows_opened, 1u);
}

// A guest that gave up and began anew from the same port, while the host is dialled:
// its newest SYN is the one that is answered.
TEST_P(HandshakeTest, NewestSynWhileDialingIsAnswered) {
  GuestFlow& given_up = DialBlackHole();
  GuestFlow& flow = guest().FlowAgain(given_up);
  flow.SendSyn({.mss = 1000});
  EXPECT_EQ(counters().flows_opened, 1u);
  listener().EmptyBacklog();
  EXPECT_EQ(flow.Expect(kSynAck).acknowledgement, 1u);
  flow.Send({});
  Connection connection{.flow = flow, .host = Accept()};
  ExpectAlive(connection);
}

// The SYN-ACK states our MSS, MTU less headers, and the scale and SACK options only
// to a guest that offered them (RFC 7323 2.2, RFC 2018 2).
TEST_P(HandshakeTest, SynAckAnswersTheOptionsThatWereOffered) {
  Config config = LoopbackConfig();
  config.mtu = 4000;
  Start(config);
  for (const bool scale : {false, true}) {
    for (const bool sack : {false, true}) {
      GuestFlow& flow = guest().Flow(listener().port());
      HandshakeOptions options{.sack_permitted = sack};
      if (!scale) options.window_scale.reset();
      const GuestSegment answer = flow.Handshake(options);
      EXPECT_EQ(answer.mss, v4() ? 3960 : 3940);
      EXPECT_EQ(answer.window_scale.has_value(), scale);
      EXPECT_EQ(answer.sack_permitted, sack);
      EXPECT_EQ(answer.sequence, 0u);
      EXPECT_EQ(answer.acknowledgement, 1u);
      EXPECT_TRUE(answer.payload.empty());
    }
  }
}

// ECN is declined: the SYN-ACK of an ECN-setup SYN is a plain one (RFC 3168 6.1.1),
// and later ECN flags of the guest's change nothing. (That no segment of the stack's
// carries the flags is checked in every script.)
TEST_P(HandshakeTest, EcnIsDeclined) {
  GuestFlow& flow = Start().Flow(listener().port());
  flow.Send({.flags = kTcpSyn | kTcpEce | kTcpCwr, .sequence = 0, .mss = full_segment()});
  flow.Expect(kSynAck);
  flow.Send({});
  Connection connection{.flow = flow, .host = Accept()};
  flow.Send({.flags = kTcpAck | kTcpEce | kTcpCwr, .payload = "ecn"});
  flow.Expect(kTcpAck);
  ReadTo(connection.host, 3);
  ExpectAlive(connection);
}

// A SYN-ACK that was lost: the repeated SYN gets the same one again.
TEST_P(HandshakeTest, RepeatedSynInHandshakeGetsTheSynAckAgain) {
  GuestFlow& flow = Start().Flow(listener().port());
  flow.SendSyn();
  const GuestSegment first = flow.Expect(kSynAck);
  flow.SendSyn();
  const GuestSegment again = flow.Expect(kSynAck);
  EXPECT_EQ(again.sequence, first.sequence);
  EXPECT_EQ(again.acknowledgement, first.acknowledgement);
  flow.Send({});
  Connection connection{.flow = flow, .host = Accept()};
  ExpectAlive(connection);
  EXPECT_EQ(counters().flows_opened, 1u);
}

// A guest that says nothing gets the SYN-ACK again, within a bit over a second.
TEST_P(HandshakeTest, SynAckIsRetransmitted) {
  GuestFlow& flow = Start().Flow(listener().port());
  flow.SendSyn();
  flow.Expect(kSynAck);
  EXPECT_EQ(flow.ExpectWithin(1200ms, kSynAck).sequence, 0u);
  flow.Send({});
  Connection connection{.flow = flow, .host = Accept()};
  ExpectAlive(connection);
}

// Initial sequence numbers of flows that differ in one port tell nothing about each
// other (RFC 6528 3): all differ, and the steps between them are neither equal nor
// small.
TEST_P(HandshakeTest, InitialSequenceNumbersAreNotSequential) {
  Start();
  std::set<uint32_t> numbers, steps;
  uint32_t last = 0;
  int large_steps = 0;
  for (int i = 0; i < 12; ++i) {
    GuestFlow& flow = guest().Flow(listener().port());
    flow.Handshake();
    const uint32_t step = flow.stack_isn() - last;
    if (step > 1u << 24 && step < 0xff00'0000u) ++large_steps;
    numbers.insert(flow.stack_isn());
    steps.insert(step);
    last = flow.stack_isn();
  }
  EXPECT_EQ(numbers.size(), 12u);
  EXPECT_GE(steps.size(), 11u);
  EXPECT_GE(large_steps, 9);
}

// The ACK of the handshake may carry data and FIN; both count.
TEST_P(HandshakeTest, HandshakeAckMayCarryDataAndFin) {
  GuestFlow& flow = Start().Flow(listener().port());
  flow.SendSyn();
  flow.Expect(kSynAck);
  flow.Send({.flags = kTcpAck | kTcpFin, .payload = "all there is"});
  EXPECT_EQ(flow.Expect(kTcpAck).acknowledgement, 14u);
  HostSocket host = Accept();
  ReadToEnd(host);
  EXPECT_EQ(host.received(), "all there is");
  WriteAll(host, "heard");
  flow.ReceiveTo(5);
  EXPECT_EQ(flow.received(), "heard");
}

// Over the half-open limit a SYN is dropped and counted, so that the guest's retry
// succeeds once there is room.
TEST_P(HandshakeTest, SynOverTheHalfOpenLimitIsDroppedAndItsRetrySucceeds) {
  Config config = LoopbackConfig();
  config.half_open_count_max = 4;
  config.half_open_per_destination_max = 4;
  Start(config);
  std::vector<GuestFlow*> half_open;
  for (int i = 0; i < 4; ++i) {
    half_open.push_back(&guest().Flow(listener().port()));
    half_open.back()->SendSyn();
    half_open.back()->Expect(kSynAck);
  }
  GuestFlow& fifth = guest().Flow(listener().port());
  fifth.SendSyn();
  guest().Advance(100ms);
  fifth.ExpectNothing();
  EXPECT_EQ(counters().drops_of(DropCause::kHalfOpenLimit), 1u);
  EXPECT_EQ(counters().flows_opened, 4u);

  half_open.front()->Send({});
  fifth.SendSyn();
  fifth.Expect(kSynAck);
  EXPECT_EQ(counters().drops_of(DropCause::kHalfOpenLimit), 1u);
}

// One destination cannot take all the half-open room.
TEST_P(HandshakeTest, HalfOpenFlowsAreLimitedPerDestination) {
  Config config = LoopbackConfig();
  config.half_open_count_max = 16;
  config.half_open_per_destination_max = 2;
  Start(config);
  const Family other_family = v4() ? Family::kIpv6 : Family::kIpv4;
  HostListener other(other_family);
  std::vector<GuestFlow*> half_open;
  for (int i = 0; i < 2; ++i) {
    half_open.push_back(&guest().Flow(listener().port()));
    half_open.back()->SendSyn();
    half_open.back()->Expect(kSynAck);
  }
  GuestFlow& third = guest().Flow(listener().port());
  third.SendSyn();
  third.ExpectNothing();
  EXPECT_EQ(counters().drops_of(DropCause::kHalfOpenDestinationLimit), 1u);

  GuestFlow& elsewhere = guest().Flow(other.port(), other_family);
  elsewhere.SendSyn();
  elsewhere.Expect(kSynAck);

  half_open.front()->Send({});
  third.SendSyn();
  third.Expect(kSynAck);
}

// Over the flow limit a SYN is refused; a flow that ends makes room.
TEST_P(HandshakeTest, SynOverTheFlowLimitIsRefused) {
  Config config = LoopbackConfig();
  config.flow_count_max = 2;
  config.half_open_count_max = 2;
  config.half_open_per_destination_max = 2;
  Start(config);
  Connection first = Establish();
  Connection second = Establish();
  GuestFlow& third = guest().Flow(listener().port());
  third.SendSyn();
  EXPECT_EQ(third.Expect(kRstAck).acknowledgement, 1u);
  EXPECT_EQ(counters().flows_refused_limit, 1u);
  ExpectAlive(second);

  first.flow.Send({.flags = kTcpRst});
  ExpectReset(first.host);
  guest().Until("one flow left", [&] { return counters().flows_closing == 0; });
  Connection fourth = Establish();
  ExpectAlive(fourth);
}

// A guest that never completes the handshake loses the flow after the handshake
// timeout, and the host's peer sees a reset, not a clean close.
TEST_P(HandshakeTest, HandshakeTimeoutResetsTheHost) {
  GuestFlow& flow = Start().Flow(listener().port());
  flow.SendSyn();
  flow.Expect(kSynAck);
  HostSocket host = Accept();
  guest().Advance(29s);
  EXPECT_EQ(counters().flows_handshake, 1u);
  EXPECT_FALSE(host.WasReset());
  guest().Advance(2s);
  ExpectReset(host);
  EXPECT_EQ(counters().flows_handshake_timeout, 1u);
  ExpectNoFlowLeft();
}

// A reset of the guest's in the handshake ends the flow at both ends.
TEST_P(HandshakeTest, GuestResetInHandshakeResetsTheHost) {
  GuestFlow& flow = Start().Flow(listener().port());
  flow.SendSyn();
  flow.Expect(kSynAck);
  HostSocket host = Accept();
  flow.Send({.flags = kTcpRst});
  ExpectReset(host);
  ExpectNoFlowLeft();
}

// A dial without result is given up in silence: the guest's own timer says
// ETIMEDOUT, as it would without penstock. Its next SYN dials again.
TEST_P(HandshakeTest, DialTimeoutIsSilentAndTheNextSynDialsAgain) {
  GuestFlow& flow = DialBlackHole();
  guest().Advance(29s);
  EXPECT_EQ(counters().flows_dialing, 1u);
  guest().Advance(2s);
  flow.ExpectNothing();
  EXPECT_TRUE(guest().other_frames().empty());
  EXPECT_EQ(counters().flows_dial_timeout, 1u);
  ExpectNoFlowLeft();

  listener().EmptyBacklog();
  flow.SendSyn();
  flow.Expect(kSynAck);
  flow.Send({});
  Connection connection{.flow = flow, .host = Accept()};
  ExpectAlive(connection);
  EXPECT_EQ(counters().flows_opened, 2u);
}

// Whatever else comes on the tuple while the host is dialled is dropped by name;
// the dial goes on.
TEST_P(HandshakeTest, OtherSegmentsWhileDialingAreDropped) {
  GuestFlow& flow = DialBlackHole();
  flow.Send({.payload = "too early"});
  flow.ExpectNothing();
  EXPECT_EQ(counters().drops_of(DropCause::kNotSynWhileDialing), 1u);
  EXPECT_EQ(counters().flows_dialing, 1u);
}

}  // namespace
}  // namespace penstock
