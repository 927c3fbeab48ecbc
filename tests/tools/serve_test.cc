// `penstock serve`: what virtual machines find at its sockets, how they come and go, and what
// is wrong with the place that it was given.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "tests/tools/isolation.h"
#include "tests/tools/peer.h"
#include "tests/tools/program.h"
#include "tests/tools/vmm.h"

namespace penstock::tool {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

const Bytes kHello{'V', 'F', 'K', 'T'};

// net-echo, and its ports.
class Echo final {
 public:
  Echo() : program_({"net-echo", "--tcp", "0", "--udp", "0"}), tcp(Port("TCP")), udp(Port("UDP")) {}

 private:
  uint16_t Port(const std::string& protocol) {
    return static_cast<uint16_t>(
        std::stoi(program_.AwaitLine("net-echo: listening on " + protocol + " port ")));
  }
  Program program_;

 public:
  const uint16_t tcp, udp;
};

// Everything that goes through a stack.
void ExpectNetwork(Vmm& vmm, const Echo& echo) {
  vmm.MeetGateway();
  EXPECT_EQ(vmm.AskByUdp(echo.udp, "by udp"), "by udp");
  EXPECT_EQ(vmm.AskByTcp(echo.tcp, "by tcp"), "by tcp");
}

std::vector<std::string> ServeWords(std::vector<std::string> options) {
  options.insert(options.begin(), {"penstock", "serve", "--host-loopback"});
  return options;
}

// At a path in a folder of its own, once it says that it listens. Options that start with "@"
// are files there.
class Served final {
 public:
  explicit Served(const std::string& kind, std::vector<std::string> options = {},
                  std::function<void()> setup = {}) {
    chmod((folder_ / ".").c_str(), 0777);  // for whoever `setup` becomes
    for (std::string& option : options) {
      if (option.starts_with("@")) option = folder_ / option.substr(1);
    }
    options.insert(options.begin(), {kind, path()});
    program_.emplace(ServeWords(std::move(options)), std::move(setup));
    EXPECT_EQ(program_->AwaitLine("penstock: listening at "), path());
  }
  [[nodiscard]] std::string path() const { return folder_ / "vm"; }
  [[nodiscard]] TemporaryFolder& folder() { return folder_; }
  Program* operator->() { return &*program_; }
  void AwaitCome(int guest = 1) {
    (void)program_->AwaitNextLine("penstock: guest " + std::to_string(guest) + " has come");
  }
  void AwaitGone(int guest = 1) {
    (void)program_->AwaitNextLine("penstock: guest " + std::to_string(guest) + " has gone");
  }
  // Of its guests.
  [[nodiscard]] std::vector<pid_t> Processes() const {
    const std::string process = "/proc/" + std::to_string(program_->pid());
    std::istringstream children(
        ReadFile(process + "/task/" + std::to_string(program_->pid()) + "/children"));
    std::vector<pid_t> all;
    for (pid_t child; children >> child;) all.push_back(child);
    return all;
  }
  Outcome End() {
    program_->Kill(SIGTERM);
    Outcome outcome = program_->Wait();
    EXPECT_EQ(outcome.status, 0);
    EXPECT_FALSE(std::filesystem::exists(path()));
    return outcome;
  }

 private:
  TemporaryFolder folder_;
  std::optional<Program> program_;
};

struct ServeCase {
  const char* name;
  const char* kind;
  const char* relay_threads;
  bool ordinary = false;  // user

