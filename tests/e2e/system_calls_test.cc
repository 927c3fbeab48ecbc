// penstock on a kernel that interrupts, does less than it was asked, and is short of
// everything: the real program with system_calls_preload under it, and a real guest.
//
// What is only transient nobody notices, from the first call of penstock's on: every byte
// arrives once and in order, and no connection ends. What is refused ends the connection that
// it met, at both ends, or loses the datagram, and is counted; the next one works once there
// is no refusal any more. While penstock is set up, each call is refused in its turn.
//
// Each case has its seeds; --gtest_random_seed=N gives others, and a failure names them.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <iostream>
#include <iterator>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "tests/preload/fault_file.h"
#include "tests/support/dns_builder.h"
#include "tests/support/places.h"
#include "tests/support/sandbox.h"
#include "tests/support/sandbox_datagram.h"

namespace penstock::e2e {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

// Published under its own number, by UDP.
constexpr uint16_t kUdpPort = 7791;
constexpr uint16_t kDnsPort = 53;

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
  // The call of this number, from 1, is refused, and no other.
  void RefuseOnly(uint64_t number) {
    file_->drawn = 0;
    file_->faults = 0;
    file_->only = number;
    Begin(FaultKind::kRefusal, number, 1);
  }
  void End() { file_->kind.store(FaultKind::kNone, std::memory_order_release); }
  [[nodiscard]] uint64_t count() const { return file_->faults.load(); }

 private:
  TemporaryFolder folder_;
  const std::string path_ = folder_ / "faults";
  FaultFile* file_;
};

// A name server on the host's loopback, by UDP and TCP, that knows every name below test.
class NameServer final {
 public:
  NameServer() {
    Pipe output;
    server_ =
        Process({"dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
                 "--user=root", "--group=root", "--pid-file", "--port=53", "--bind-interfaces",
                 "--listen-address=127.0.0.1,::1", std::string("--address=/test/") + kAddress},
                {.output = output.writing_end.get()});
    output.writing_end.Close();
    std::string said;
    for (char byte = 0; said.find("started") == std::string::npos; said += byte) {
      if (read(output.reading_end.get(), &byte, 1) != 1) {
        throw std::runtime_error("no name server: " + said);
      }
    }
    output_ = std::move(output.reading_end);
  }
  static Endpoint At(Family family) {
    return {*IpAddress::Parse(family == Family::kIpv4 ? "127.0.0.1" : "::1"), kDnsPort};
  }
  static constexpr const char* kAddress = "192.0.2.80";

 private:
  Process server_;
  Descriptor output_;
};

struct Case {
  Via via;
  Family family;
  Opener opener;
  uint64_t seed;
};

class SystemCalls : public ::testing::TestWithParam<Case> {
 protected:
  explicit SystemCalls(FaultKind from_the_start = FaultKind::kNone) {
    // For echo requests: this group, which is 0 in every namespace of the tests.
    std::ofstream("/proc/sys/net/ipv4/ping_group_range") << "0 0";
    faults_.Begin(from_the_start, seed(), kOneInTransient);
    const std::string port = std::to_string(kUdpPort) + ":" + std::to_string(kUdpPort) + "/udp";
    sandbox_.emplace(SandboxOptions{
        .via = GetParam().via,
        .opener = GetParam().opener,
        .penstock_options = {"--dns-server", NameServer::At(family()).ToString(), "--publish",
                             "127.0.0.1:" + port, "--publish", "[::1]:" + port},
        .environment = faults_.environment()});
  }
  static constexpr uint64_t kOneInTransient = 5;

  [[nodiscard]] static Family family() { return GetParam().family; }
  [[nodiscard]] static bool v4() { return family() == Family::kIpv4; }
  [[nodiscard]] static uint64_t seed() {
    return GetParam().seed + 1'000 * static_cast<uint64_t>(GTEST_FLAG_GET(random_seed));
  }
  [[nodiscard]] static Endpoint Loopback() {
    return {*IpAddress::Parse(v4() ? "127.0.0.1" : "::1"), 0};
  }
  // The name server that the guest knows.
  [[nodiscard]] static Endpoint Dns() {
    return {*IpAddress::Parse(v4() ? "10.0.2.3" : "fd00::3"), kDnsPort};
  }
  [[nodiscard]] UdpSocket GuestDatagrams() const {
    const InNamespace inside(sandbox_->guest().descriptor());
    return UdpSocket(family());
  }

