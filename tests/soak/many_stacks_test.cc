// Ten stacks in one process, on two threads, five on each; every one has a guest that keeps a
// hundred TCP flows busy with a real server on loopback. Stacks are stopped and started again
// at random, in the middle of all that. At the end descriptors, threads and memory have to be
// what they were at the start, which is after everybody was there once.
//
//   server, a thread ── loopback ── relay threads ── 5 stacks ── rings ── 5 guests, 2 threads
//
//   PENSTOCK_SOAK_SECONDS=60 build/release/bin/soak_test       else 3, or under a sanitizer 0
//   PENSTOCK_SOAK_SEED=7                                       the same choices again
//
// A guest is the least TCP that can hold a conversation on a link that loses nothing: it asks,
// compares the echo byte by byte, and asks again; now and then it ends a flow by FIN or RST and
// opens another.
#include <dirent.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "stack/link/frame_ring.h"
#include "stack/stack.h"
#include "tests/support/guest_segment.h"
#include "tests/support/host_side.h"
#include "tests/support/packet_builder.h"

namespace penstock {
namespace {

using namespace std::chrono_literals;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  // malloc is another one, which keeps what was freed
#else
constexpr bool kSanitized = false;
#endif

constexpr int kThreads = 2, kStacksEach = 5, kFlows = 100;
constexpr auto kLimit = 60s;                 // of whatever has to come
constexpr auto kBetweenChanges = 40ms;       // at most, on each thread
constexpr int kChangesMin = 4;               // on each, however slow it is
constexpr size_t kQuestionBytesMax = 1'400;  // fits a segment
// What malloc holds besides: threads' caches, and what lives as long as the process.
constexpr size_t kHeapSlack = 16 << 10, kResidentSlack = 8 << 20;

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::stoull(text);
}

// ---------------------------------------------------------------- the server

// Sends back what it hears. A question is short, so that its socket always has room for it.
class EchoServer final {
 public:
  EchoServer() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
    listener_ = HostDescriptor(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_in6 own{};  // of both families
    own.sin6_family = AF_INET6;
    socklen_t length = sizeof own;
    if (bind(listener_.get(), reinterpret_cast<sockaddr*>(&own), length) != 0 ||
        listen(listener_.get(), 4'096) != 0 ||
        getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&own), &length) != 0) {
      throw std::runtime_error("the server cannot listen");
    }
    port = ntohs(own.sin6_port);
    Watch(listener_.get());
    thread_ = std::thread([this] { Run(); });
  }
  ~EchoServer() {
    shutdown(listener_.get(), SHUT_RDWR);  // wakes it
    thread_.join();
  }
  EchoServer(const EchoServer&) = delete;
  EchoServer& operator=(const EchoServer&) = delete;

  [[nodiscard]] int open() const { return open_; }
  uint16_t port = 0;

 private:
  void Watch(int socket) const {
    epoll_event wanted{.events = EPOLLIN, .data = {.fd = socket}};
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, socket, &wanted) != 0) std::abort();
  }

  void Run() {
    std::array<epoll_event, 64> ready;
    for (;;) {
      const int count = epoll_wait(epoll_.get(), ready.data(), ready.size(), -1);
      for (int i = 0; i < count; ++i) {
        if (ready[i].data.fd != listener_.get()) {
          Answer(ready[i].data.fd);
        } else if (!Accept()) {
          return;
        }
      }
    }
  }

  // False: it listens no more.
  bool Accept() {
    for (int socket; (socket = accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
      ++open_;
      Watch(socket);
    }
    return errno == EAGAIN || errno == ECONNABORTED;
  }

  void Answer(int socket) {
    std::array<char, 4'096> heard;
    const ssize_t count = recv(socket, heard.data(), heard.size(), 0);
    if (count > 0) {
      (void)!send(socket, heard.data(), static_cast<size_t>(count), MSG_NOSIGNAL);
    } else {
      close(socket);
      --open_;
    }
  }

  HostDescriptor listener_, epoll_;
  std::atomic<int> open_ = 0;
  std::thread thread_;
};

