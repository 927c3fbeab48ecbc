// The control socket: the file at its path, and what any client may do to it. What
// requests mean is tested through the program (ports_test.cc).
#include "tools/penstock/control.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <barrier>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "tests/tools/control_clients.h"
#include "tests/tools/isolation.h"
#include "tests/tools/program.h"
#include "tools/penstock/namespaces.h"

namespace penstock::tool {
namespace {

using testing::Each;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

using namespace std::chrono_literals;

constexpr Time kStart = kControlStart;

mode_t ModeOf(const std::string& path) {
  struct stat file {};
  EXPECT_EQ(lstat(path.c_str(), &file), 0) << path;
  return file.st_mode;
}

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

// The file of a process that died without removing it.
void LeaveDeadSocket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(socket.get(), 1), 0);
}

std::string Refusal(const std::string& path) {
  const auto socket = ControlSocket::Listen(path);
  return socket.ok() ? "no refusal" : std::string(socket.status().message());
}

// ---------------------------------------------------------------- the file

class Umask final {
 public:
  explicit Umask(mode_t mask) : before_(umask(mask)) {}
  ~Umask() { umask(before_); }

 private:
  const mode_t before_;
};

// Every kind of event in a folder so far.
std::vector<uint32_t> EventsOf(int watch) {
  alignas(inotify_event) std::array<char, 4096> bytes;
  std::vector<uint32_t> events;
  const ssize_t length = read(watch, bytes.data(), bytes.size());
  for (ssize_t at = 0; at < length;) {
    const auto* event = reinterpret_cast<const inotify_event*>(bytes.data() + at);
    events.push_back(event->mask);
    at += static_cast<ssize_t>(sizeof *event + event->len);
  }
  return events;
}

TEST(ControlSocket, IsTheOwnersFromItsFirstMoment) {
  TemporaryFolder folder;
  const Umask everybody(0);
  const Descriptor watch(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  ASSERT_GE(inotify_add_watch(watch.get(), (folder / "").c_str(), IN_CREATE | IN_ATTRIB), 0);
  const auto socket = ControlSocket::Listen(folder / "c");
  ASSERT_TRUE(socket.ok()) << socket.status();
  EXPECT_EQ(ModeOf(folder / "c"), mode_t{S_IFSOCK | 0600});
  // It was made so: nobody changed it afterwards.
  const std::vector<uint32_t> events = EventsOf(watch.get());
  EXPECT_THAT(events, Not(IsEmpty()));
  EXPECT_THAT(events, Each(uint32_t{IN_CREATE}));
}

TEST(ControlSocket, LeavesNothingBehind) {
  TemporaryFolder folder;
  {
    const auto socket = ControlSocket::Listen(folder / "c");
    ASSERT_TRUE(socket.ok()) << socket.status();
    EXPECT_TRUE(Exists(folder / "c"));
    EXPECT_FALSE(Exists(folder / "c.lock"));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder / ""));
}

TEST(ControlSocket, RemovesOnlyItsOwn) {
  TemporaryFolder folder;
  {
    const auto socket = ControlSocket::Listen(folder / "c");
    ASSERT_TRUE(socket.ok()) << socket.status();
    std::filesystem::rename(folder / "c", folder / "moved");
    std::ofstream(folder / "c") << "somebody else's";
  }
  EXPECT_TRUE(Exists(folder / "c"));
}

TEST(ControlSocket, ReplacesTheFileOfADeadOne) {
  TemporaryFolder folder;
  LeaveDeadSocket(folder / "c");
  ASSERT_TRUE(Exists(folder / "c"));
  const auto socket = ControlSocket::Listen(folder / "c");
  ASSERT_TRUE(socket.ok()) << socket.status();
  EXPECT_TRUE(ConnectToControl(folder / "c", 1s).ok());
}

TEST(ControlSocket, SparesALiveOneAndWhatIsNoSocket) {
  TemporaryFolder folder;
  const auto socket = ControlSocket::Listen(folder / "c");
  ASSERT_TRUE(socket.ok()) << socket.status();
  EXPECT_THAT(Refusal(folder / "c"), HasSubstr("another penstock listens at "));
  EXPECT_TRUE(ConnectToControl(folder / "c", 1s).ok());

  std::ofstream(folder / "file") << "precious";
  EXPECT_THAT(Refusal(folder / "file"), HasSubstr("is no socket: remove it, or give another path"));
  EXPECT_EQ(ReadFile(folder / "file"), "precious");

  const std::string full = folder / std::string(kControlPathBytesMax, 'p');
  EXPECT_THAT(Refusal(full), HasSubstr("give a shorter one"));
  EXPECT_THAT(Refusal(folder / "none/c"), HasSubstr("No such file or directory"));
}

