// The simulated world's guest against a real stack, on a perfect link or one that loses
// frames. The host's end is real sockets on loopback behind a relay thread; the guest's
// and the stack's time is virtual and goes by when nothing moves at the present moment.
// Each case runs in a child: a process has one GuestTcp.
#include "tests/world/guest_tcp.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/escaping.h"
#include "stack/stack.h"
#include "tests/support/host_side.h"
#include "tests/support/memory_link.h"
#include "tests/world/child.h"

namespace penstock::world {
namespace {

using namespace std::chrono_literals;

// Far beyond what any wait needs, also under a sanitizer on a busy machine.
constexpr auto kRealLimit = 30s;
// How long nothing may move before virtual time does, and by how much it does then: a
// host that is slow for a moment must not meet the stack's timeouts.
constexpr int kQuietMilliseconds = 2;
constexpr Duration kStep = 250ms;
constexpr size_t kTransferBytes = 200'000;
constexpr uint16_t kSourcePort = 40'000;

void Require(bool condition, const std::string& what) {
  if (!condition) throw std::runtime_error(what);
}

std::string Pattern(size_t count, uint32_t state) {
  std::string bytes(count, '\0');
  for (char& byte : bytes) {
    state = state * 1'664'525u + 1'013'904'223u;
    byte = static_cast<char>(state >> 24);
  }
  return bytes;
}

std::span<const uint8_t> AsBytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

struct BenchOptions {
  Family family = Family::kIpv4;
  uint32_t mtu = 1500;
  uint32_t receive_buffer = 256 << 10;
  uint64_t seed = 1;
  // The link loses every so manieth frame, in both directions together; 0: none.
  size_t lost_every = 0;
};

// A stack, a link, a guest and a listener on the host.
class Bench {
 public:
  explicit Bench(const BenchOptions& options)
      : family_(options.family), lost_every_(options.lost_every), listener_(options.family) {
    config_.host_loopback = true;
    config_.mtu = options.mtu;
    config_.dial_timeout = 10min;  // virtual; the host's answer comes in real time
    auto link = std::make_unique<MemoryLink>();
    link_ = link.get();
    auto stack = Stack::Create(config_, std::move(link));
    Require(stack.ok(), std::string(stack.status().message()));
    stack_ = *std::move(stack);
    GuestTcpOptions guest = GuestOptionsFor(config_);
    guest.receive_buffer = options.receive_buffer;
    guest.seed = options.seed;
    guest.send = [this](std::span<const uint8_t> frame) {
      sent_.append(frame.begin(), frame.end());
      largest_frame_ = std::max(largest_frame_, frame.size());
      if (!Loses()) link_->PushToHost(frame);
    };
    guest_.emplace(std::move(guest));
  }

  GuestConnection& Connect(uint16_t port, uint16_t source_port = kSourcePort) {
    const Endpoint destination{gateway(), port};
    GuestConnection* connection = guest_->Connect(now_, destination, source_port);
    Require(connection != nullptr, "lwIP refuses to connect");
    return *connection;
  }
  // To the listener, and the host's end of it.
  std::pair<GuestConnection&, HostSocket> Establish(uint16_t source_port = kSourcePort) {
    GuestConnection& connection = Connect(listener_.port(), source_port);
    std::optional<HostSocket> host;
    Until("a connection", [&] {
      if (!host) host = listener_.TryAccept();
      return host && connection.connected();
    });
    return {connection, *std::move(host)};
  }

