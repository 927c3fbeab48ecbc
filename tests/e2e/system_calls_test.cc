// penstock on a kernel that interrupts, does less than it was asked, and is short of
// everything: the real program with system_calls_preload under it, and a real guest.
//
// What is only transient nobody notices: every byte arrives once and in order, and no
// connection ends. What is refused ends the connection that it met, at both ends; the next
// one works once there is no refusal any more.
//
// Each case has its seeds; --gtest_random_seed=N gives others, and a failure names them.

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <iostream>
#include <system_error>

#include "tests/preload/fault_file.h"
#include "tests/support/sandbox.h"
#include "tests/support/sandbox_datagram.h"

namespace penstock::e2e {
namespace {

// The faults of a penstock.
class Faults final {
 public:
  Faults() {
    const int descriptor = open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (descriptor < 0 || ftruncate(descriptor, sizeof(FaultFile)) != 0) ThrowErrno("fault file");
    void* memory =
        mmap(nullptr, sizeof(FaultFile), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (memory == MAP_FAILED) ThrowErrno("mmap");
    file_ = static_cast<FaultFile*>(memory);
  }
  ~Faults() { munmap(file_, sizeof(FaultFile)); }
  Faults(const Faults&) = delete;
  Faults& operator=(const Faults&) = delete;

  // For SandboxOptions.
  [[nodiscard]] std::vector<std::string> environment() const {
    return {"LD_PRELOAD=" + ProgramPath("libsystem_calls_preload.so"),
            "PENSTOCK_FAULTS_FILE=" + path_};
  }
  void Begin(FaultKind kind, uint64_t seed, uint64_t one_in) {
    file_->seed = seed;
    file_->one_in = one_in;
    file_->kind.store(kind, std::memory_order_release);
  }
  void End() { file_->kind.store(FaultKind::kNone, std::memory_order_release); }
  [[nodiscard]] uint64_t count() const { return file_->faults.load(); }

 private:
  TemporaryFolder folder_;
  const std::string path_ = folder_ / "faults";
  FaultFile* file_;
};

struct Case {
  Via via;
  Family family;
  Opener opener;
  uint64_t seed;
};

class SystemCalls : public ::testing::TestWithParam<Case> {
 protected:
  World world_;
  Faults faults_;
  Sandbox sandbox_{
      {.via = GetParam().via, .opener = GetParam().opener, .environment = faults_.environment()}};

  [[nodiscard]] static uint64_t seed() {
    return GetParam().seed + 1'000 * static_cast<uint64_t>(GTEST_FLAG_GET(random_seed));
  }

  // Datagrams to a host, one at a time, and back.
  void AskByUdp(int times) {
    const bool v4 = GetParam().family == Family::kIpv4;
    UdpSocket host(GetParam().family);
    host.Bind({*IpAddress::Parse(v4 ? "127.0.0.1" : "::1"), 0});
    UdpSocket guest = [&] {
      const InNamespace inside(sandbox_.guest().descriptor());
      return UdpSocket(GetParam().family);
    }();
    const Endpoint server = Sandbox::Gateway(GetParam().family, host.own().port);
    for (int i = 0; i < times; ++i) {
      const std::string text(static_cast<size_t>(1 + 13 * i), static_cast<char>('a' + i % 26));
      guest.SendTo(server, text);
      const UdpSocket::Datagram asked = host.Receive();
      EXPECT_EQ(asked.text, text);
      host.SendTo(asked.from, text);
      EXPECT_EQ(guest.Receive().text, text);
    }
  }

  // Both ends send and receive a megabyte or two; throws what went wrong.
  void Transfer(uint64_t seed) {
    const Stream to_host{2 * seed, 1'000'000 + seed * 1'000};
    const Stream to_guest{2 * seed + 1, 2'000'000};
    auto connection = sandbox_.Connect(GetParam().family);
    auto guest = Concurrently([&] {
      Perform(connection.guest,
              {.send = to_host, .receive = to_guest, .chunk_max = 1 + 7'919 * seed});
    });
    auto host =
        Concurrently([&] { Perform(connection.host, {.send = to_guest, .receive = to_host}); });
    guest.wait();
    host.wait();
    guest.get();
    host.get();
  }
};

TEST_P(SystemCalls, TransientFaultsAreNobodysBusiness) {
  SCOPED_TRACE("seed " + std::to_string(seed()));
  constexpr uint64_t kOneIn = 5, kConnections = 6;
  faults_.Begin(FaultKind::kTransient, seed(), kOneIn);
  for (uint64_t i = 1; i <= kConnections; ++i) Transfer(i);
  AskByUdp(100);
  faults_.End();
  EXPECT_GT(faults_.count(), 100u);
  const Stats stats = sandbox_.ReadStats();
  EXPECT_EQ(stats["flows_established"], kConnections);
  for (const char* none :
       {"flows_reset_by_host", "flows_reset_by_guest", "flows_refused", "flows_out_of_memory",
        "frames_lost_by_link", "resets_to_guest", "udp_lost_at_socket", "udp_lost_no_socket"}) {
    EXPECT_EQ(stats[none], 0u) << none;
  }
  std::cout << faults_.count() << " faults\n";
}

TEST_P(SystemCalls, RefusalsEndWhatTheyMetAndNothingElse) {
  SCOPED_TRACE("seed " + std::to_string(seed()));
  constexpr uint64_t kOneIn = 30, kConnections = 10;
  auto before = sandbox_.Connect(GetParam().family);
  faults_.Begin(FaultKind::kRefusal, seed(), kOneIn);
  uint64_t failed = 0;
  for (uint64_t i = 1; i <= kConnections; ++i) {
    try {
      Transfer(i);
    } catch (const std::system_error&) {
      ++failed;  // a reset, a refusal; whatever arrived was right
    }
  }
  faults_.End();
  EXPECT_GT(faults_.count(), 5u);
  const Stats stats = sandbox_.ReadStats();
  EXPECT_GT(stats["flows_refused"] + stats["flows_reset_by_host"] + stats["accept_errors"] +
                stats["frames_lost_by_link"],
            0u);
  // Nobody spoke on this one: no call was made for it that could fail.
  before.guest.SendAll("still");
  before.guest.ShutdownSending();
  EXPECT_EQ(before.host.ReceiveToEnd(), "still");
  Transfer(1);
  std::cout << faults_.count() << " faults, " << failed << " of " << kConnections
            << " connections failed\n";
}

INSTANTIATE_TEST_SUITE_P(
    E2e, SystemCalls,
    ::testing::Values(Case{Via::kOneThread, Family::kIpv4, Opener::kGuest, 1},
                      Case{Via::kRelayThread, Family::kIpv6, Opener::kGuest, 2},
                      Case{Via::kOneThread, Family::kIpv6, Opener::kHost, 3},
                      Case{Via::kRelayThread, Family::kIpv4, Opener::kHost, 4}),
    [](const auto& test) {
      return CaseName({{test.param.via, test.param.family, test.param.opener}, test.index});
    });

}  // namespace
}  // namespace penstock::e2e
