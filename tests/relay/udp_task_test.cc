// A relay's UDP socket, with real sockets on loopback and the stack's end of the pipe
// played by the test: contents and peers, batches, full queues, errors, addresses that
// were asked, and the end.
#include "relay/udp_task.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <deque>
#include <functional>
#include <future>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "relay/relay_thread.h"
#include "tests/relay/played_stack.h"
#include "tests/support/sandbox_datagram.h"

namespace penstock {
namespace {

// A bound UDP socket, as a publisher has it.
PortResult BoundSocket(const Endpoint& where) {
  const PortResult result = DefaultSocketFactory()->OpenPort({.stream = false, .address = where});
  if (result.descriptor < 0) throw std::runtime_error("cannot bind " + where.ToString());
  return result;
}

// A host's client.
class Client : public e2e::UdpSocket {
 public:
  explicit Client(const Endpoint& where) : UdpSocket(where.address.family) { Bind(where); }
};

IpAddress LoopbackAddress(Family family) { return Loopback(family, 0).address; }

// The stack's end of one port. The relay has a thread of its own, or is run by Until.
class PlayedPort {
 public:
  explicit PlayedPort(RelayForm form, const Endpoint& where) {
    if (!bell_.Open().ok()) throw std::runtime_error("no eventfd");
    if (form == RelayForm::kThread) {
      thread_ = std::move(*RelayThread::Start({}, bell_));
    } else {
      relay_ = std::make_shared<Relay>(io_, RelayOptions{}, bell_);
      relay_->doorbell().SetHook([](void*) {}, nullptr);
    }
    const auto [descriptor, error, bound] = BoundSocket(where);
    bound_ = bound;
    OnRelay([&, number = descriptor] {
      const std::shared_ptr<DatagramTask> task = MakeUdpTask(relay(), pipe_, number);
      task_ = task;
      relay().Add(task);
    });
  }

  ~PlayedPort() {
    if (thread_ != nullptr) {
      thread_->Join();
    } else {
      relay_->Shutdown();
      io_.poll();
    }
    TakeHome();
    pool_.GiveAll(pipe_->to_host.TakeAll(), bytes_out_);
    DatagramPool& theirs = relay().datagrams();
    theirs.GiveAll(pipe_->to_guest.TakeAll());
    theirs.GiveAll(pipe_->delivered.TakeAll());
    for (Datagram* datagram : held_) {
      datagram->next = nullptr;
      theirs.GiveAll(datagram);
    }
    EXPECT_EQ(pool_.bytes_out(), 0u);
    EXPECT_EQ(theirs.bytes_out(), 0u);
  }

  [[nodiscard]] Relay& relay() { return thread_ != nullptr ? thread_->relay() : *relay_; }
  [[nodiscard]] Endpoint bound() const { return bound_; }
  [[nodiscard]] Endpoint bound_at(const IpAddress& address) const { return {address, bound_.port}; }
  [[nodiscard]] DatagramPipe& pipe() { return *pipe_; }

  void OnRelay(const std::function<void()>& work) {
    if (thread_ == nullptr) return work();
    std::promise<void> done;
    boost::asio::post(relay().io(), [&] {
      work();
      done.set_value();
    });
    done.get_future().get();
  }
  void CloseSocket() {
    OnRelay([this] { relay().Remove(*task_.lock()); });
  }

  bool Send(const DatagramPath& to, std::string_view text) {
    Datagram* datagram = pool_.Take(static_cast<uint32_t>(text.size()), bytes_out_);
    if (datagram == nullptr) return false;
    std::copy(text.begin(), text.end(), datagram->data);
    datagram->path = to;
    pipe_->to_host.Push(datagram);
    Tell();
    return true;
  }
  void SayLastWord() {
    GiveBackAll();
    for (Datagram* d = pipe_->to_guest.TakeInOrder(); d != nullptr;) {
      Datagram* next = d->next;
      pipe_->delivered.Push(d);
      d = next;
    }
    pipe_->stack_done.store(true);
    Tell();
  }
  // What has come, in order; the datagrams are kept until GiveBackAll.
  [[nodiscard]] std::deque<Datagram*>& held() { return held_; }
  void GiveBackAll() {
    for (Datagram* datagram : held_) pipe_->delivered.Push(datagram);
    held_.clear();
    Tell();
  }
  [[nodiscard]] uint64_t bytes_out() const { return bytes_out_; }