// ---------------------------------------------------------------- a guest

struct Totals {
  std::atomic<uint64_t> exchanges = 0, flows = 0, stacks = 0;
};

// One flow of a guest's, from its SYN on.
struct Flow {
  uint32_t next = 0;      // the guest's next byte
  uint32_t expected = 0;  // the stack's
  bool open = false;
  bool ended = false;    // the guest's FIN was sent
  std::string question;  // that is to come back
  size_t heard = 0;      // of it
  bool answered = false;
};

class Guest final {
 public:
  Guest(FrameRingsGuestEnd& network, uint16_t server, std::mt19937_64& random, Totals& totals)
      : network_(network), server_(server), random_(random), totals_(totals) {
    for (int i = 0; i < kFlows; ++i) Open();
  }

  // Takes what the stack has sent, and answers.
  void Turn() {
    while (const auto frame = network_.FrontToGuest()) {
      const auto segment = DecodeFrame(frame->bytes, frame->offload);
      network_.PopToGuest();
      if (segment) Take(*segment);
    }
  }

  // From now on no flow ends any more, and AllAnswered counts anew.
  void Calm() {
    calm_ = true;
    for (auto& [port, flow] : flows_) flow.answered = false;
  }
  // Each flow has heard an answer.
  [[nodiscard]] bool AllAnswered() const {
    return std::ranges::all_of(flows_, [](const auto& row) { return row.second.answered; });
  }

 private:
  void Open() {
    uint16_t port;
    do {
      port = static_cast<uint16_t>(1'024 + random_() % 64'000);
    } while (flows_.contains(port));
    Flow& flow = flows_[port];
    flow.next = static_cast<uint32_t>(random_());
    Send(port, flow, kTcpSyn, "");
    ++totals_.flows;
  }

  // From an even port by IPv4, else by IPv6.
  void Send(uint16_t port, Flow& flow, uint8_t flags, const std::string& payload) {
    const bool v4 = port % 2 == 0;
    GuestSegment segment{.source = {v4 ? kGuest4 : kGuest6, port},
                         .destination = {v4 ? kGateway4 : kGateway6, server_},
                         .flags = flags,
                         .sequence = flow.next,
                         .acknowledgement = flow.expected,
                         .window = 65'535,
                         .payload = payload};
    flow.next += segment.SequenceLength();
    const EncodedFrame frame =
        EncodeFrame({.source = kGuestMac, .destination = kGatewayMac}, segment);
    if (!network_.SendToHost(frame.bytes, frame.offload)) {
      throw std::runtime_error("a ring is full");
    }
  }

  void Take(const GuestSegment& segment) {
    const uint16_t port = segment.destination.port;
    const auto found = flows_.find(port);
    if (found == flows_.end()) return;  // it was given up
    Flow& flow = found->second;
    if (segment.Has(kTcpRst)) throw std::runtime_error("the stack resets a flow");
    if (segment.Has(kTcpSyn)) {
      flow.expected = segment.sequence + 1;
      if (!std::exchange(flow.open, true)) Ask(port, flow);
      return;
    }
    if (segment.sequence != flow.expected) {  // again, because it waited long
      Send(port, flow, kTcpAck, "");
      return;
    }
    flow.expected += segment.SequenceLength();
    if (flow.question.compare(flow.heard, segment.payload.size(), segment.payload) != 0) {
      throw std::runtime_error("an answer is not what was asked");
    }
    flow.heard += segment.payload.size();
    if (segment.Has(kTcpFin)) {
      if (!flow.ended) throw std::runtime_error("the server ends a flow");
      Send(port, flow, kTcpAck, "");
      flows_.erase(found);
      Open();
    } else if (flow.heard == flow.question.size() && !segment.payload.empty()) {
      flow.answered = true;
      ++totals_.exchanges;
      GoOn(port, flow);
    } else if (!segment.payload.empty()) {
      Send(port, flow, kTcpAck, "");
    }
  }

