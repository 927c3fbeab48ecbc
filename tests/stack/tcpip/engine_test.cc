// The engine alone: segments in, segments out, without flows, relays or links. What a
// guest sees in all is tested in tests/stack/flow.
#include "stack/tcpip/engine.h"

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <set>
#include <string>
#include <vector>

#include "stack/wire/packet.h"
#include "tests/support/packet_builder.h"

namespace penstock {
namespace {

// What the engine sent, numbers in host order.
struct Sent {
  void* owner;
  TcpTuple tuple;
  uint8_t flags;
  uint32_t sequence;
  uint32_t acknowledgement;
  uint16_t window;
  std::string payload;
};

class RecordingSink final : public SegmentSink {
 public:
  bool SendSegment(const SegmentToGuest& segment) noexcept override {
    if (full) return false;
    std::string payload(segment.own_payload.begin(), segment.own_payload.end());
    for (const iovec& part : segment.payload) {
      payload.append(static_cast<const char*>(part.iov_base), part.iov_len);
    }
    EXPECT_EQ(payload.size(), segment.payload_bytes);
    sent.push_back({.owner = segment.owner,
                    .tuple = segment.tuple,
                    .flags = segment.header[13],
                    .sequence = Get32(segment.header, 4),
                    .acknowledgement = Get32(segment.header, 8),
                    .window = Get16(segment.header, 14),
                    .payload = std::move(payload)});
    return true;
  }
  Sent Take() {
    EXPECT_FALSE(sent.empty());
    if (sent.empty()) return {};
    Sent first = sent.front();
    sent.pop_front();
    return first;
  }
  std::deque<Sent> sent;
  bool full = false;
};

constexpr uint32_t kGuestIsn = 1'000;
constexpr uint32_t kMss = 1'460;

TcpTuple TupleOf(Family family, uint16_t guest_port = 40'000) {
  return {.guest = {Guest(family), guest_port}, .destination = {Peer(family), 80}};
}

// One engine, one PCB and the guest that speaks to it.
class Conversation {
 public:
  explicit Conversation(Engine& engine, RecordingSink& sink, const TcpTuple& tuple)
      : engine_(engine), sink_(sink), tuple_(tuple) {}
  ~Conversation() {
    engine_.Drop(pcb);
    for (Chunk* chunk = pcb.received_head; chunk != nullptr;) {
      Chunk* next = chunk->next;
      auto* buffer = reinterpret_cast<GuestBuffer*>(chunk);
      buffer->pool->Give(buffer);
      chunk = next;
    }
  }
  Conversation(const Conversation&) = delete;
  Conversation& operator=(const Conversation&) = delete;

  Sent Syn() {
    Bytes syn = TcpSegment({.source_port = tuple_.guest.port,
                            .destination_port = tuple_.destination.port,
                            .sequence = kGuestIsn,
                            .flags = kTcpSyn,
                            .options = {2, 4, kMss >> 8, kMss & 0xff}})
                    .bytes;
    EXPECT_TRUE(engine_.Accept(pcb, tuple_, syn, {.negotiated_mss = kMss}, this));
    return sink_.Take();
  }
  void Handshake() {
    const Sent answer = Syn();
    EXPECT_EQ(answer.flags, kTcpSyn | kTcpAck);
    EXPECT_EQ(answer.acknowledgement, kGuestIsn + 1);
    EXPECT_EQ(answer.owner, this);
    next_ = kGuestIsn + 1;
    acknowledge_ = answer.sequence + 1;
    Say({});
    EXPECT_TRUE(pcb.established);
    EXPECT_TRUE(sink_.sent.empty());
  }
  // What the guest sends next never arrives.
  void Lose(uint32_t bytes) { next_ += bytes; }
  // A segment of the guest; sequence numbers fill in themselves.
  void Say(TcpSpec spec) {
    spec.source_port = tuple_.guest.port;
    spec.sequence = next_;
    spec.acknowledgement = acknowledge_;
    next_ += static_cast<uint32_t>(spec.payload.size()) + ((spec.flags & kTcpFin) != 0 ? 1 : 0);
    const Bytes bytes = TcpSegment(spec).bytes;
    GuestBuffer* buffer = pool.Take(bytes.size());
    std::memcpy(buffer->data, bytes.data(), bytes.size());
    engine_.Receive(pcb, *buffer, buffer->room().first(bytes.size()));
  }
  void Acknowledge(const Sent& segment) {
    acknowledge_ = segment.sequence + static_cast<uint32_t>(segment.payload.size()) +
                   ((segment.flags & kTcpFin) != 0 ? 1 : 0);
    Say({});
  }
  [[nodiscard]] std::string received() const {
    std::string bytes;
    for (const Chunk* chunk = pcb.received_head; chunk != nullptr; chunk = chunk->next) {
      bytes.append(reinterpret_cast<const char*>(chunk->data), chunk->length);
    }
    return bytes;
  }

