// Connections that end in the stack itself, as the guest and whoever serves the port see
// them: the same handshake, bytes, ends and limits as to a host, without a dial.
#include <cerrno>
#include <utility>
#include <vector>

#include "relay/kernel_socket.h"
#include "tests/stack/flow/flow_fixture.h"
#include "tests/support/stack_peer.h"

namespace penstock {
namespace {

constexpr uint16_t kServed = 53;

// Whoever serves the port: the test, which has the other end as if it were a host's.
class PlayedPorts final : public LocalPorts {
 public:
  struct Opened {
    TcpTuple tuple;
    HostSocket socket;
  };

  [[nodiscard]] bool Serves(const Endpoint& destination) const override {
    return destination.port == kServed;
  }
  void Open(const TcpTuple& tuple, std::unique_ptr<AcceptedSocket> end) override {
    if (refuses) return;
    opened.push_back({tuple, HostSocket(static_cast<KernelAccepted&>(*end).Release())});
  }

  std::vector<Opened> opened;
  bool refuses = false;
};

StreamPair NoPair(SocketFactory&) { return {.error = EMFILE}; }

class LocalTest : public FlowTest {
 protected:
  ScriptedGuest& Begin(const Config& config = LoopbackConfig()) {
    ScriptedGuest& made = Start(config);
    StackPeer::SetLocalPorts(made.stack(), ports_);
    return made;
  }
  Connection Open(const HandshakeOptions& options = {}) {
    GuestFlow& flow = guest().Flow(kServed);
    flow.Handshake(options);
    return {.flow = flow, .host = std::move(ports_.opened.back().socket)};
  }