  // What has come until `limit` is over, and answers to `from` with the same.
  static bool Repeat(UdpSocket& socket, Duration limit) {
    const auto asked = socket.TryReceive(limit);
    if (asked) socket.SendTo(asked->from, asked->text);
    return asked.has_value();
  }
  // One datagram from `client` to `server`, who repeats it; true if it came back, whole.
  static bool Ask(UdpSocket& client, const Endpoint& to, UdpSocket& server, const std::string& text,
                  Duration limit) {
    client.SendTo(to, text);
    if (!Repeat(server, limit)) return false;
    const auto answer = client.TryReceive(limit);
    if (answer) {
      EXPECT_EQ(answer->text, text);
    }
    return answer.has_value();
  }
  // Datagrams of every size, from the guest to the host or (`published`) the other way, each
  // behind the other's answer. How many came back.
  int AskByUdp(int times, bool published, Duration limit) {
    UdpSocket host(family()), guest = GuestDatagrams();
    if (published) {
      guest.Bind(Sandbox::GuestAddress(family(), kUdpPort));
    } else {
      host.Bind(Loopback());
    }
    int answered = 0;
    for (int i = 0; i < times; ++i) {
      const std::string text(static_cast<size_t>(1 + 13 * i), static_cast<char>('a' + i % 26));
      answered += published
                      ? Ask(host, sandbox_->Published(family(), kUdpPort), guest, text, limit)
                      : Ask(guest, Sandbox::Gateway(family(), host.own().port), host, text, limit);
    }
    return answered;
  }