  // Everything that can happen at this moment without the host.
  void Pump() {
    Time due = now_;
    while (due <= now_ || link_->waiting_to_host() > 0) {
      due = stack_->Poll(now_);
      while (auto frame = link_->PopToGuest()) {
        if (!Loses()) guest_->OnFrame(now_, frame->bytes);
      }
    }
  }
  void Until(std::string_view what, const std::function<bool()>& done) {
    const Time limit = Clock::now() + kRealLimit;
    for (;;) {
      Pump();
      if (done()) return;
      Require(Clock::now() < limit, "waited in vain: " + std::string(what));
      pollfd woken{.fd = stack_->descriptor(), .events = POLLIN, .revents = 0};
      if (poll(&woken, 1, kQuietMilliseconds) > 0) continue;
      AdvanceTo(std::min({guest_->deadline(), stack_->Poll(now_), now_ + kStep}));
    }
  }
  // Nothing crosses the link for a while; `first` happens when that has begun.
  void BreakLink(Duration duration, const std::function<void()>& first) {
    const Time end = now_ + duration;
    dead_ = true;
    first();
    while (now_ < end) AdvanceTo(std::min({end, guest_->deadline(), stack_->Poll(now_)}));
    dead_ = false;
  }
  void AdvanceTo(Time when) {
    now_ = std::max(now_, when);
    guest_->RunTimers(now_);
    Pump();
  }
  // Until neither the guest nor the host has anything to say.
  void Settle() {
    for (int quiet = 0; quiet < 10;) {
      Pump();
      pollfd woken{.fd = stack_->descriptor(), .events = POLLIN, .revents = 0};
      quiet = poll(&woken, 1, kQuietMilliseconds) > 0 ? 0 : quiet + 1;
      if (guest_->deadline() != kNever) AdvanceTo(guest_->deadline());
    }
  }

  [[nodiscard]] IpAddress gateway() const {
    return family_ == Family::kIpv4 ? config_.ipv4.gateway : config_.ipv6.gateway;
  }
  [[nodiscard]] GuestTcp& guest() { return *guest_; }
  [[nodiscard]] HostListener& listener() { return listener_; }
  [[nodiscard]] Time now() const { return now_; }
  // All frames that the guest sent, end to end, and the size of the largest.
  [[nodiscard]] const std::string& sent() const { return sent_; }
  [[nodiscard]] size_t largest_frame() const { return largest_frame_; }

 private:
  bool Loses() { return dead_ || (lost_every_ > 0 && ++frames_ % lost_every_ == 0); }

