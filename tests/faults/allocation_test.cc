// Every allocation of a connection's life fails, one at a time and eight in a row: of a
// connection that the guest opens, of one by a published port, of UDP, an echo request and a
// published port's datagrams, of DNS by UDP and by TCP.
//
// Each failure has a child of its own, which begins where everything before it stands: the
// world, with a connection that lives, is made once for all failures of a kind, and forked.
// What a child does to the kernel's part of that connection is over when it ends.
//
// Where malloc fails (lwIP, and the pools of buffers) everything survives: the flow is
// refused, reset or goes on later, what is lost is counted, and neither a connection beside
// it nor one after it notices. Where operator new fails (the rest) the same holds, or the
// process ends with one sentence (relay/out_of_memory.h).
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>

#include "relay/socket_address.h"
#include "tests/faults/ask_talk.h"
#include "tests/faults/dns_stream_talk.h"
#include "tests/faults/failing_allocator.h"
#include "tests/faults/fault_world.h"
#include "tests/faults/own_network.h"
#include "tests/faults/tcp_talk.h"
#include "tests/world/child.h"

namespace penstock::faults {
namespace {

enum class Kind : uint8_t { kEgress, kPublished, kUdp, kPublishedUdp, kEcho, kDns, kDnsStream };

struct Case {
  Kind kind;
  Family family;
  SteppedStack::Form form;
};

std::string CaseName(const testing::TestParamInfo<Case>& test) {
  static constexpr const char* kKinds[] = {"Egress", "Published", "Udp",      "PublishedUdp",
                                           "Echo",   "Dns",       "DnsStream"};
  return std::string(kKinds[static_cast<size_t>(test.param.kind)]) +
         (test.param.form == SteppedStack::Form::kOneThread ? "OneThread" : "RelayThread") +
         (test.param.family == Family::kIpv4 ? "Ipv4" : "Ipv6");
}

// What a child leaves behind, in memory that it shares with its parent.
template <typename Record>
class Shared final {
 public:
  Shared() {
    void* memory =
        mmap(nullptr, sizeof(Record), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::runtime_error("mmap failed");
    record_ = new (memory) Record;
  }
  ~Shared() { munmap(record_, sizeof(Record)); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  Record& operator*() { return *record_; }
  Record* operator->() { return record_; }

 private:
  Record* record_;
};

// Of one failure.
struct Outcome {
  uint64_t failed = 0;
  bool complete = false;
};
// Of all of a kind.
struct Tally {
  uint64_t runs = 0, complete = 0, ended = 0;
};

// What is told of whatever did not arrive.
uint64_t CountsOfLoss(const CounterSnapshot& counters) {
  return counters.flows_out_of_memory + counters.flows_refused + counters.flows_reset_by_host +
         counters.inbound_refused + counters.inbound_refused_limit + counters.accept_errors;
}

// A UDP socket on loopback that does not block.
class Server final {
 public:
  explicit Server(Family family) {
    const bool v4 = family == Family::kIpv4;
    descriptor_ = HostDescriptor(
        socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    SocketAddress address({v4 ? IpAddress::V4(127, 0, 0, 1) : *IpAddress::Parse("::1"), 0});
    Require(bind(descriptor_.get(), address.get(), address.length()) == 0, "bind failed");
    Require(getsockname(descriptor_.get(), address.data(), address.length_pointer()) == 0,
            "getsockname failed");
    bound_ = address.ToEndpoint();
  }
  [[nodiscard]] int descriptor() const { return descriptor_.get(); }
  [[nodiscard]] const Endpoint& bound() const { return bound_; }

 private:
  HostDescriptor descriptor_;
  Endpoint bound_;
};

// What every failure of a kind begins with.
class Grounds final {
 public:
  explicit Grounds(const Case& test)
      : kind_(test.kind),
        server_(test.family),
        upstream_(test.family),
        world_(Options(test)),
        beside_(world_, {.to_host_bytes = 1'000, .to_guest_bytes = 1'000, .finishes = false}) {
    world_.Run(
        "the one beside it", [this] { return beside_.Step(); },
        [this] { return beside_.Complete(); });
  }

  [[nodiscard]] FaultWorld& world() { return world_; }
  [[nodiscard]] TcpTalk& beside() { return beside_; }
  [[nodiscard]] std::unique_ptr<Talk> MakeTalk();

 private:
  [[nodiscard]] FaultWorldOptions Options(const Case& test) const {
    FaultWorldOptions options{.family = test.family, .form = test.form};
    Endpoint upstream = server_.bound();
    if (test.kind == Kind::kDnsStream) upstream.port = upstream_.port();
    options.config.dns.upstreams = {upstream};
    return options;
  }

  const Kind kind_;
  const Server server_;
  HostListener upstream_;
  FaultWorld world_;
  TcpTalk beside_;
};

std::unique_ptr<Talk> Grounds::MakeTalk() {
  constexpr uint16_t kDnsPort = 53, kGuestPort = 5'001;
  const Family family = world_.family();
  const Endpoint dns{family == Family::kIpv4 ? kTestConfig.ipv4.dns : kTestConfig.ipv6.dns,
                     kDnsPort};
  const auto ask = [&](const Endpoint& whom, Asking asking) {
    return std::make_unique<AskTalk>(world_, server_.descriptor(), whom, asking);
  };
  switch (kind_) {
    case Kind::kEgress:
      return std::make_unique<TcpTalk>(world_, TcpPlan{});
    case Kind::kPublished:
      return std::make_unique<TcpTalk>(world_, TcpPlan{.host_opens = true});
    case Kind::kUdp:
      return ask(world_.Gateway(server_.bound().port), Asking::kHost);
    case Kind::kPublishedUdp:
      return ask({Guest(family), kGuestPort}, Asking::kPublished);
    case Kind::kEcho:
      return ask({EchoHost(family), 0}, Asking::kEcho);
    case Kind::kDns:
      return ask(dns, Asking::kDns);
    case Kind::kDnsStream:
      return std::make_unique<DnsStreamTalk>(world_, upstream_, dns);
  }
  return nullptr;
}

// In a child: one talk while allocations fail, beside a connection that lives and before
// another one.
void LiveThrough(Grounds& grounds, const AllocationFault& fault, Outcome& outcome) {
  FaultWorld& world = grounds.world();
  const std::unique_ptr<Talk> talk = grounds.MakeTalk();
  FailAllocations(fault);
  // What comes out of order is kept, too.
  world.LoseFrame(4);
  world.Run(
      "its end", [&] { return talk->Step(); }, [&] { return talk->Over(); });
  outcome = {.failed = AllocationsFailed(), .complete = talk->Complete()};
  FailAllocations({});
  talk->Judge();
  Require(talk->Complete() || outcome.failed > 0, "it failed, and nothing was missing");
  if (!talk->Complete()) {
    world.Run(
        "a counter of it", [&] { return talk->Step(); },
        [&] { return CountsOfLoss(world.counters()) > 0; });
  }

  grounds.beside().ExpectAlive();
  TcpTalk after(world, {});
  world.Run(
      "the one after it", [&] { return after.Step(); }, [&] { return after.Over(); });
  Require(after.Complete(), "the one after it was hurt");
}

// A file in memory that stands for stderr while this lives.
class CaughtErrors final {
 public:
  CaughtErrors() : file_(memfd_create("stderr", MFD_CLOEXEC)), before_(dup(STDERR_FILENO)) {
    dup2(file_, STDERR_FILENO);
  }
  ~CaughtErrors() {
    dup2(before_, STDERR_FILENO);
    close(before_);
    close(file_);
  }
  CaughtErrors(const CaughtErrors&) = delete;
  CaughtErrors& operator=(const CaughtErrors&) = delete;
  [[nodiscard]] std::string text() const {
    std::string text(4096, '\0');
    const ssize_t got = pread(file_, text.data(), text.size(), 0);
    text.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
    return text;
  }

 private:
  const int file_;
  const int before_;
};

// True if the process said that it is out of memory: the library, or the language's own end
// of what may not throw.
bool EndedForMemory(const std::string& errors) {
  return errors.find("penstock: out of memory\n") != std::string::npos ||
         errors.find("terminate called") != std::string::npos;
}

// In a child: each allocation of `allocator` in its turn, with those behind it. Throws what no
// failure may come to.
void FailEach(const Case& test, Allocator allocator, uint64_t count, Tally& tally) {
  if (test.kind == Kind::kEcho) EnterOwnNetwork();
  Grounds grounds(test);
  for (uint64_t first = 1;; ++first) {
    Shared<Outcome> outcome;
    const AllocationFault fault{.allocator = allocator, .first = first, .count = count};
    CaughtErrors errors;
    const std::string wrong = world::RunInChild([&] { LiveThrough(grounds, fault, *outcome); });
    if (wrong.empty() && outcome->failed == 0) return;  // all had their turn
    ++tally.runs;
    tally.complete += outcome->complete ? 1 : 0;
    if (allocator == Allocator::kNew && EndedForMemory(errors.text())) {
      ++tally.ended;
    } else if (!wrong.empty()) {
      throw std::runtime_error("allocation " + std::to_string(first) + " and " +
                               std::to_string(count - 1) + " behind it failed: " + wrong + "\n" +
                               errors.text());
    }
  }
}

class AllocationTest : public testing::TestWithParam<Case> {
 protected:
  void FailEach(Allocator allocator, uint64_t count) {
    Shared<Tally> tally;
    const std::string wrong =
        world::RunInChild([&] { faults::FailEach(GetParam(), allocator, count, *tally); });
    EXPECT_EQ(wrong, "");
    EXPECT_GT(tally->runs, 0u);
    const bool is_tcp = GetParam().kind == Kind::kEgress || GetParam().kind == Kind::kPublished;
    // What a flow begins with is refused: of new's that is all but what grows.
    if (is_tcp && count == 1) {
      EXPECT_GE(tally->runs - tally->ended, 5u);
    }
    std::cout << (allocator == Allocator::kMalloc ? "malloc" : "new") << ", " << count
              << " in a row: " << tally->runs << " runs, " << tally->complete << " complete, "
              << tally->ended << " ended the process\n";
  }
};

TEST_P(AllocationTest, MallocRefusesAndIsSurvived) {
  for (const uint64_t count : {1, 8}) FailEach(Allocator::kMalloc, count);
}

TEST_P(AllocationTest, NewIsSurvivedOrEndsWithASentence) {
  for (const uint64_t count : {1, 8}) FailEach(Allocator::kNew, count);
}

INSTANTIATE_TEST_SUITE_P(
    Faults, AllocationTest,
    testing::Values(Case{Kind::kEgress, Family::kIpv4, SteppedStack::Form::kOneThread},
                    Case{Kind::kEgress, Family::kIpv6, SteppedStack::Form::kRelayThread},
                    Case{Kind::kPublished, Family::kIpv4, SteppedStack::Form::kRelayThread},
                    Case{Kind::kPublished, Family::kIpv6, SteppedStack::Form::kOneThread},
                    Case{Kind::kUdp, Family::kIpv4, SteppedStack::Form::kOneThread},
                    Case{Kind::kUdp, Family::kIpv6, SteppedStack::Form::kRelayThread},
                    Case{Kind::kPublishedUdp, Family::kIpv4, SteppedStack::Form::kRelayThread},
                    Case{Kind::kPublishedUdp, Family::kIpv6, SteppedStack::Form::kOneThread},
                    Case{Kind::kEcho, Family::kIpv4, SteppedStack::Form::kOneThread},
                    Case{Kind::kEcho, Family::kIpv6, SteppedStack::Form::kRelayThread},
                    Case{Kind::kDns, Family::kIpv4, SteppedStack::Form::kRelayThread},
                    Case{Kind::kDns, Family::kIpv6, SteppedStack::Form::kOneThread},
                    Case{Kind::kDnsStream, Family::kIpv4, SteppedStack::Form::kOneThread},
                    Case{Kind::kDnsStream, Family::kIpv6, SteppedStack::Form::kRelayThread}),
    CaseName);

}  // namespace
}  // namespace penstock::faults
