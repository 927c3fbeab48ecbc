// Subscribers of the control socket: what they get, and that none of them can hold up the
// penstock or each other.
#include <gmock/gmock.h>

#include <vector>

#include "tests/tools/control_clients.h"

namespace penstock::tool {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

using namespace std::chrono_literals;

class ControlSubscribers : public ControlClients {
 protected:
  [[nodiscard]] Descriptor Subscribe() {
    Descriptor client = Connect();
    Send(client, kSubscribe);
    Serve();
    EXPECT_EQ(Receive(client).text, "[" + std::string(kSubscribe) + "]\n");
    return client;
  }
  void PublishAndFlush(const std::string& line) {
    server_->Publish(line);
    server_->Flush();
  }
  // Lines of `bytes` bytes until one is lost for whoever does not read; how many there were.
  int PublishUntilOneWaits(size_t bytes) {
    int count = 0;
    for (size_t sent = 0; sent < (size_t{4} << 20); sent += bytes, ++count) {
      PublishAndFlush(Line(count, bytes));
    }
    return count;
  }
  static std::string Line(int number, size_t bytes) {
    std::string line = std::to_string(number);
    return line + std::string(bytes - line.size() - 1, '.') + "\n";
  }
};

TEST_F(ControlSubscribers, SeeEachLineAndStay) {
  const Descriptor one = Subscribe();
  PublishAndFlush("1\n");
  const Descriptor two = Subscribe();
  EXPECT_EQ(server_->subscriber_count(), 2U);
  EXPECT_EQ(server_->client_count(), 0U);
  EXPECT_EQ(server_->deadline(), kNever) << "patience is for requests";
  server_->Publish("2\n");
  server_->Publish("3\n");
  EXPECT_EQ(Receive(one).text, "1\n") << "the rest waits for the end of the batch";
  server_->Flush();
  EXPECT_EQ(Receive(one).text, "2\n3\n");
  EXPECT_EQ(Receive(two).text, "2\n3\n");
  Serve(kControlStart + 1h);
  EXPECT_FALSE(Receive(one).ended);
  EXPECT_FALSE(readable());
}

TEST_F(ControlSubscribers, MayStopSending) {
  const Descriptor client = Subscribe();
  shutdown(client.get(), SHUT_WR);
  EXPECT_FALSE(readable()) << "or it would be asked for again and again";
  Serve();
  PublishAndFlush("1\n");
  EXPECT_EQ(Receive(client).text, "1\n");
}

TEST_F(ControlSubscribers, WhatTheySendIsNotRead) {
  const Descriptor client = Subscribe();
  Send(client, "{}{}");
  EXPECT_FALSE(readable());
  Serve();
  EXPECT_EQ(requests_, 1);
  PublishAndFlush("1\n");
  EXPECT_EQ(Receive(client).text, "1\n");
}

TEST_F(ControlSubscribers, ThatLeaveAreForgottenAtOnce) {
  Descriptor one = Subscribe();
  Descriptor two = Subscribe();
  one.Reset();
  EXPECT_TRUE(readable());
  Serve();
  EXPECT_EQ(server_->subscriber_count(), 1U);
  EXPECT_FALSE(readable());
  two.Reset();
  PublishAndFlush("1\n");  // found by writing, too
  EXPECT_EQ(server_->subscriber_count(), 0U);
  PublishAndFlush("2\n");
}

TEST_F(ControlSubscribers, SlowOnesLoseLinesAndAreToldHowMany) {
  constexpr size_t kBytes = 1'024;
  const Descriptor slow = Subscribe();
  const int count = PublishUntilOneWaits(kBytes);
  EXPECT_FALSE(readable()) << "it is waited for, not asked for again and again";

  // It reads on: what was kept, in order and whole, and the number of the rest.
  std::string text;
  for (int i = 0; i < 10'000; ++i) {
    const std::string more = Receive(slow).text;
    if (more.empty() && !readable()) break;
    text += more;
    Serve();
  }
  int next = 0;
  size_t at = 0;
  while (text.compare(at, kBytes, Line(next, kBytes)) == 0) {
    at += kBytes;
    ++next;
  }
  EXPECT_GT(next, 0);
  EXPECT_LT(next, count);
  EXPECT_EQ(text.substr(at), LostLine(static_cast<uint64_t>(count - next)));
  EXPECT_LE(text.size(), kControlBacklogBytesMax + (size_t{2} << 20)) << "and the kernel's share";

  PublishAndFlush("again\n");
  EXPECT_EQ(Receive(slow).text, "again\n");
}

TEST_F(ControlSubscribers, SlowOnesHoldNobodyUp) {
  constexpr size_t kBytes = 1'024;
  const Descriptor slow = Subscribe();
  const Descriptor quick = Subscribe();
  for (int i = 0; i < 4'096; ++i) {
    PublishAndFlush(Line(i, kBytes));
    ASSERT_EQ(Receive(quick).text, Line(i, kBytes));
  }
  const Descriptor client = Connect();
  Send(client, "{}");
  Serve();
  EXPECT_EQ(Receive(client).text, "[{}]\n");
}

TEST_F(ControlSubscribers, AreToldWhatWasLostBeforeThem) {
  const Descriptor client = Subscribe();
  server_->PublishLoss(7);
  PublishAndFlush("1\n");
  EXPECT_EQ(Receive(client).text, "{\"count\":7,\"event\":\"lost\"}\n1\n");
}

TEST_F(ControlSubscribers, AreAtMostSixteen) {
  std::vector<Descriptor> all;
  for (size_t i = 0; i < kControlSubscriberCountMax; ++i) all.push_back(Subscribe());
  const Descriptor over = Connect();
  Send(over, kSubscribe);
  Serve();
  EXPECT_THAT(ErrorOf(over), HasSubstr("too many watch already"));
  EXPECT_EQ(server_->subscriber_count(), kControlSubscriberCountMax);
  const Descriptor client = Connect();
  Send(client, "{}");
  Serve();
  EXPECT_EQ(Receive(client).text, "[{}]\n") << "orders are taken all the same";
  all.pop_back();
  Serve();
  all.push_back(Subscribe());
  PublishAndFlush("1\n");
  for (const Descriptor& one : all) EXPECT_EQ(Receive(one).text, "1\n");
}

// Answered in one turn, before any of them is a subscriber.
TEST_F(ControlSubscribers, AreAtMostSixteenAlsoAtOnce) {
  std::vector<Descriptor> all;
  for (size_t i = 0; i < kControlSubscriberCountMax - 1; ++i) all.push_back(Subscribe());
  const Descriptor one = Connect();
  const Descriptor two = Connect();
  Send(one, kSubscribe);
  Send(two, kSubscribe);
  Serve();
  EXPECT_EQ(server_->subscriber_count(), kControlSubscriberCountMax);
  EXPECT_EQ(server_->client_count(), 0U);
  EXPECT_THAT(Receive(one).text, StartsWith("["));
  EXPECT_THAT(ErrorOf(two), HasSubstr("too many watch already"));
}

// The answer itself is more than the socket takes: the rest is the first of the backlog.
TEST_F(ControlSubscribers, GetALongAnswerFirst) {
  padding_.assign(2 << 20, 'x');
  padding_ += '\n';
  const Descriptor client = Connect();
  Send(client, kSubscribe);
  Received all;
  for (int i = 0; i < 10'000 && !all.text.ends_with("x\n"); ++i) {
    Serve();
    all.text += Receive(client).text;
  }
  Serve();
  EXPECT_EQ(server_->subscriber_count(), 1U);
  PublishAndFlush("1\n");
  all.text += Receive(client).text;
  EXPECT_THAT(all.text, EndsWith("x\n1\n"));
}

}  // namespace
}  // namespace penstock::tool