  Config config_;
  const Family family_;
  const size_t lost_every_;
  size_t frames_ = 0;
  bool dead_ = false;
  Time now_{24h};
  HostListener listener_;
  MemoryLink* link_ = nullptr;
  std::unique_ptr<Stack> stack_;
  std::optional<GuestTcp> guest_;
  std::string sent_;
  size_t largest_frame_ = 0;
};

// Writes what the guest takes of `bytes` from `done` on, and FIN behind the last.
void GuestWrites(GuestConnection& connection, std::string_view bytes, size_t& done) {
  if (done == bytes.size()) return;
  done += connection.Write(AsBytes(bytes.substr(done)));
  if (done == bytes.size()) connection.ShutdownWrite();
}

void HostWrites(HostSocket& host, std::string_view bytes, size_t& done) {
  if (done == bytes.size()) return;
  done += host.Write(bytes.substr(done));
  if (done == bytes.size()) host.ShutdownWrite();
}

std::string ReadAll(GuestConnection& connection) {
  std::string bytes(connection.readable(), '\0');
  bytes.resize(connection.Read({reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()}));
  return bytes;
}

// kTransferBytes each way at once, then FINs.
void TransferBothWays(const BenchOptions& options) {
  Bench bench(options);
  auto [connection, host] = bench.Establish();
  const std::string to_host = Pattern(kTransferBytes, 1), to_guest = Pattern(kTransferBytes, 2);
  size_t guest_done = 0, host_done = 0;
  std::string received;
  bench.Until("both transfers", [&, &connection = connection, &host = host] {
    GuestWrites(connection, to_host, guest_done);
    HostWrites(host, to_guest, host_done);
    received += ReadAll(connection);
    host.Read();
    Require(connection.error() == 0, "the guest's error " + std::to_string(connection.error()));
    Require(host.error() == 0, "the host's error " + std::to_string(host.error()));
    return connection.finished_reading() && host.ended() && connection.closed();
  });
  Require(host.received() == to_host, "the host received something else");
  Require(received == to_guest, "the guest received something else");
  Require(connection.unacknowledged() == 0,
          std::to_string(connection.unacknowledged()) + " bytes are not acknowledged");
  Require(bench.guest().malformed_frames() == 0, "malformed frames");
  bench.Settle();
  Require(bench.guest().deadline() == kNever, "the guest still waits for something");
  Require(bench.largest_frame() > options.mtu / 2, "small segments");
  Require(bench.largest_frame() <= options.mtu + 14, "a frame above the MTU");
}

class GuestTcpTest : public testing::TestWithParam<Family> {};

INSTANTIATE_TEST_SUITE_P(Both, GuestTcpTest, testing::Values(Family::kIpv4, Family::kIpv6),
                         [](const auto& info) {
                           return std::string(info.param == Family::kIpv4 ? "Ipv4" : "Ipv6");
                         });

TEST_P(GuestTcpTest, CarriesBytesBothWays) {
  EXPECT_EQ(RunInChild([] { TransferBothWays({.family = GetParam()}); }), "");
}

TEST_P(GuestTcpTest, CarriesBytesInTheLargestSegments) {
  EXPECT_EQ(RunInChild([] { TransferBothWays({.family = GetParam(), .mtu = 65'520}); }), "");
}

TEST_P(GuestTcpTest, CarriesBytesOverALinkThatLosesFrames) {
  EXPECT_EQ(RunInChild([] { TransferBothWays({.family = GetParam(), .lost_every = 29}); }), "");
}

TEST_P(GuestTcpTest, RefusedConnect) {
  const auto scenario = [] {
    Bench bench({.family = GetParam()});
    const HostRefusedPort refused;
    GuestConnection& connection = bench.Connect(refused.port());
    bench.Until("an error", [&] { return connection.error() != 0; });
    Require(connection.error() == ECONNREFUSED, "error " + std::to_string(connection.error()));
    Require(connection.closed() && !connection.connected(), "not closed, or was connected");
    Require(connection.Write(AsBytes("x")) == 0, "wrote after the end");
  };
  EXPECT_EQ(RunInChild(scenario), "");
}

TEST_P(GuestTcpTest, AbortResetsTheHost) {
  const auto scenario = [] {
    Bench bench({.family = GetParam()});
    auto [connection, host] = bench.Establish();
    connection.Abort();
    Require(connection.closed(), "not closed");
    Require(connection.error() == ECONNABORTED, "error " + std::to_string(connection.error()));
    bench.Until("a reset at the host", [&host = host] { return host.WasReset(); });
  };
  EXPECT_EQ(RunInChild(scenario), "");
}

TEST_P(GuestTcpTest, ResetByTheHost) {
  const auto scenario = [] {
    Bench bench({.family = GetParam()});
    auto [connection, host] = bench.Establish();
    host.Reset();
    bench.Until("an error", [&connection = connection] { return connection.error() != 0; });
    Require(connection.error() == ECONNRESET, "error " + std::to_string(connection.error()));
    Require(connection.closed(), "not closed");
  };
  EXPECT_EQ(RunInChild(scenario), "");
}

TEST_P(GuestTcpTest, CloseWithUnreadBytesResets) {
  const auto scenario = [] {
    Bench bench({.family = GetParam()});
    auto [connection, host] = bench.Establish();
    host.Write("unread");
    bench.Until("bytes", [&connection = connection] { return connection.readable() > 0; });
    connection.Close();
    Require(connection.closed() && connection.error() == 0, "not closed in silence");
    bench.Until("a reset at the host", [&host = host] { return host.WasReset(); });
  };
  EXPECT_EQ(RunInChild(scenario), "");
}

// A reader that stops is a closed window; each Read opens it.
TEST_P(GuestTcpTest, SmallReceiveBufferHoldsTheSender) {
  const auto scenario = [] {
    constexpr uint32_t kBuffer = 4096;
    Bench bench({.family = GetParam(), .receive_buffer = kBuffer});
    auto [connection, host] = bench.Establish();
    const std::string to_guest = Pattern(kTransferBytes, 3);
    size_t done = 0;
    bench.Until("a full buffer", [&, &connection = connection, &host = host] {
      HostWrites(host, to_guest, done);
      return connection.readable() == kBuffer;
    });
    std::string received;
    bench.Until("all bytes", [&, &connection = connection, &host = host] {
      HostWrites(host, to_guest, done);
      Require(connection.readable() <= kBuffer, "more than the window");
      received += ReadAll(connection);
      return connection.finished_reading();
    });
    Require(received == to_guest, "the guest received something else");
  };
  EXPECT_EQ(RunInChild(scenario), "");
}

TEST_P(GuestTcpTest, ShutdownBeforeTheHandshakeIsDone) {
  const auto scenario = [] {
    Bench bench({.family = GetParam()});
    GuestConnection& connection = bench.Connect(bench.listener().port());
    Require(connection.Write(AsBytes("x")) == 0, "wrote before the handshake");
    connection.ShutdownWrite();
    std::optional<HostSocket> host;
    bench.Until("an end at the host", [&] {
      if (!host) host = bench.listener().TryAccept();
      if (host) host->Read();
      return host && host->ended();
    });
    Require(host->error() == 0 && host->received().empty(), "not a mere end");
    host->Write("bye");
    host->Close();
    bench.Until("the host's end", [&] {
      return connection.readable() == 3 && connection.closed() && connection.error() == 0;
    });
  };
  EXPECT_EQ(RunInChild(scenario), "");
}

// A link that is dead for minutes kills neither the handshake, nor a transfer, nor what
// was still to be sent when both ends had closed.
TEST_P(GuestTcpTest, OutlivesADeadLink) {
  const auto scenario = [] {
    Bench bench({.family = GetParam()});
    const std::string to_host = Pattern(kTransferBytes, 4);
    GuestConnection* opened = nullptr;
    bench.BreakLink(100s, [&] { opened = &bench.Connect(bench.listener().port()); });
    GuestConnection& connection = *opened;
    std::optional<HostSocket> host;
    bench.Until("a connection", [&] {
      if (!host) host = bench.listener().TryAccept();
      return host && connection.connected();
    });
    host->ShutdownWrite();
    bench.Until("the host's end", [&] { return connection.finished_reading(); });
    bench.BreakLink(
        200s, [&] { Require(connection.Write(AsBytes(to_host)) == to_host.size(), "no room"); });
    bench.BreakLink(300s, [&] { connection.Close(); });
    bench.Until("all bytes", [&] { return host->Read(), host->ended() && connection.closed(); });
    Require(host->received() == to_host, "the host received something else");
    Require(connection.error() == 0, "error " + std::to_string(connection.error()));
  };
  EXPECT_EQ(RunInChild(scenario), "");
}

// Almost two hours in one step: nothing was due, and the connection lives. Nor does lwIP
// take that time for a round trip.
TEST_P(GuestTcpTest, IdleConnectionAsksForNothing) {
  const auto scenario = [] {
    Bench bench({.family = GetParam()});
    bench.Establish();  // lwIP counts ticks from here, and takes tick 0 for none
    bench.AdvanceTo(bench.now() + 10s);
    auto [connection, host] = bench.Establish(kSourcePort + 1);
    bench.Settle();
    Require(bench.guest().deadline() == kNever, "an idle guest has a deadline");
    bench.AdvanceTo(bench.now() + 2h - 1min);
    host.Write("hello");
    bench.Until("bytes", [&connection = connection] { return connection.readable() == 5; });
    const Time begin = bench.now();
    bench.BreakLink(10s, [&connection = connection] {
      Require(connection.Write(AsBytes("still here")) == 10, "cannot write");
    });
    bench.Until("bytes at the host", [&host = host] {
      host.Read();
      return host.received() == "still here";
    });
    Require(bench.now() - begin < 30s, "a retransmission took too long");
  };
  EXPECT_EQ(RunInChild(scenario), "");
}

TEST_P(GuestTcpTest, SourcePortsMayMeetAgainElsewhere) {
  const auto scenario = [] {
    Bench bench({.family = GetParam()});
    bench.Establish();
    const Endpoint same{bench.gateway(), bench.listener().port()};
    Require(bench.guest().Connect(bench.now(), same, kSourcePort) == nullptr, "the same tuple");
    HostListener other(GetParam());
    GuestConnection& connection = bench.Connect(other.port());
    GuestConnection& chosen = bench.Connect(other.port(), 0);
    Require(connection.source_port() == kSourcePort, "another port");
    Require(chosen.source_port() >= 49152, "port " + std::to_string(chosen.source_port()));
    bench.Until("connections", [&] { return connection.connected() && chosen.connected(); });
  };
  EXPECT_EQ(RunInChild(scenario), "");
}

// What a guest sends up to its SYN, which needs the gateway's address first.
std::string FramesOfAConnect(Family family, uint64_t seed) {
  return RunInChild([family, seed] {
    Bench bench({.family = family, .seed = seed});
    bench.Connect(80);
    bench.Pump();
    throw std::runtime_error(absl::BytesToHexString(bench.sent()));
  });
}

TEST_P(GuestTcpTest, TheSeedDecides) {
  const std::string frames = FramesOfAConnect(GetParam(), 1);
  EXPECT_GT(frames.size(), 100u);
  EXPECT_EQ(frames, FramesOfAConnect(GetParam(), 1));
  EXPECT_NE(frames, FramesOfAConnect(GetParam(), 2));
}

// Nobody answers, not even for the address of the gateway. (A SYN that waits for ARP is
// not sent again before lwIP has given up on ARP, which takes 5 s each time.)
TEST_P(GuestTcpTest, SilenceTimesOutAfterMinutes) {
  const auto scenario = [] {
    const Config config;
    GuestTcp guest(GuestOptionsFor(config));
    const Time begin{1h};
    const IpAddress gateway =
        GetParam() == Family::kIpv4 ? config.ipv4.gateway : config.ipv6.gateway;
    GuestConnection* connection = guest.Connect(begin, {gateway, 80}, kSourcePort);
    Time now = begin;
    while (!connection->closed()) {
      Require(guest.deadline() != kNever, "nothing is due");
      guest.RunTimers(now = guest.deadline());
    }
    Require(connection->error() == ETIMEDOUT, "error " + std::to_string(connection->error()));
    const auto taken = std::chrono::duration_cast<std::chrono::seconds>(now - begin);
    Require(taken >= 2min && taken < 4min, "after " + std::to_string(taken.count()) + " s");
  };
  EXPECT_EQ(RunInChild(scenario), "");
}

TEST(GuestTcp, IsOneInAProcess) {
  const auto refused = [] {
    try {
      GuestTcp second(GuestOptionsFor({}));
    } catch (const std::logic_error&) {
      return true;
    }
    return false;
  };
  const auto scenario = [&] {
    {
      GuestTcp first(GuestOptionsFor({}));
      Require(refused(), "two at a time");
    }
    Require(refused(), "one after the other");
  };
  EXPECT_EQ(RunInChild(scenario), "");
}

TEST(GuestTcp, RefusesOptionsThatCannotWork) {
  GuestTcpOptions options = GuestOptionsFor({});
  options.mtu = 1279;
  EXPECT_THROW(GuestTcp{options}, std::invalid_argument);
  options.mtu = 65'521;
  EXPECT_THROW(GuestTcp{options}, std::invalid_argument);
  options.mtu = 1500;
  options.receive_buffer = 1023;
  EXPECT_THROW(GuestTcp{options}, std::invalid_argument);
}

TEST(Child, SaysHowItEnded) {
  EXPECT_EQ(RunInChild([] {}), "");
  EXPECT_EQ(RunInChild([] { throw std::runtime_error("a sentence"); }), "a sentence");
  EXPECT_NE(RunInChild([] { throw 1; }), "");
  EXPECT_NE(RunInChild([] { throw std::runtime_error(""); }), "");
  EXPECT_NE(RunInChild([] { _exit(3); }).find("status 3"), std::string::npos);
  EXPECT_NE(RunInChild([] { raise(SIGKILL); }).find("signal 9"), std::string::npos);
  EXPECT_NE(RunInChild([] { pause(); }, 50ms).find("did not end"), std::string::npos);
}

}  // namespace
}  // namespace penstock::world