  void Pump() {
    bell_.Silence();
    relay().pipes_to_stack().Serve([this](DatagramPipe&) {
      TakeHome();
      if (pipe_->stack_done.load()) return;
      for (Datagram* d = pipe_->to_guest.TakeInOrder(); d != nullptr; d = d->next) {
        held_.push_back(d);
      }
    });
    if (thread_ == nullptr) {
      relay_->RunReady();
      io_.restart();
      io_.run_for(std::chrono::milliseconds(1));
      return;
    }
    bell_.Arm();
    if (!relay().pipes_to_stack().empty()) return bell_.Silence();
    pollfd rung{.fd = bell_.descriptor(), .events = POLLIN, .revents = 0};
    poll(&rung, 1, 5);
  }
  void Until(std::string_view what, const std::function<bool()>& done) {
    const Time limit = Clock::now() + std::chrono::seconds(20);
    while (!done()) {
      if (Clock::now() > limit) throw std::runtime_error("still waiting: " + std::string(what));
      Pump();
    }
  }
  Datagram* Next() {
    Until("a datagram", [this] { return !held_.empty(); });
    return held_.front();
  }

 private:
  void Tell() {
    relay().pipes_to_relay().Mark(pipe_->for_relay, *pipe_);
    relay().doorbell().RingIfArmed();
  }
  void TakeHome() { pool_.GiveAll(pipe_->sent.TakeAll(), bytes_out_); }

