// Every allocation of a connection's life fails, one at a time and eight in a row: of a
// connection that the guest opens, of one by a published port, of UDP and of DNS.
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
#include <stdexcept>
#include <string>

#include "relay/socket_address.h"
#include "tests/faults/ask_talk.h"
#include "tests/faults/failing_allocator.h"
#include "tests/faults/fault_world.h"
#include "tests/faults/tcp_talk.h"
#include "tests/world/child.h"

namespace penstock::faults {
namespace {

enum class Kind : uint8_t { kEgress, kPublished, kUdp, kDns };

struct Case {
  Kind kind;
  Family family;
  SteppedStack::Form form;
};

std::string CaseName(const testing::TestParamInfo<Case>& test) {
  static constexpr const char* kKinds[] = {"Egress", "Published", "Udp", "Dns"};
  return std::string(kKinds[static_cast<size_t>(test.param.kind)]) +
         (test.param.form == SteppedStack::Form::kOneThread ? "OneThread" : "RelayThread") +
         (test.param.family == Family::kIpv4 ? "Ipv4" : "Ipv6");
}

// What a child leaves behind, in memory that it shares with its parent.
struct Record {
  uint64_t failed = 0;
  bool complete = false;
};
class SharedRecord final {
 public:
  SharedRecord() {
    void* memory =
        mmap(nullptr, sizeof(Record), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::runtime_error("mmap failed");
    record_ = static_cast<Record*>(memory);
  }
  ~SharedRecord() { munmap(record_, sizeof(Record)); }
  SharedRecord(const SharedRecord&) = delete;
  SharedRecord& operator=(const SharedRecord&) = delete;
  Record& operator*() { return *record_; }

 private:
  Record* record_;
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

std::unique_ptr<Talk> MakeTalk(FaultWorld& world, const Server& server, Kind kind) {
  const IpAddress dns =
      world.family() == Family::kIpv4 ? kTestConfig.ipv4.dns : kTestConfig.ipv6.dns;
  switch (kind) {
    case Kind::kEgress:
      return std::make_unique<TcpTalk>(world, TcpPlan{});
    case Kind::kPublished:
      return std::make_unique<TcpTalk>(world, TcpPlan{.host_opens = true});
    case Kind::kUdp:
      return std::make_unique<AskTalk>(world, server.descriptor(),
                                       world.Gateway(server.bound().port), false);
    case Kind::kDns:
      return std::make_unique<AskTalk>(world, server.descriptor(), Endpoint{dns, 53}, true);
  }
  return nullptr;
}

// In a child: one talk of the kind while allocations fail, beside a connection that lives and
// before another one.
void LiveThrough(const Case& test, const AllocationFault& fault, Record& record) {
  const Server server(test.family);
  FaultWorldOptions options{.family = test.family, .form = test.form};
  options.config.dns.upstreams = {server.bound()};
  FaultWorld world(options);
  TcpTalk beside(world, {.to_host_bytes = 1'000, .to_guest_bytes = 1'000, .finishes = false});
  world.Run(
      "the one beside it", [&] { return beside.Step(); }, [&] { return beside.Complete(); });

  const std::unique_ptr<Talk> talk = MakeTalk(world, server, test.kind);
  FailAllocations(fault);
  // What comes out of order is kept, too.
  world.LoseFrame(4);
  world.Run(
      "its end", [&] { return talk->Step(); }, [&] { return talk->Over(); });
  record = {.failed = AllocationsFailed(), .complete = talk->Complete()};
  FailAllocations({});
  talk->Judge();
  Require(talk->Complete() || record.failed > 0, "it failed, and nothing was missing");
  if (!talk->Complete()) {
    world.Run(
        "a counter of it", [&] { return talk->Step(); },
        [&] { return CountsOfLoss(world.counters()) > 0; });
  }

  beside.ExpectAlive();
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

class AllocationTest : public testing::TestWithParam<Case> {
 protected:
  // Each allocation of `allocator` in its turn, with those behind it.
  void FailEach(Allocator allocator, uint64_t count) {
    uint64_t first = 1, complete = 0, ended = 0;
    for (;; ++first) {
      SharedRecord record;
      const AllocationFault fault{.allocator = allocator, .first = first, .count = count};
      CaughtErrors errors;
      const std::string wrong = world::RunInChild([&] { LiveThrough(GetParam(), fault, *record); });
      if (wrong.empty() && (*record).failed == 0) break;  // all had their turn
      complete += (*record).complete ? 1 : 0;
      if (allocator == Allocator::kNew && EndedForMemory(errors.text())) {
        ++ended;
      } else {
        EXPECT_EQ(wrong, "") << "allocation " << first << " and " << count - 1
                             << " behind it failed\n"
                             << errors.text();
      }
    }
    EXPECT_GT(first, 1u);
    const bool is_tcp = GetParam().kind == Kind::kEgress || GetParam().kind == Kind::kPublished;
    // What a flow begins with is refused: of new's that is all but what grows.
    if (is_tcp && count == 1) {
      EXPECT_GE(first - 1 - ended, 5u);
    }
    std::cout << (allocator == Allocator::kMalloc ? "malloc" : "new") << ", " << count
              << " in a row: " << first - 1 << " runs, " << complete << " complete, " << ended
              << " ended the process\n";
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
                    Case{Kind::kDns, Family::kIpv4, SteppedStack::Form::kRelayThread},
                    Case{Kind::kDns, Family::kIpv6, SteppedStack::Form::kOneThread}),
    CaseName);

}  // namespace
}  // namespace penstock::faults
