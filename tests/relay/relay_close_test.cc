// The ends of flows: FIN and reset in both directions, closing in good order, and a relay
// that shuts down under live flows.
#include <gtest/gtest.h>

#include <cerrno>

#include "tests/relay/played_stack.h"
#include "tests/support/host_side.h"

namespace penstock {
namespace {

class RelayCloseTest : public testing::TestWithParam<RelayForm> {
 protected:
  static constexpr uint64_t kBlockedBytes = 4 << 20;

  // A flow and the host's end of it.
  struct Connection {
    PlayedFlow& flow;
    HostSocket host;
  };
  static Connection Connect(PlayedStack& stack, HostListener& listener) {
    PlayedFlow& flow = stack.Open({Loopback(Family::kIpv4, listener.port())});
    std::optional<HostSocket> host;
    stack.Until("a connection", [&] {
      if (!host) host = listener.TryAccept();
      return host.has_value() && flow.connected();
    });
    return {flow, *std::move(host)};
  }
  // The host does not read: sends until the relay has held bytes for a while.
  static size_t BlockWriter(PlayedStack& stack, PlayedFlow& flow) {
    const std::string message(1 << 20, 'g');
    size_t sent = 0;
    // More than a socket's two buffers hold.
    stack.Until("the writer is blocked", [&] {
      if (flow.bytes_out() < kBlockedBytes) {
        flow.Send(message);
        sent += message.size();
      }
      return flow.bytes_out() >= kBlockedBytes && flow.all_taken();
    });
    return sent;
  }
  // The host sends one byte a time until all credit is used.
  static void UseUpCredit(PlayedStack& stack, PlayedFlow& flow, HostSocket& host) {
    flow.HoldBlocks();
    while (flow.blocks_held() < kBlockCredit) {
      const size_t seen = flow.blocks_held();
      ASSERT_EQ(host.Write("x"), 1u);
      stack.Until("a block", [&] { return flow.blocks_held() == seen + 1; });
    }
  }
  static void AbortAndClose(PlayedStack& stack, PlayedFlow& flow) {
    flow.Abort();
    stack.Until("the relay's last word", [&] { return flow.closed(); });
    flow.GiveBack(kBlockCredit);
  }

