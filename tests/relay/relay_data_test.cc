// Bytes through a relay: every one, in order, in both directions, and no more of them
// under way than there is credit for.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <random>
#include <tuple>

#include "tests/relay/played_stack.h"
#include "tests/support/host_side.h"

namespace penstock {
namespace {

std::string RandomBytes(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::string bytes(count, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

class RelayDataTest : public testing::TestWithParam<RelayForm> {
 protected:
  // A flow that is connected to host().
  PlayedFlow& Connect(PlayedStack& stack, uint32_t block_bytes = 65'480) {
    PlayedFlow& flow = stack.Open({Loopback(Family::kIpv4, listener_.port())}, block_bytes);
    stack.Until("a connection", [&] {
      if (!host_) host_ = listener_.TryAccept();
      return host_.has_value() && flow.connected();
    });
    return flow;
  }
  [[nodiscard]] HostSocket& host() { return *host_; }

  // Writes until the kernel and the relay take no more. Returns how much they took.
  size_t WriteUntilFull(PlayedStack& stack, const PlayedFlow& flow, std::string_view bytes) {
    size_t written = 0;
    stack.Until("no credit is left", [&] {
      const size_t before = written;
      written += host().Write(bytes.substr(written));
      return flow.blocks_held() == kBlockCredit && written == before && host().error() == 0;
    });
    return written;
  }

  HostListener listener_{Family::kIpv4};
  std::optional<HostSocket> host_;
};
INSTANTIATE_TEST_SUITE_P(Forms, RelayDataTest,
                         testing::Values(RelayForm::kThread, RelayForm::kIoContext),
                         [](const auto& info) { return FormName(info.param); });

TEST_P(RelayDataTest, OneSmallMessageEachWay) {
  PlayedStack stack(GetParam());
  PlayedFlow& flow = Connect(stack);
  flow.Send("ping");
  stack.Until("the guest's bytes", [&] { return host().Read() > 0; });
  EXPECT_EQ(host().received(), "ping");
  stack.Until("the bytes' return", [&] { return flow.bytes_out() == 0; });
  host().Write("pong");
  stack.Until("the host's bytes", [&] { return !flow.received().empty(); });
  EXPECT_EQ(flow.received(), "pong");
}

// Both directions at once, cut at random: chunks, messages, reads, writes, and blocks that
// come back now and then; then both ends finish.
TEST_P(RelayDataTest, EveryByteArrivesWhateverTheChunking) {
  for (const uint32_t seed : {1u, 2u, 3u}) {
    SCOPED_TRACE(seed);
    host_.reset();
    PlayedStack stack(GetParam());
    std::mt19937 random(seed);
    PlayedFlow& flow = Connect(stack, seed == 1 ? 1'460 : 65'480);
    flow.HoldBlocks();
    const std::string to_host = RandomBytes(700'000, seed), to_guest = RandomBytes(700'000, ~seed);
    size_t sent = 0, written = 0;
    stack.Until("all bytes", [&] {
      const size_t piece = std::min<size_t>(1 + random() % 50'000, to_host.size() - sent);
      flow.Send(std::string_view(to_host).substr(sent, piece), 1 + random() % 20'000);
      sent += piece;
      if (written < to_guest.size()) {
        written += host().Write(std::string_view(to_guest).substr(written, 1 + random() % 50'000));
      }
      host().Read(1 + random() % 60'000);
      flow.GiveBack(random() % 4);
      return host().received().size() == to_host.size() &&
             flow.received().size() == to_guest.size();
    });
    EXPECT_EQ(host().received(), to_host);
    EXPECT_EQ(flow.received(), to_guest);
    EXPECT_EQ(flow.words(), std::vector<ToGuest>{ToGuest::kConnected});
  }
}

TEST_P(RelayDataTest, StopsReadingWithoutCreditAndGoesOnWithIt) {
  PlayedStack stack(GetParam());
  PlayedFlow& flow = Connect(stack);
  flow.HoldBlocks();
  const std::string bytes = RandomBytes(16 << 20, 7);
  const size_t full = WriteUntilFull(stack, flow, bytes);
  EXPECT_LE(flow.received().size(), size_t{kBlockCredit} * 65'480);
  // Above half of the credit nothing is read, not even with room for a block.
  const size_t before = flow.received().size();
  flow.GiveBack(kBlockCredit / 2 - 1);
  for (int i = 0; i < 20; ++i) stack.Pump();
  EXPECT_EQ(flow.received().size(), before);
  // At half it goes on, until the credit is used up again.
  flow.GiveBack(1);
  stack.Until("credit is used again", [&] { return flow.blocks_held() == kBlockCredit; });
  EXPECT_GT(flow.received().size(), before);
  stack.Until("the rest", [&] {
    flow.GiveBack(kBlockCredit);
    return flow.received().size() == full;
  });
  EXPECT_EQ(flow.received(), bytes.substr(0, full));
}

// The stack raises it while blocks are out: the relay reads on without any of them.
TEST_P(RelayDataTest, CreditThatGrowsIsUsed) {
  PlayedStack stack(GetParam());
  PlayedFlow& flow = Connect(stack);
  flow.HoldBlocks();
  const std::string bytes = RandomBytes(16 << 20, 8);
  size_t written = 0;
  const auto full_at = [&](size_t blocks) {
    stack.Until("credit is used", [&] {
      written += host().Write(std::string_view(bytes).substr(written));
      return flow.blocks_held() == blocks;
    });
  };
  full_at(kBlockCredit);
  flow.SetCredit(2 * kBlockCredit);
  flow.GiveBack(1);
  full_at(2 * kBlockCredit);
  EXPECT_EQ(flow.received(), bytes.substr(0, flow.received().size()));
}

// A host that does not read holds the guest's bytes; other flows run on meanwhile.
TEST_P(RelayDataTest, ABlockedWriterHoldsOnlyItself) {
  PlayedStack stack(GetParam());
  PlayedFlow& blocked = Connect(stack);
  HostSocket slow = *std::exchange(host_, std::nullopt);
  const std::string bytes = RandomBytes(16 << 20, 9);
  size_t sent = 0;
  stack.Until("the writer is blocked", [&] {
    const std::string_view message = std::string_view(bytes).substr(sent, 1 << 20);
    const bool enough = blocked.bytes_out() >= 4 << 20;
    if (!enough) {
      blocked.Send(message);
      sent += message.size();
    }
    return enough && blocked.all_taken();
  });
  PlayedFlow& other = Connect(stack);
  other.Send("lively");
  stack.Until("the other flow's bytes", [&] { return host().Read() > 0; });
  EXPECT_EQ(host().received(), "lively");
  stack.Until("the slow one's bytes", [&] {
    slow.Read();
    return slow.received().size() == sent;
  });
  EXPECT_EQ(slow.received(), bytes.substr(0, sent));
  stack.Until("everything given back", [&] { return blocked.bytes_out() == 0; });
}

// The pool holds less than one flow's credit: the relay reads on as blocks come back, and
// exceeds the pool by no more than a small block for each flow that had to wait.
TEST_P(RelayDataTest, WaitsForBlocksWhenThePoolIsEmpty) {
  PlayedStack stack(GetParam(), {.block_bytes_max = 140'000});
  PlayedFlow& first = Connect(stack);
  HostSocket first_host = *std::exchange(host_, std::nullopt);
  PlayedFlow& second = Connect(stack);
  first.HoldBlocks();
  second.HoldBlocks();
  const std::string bytes = RandomBytes(3'000'000, 11);
  size_t first_written = 0, second_written = 0;
  stack.Until("both streams", [&] {
    first_written += first_host.Write(std::string_view(bytes).substr(first_written));
    second_written += host().Write(std::string_view(bytes).substr(second_written));
    first.GiveBack(1);
    second.GiveBack(1);
    return first.received().size() == bytes.size() && second.received().size() == bytes.size();
  });
  EXPECT_EQ(first.received(), bytes);
  EXPECT_EQ(second.received(), bytes);
}

// Bytes that were read when the pool had nothing left go into a block beyond its limit,
// and the flow then waits, whatever else the relay is woken for.
TEST_P(RelayDataTest, ExceedsThePoolByOneBlockForEachFlow) {
  PlayedStack stack(GetParam(), {.block_bytes_max = 8 * kSmallBlockBytes});
  PlayedFlow& greedy = Connect(stack);
  HostSocket greedy_host = *std::exchange(host_, std::nullopt);
  std::vector<PlayedFlow*> flows;
  std::vector<HostSocket> hosts;
  for (uint32_t i = 0; i < 10; ++i) {
    flows.push_back(&Connect(stack));
    flows.back()->HoldBlocks();
    hosts.push_back(*std::exchange(host_, std::nullopt));
    // More than one small read.
    hosts.back().Write(std::string(3'000, 'x'));
  }
  stack.Until("a block for each", [&] {
    return std::all_of(flows.begin(), flows.end(),
                       [](const PlayedFlow* flow) { return flow->blocks_held() > 0; });
  });
  const auto held = [&] {
    size_t count = 0;
    for (const PlayedFlow* flow : flows) count += flow->blocks_held();
    return count;
  };
  const size_t before = held();
  for (int i = 0; i < 20; ++i) {
    greedy.Send("x");
    stack.Until("the byte", [&] { return greedy_host.Read() > 0; });
  }
  EXPECT_EQ(held(), before);
  stack.Until("the rest", [&] {
    size_t received = 0;
    for (PlayedFlow* flow : flows) {
      flow->GiveBack(1);
      received += flow->received().size();
    }
    return received == 10 * 3'000;
  });
}

// Urgent data is data, in its place.
class UrgentPeer {
 public:
  UrgentPeer() : listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in any{.sin_family = AF_INET};
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t bytes = sizeof any;
    auto* address = reinterpret_cast<sockaddr*>(&any);
    EXPECT_EQ(bind(listener_.get(), address, bytes), 0);
    EXPECT_EQ(listen(listener_.get(), 1), 0);
    EXPECT_EQ(getsockname(listener_.get(), address, &bytes), 0);
    port_ = ntohs(any.sin_port);
  }
  [[nodiscard]] uint16_t port() const { return port_; }
  // The connection is there already.
  void Accept() {
    socket_ = HostDescriptor(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  void Send(std::string_view bytes, int flags) {
    ASSERT_EQ(send(socket_.get(), bytes.data(), bytes.size(), flags),
              static_cast<ssize_t>(bytes.size()));
  }

 private:
  HostDescriptor listener_, socket_;
  uint16_t port_ = 0;
};

TEST_P(RelayDataTest, UrgentDataStaysInTheStream) {
  UrgentPeer peer;
  PlayedStack stack(GetParam());
  PlayedFlow& flow = stack.Open({Loopback(Family::kIpv4, peer.port())});
  stack.Until("connected", [&] { return flow.connected(); });
  peer.Accept();
  peer.Send("before ", 0);
  peer.Send("!", MSG_OOB);
  peer.Send(" after", 0);
  stack.Until("all of it", [&] { return flow.received().size() == 14; });
  EXPECT_EQ(flow.received(), "before ! after");
}

// Without credit the relay watches for errors only, and urgent data looks like one.
TEST_P(RelayDataTest, UrgentDataWhileNothingIsReadIsNoError) {
  UrgentPeer peer;
  PlayedStack stack(GetParam());
  PlayedFlow& flow = stack.Open({Loopback(Family::kIpv4, peer.port())});
  stack.Until("connected", [&] { return flow.connected(); });
  peer.Accept();
  flow.HoldBlocks();
  std::string expected;
  while (flow.blocks_held() < kBlockCredit) {
    // One byte, one block: what came before is read first.
    const size_t seen = flow.blocks_held();
    peer.Send("x", 0);
    expected += 'x';
    stack.Until("a block", [&] { return flow.blocks_held() == seen + 1; });
  }
  peer.Send("!", MSG_OOB);
  peer.Send("rest", 0);
  expected += "!rest";
  for (int i = 0; i < 20; ++i) stack.Pump();
  EXPECT_EQ(flow.blocks_held(), kBlockCredit);
  flow.GiveBack(kBlockCredit);
  stack.Until("all of it", [&] { return flow.received().size() == expected.size(); });
  EXPECT_EQ(flow.received(), expected);
  EXPECT_EQ(flow.words(), std::vector<ToGuest>{ToGuest::kConnected});
}

}  // namespace
}  // namespace penstock