  PlayedPorts ports_;
};
PENSTOCK_BOTH_FAMILIES(LocalTest);

TEST_P(LocalTest, HandshakeAndBytesBothWays) {
  Begin();
  Connection connection = Open();
  ASSERT_EQ(ports_.opened.size(), 1u);
  EXPECT_EQ(ports_.opened[0].tuple.guest, connection.flow.guest());
  EXPECT_EQ(ports_.opened[0].tuple.destination, connection.flow.destination());
  ExpectAlive(connection);
  EXPECT_EQ(counters().flows_local, 1u);
  EXPECT_EQ(counters().flows_established, 1u);
}

// Nobody else's ports are touched.
TEST_P(LocalTest, OtherPortsLeadToTheHost) {
  Begin();
  Connection connection = Establish();
  ExpectAlive(connection);
  EXPECT_TRUE(ports_.opened.empty());
  EXPECT_EQ(counters().flows_local, 0u);
}

// More than every buffer on the way holds, and a reader that waits: the guest's window
// closes, and everything arrives in order once it is read.
TEST_P(LocalTest, BackpressureReachesTheGuest) {
  Begin();
  auto [flow, own] = Open();
  const std::string bytes = Pattern(4 << 20);
  size_t sent = 0;
  for (int quiet = 0; quiet < 3;) {
    if (flow.window_left() < 20'000) {
      flow.Forget();
      quiet = guest().StaysQuiet() ? quiet + 1 : 0;
      guest().Pass();
      continue;
    }
    quiet = 0;
    flow.SendAll(std::string_view(bytes).substr(sent, 20'000));
    sent += 20'000;
    ASSERT_LT(sent, bytes.size()) << "nothing stops the guest";
  }
  ReadTo(own, sent);
  EXPECT_EQ(own.received(), bytes.substr(0, sent));
  flow.SendAll("and on");
  ReadTo(own, sent + 6);
}

TEST_P(LocalTest, ManyBytesReachTheGuest) {
  Begin();
  auto [flow, own] = Open();
  const std::string bytes = Pattern(1 << 20);
  size_t written = 0;
  guest().Until("all bytes", [&] {
    written += own.Write(std::string_view(bytes).substr(written));
    flow.Forget();
    flow.Send({});
    return flow.received().size() == bytes.size();
  });
  EXPECT_EQ(flow.received(), bytes);
}

TEST_P(LocalTest, GuestFinIsAHalfClose) {
  Begin();
  auto [flow, own] = Open();
  flow.Send({.flags = kFinAck, .payload = "question"});
  ReadToEnd(own);
  EXPECT_EQ(own.received(), "question");
  flow.Forget();
  WriteAll(own, "answer");
  flow.ReceiveTo(6);
  EXPECT_EQ(flow.received(), "answer");
  flow.Forget();
  own.Close();
  flow.Expect(kFinAck);
  flow.Send({});
  ExpectNoFlowLeft();
  EXPECT_EQ(counters().flows_closed, 1u);
}

TEST_P(LocalTest, OwnEndClosesBehindItsBytes) {
  Begin();
  auto [flow, own] = Open();
  WriteAll(own, "last words");
  own.Close();
  guest().Until("the end at the guest", [&] {
    flow.Forget();
    flow.Send({});
    return flow.finished();
  });
  EXPECT_EQ(flow.received(), "last words");
  flow.Send({.flags = kFinAck});
  ExpectNoFlowLeft();
  EXPECT_EQ(counters().flows_closed, 1u);
}

// As to a host whose server is gone.
TEST_P(LocalTest, BytesForAnEndThatIsGoneAreReset) {
  Begin();
  auto [flow, own] = Open();
  own.Close();
  flow.Expect(kFinAck);
  flow.Send({.payload = "anybody?"});
  guest().Until("a reset at the guest", [&] { return flow.reset(); });
  ExpectNoFlowLeft();
}

TEST_P(LocalTest, UnreadBytesResetTheGuest) {
  Begin();
  auto [flow, own] = Open();
  flow.Send({.payload = "never read"});
  guest().Until("the bytes on their way", [&] { return counters().buffer_bytes_to_host == 0; });
  own.Close();
  guest().Until("a reset at the guest", [&] { return flow.reset(); });
  ExpectNoFlowLeft();
  EXPECT_EQ(counters().flows_reset_by_host, 1u);
}

// A pair knows no reset: the own end sees the end.
TEST_P(LocalTest, GuestResetEndsTheOwnEnd) {
  Begin();
  auto [flow, own] = Open();
  flow.Send({.flags = kTcpRst});
  guest().Until("the end", [&, &end = own] {
    end.Read();
    return end.ended() || end.error() != 0;
  });
  ExpectNoFlowLeft();
  EXPECT_EQ(counters().flows_reset_by_guest, 1u);
}

TEST_P(LocalTest, AnEndThatIsDroppedEndsTheConnection) {
  Begin();
  ports_.refuses = true;
  GuestFlow& flow = guest().Flow(kServed);
  flow.Handshake();
  flow.Expect(kFinAck);
  flow.Send({.flags = kFinAck});
  ExpectNoFlowLeft();
}

TEST_P(LocalTest, WithoutDescriptorsTheGuestIsReset) {
  Start();
  StackPeer::SetLocalPorts(guest().stack(), ports_, &NoPair);
  GuestFlow& flow = guest().Flow(kServed);
  flow.SendSyn();
  EXPECT_EQ(flow.Expect(kRstAck).acknowledgement, 1u);
  EXPECT_TRUE(ports_.opened.empty());
  EXPECT_EQ(counters().flows_local_refused, 1u);
  EXPECT_EQ(counters().flows_refused, 1u);
  EXPECT_EQ(counters().flows_local, 0u);
  ExpectNoFlowLeft();
}

TEST_P(LocalTest, TheFlowLimitHolds) {
  Config config = LoopbackConfig();
  config.flow_count_max = config.half_open_count_max = config.half_open_per_destination_max = 1;
  Begin(config);
  Connection first = Open();
  GuestFlow& second = guest().Flow(kServed);
  second.SendSyn();
  second.Expect(kRstAck);
  EXPECT_EQ(counters().flows_refused_limit, 1u);
  EXPECT_EQ(ports_.opened.size(), 1u);
  ExpectAlive(first);
}

TEST_P(LocalTest, TheHalfOpenLimitHolds) {
  Config config = LoopbackConfig();
  config.half_open_per_destination_max = 2;
  Begin(config);
  std::vector<GuestFlow*> half_open;
  for (int i = 0; i < 2; ++i) {
    half_open.push_back(&guest().Flow(kServed));
    half_open.back()->SendSyn();
    half_open.back()->Expect(kSynAck);
  }
  GuestFlow& third = guest().Flow(kServed);
  third.SendSyn();
  third.ExpectNothing();
  EXPECT_EQ(counters().drops_of(DropCause::kHalfOpenDestinationLimit), 1u);
  EXPECT_EQ(ports_.opened.size(), 2u);
  half_open.front()->Send({});
  third.SendSyn();
  third.Expect(kSynAck);
}

// A guest that never completes the handshake.
TEST_P(LocalTest, TheHandshakeTimeoutEndsTheOwnEnd) {
  Begin();
  GuestFlow& flow = guest().Flow(kServed);
  flow.SendSyn();
  flow.Expect(kSynAck);
  guest().Advance(31s);
  EXPECT_EQ(counters().flows_handshake_timeout, 1u);
  HostSocket& own = ports_.opened.at(0).socket;
  guest().Until("the end", [&] {
    own.Read();
    return own.ended() || own.error() != 0;
  });
  ExpectNoFlowLeft();
}

// The policy shuts the host, at whose address the port is: neither a new connection nor one
// that lives is its business.
TEST_P(LocalTest, NoPolicyCutsIt) {
  Begin();
  Connection connection = Open();
  const auto policy = Policy::Parse("deny egress @host\ndefault egress allow\n");
  ASSERT_TRUE(policy.ok());
  guest().stack().SetPolicy(PolicyLayer::kTenant, *policy, LiveFlows::kReset);
  guest().Pump();
  EXPECT_EQ(counters().flows_cut, 0u);
  ExpectAlive(connection);
  Connection another = Open();
  ExpectAlive(another);
}

}  // namespace
}  // namespace penstock
