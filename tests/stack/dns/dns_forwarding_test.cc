// Which upstream is asked when, what counts as an answer, limits: on virtual time.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/stack/dns/dns_rig.h"

namespace penstock {
namespace {

using namespace std::chrono_literals;

constexpr int kServerFailure = 2;

Bytes Named(int i) { return DnsAsk({.name = "n" + std::to_string(i) + ".test"}); }

TEST(DnsForwardingTest, TheNextOneAfterTwoSeconds) {
  DnsRig rig;
  rig.Ask(DnsAsk());
  const DnsRig::Sent first = rig.Question();
  EXPECT_EQ(rig.service.NextDeadline(), rig.now + 2s);
  rig.Wait(2s - 1ns);
  EXPECT_TRUE(rig.Questions().empty());
  rig.Wait(1ns);
  const DnsRig::Sent second = rig.Question();
  EXPECT_EQ(second.upstream, DnsRig::kSecond);
  EXPECT_EQ(second.socket->pipe->request->family, Family::kIpv6);
  EXPECT_EQ(Bytes(second.message.begin() + 2, second.message.end()),
            Bytes(first.message.begin() + 2, first.message.end()));
  rig.AnswerTo(second, DnsAnswerTo(second.message, {DnsRecordOf("a.test", "192.0.2.1")}));
  EXPECT_EQ(SeeDns(rig.Answer()).addresses.size(), 1u);
  EXPECT_EQ(rig.counters.dns_failovers.value(), 1u);
  EXPECT_EQ(rig.counters.dns_timeouts.value(), 1u);
}

TEST(DnsForwardingTest, ADeadOneGoesLastForThirtySeconds) {
  DnsRig rig;
  rig.Ask(DnsAsk());
  (void)rig.Question();
  rig.Wait(2s);
  DnsRig::Sent sent = rig.Question();
  rig.AnswerTo(sent, DnsAnswerTo(sent.message));
  rig.Ask(Named(1));
  sent = rig.Question();
  EXPECT_EQ(sent.upstream, DnsRig::kSecond);
  rig.AnswerTo(sent, DnsAnswerTo(sent.message));
  rig.Wait(30s - 1ns);
  rig.Ask(Named(2));
  sent = rig.Question();
  EXPECT_EQ(sent.upstream, DnsRig::kSecond);
  rig.AnswerTo(sent, DnsAnswerTo(sent.message));
  rig.Wait(1ns);
  rig.Ask(Named(3));
  EXPECT_EQ(rig.Question().upstream, DnsRig::kFirst);
}

TEST(DnsForwardingTest, AllDeadIsAFailureAfterFourSeconds) {
  DnsRig rig;
  rig.Ask(DnsAsk({.edns_bytes = 512}));
  EXPECT_EQ(rig.Question().upstream, DnsRig::kFirst);
  rig.Wait(2s);
  EXPECT_EQ(rig.Question().upstream, DnsRig::kSecond);
  rig.Wait(2s - 1ns);
  EXPECT_TRUE(rig.Received().empty());
  rig.Wait(1ns);
  const DnsSeen seen = SeeDns(rig.Answer());
  EXPECT_EQ(seen.rcode(), kServerFailure);
  EXPECT_EQ(seen.id, 0x1234);
  EXPECT_TRUE(seen.edns);
  EXPECT_EQ(rig.service.outstanding(), 0u);
  EXPECT_EQ(rig.policy.outcomes, std::vector<std::string>{"a.test no upstream"});
  // Dead, both of them: they are asked all the same, the one that failed first at first.
  rig.Ask(DnsAsk());
  EXPECT_EQ(rig.Question().upstream, DnsRig::kFirst);
}

TEST(DnsForwardingTest, ALoneOneIsAskedTwice) {
  Config config;
  config.dns.upstreams = {DnsRig::kFirst};
  DnsRig rig(config);
  rig.Ask(DnsAsk());
  const DnsRig::Sent lost = rig.Question();
  rig.Wait(2s);
  const DnsRig::Sent again = rig.Question();
  EXPECT_EQ(again.upstream, DnsRig::kFirst);
  EXPECT_NE(again.message, lost.message) << "with another id";
  rig.AnswerTo(again, DnsAnswerTo(again.message));
  EXPECT_EQ(SeeDns(rig.Answer()).rcode(), 0);
}

TEST(DnsForwardingTest, ALateAnswerCountsAsLongAsNobodyElseAnswered) {
  DnsRig rig;
  rig.Ask(DnsAsk());
  const DnsRig::Sent first = rig.Question();
  rig.Wait(2s);
  const DnsRig::Sent second = rig.Question();
  rig.Wait(1s);
  rig.AnswerTo(first, DnsAnswerTo(first.message, {DnsRecordOf("a.test", "192.0.2.1")}));
  EXPECT_EQ(SeeDns(rig.Answer()).addresses.size(), 1u);
  rig.AnswerTo(second, DnsAnswerTo(second.message));
  rig.AnswerTo(first, DnsAnswerTo(first.message));
  EXPECT_TRUE(rig.Received().empty()) << "one answer for one question";
  EXPECT_EQ(rig.counters.dns_answers_false.value(), 2u);
  rig.Ask(Named(1));
  EXPECT_EQ(rig.Question().upstream, DnsRig::kSecond) << "who answers late is still dead";
}

TEST(DnsForwardingTest, AnUnreachableOneIsPassedOverAtOnce) {
  DnsRig rig;
  rig.Ask(DnsAsk());
  const DnsRig::Sent first = rig.Question();
  rig.Fail(first, FaultKind::kPort);
  const DnsRig::Sent second = rig.Question();
  EXPECT_EQ(second.upstream, DnsRig::kSecond);
  rig.Fail(second, FaultKind::kNetwork);
  EXPECT_EQ(SeeDns(rig.Answer()).rcode(), kServerFailure) << "both said so";
  EXPECT_EQ(rig.counters.dns_upstream_errors.value(), 2u);
  rig.Fail(second);  // late
  EXPECT_TRUE(rig.Received().empty());
  rig.Ask(Named(1));
  EXPECT_EQ(rig.Question().upstream, DnsRig::kFirst) << "all are dead: in order";
}

TEST(DnsForwardingTest, ATimeoutThenARefusalWaitsForTheFirst) {
  DnsRig rig;
  rig.Ask(DnsAsk());
  const DnsRig::Sent first = rig.Question();
  rig.Wait(2s);
  rig.Fail(rig.Question());
  EXPECT_TRUE(rig.Questions().empty());
  rig.Wait(1s);
  EXPECT_TRUE(rig.Received().empty());
  rig.AnswerTo(first, DnsAnswerTo(first.message));
  EXPECT_EQ(SeeDns(rig.Answer()).rcode(), 0);
}

TEST(DnsForwardingTest, WithoutASocketTheUpstreamIsNotToBlame) {
  DnsRig rig;
  rig.Ask(DnsAsk());
  const DnsRig::Sent first = rig.Question();
  rig.Fail(first, FaultKind::kNoSocket);
  rig.Fail(rig.Question(), FaultKind::kNoSocket);
  EXPECT_EQ(SeeDns(rig.Answer()).rcode(), kServerFailure);
  rig.Pass();
  EXPECT_TRUE(first.socket->closed) << "another one is tried the next time";
  rig.Ask(Named(1));
  const DnsRig::Sent sent = rig.Question();
  EXPECT_EQ(sent.upstream, DnsRig::kFirst);
  EXPECT_NE(sent.socket, first.socket);
}

TEST(DnsForwardingTest, OnlyTheAnswerIsTheAnswer) {
  DnsRig rig;
  rig.Ask(DnsAsk());
  const DnsRig::Sent sent = rig.Question();
  const Bytes good = DnsAnswerTo(sent.message, {DnsRecordOf("a.test", "192.0.2.1")});
  Bytes wrong = good;
  Put16(wrong, 0, static_cast<uint16_t>(sent.message[0] << 8 | sent.message[1]) ^ 1);
  rig.AnswerTo(sent, wrong);
  sent.socket->Arrive({Address("192.0.2.66"), 53}, good);
  sent.socket->Arrive({sent.upstream.address, 54}, good);
  rig.Pass();
  rig.AnswerTo(sent, sent.message);  // the question itself
  Bytes other = DnsAnswerTo(DnsAsk({.name = "b.test"}), {DnsRecordOf("b.test", "192.0.2.66")});
  std::copy_n(sent.message.begin(), 2, other.begin());
  rig.AnswerTo(sent, other);
  rig.AnswerTo(sent, Bytes(5));
  rig.AnswerTo(sent, {});
  EXPECT_TRUE(rig.Received().empty());
  EXPECT_EQ(rig.counters.dns_answers_false.value(), 7u);
  rig.AnswerTo(sent, good);
  EXPECT_EQ(SeeDns(rig.Answer()).addresses, std::vector<std::string>{"192.0.2.1"});
}

TEST(DnsForwardingTest, AnAnswerThroughAnotherSocketIsFalse) {
  DnsRig rig;
  rig.Ask(DnsAsk());
  const DnsRig::Sent sent = rig.Question();
  DnsRig::Sent other;
  for (int i = 0; other.socket == nullptr || other.socket == sent.socket; ++i) {
    rig.Ask(Named(i), static_cast<uint16_t>(6'000 + i));
    other = rig.Question();
  }
  other.socket->Arrive(sent.upstream, DnsAnswerTo(sent.message));
  rig.Pass();
  EXPECT_TRUE(rig.Received().empty());
  EXPECT_EQ(rig.counters.dns_answers_false.value(), 1u);
}

TEST(DnsForwardingTest, AnAnswerThatCannotBeReadIsNone) {
  DnsRig rig;
  rig.Ask(DnsAsk());
  const DnsRig::Sent first = rig.Question();
  Bytes cut = DnsAnswerTo(first.message, {DnsRecordOf("a.test", "192.0.2.1")});
  cut.pop_back();
  rig.AnswerTo(first, cut);
  EXPECT_EQ(rig.counters.dns_answers_malformed.value(), 1u);
  const DnsRig::Sent second = rig.Question();
  EXPECT_EQ(second.upstream, DnsRig::kSecond);
  rig.AnswerTo(second, DnsAnswerTo(second.message));
  EXPECT_EQ(SeeDns(rig.Answer()).rcode(), 0);
}

// ---------------------------------------------------------------- which upstream

TEST(DnsForwardingTest, TheLongestDomainRules) {
  const Endpoint corp{Address("192.0.2.100"), 5'353}, deep{Address("192.0.2.101"), 53};
  Config config;
  config.dns.upstreams = {DnsRig::kFirst};
  config.dns.domains = {{"Corp.test", {corp}}, {"deep.corp.test", {deep}}};
  DnsRig rig(config);
  const std::map<std::string, Endpoint> expected = {
      {"corp.test", corp},        {"www.CORP.test", corp},
      {"a.deep.corp.test", deep}, {"xcorp.test", DnsRig::kFirst},
      {"test", DnsRig::kFirst},   {"", DnsRig::kFirst}};
  for (const auto& [name, upstream] : expected) {
    rig.Ask(DnsAsk({.name = name}));
    EXPECT_EQ(rig.Question().upstream, upstream) << name;
  }
}

TEST(DnsForwardingTest, AnUpstreamWithASixInFour) {
  Config config;
  config.dns.upstreams = {{Address("::ffff:192.0.2.9"), 53}};
  DnsRig rig(config);
  rig.Ask(DnsAsk());
  const DnsRig::Sent sent = rig.Question();
  EXPECT_EQ(sent.upstream.ToString(), "192.0.2.9:53");
  rig.AnswerTo(sent, DnsAnswerTo(sent.message));
  EXPECT_EQ(rig.Received().size(), 1u);
}

TEST(DnsForwardingTest, TheHostsOwnAreFollowed) {
  const std::string path = testing::TempDir() + "penstock-dns-forwarding-resolv.conf";
  std::ofstream(path) << "nameserver 192.0.2.1\n";
  Config config;
  config.dns.resolv_conf = path;
  DnsRig rig(config);
  EXPECT_GE(rig.service.descriptor(), 0);
  rig.Ask(DnsAsk());
  const DnsRig::Sent old = rig.Question();
  EXPECT_EQ(old.upstream.ToString(), "192.0.2.1:53");
  std::ofstream(path) << "nameserver 2001:db8::2\n";
  rig.service.Update();
  EXPECT_EQ(rig.counters.dns_upstream_changes.value(), 1u);
  rig.Ask(Named(1));
  EXPECT_EQ(rig.Question().upstream.ToString(), "[2001:db8::2]:53");
  rig.AnswerTo(old, DnsAnswerTo(old.message));
  EXPECT_EQ(rig.Received().size(), 1u) << "who was asked before may still answer";
  std::remove(path.c_str());
}

// ---------------------------------------------------------------- limits

TEST(DnsForwardingTest, TheSameAgainWhileItIsOutstandingIsNothingNew) {
  DnsRig rig;
  rig.Ask(DnsAsk());
  const DnsRig::Sent sent = rig.Question();
  rig.Ask(DnsAsk());
  EXPECT_TRUE(rig.Questions().empty());
  EXPECT_EQ(rig.counters.dns_repeated.value(), 1u);
  rig.Ask(DnsAsk(), 5'001);
  rig.Ask(DnsAsk(), 5'000, Endpoint{kGateway4, 53});
  rig.Ask(DnsAsk({.id = 0x1235}));
  rig.Ask(DnsAsk({.type = 28}));
  EXPECT_EQ(rig.Questions().size(), 4u) << "each of them is another question";
  rig.AnswerTo(sent, DnsAnswerTo(sent.message));
  EXPECT_EQ(rig.Received().size(), 1u);
  rig.Ask(DnsAsk());
  EXPECT_EQ(rig.Questions().size(), 1u) << "answered: the next is a new one";
}

TEST(DnsForwardingTest, BeyondTheLimitNothingIsAnswered) {
  Config config;
  config.dns.upstreams = {DnsRig::kFirst};
  config.dns.outstanding_max = 3;
  DnsRig rig(config);
  for (int i = 0; i < 5; ++i) rig.Ask(Named(i));
  const std::vector<DnsRig::Sent> sent = rig.Questions();
  EXPECT_EQ(sent.size(), 3u);
  EXPECT_EQ(rig.counters.dns_limit.value(), 2u);
  EXPECT_TRUE(rig.Received().empty());
  rig.Ask(DnsAsk({.name = "gateway.penstock.internal"}));
  EXPECT_EQ(rig.Received().size(), 1u) << "what needs no upstream is answered";
  rig.AnswerTo(sent[0], DnsAnswerTo(sent[0].message));
  rig.Ask(Named(4));
  EXPECT_EQ(rig.Questions().size(), 1u) << "the guest's retry succeeds";
}

TEST(DnsForwardingTest, AStreamsQuestionBeyondTheLimitFails) {
  Config config;
  config.dns.outstanding_max = 1;
  DnsRig rig(config);
  rig.Ask(DnsAsk());
  CountingAsker asker;
  const Bytes ask = Named(1);
  rig.AskByStream(ask, asker, 7);
  ASSERT_EQ(asker.answers.size(), 1u);
  EXPECT_EQ(asker.answers[0].first, 7u);
  EXPECT_EQ(SeeDns(asker.answers[0].second).rcode(), kServerFailure);
}

TEST(DnsForwardingTest, WhatIsForgottenIsNotAnswered) {
  DnsRig rig;
  CountingAsker asker;
  const Bytes ask = DnsAsk();
  rig.service.Ask({.message = ask, .asker = &asker, .token = 1}, rig.now);
  rig.Pass();
  const DnsRig::Sent sent = rig.Question();
  rig.service.Forget(asker, 2);
  EXPECT_EQ(rig.service.outstanding(), 1u);
  rig.service.Forget(asker, 1);
  rig.service.Forget(asker, 1);
  EXPECT_EQ(rig.service.outstanding(), 0u);
  rig.AnswerTo(sent, DnsAnswerTo(sent.message));
  rig.Wait(10s);
  EXPECT_TRUE(asker.answers.empty());
  EXPECT_EQ(rig.counters.dns_forgotten.value(), 1u);
}

// ---------------------------------------------------------------- streams

TEST(DnsForwardingTest, AskedByTcpWhoAsksByTcp) {
  DnsRig rig;
  CountingAsker asker;
  rig.AskByStream(DnsAsk(), asker);
  const DnsRig::Sent sent = rig.Question();
  EXPECT_EQ(sent.socket->pipe->request->kind, DatagramKind::kFramedStream);
  EXPECT_EQ(sent.socket->pipe->request->family, Family::kIpv4);
  EXPECT_EQ(sent.upstream, DnsRig::kFirst);
  const std::vector<DnsRecordSpec> many(200, DnsRecordOf("a.test", "192.0.2.1"));
  rig.AnswerTo(sent, DnsAnswerTo(sent.message, many));
  ASSERT_EQ(asker.answers.size(), 1u);
  EXPECT_EQ(SeeDns(asker.answers[0].second).addresses.size(), 200u) << "of any length";
  EXPECT_EQ(SeeDns(asker.answers[0].second).id, 0x1234);
  rig.Pass();
  EXPECT_TRUE(sent.socket->closed) << "a connection for each question";
  EXPECT_EQ(rig.counters.dns_questions_tcp.value(), 1u);
}

TEST(DnsForwardingTest, AStreamThatEndsOrCannotBeMadeIsPassedOver) {
  for (const FaultKind kind :
       {FaultKind::kNoSocket, FaultKind::kStreamEnd, FaultKind::kStreamBroken}) {
    DnsRig rig;
    CountingAsker asker;
    rig.AskByStream(DnsAsk(), asker);
    const DnsRig::Sent first = rig.Question();
    rig.Fail(first, kind);
    const DnsRig::Sent second = rig.Question();
    EXPECT_EQ(second.upstream, DnsRig::kSecond);
    rig.Pass();
    EXPECT_TRUE(first.socket->closed);
    rig.AnswerTo(second, DnsAnswerTo(second.message));
    EXPECT_EQ(asker.answers.size(), 1u);
    rig.Ask(Named(1));
    EXPECT_EQ(rig.Question().upstream, DnsRig::kSecond) << "the first one is dead, by UDP too";
  }
}

TEST(DnsForwardingTest, ASilentStreamIsWaitedForLikeAnythingElse) {
  DnsRig rig;
  CountingAsker asker;
  rig.AskByStream(DnsAsk(), asker);
  (void)rig.Question();
  rig.Wait(2s);
  (void)rig.Question();
  rig.Wait(2s);
  ASSERT_EQ(asker.answers.size(), 1u);
  EXPECT_EQ(SeeDns(asker.answers[0].second).rcode(), kServerFailure);
  rig.Pass();
  for (const auto& socket : PlayedSockets()) EXPECT_TRUE(socket->closed);
}

TEST(DnsForwardingTest, StreamsAreFew) {
  DnsRig rig;
  CountingAsker asker;
  for (uint64_t i = 0; i < 70; ++i) rig.AskByStream(Named(static_cast<int>(i)), asker, i);
  EXPECT_EQ(rig.Questions().size(), 64u);
  EXPECT_EQ(asker.answers.size(), 6u);
  EXPECT_EQ(rig.counters.dns_limit.value(), 6u);
  for (uint64_t i = 0; i < 64; ++i) rig.service.Forget(asker, i);
  rig.Pass();
  rig.Pass();
  rig.AskByStream(Named(100), asker, 100);
  EXPECT_EQ(rig.Questions().size(), 1u);
}

TEST(DnsForwardingTest, WithoutAStreamToAskAgainTheFirstIsWaitedFor) {
  DnsRig rig;
  CountingAsker asker;
  for (uint64_t i = 0; i < 64; ++i) rig.AskByStream(Named(static_cast<int>(i)), asker, i);
  const std::vector<DnsRig::Sent> sent = rig.Questions();
  rig.Wait(2s);
  EXPECT_TRUE(rig.Questions().empty());
  rig.AnswerTo(sent[0], DnsAnswerTo(sent[0].message));
  ASSERT_EQ(asker.answers.size(), 1u);
  EXPECT_EQ(SeeDns(asker.answers[0].second).rcode(), 0);
  rig.Wait(2s);
  EXPECT_EQ(asker.answers.size(), 64u);
}

// ---------------------------------------------------------------- sockets

TEST(DnsForwardingTest, IdsAndPortsAreNotToBeGuessed) {
  DnsRig rig;
  std::set<uint16_t> ids;
  for (int i = 0; i < 200; ++i) {
    rig.Ask(Named(i));
    const DnsRig::Sent sent = rig.Question();
    ids.insert(DnsIdOf(sent.message));
    rig.AnswerTo(sent, DnsAnswerTo(sent.message));
  }
  EXPECT_EQ(rig.Received().size(), 200u);
  EXPECT_GT(ids.size(), 190u);
  // Eight at once, each for 32 questions.
  EXPECT_GE(PlayedSockets().size(), 200u / 32);
  rig.Pass();
  size_t open = 0;
  for (const auto& socket : PlayedSockets()) open += socket->closed ? 0 : 1;
  EXPECT_LE(open, 8u);
}

TEST(DnsForwardingTest, ASocketOfTenSecondsIsReplacedAndClosedWithItsLastQuestion) {
  DnsRig rig;
  std::set<PlayedSocket*> old;
  std::vector<DnsRig::Sent> waiting;
  for (int i = 0; i < 60; ++i) {
    rig.Ask(Named(i));
    waiting.push_back(rig.Question());
    old.insert(waiting.back().socket);
  }
  EXPECT_LE(old.size(), 9u);
  for (const DnsRig::Sent& sent : waiting) rig.AnswerTo(sent, DnsAnswerTo(sent.message));
  rig.Wait(9s);
  rig.Ask(Named(100));
  const DnsRig::Sent last = rig.Question();
  rig.Wait(1s);
  for (int i = 200; i < 260; ++i) {
    rig.Ask(Named(i));
    const DnsRig::Sent sent = rig.Question();
    EXPECT_FALSE(old.contains(sent.socket));
    rig.AnswerTo(sent, DnsAnswerTo(sent.message));
  }
  EXPECT_FALSE(last.socket->closed) << "its question is not answered";
  rig.AnswerTo(last, DnsAnswerTo(last.message));
  rig.Pass();
  for (PlayedSocket* socket : old) EXPECT_TRUE(socket->closed);
}

TEST(DnsForwardingTest, WhenNobodyAsksNothingIsLeftAndNobodyWakes) {
  DnsRig rig;
  EXPECT_EQ(rig.service.NextDeadline(), kNever);
  rig.Ask(DnsAsk());
  const DnsRig::Sent sent = rig.Question();
  rig.AnswerTo(sent, DnsAnswerTo(sent.message));
  EXPECT_EQ(rig.service.NextDeadline(), rig.now + 10s);
  rig.Wait(10s);
  rig.Pass();
  EXPECT_TRUE(sent.socket->closed);
  EXPECT_EQ(rig.service.NextDeadline(), kNever);
  rig.Ask(DnsAsk());
  EXPECT_EQ(rig.Questions().size(), 1u);
}

}  // namespace
}  // namespace penstock