  HostListener listener_{Family::kIpv4};
};
INSTANTIATE_TEST_SUITE_P(Forms, RelayCloseTest,
                         testing::Values(RelayForm::kThread, RelayForm::kIoContext),
                         [](const auto& info) { return FormName(info.param); });

TEST_P(RelayCloseTest, GuestFinHalfClosesOnly) {
  PlayedStack stack(GetParam());
  auto [flow, host] = Connect(stack, listener_);
  flow.Send("last words");
  flow.Fin();
  stack.Until("the end at the host", [&] {
    host.Read();
    return host.ended();
  });
  EXPECT_EQ(host.received(), "last words");
  host.Write("an answer after that");
  host.Close();
  stack.Until("the end at the guest", [&] { return flow.Heard(ToGuest::kEof); });
  EXPECT_EQ(flow.received(), "an answer after that");
  flow.Close();
  stack.Until("the relay's last word", [&] { return flow.closed(); });
  EXPECT_EQ(flow.words(), (std::vector{ToGuest::kConnected, ToGuest::kEof, ToGuest::kClosed}));
}

TEST_P(RelayCloseTest, HostEofHalfClosesOnly) {
  PlayedStack stack(GetParam());
  auto [flow, host] = Connect(stack, listener_);
  host.Write("bye");
  host.ShutdownWrite();
  stack.Until("the end at the guest", [&] { return flow.Heard(ToGuest::kEof); });
  EXPECT_EQ(flow.received(), "bye");
  const std::string late(300'000, 'l');
  flow.Send(late);
  flow.Fin();
  stack.Until("the end at the host", [&] {
    host.Read();
    return host.ended();
  });
  EXPECT_EQ(host.received(), late);
  flow.Close();
  stack.Until("the relay's last word", [&] { return flow.closed(); });
}

TEST_P(RelayCloseTest, HostResetIsTold) {
  PlayedStack stack(GetParam());
  auto [flow, host] = Connect(stack, listener_);
  host.Reset();
  stack.Until("the reset", [&] { return flow.Heard(ToGuest::kReset); });
  EXPECT_EQ(flow.error(), ECONNRESET);
  AbortAndClose(stack, flow);
  EXPECT_EQ(flow.words(), (std::vector{ToGuest::kConnected, ToGuest::kReset, ToGuest::kClosed}));
}

// The read that fills a block and goes on meets the reset: the error must not be lost
// with it, or a broken transfer would look whole.
TEST_P(RelayCloseTest, HostResetBehindDataIsToldAndIsNoEnd) {
  for (const size_t bytes :
       {size_t{1}, size_t{128}, size_t{1'024}, size_t{5'000}, size_t{200'000}}) {
    PlayedStack stack(GetParam());
    auto [flow, host] = Connect(stack, listener_);
    // Nothing of the relay runs in between where this thread runs it.
    EXPECT_EQ(host.Write(std::string(bytes, 'h')), bytes);
    host.Reset();
    stack.Until("the reset", [&] { return flow.Heard(ToGuest::kReset); });
    EXPECT_FALSE(flow.Heard(ToGuest::kEof)) << bytes;
    EXPECT_EQ(flow.error(), ECONNRESET) << bytes;
    AbortAndClose(stack, flow);
  }
}

TEST_P(RelayCloseTest, HostResetIsToldWithoutCredit) {
  PlayedStack stack(GetParam());
  auto [flow, host] = Connect(stack, listener_);
  UseUpCredit(stack, flow, host);
  host.Write("never read");
  host.Reset();
  stack.Until("the reset", [&] { return flow.Heard(ToGuest::kReset); });
  EXPECT_EQ(flow.error(), ECONNRESET);
  EXPECT_EQ(flow.received(), std::string(kBlockCredit, 'x'));
  AbortAndClose(stack, flow);
}

TEST_P(RelayCloseTest, HostResetIsToldWhileAWriteIsBlocked) {
  PlayedStack stack(GetParam());
  auto [flow, host] = Connect(stack, listener_);
  BlockWriter(stack, flow);
  host.Reset();
  stack.Until("the reset", [&] { return flow.Heard(ToGuest::kReset); });
  stack.Until("what nobody takes comes back", [&] { return flow.bytes_out() == 0; });
  EXPECT_FALSE(flow.closed()) << "the stack has not answered";
  AbortAndClose(stack, flow);
  EXPECT_EQ(flow.words(), (std::vector{ToGuest::kConnected, ToGuest::kReset, ToGuest::kClosed}));
}

// The writer meets the reset before the reader does: nothing follows but kClosed.
TEST_P(RelayCloseTest, NothingComesAfterAReset) {
  PlayedStack stack(GetParam());
  for (int round = 0; round < 50; ++round) {
    auto [flow, host] = Connect(stack, listener_);
    host.Write("unread");
    host.Reset();
    flow.Send("into the void");
    stack.Until("the reset", [&] { return flow.Heard(ToGuest::kReset); });
    AbortAndClose(stack, flow);
    EXPECT_EQ(flow.words(), (std::vector{ToGuest::kConnected, ToGuest::kReset, ToGuest::kClosed}));
  }
}

TEST_P(RelayCloseTest, GuestAbortResetsTheHost) {
  PlayedStack stack(GetParam());
  auto [flow, host] = Connect(stack, listener_);
  AbortAndClose(stack, flow);
  stack.Until("the reset at the host", [&] { return host.WasReset(); });
  EXPECT_FALSE(host.ended());
}

TEST_P(RelayCloseTest, GuestAbortResetsTheHostWhileAWriteIsBlocked) {
  PlayedStack stack(GetParam());
  auto [flow, host] = Connect(stack, listener_);
  BlockWriter(stack, flow);
  AbortAndClose(stack, flow);
  stack.Until("the reset at the host", [&] { return host.WasReset(); });
}

TEST_P(RelayCloseTest, GuestAbortResetsTheHostWithoutCredit) {
  PlayedStack stack(GetParam());
  auto [flow, host] = Connect(stack, listener_);
  UseUpCredit(stack, flow, host);
  AbortAndClose(stack, flow);
  stack.Until("the reset at the host", [&] { return host.WasReset(); });
}

TEST_P(RelayCloseTest, GuestAbortAfterFinResetsTheHost) {
  PlayedStack stack(GetParam());
  auto [flow, host] = Connect(stack, listener_);
  flow.Fin();
  stack.Until("the end at the host", [&] {
    host.Read();
    return host.ended();
  });
  AbortAndClose(stack, flow);
  stack.Until("the reset at the host", [&] { return host.WasReset(); });
}

// What the guest sent just before its reset still goes out, as far as it fits.
TEST_P(RelayCloseTest, GuestAbortSendsWhatCameBefore) {
  PlayedStack stack(GetParam());
  auto [flow, host] = Connect(stack, listener_);
  flow.Send("last");
  flow.Abort();
  stack.Until("the bytes at the host", [&] {
    host.Read();
    return host.received() == "last" || host.error() != 0;
  });
  stack.Until("the reset at the host", [&] { return host.WasReset(); });
  stack.Until("the relay's last word", [&] { return flow.closed(); });
}

// The stack is done and the host reads slowly: every byte arrives, then a clean end.
TEST_P(RelayCloseTest, CloseDrainsToASlowReader) {
  HostListener narrow(Family::kIpv4, {.receive_buffer_bytes = 8'192});
  PlayedStack stack(GetParam());
  auto [flow, host] = Connect(stack, narrow);
  host.ShutdownWrite();
  stack.Until("the end at the guest", [&] { return flow.Heard(ToGuest::kEof); });
  const size_t sent = BlockWriter(stack, flow);
  flow.Fin();
  flow.Close();
  EXPECT_FALSE(flow.closed());
  stack.Until("the end at the host", [&] {
    host.Read(100'000);
    return host.ended() || host.error() != 0;
  });
  EXPECT_EQ(host.error(), 0);
  EXPECT_EQ(host.received().size(), sent);
  stack.Until("the relay's last word", [&] { return flow.closed(); });
}

TEST_P(RelayCloseTest, AbortEndsADrainThatDoesNotEnd) {
  PlayedStack stack(GetParam());
  auto [flow, host] = Connect(stack, listener_);
  BlockWriter(stack, flow);
  flow.Fin();
  flow.Close();
  for (int i = 0; i < 20; ++i) stack.Pump();
  EXPECT_FALSE(flow.closed());
  AbortAndClose(stack, flow);
  stack.Until("the reset at the host", [&] { return host.WasReset(); });
}

// kAbort may cross kClosed on its way: it begins no new flow.
TEST_P(RelayCloseTest, AbortAfterTheRelaysLastWordIsNothing) {
  PlayedStack stack(GetParam());
  auto [flow, host] = Connect(stack, listener_);
  host.Close();
  stack.Until("the end at the guest", [&] { return flow.Heard(ToGuest::kEof); });
  flow.Fin();
  flow.Close();
  stack.Until("the relay's last word", [&] { return flow.closed(); });
  flow.Abort();
  stack.Until("the relay took it", [&] { return flow.all_taken(); });
  for (int i = 0; i < 20; ++i) stack.Pump();
  EXPECT_EQ(flow.words(), (std::vector{ToGuest::kConnected, ToGuest::kEof, ToGuest::kClosed}));
}

// Flows in every state under a relay that goes away.
TEST_P(RelayCloseTest, ShutdownLeavesNothingBehind) {
  HostListener silent(Family::kIpv4, {.backlog = 0});
  silent.FillBacklog();
  const size_t descriptors = OpenDescriptorCount();
  {
    PlayedStack stack(GetParam());
    auto [idle, idle_host] = Connect(stack, listener_);
    auto [blocked, blocked_host] = Connect(stack, listener_);
    auto [paused, paused_host] = Connect(stack, listener_);
    auto [ended, ended_host] = Connect(stack, listener_);
    auto [closing, closing_host] = Connect(stack, listener_);
    BlockWriter(stack, blocked);
    UseUpCredit(stack, paused, paused_host);
    ended_host.ShutdownWrite();
    stack.Until("the end of one", [&] { return ended.Heard(ToGuest::kEof); });
    BlockWriter(stack, closing);
    closing.Close();
    PlayedFlow& dialing = stack.Open({Loopback(Family::kIpv4, silent.port())});
    stack.Until("the dial", [&] { return dialing.all_taken(); });
    stack.Shutdown();
    for (HostSocket* host : {&idle_host, &blocked_host, &paused_host, &ended_host}) {
      stack.Until("a reset", [&] { return host->WasReset(); });
    }
    EXPECT_FALSE(idle.closed());
  }
  EXPECT_EQ(OpenDescriptorCount(), descriptors);
}

// A pipe is the next flow's after kClosed, as a stack's slots are. What is left over from
// the flow before, blocks that come back late and a kAbort that crossed kClosed, is not
// the new one's.
TEST_P(RelayCloseTest, APipeIsUsedAgain) {
  PlayedStack stack(GetParam());
  auto [flow, host] = Connect(stack, listener_);
  for (int i = 0; i < 20; ++i) {
    UseUpCredit(stack, flow, host);
    flow.Abort();
    stack.Until("the relay's last word", [&] { return flow.closed(); });
    flow.GiveBack(kBlockCredit);
    flow.Abort();
    flow.Reopen({Loopback(Family::kIpv4, listener_.port())});
    std::optional<HostSocket> next;
    stack.Until("a connection", [&] {
      if (!next) next = listener_.TryAccept();
      return next.has_value() && flow.connected();
    });
    host = *std::move(next);
  }
}

TEST_P(RelayCloseTest, ManyFlowsComeAndGo) {
  const size_t descriptors = OpenDescriptorCount();
  {
    PlayedStack stack(GetParam());
    for (int i = 0; i < 100; ++i) {
      auto [flow, host] = Connect(stack, listener_);
      flow.Send("x");
      if (i % 2 == 0) host.Write("y");
      if (i % 3 == 0) {
        AbortAndClose(stack, flow);
        continue;
      }
      host.ShutdownWrite();
      flow.Fin();
      stack.Until("the end at the guest", [&] { return flow.Heard(ToGuest::kEof); });
      flow.Close();
      stack.Until("the relay's last word", [&] { return flow.closed(); });
    }
  }
  EXPECT_EQ(OpenDescriptorCount(), descriptors);
}

}  // namespace
}  // namespace penstock