  friend void PrintTo(const ServeCase& chosen, std::ostream* out) { *out << chosen.name; }
};

class Serve : public testing::TestWithParam<ServeCase> {
 protected:
  static std::function<void()> AsUser() {
    return GetParam().ordinary ? DropRoot : std::function<void()>();
  }
  static Vmm NewVmm(Served& served) {
    return GetParam().kind == std::string("--stream")
               ? Vmm::ToStream(served.path())
               : Vmm::ToDatagrams(served.path(), served.folder() / "own");
  }
};

INSTANTIATE_TEST_SUITE_P(All, Serve,
                         testing::Values(ServeCase{"Stream", "--stream", "0"},
                                         ServeCase{"StreamRelayThread", "--stream", "1"},
                                         ServeCase{"Datagrams", "--dgram", "0"},
                                         ServeCase{"DatagramsRelayThread", "--dgram", "1"},
                                         ServeCase{"StreamOrdinaryUser", "--stream", "0", true}),
                         [](const auto& test) { return test.param.name; });

// All of it under the list of system calls.
TEST_P(Serve, IsTheNetworkOfAVirtualMachine) {
  InOwnNamespaces([] {
    const Echo echo;
    Served served(GetParam().kind, {"--relay-threads", GetParam().relay_threads}, AsUser());
    struct stat file {};
    ASSERT_EQ(stat(served.path().c_str(), &file), 0);
    EXPECT_EQ(file.st_mode & 0777, 0600u);
    Vmm vmm = NewVmm(served);
    ExpectNetwork(vmm, echo);
    served.AwaitCome();
    ASSERT_EQ(served.Processes().size(), 1u);
    const std::string status =
        ReadFile("/proc/" + std::to_string(served.Processes()[0]) + "/status");
    EXPECT_THAT(status, AllOf(HasSubstr("\nSeccomp:\t2"), HasSubstr("\nNoNewPrivs:\t1")));
    const Outcome outcome = served.End();
    EXPECT_EQ(outcome.errors, "");
    vmm.Leave();
  });
}

// Another machine, with another MAC: the stack that fixed the first one's is gone, and so is all
// that was open.
TEST_P(Serve, TheNextVmmFindsANetworkInWhichNothingHappened) {
  InOwnNamespaces([] {
    const Echo echo;
    Served served(GetParam().kind,
                  {"--relay-threads", GetParam().relay_threads, "--stats-file", "@stats"},
                  AsUser());
    for (uint8_t i = 1; i <= 3; ++i) {
      Vmm vmm = NewVmm(served);
      vmm.mac[5] = i;
      ExpectNetwork(vmm, echo);
      served.AwaitCome();
      vmm.Leave();
      // Datagrams have no end, and this process goes on: it shows when something is sent to it.
      if (GetParam().kind == std::string("--dgram")) kill(served.Processes()[0], SIGTERM);
      served.AwaitGone();
      const std::string stats = served.folder().AwaitMovedFile("stats");
      EXPECT_THAT(stats, AllOf(HasSubstr("flows_established 1\n"), HasSubstr("flows_open 1\n"),
                               HasSubstr("link_framing_errors 0\n")));
    }
    (void)served.End();
  });
}

TEST(ServeStream, ALieEndsTheConnectionAndNobodyElse) {
  InOwnNamespaces([] {
    const Echo echo;
    Served served("--stream", {"--stats-file", "@stats"});
    for (const Bytes& lie : {Bytes(4), Bytes(4, 0xff)}) {
      Vmm vmm = Vmm::ToStream(served.path());
      ExpectNetwork(vmm, echo);
      vmm.SendRaw(lie);
      vmm.AwaitEnd();
      (void)served->AwaitErrorLine("penstock: the VMM sent a frame's length that is none");
      served.AwaitGone();
      EXPECT_THAT(served.folder().AwaitMovedFile("stats"), HasSubstr("link_framing_errors 1\n"));
    }
    (void)served.End();
  });
}

TEST(ServeStream, HasSeveralGuestsThatKnowNothingOfEachOther) {
  InOwnNamespaces([] {
    const Echo echo;
    Served served("--stream", {"--guests", "2", "--control", "@c", "-p", "0:7"});
    Vmm first = Vmm::ToStream(served.path());
    served.AwaitCome(1);
    Vmm second = Vmm::ToStream(served.path());
    served.AwaitCome(2);
    // The same addresses, MAC and ports.
    ExpectNetwork(first, echo);
    ExpectNetwork(second, echo);
    for (const char* of : {"c.1", "c.2"}) {
      const Outcome flows = RunProgram({"penstock", "flows", "--control", served.folder() / of});
      EXPECT_THAT(flows.output, HasSubstr("10.0.2.15:40000")) << flows.errors;
    }
    Vmm third = Vmm::ToStream(served.path());
    (void)served->AwaitErrorLine("penstock: a VMM waits until one of 2 guests leaves");
    first.Leave();
    served.AwaitGone(1);
    served.AwaitCome(1);
    ExpectNetwork(third, echo);
    second.MeetGateway();
    const Outcome outcome = served.End();
    EXPECT_THAT(outcome.errors, AllOf(HasSubstr("penstock: guest 1: published 127.0.0.1:"),
                                      HasSubstr("penstock: guest 2: published 127.0.0.1:")));
    EXPECT_FALSE(std::filesystem::exists(served.folder() / "c.1"));
  });
}

TEST(ServeStream, IsTheSameNetworkHoweverLongItLooksForEvents) {
  for (const char* microseconds : {"0", "10000"}) {
    InOwnNamespaces([microseconds] {
      const Echo echo;
      Served served("--stream", {"--relay-threads", "0", "--busy-poll", microseconds});
      Vmm vmm = Vmm::ToStream(served.path());
      ExpectNetwork(vmm, echo);
      served.AwaitCome();
      EXPECT_EQ(served.End().errors, "");
      vmm.Leave();
    });
  }
}

TEST(ServeStream, PublishesForEachGuest) {
  InOwnNamespaces([] {
    Served served("--stream", {"-p", "8080:7"});
    EXPECT_TRUE(IsRefused(AF_INET, 8080)) << "nobody is there";
    for (int i = 0; i < 2; ++i) {
      Vmm vmm = Vmm::ToStream(served.path());
      served.AwaitCome();
      vmm.MeetGateway();
      const Peer client(AF_INET, SOCK_STREAM, 8080);
      const Bytes asked = vmm.Receive([](const Bytes& frame) {
        return frame.size() >= 54 && Get16(frame, 12) == 0x0800 && frame[kIpAt + 9] == 6 &&
               frame[kTransport4At + 13] == kTcpSyn;
      });
      EXPECT_EQ(Get16(asked, kTransport4At + 2), 7);
      vmm.Leave();
      EXPECT_THROW((void)client.ReceiveAll(), std::runtime_error) << "reset";
      served.AwaitGone();
    }
    (void)served.End();
  });
}

TEST(ServeStream, GoesOnWithoutAProcessThatWasKilled) {
  InOwnNamespaces([] {
    const Echo echo;
    Served served("--stream");
    Vmm vmm = Vmm::ToStream(served.path());
    ExpectNetwork(vmm, echo);
    served.AwaitCome();
    kill(served.Processes()[0], SIGKILL);
    vmm.AwaitEnd();
    (void)served->AwaitErrorLine("penstock: the process of guest 1 was ended by signal 9");
    Vmm next = Vmm::ToStream(served.path());
    ExpectNetwork(next, echo);
    (void)served.End();
  });
}

// As one that somebody else has taken over might.
TEST(ServeStream, EndsAGuestThatDoesNotListen) {
  InOwnNamespaces([] {
    Served served("--stream");
    Vmm vmm = Vmm::ToStream(served.path());
    vmm.MeetGateway();
    served.AwaitCome();
    kill(served.Processes()[0], SIGSTOP);
    const Outcome outcome = served.End();
    EXPECT_THAT(outcome.errors, HasSubstr("the process of guest 1 was ended by signal 9"));
    vmm.AwaitEnd();
  });
}

TEST(ServeStream, TakesItsGuestsAlong) {
  InOwnNamespaces([] {
    Served served("--stream");
    Vmm vmm = Vmm::ToStream(served.path());
    vmm.MeetGateway();
    served->Kill(SIGKILL);
    vmm.AwaitEnd();
    (void)served->Wait();
    EXPECT_TRUE(std::filesystem::exists(served.path()));
    Program next(ServeWords({"--stream", served.path()}));
    EXPECT_EQ(next.AwaitLine("penstock: listening at "), served.path()) << "a dead socket";
    Vmm again = Vmm::ToStream(served.path());
    again.MeetGateway();
  });
}

TEST(ServeStream, ConnectsToAVmmThatListens) {
  InOwnNamespaces([] {
    const Echo echo;
    const TemporaryFolder folder;
    std::optional<Program> penstock;
    Vmm vmm = Vmm::AtStream(folder / "vm", [&] {
      penstock.emplace(ServeWords({"--stream", folder / "vm", "--connect"}));
    });
    ExpectNetwork(vmm, echo);
    (void)penstock->AwaitLine("penstock: serving " + (folder / "vm"));
    vmm.Leave();
    EXPECT_EQ(penstock->Wait().status, 0);
    const Outcome nobody = RunProgram(ServeWords({"--stream", folder / "vm", "--connect"}));
    EXPECT_EQ(nobody.status, 1);
    EXPECT_THAT(nobody.errors, AllOf(StartsWith("penstock: cannot connect to "),
                                     HasSubstr("start the VMM first")));
  });
}

// ---------------------------------------------------------------- datagrams

TEST(ServeDatagrams, GreetingsAreHeardAndTheEndOfAProcessIsSeen) {
  InOwnNamespaces([] {
    const Echo echo;
    Served served("--dgram");
    for (int i = 0; i < 2; ++i) {
      const pid_t child = fork();
      if (child == 0) {
        Vmm vmm = Vmm::ToDatagrams(served.path(), served.folder() / "own");
        vmm.SendRaw(kHello);
        vmm.MeetGateway();
        _exit(vmm.AskByUdp(echo.udp, "hello") == "hello" ? 0 : 1);
      }
      served.AwaitCome();
      served.AwaitGone();
      ASSERT_TRUE(AwaitEnd(child));
    }
    (void)served.End();
  });
}

TEST(ServeDatagrams, WhoHasNoAddressIsTold) {
  InOwnNamespaces([] {
    Served served("--dgram");
    const pid_t child = fork();
    if (child == 0) {
      const Descriptor socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
      served.path().copy(address.sun_path, sizeof address.sun_path - 1);
      _exit(sendto(socket.get(), "hello", 5, 0, reinterpret_cast<const sockaddr*>(&address),
                   sizeof address) == 5
                ? 0
                : 1);
    }
    (void)served->AwaitErrorLine("penstock: a VMM sends from a socket without an address");
    ASSERT_TRUE(AwaitEnd(child));
    Vmm vmm = Vmm::ToDatagrams(served.path(), served.folder() / "own");
    vmm.MeetGateway();
    (void)served.End();
  });
}

// ---------------------------------------------------------------- passed descriptors

class ServePassed : public testing::TestWithParam<int> {};

INSTANTIATE_TEST_SUITE_P(All, ServePassed, testing::Values(SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET),
                         [](const auto& test) {
                           return test.param == SOCK_STREAM  ? "Stream"
                                  : test.param == SOCK_DGRAM ? "Datagram"
                                                             : "Seqpacket";
                         });

TEST_P(ServePassed, IsServedUntilTheOtherEndIsClosed) {
  InOwnNamespaces([] {
    const Echo echo;
    Descriptor passed;
    Vmm vmm(GetParam(), passed);
    constexpr int kPassed = 78;
    Program penstock(ServeWords({"--fd", std::to_string(kPassed)}), [&] {
      if (dup2(passed.get(), kPassed) != kPassed) throw std::runtime_error("dup2");
    });
    (void)penstock.AwaitLine("penstock: serving descriptor 78");
    passed.Reset();
    ExpectNetwork(vmm, echo);
    vmm.Leave();
    if (GetParam() == SOCK_DGRAM) penstock.Kill(SIGTERM);  // there is no end to see
    const Outcome outcome = penstock.Wait();
    EXPECT_EQ(outcome.status, 0);
    EXPECT_EQ(outcome.errors, "");
  });
}

TEST(ServePassed, ALieIsItsEnd) {
  InOwnNamespaces([] {
    Descriptor passed;
    Vmm vmm(SOCK_STREAM, passed);
    Program penstock(ServeWords({"--fd", "78"}), [&] {
      if (dup2(passed.get(), 78) != 78) throw std::runtime_error("dup2");
    });
    vmm.SendRaw({0, 1, 0, 65});
    const Outcome outcome = penstock.Wait();
    EXPECT_EQ(outcome.status, 1);
    EXPECT_THAT(outcome.errors, StartsWith("penstock: the VMM sent a frame's length that is none"));
  });
}

// ---------------------------------------------------------------- refusals

TEST(ServeRefuses, WhatIsAtItsPath) {
  InOwnNamespaces([] {
    for (const char* kind : {"--stream", "--dgram"}) {
      Served first(kind);
      const Outcome second = RunProgram(ServeWords({kind, first.path()}));
      EXPECT_EQ(second.status, 1);
      EXPECT_EQ(second.output, "");
      EXPECT_THAT(second.errors, AllOf(StartsWith("penstock: another penstock listens at "),
                                       HasSubstr(first.path())));
      Vmm vmm = kind == std::string("--stream")
                    ? Vmm::ToStream(first.path())
                    : Vmm::ToDatagrams(first.path(), first.folder() / "own");
      vmm.MeetGateway();
      EXPECT_EQ(RunProgram(ServeWords({kind, first.path()})).status, 1) << "while it has a guest";
      std::ofstream(first.folder() / "file") << "precious";
      const Outcome file = RunProgram(ServeWords({kind, first.folder() / "file"}));
      EXPECT_EQ(file.status, 1);
      EXPECT_THAT(file.errors, HasSubstr("is there and is no socket"));
      EXPECT_EQ(ReadFile(first.folder() / "file"), "precious");
      (void)first.End();
    }
  });
}

TEST(ServeRefuses, WhatNoGuestCouldBeServedWith) {
  InOwnNamespaces([] {
    const TemporaryFolder folder;
    Program other({"net-echo", "--tcp", "8080", "--bind", "127.0.0.1"});
    (void)other.AwaitLine("net-echo: listening");
    const Outcome outcome = RunProgram(ServeWords({"--stream", folder / "vm", "-p", "8080:7"}));
    EXPECT_EQ(outcome.status, 1);
    EXPECT_EQ(outcome.output, "");
    EXPECT_THAT(outcome.errors, AllOf(StartsWith("penstock: "), HasSubstr("127.0.0.1:8080")));
    EXPECT_FALSE(std::filesystem::exists(folder / "vm"));
  });
}

}  // namespace
}  // namespace penstock::tool