  void GoOn(uint16_t port, Flow& flow) {
    const uint64_t chance = calm_ ? 400 : random_() % 400;
    if (chance == 0) {
      Send(port, flow, kTcpRst | kTcpAck, "");
      flows_.erase(port);
      Open();
    } else if (chance == 1) {
      flow.ended = true;
      Send(port, flow, kTcpFin | kTcpAck, "");
    } else {
      Ask(port, flow);
    }
  }

  void Ask(uint16_t port, Flow& flow) {
    flow.question.resize(1 + random_() % kQuestionBytesMax);
    for (char& c : flow.question) c = static_cast<char>(random_());
    flow.heard = 0;
    Send(port, flow, kTcpAck | kTcpPsh, flow.question);
  }

  FrameRingsGuestEnd& network_;
  const uint16_t server_;
  std::mt19937_64& random_;
  Totals& totals_;
  bool calm_ = false;
  std::unordered_map<uint16_t, Flow> flows_;  // by the guest's port
};

// ---------------------------------------------------------------- stacks on a thread

class Sandbox final {
 public:
  Sandbox(uint16_t server, std::mt19937_64& random, Totals& totals) {
    auto rings = FrameRings::Create({});
    if (!rings.ok()) throw std::runtime_error(rings.status().ToString());
    network_ = std::move(rings->vmm_end);
    auto stack = Stack::Create(
        {.guest_mac = kGuestMac, .router_advertisements = false, .host_loopback = true},
        std::move(rings->stack_end));
    if (!stack.ok()) throw std::runtime_error(stack.status().ToString());
    stack_ = *std::move(stack);
    guest_ = std::make_unique<Guest>(*network_, server, random, totals);
    ++totals.stacks;
  }

  Time Turn(Time now) {
    const Time deadline = stack_->Poll(now);
    guest_->Turn();
    return deadline;
  }
  void AddTo(std::vector<pollfd>& watched) const {
    for (const int descriptor : {stack_->descriptor(), network_->descriptor()}) {
      watched.push_back({.fd = descriptor, .events = POLLIN, .revents = 0});
    }
  }
  [[nodiscard]] Guest& guest() { return *guest_; }

 private:
  // The stack ends first, in the middle of it all.
  std::unique_ptr<FrameRingsGuestEnd> network_;
  std::unique_ptr<Guest> guest_;
  std::unique_ptr<Stack> stack_;
};

// Five of them by one poll loop.
class Loop final {
 public:
  Loop(uint16_t server, uint64_t seed, Totals& totals)
      : server_(server), random_(seed), totals_(totals) {}

  // With changes until `end`, and then until each flow of every stack has been answered once
  // more; all are gone then.
  void Run(Time end) {
    for (auto& sandbox : sandboxes_) Start(sandbox);
    Time change = Clock::now();
    for (int changes = 0; changes < kChangesMin || Clock::now() < end;) {
      if (const Time now = Clock::now(); now >= change) {
        auto& sandbox = sandboxes_[random_() % sandboxes_.size()];
        if (sandbox == nullptr) {
          Start(sandbox);
        } else {
          sandbox.reset();
        }
        ++changes;
        change = now + std::chrono::microseconds(random_() % (kBetweenChanges / 1us));
      }
      Turn(change);
    }
    for (auto& sandbox : sandboxes_) {
      if (sandbox == nullptr) Start(sandbox);
      sandbox->guest().Calm();
    }
    const Time limit = Clock::now() + kLimit;
    while (!std::ranges::all_of(sandboxes_, [](auto& one) { return one->guest().AllAnswered(); })) {
      Turn(limit);
      if (Clock::now() > limit) throw std::runtime_error("a flow stands still");
    }
    for (auto& sandbox : sandboxes_) sandbox.reset();
  }

