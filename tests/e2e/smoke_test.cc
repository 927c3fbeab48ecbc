// The short way through everything, small enough for the thread sanitizer: a rootless
// `penstock run`, and an attached guest whose connections transfer, half-close and
// reset.

#include <fcntl.h>
#include <grp.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "tests/support/places.h"
#include "tests/support/sandbox.h"

namespace penstock::e2e {
namespace {

class SandboxSmoke : public SandboxTest {};

INSTANTIATE_TEST_SUITE_P(E2e, SandboxSmoke, ::testing::ValuesIn(BothOpeners(PenstockCases())),
                         CaseName);

TEST_P(SandboxSmoke, TransfersHalfClosesAndResets) {
  constexpr int kConnections = 16;
  std::vector<std::future<void>> sides;
  for (int i = 0; i < kConnections; ++i) {
    uint64_t seed = static_cast<uint64_t>(i);
    Stream to_host{2 * seed, 100'000 * seed};
    Stream to_guest{2 * seed + 1, 1'000'000};
    auto connection = std::make_shared<Sandbox::Connection>(sandbox_.Connect(family()));
    sides.push_back(Concurrently([=] {
      Perform(connection->guest, {.send = to_host, .receive = to_guest, .end_last = i % 2 == 0});
    }));
    sides.push_back(Concurrently([=] {
      Perform(connection->host, {.send = to_guest, .receive = to_host, .end_last = i % 2 != 0});
    }));
  }
  for (auto& side : sides) side.get();

  auto [guest, host] = sandbox_.Connect(family());
  ASSERT_GT(SendUntilBlocked(host, 1, 0, std::chrono::milliseconds(200)), 0u);
  guest.Reset();
  EXPECT_THROW(SendStream(host, {1, uint64_t{1} << 30}), std::system_error);
  EXPECT_EQ(sandbox_.ReadStats()["flows_reset_by_guest"], 1u);
}

// One request, one answer, then the end.
void ServePage(TcpListener& listener, const std::string& page) {
  TcpSocket socket = listener.Accept();
  std::string request;
  std::array<uint8_t, 1024> buffer{};
  while (!request.ends_with("\r\n\r\n")) {
    size_t size = socket.Receive(buffer);
    if (size == 0) throw std::runtime_error("the request was cut off: " + request);
    request.append(reinterpret_cast<char*>(buffer.data()), size);
  }
  socket.SendAll("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(page.size()) +
                 "\r\nConnection: close\r\n\r\n" + page);
}

// In a child, between fork and exec: /dev/net/tun as every distribution has it,
// whatever this machine's says, in a mount namespace of the child's own; then an
// ordinary user.
struct BecomeOrdinaryUser {
  std::string device_folder;
  std::string device;

  void operator()() const {
    constexpr uid_t kNobody = 65534;
    bool done =
        unshare(CLONE_NEWNS) == 0 &&
        mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
        mount("tmpfs", device_folder.c_str(), "tmpfs", 0, nullptr) == 0 &&
        mknod(device.c_str(), S_IFCHR, makedev(10, 200)) == 0 && chmod(device.c_str(), 0666) == 0 &&
        mount(device.c_str(), "/dev/net/tun", nullptr, MS_BIND, nullptr) == 0 && chdir("/") == 0 &&
        setgroups(0, nullptr) == 0 && setresgid(kNobody, kNobody, kNobody) == 0 &&
        setresuid(kNobody, kNobody, kNobody) == 0;
    if (!done) _exit(126);
  }
};

// True if root here is root of the machine, and not an ordinary user's namespace.
bool IsRealRoot() { return ReadFile("/proc/self/uid_map").find("4294967295") != std::string::npos; }

class RootlessSmoke : public ::testing::TestWithParam<Family> {
 protected:
  World world_;
};

INSTANTIATE_TEST_SUITE_P(E2e, RootlessSmoke, ::testing::Values(Family::kIpv4, Family::kIpv6),
                         [](const auto& test) { return Name(test.param); });

TEST_P(RootlessSmoke, CurlFetchesAPageFromTheHost) {
  TemporaryFolder folder;
  // Where the other user can reach it: the build tree may be in somebody's home.
  std::string program = folder / "penstock";
  std::filesystem::copy_file(ProgramPath("penstock"), program);
  std::filesystem::create_directory(folder / "dev");
  std::filesystem::permissions(folder / "", std::filesystem::perms(0755));

  TcpListener listener;
  std::string page(100'000, 'x');
  auto server = Concurrently([&] { ServePage(listener, page); });

  std::vector<std::string> command = {program, "run", "--host-loopback"};
  ProcessOptions options;
  if (IsRealRoot()) {
    options.before_exec = BecomeOrdinaryUser{folder / "dev", folder / "dev/tun"};
  } else {
    command.push_back("--user-namespace");
  }
  std::string address = Sandbox::Gateway(GetParam(), listener.port()).ToString();
  for (const char* word : {"--", "curl", "--disable", "--silent", "--show-error", "--max-time",
                           "20", "--noproxy", "*"}) {
    command.push_back(word);
  }
  command.push_back("http://" + address + "/");
  CommandResult result = RunCommand(command, options);
  EXPECT_EQ(result.status, 0) << result.output;
  EXPECT_TRUE(result.output == page) << result.output.substr(0, 2000);
  server.get();
}

}  // namespace
}  // namespace penstock::e2e