TEST(ControlSocket, TakesTheLongestPath) {
  TemporaryFolder folder;
  const std::string base = folder / "";
  const std::string path = base + std::string(kControlPathBytesMax - base.size(), 'p');
  const auto socket = ControlSocket::Listen(path);
  ASSERT_TRUE(socket.ok()) << socket.status();
  EXPECT_TRUE(ConnectToControl(path, 1s).ok());
  EXPECT_THAT(Refusal(path + "p"), HasSubstr("a path of 108 bytes"));
}

TEST(ControlSocket, OfThoseThatStartAtOnceOneListens) {
  TemporaryFolder folder;
  constexpr int kStarters = 4;
  for (int round = 0; round < 50; ++round) {
    LeaveDeadSocket(folder / "c");
    std::array<std::optional<absl::StatusOr<ControlSocket>>, kStarters> sockets;
    std::barrier start(kStarters);
    std::vector<std::thread> threads;
    for (auto& socket : sockets) {
      threads.emplace_back([&] {
        start.arrive_and_wait();
        socket.emplace(ControlSocket::Listen(folder / "c"));
      });
    }
    for (std::thread& thread : threads) thread.join();
    int listening = 0;
    for (const auto& socket : sockets) {
      listening += socket->ok() ? 1 : 0;
      if (!socket->ok()) {
        EXPECT_THAT(std::string(socket->status().message()), HasSubstr("another penstock"));
      }
    }
    EXPECT_EQ(listening, 1);
    EXPECT_TRUE(ConnectToControl(folder / "c", 1s).ok());
  }
}

TEST(ControlSocket, SaysWhyNobodyIsReached) {
  TemporaryFolder folder;
  const auto says = [](const std::string& path) {
    return std::string(ConnectToControl(path, 1s).status().message());
  };
  EXPECT_THAT(says(folder / "none"), HasSubstr("start one with --control"));
  LeaveDeadSocket(folder / "dead");
  EXPECT_THAT(says(folder / "dead"), HasSubstr("is dead"));
}

// ---------------------------------------------------------------- the end of a request

TEST(ControlObjectEnd, KnowsBracesAndStrings) {
  const auto end = [](std::string_view text) { return ObjectEnd().Find(text); };
  EXPECT_EQ(end("{}"), 2U);
  EXPECT_EQ(end(" \r\n\t{} {}"), 6U);
  EXPECT_EQ(end(R"({"a":{"b":[1,{}]}}tail)"), 18U);
  EXPECT_EQ(end(R"({"}":"\"}"})"), 11U);
  EXPECT_EQ(end(R"({"\\":1})"), 8U);
  EXPECT_EQ(end("{"), std::nullopt);
  EXPECT_EQ(end(R"({"})"), std::nullopt);
  EXPECT_EQ(end(""), std::nullopt);
}

TEST(ControlObjectEnd, GoesOnWhereItStopped) {
  const std::string text = R"( {"a\"}":["{",{"b":"\\"}],"c":{}})";
  ObjectEnd end;
  for (size_t i = 0; i + 1 < text.size(); ++i) {
    EXPECT_EQ(end.Find(text.substr(i, 1)), std::nullopt) << i;
  }
  EXPECT_EQ(end.Find(text.substr(text.size() - 1)), 1U);
}

TEST(ControlObjectEnd, SeesThatItWillBeNoObject) {
  for (const char* text : {"[", "x{", "\"", "}", "\xff"}) {
    ObjectEnd end;
    (void)end.Find(text);
    EXPECT_TRUE(end.hopeless()) << text;
  }
  ObjectEnd end;
  (void)end.Find(" {[}");
  EXPECT_FALSE(end.hopeless());
}

// ---------------------------------------------------------------- clients

