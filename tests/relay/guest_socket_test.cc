// A relay's socket for the guest's datagrams, on real sockets: opened when the stack first
// has something, what the error queue says, the packet's header fields, several datagrams as
// one message, failure to open.

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <cerrno>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "relay/relay.h"
#include "relay/socket_address.h"

namespace penstock {
namespace {

using namespace std::chrono_literals;

// Fails on purpose, or says how often it was asked.
class CountedSockets final : public SocketFactory {
 public:
  SocketResult OpenStream(const SocketRequest&) override { return {.error = ENOSYS}; }
  SocketResult OpenDatagram(const DatagramRequest& request) override {
    ++asked;
    return error != 0 ? SocketResult{.error = error} : SocketFactory::OpenDatagram(request);
  }
  int asked = 0;
  int error = 0;
};

class GuestSocketTest : public testing::TestWithParam<Family> {
 protected:
  GuestSocketTest() {
    if (!bell_.Open().ok()) throw std::runtime_error("no eventfd");
    relay_ = std::make_shared<Relay>(io_, RelayOptions{.socket_factory = sockets_}, bell_);
    relay_->doorbell().SetHook([](void*) {}, nullptr);
    pipe_->request = DatagramRequest{.family = GetParam()};
  }
  ~GuestSocketTest() override {
    relay_->Shutdown();
    io_.poll();
    pool_.GiveAll(pipe_->sent.TakeAll(), bytes_out_);
    pool_.GiveAll(pipe_->to_host.TakeAll(), bytes_out_);
    for (Datagram* datagram : held_) {
      datagram->next = nullptr;
      relay_->datagrams().GiveAll(datagram);
    }
    relay_->datagrams().GiveAll(pipe_->to_guest.TakeAll());
    EXPECT_EQ(pool_.bytes_out(), 0u);
    EXPECT_EQ(relay_->datagrams().bytes_out(), 0u);
  }
  [[nodiscard]] static bool v4() { return GetParam() == Family::kIpv4; }
  [[nodiscard]] static IpAddress Loopback() {
    return *IpAddress::Parse(v4() ? "127.0.0.1" : "::1");
  }