  static std::string Question(int number) {
    const Bytes question = DnsAsk(
        {.name = "n" + std::to_string(number) + ".test", .id = static_cast<uint16_t>(number)});
    return {question.begin(), question.end()};
  }
  // True if it is the answer with the address; a server failure is one, too.
  static bool IsAnswer(const std::string& text, int number) {
    const DnsSeen seen = SeeDns(Bytes(text.begin(), text.end()));
    EXPECT_EQ(seen.id, number);
    if (seen.rcode() == 0) {
      EXPECT_THAT(seen.addresses, ElementsAre(NameServer::kAddress));
    }
    return seen.rcode() == 0;
  }
  // One behind the other, `limit` apart where none comes. How many were answered, late or not: a
  // name server that did not get its question is asked again after seconds.
  int AskDnsByUdp(int times, Duration limit) {
    constexpr Duration kGivesUp = 5s;
    UdpSocket guest = GuestDatagrams();
    std::set<int> missing;
    int answered = 0;
    const auto hear = [&](Duration patience) {
      const auto answer = guest.TryReceive(patience);
      if (!answer) return false;
      const int number = SeeDns(Bytes(answer->text.begin(), answer->text.end())).id;
      EXPECT_EQ(missing.erase(number), 1u) << number << " was answered before";
      answered += IsAnswer(answer->text, number);
      return true;
    };
    for (int i = 0; i < times; ++i) {
      missing.insert(i);
      guest.SendTo(Dns(), Question(i));
      while (missing.contains(i) && hear(limit)) continue;
    }
    while (!missing.empty() && hear(kGivesUp)) continue;
    return answered;
  }
  // All questions at once, by one connection; throws where that ends.
  int AskDnsByTcp(int times, Duration limit) {
    TcpSocket guest = sandbox_->GuestSocket(family());
    guest.Connect(Dns());
    std::string questions;
    for (int i = 0; i < times; ++i) {
      const std::string question = Question(1'000 + i);
      questions += {static_cast<char>(question.size() >> 8), static_cast<char>(question.size())};
      questions += question;
    }
    guest.SendAll(questions);
    guest.ShutdownSending();
    // A reset that the tap loses comes never again.
    if (!guest.WaitFor(POLLIN, limit)) return 0;
    const std::string answers = guest.ReceiveToEnd();
    int answered = 0;
    for (size_t at = 0; at + 2 < answers.size();) {
      const size_t size = size_t{static_cast<uint8_t>(answers[at])} << 8 |
                          size_t{static_cast<uint8_t>(answers[at + 1])};
      const std::string answer = answers.substr(at + 2, size);
      EXPECT_EQ(answer.size(), size);
      answered += IsAnswer(answer, SeeDns(Bytes(answer.begin(), answer.end())).id);
      at += 2 + size;
    }
    return answered;
  }
  // Of ten echo requests to a host, how many were answered; ping looks at each byte.
  int Ping() {
    const CommandResult ping = RunCommand({"ping", "-n", "-c", "10", "-i", "0.01", "-W", "1", "-s",
                                           "500", World::Outside(family(), 0).address.ToString()},
                                          {.network_namespace = sandbox_->guest().descriptor()});
    EXPECT_EQ(ping.output.find("wrong data"), std::string::npos) << ping.output;
    const size_t received = ping.output.find(" received");
    if (received == std::string::npos) return 0;
    return std::stoi(ping.output.substr(ping.output.rfind(' ', received - 1) + 1));
  }

  // Both ends send and receive a megabyte or two; throws what went wrong.
  void Transfer(uint64_t seed) {
    const Stream to_host{2 * seed, 1'000'000 + seed * 1'000};
    const Stream to_guest{2 * seed + 1, 2'000'000};
    auto connection = sandbox_->Connect(family());
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

  World world_;
  Faults faults_;
  const NameServer name_server_;
  std::optional<Sandbox> sandbox_;
};

// Interruptions begin before penstock does.
class InterruptedSystemCalls : public SystemCalls {
 protected:
  InterruptedSystemCalls() : SystemCalls(FaultKind::kTransient) {}
};

TEST_P(InterruptedSystemCalls, TransientFaultsAreNobodysBusiness) {
  SCOPED_TRACE("seed " + std::to_string(seed()));
  constexpr uint64_t kConnections = 6;
  EXPECT_GT(faults_.count(), 5u) << "while it was set up";
  for (uint64_t i = 1; i <= kConnections; ++i) Transfer(i);
  EXPECT_EQ(AskByUdp(100, false, kSocketLimit), 100);
  EXPECT_EQ(AskByUdp(100, true, kSocketLimit), 100);
  EXPECT_EQ(AskDnsByUdp(30, kSocketLimit), 30);
  EXPECT_EQ(AskDnsByTcp(30, kSocketLimit), 30);
  EXPECT_EQ(Ping(), 10);
  EXPECT_GT(faults_.count(), 200u);
  const Stats stats = sandbox_->ReadStats();
  EXPECT_EQ(stats["flows_established"], kConnections + 1) << "and one to DNS";
  for (const char* none :
       {"flows_reset_by_host", "flows_reset_by_guest", "flows_refused", "flows_out_of_memory",
        "frames_lost_by_link", "resets_to_guest", "udp_lost_at_socket", "udp_lost_no_socket",
        "flows_local_refused", "stream_messages_lost", "dns_servfail", "dns_failovers",
        "dns_upstream_errors", "udp_socket_errors"}) {
    EXPECT_EQ(stats[none], 0u) << none;
  }
  std::cout << faults_.count() << " faults\n";
}

TEST_P(SystemCalls, RefusalsEndWhatTheyMetAndNothingElse) {
  SCOPED_TRACE("seed " + std::to_string(seed()));
  constexpr uint64_t kOneIn = 30, kConnections = 10;
  constexpr int kAsked = 20, kStreams = 5;
  constexpr Duration kPatience = 200ms;
  auto before = sandbox_->Connect(family());
  faults_.Begin(FaultKind::kRefusal, seed(), kOneIn);
  uint64_t failed = 0;
  for (uint64_t i = 1; i <= kConnections; ++i) {
    try {
      Transfer(i);
    } catch (const std::system_error&) {
      ++failed;  // a reset, a refusal; whatever arrived was right
    }
  }
  EXPECT_GT(faults_.count(), 5u);
  const int unanswered = 3 * kAsked - AskByUdp(kAsked, false, kPatience) -
                         AskByUdp(kAsked, true, kPatience) - AskDnsByUdp(kAsked, kPatience);
  for (int i = 0; i < kStreams; ++i) {
    try {
      (void)AskDnsByTcp(3, 2s);
    } catch (const std::system_error&) {
      ++failed;
    }
  }
  const int silent = 10 - Ping();
  faults_.End();
  // Nobody spoke on this one: no call was made for it that could fail.
  before.guest.SendAll("still");
  before.guest.ShutdownSending();
  EXPECT_EQ(before.host.ReceiveToEnd(), "still");
  Transfer(1);
  EXPECT_EQ(AskByUdp(2, false, kSocketLimit), 2);
  EXPECT_EQ(AskByUdp(2, true, kSocketLimit), 2);
  EXPECT_EQ(AskDnsByTcp(2, kSocketLimit), 2);
  EXPECT_EQ(Ping(), 10);
  const Stats stats = sandbox_->ReadStats();
  const auto sum = [&](std::initializer_list<const char*> names) {
    uint64_t all = 0;
    for (const char* name : names) all += stats[name];
    return all;
  };
  EXPECT_GT(sum({"flows_refused", "flows_reset_by_host", "accept_errors", "frames_lost_by_link"}),
            0u);
  EXPECT_GE(sum({"frames_lost_by_link", "udp_lost_at_socket", "udp_lost_no_socket",
                 "udp_socket_errors", "dns_servfail"}),
            static_cast<uint64_t>(unanswered + silent))
      << stats.ToString();
  std::cout << faults_.count() << " faults, " << failed << " of " << kConnections + kStreams
            << " connections failed, " << unanswered << " of " << 3 * kAsked
            << " datagrams were lost, and " << silent << " of 10 echoes\n";
}

// ---------------------------------------------------------------- set-up

// A penstock that cannot be set up says so in one sentence and ends, and leaves nothing; one
// that can do without what it was refused works.
class SetUpUnderRefusals : public ::testing::TestWithParam<Via> {
 protected:
  // True if it became ready and ended well.
  bool Start(std::string& said) {
    Pipe ready, output;
    const std::string number = std::to_string(ready.writing_end.get());
    const std::vector<std::string> environment = faults_.environment();
    std::vector<std::string> command{"env"};
    command.insert(command.end(), environment.begin(), environment.end());
    const std::string port = std::to_string(kUdpPort);
    for (const std::string& word : std::vector<std::string>{
             ProgramPath("penstock"), "attach", "--pid", std::to_string(guest_.holder()),
             "--ready-fd", number, "--control", folder_ / "control", "--relay-threads",
             GetParam() == Via::kOneThread ? "0" : "1", "--publish", "127.0.0.1:0:80"}) {
      command.push_back(word);
    }
    Process penstock(command,
                     {.output = output.writing_end.get(), .kept = {ready.writing_end.get()}});
    ready.writing_end.Close();
    output.writing_end.Close();
    char byte = 0;
    const bool is_ready = read(ready.reading_end.get(), &byte, 1) == 1 && byte == '1';
    faults_.End();
    if (is_ready) penstock.Signal(SIGTERM);
    status_ = penstock.Wait(kSocketLimit);
    said.clear();
    std::array<char, 4'096> room;
    for (ssize_t got; (got = read(output.reading_end.get(), room.data(), room.size())) > 0;) {
      said.append(room.data(), static_cast<size_t>(got));
    }
    return is_ready;
  }

  World world_;
  Namespace guest_;
  Faults faults_;
  TemporaryFolder folder_;
  int status_ = 0;
};

TEST_P(SetUpUnderRefusals, EachIsSaidOrDoneWithout) {
  int failed = 0, ready = 0;
  // Until it is confined it does the same in both forms.
  for (uint64_t number = GetParam() == Via::kRelayThread ? 1 : 45;; ++number) {
    SCOPED_TRACE("call " + std::to_string(number));
    faults_.RefuseOnly(number);
    std::string said;
    const bool is_ready = Start(said);
    if (faults_.count() == 0) break;
    if (is_ready) {
      ++ready;
      EXPECT_EQ(status_, 0) << said;
    } else {
      ++failed;
      EXPECT_EQ(status_, 1) << said;
      EXPECT_EQ(std::ranges::count(said, '\n'), 1) << said;
      EXPECT_TRUE(said.starts_with("penstock: ")) << said;
    }
    EXPECT_FALSE(std::filesystem::exists(folder_ / "control")) << said;
  }
  EXPECT_GT(failed, 10);
  EXPECT_GT(ready, 0);
  std::cout << failed << " refusals ended it, " << ready << " did not\n";
}

INSTANTIATE_TEST_SUITE_P(E2e, SetUpUnderRefusals,
                         ::testing::Values(Via::kOneThread, Via::kRelayThread),
                         [](const auto& test) { return Name(test.param); });

std::vector<Case> Cases() {
  return {Case{Via::kOneThread, Family::kIpv4, Opener::kGuest, 1},
          Case{Via::kRelayThread, Family::kIpv6, Opener::kGuest, 2},
          Case{Via::kOneThread, Family::kIpv6, Opener::kHost, 3},
          Case{Via::kRelayThread, Family::kIpv4, Opener::kHost, 4}};
}
std::string NameOf(const ::testing::TestParamInfo<Case>& test) {
  return CaseName({{test.param.via, test.param.family, test.param.opener}, test.index});
}
INSTANTIATE_TEST_SUITE_P(E2e, SystemCalls, ::testing::ValuesIn(Cases()), NameOf);
INSTANTIATE_TEST_SUITE_P(E2e, InterruptedSystemCalls, ::testing::ValuesIn(Cases()), NameOf);

}  // namespace
}  // namespace penstock::e2e
