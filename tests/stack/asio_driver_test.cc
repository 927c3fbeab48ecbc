#include "stack/asio_driver.h"

#include <dirent.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/guest_segment.h"
#include "tests/support/host_side.h"
#include "tests/support/memory_link.h"
#include "tests/support/packet_builder.h"

namespace penstock {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;

size_t DescriptorsOpen() {
  DIR* entries = opendir("/proc/self/fd");
  size_t count = 0;
  while (readdir(entries) != nullptr) ++count;
  closedir(entries);
  return count;
}

Config OneThread() { return {.host_loopback = true, .relay_threads = 0}; }

// An io_context with a driver on it, and a guest that knows just enough TCP for one flow.
class DrivenWorld {
 public:
  explicit DrivenWorld(const LinkCapabilities& capabilities = {}) {
    auto owned = std::make_unique<MemoryLink>(capabilities);
    link = owned.get();
    driver = AsioDriver::Create(*io, OneThread(), std::move(owned)).value();
  }

  // Runs handlers until `done`.
  void Until(const char* what, const std::function<bool()>& done) {
    const auto limit = Clock::now() + 30s;
    while (!done()) {
      if (Clock::now() > limit) throw std::runtime_error(std::string("waited in vain: ") + what);
      io->restart();
      io->run_one_for(2ms);
    }
  }
  void SendSyn(uint16_t port) {
    port_ = port;
    Send(kTcpSyn);
  }
  // A flow to `listener`, established; returns the host's end.
  HostSocket Connect(HostListener& listener) {
    SendSyn(listener.port());
    AwaitSegment();
    EXPECT_EQ(heard_.flags, kTcpSyn | kTcpAck);
    Send(kTcpAck);
    std::optional<HostSocket> host;
    Until("a connection", [&] {
      host = listener.TryAccept();
      return host.has_value();
    });
    Until("an open flow", [&] { return driver->stack().Snapshot().flows_open == 1; });
    return *std::move(host);
  }
  void Send(uint8_t flags, std::string payload = {}) {
    GuestSegment segment{.source = {kGuest4, 40'000}, .destination = {kGateway4, port_}};
    segment.flags = flags;
    segment.sequence = next_;
    segment.acknowledgement = acknowledge_;
    segment.window = 65'535;
    segment.payload = std::move(payload);
    next_ += segment.SequenceLength();
    if ((flags & kTcpSyn) != 0) segment.mss = 1'460;
    const EncodedFrame frame =
        EncodeFrame({.source = kGuestMac, .destination = kGatewayMac}, segment);
    link->PushToHost(frame.bytes, frame.offload);
  }
  // The next segment from the stack that is no bare acknowledgement.
  const GuestSegment& AwaitSegment() {
    Until("a segment", [&] {
      while (const auto frame = link->PopToGuest()) {
        heard_ = DecodeFrame(frame->bytes, frame->offload).value();
        acknowledge_ = heard_.sequence + heard_.SequenceLength();
        if (heard_.SequenceLength() > 0 || heard_.Has(kTcpRst)) return true;
      }
      return false;
    });
    return heard_;
  }
  // The next segment from the stack, if there is one.
  std::optional<GuestSegment> TakeSegment() {
    const auto frame = link->PopToGuest();
    if (!frame) return std::nullopt;
    heard_ = DecodeFrame(frame->bytes, frame->offload).value();
    if (heard_.SequenceLength() > 0) acknowledge_ = heard_.sequence + heard_.SequenceLength();
    return heard_;
  }
  // run() must return by itself, long before any deadline of a flow.
  void RunToEnd() {
    const auto begin = Clock::now();
    io->restart();
    io->run_for(20s);
    EXPECT_TRUE(io->stopped()) << "something keeps the io_context";
    EXPECT_LT(Clock::now() - begin, 15s);
  }

  std::unique_ptr<asio::io_context> io = std::make_unique<asio::io_context>(1);
  MemoryLink* link;
  std::unique_ptr<AsioDriver> driver;

 private:
  GuestSegment heard_;
  uint32_t next_ = 1'000, acknowledge_ = 0;
  uint16_t port_ = 0;
};

TEST(AsioDriverTest, SaysWhenAPassIsOver) {
  DrivenWorld world;
  int calls = 0;
  uint64_t polls = 0;
  world.driver->OnPass([&] {
    ++calls;
    polls = world.driver->stack().Snapshot().polls;
  });
  world.Until("a pass", [&] { return calls > 0; });
  EXPECT_GE(polls, 1U) << "and not before";
  const int before = calls;
  world.SendSyn(9);
  world.Until("another pass", [&] { return calls > before; });
  world.driver->OnPass([&] { world.driver->Stop(); });  // that may be the end
  world.SendSyn(10);
  world.io->restart();
  world.io->run();
}

TEST(AsioDriverTest, SaysWhatIsWrong) {
  asio::io_context io;
  const size_t descriptors = DescriptorsOpen();
  const auto refusal = [&io](Config config, std::unique_ptr<Link> link) {
    const absl::Status status = AsioDriver::Create(io, std::move(config), std::move(link)).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    return std::string(status.message());
  };
  EXPECT_EQ(refusal(OneThread(), nullptr), "no link was given");
  EXPECT_NE(refusal({.relay_threads = 1}, std::make_unique<MemoryLink>()).find("relay_threads"),
            std::string::npos);
  EXPECT_NE(
      refusal({.mtu = 1, .relay_threads = 0}, std::make_unique<MemoryLink>()).find("mtu is 1"),
      std::string::npos);
  EXPECT_EQ(DescriptorsOpen(), descriptors);
  EXPECT_EQ(io.run(), 0u) << "nothing was left on the io_context";
}

TEST(AsioDriverTest, MovesBytesBothWaysOnOneThread) {
  HostListener listener(Family::kIpv4);
  DrivenWorld world;
  HostSocket host = world.Connect(listener);
  world.Send(kTcpAck, "to host");
  world.Until("the guest's bytes", [&] { return host.Read() > 0; });
  EXPECT_EQ(host.received(), "to host");
  host.Write("to guest");
  EXPECT_EQ(world.AwaitSegment().payload, "to guest");
  world.Send(kTcpAck);
  host.Close();
  EXPECT_TRUE(world.AwaitSegment().Has(kTcpFin));
  world.Send(kTcpFin | kTcpAck);
  world.Until("the flow's end", [&] {
    const CounterSnapshot counters = world.driver->stack().Snapshot();
    return counters.flows_closed == 1 && counters.flows_closing == 0;
  });
}

// Somebody waits for a request: it does not wait until the link was asked for more, nor until
// its acknowledgement was written.
TEST(AsioDriverTest, ARequestIsWithTheHostFirst) {
  HostListener listener(Family::kIpv4);
  DrivenWorld world;
  HostSocket host = world.Connect(listener);
  std::vector<std::string> with_host;  // at each call of the link
  world.link->on_receive = world.link->on_send = [&] {
    (void)host.Read();
    with_host.push_back(host.received());
  };
  world.Send(kTcpAck | kTcpPsh, "request");
  world.Until("acknowledgement", [&] { return world.link->waiting_to_guest() > 0; });
  EXPECT_THAT(with_host, testing::ElementsAre("", "request", "request"))
      << "received, looked for more, acknowledged";
}

// A guest that asks as soon as it has its answer, and a program on the host that answers, both
// on the driver's thread.
class BusyPollTest : public testing::Test {
 protected:
  static constexpr int kQuestions = 200;

  BusyPollTest() : host_(world_.Connect(listener_)), watch_(*world_.io, dup(host_.descriptor())) {
    Answer();
  }

  struct Acknowledgements {
    int bare = 0;  // came by themselves, sooner or later
    int held = 0;  // were not sent by the pass that took the question
  };
  // Until everything is answered.
  Acknowledgements AskAll(Duration busy_poll) {
    Acknowledgements result;
    bool asked = true;  // and nothing heard of it since
    world_.driver->OnPass([&] {
      while (const auto heard = world_.TakeSegment()) {
        asked = false;
        result.bare += heard->payload.empty() ? 1 : 0;
        if (heard->payload.empty()) continue;
        if (++answers_ == kQuestions) return End();
        world_.Send(kTcpAck | kTcpPsh, "?");
        asked = true;
      }
      if (asked && world_.link->waiting_to_host() == 0) {
        ++result.held;
        asked = false;
      }
    });
    world_.Send(kTcpAck | kTcpPsh, "?");
    world_.io->restart();
    world_.driver->Run(busy_poll);
    EXPECT_EQ(answers_, kQuestions);
    return result;
  }

  void Answer() {
    watch_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                      [this](const boost::system::error_code& error) {
                        if (error) return;
                        if (host_.Read() > 0 && !stops_) (void)host_.Write("!");
                        if (stops_) world_.io->stop();
                        Answer();
                      });
  }
  void End() {
    watch_.cancel();
    world_.driver->Stop();
  }

  int answers_ = 0;
  bool stops_ = false;  // the io_context, with the next question
  HostListener listener_{Family::kIpv4};
  DrivenWorld world_{{.frame_wakes_somebody = true}};
  HostSocket host_;
  boost::asio::posix::stream_descriptor watch_;
};

// How many of them the answer takes along depends on how fast this machine is: not all have to.
TEST_F(BusyPollTest, AnAcknowledgementWaitsForTheAnswerWhileTheDriverLooks) {
  EXPECT_GT(AskAll(10ms).held, 0);
}

// Stopped, from outside, with an acknowledgement that waits: nobody else looks after it.
TEST_F(BusyPollTest, TheEndOfLookingReleasesAcknowledgements) {
  bool acknowledged = false;
  world_.driver->OnPass([&] {
    while (const auto heard = world_.TakeSegment()) {
      acknowledged = heard->payload.empty() && stops_;
      if (heard->payload.empty()) continue;
      if (++answers_ == kQuestions) stops_ = true;
      world_.Send(kTcpAck | kTcpPsh, "?");
    }
  });
  world_.Send(kTcpAck | kTcpPsh, "?");
  world_.io->restart();
  world_.driver->Run(10ms);
  ASSERT_EQ(host_.received().size(), kQuestions + 1u);
  world_.io->restart();
  world_.io->poll();
  EXPECT_TRUE(acknowledged);
}

TEST_F(BusyPollTest, WhoSleepsAtOnceAcknowledgesAtOnce) {
  const Acknowledgements acknowledgements = AskAll(0ms);
  EXPECT_EQ(acknowledgements.bare, kQuestions);
  EXPECT_EQ(acknowledgements.held, 0);
}

TEST(AsioDriverTest, StopLetsTheContextEnd) {
  DrivenWorld world;
  world.driver->Stop();
  world.RunToEnd();
  world.driver->Stop();  // once more is nothing
  world.RunToEnd();
}

TEST(AsioDriverTest, StopResetsLiveFlows) {
  HostListener listener(Family::kIpv4);
  DrivenWorld world;
  HostSocket host = world.Connect(listener);
  world.driver->Stop();
  EXPECT_TRUE(host.WasReset());
  world.RunToEnd();
}

// From inside a pass, with a flow whose deadlines are hours away.
TEST(AsioDriverTest, StopMayComeFromAPostedTask) {
  HostListener listener(Family::kIpv4);
  DrivenWorld world;
  HostSocket host = world.Connect(listener);
  world.driver->stack().Post([&](Stack&) { world.driver->Stop(); });
  world.RunToEnd();
  EXPECT_TRUE(host.WasReset());
}

// The same pass then meets a SYN: the flow's deadline must not hold the context.
TEST(AsioDriverTest, StopMayComeBeforeTheFirstFrame) {
  HostListener listener(Family::kIpv4);
  DrivenWorld world;
  world.driver->stack().Post([&](Stack&) { world.driver->Stop(); });
  world.SendSyn(listener.port());
  world.RunToEnd();
}

// Each with a flow that is open and one that is dialing.
class AsioDriverEndTest : public testing::Test {
 protected:
  AsioDriverEndTest() {
    black_hole_.FillBacklog();
    descriptors_ = DescriptorsOpen();
  }
  // Flows that end with the world.
  HostSocket StartFlows(DrivenWorld& world) {
    HostSocket host = world.Connect(listener_);
    world.SendSyn(black_hole_.port());
    world.Until("the dial", [&] { return world.driver->stack().Snapshot().flows_dialing == 1; });
    return host;
  }

