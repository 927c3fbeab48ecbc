// The simulated host and the stepped stack themselves: a flow from its SYN to its end,
// in both forms, without a thread and without a clock.
#include "tests/world/rig.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/support/packet_builder.h"

namespace penstock::world {
namespace {

RigOptions Options(SteppedStack::Form form) {
  RigOptions options;
  options.config.guest_mac = kGuestMac;
  options.form = form;
  options.link = {.frame_wakes_somebody = true};
  return options;
}

class RigTest : public testing::TestWithParam<SteppedStack::Form> {
 protected:
  Rig rig_{Options(GetParam())};

  // Sends a segment of the guest's; returns the stack's answers.
  std::vector<MemoryLink::Frame> Say(const TcpSpec& spec) {
    rig_.link().PushToHost(TcpFrame(Family::kIpv4, spec));
    rig_.Settle();
    std::vector<MemoryLink::Frame> frames;
    while (auto frame = rig_.link().PopToGuest()) frames.push_back(*std::move(frame));
    return frames;
  }
  static Parsed Read(const MemoryLink::Frame& frame) {
    ParseOptions options = TestParseOptions();
    options.gateway_mac = kGuestMac;
    options.guest_mac = kGatewayMac;
    return ParseFrame(frame.bytes, options, frame.offload);
  }
};

std::string NameOf(const testing::TestParamInfo<SteppedStack::Form>& test) {
  constexpr const char* kNames[] = {"OneThread", "RelayThread", "OneThreadBusy"};
  return kNames[static_cast<size_t>(test.param)];
}
INSTANTIATE_TEST_SUITE_P(Forms, RigTest,
                         testing::Values(SteppedStack::Form::kOneThread,
                                         SteppedStack::Form::kRelayThread,
                                         SteppedStack::Form::kOneThreadBusy),
                         NameOf);

uint32_t SequenceOf(const MemoryLink::Frame& frame) {
  return Get32(frame.bytes, kTransport4At + 4);
}
uint8_t FlagsOf(const MemoryLink::Frame& frame) { return frame.bytes[kTransport4At + 13]; }

TEST_P(RigTest, CarriesAFlowFromSynToEnd) {
  auto answers = Say({.sequence = 100, .flags = kTcpSyn});
  ASSERT_EQ(answers.size(), 1U);
  EXPECT_EQ(FlagsOf(answers[0]), kTcpSyn | kTcpAck);
  const uint32_t theirs = SequenceOf(answers[0]) + 1;

  Say({.sequence = 101, .acknowledgement = theirs, .payload = {'h', 'e', 'y'}});
  ASSERT_EQ(rig_.host().peers().size(), 1U);
  HostPeer& peer = *rig_.host().peers()[0];
  std::string got(16, '\0');
  got.resize(peer.Take({reinterpret_cast<uint8_t*>(got.data()), got.size()}));
  EXPECT_EQ(got, "hey");

  const std::string reply = "hello";
  peer.Send({reinterpret_cast<const uint8_t*>(reply.data()), reply.size()});
  peer.Finish();
  rig_.Settle();
  auto data = rig_.link().PopToGuest();
  ASSERT_TRUE(data.has_value());
  EXPECT_EQ(std::string(data->bytes.end() - 5, data->bytes.end()), reply);

  Say({.sequence = 104, .acknowledgement = theirs + 6, .flags = kTcpAck | kTcpFin});
  EXPECT_TRUE(peer.saw_end());
  EXPECT_FALSE(peer.saw_reset());
  EXPECT_TRUE(peer.closed());
  EXPECT_EQ(rig_.stepped().AuditEnd(), "");
}

// Who looks for events before sleeping lets a prompt answer take the acknowledgement along, but
// what waited in vain is paid for.
TEST_P(RigTest, AcknowledgesByItselfOrWithTheAnswer) {
  auto answers = Say({.sequence = 100, .flags = kTcpSyn});
  ASSERT_EQ(answers.size(), 1U);
  const uint32_t theirs = SequenceOf(answers[0]) + 1;
  bool prompt = true;
  uint32_t sequence = 101, answered = 0;
  rig_.host().peers()[0]->on_change = [&] {
    HostPeer& peer = *rig_.host().peers()[0];
    uint8_t question[16];
    if (peer.Take(question) > 0 && prompt) peer.Send({question, 1});
  };
  const auto ask = [&] {
    const auto heard =
        Say({.sequence = sequence++, .acknowledgement = theirs + answered, .payload = {'?'}});
    answered += prompt ? 1 : 0;
    return heard.size();
  };
  const size_t with_answer = GetParam() == SteppedStack::Form::kOneThreadBusy ? 1U : 2U;
  EXPECT_EQ(ask(), with_answer);
  prompt = false;
  EXPECT_EQ(ask(), 1U) << "in vain";
  prompt = true;
  EXPECT_EQ(ask(), 2U) << "paid for";
  EXPECT_EQ(ask(), with_answer);
}

TEST_P(RigTest, RefusedDialIsAReset) {
  rig_.host().on_dial = [](HostPeer& peer) { peer.Fail(ECONNREFUSED); };
  const auto answers = Say({.sequence = 100, .flags = kTcpSyn});
  ASSERT_EQ(answers.size(), 1U);
  EXPECT_EQ(FlagsOf(answers[0]), kTcpRst | kTcpAck);
  EXPECT_EQ(rig_.stepped().AuditEnd(), "");
}

TEST_P(RigTest, SilentDialEndsAtItsDeadline) {
  rig_.host().on_dial = [](HostPeer&) {};
  EXPECT_TRUE(Say({.sequence = 100, .flags = kTcpSyn}).empty());
  EXPECT_EQ(rig_.next(), rig_.now() + Config{}.dial_timeout);
  rig_.AdvanceTo(rig_.next());
  EXPECT_TRUE(rig_.host().peers()[0]->closed());
  EXPECT_EQ(rig_.stepped().AuditEnd(), "");
}

TEST_P(RigTest, GuestsResetReachesThePeer) {
  auto answers = Say({.sequence = 100, .flags = kTcpSyn});
  ASSERT_EQ(answers.size(), 1U);
  const uint32_t theirs = SequenceOf(answers[0]) + 1;
  Say({.sequence = 101, .acknowledgement = theirs});
  Say({.sequence = 101, .acknowledgement = theirs, .flags = kTcpRst | kTcpAck});
  EXPECT_TRUE(rig_.host().peers()[0]->saw_reset());
  EXPECT_EQ(rig_.stepped().AuditEnd(), "");
}

}  // namespace
}  // namespace penstock::world
