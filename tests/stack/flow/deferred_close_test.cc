// A host that closed while the guest has no room: its bytes are kept as long as the
// guest's TCP shows life, and not for ever if it takes none of them.
#include <string>

#include "tests/stack/flow/flow_fixture.h"

namespace penstock {
namespace {

constexpr size_t kPending = 100'000;

class DeferredCloseTest : public FlowTest {
 protected:
  // The host wrote kPending bytes and is gone; the guest's window is closed.
  GuestFlow& ClosePending() {
    Connection connection = Establish({.window = 0});
    WriteAll(connection.host, Pattern(kPending));
    connection.host.Close();
    guest().Until("the host's bytes", [&] { return counters().buffer_bytes_to_guest > 0; });
    return connection.flow;
  }
  // Answers each probe, taking no byte, for `duration` or until the flow is reset.
  void AnswerProbesFor(GuestFlow& flow, Duration duration) {
    const Time begin = guest().now();
    while (guest().now() - begin < duration && !flow.reset()) {
      guest().AdvanceUntil("a probe", 5min, [&] { return !flow.waiting().empty(); });
      flow.Forget();
      if (!flow.reset()) flow.Send({.acknowledgement = 1, .window = 0});
    }
  }
};
PENSTOCK_BOTH_FAMILIES(DeferredCloseTest);

// While probes are answered, the bytes are kept; the guest gets them all, and FIN,
// when it has room.
TEST_P(DeferredCloseTest, PendingBytesAreKeptForALivingGuest) {
  GuestFlow& flow = ClosePending();
  AnswerProbesFor(flow, 20min);
  ASSERT_FALSE(flow.reset());
  flow.Send({.acknowledgement = 1, .window = 65535});
  flow.ReceiveTo(SIZE_MAX);
  EXPECT_TRUE(flow.finished());
  EXPECT_EQ(flow.received(), Pattern(kPending));
  flow.Send({.flags = kTcpFin | kTcpAck});
  ExpectNoFlowLeft();
  EXPECT_EQ(counters().buffer_bytes_to_guest, 0u);
}

// A guest that answers no probe for the silent timeout is reset and counted.
TEST_P(DeferredCloseTest, SilentGuestIsReset) {
  GuestFlow& flow = ClosePending();
  guest().Advance(14min);
  EXPECT_FALSE(flow.reset());
  guest().Advance(2min);
  EXPECT_TRUE(flow.reset());
  EXPECT_EQ(counters().flows_silent_timeout, 1u);
  EXPECT_EQ(counters().flows_stalled_timeout, 0u);
  ExpectNoFlowLeft();
  EXPECT_EQ(counters().buffer_bytes_to_guest, 0u);
}

// A guest that answers, but takes no byte for the stall timeout, is reset and
// counted apart.
TEST_P(DeferredCloseTest, StalledGuestIsReset) {
  GuestFlow& flow = ClosePending();
  AnswerProbesFor(flow, 29min);
  EXPECT_FALSE(flow.reset());
  AnswerProbesFor(flow, 5min);
  EXPECT_TRUE(flow.reset());
  EXPECT_EQ(counters().flows_stalled_timeout, 1u);
  EXPECT_EQ(counters().flows_silent_timeout, 0u);
  ExpectNoFlowLeft();
}

// A byte taken now and then is no stall.
TEST_P(DeferredCloseTest, ByteTakenStartsTheStallTimeoutAgain) {
  GuestFlow& flow = ClosePending();
  AnswerProbesFor(flow, 20min);
  guest().AdvanceUntil("a probe", 5min, [&] { return !flow.waiting().empty(); });
  flow.Forget();
  ASSERT_EQ(flow.expected(), 2u);
  flow.Send({.acknowledgement = 2, .window = 0});
  const Time begin = guest().now();
  while (guest().now() - begin < 20min && !flow.reset()) {
    guest().AdvanceUntil("a probe", 5min, [&] { return !flow.waiting().empty(); });
    flow.Forget();
    if (!flow.reset()) flow.Send({.acknowledgement = 2, .window = 0});
  }
  EXPECT_FALSE(flow.reset());
}

}  // namespace
}  // namespace penstock