  // A plain socket of the host's.
  struct Server {
    explicit Server(const IpAddress& where) {
      const SocketAddress any(Endpoint{where, 0});
      descriptor = socket(where.is_v4() ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
      SocketAddress bound;
      if (bind(descriptor, any.get(), any.length()) != 0 ||
          getsockname(descriptor, bound.data(), bound.length_pointer()) != 0) {
        throw std::runtime_error("no server");
      }
      own = bound.ToEndpoint();
      const timeval limit{.tv_sec = 10, .tv_usec = 0};
      (void)setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    }
    ~Server() { close(descriptor); }
    std::string Receive() {
      std::string text(65'536, '\0');
      SocketAddress from;
      const ssize_t got =
          recvfrom(descriptor, text.data(), text.size(), 0, from.data(), from.length_pointer());
      if (got < 0) throw std::runtime_error("nothing comes");
      peer = from.ToEndpoint();
      text.resize(static_cast<size_t>(got));
      return text;
    }
    void Answer(const std::string& text) const {
      const SocketAddress to(peer);
      (void)sendto(descriptor, text.data(), text.size(), 0, to.get(), to.length());
    }
    int descriptor = -1;
    Endpoint own, peer;
  };

  void Give(const Endpoint& to, const std::string& text, bool dont_fragment = true) {
    Datagram* datagram = pool_.Take(static_cast<uint32_t>(text.size()), bytes_out_);
    ASSERT_NE(datagram, nullptr);
    std::copy(text.begin(), text.end(), datagram->data);
    datagram->path.peer = to;
    datagram->hop_limit = 64;
    datagram->dont_fragment = dont_fragment;
    pipe_->to_host.Push(datagram);
    relay_->pipes_to_relay().Mark(pipe_->for_relay, *pipe_);
  }
  void Run() {
    relay_->ServePipes();
    io_.poll();
    io_.restart();
    pool_.GiveAll(pipe_->sent.TakeAll(), bytes_out_);
    for (Datagram* d = pipe_->to_guest.TakeInOrder(); d != nullptr; d = d->next) held_.push_back(d);
  }
  // What the stack would be told next.
  Datagram& Next() {
    const Time limit = Clock::now() + 10s;
    while (held_.size() == seen_) {
      if (Clock::now() > limit) throw std::runtime_error("nothing for the guest");
      Run();
      std::this_thread::yield();
    }
    return *held_[seen_++];
  }
  static std::string TextOf(const Datagram& datagram) {
    return {reinterpret_cast<const char*>(datagram.data), datagram.length};
  }

  std::shared_ptr<CountedSockets> sockets_ = std::make_shared<CountedSockets>();
  boost::asio::io_context io_;
  Doorbell bell_;
  std::shared_ptr<Relay> relay_;
  std::shared_ptr<DatagramPipe> pipe_ = std::make_shared<DatagramPipe>();
  DatagramPool pool_;
  uint64_t bytes_out_ = 0;
  std::vector<Datagram*> held_;
  size_t seen_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Families, GuestSocketTest, testing::Values(Family::kIpv4, Family::kIpv6),
                         [](const auto& info) {
                           return info.param == Family::kIpv4 ? "Ipv4" : "Ipv6";
                         });

TEST_P(GuestSocketTest, OpensOnceAndTalksToMany) {
  Server a(Loopback()), b(Loopback());
  Give(a.own, "to a");
  Give(b.own, "to b");
  Give(a.own, "");
  Run();
  EXPECT_EQ(sockets_->asked, 1);
  EXPECT_EQ(a.Receive(), "to a");
  EXPECT_EQ(b.Receive(), "to b");
  EXPECT_EQ(a.Receive(), "");
  EXPECT_EQ(a.peer, b.peer);
  b.Answer("from b");
  const Datagram& answer = Next();
  EXPECT_EQ(TextOf(answer), "from b");
  EXPECT_EQ(answer.path.peer, b.own);
  EXPECT_EQ(answer.fault.kind, FaultKind::kNone);
}

TEST_P(GuestSocketTest, ARefusalIsMatchedToItsDatagram) {
  Server open(Loopback());
  Endpoint closed;
  {
    const Server gone(Loopback());
    closed = gone.own;
  }
  Give(closed, "nobody");
  Give(open.own, "somebody");
  Give(closed, "nobody again");
  Give(open.own, "still");
  Run();
  for (const char* text : {"nobody", "nobody again"}) {
    const Datagram& fault = Next();
    EXPECT_EQ(fault.fault.kind, FaultKind::kPort);
    EXPECT_EQ(fault.fault.offender, Loopback());
    EXPECT_EQ(fault.path.peer, closed);
    EXPECT_EQ(TextOf(fault), text);
  }
  EXPECT_EQ(open.Receive(), "somebody");
  EXPECT_EQ(open.Receive(), "still");
}

// What sendmsg itself refuses is that datagram's fault, and not the next one's.
TEST_P(GuestSocketTest, WhatTheHostWillNotSendComesBackAsAFault) {
  Server server(Loopback());
  const Endpoint nowhere{*IpAddress::Parse(v4() ? "255.255.255.255" : "::ffff:192.0.2.1"), 9};
  // Needs SO_BROADCAST; is not IPv6.
  Give(nowhere, "a broadcast");
  Give(server.own, "after it");
  Run();
  const Datagram& fault = Next();
  EXPECT_TRUE(fault.fault.kind == FaultKind::kProhibited || fault.fault.kind == FaultKind::kNetwork)
      << static_cast<int>(fault.fault.kind);
  EXPECT_EQ(fault.path.peer, nowhere);
  EXPECT_EQ(TextOf(fault), "a broadcast");
  EXPECT_EQ(server.Receive(), "after it");
}

TEST_P(GuestSocketTest, SeveralOfOneLengthLeaveAsOneMessage) {
  Server server(Loopback());
  const auto text = [](int i, size_t bytes) {
    return std::string(bytes, static_cast<char>('a' + i));
  };
  for (int i = 0; i < 20; ++i) Give(server.own, text(i, 1'000));
  Give(server.own, text(20, 700));  // ends the message
  Give(server.own, text(21, 1'000));
  Run();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(server.Receive(), text(i, 1'000));
  EXPECT_EQ(server.Receive(), text(20, 700));
  EXPECT_EQ(server.Receive(), text(21, 1'000));
}

// And back: those that arrive together share a buffer, in order.
TEST_P(GuestSocketTest, SeveralOfOneLengthArriveInOneBuffer) {
  Server server(Loopback());
  Give(server.own, "hello");
  Run();
  (void)server.Receive();
  std::string wanted;
  for (int i = 0; i < 10; ++i) {
    server.Answer(std::string(100, static_cast<char>('a' + i)));
    wanted += std::string(100, static_cast<char>('a' + i));
  }
  server.Answer("end");
  wanted += "end";
  std::string got;
  size_t buffers = 0;
  while (got.size() < wanted.size()) {
    const Datagram& datagram = Next();
    EXPECT_TRUE(datagram.segment_bytes == 100 || datagram.segment_bytes == 0);
    got += TextOf(datagram);
    ++buffers;
  }
  EXPECT_EQ(got, wanted);
  EXPECT_LT(buffers, 11u);
}

TEST_P(GuestSocketTest, NoSocketIsAFaultAndTheEndIsClean) {
  sockets_->error = EMFILE;
  Server server(Loopback());
  Give(server.own, "one");
  Give(server.own, "two");
  Run();
  const Datagram& fault = Next();
  EXPECT_EQ(fault.fault.kind, FaultKind::kNoSocket);
  EXPECT_EQ(fault.fault.error, EMFILE);
  EXPECT_EQ(TextOf(fault), "one");
  EXPECT_EQ(bytes_out_, 0u) << "both were given back";
  EXPECT_EQ(relay_->datagram_counts().lost_to_host.value(), 1u);
  // The last words.
  for (Datagram* datagram : std::exchange(held_, {})) pipe_->delivered.Push(datagram);
  seen_ = 0;
  pipe_->stack_done.store(true);
  relay_->pipes_to_relay().Mark(pipe_->for_relay, *pipe_);
  Run();
  EXPECT_TRUE(pipe_->relay_done.load());
  EXPECT_EQ(sockets_->asked, 1);
}

}  // namespace
}  // namespace penstock