  GuestBufferPool pool{1 << 20};
  Pcb pcb;

 private:
  Engine& engine_;
  RecordingSink& sink_;
  const TcpTuple tuple_;
  uint32_t next_ = 0, acknowledge_ = 0;
};

Bytes ToBytes(std::string_view text) { return {text.begin(), text.end()}; }
std::span<const uint8_t> View(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

class EngineTest : public testing::TestWithParam<Family> {
 protected:
  EngineTest() { engine_.SetTime(kStart); }

  static constexpr Time kStart = Time{} + std::chrono::hours(10);
  RecordingSink sink_;
  Engine engine_{{.mtu = 1'500}, sink_};
};
INSTANTIATE_TEST_SUITE_P(Both, EngineTest, testing::Values(Family::kIpv4, Family::kIpv6),
                         [](const testing::TestParamInfo<Family>& info) {
                           return info.param == Family::kIpv4 ? "Ipv4" : "Ipv6";
                         });

uint32_t IsnOf(Engine& engine, RecordingSink& sink, const TcpTuple& tuple) {
  return Conversation(engine, sink, tuple).Syn().sequence;
}

TEST_P(EngineTest, InitialSequenceNumbersMoveWithTheClock) {
  const TcpTuple tuple = TupleOf(GetParam());
  const uint32_t first = IsnOf(engine_, sink_, tuple);
  EXPECT_EQ(IsnOf(engine_, sink_, tuple), first) << "time has stood still";
  engine_.SetTime(kStart + std::chrono::milliseconds(4));
  EXPECT_EQ(IsnOf(engine_, sink_, tuple), first + 1'000) << "one in four microseconds";
  engine_.SetTime(kStart + std::chrono::hours(1));
  EXPECT_EQ(IsnOf(engine_, sink_, tuple), first + 900'000'000);
}

TEST_P(EngineTest, InitialSequenceNumbersDifferByTuple) {
  std::set<uint32_t> seen;
  for (uint16_t port = 1; port <= 200; ++port) {
    seen.insert(IsnOf(engine_, sink_, TupleOf(GetParam(), port)));
  }
  TcpTuple other = TupleOf(GetParam(), 1);
  other.destination.port = 81;
  seen.insert(IsnOf(engine_, sink_, other));
  other.destination.address.bytes[3] ^= 1;
  seen.insert(IsnOf(engine_, sink_, other));
  EXPECT_EQ(seen.size(), 202u);
}

TEST_P(EngineTest, InitialSequenceNumbersDifferByEngine) {
  const TcpTuple tuple = TupleOf(GetParam());
  std::set<uint32_t> seen;
  for (int i = 0; i < 20; ++i) {
    Engine engine({.mtu = 1'500}, sink_);
    engine.SetTime(kStart);
    seen.insert(IsnOf(engine, sink_, tuple));
  }
  EXPECT_EQ(seen.size(), 20u);
}

TEST_P(EngineTest, AcceptsForAnyDestinationAndSaysItsWindow) {
  Conversation conversation(engine_, sink_, TupleOf(GetParam()));
  const Sent answer = conversation.Syn();
  EXPECT_EQ(answer.tuple.destination, TupleOf(GetParam()).destination);
  EXPECT_EQ(answer.window, kInitialWindowBytes);
  EXPECT_TRUE(conversation.pcb.alive());
  EXPECT_TRUE(conversation.pcb.in_handshake());
  EXPECT_TRUE(conversation.pcb.NeedsTick());
}

TEST_P(EngineTest, AnIdleConnectionNeedsNoTick) {
  Conversation conversation(engine_, sink_, TupleOf(GetParam()));
  conversation.Handshake();
  engine_.Acknowledge(conversation.pcb, Owed::kNothing);
  EXPECT_FALSE(conversation.pcb.NeedsTick());
  EXPECT_FALSE(conversation.pcb.in_handshake());
  EXPECT_TRUE(conversation.pcb.drained());
}

TEST_P(EngineTest, ReceivesInOrderAndAcknowledgesOnceForAPass) {
  Conversation conversation(engine_, sink_, TupleOf(GetParam()));
  conversation.Handshake();
  for (const char* word : {"one ", "two ", "three"}) {
    conversation.Say({.payload = ToBytes(word)});
  }
  EXPECT_TRUE(sink_.sent.empty());
  EXPECT_EQ(conversation.received(), "one two three");
  EXPECT_EQ(conversation.pcb.received_bytes, 13u);
  engine_.Acknowledge(conversation.pcb, Owed::kNothing);
  const Sent acknowledgement = sink_.Take();
  EXPECT_EQ(acknowledgement.acknowledgement, kGuestIsn + 1 + 13);
  EXPECT_EQ(acknowledgement.flags, kTcpAck);
  engine_.Acknowledge(conversation.pcb, Owed::kNothing);
  EXPECT_TRUE(sink_.sent.empty()) << "there is nothing more to say";
}

TEST_P(EngineTest, AnAcknowledgementOfBytesMayWaitForData) {
  Conversation conversation(engine_, sink_, TupleOf(GetParam()));
  conversation.Handshake();
  conversation.Say({.payload = ToBytes("question")});
  engine_.Acknowledge(conversation.pcb, Owed::kSoon);
  EXPECT_TRUE(sink_.sent.empty());
  EXPECT_EQ(conversation.pcb.owed, Owed::kSoon);
  ASSERT_TRUE(engine_.Write(conversation.pcb, View("answer"), Behind::kNothing));
  EXPECT_EQ(sink_.Take().acknowledgement, kGuestIsn + 1 + 8);
  EXPECT_EQ(conversation.pcb.owed, Owed::kNothing);
  engine_.Acknowledge(conversation.pcb, Owed::kNothing);
  EXPECT_TRUE(sink_.sent.empty()) << "it rode";
}

TEST_P(EngineTest, WhatIsNoPlainAcknowledgementDoesNotWait) {
  Conversation conversation(engine_, sink_, TupleOf(GetParam()));
  conversation.Handshake();
  conversation.Say({.flags = kTcpAck | kTcpFin, .payload = ToBytes("bytes and an end")});
  engine_.Acknowledge(conversation.pcb, Owed::kSoon);
  EXPECT_EQ(sink_.Take().acknowledgement, kGuestIsn + 1 + 17);

  Conversation other(engine_, sink_, TupleOf(GetParam(), 40'001));
  other.Handshake();
  other.Say({.payload = ToBytes("first")});
  other.Lose(6);
  other.Say({.payload = ToBytes("third")});
  engine_.Acknowledge(other.pcb, Owed::kSoon);
  EXPECT_FALSE(sink_.sent.empty()) << "bytes are missing, and the guest is to know at once";
  while (!sink_.sent.empty()) EXPECT_EQ(sink_.Take().acknowledgement, kGuestIsn + 1 + 5);
}

TEST_P(EngineTest, SendsWithoutACopyUntilAcknowledged) {
  Conversation conversation(engine_, sink_, TupleOf(GetParam()));
  conversation.Handshake();
  const std::string bytes = "from the host";
  ASSERT_EQ(engine_.SendRoom(conversation.pcb, 13), 13u);
  ASSERT_TRUE(engine_.Write(conversation.pcb, View(bytes), Behind::kNothing));
  const Sent segment = sink_.Take();
  EXPECT_EQ(segment.payload, bytes);
  EXPECT_EQ(conversation.pcb.acknowledged_bytes, 0u);
  EXPECT_FALSE(conversation.pcb.drained());
  EXPECT_TRUE(conversation.pcb.NeedsTick());
  conversation.Acknowledge(segment);
  EXPECT_EQ(conversation.pcb.acknowledged_bytes, bytes.size());
  EXPECT_TRUE(conversation.pcb.drained());
  EXPECT_FALSE(conversation.pcb.NeedsTick());
}

TEST_P(EngineTest, WhatTheSinkRefusedLeavesLater) {
  Conversation conversation(engine_, sink_, TupleOf(GetParam()));
  conversation.Handshake();
  sink_.full = true;
  ASSERT_TRUE(engine_.Write(conversation.pcb, View("late"), Behind::kNothing));
  EXPECT_EQ(engine_.SendRoom(conversation.pcb, 10), 0u) << "first what waits";
  EXPECT_TRUE(conversation.pcb.NeedsTick());
  sink_.full = false;
  engine_.Output(conversation.pcb);
  EXPECT_EQ(sink_.Take().payload, "late");
}

TEST_P(EngineTest, SendsAgainByTimer) {
  Conversation conversation(engine_, sink_, TupleOf(GetParam()));
  conversation.Handshake();
  ASSERT_TRUE(engine_.Write(conversation.pcb, View("lost"), Behind::kNothing));
  const Sent first = sink_.Take();
  Pcb* const armed[] = {&conversation.pcb};
  int ticks = 0;
  for (; sink_.sent.empty() && ticks < 100; ++ticks) engine_.Tick(armed);
  const Sent again = sink_.Take();
  EXPECT_EQ(again.sequence, first.sequence);
  EXPECT_EQ(again.payload, "lost");
  EXPECT_EQ(conversation.pcb.retransmits_by_timer, 1u);
  EXPECT_GE(ticks * kTick, std::chrono::milliseconds(300));
}

TEST_P(EngineTest, NotesTheGuestsFinAndReset) {
  Conversation finishing(engine_, sink_, TupleOf(GetParam(), 1));
  Conversation resetting(engine_, sink_, TupleOf(GetParam(), 2));
  finishing.Handshake();
  resetting.Handshake();
  finishing.Say({.flags = kTcpAck | kTcpFin, .payload = ToBytes("end")});
  EXPECT_TRUE(finishing.pcb.guest_fin);
  EXPECT_EQ(finishing.received(), "end");
  EXPECT_TRUE(finishing.pcb.alive());
  resetting.Say({.flags = kTcpRst | kTcpAck});
  EXPECT_FALSE(resetting.pcb.alive());
  EXPECT_EQ(resetting.pcb.end, PcbEnd::kReset);
  EXPECT_FALSE(resetting.pcb.guest_fin);
}

// Whoever finishes first rests in TIME_WAIT; here it is the stack.
TEST_P(EngineTest, HandsTimeWaitOver) {
  Conversation conversation(engine_, sink_, TupleOf(GetParam()));
  conversation.Handshake();
  engine_.ShutdownWrite(conversation.pcb);
  const Sent fin = sink_.Take();
  EXPECT_NE(fin.flags & kTcpFin, 0);
  conversation.Acknowledge(fin);
  EXPECT_TRUE(conversation.pcb.alive());
  conversation.Say({.flags = kTcpAck | kTcpFin});
  EXPECT_FALSE(conversation.pcb.alive());
  EXPECT_EQ(conversation.pcb.end, PcbEnd::kTimeWait);
  EXPECT_EQ(conversation.pcb.time_wait().send_next, fin.sequence + 1);
  EXPECT_EQ(conversation.pcb.time_wait().receive_next, kGuestIsn + 2);
}

TEST_P(EngineTest, AbortSendsAResetAndDropDoesNot) {
  Conversation aborted(engine_, sink_, TupleOf(GetParam(), 1));
  Conversation dropped(engine_, sink_, TupleOf(GetParam(), 2));
  aborted.Handshake();
  dropped.Handshake();
  engine_.Abort(aborted.pcb);
  EXPECT_NE(sink_.Take().flags & kTcpRst, 0);
  engine_.Drop(dropped.pcb);
  EXPECT_TRUE(sink_.sent.empty());
  EXPECT_FALSE(aborted.pcb.alive());
  EXPECT_FALSE(dropped.pcb.alive());
  engine_.Abort(aborted.pcb);  // once more is nothing
  EXPECT_TRUE(sink_.sent.empty());
}

// Segments for a PCB that is gone give their buffer back.
TEST_P(EngineTest, ReceivesNothingForTheDead) {
  Conversation conversation(engine_, sink_, TupleOf(GetParam()));
  conversation.Handshake();
  engine_.Drop(conversation.pcb);
  conversation.Say({.payload = ToBytes("late")});
  EXPECT_EQ(conversation.pool.bytes_out(), 0u);
  EXPECT_TRUE(sink_.sent.empty());
}

// Many PCBs of two engines on one thread, in turn: each hears only its own.
TEST_P(EngineTest, PcbsAndEnginesDoNotMix) {
  Engine other_engine({.mtu = 1'500}, sink_);
  other_engine.SetTime(kStart);
  std::deque<Conversation> conversations;
  for (uint16_t port = 1; port <= 20; ++port) {
    conversations.emplace_back(port % 2 == 0 ? engine_ : other_engine, sink_,
                               TupleOf(GetParam(), port / 2 + 1));
    conversations.back().Handshake();
  }
  for (int round = 0; round < 5; ++round) {
    for (size_t i = 0; i < conversations.size(); ++i) {
      conversations[i].Say({.payload = ToBytes(std::to_string(i))});
    }
  }
  for (size_t i = 0; i < conversations.size(); ++i) {
    std::string expected;
    for (int round = 0; round < 5; ++round) expected += std::to_string(i);
    EXPECT_EQ(conversations[i].received(), expected);
  }
}

}  // namespace
}  // namespace penstock
