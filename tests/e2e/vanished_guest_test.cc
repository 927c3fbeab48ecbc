// A guest that is gone from one moment to the next, in the middle of transfers both ways: all
// its processes are killed, or the one that penstock was attached to.

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include "tests/support/places.h"
#include "tests/support/sandbox.h"

namespace penstock::e2e {
namespace {

constexpr uint64_t kEndless = uint64_t{1} << 40;
constexpr size_t kSome = 1'000'000;
constexpr int kLimitMs = 10'000;

std::filesystem::path NetworkOf(const std::string& process) {
  std::error_code gone;
  return std::filesystem::read_symlink("/proc/" + process + "/ns/net", gone);
}

// Of `process` in another network than the test's, children before grandchildren.
std::vector<pid_t> DescendantsInside(pid_t process) {
  std::vector<pid_t> all{process}, inside;
  const std::filesystem::path host = NetworkOf("self");
  for (size_t i = 0; i < all.size(); ++i) {
    const std::string number = std::to_string(all[i]);
    std::ifstream children("/proc/" + number + "/task/" + number + "/children");
    for (pid_t child; children >> child;) all.push_back(child);
    const std::filesystem::path network = NetworkOf(number);
    if (!network.empty() && network != host) inside.push_back(all[i]);
  }
  return inside;
}

// Reads until the end, true, or an error, false.
bool SeesAnEnd(TcpSocket& socket) {
  std::vector<uint8_t> room(65'536);
  try {
    while (socket.Receive(room) > 0) {
    }
    return true;
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code().value(), ECONNRESET) << error.what();
    return false;
  }
}

class VanishedGuest : public ::testing::TestWithParam<Via> {
 protected:
  World world_;
};

INSTANTIATE_TEST_SUITE_P(E2e, VanishedGuest, ::testing::Values(Via::kOneThread, Via::kRelayThread),
                         [](const auto& test) { return Name(test.param); });

TEST_P(VanishedGuest, KilledInRunItEndsEverything) {
  TcpListener listener;
  const std::string host = "/dev/tcp/10.0.2.2/" + std::to_string(listener.port());
  const std::string script = "exec 3<>" + host + "; exec 4<>" + host +
                             "; cat /dev/zero >&3 & echo >&4; cat <&4 >/dev/null";
  TemporaryFolder folder;
  Process penstock({ProgramPath("penstock"), "run", "--host-loopback", "--relay-threads",
                    GetParam() == Via::kOneThread ? "0" : "1", "--control", folder / "control",
                    "--", "bash", "-c", script});
  TcpSocket from_guest = listener.Accept(), to_guest = listener.Accept();
  std::vector<uint8_t> some(kSome);
  ASSERT_GT(from_guest.Receive(some, MSG_WAITALL), 0u);
  ASSERT_EQ(to_guest.Receive({some.data(), 1}), 1u);
  SendStream(to_guest, {1, kSome});
  auto sender = Concurrently([&] { SendStream(to_guest, {2, kEndless}); });

  const std::vector<pid_t> inside = DescendantsInside(penstock.pid());
  ASSERT_GE(inside.size(), 3u) << "bash and two of cat";
  std::vector<Descriptor> ends;
  for (const pid_t process : inside) {
    ends.emplace_back(static_cast<int>(syscall(SYS_pidfd_open, process, 0)));
    kill(process, SIGKILL);
  }
  EXPECT_EQ(penstock.Wait(kSocketLimit), 128 + SIGKILL);
  // Its kernel may have said the end of what its processes wrote.
  (void)SeesAnEnd(from_guest);
  EXPECT_THROW(sender.get(), std::system_error);
  for (const Descriptor& end : ends) {
    pollfd ended{.fd = end.get(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(poll(&ended, 1, kLimitMs), 1);
  }
  EXPECT_FALSE(std::filesystem::exists(folder / "control"));
}

TEST_P(VanishedGuest, WhoseProcessEndsIsNoWholeTransfer) {
  Sandbox sandbox({.via = GetParam()});
  auto [uploader, from_guest] = sandbox.Connect(Family::kIpv4);
  auto [downloader, to_guest] = sandbox.Connect(Family::kIpv6);
  auto guest = Concurrently([&, &socket = uploader] { SendStream(socket, {1, kEndless}); });
  auto host = Concurrently([&, &socket = to_guest] { SendStream(socket, {2, kEndless}); });
  std::vector<uint8_t> some(kSome);
  ASSERT_GT(from_guest.Receive(some, MSG_WAITALL), 0u);
  ASSERT_GT(downloader.Receive(some, MSG_WAITALL), 0u);
  sandbox.EndGuest();
  EXPECT_FALSE(SeesAnEnd(from_guest)) << "a part looks like the whole";
  EXPECT_THROW(host.get(), std::system_error);
  sandbox.AwaitEnd();
  // Nobody answers the guest's own kernel any more.
  shutdown(uploader.descriptor(), SHUT_RDWR);
  EXPECT_THROW(guest.get(), std::system_error);
}

}  // namespace
}  // namespace penstock::e2e
