// Messages over a stream, on real sockets: both ways to get one, every place at which a
// read may end, blocked writes, pools and stacks that take no more, and every way to end.
#include "relay/framed_task.h"

#include <cerrno>

#include "relay/stream_pair.h"
#include "tests/relay/framed_fixture.h"

namespace penstock {
namespace {

// `bytes` that repeat nowhere near.
std::string Text(size_t bytes, char first) {
  std::string text(bytes, '\0');
  for (size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>(first + i * 7 + i / 251);
  return text;
}

class FramedTaskTest : public FramedFixture {};
INSTANTIATE_TEST_SUITE_P(Both, FramedTaskTest, testing::Values(Way::kConnect, Way::kAdopt),
                         WayName);

TEST_P(FramedTaskTest, MessagesGoBothWays) {
  Begin();
  EXPECT_EQ(streams_->asked, connects() ? 1 : 0);
  EXPECT_EQ(streams_->destination, connects() ? peer_ : Endpoint{});
  Give("one");
  Give("");
  Give("three");
  const std::string wanted = Framed("one") + Framed("") + Framed("three");
  EXPECT_EQ(FarReads(wanted.size()), wanted);
  Until("all given back", [&] { return bytes_out_ == 0; });
  FarWrites(Framed("answer") + Framed("") + Framed("another"));
  Until("three messages", [&] { return messages_.size() >= 3; });
  EXPECT_EQ(messages_, (std::vector<std::string>{"answer", "", "another"}));
  EXPECT_TRUE(ends_.empty());
}

// The stream is cut in two at every place; the first part is read before the second one is
// there.
TEST_P(FramedTaskTest, EverySplit) {
  Begin();
  const std::vector<std::string> wanted{Text(3, 'a'), "", Text(1, 'x'), Text(700, 'b'), "end"};
  std::string stream;
  for (const std::string& message : wanted) stream += Framed(message);
  for (size_t at = 0; at <= stream.size(); ++at) {
    messages_.clear();
    FarWrites(stream.substr(0, at));
    for (int i = 0; i < 4; ++i) Run();
    FarWrites(stream.substr(at));
    Until("all messages", [&] { return messages_.size() >= wanted.size(); });
    ASSERT_EQ(messages_, wanted) << "cut at " << at;
  }
}

TEST_P(FramedTaskTest, ByteByByte) {
  Begin();
  const std::vector<std::string> wanted{Text(300, 'a'), "", Text(5, 'b')};
  for (const std::string& message : wanted) {
    for (const char byte : Framed(message)) {
      FarWrites({&byte, 1});
      Run();
    }
  }
  Until("all messages", [&] { return messages_.size() >= wanted.size(); });
  EXPECT_EQ(messages_, wanted);
}

TEST_P(FramedTaskTest, TheLongestMessage) {
  Begin();
  const std::string longest = Text(kMessageBytesMax, 'l');
  FarWrites(Framed(longest) + Framed("behind it"));
  Until("both messages", [&] { return messages_.size() >= 2; });
  EXPECT_EQ(messages_[0], longest);
  EXPECT_EQ(messages_[1], "behind it");
  Give(longest);
  Give("behind it");
  const std::string wanted = Framed(longest) + Framed("behind it");
  EXPECT_EQ(FarReads(wanted.size()), wanted);
}

// The far end does not read: what does not fit waits, and leaves in order once it does.
TEST_P(FramedTaskTest, AFullSocketIsWaitedFor) {
  Begin();
  std::string wanted;
  size_t given = 0;
  for (; bytes_out_ < (uint64_t{1} << 20); ++given) {
    const std::string message = Text(1'000 + given % 5'000, static_cast<char>('a' + given % 26));
    Give(message);
    Run();
    wanted += Framed(message);
    ASSERT_LT(given, 100'000u) << "the socket takes everything";
  }
  EXPECT_EQ(FarReads(wanted.size()), wanted);
  Until("all given back", [&] { return bytes_out_ == 0; });
  EXPECT_EQ(relay_->datagram_counts().messages_lost.value(), 0u);
}

// A stack that has given much may wait for it to be sent, though the socket took all of it.
TEST_P(FramedTaskTest, MuchThatIsTakenAtOnceIsTold) {
  Begin();
  GiveBack();
  int woken = 0;
  bell_.SetHook([](void* count) { ++*static_cast<int*>(count); }, &woken);
  std::string wanted;
  const auto sends = [&] {
    bell_.Arm();
    const std::string message = Text(50'000, 'm');
    Give(message);
    wanted += Framed(message);
    EXPECT_EQ(FarReads(wanted.size()), wanted);
    Run();
  };
  for (int given = 0; given < 3; ++given) sends();
  EXPECT_EQ(woken, 0) << "for what nobody waits for";
  sends();
  EXPECT_EQ(woken, 1);
}

// RFC 7766 6.2.3: a client that has asked everything may shut its side.
TEST_P(FramedTaskTest, AfterTheFarEndsLastWordAnswersStillGo) {
  Begin();
  FarWrites(Framed("question"));
  far().ShutdownWrite();
  Until("the end", [&] { return !ends_.empty(); });
  EXPECT_EQ(messages_, std::vector<std::string>{"question"});
  EXPECT_EQ(ends_[0].fault.kind, FaultKind::kStreamEnd);
  EXPECT_EQ(ends_[0].messages_before, 1u);
  Give("answer");
  EXPECT_EQ(FarReads(Framed("answer").size()), Framed("answer"));
  SayLastWord();
  Until("the relay's last word", [&] { return pipe_->relay_done.load(); });
  Until("the end at the far end", [&] { return far().Read() == 0 && far().ended(); });
  EXPECT_EQ(far().error(), 0);
  EXPECT_EQ(ends_.size(), 1u);
}

class FramedPartTest : public FramedTaskTest {
 protected:
  // Of what is never said to its end.
  void EndsBehind(size_t bytes);
};
INSTANTIATE_TEST_SUITE_P(Both, FramedPartTest, testing::Values(Way::kConnect, Way::kAdopt),
                         WayName);

void FramedPartTest::EndsBehind(size_t bytes) {
  Begin();
  FarWrites(Framed("whole") + Framed("question").substr(0, bytes));
  far().ShutdownWrite();
  Until("the end", [&] { return !ends_.empty(); });
  EXPECT_EQ(messages_, std::vector<std::string>{"whole"});
  EXPECT_EQ(ends_[0].fault.kind, FaultKind::kStreamBroken);
  EXPECT_EQ(ends_[0].fault.error, EPROTO);
  // Nothing more goes, and what is given comes back.
  Give("answer");
  Until("given back", [&] { return bytes_out_ == 0; });
  EXPECT_EQ(relay_->datagram_counts().messages_lost.value(), 1u);
  EXPECT_EQ(ends_.size(), 1u);
}

TEST_P(FramedPartTest, AnEndWithinALengthIsNoEnd) { EndsBehind(1); }
TEST_P(FramedPartTest, AnEndBehindALengthIsNoEnd) { EndsBehind(2); }
TEST_P(FramedPartTest, AnEndWithinAMessageIsNoEnd) { EndsBehind(5); }

// What was said before a reset is heard before it. (A pair's end resets by closing with
// unread bytes.)
TEST_P(FramedTaskTest, AResetIsToldBehindTheMessages) {
  Begin();
  FarWrites(Framed("first") + Framed("second"));
  Until("both", [&] { return messages_.size() == 2; });
  Give("never read");
  Run();
  connects() ? far().Reset() : far().Close();
  Until("the end", [&] { return !ends_.empty(); });
  EXPECT_EQ(ends_[0].fault.kind, FaultKind::kStreamBroken);
  EXPECT_EQ(ends_[0].fault.error, ECONNRESET);
  EXPECT_EQ(ends_[0].messages_before, 2u);
  for (int i = 0; i < 10; ++i) Run();
  EXPECT_EQ(ends_.size(), 1u);
}

// The far end answers and goes; a write meets that first. The answer is heard nonetheless.
TEST_P(FramedTaskTest, AnAnswerBeforeABrokenWriteIsHeard) {
  Begin();
  FarWrites(Framed("answer"));
  far().Close();
  // Not served in between: the writes come first.
  Give("too late");
  Give("and again");
  relay_->ServePipes();
  relay_->ServePipes();
  Until("the end", [&] { return !ends_.empty(); });
  EXPECT_EQ(messages_, std::vector<std::string>{"answer"});
  for (int i = 0; i < 10; ++i) {
    Give("nobody listens");
    Run();
  }
  Until("all given back", [&] { return bytes_out_ == 0; });
  EXPECT_EQ(ends_.size(), 1u);
}

// ---------------------------------------------------------------- backpressure

TEST_P(FramedTaskTest, AStackThatTakesNothingStopsTheReading) {
  Begin();
  hold_ = true;
  constexpr size_t kMessages = 500;
  std::string stream;
  for (size_t i = 0; i < kMessages; ++i) stream += Framed(std::to_string(i));
  FarWrites(stream);
  far().ShutdownWrite();
  Until("messages", [&] { return relay_->wants_datagrams(); });
  for (int i = 0; i < 10; ++i) Run();
  EXPECT_LT(held(), kMessages / 2);
  size_t rounds = 0;
  while (ends_.empty()) {
    ASSERT_LT(++rounds, 10'000u);
    GiveBack();
    Run();
  }
  ASSERT_EQ(messages_.size(), kMessages);
  for (size_t i = 0; i < kMessages; ++i) EXPECT_EQ(messages_[i], std::to_string(i));
  EXPECT_EQ(ends_[0].fault.kind, FaultKind::kStreamEnd);
  GiveBack();
  Run();
  EXPECT_FALSE(relay_->wants_datagrams());
}

// Whoever holds the pool's datagrams: while it refuses, nothing is lost, and the far end
// waits; not even the end is told.
TEST_P(FramedTaskTest, AnEmptyPoolStopsTheReading) {
  Begin();
  TakeWholePool();
  FarWrites(Framed("waits") + Framed(Text(20'000, 'w')));
  far().ShutdownWrite();
  Until("a refusal", [&] { return relay_->wants_datagrams(); });
  for (int i = 0; i < 10; ++i) Run();
  EXPECT_TRUE(messages_.empty());
  GivePoolBack();
  Until("the end", [&] { return !ends_.empty(); });
  EXPECT_EQ(messages_, (std::vector<std::string>{"waits", Text(20'000, 'w')}));
  EXPECT_EQ(ends_[0].fault.kind, FaultKind::kStreamEnd);
}

TEST_P(FramedTaskTest, TheEndWaitsForThePool) {
  Begin();
  TakeWholePool();
  far().ShutdownWrite();
  Until("a refusal", [&] { return relay_->wants_datagrams(); });
  EXPECT_TRUE(ends_.empty());
  GivePoolBack();
  Until("the end", [&] { return !ends_.empty(); });
  EXPECT_EQ(ends_[0].fault.kind, FaultKind::kStreamEnd);
}

// ---------------------------------------------------------------- the stack ends it

TEST_P(FramedTaskTest, TheLastWordClosesInGoodOrder) {
  Begin();
  Give("last");
  SayLastWord();
  EXPECT_TRUE(pipe_->relay_done.load());
  EXPECT_EQ(bytes_out_, 0u);
  EXPECT_EQ(FarReads(Framed("last").size()), Framed("last"));
  Until("the end", [&] { return far().Read() == 0 && (far().ended() || far().error() != 0); });
  EXPECT_EQ(far().error(), 0);
  EXPECT_TRUE(ends_.empty()) << "the stack knows";
}

// In the middle of everything: a message half read, others that wait for the stack, and more
// to send than the socket takes.
class FramedMiddleTest : public FramedTaskTest {
 protected:
  void GetBusy() {
    Begin();
    hold_ = true;
    std::string stream;
    for (size_t i = 0; i < 100; ++i) stream += Framed(std::to_string(i));
    FarWrites(stream + Framed(Text(60'000, 'p')).substr(0, 30'000));
    for (size_t given = 0; bytes_out_ < (uint64_t{1} << 20); ++given) {
      ASSERT_LT(given, 10'000u);
      Give(Text(10'000, 'g'));
      Run();
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Both, FramedMiddleTest, testing::Values(Way::kConnect, Way::kAdopt),
                         WayName);

TEST_P(FramedMiddleTest, TheStacksLastWord) {
  GetBusy();
  SayLastWord();
  EXPECT_TRUE(pipe_->relay_done.load());
  EXPECT_EQ(bytes_out_, 0u);
  EXPECT_GT(relay_->datagram_counts().messages_lost.value(), 0u);
  if (!connects()) return;
  Until("a reset", [&] {
    far().Read();
    return far().error() != 0 || far().ended();
  });
  EXPECT_EQ(far().error(), ECONNRESET) << "a part must not pass for the whole";
}

TEST_P(FramedMiddleTest, ARelayThatShutsDownKeepsNothing) {
  GetBusy();
  relay_->Shutdown();
  shut_down_ = true;
  Run();
  EXPECT_EQ(bytes_out_, 0u);
  EXPECT_EQ(pipe_->relay_task, nullptr);
  Until("the end at the far end", [&] {
    far().Read();
    return far().error() != 0 || far().ended();
  });
}

// A pipe that is closed before the relay has heard of it.
TEST_P(FramedTaskTest, OverBeforeItBegan) {
  if (!connects()) {
    StreamPair pair = MakeStreamPair(*streams_);
    pipe_->accepted = std::move(pair.own_end);
  }
  SayLastWord();
  EXPECT_TRUE(pipe_->relay_done.load());
  EXPECT_EQ(streams_->asked, 0);
}

// ---------------------------------------------------------------- connecting

class FramedConnectTest : public FramedFixture {};
INSTANTIATE_TEST_SUITE_P(Only, FramedConnectTest, testing::Values(Way::kConnect), WayName);

TEST_P(FramedConnectTest, ARefusedConnectionIsToldOnce) {
  HostRefusedPort refused;
  peer_.port = refused.port();
  Give("one");
  Give("two");
  Until("the end", [&] { return !ends_.empty(); });
  EXPECT_EQ(ends_[0].fault.kind, FaultKind::kNoSocket);
  EXPECT_EQ(ends_[0].fault.error, ECONNREFUSED);
  Give("three");
  Until("all given back", [&] { return bytes_out_ == 0; });
  EXPECT_EQ(ends_.size(), 1u);
  EXPECT_EQ(streams_->asked, 1);
  EXPECT_EQ(relay_->datagram_counts().messages_lost.value(), 3u);
}

TEST_P(FramedConnectTest, NoSocketIsToldOnce) {
  streams_->error = EMFILE;
  Give("one");
  Run();
  ASSERT_EQ(ends_.size(), 1u);
  EXPECT_EQ(ends_[0].fault.kind, FaultKind::kNoSocket);
  EXPECT_EQ(ends_[0].fault.error, EMFILE);
  EXPECT_EQ(bytes_out_, 0u);
  Give("two");
  Run();
  EXPECT_EQ(ends_.size(), 1u);
  EXPECT_EQ(streams_->asked, 1);
}

// Nobody answers: messages wait for the connection, and the stack may give it up.
TEST_P(FramedConnectTest, GivenUpWhileConnecting) {
  HostListener silent(Family::kIpv4, {.backlog = 0});
  silent.FillBacklog();
  peer_.port = silent.port();
  Give("waits");
  for (int i = 0; i < 10; ++i) Run();
  EXPECT_GT(bytes_out_, 0u);
  EXPECT_TRUE(ends_.empty());
  SayLastWord();
  EXPECT_TRUE(pipe_->relay_done.load());
  EXPECT_EQ(bytes_out_, 0u);
  for (int i = 0; i < 10; ++i) Run();
}

}  // namespace
}  // namespace penstock
