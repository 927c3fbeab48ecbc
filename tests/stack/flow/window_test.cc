// Windows of both sides: the guest's that closes, opens and is tiny, and ours that
// follows what the host reads. RFC 9293 3.8.6, RFC 1122 4.2.2.17. (That no window of
// ours ever shrinks is checked in every script.)
#include <algorithm>
#include <string>
#include <utility>

#include "relay/flow_pipe.h"
#include "tests/stack/flow/flow_fixture.h"

namespace penstock {
namespace {

constexpr Duration kFirstProbe = 350ms;

class WindowTest : public FlowTest {
 protected:
  // A flow whose guest has no room from the start, and whose stack knows of bytes.
  Connection EstablishClosed(std::string_view bytes) {
    Connection connection = Establish({.window = 0});
    WriteAll(connection.host, bytes);
    guest().Until("the host's bytes", [&] { return counters().buffer_bytes_to_guest > 0; });
    return connection;
  }
  // The guest sends until the window is closed and stays so, the host not reading.
  std::string SendUntilClosed(GuestFlow& flow) {
    std::string sent;
    do {
      while (flow.window_left() > 0) {
        const std::string piece =
            Pattern(std::min<size_t>(flow.window_left(), full_segment()), 7 + flow.next());
        flow.Send({.payload = piece});
        flow.Forget();
        sent += piece;
      }
      guest().Pump();
    } while (flow.window_left() > 0 || !guest().StaysQuiet());
    return sent;
  }
};
PENSTOCK_BOTH_FAMILIES(WindowTest);

// A closed window is probed with one byte, first within 350 ms.
TEST_P(WindowTest, ClosedWindowIsProbed) {
  Connection connection = EstablishClosed("hello");
  const GuestSegment probe = connection.flow.ExpectWithin(kFirstProbe, kTcpAck);
  EXPECT_EQ(probe.sequence, 1u);
  EXPECT_LE(probe.payload.size(), 1u);
  EXPECT_GE(counters().zero_window_probes, 1u);
}

// Answered probes keep the flow alive beyond the silent timeout, their interval
// grows, and when the window opens, the data comes at once.
TEST_P(WindowTest, AnsweredProbesKeepTheFlowUntilTheWindowOpens) {
  Connection connection = EstablishClosed("hello");
  GuestFlow& flow = connection.flow;
  const Time begin = guest().now();
  int probes = 0;
  while (guest().now() - begin < 20min) {
    flow.ExpectWithin(2min, kTcpAck);
    ++probes;
    flow.Send({.acknowledgement = 1, .window = 0});
  }
  EXPECT_LT(probes, 200);
  EXPECT_EQ(counters().flows_open, 1u);

  flow.Send({.acknowledgement = 1, .window = 65535});
  flow.ReceiveTo(5);
  EXPECT_EQ(flow.received(), "hello");
  ExpectAlive(connection);
}

// The ACK that opens the window may be lost, and a guest repeats none: it is the
// next probe's answer that lets the data go.
TEST_P(WindowTest, ProbeThatIsTakenLetsTheDataGo) {
  Connection connection = EstablishClosed(Pattern(5000));
  GuestFlow& flow = connection.flow;
  flow.ExpectWithin(kFirstProbe, kTcpAck);
  flow.Send({.acknowledgement = 1, .window = 0});
  flow.ExpectWithin(5s, kTcpAck);
  flow.Send({.window = 65535});
  flow.ReceiveTo(5000);
  EXPECT_EQ(flow.received(), Pattern(5000));
}

// A guest with room for 100 bytes gets all of its data, 100 bytes at a time (that
// nothing exceeds the window is checked in every script).
TEST_P(WindowTest, TinyWindowGetsEverything) {
  Connection connection = Establish({.window = 100});
  const std::string bytes = Pattern(3000);
  WriteAll(connection.host, bytes);
  connection.flow.ReceiveWithin(20s, bytes.size());
  EXPECT_EQ(connection.flow.received(), bytes);
}

// The same behind super-segments, which are larger than such a window by far.
TEST_P(WindowTest, TinyWindowGetsEverythingThroughOffloads) {
  Start(LoopbackConfig(), OffloadingLink());
  Connection connection = Establish({.window = 100});
  const std::string bytes = Pattern(3000);
  WriteAll(connection.host, bytes);
  connection.flow.ReceiveWithin(20s, bytes.size());
  EXPECT_EQ(connection.flow.received(), bytes);
}

// A guest that takes back what it advertised loses nothing either.
TEST_P(WindowTest, GuestThatShrinksItsWindowGetsEverything) {
  Start(LoopbackConfig(), OffloadingLink());
  Connection connection = Establish();
  const std::string bytes = Pattern(100'000);
  WriteAll(connection.host, bytes);
  guest().Until("a window full", [&] { return connection.flow.received().size() >= 30'000; });
  connection.flow.Forget();
  connection.flow.Send({.acknowledgement = 1461, .window = 500});
  guest().Advance(1s);
  connection.flow.Forget();
  connection.flow.Send({.window = 65535});
  connection.flow.ReceiveWithin(20s, bytes.size());
  EXPECT_EQ(connection.flow.received(), bytes);
}

// A flow starts with at most 64 KiB of window: what is advertised is reserved.
TEST_P(WindowTest, InitialWindowIsAtMost64KiB) {
  Connection connection = Establish({.window_scale = 7});
  EXPECT_LE(connection.flow.window_left(), 65'536u);
  EXPECT_GE(connection.flow.window_left(), 16'384u);
  connection.flow.Send({.payload = "x"});
  connection.flow.Expect(kTcpAck);
  EXPECT_LE(connection.flow.window_left(), 65'536u);
}

// A host that does not read closes the window; memory stays within what was
// advertised. When it reads again, the window opens by itself: the guest need not
// probe, and no timer is waited for.
TEST_P(WindowTest, WindowFollowsTheHost) {
  ListenWith({.receive_buffer_bytes = 16'384});
  Connection connection = Establish();
  GuestFlow& flow = connection.flow;
  std::string sent = SendUntilClosed(flow);
  EXPECT_EQ(flow.window_left(), 0u);
  EXPECT_GT(counters().buffer_bytes_to_host, 0u);
  EXPECT_LE(counters().buffer_bytes_to_host, 4u << 20);

  guest().Until("the window opens", [&] {
    connection.host.Read(100'000);
    return flow.window_left() > 0;
  });
  const std::string rest = Pattern(200'000, 3);
  size_t done = 0;
  guest().Until("the rest arrives", [&] {
    connection.host.Read();
    const size_t count =
        std::min<size_t>({rest.size() - done, flow.window_left(), size_t{full_segment()}});
    if (count > 0) flow.Send({.payload = rest.substr(done, count)});
    done += count;
    return connection.host.received().size() == sent.size() + rest.size();
  });
  EXPECT_EQ(connection.host.received(), sent + rest);
}

// The guest's own probe of our closed window is answered with where the window is,
// and its byte is not taken.
TEST_P(WindowTest, GuestsProbeOfAClosedWindowIsAnswered) {
  ListenWith({.receive_buffer_bytes = 16'384});
  Connection connection = Establish();
  GuestFlow& flow = connection.flow;
  const std::string sent = SendUntilClosed(flow);
  flow.Forget();
  flow.Send({.sequence = flow.next(), .payload = "p"});
  const GuestSegment answer = flow.Expect(kTcpAck);
  EXPECT_EQ(answer.acknowledgement, 1 + sent.size());
  EXPECT_EQ(answer.window, 0u);
}

// Without window scaling bulk data goes on as well: updates of a window that is
// 65,535 at most come in time.
TEST_P(WindowTest, GuestWithoutWindowScalingGoesOn) {
  HandshakeOptions options;
  options.window_scale.reset();
  Connection connection = Establish(options);
  const std::string bytes = Pattern(1'000'000);
  for (size_t done = 0; done < bytes.size(); done += 50'000) {
    guest().Until("the window opens", [&] {
      connection.host.Read();
      return connection.flow.window_left() >= 30'000;
    });
    connection.host.Read();
    connection.flow.SendAll(std::string_view(bytes).substr(done, 25'000));
    connection.host.Read();
    connection.flow.SendAll(std::string_view(bytes).substr(done + 25'000, 25'000));
  }
  ReadTo(connection.host, bytes.size());
  EXPECT_EQ(connection.host.received(), bytes);
}

// A flow whose host drains gets a larger window than it began with.
TEST_P(WindowTest, WindowGrowsWhileTheHostDrains) {
  Connection connection = Establish({.window_scale = 7});
  const std::string bytes = Pattern(2'000'000);
  uint32_t largest = 0;
  for (size_t done = 0; done < bytes.size(); done += 20'000) {
    connection.flow.SendAll(std::string_view(bytes).substr(done, 20'000));
    connection.host.Read();
    largest = std::max(largest, connection.flow.window_left());
  }
  ReadTo(connection.host, bytes.size());
  EXPECT_EQ(connection.host.received(), bytes);
  EXPECT_GT(largest, 100'000u);
}

// What the host sends and a guest far away has not acknowledged: 512 KiB at first, up to 4 MiB
// where a round trip takes long, and 512 KiB for good where it does not.
class LongWayTest : public FlowTest {
 protected:
  // Bytes that came before the guest, after a round trip of `time`, acknowledges them.
  size_t Round(Connection& connection, Duration time) {
    GuestFlow& flow = connection.flow;
    size_t seen;
    do {
      seen = flow.received().size();
      written_ += connection.host.Write(std::string_view(bytes_).substr(written_, 1 << 20));
      guest().Pump();
    } while (flow.received().size() > seen || !guest().StaysQuiet());
    guest().Advance(time);
    flow.Forget();
    const size_t before = std::exchange(acknowledged_, flow.received().size());
    flow.Send({});
    return acknowledged_ - before;
  }
  const std::string bytes_ = Pattern(24 << 20);

 private:
  size_t written_ = 0;
  size_t acknowledged_ = 0;
};
PENSTOCK_BOTH_FAMILIES(LongWayTest);

TEST_P(LongWayTest, CarriesMore) {
  Start(LoopbackConfig(), OffloadingLink());
  Connection connection = Establish({.window_scale = 7});
  const size_t first = Round(connection, 20ms);
  EXPECT_LE(first, size_t{kBlockCredit} * kBigBlockBytes);
  EXPECT_GE(first, size_t{kBlockCredit} * kBigBlockBytes / 2);
  size_t most = 0;
  for (int i = 0; i < 7; ++i) most = std::max(most, Round(connection, 20ms));
  EXPECT_GE(most, size_t{3} << 20);
  EXPECT_LE(most, size_t{kBlockCreditMax} * kBigBlockBytes);
  EXPECT_EQ(connection.flow.received(), bytes_.substr(0, connection.flow.received().size()));
  EXPECT_EQ(counters().retransmits_by_timer, 0u);
}

// A near guest gets as much as keeps the host's socket read, and no more.
TEST_P(LongWayTest, IsNotTakenForAShortOne) {
  Start(LoopbackConfig(), OffloadingLink());
  Connection connection = Establish({.window_scale = 7});
  EXPECT_LE(Round(connection, 1ms), size_t{kBlockCredit} * kBigBlockBytes);
  size_t most = 0;
  for (int i = 0; i < 7; ++i) most = std::max(most, Round(connection, 1ms));
  EXPECT_LE(most, size_t{2} << 20);
  EXPECT_GE(most, size_t{1} << 20);
}

}  // namespace
}  // namespace penstock