  Doorbell bell_;
  boost::asio::io_context io_{1};
  std::shared_ptr<Relay> relay_;
  std::unique_ptr<RelayThread> thread_;
  std::shared_ptr<DatagramPipe> pipe_ = std::make_shared<DatagramPipe>();
  std::weak_ptr<DatagramTask> task_;
  Endpoint bound_;
  DatagramPool pool_;
  uint64_t bytes_out_ = 0;
  std::deque<Datagram*> held_;
};

std::string TextOf(const Datagram& datagram) {
  return {reinterpret_cast<const char*>(datagram.data), datagram.length};
}
// Of one that several datagrams were joined to.
std::vector<std::string> TextsOf(const Datagram& datagram) {
  if (datagram.segment_bytes == 0) return {TextOf(datagram)};
  std::vector<std::string> texts;
  const std::string all = TextOf(datagram);
  for (size_t at = 0; at < all.size(); at += datagram.segment_bytes) {
    texts.push_back(all.substr(at, datagram.segment_bytes));
  }
  return texts;
}
size_t CountOf(const std::deque<Datagram*>& datagrams) {
  size_t count = 0;
  for (const Datagram* datagram : datagrams) count += TextsOf(*datagram).size();
  return count;
}

using Parameters = std::tuple<RelayForm, Family>;

class UdpTaskTest : public testing::TestWithParam<Parameters> {
 protected:
  [[nodiscard]] static RelayForm form() { return std::get<0>(GetParam()); }
  [[nodiscard]] static Family family() { return std::get<1>(GetParam()); }
  [[nodiscard]] static Endpoint AnyPort() { return Loopback(family(), 0); }
};
INSTANTIATE_TEST_SUITE_P(Forms, UdpTaskTest,
                         testing::Combine(testing::Values(RelayForm::kThread,
                                                          RelayForm::kIoContext),
                                          testing::Values(Family::kIpv4, Family::kIpv6)),
                         [](const testing::TestParamInfo<Parameters>& info) {
                           return FormName(std::get<0>(info.param)) +
                                  (std::get<1>(info.param) == Family::kIpv4 ? "Ipv4" : "Ipv6");
                         });

TEST_P(UdpTaskTest, DatagramsComeWithTheirPeersAndGoToThem) {
  PlayedPort port(form(), AnyPort());
  Client first(AnyPort()), second(AnyPort());
  first.SendTo(port.bound(), "from the first");
  Datagram* datagram = port.Next();
  EXPECT_EQ(TextOf(*datagram), "from the first");
  EXPECT_EQ(datagram->path, (DatagramPath{.peer = first.own()}));
  const DatagramPath to_first = datagram->path;
  port.GiveBackAll();
  second.SendTo(port.bound(), "");
  datagram = port.Next();
  EXPECT_EQ(datagram->length, 0u);
  EXPECT_EQ(datagram->path.peer, second.own());

  ASSERT_TRUE(port.Send(to_first, "to the first"));
  ASSERT_TRUE(port.Send(datagram->path, ""));
  port.Until("sent", [&] { return port.bytes_out() == 0; });
  const auto to_it = first.TryReceive(std::chrono::seconds(5));
  ASSERT_TRUE(to_it.has_value());
  EXPECT_EQ(to_it->text, "to the first");
  EXPECT_EQ(to_it->from, port.bound());
  const auto empty = second.TryReceive(std::chrono::seconds(5));
  ASSERT_TRUE(empty.has_value());
  EXPECT_EQ(empty->text, "");
  EXPECT_FALSE(first.TryReceive(Duration{}).has_value());
}

TEST_P(UdpTaskTest, TheLargestDatagramBothWays) {
  PlayedPort port(form(), AnyPort());
  Client client(AnyPort());
  std::string text(family() == Family::kIpv4 ? 65'507 : 65'527, 'x');
  text.front() = '<', text.back() = '>';
  client.SendTo(port.bound(), text);
  Datagram* datagram = port.Next();
  EXPECT_EQ(TextOf(*datagram), text);
  ASSERT_TRUE(port.Send(datagram->path, text));
  port.Until("sent", [&] { return port.bytes_out() == 0; });
  const auto back = client.TryReceive(std::chrono::seconds(5));
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(back->text, text);
}

TEST_P(UdpTaskTest, ManyInOrderWithBuffersOutAllTheTime) {
  PlayedPort port(form(), AnyPort());
  Client client(AnyPort());
  constexpr int kCount = 2'000;
  int received = 0;
  for (int i = 0; i < kCount; ++i) {
    client.SendTo(port.bound(), std::to_string(i));
    if (i % 100 != 99) continue;
    const int wanted = received + 100;
    port.Until("a hundred", [&] { return CountOf(port.held()) == 100; });
    for (const Datagram* datagram : port.held()) {
      for (const std::string& text : TextsOf(*datagram)) {
        ASSERT_EQ(text, std::to_string(received++));
        ASSERT_TRUE(port.Send(datagram->path, text));
      }
    }
    ASSERT_EQ(received, wanted);
    port.GiveBackAll();
    for (int j = i - 99; j <= i; ++j) {
      port.Until("an echo", [&] {
        const auto echo = client.TryReceive(Duration{});
        EXPECT_TRUE(!echo.has_value() || echo->text == std::to_string(j)) << j;
        return echo.has_value();
      });
    }
  }
  EXPECT_EQ(port.relay().datagram_counts().lost_to_guest.value(), 0u);
}

TEST_P(UdpTaskTest, AStackThatTakesNothingLosesWhatIsBeyondTheLimit) {
  PlayedPort port(form(), AnyPort());
  Client client(AnyPort());
  const std::string text(60'000, 'x');
  const auto& lost = port.relay().datagram_counts().lost_to_guest;
  for (int i = 0; i < 200 && lost.value() == 0; ++i) {
    client.SendTo(port.bound(), text);
    port.Pump();
  }
  port.Until("a loss", [&] { return lost.value() > 0; });
  const size_t held = port.held().size();
  EXPECT_GE(held, 20u);
  EXPECT_LE(held * DatagramPool::Cost(*port.held().front()), DatagramPool::kPipeBytesMax);
  // Once they are back, datagrams come again; those behind the loss may come first.
  port.GiveBackAll();
  client.SendTo(port.bound(), "again");
  port.Until("a datagram after the loss",
             [&] { return !port.held().empty() && TextOf(*port.held().back()) == "again"; });
}

TEST_P(UdpTaskTest, ErrorsAreCountedAndEndNothing) {
  PlayedPort port(form(), AnyPort());
  Client client(AnyPort());
  // Nobody can be sent to at port 0.
  const DatagramPath nobody{.peer = {LoopbackAddress(family()), 0}};
  ASSERT_TRUE(port.Send(nobody, "lost"));
  ASSERT_TRUE(port.Send({.peer = client.own()}, "not lost"));
  port.Until("back", [&] { return port.bytes_out() == 0; });
  const auto got = client.TryReceive(std::chrono::seconds(5));
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(got->text, "not lost");
  EXPECT_EQ(port.relay().datagram_counts().lost_to_host.value(), 1u);
  EXPECT_EQ(port.relay().datagram_counts().socket_errors.value(), 2u) << "tried twice";
  client.SendTo(port.bound(), "still here");
  EXPECT_EQ(TextOf(*port.Next()), "still here");
}

TEST_P(UdpTaskTest, AWildcardSocketAnswersFromTheAddressThatWasAsked) {
  const bool v4 = family() == Family::kIpv4;
  PlayedPort port(form(), {v4 ? IpAddress::V4(0, 0, 0, 0) : *IpAddress::Parse("::"), 0});
  Client client(AnyPort());
  const std::vector<IpAddress> asked =
      v4 ? std::vector{IpAddress::V4(127, 0, 0, 1), IpAddress::V4(127, 0, 0, 2),
                       IpAddress::V4(127, 1, 2, 3)}
         : std::vector{*IpAddress::Parse("::1")};
  for (const IpAddress& address : asked) {
    client.SendTo(port.bound_at(address), "who are you?");
    Datagram* datagram = port.Next();
    EXPECT_EQ(datagram->path, (DatagramPath{.peer = client.own(), .local = address}));
    ASSERT_TRUE(port.Send(datagram->path, "I am the one you asked"));
    port.GiveBackAll();
    port.Until("sent", [&] { return port.bytes_out() == 0; });
    const auto answer = client.TryReceive(std::chrono::seconds(5));
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(answer->from, port.bound_at(address));
  }
}

TEST_P(UdpTaskTest, ClosingSendsWhatWaitsAndFreesTheAddress) {
  PlayedPort port(form(), AnyPort());
  Client client(AnyPort());
  ASSERT_TRUE(port.Send({.peer = client.own()}, "before the end"));
  port.CloseSocket();
  close(BoundSocket(port.bound()).descriptor);  // throws if the address is in use
  const auto got = client.TryReceive(std::chrono::seconds(5));
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(got->text, "before the end");
  // The pipe goes on: what the stack sends comes back.
  ASSERT_TRUE(port.Send({.peer = client.own()}, "after the end"));
  port.Until("back", [&] { return port.bytes_out() == 0; });
  EXPECT_EQ(port.relay().datagram_counts().lost_to_host.value(), 1u);
  EXPECT_FALSE(port.pipe().relay_done.load());
  port.SayLastWord();
  port.Until("the relay's last word", [&] { return port.pipe().relay_done.load(); });
  EXPECT_FALSE(client.TryReceive(Duration{}).has_value());
}

TEST_P(UdpTaskTest, TheEndWithDatagramsUnderWay) {
  PlayedPort port(form(), AnyPort());
  Client client(AnyPort());
  for (int i = 0; i < 50; ++i) client.SendTo(port.bound(), "to guest");
  (void)port.Next();
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(port.Send({.peer = client.own()}, "to host"));
  port.SayLastWord();
  for (int i = 0; i < 50; ++i) client.SendTo(port.bound(), "too late");
  port.Until("the relay's last word", [&] { return port.pipe().relay_done.load(); });
  port.Pump();
  EXPECT_EQ(port.bytes_out(), 0u);
  EXPECT_TRUE(port.pipe().to_guest.empty());
  close(BoundSocket(port.bound()).descriptor);
}

// The destructor checks that nothing is lost.
TEST_P(UdpTaskTest, ShutdownWithDatagramsUnderWay) {
  PlayedPort port(form(), AnyPort());
  Client client(AnyPort());
  for (int i = 0; i < 50; ++i) client.SendTo(port.bound(), "to guest");
  (void)port.Next();
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(port.Send({.peer = client.own()}, "to host"));
}

TEST_P(UdpTaskTest, ShutdownLeavesNoDescriptor) {
  const size_t before = OpenDescriptorCount();
  { PlayedPort port(form(), AnyPort()); }
  EXPECT_EQ(OpenDescriptorCount(), before);
}

}  // namespace
}  // namespace penstock