  HostListener listener_{Family::kIpv4};
  HostListener black_hole_{Family::kIpv4, {.backlog = 0}};
  size_t descriptors_ = 0;
};

TEST_F(AsioDriverEndTest, DestroyedBeforeTheContextRan) {
  {
    DrivenWorld world;
    world.driver.reset();
    world.RunToEnd();
  }
  EXPECT_EQ(DescriptorsOpen(), descriptors_);
}

TEST_F(AsioDriverEndTest, NeverRun) {
  { DrivenWorld world; }
  EXPECT_EQ(DescriptorsOpen(), descriptors_);
}

TEST_F(AsioDriverEndTest, DestroyedAfterTheContextRan) {
  {
    DrivenWorld world;
    HostSocket host = StartFlows(world);
    world.driver.reset();
    EXPECT_TRUE(host.WasReset());
    world.RunToEnd();
  }
  EXPECT_EQ(DescriptorsOpen(), descriptors_);
}

// The io_context never gets to what was under way and takes it along.
TEST_F(AsioDriverEndTest, DestroyedAndTheContextNeverRunAgain) {
  {
    DrivenWorld world;
    HostSocket host = StartFlows(world);
    world.driver.reset();
    world.io.reset();
  }
  EXPECT_EQ(DescriptorsOpen(), descriptors_);
}

TEST_F(AsioDriverEndTest, DestroyedByAHandler) {
  {
    DrivenWorld world;
    HostSocket host = StartFlows(world);
    asio::post(*world.io, [&] { world.driver.reset(); });
    world.Send(kTcpAck, "with a frame that waits");
    world.RunToEnd();
    EXPECT_TRUE(host.WasReset());
  }
  EXPECT_EQ(DescriptorsOpen(), descriptors_);
}

TEST_F(AsioDriverEndTest, StoppedThenDestroyedLater) {
  {
    DrivenWorld world;
    HostSocket host = StartFlows(world);
    world.driver->Stop();
    world.RunToEnd();
    world.Send(kTcpAck, "nobody listens");
    world.RunToEnd();
    world.driver.reset();
    world.RunToEnd();
  }
  EXPECT_EQ(DescriptorsOpen(), descriptors_);
}

TEST(AsioDriverTest, WakesForOtherThreads) {
  constexpr int kTasks = 1'000;
  DrivenWorld world;
  int runs = 0;
  std::thread other([&] {
    for (int i = 0; i < kTasks; ++i) {
      world.driver->stack().Post([&](Stack&) { ++runs; });
    }
    world.driver->stack().Post([&](Stack&) { world.driver->Stop(); });
  });
  world.io->run();
  other.join();
  EXPECT_EQ(runs, kTasks);
}

TEST(AsioDriverTest, AnIdleStackMakesNoPasses) {
  HostListener listener(Family::kIpv4);
  DrivenWorld world;
  HostSocket host = world.Connect(listener);
  // The handshake's tick was armed, and is only ever moved earlier: it fires once more.
  world.io->restart();
  world.io->run_for(200ms);
  const uint64_t polls = world.driver->stack().Snapshot().polls;
  world.io->restart();
  world.io->run_for(200ms);
  EXPECT_EQ(world.driver->stack().Snapshot().polls, polls);
}

TEST(AsioDriverTest, TellsTheLinksEndOnce) {
  DrivenWorld world;
  int told = 0;
  world.driver->OnLinkEnd([&] { ++told; });
  world.io->poll();
  EXPECT_EQ(told, 0);
  world.link->End();
  world.Until("the link's end", [&] { return told > 0; });
  EXPECT_TRUE(world.driver->stack().link_ended());
  world.io->restart();
  world.io->poll();
  EXPECT_EQ(told, 1);
  // Who asks late is told all the same.
  int told_late = 0;
  world.driver->OnLinkEnd([&] { ++told_late; });
  world.Until("the link's end, late", [&] { return told_late > 0; });
  world.driver->Stop();
  world.RunToEnd();
}

TEST(AsioDriverTest, TwoStacksEachOnItsOwnContext) {
  const auto converse = [] {
    HostListener listener(Family::kIpv4);
    DrivenWorld world;
    HostSocket host = world.Connect(listener);
    for (int i = 0; i < 200; ++i) {
      const std::string word = std::to_string(i);
      const size_t before = host.received().size();
      world.Send(kTcpAck, word);
      world.Until("the guest's bytes", [&] {
        host.Read();
        return host.received().size() == before + word.size();
      });
      host.Write(word);
      EXPECT_EQ(world.AwaitSegment().payload, word);
    }
  };
  std::future<void> other = std::async(std::launch::async, converse);
  converse();
  other.get();
}

// Two stacks on one io_context know nothing of each other either.
TEST(AsioDriverTest, TwoStacksOnOneContext) {
  asio::io_context io(1);
  auto first_link = std::make_unique<MemoryLink>(), second_link = std::make_unique<MemoryLink>();
  MemoryLink* const first_guest = first_link.get();
  MemoryLink* const second_guest = second_link.get();
  auto first = AsioDriver::Create(io, OneThread(), std::move(first_link)).value();
  auto second = AsioDriver::Create(io, OneThread(), std::move(second_link)).value();
  first_guest->PushToHost(ArpFrame({}));
  io.poll();
  EXPECT_EQ(first_guest->waiting_to_guest(), 1u);
  EXPECT_EQ(second_guest->waiting_to_guest(), 0u);
  first->Stop();
  second_guest->PushToHost(ArpFrame({}));
  io.restart();
  io.poll();
  EXPECT_EQ(second_guest->waiting_to_guest(), 1u);
  second.reset();
  io.restart();
  io.run();
}

}  // namespace
}  // namespace penstock