 private:
  void Start(std::unique_ptr<Sandbox>& sandbox) {
    sandbox = std::make_unique<Sandbox>(server_, random_, totals_);
  }

  void Turn(Time due) {
    watched_.clear();
    const Time now = Clock::now();
    for (const auto& sandbox : sandboxes_) {
      if (sandbox == nullptr) continue;
      due = std::min(due, sandbox->Turn(now));
      sandbox->AddTo(watched_);
    }
    poll(watched_.data(), watched_.size(), PollTimeout(now, due));
  }

  const uint16_t server_;
  std::mt19937_64 random_;
  Totals& totals_;
  std::array<std::unique_ptr<Sandbox>, kStacksEach> sandboxes_;
  std::vector<pollfd> watched_;
};

// ---------------------------------------------------------------- the process

size_t EntriesOf(const char* folder) {
  DIR* entries = opendir(folder);
  size_t count = 0;
  while (const dirent* entry = readdir(entries)) count += entry->d_name[0] == '.' ? 0 : 1;
  closedir(entries);
  return count;
}

struct Held {
  size_t descriptors = EntriesOf("/proc/self/fd");
  size_t threads = EntriesOf("/proc/self/task");
  size_t heap = 0;
  size_t resident = 0;

  Held() {
    malloc_trim(0);
    heap = mallinfo2().uordblks + mallinfo2().hblkhd;
    size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages >> pages;
    resident = pages * static_cast<size_t>(sysconf(_SC_PAGESIZE));
  }
};

void RunAll(const EchoServer& server, uint64_t seed, Duration length, Totals& totals) {
  std::vector<std::thread> threads;
  std::atomic<int> failed = 0;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      try {
        Loop(server.port, seed + static_cast<uint64_t>(i), totals).Run(Clock::now() + length);
      } catch (const std::exception& error) {
        ++failed;
        std::fprintf(stderr, "thread %d: %s\n", i, error.what());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failed, 0);
  // The server hears of the last resets a little later.
  for (const Time limit = Clock::now() + kLimit; server.open() != 0 && Clock::now() < limit;) {
    std::this_thread::sleep_for(1ms);
  }
  EXPECT_EQ(server.open(), 0);
}

TEST(ManyStacks, LeaveNothing) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 16'384);
  setrlimit(RLIMIT_NOFILE, &limit);
  const std::chrono::seconds length(FromEnvironment("PENSTOCK_SOAK_SECONDS", kSanitized ? 0 : 3));
  const uint64_t seed = FromEnvironment("PENSTOCK_SOAK_SEED", std::random_device()());
  std::printf("PENSTOCK_SOAK_SEED=%zu\n", seed);

  const EchoServer server;
  Totals warm_up, totals;
  RunAll(server, seed, 0s, warm_up);
  const Held before;
  RunAll(server, seed + kThreads, length, totals);
  const Held after;
  std::printf(
      "%zu stacks, %zu flows, %zu exchanges\n"
      "before: %zu descriptors, %zu threads, %zu bytes in use, %zu resident\n"
      "after:  %zu descriptors, %zu threads, %zu bytes in use, %zu resident\n",
      totals.stacks.load(), totals.flows.load(), totals.exchanges.load(), before.descriptors,
      before.threads, before.heap, before.resident, after.descriptors, after.threads, after.heap,
      after.resident);
  EXPECT_GT(totals.stacks, kThreads * kStacksEach);
  EXPECT_EQ(after.descriptors, before.descriptors);
  EXPECT_EQ(after.threads, before.threads);
  if (kSanitized) return;
  EXPECT_LE(after.heap, before.heap + kHeapSlack);
  EXPECT_LE(after.resident, before.resident + kResidentSlack);
}

}  // namespace
}  // namespace penstock