TEST_F(ControlClients, OneRequestOneAnswerAndTheEnd) {
  EXPECT_FALSE(readable());
  EXPECT_EQ(server_->deadline(), kNever);
  const Descriptor client = Connect();
  Send(client, " {\"a\":\"}\"}\n{\"b\":2}");
  EXPECT_TRUE(readable());
  Serve();
  const Received received = Receive(client);
  EXPECT_EQ(received.text, "[ {\"a\":\"}\"}]\n");
  EXPECT_TRUE(received.ended);
  EXPECT_EQ(server_->client_count(), 0U);
  EXPECT_EQ(server_->deadline(), kNever);
  EXPECT_FALSE(readable());
}

TEST_F(ControlClients, ARequestMayComeInPieces) {
  const Descriptor client = Connect();
  for (const char c : std::string("{\"a\":{}")) {
    Send(client, {&c, 1});
    Serve();
    EXPECT_EQ(server_->client_count(), 1U);
    EXPECT_FALSE(readable());
  }
  Send(client, "}");
  Serve();
  EXPECT_EQ(Receive(client).text, "[{\"a\":{}}]\n");
}

TEST_F(ControlClients, WhatIsNoObjectOrNoneYetAtTheEndIsTold) {
  const Descriptor no_object = Connect();
  const Descriptor half = Connect();
  const Descriptor nothing = Connect();
  Send(no_object, "ports-list\n");
  Send(half, "{\"execute\":");
  shutdown(half.get(), SHUT_WR);
  shutdown(nothing.get(), SHUT_WR);
  Serve();
  EXPECT_THAT(ErrorOf(no_object), HasSubstr("one JSON object"));
  EXPECT_THAT(ErrorOf(half), HasSubstr("ended early"));
  EXPECT_THAT(ErrorOf(nothing), HasSubstr("ended early"));
  EXPECT_EQ(requests_, 0);
}

// Longer than a socket holds: in pieces, each of which is read.
TEST_F(ControlClients, ARequestHasAtMost8MiB) {
  const auto send_all = [this](const Descriptor& client, std::string_view text) {
    for (constexpr size_t kPiece = 65'536; !text.empty(); text.remove_prefix(kPiece)) {
      if (text.size() <= kPiece) return Send(client, text);
      Send(client, text.substr(0, kPiece));
      Serve();
    }
  };
  const std::string start = "{\"a\":\"";
  const std::string longest =
      start + std::string(kControlRequestBytesMax - start.size() - 2, 'x') + "\"}";
  const Descriptor client = Connect();
  send_all(client, longest);
  Received all;
  while (!all.ended && server_->client_count() == 1) {
    Serve();
    const Received more = Receive(client);
    all.text += more.text;
    all.ended = more.ended;
  }
  all.text += Receive(client).text;
  EXPECT_EQ(all.text.size(), longest.size() + 3);

  const Descriptor over = Connect();
  send_all(over, start + std::string(kControlRequestBytesMax - start.size(), 'x'));
  Serve();
  EXPECT_EQ(server_->client_count(), 1U);
  Send(over, "x");
  Serve();
  EXPECT_THAT(ErrorOf(over), HasSubstr("too long"));
  EXPECT_EQ(server_->client_count(), 0U);
  EXPECT_EQ(requests_, 1);
}

TEST_F(ControlClients, ASilentOneIsToldAndLeftAfterFiveSeconds) {
  const Descriptor client = Connect();
  Send(client, "{");
  Serve();
  EXPECT_EQ(server_->deadline(), kStart + 5s);
  Serve(kStart + 4999ms);
  EXPECT_EQ(server_->client_count(), 1U);
  Serve(kStart + 5s);
  EXPECT_THAT(ErrorOf(client), HasSubstr("did not come within 5 s"));
  EXPECT_EQ(server_->client_count(), 0U);
  EXPECT_EQ(server_->deadline(), kNever);
}

TEST_F(ControlClients, OneThatDoesNotReadIsLeftAfterFiveSeconds) {
  padding_.assign(8 << 20, 'x');
  const Descriptor client = Connect();
  Send(client, "{}");
  Serve();
  EXPECT_EQ(server_->client_count(), 1U);
  EXPECT_FALSE(readable()) << "it is waited for, not asked for again and again";
  Serve(kStart + 5s);
  EXPECT_EQ(server_->client_count(), 0U);
  EXPECT_LT(Receive(client).text.size(), padding_.size());
}

