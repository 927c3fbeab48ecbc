// DNS over TCP from the guest's segments to a played service and back: pipelining, answers
// in any order, finishing first, the idle timeout, and every bound.
#include "stack/dns/dns_streams.h"

#include <algorithm>
#include <string>
#include <vector>

#include "tests/stack/flow/flow_fixture.h"
#include "tests/support/framed.h"
#include "tests/support/stack_peer.h"

namespace penstock {
namespace {

constexpr uint8_t kFinAck = kTcpFin | kTcpAck;
constexpr uint16_t kDns = 53;

// Answers when the test says so, or at once.
class PlayedService {
 public:
  struct Question {
    std::string message;
    Endpoint guest, asked;
    uint64_t token = 0;
    DnsTransport transport = DnsTransport::kUdp;
  };

  [[nodiscard]] DnsStreamsService AsService() {
    return {.serves = [](const Endpoint& destination) { return destination.port == kDns; },
            .ask = [this](const DnsQuery& query, Time) { Ask(query); },
            .forget = [this](DnsAsker&, uint64_t token) { Forget(token); }};
  }
  void Answer(size_t index, std::string_view message) {
    const uint64_t token = outstanding.at(index).token;
    outstanding.erase(outstanding.begin() + static_cast<ptrdiff_t>(index));
    asker_->Answer(token, {reinterpret_cast<const uint8_t*>(message.data()), message.size()});
  }

  std::vector<Question> outstanding;
  size_t asked = 0;
  size_t forgotten = 0;
  bool at_once = false;  // with the question itself

 private:
  void Ask(const DnsQuery& query) {
    ++asked;
    asker_ = query.asker;
    outstanding.push_back(
        {.message = {reinterpret_cast<const char*>(query.message.data()), query.message.size()},
         .guest = query.guest,
         .asked = query.asked,
         .token = query.token,
         .transport = query.transport});
    if (at_once) Answer(outstanding.size() - 1, std::string(outstanding.back().message));
  }
  void Forget(uint64_t token) {
    ++forgotten;
    const auto removed = std::erase_if(
        outstanding, [token](const Question& question) { return question.token == token; });
    EXPECT_EQ(removed, 1u);
  }

  DnsAsker* asker_ = nullptr;
};

class DnsStreamsTest : public FlowTest {
 protected:
  void SetUp() override {
    Start();
    StackPeer::ServeDnsStreams(guest().stack(), service_.AsService());
  }
  // The service goes after the stack.
  void TearDown() override {
    FlowTest::TearDown();
    guest().DestroyStack();
  }
  GuestFlow& Open() {
    GuestFlow& flow = guest().Flow(kDns);
    flow.Handshake();
    return flow;
  }
  void Ask(GuestFlow& flow, std::string_view message) {
    const size_t before = service_.asked;
    flow.Send({.payload = Framed(message)});
    guest().Until("a question", [&] { return service_.asked > before; });
  }
  // Also wakes the stack, as whatever brought the answer would.
  void Answer(size_t index, std::string_view message) {
    guest().stack().Post(
        [this, index, text = std::string(message)](Stack&) { service_.Answer(index, text); });
    guest().Pass();
  }
  void ExpectReceived(GuestFlow& flow, const std::string& bytes) {
    flow.Send({});  // what came while the guest was sending is acknowledged
    flow.ReceiveTo(bytes.size());
    EXPECT_EQ(flow.received(), bytes);
  }
  void UntilFinished(GuestFlow& flow) {
    guest().Until("the end at the guest", [&] {
      flow.Forget();
      flow.Send({});
      return flow.finished() || flow.reset();
    });
    EXPECT_FALSE(flow.reset());
    flow.Send({});  // the end itself, too, is acknowledged
  }

