// Destroying a stack at any moment leaves nothing behind: no descriptor, no thread,
// and no host peer that waits for ever.
#include <algorithm>
#include <filesystem>
#include <iterator>
#include <thread>

#include "tests/stack/flow/flow_fixture.h"

namespace penstock {
namespace {

// Entries of /proc/self/fd or /proc/self/task.
size_t CountEntries(const char* folder) {
  const std::filesystem::directory_iterator entries(folder);
  return static_cast<size_t>(std::distance(begin(entries), end(entries)));
}

class ShutdownTest : public FlowTest {
 protected:
  // With the first thread comes the thread sanitizer's own.
  static void SetUpTestSuite() {
    std::thread([] {}).join();
  }

  // Destroys the stack and expects the counts that were before it was made. A thread
  // that was joined may stand in /proc a moment longer.
  void ExpectNothingLeft(size_t descriptors, size_t threads) {
    guest().DestroyStack();
    EXPECT_EQ(CountEntries("/proc/self/fd"), descriptors);
    const auto limit = Clock::now() + 5s;
    while (CountEntries("/proc/self/task") > threads && Clock::now() < limit) {
    }
    EXPECT_EQ(CountEntries("/proc/self/task"), threads);
  }
  // The stack is gone when a test ends: nothing is left to be accounted for.
  void TearDown() override {}
};
PENSTOCK_BOTH_FAMILIES(ShutdownTest);

// The world's own descriptors are in the counts: listeners are made first, and host
// sockets are closed before.
TEST_P(ShutdownTest, IdleStackLeavesNothing) {
  const size_t descriptors = CountEntries("/proc/self/fd");
  const size_t threads = CountEntries("/proc/self/task");
  Start();
  EXPECT_GT(CountEntries("/proc/self/task"), threads);
  ExpectNothingLeft(descriptors, threads);
}

// With an open flow, one in handshake, one dialing, and bytes pending both ways.
TEST_P(ShutdownTest, LiveFlowsLeaveNothing) {
  ListenWith({.receive_buffer_bytes = 16'384});
  (void)listener();
  HostListener black_hole(GetParam(), {.backlog = 0});
  black_hole.FillBacklog();
  const size_t descriptors = CountEntries("/proc/self/fd");
  const size_t threads = CountEntries("/proc/self/task");
  Start();
  {
    Connection open = Establish({.window = 0});
    WriteAll(open.host, Pattern(100'000));
    while (open.flow.window_left() > 0) {
      const size_t count = std::min<size_t>(open.flow.window_left(), 1000);
      open.flow.Send({.payload = std::string(count, 'x')});
    }
    GuestFlow& handshake = guest().Flow(listener().port());
    handshake.SendSyn();
    handshake.Expect(kTcpSyn | kTcpAck);
    HostSocket handshake_host = Accept();
    guest().Flow(black_hole.port()).SendSyn();
    guest().Until("the relay's SYN", [&] { return black_hole.IsBeingDialled(); });
    EXPECT_EQ(counters().flows_open, 1u);
    EXPECT_EQ(counters().flows_handshake, 1u);
    EXPECT_EQ(counters().flows_dialing, 1u);
    EXPECT_GT(counters().buffer_bytes_to_guest, 0u);
  }
  ExpectNothingLeft(descriptors, threads);
}

// The host's peers of live flows see a reset, never a clean end that would make a
// whole transfer of a cut one.
TEST_P(ShutdownTest, HostPeersSeeAReset) {
  Start();
  Connection connection = Establish();
  ExpectAlive(connection);
  guest().DestroyStack();
  connection.host.Read();
  EXPECT_TRUE(connection.host.WasReset());
  EXPECT_FALSE(connection.host.ended());
}

}  // namespace
}  // namespace penstock