TEST_F(ControlClients, ALongAnswerGoesInPieces) {
  padding_.assign(8 << 20, 'x');
  const Descriptor client = Connect();
  Send(client, "{}");
  Received all;
  for (int i = 0; i < 10'000 && !all.ended; ++i) {
    Serve();
    const Received more = Receive(client);
    all.text += more.text;
    all.ended = more.ended;
  }
  EXPECT_EQ(all.text, "[{}]\n" + padding_);
  EXPECT_EQ(requests_, 1);
}

TEST_F(ControlClients, ThoseThatStallHoldNobodyUp) {
  std::vector<Descriptor> stalled;
  for (size_t i = 0; i < kControlClientCountMax; ++i) stalled.push_back(Connect());
  Serve();
  EXPECT_EQ(server_->client_count(), kControlClientCountMax);
  const Descriptor client = Connect();
  Send(client, "{}");
  Serve(kStart + 1s);
  EXPECT_EQ(Receive(client).text, "[{}]\n");
  EXPECT_THAT(ErrorOf(stalled[0]), HasSubstr("too many clients"));
  EXPECT_EQ(server_->client_count(), kControlClientCountMax - 1);
  EXPECT_FALSE(Receive(stalled[1]).ended);
}

TEST_F(ControlClients, OneThatLeavesIsForgotten) {
  for (const char* request : {"", "{", "{}"}) {
    padding_.assign(8 << 20, 'x');
    Descriptor client = Connect();
    if (*request != '\0') Send(client, request);
    client.Reset();
    Serve();
    EXPECT_EQ(server_->client_count(), 0U) << request;
  }
  EXPECT_FALSE(readable());
}

TEST_F(ControlClients, WithoutDescriptorsTheyWaitAndNobodySpins) {
  Serve();  // a sanitizer that sees this object for the first time needs descriptors
  const Descriptor client = Connect();
  Send(client, "{}");
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  const Descriptor next(dup(client.get()));  // the lowest number that is free comes after it
  const rlimit none{.rlim_cur = rlim_t(next.get()), .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  Serve();
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_EQ(server_->client_count(), 0U);
  EXPECT_FALSE(readable());
  EXPECT_EQ(server_->deadline(), kStart + 100ms);
  Serve(kStart + 50ms);
  EXPECT_EQ(requests_, 0);
  Serve(kStart + 100ms);
  EXPECT_EQ(Receive(client).text, "[{}]\n");
  EXPECT_EQ(server_->deadline(), kNever);
}

TEST(ControlUsers, AreTheOwnerAndRoot) {
  EXPECT_TRUE(MayControl(1000, 1000));
  EXPECT_TRUE(MayControl(0, 1000));
  EXPECT_TRUE(MayControl(0, 0));
  EXPECT_FALSE(MayControl(1001, 1000));
  EXPECT_FALSE(MayControl(1000, 0));
}

// Runs in a child that is somebody else, where the tests run as root; everybody has then
// been let to the file, so that only the kernel's word for who it is stands between.
TEST_F(ControlClients, SomebodyElseIsRefused) {
  if (geteuid() != 0) {
    // No second user is to be had; what the file itself keeps out is all there is to see.
    EXPECT_EQ(ModeOf(path()), mode_t{S_IFSOCK | 0600});
    return;
  }
  ASSERT_EQ(chmod(path().c_str(), 0666), 0);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const Descriptor from_child(ends[0]);
  Descriptor to_parent(ends[1]);
  const pid_t child = ForkInto(0);
  ASSERT_GE(child, 0);
  if (child == 0) {
    DropRoot();
    const Descriptor client = Connect();
    Send(client, "{}");
    (void)!write(to_parent.get(), "1", 1);
    std::array<char, 1024> answer;
    const ssize_t length = recv(client.get(), answer.data(), answer.size(), 0);
    const std::string text(answer.data(), size_t(std::max<ssize_t>(length, 0)));
    _exit(text.find("only the user who started") != std::string::npos ? 0 : 1);
  }
  to_parent.Reset();
  char ready = 0;
  ASSERT_EQ(read(from_child.get(), &ready, 1), 1);
  Serve();
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(requests_, 0);
}

}  // namespace
}  // namespace penstock::tool