  PlayedService service_;
};
PENSTOCK_BOTH_FAMILIES(DnsStreamsTest);

TEST_P(DnsStreamsTest, AQuestionAndItsAnswer) {
  GuestFlow& flow = Open();
  Ask(flow, "question");
  ASSERT_EQ(service_.outstanding.size(), 1u);
  const PlayedService::Question& question = service_.outstanding[0];
  EXPECT_EQ(question.message, "question");
  EXPECT_EQ(question.guest, flow.guest());
  EXPECT_EQ(question.asked, flow.destination());
  EXPECT_EQ(question.transport, DnsTransport::kTcp);
  Answer(0, "answer");
  ExpectReceived(flow, Framed("answer"));
  EXPECT_EQ(counters().dns_streams, 1u);
  EXPECT_EQ(counters().dns_streams_opened, 1u);
}

TEST_P(DnsStreamsTest, AnswersComeInTheirOwnOrder) {
  GuestFlow& flow = Open();
  flow.Send({.payload = Framed("a") + Framed("") + Framed("c")});
  guest().Until("three questions", [&] { return service_.asked == 3; });
  EXPECT_EQ(service_.outstanding[1].message, "");
  Answer(2, "to c");
  Answer(0, "to a");
  Answer(0, "to the empty one");
  ExpectReceived(flow, Framed("to c") + Framed("to a") + Framed("to the empty one"));
}

// Many more than may be outstanding, each answered before Ask returns.
TEST_P(DnsStreamsTest, AnswersAtOnce) {
  service_.at_once = true;
  GuestFlow& flow = Open();
  std::string questions;
  for (int i = 0; i < 1'000; ++i) questions += Framed("question " + std::to_string(i));
  flow.SendAll(questions);
  ExpectReceived(flow, questions);
  EXPECT_EQ(service_.asked, 1'000u);
}

// RFC 7766 6.2.3.
TEST_P(DnsStreamsTest, WhoFinishesFirstGetsItsAnswers) {
  GuestFlow& flow = Open();
  flow.Send({.flags = kFinAck, .payload = Framed("a") + Framed("b")});
  guest().Until("two questions", [&] { return service_.asked == 2; });
  flow.Forget();
  Answer(1, "to b");
  flow.ReceiveTo(6);
  EXPECT_FALSE(flow.finished());
  Answer(0, "to a");
  UntilFinished(flow);
  EXPECT_EQ(flow.received(), Framed("to b") + Framed("to a"));
  ExpectNoFlowLeft();
  EXPECT_EQ(counters().dns_streams, 0u);
  EXPECT_EQ(service_.forgotten, 0u);
}

TEST_P(DnsStreamsTest, WhoAsksNothingAndFinishesIsClosed) {
  GuestFlow& flow = Open();
  flow.Send({.flags = kFinAck});
  UntilFinished(flow);
  ExpectNoFlowLeft();
}

// No answer is wanted by the service's own word: the connection goes on.
TEST_P(DnsStreamsTest, AnEmptyAnswerIsNone) {
  GuestFlow& flow = Open();
  Ask(flow, "no question");
  Answer(0, "");
  Ask(flow, "question");
  Answer(0, "answer");
  ExpectReceived(flow, Framed("answer"));
  // And one that finished is closed then, too.
  flow.Send({.flags = kFinAck, .payload = Framed("no question")});
  guest().Until("the question", [&] { return service_.asked == 3; });
  Answer(0, "");
  UntilFinished(flow);
  ExpectNoFlowLeft();
}

// A pair's end sees no reset but an end, so what was asked is answered; nobody gets it.
TEST_P(DnsStreamsTest, AfterAResetAnswersAreLost) {
  GuestFlow& flow = Open();
  Ask(flow, "a");
  Ask(flow, "b");
  flow.Send({.flags = kTcpRst});
  ExpectNoFlowLeft();
  Answer(0, "nobody hears this");
  Answer(0, "nor this");
  guest().Until("no connection", [&] { return counters().dns_streams == 0; });
  EXPECT_EQ(counters().stream_messages_lost, 2u);
  EXPECT_EQ(service_.forgotten, 0u);
}

TEST_P(DnsStreamsTest, AHalfQuestionIsForgotten) {
  GuestFlow& flow = Open();
  Ask(flow, "a");
  flow.Send({.flags = kFinAck, .payload = Framed("question").substr(0, 4)});
  guest().Until("forgotten", [&] { return service_.forgotten == 1; });
  EXPECT_EQ(service_.asked, 1u);
  UntilFinished(flow);
  ExpectNoFlowLeft();
}

// ---------------------------------------------------------------- time

TEST_P(DnsStreamsTest, IdleConnectionsEndAfterTenSeconds) {
  GuestFlow& flow = Open();
  guest().Advance(9s);
  service_.at_once = true;
  Ask(flow, "question");
  ExpectReceived(flow, Framed("question"));
  guest().Advance(9s);
  flow.Forget();
  EXPECT_EQ(counters().dns_streams_expired, 0u);
  guest().Advance(2s);
  EXPECT_EQ(counters().dns_streams_expired, 1u);
  UntilFinished(flow);
  flow.Send({.flags = kFinAck});
  ExpectNoFlowLeft();
}

// Bytes that make no message do not keep a connection.
TEST_P(DnsStreamsTest, HalfAQuestionIsNoSignOfLife) {
  GuestFlow& flow = Open();
  const std::string question = Framed("question");
  for (int i = 0; i < 4; ++i) {
    flow.Send({.payload = question.substr(static_cast<size_t>(i), 1)});
    guest().Advance(3s);
  }
  EXPECT_EQ(counters().dns_streams_expired, 1u);
  EXPECT_EQ(service_.asked, 0u);
}

// A question may take longer than the timeout; but nothing lasts for ever.
TEST_P(DnsStreamsTest, AQuestionKeepsItsConnectionForAWhile) {
  GuestFlow& flow = Open();
  Ask(flow, "slow");
  guest().Advance(25s);
  EXPECT_EQ(counters().dns_streams_expired, 0u);
  Answer(0, "at last");
  ExpectReceived(flow, Framed("at last"));
  Ask(flow, "never");
  guest().Advance(31s);
  EXPECT_EQ(counters().dns_streams_expired, 1u);
  EXPECT_EQ(service_.forgotten, 1u);
}

// ---------------------------------------------------------------- bounds

TEST_P(DnsStreamsTest, TheOneUsedLeastRecentlyGivesWay) {
  std::vector<GuestFlow*> flows;
  for (size_t i = 0; i < DnsStreams::kConnectionsMax; ++i) flows.push_back(&Open());
  service_.at_once = true;
  Ask(*flows[0], "still here");
  EXPECT_EQ(counters().dns_streams_evicted, 0u);
  Open();
  EXPECT_EQ(counters().dns_streams_evicted, 1u);
  EXPECT_EQ(counters().dns_streams, DnsStreams::kConnectionsMax);
  UntilFinished(*flows[1]);
  Ask(*flows[0], "and again");
  ExpectReceived(*flows[0], Framed("still here") + Framed("and again"));
}

TEST_P(DnsStreamsTest, BeyondItsQuestionsAConnectionIsNotRead) {
  GuestFlow& flow = Open();
  std::string questions;
  constexpr size_t kAsked = 3 * DnsStreams::kQuestionsMax;
  for (size_t i = 0; i < kAsked; ++i) questions += Framed(std::to_string(i));
  flow.SendAll(questions);
  guest().Until("questions", [&] { return service_.asked == DnsStreams::kQuestionsMax; });
  guest().Until("quiet", [&] { return guest().StaysQuiet(); });
  EXPECT_EQ(service_.asked, DnsStreams::kQuestionsMax);
  std::string answers;
  for (size_t i = 0; i < kAsked; ++i) {
    ASSERT_FALSE(service_.outstanding.empty()) << i;
    ASSERT_LE(service_.outstanding.size(), DnsStreams::kQuestionsMax);
    const std::string message = service_.outstanding[0].message;
    EXPECT_EQ(message, std::to_string(i));
    answers += Framed(message);
    Answer(0, message);
    const size_t wanted = std::min(kAsked, DnsStreams::kQuestionsMax + i + 1);
    guest().Until("the next question", [&] { return service_.asked == wanted; });
  }
  ExpectReceived(flow, answers);
}

// A guest that reads no answers is asked no questions, and what is too much ends it.
TEST_P(DnsStreamsTest, AnswersThatAreNotTakenHaveABound) {
  GuestFlow& flow = guest().Flow(kDns);
  flow.Handshake({.window = 0});
  std::string questions;
  for (size_t i = 0; i < DnsStreams::kQuestionsMax; ++i) questions += Framed(std::to_string(i));
  flow.SendAll(questions);
  guest().Until("questions", [&] { return service_.asked == DnsStreams::kQuestionsMax; });
  const std::string answer = Pattern(60'000);
  size_t answered = 0;
  while (counters().dns_streams_overrun == 0) {
    ASSERT_FALSE(service_.outstanding.empty()) << "no bound";
    Answer(0, answer);
    ++answered;
  }
  EXPECT_GT(answered, 10u);
  guest().Until("the rest forgotten", [&] { return service_.outstanding.empty(); });
  EXPECT_EQ(service_.forgotten, DnsStreams::kQuestionsMax - answered);
  guest().Until("no connection", [&] { return counters().dns_streams == 0; });
}

}  // namespace
}  // namespace penstock
