// Published ports as a user has them: --publish, and `penstock ports` on a penstock that
// runs, with real connections to a server in the sandbox. Each case runs in a network
// namespace of its own, so that it may use any port.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/places.h"
#include "tests/tools/isolation.h"
#include "tests/tools/peer.h"
#include "tests/tools/program.h"
#include "tools/penstock/control_socket.h"

namespace penstock::tool {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

using Words = std::vector<std::string>;

const std::string kEcho = ProgramPath("net-echo");

// Both ways to drive the stack.
class Ports : public testing::TestWithParam<const char*> {
 protected:
  static void InOwnNetwork(const std::function<void()>& body) { InOwnNamespaces(body); }

  [[nodiscard]] std::string control() const { return folder_ / "c"; }

  // `penstock run OPTIONS -- net-echo --tcp 7`.
  [[nodiscard]] static Words EchoWords(const Words& options) {
    Words words{"penstock", "run", "--relay-threads", GetParam()};
    words.insert(words.end(), options.begin(), options.end());
    words.insert(words.end(), {"--", kEcho, "--tcp", "7"});
    return words;
  }
  static void AwaitEcho(Program& penstock) {
    (void)penstock.AwaitLine("net-echo: listening on TCP port 7");
  }
  static void End(Program& penstock) {
    penstock.Kill(SIGTERM);
    EXPECT_EQ(penstock.Wait().status, 0);  // net-echo's own
  }

  // `penstock ports ORDER --control PATH WORDS`.
  [[nodiscard]] Outcome Order(const std::string& order, const Words& words = {}) const {
    Words all{"penstock", "ports", order, "--control", control()};
    all.insert(all.end(), words.begin(), words.end());
    return RunProgram(all);
  }
  [[nodiscard]] json List() const {
    const Outcome outcome = Order("list", {"--json"});
    EXPECT_EQ(outcome.status, 0) << outcome.errors;
    return json::parse(outcome.output, nullptr, false)["return"];
  }

  // What is answered to any bytes.
  [[nodiscard]] json Ask(const std::string& request) const {
    const auto client = ConnectToControl(control(), std::chrono::seconds(kLimitSeconds));
    if (!client.ok()) throw std::runtime_error(client.status().ToString());
    (void)!send(client->get(), request.data(), request.size(), MSG_NOSIGNAL);
    shutdown(client->get(), SHUT_WR);
    std::string answer;
    std::array<char, 4096> bytes;
    for (ssize_t n; (n = recv(client->get(), bytes.data(), bytes.size(), 0)) > 0;) {
      answer.append(bytes.data(), size_t(n));
    }
    return json::parse(answer, nullptr, false);
  }
  [[nodiscard]] std::string ErrorOf(const std::string& request) const {
    const json answer = Ask(request);
    return answer.contains("error") ? answer["error"]["desc"].get<std::string>() : answer.dump();
  }

  static void ExpectEcho(int family, uint16_t port, const std::string& text = "hello") {
    const Peer peer(family, SOCK_STREAM, port);
    peer.Send(text);
    peer.Finish();
    EXPECT_EQ(peer.ReceiveAll(), text);
  }

  TemporaryFolder folder_;
};

INSTANTIATE_TEST_SUITE_P(All, Ports, testing::Values("0", "1"),
                         [](const auto& test) { return std::string("Threads") + test.param; });

TEST_P(Ports, OfTheCommandLineLeadInside) {
  InOwnNetwork([this] {
    Program penstock(
        EchoWords({"-p", "8080:7", "--publish", "[::1]:8080:7", "-p", "9000-9001:7-8"}));
    AwaitEcho(penstock);
    ExpectEcho(AF_INET, 8080);
    ExpectEcho(AF_INET6, 8080, std::string(300'000, 'x'));
    ExpectEcho(AF_INET, 9000);
    EXPECT_THROW(ExpectEcho(AF_INET, 9001), std::runtime_error);  // nobody listens at the guest's 8
    penstock.Kill(SIGTERM);
    const Outcome outcome = penstock.Wait();
    EXPECT_EQ(outcome.errors, "");
    EXPECT_TRUE(IsRefused(AF_INET, 8080));
  });
}

TEST_P(Ports, ThatTheSystemChoseAreTold) {
  InOwnNetwork([] {
    Program penstock(EchoWords({"-p", "0:7", "-p", "[::1]:0:7-8", "-p", "8080:7"}));
    AwaitEcho(penstock);
    const std::string told = penstock.AwaitErrorLine("penstock: published 127.0.0.1:");
    EXPECT_THAT(told, ContainsRegex("^[0-9]+ -> 10.0.2.15:7/tcp$"));
    ExpectEcho(AF_INET, static_cast<uint16_t>(std::stoi(told)));
    const std::string told6 = penstock.AwaitErrorLine("penstock: published [::1]:");
    EXPECT_THAT(told6, ContainsRegex("^[0-9]+ -> \\[fd00::15\\]:7/tcp$"));
    ExpectEcho(AF_INET6, static_cast<uint16_t>(std::stoi(told6)));
    penstock.Kill(SIGTERM);
    const std::string errors = penstock.Wait().errors;
    EXPECT_EQ(std::count(errors.begin(), errors.end(), '\n'), 3) << errors;
  });
}

TEST_P(Ports, ArePublishedBeforeTheCommandRuns) {
  InOwnNetwork([this] {
    // The command is one of the same user, and sees the same files.
    const std::string program = ProgramPath("penstock");
    const Outcome outcome =
        RunProgram({"penstock", "run", "--relay-threads", GetParam(), "-p", "8080:80", "--control",
                    control(), "--", program, "ports", "list", "--control", control()});
    EXPECT_EQ(outcome.status, 0) << outcome.errors;
    EXPECT_THAT(outcome.output, HasSubstr("127.0.0.1:8080  10.0.2.15:80  tcp       gateway"));
  });
}

TEST_P(Ports, ThatCannotBePublishedLeaveNothing) {
  InOwnNetwork([this] {
    Program echo({"net-echo", "--tcp", "8081", "--bind", "127.0.0.1"});
    (void)echo.AwaitLine("net-echo: listening");
    const Outcome outcome = RunProgram({"penstock", "run", "--relay-threads", GetParam(), "-p",
                                        "8080:7", "-p", "8081:7", "-p", "0.0.0.0:8082:7",
                                        "--control", control(), "--", "echo", "never"});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_EQ(outcome.output, "");
    EXPECT_THAT(outcome.errors, AllOf(StartsWith("penstock: "), HasSubstr("127.0.0.1:8081")));
    EXPECT_EQ(std::count(outcome.errors.begin(), outcome.errors.end(), '\n'), 1) << outcome.errors;
    EXPECT_NE(access(control().c_str(), F_OK), 0);
  });
}

TEST_P(Ports, BeyondLoopbackAreAWarning) {
  InOwnNetwork([] {
    Program penstock(EchoWords({"-p", "0.0.0.0:8080:7", "-p", "*:8081-8083:7-9", "-p", "lo:8084:7",
                                "-p", "127.0.0.2:8085:7"}));
    AwaitEcho(penstock);
    ExpectEcho(AF_INET, 8080);
    ExpectEcho(AF_INET6, 8081);
    ExpectEcho(AF_INET6, 8084);
    penstock.Kill(SIGTERM);
    const std::string errors = penstock.Wait().errors;
    EXPECT_EQ(std::count(errors.begin(), errors.end(), '\n'), 3) << errors;
    EXPECT_THAT(errors, HasSubstr("penstock: warning: 0.0.0.0:8080:7/tcp is open to whoever"));
    EXPECT_THAT(errors, HasSubstr("penstock: warning: *:8081-8083:7-9/tcp is open to whoever"));
    EXPECT_THAT(errors,
                HasSubstr("penstock: warning: lo:8084:7/tcp is open to whoever reaches lo"));
  });
}

TEST_P(Ports, ComeAndGoWhileItRuns) {
  InOwnNetwork([this] {
    Program penstock(EchoWords({"--control", control()}));
    AwaitEcho(penstock);
    EXPECT_EQ(Order("list").output, "no ports are published\n");
    EXPECT_EQ(List(), json::array());

    const Outcome added = Order("add", {"8080:7", "[::1]:8080:7", "0:7"});
    EXPECT_EQ(added.status, 0) << added.errors;
    EXPECT_THAT(added.output, StartsWith("127.0.0.1:8080 -> 10.0.2.15:7/tcp\n"
                                         "[::1]:8080 -> [fd00::15]:7/tcp\n127.0.0.1:"));
    ExpectEcho(AF_INET, 8080);
    ExpectEcho(AF_INET, 8080);
    ExpectEcho(AF_INET6, 8080);

    const json rows = List();
    ASSERT_EQ(rows.size(), 3U);
    EXPECT_EQ(rows[0]["bound"], "127.0.0.1:8080");
    EXPECT_EQ(rows[0]["guest"], "10.0.2.15:7");
    EXPECT_EQ(rows[0]["protocol"], "tcp");
    EXPECT_EQ(rows[0]["client_identity"], "gateway");
    EXPECT_EQ(rows[0]["exposure"], "loopback");
    EXPECT_EQ(rows[0]["flows_total"], 2);
    EXPECT_EQ(rows[0]["bytes_to_guest"], 10);
    EXPECT_EQ(rows[0]["bytes_to_host"], 10);
    EXPECT_EQ(rows[2]["flows_total"], 0);
    EXPECT_THAT(Order("list").output,
                AllOf(StartsWith("BOUND "),
                      ContainsRegex("\n127.0.0.1:8080 +10.0.2.15:7 +tcp +gateway +[0-9]+ +2 +10 B "
                                    "+10 B\n")));

    EXPECT_EQ(Order("remove", {"8080", "[::1]:8080:7"}).output, "removed 2 ports\n");
    EXPECT_TRUE(IsRefused(AF_INET, 8080));
    EXPECT_TRUE(IsRefused(AF_INET6, 8080));
    EXPECT_EQ(List().size(), 1U);
    EXPECT_EQ(Order("add", {"8080:7"}).status, 0);
    ExpectEcho(AF_INET, 8080);
    End(penstock);
    EXPECT_NE(access(control().c_str(), F_OK), 0);
  });
}

TEST_P(Ports, AreAddedAndRemovedAllOrNone) {
  InOwnNetwork([this] {
    Program penstock(EchoWords({"--control", control(), "-p", "8082:7"}));
    AwaitEcho(penstock);
    const Outcome added = Order("add", {"8080:7", "8081:7", "8082:7"});
    EXPECT_EQ(added.status, 1);
    EXPECT_EQ(added.output, "");
    EXPECT_THAT(added.errors, AllOf(StartsWith("penstock: "), HasSubstr("127.0.0.1:8082")));
    EXPECT_TRUE(IsRefused(AF_INET, 8080));
    EXPECT_EQ(List().size(), 1U);

    const Outcome removed = Order("remove", {"8082", "8083"});
    EXPECT_EQ(removed.status, 1);
    EXPECT_THAT(removed.errors, HasSubstr("nothing is published as 8083/tcp"));
    ExpectEcho(AF_INET, 8082);
    End(penstock);
  });
}

TEST_P(Ports, AreRemovedWithOrWithoutTheirConnections) {
  InOwnNetwork([this] {
    Program penstock(EchoWords({"--control", control(), "-p", "8080:7", "-p", "8081:7"}));
    AwaitEcho(penstock);
    const Peer kept(AF_INET, SOCK_STREAM, 8080);
    const Peer cut(AF_INET, SOCK_STREAM, 8081);
    for (const Peer* peer : {&kept, &cut}) {
      peer->Send("one");
      EXPECT_EQ(peer->Receive(), "one");
    }
    EXPECT_EQ(List()[0]["flows_live"], 1);
    EXPECT_EQ(Order("remove", {"8080"}).output, "removed 1 port\n");
    kept.Send("two");
    EXPECT_EQ(kept.Receive(), "two");
    EXPECT_EQ(Order("remove", {"--reset", "8081"}).status, 0);
    EXPECT_THROW((void)cut.Receive(), std::runtime_error);
    kept.Send("three");
    EXPECT_EQ(kept.Receive(), "three");
    kept.Finish();
    EXPECT_EQ(kept.ReceiveAll(), "");
    End(penstock);
  });
}

TEST_P(Ports, AddedBeyondLoopbackAreAWarningOfThePenstock) {
  InOwnNetwork([this] {
    Program penstock(EchoWords({"--control", control()}));
    AwaitEcho(penstock);
    const Outcome added = Order("add", {"--client-identity", "proxy-protocol", "0.0.0.0:8080:7"});
    EXPECT_EQ(added.status, 0) << added.errors;
    EXPECT_EQ(List()[0]["client_identity"], "proxy-protocol");
    EXPECT_EQ(List()[0]["exposure"], "everywhere");
    EXPECT_THAT(penstock.AwaitErrorLine("penstock: warning: 0.0.0.0:8080:7/tcp"),
                HasSubstr("open"));
    End(penstock);
  });
}

TEST_P(Ports, MayBeOfUdp) {
  InOwnNetwork([this] {
    Program penstock({"penstock", "run", "--relay-threads", GetParam(), "--control", control(),
                      "-p", "5353:7/udp", "--", kEcho, "--udp", "7"});
    (void)penstock.AwaitLine("net-echo: listening on UDP port 7");
    EXPECT_EQ(Order("add", {"[::1]:5353:7/udp"}).output, "[::1]:5353 -> [fd00::15]:7/udp\n");
    for (const int family : {AF_INET, AF_INET6}) {
      const Peer peer(family, SOCK_DGRAM, 5353);
      peer.Send("hello");
      EXPECT_EQ(peer.Receive(), "hello");
    }
    const json rows = List();
    ASSERT_EQ(rows.size(), 2U);
    for (const json& row : rows) {
      EXPECT_EQ(row["protocol"], "udp");
      EXPECT_EQ(row["flows_total"], 1) << row;
      EXPECT_EQ(row["bytes_to_guest"], 5) << row;
      EXPECT_EQ(row["bytes_to_host"], 5) << row;
    }
    EXPECT_EQ(Order("remove", {"5353"}).status, 1) << "TCP is meant";
    EXPECT_EQ(Order("remove", {"5353/udp"}).output, "removed 2 ports\n");
    EXPECT_EQ(List(), json::array());
    End(penstock);
  });
}

TEST_P(Ports, RequestsAreCheckedToTheLastName) {
  InOwnNetwork([this] {
    Program penstock(EchoWords({"--control", control()}));
    AwaitEcho(penstock);
    const std::pair<const char*, const char*> cases[] = {
        {"", "ended early"},
        {"[]", "one JSON object"},
        {"{\"execute\"", "ended early"},
        {"{execute}", "no JSON"},
        {"{\"execute\":\"\xff\"}", "no JSON"},
        {"{}", "must be ports-add, ports-remove, ports-list"},
        {R"({"execute":7})", "\"execute\" must be a string"},
        {R"({"execute":"fly"})", "must be ports-add"},
        {R"({"execute":"ports-list","id":1})", "the request holds \"id\""},
        {R"({"execute":"ports-list","arguments":[]})", "must be an object"},
        {R"({"execute":"ports-list","arguments":{"a":1}})", "it may hold nothing"},
        {R"({"execute":"ports-add"})", "list of strings"},
        {R"({"execute":"ports-add","arguments":{"publish":"8080:80"}})", "list of strings"},
        {R"({"execute":"ports-add","arguments":{"publish":[]}})", "list of strings"},
        {R"({"execute":"ports-add","arguments":{"publish":[8080]}})", "else than strings"},
        {R"({"execute":"ports-add","arguments":{"publish":["8080"]}})",
         "write 8080:8080\n  8080\n"},
        {R"({"execute":"ports-add","arguments":{"publish":["1:2"],"client_identity":"me"}})",
         "gateway, preserve-source or proxy-protocol"},
        {R"({"execute":"ports-add","arguments":{"publish":["1:2"],"client_identity":1}})",
         "must be a string"},
        {R"({"execute":"ports-add","arguments":{"publish":["1:2"],"flows":"keep"}})", "\"flows\""},
        {R"({"execute":"ports-remove","arguments":{"publish":["8080/sctp"]}})", "tcp or udp"},
        {R"({"execute":"ports-remove","arguments":{"publish":["1"],"flows":"cut"}})",
         "keep or reset"},
        {R"({"execute":"ports-remove","arguments":{"publish":["1"]}})", "nothing is published"}};
    for (const auto& [request, says] : cases) {
      EXPECT_THAT(ErrorOf(request), HasSubstr(says)) << request;
    }
    std::string deep = "{\"execute\":";
    deep.append(30'000, '[');
    EXPECT_THAT(ErrorOf(deep + std::string(30'000, ']') + "}"), HasSubstr("must be a string"));
    EXPECT_EQ(Ask("\n{\"execute\":\"ports-list\",\n\"arguments\":{}}\n")["return"], json::array());
    End(penstock);
  });
}

TEST_P(Ports, AStalledClientHoldsNobodyUp) {
  InOwnNetwork([this] {
    Program penstock(EchoWords({"--control", control(), "-p", "8080:7"}));
    AwaitEcho(penstock);
    std::vector<Descriptor> stalled;
    for (int i = 0; i < 20; ++i) {
      auto client = ConnectToControl(control(), std::chrono::seconds(kLimitSeconds));
      ASSERT_TRUE(client.ok()) << client.status();
      (void)!send(client->get(), "{", 1, MSG_NOSIGNAL);
      stalled.push_back(*std::move(client));
    }
    EXPECT_EQ(List().size(), 1U);
    ExpectEcho(AF_INET, 8080);
    // Time itself is the subject: five seconds later the last of them is told.
    std::array<char, 1024> bytes;
    const ssize_t length = recv(stalled.back().get(), bytes.data(), bytes.size(), 0);
    ASSERT_GT(length, 0);
    EXPECT_THAT(std::string(bytes.data(), size_t(length)), HasSubstr("within 5 s"));
    End(penstock);
  });
}

TEST_P(Ports, StatisticsHaveALineForEach) {
  InOwnNetwork([this] {
    Program penstock(
        EchoWords({"--stats-file", folder_ / "stats", "--stats", "-p", "8080:7", "-p", "8081:8"}));
    AwaitEcho(penstock);
    ExpectEcho(AF_INET, 8080);
    penstock.Kill(SIGUSR1);
    const std::string lines = folder_.AwaitMovedFile("stats");
    EXPECT_THAT(lines, ContainsRegex("\nport id=[0-9]+ bound=127.0.0.1:8080 guest=10.0.2.15:7 "
                                     "protocol=tcp identity=gateway exposure=loopback live=[01] "
                                     "total=1 to_host=5 to_guest=5\n"));
    EXPECT_THAT(lines, ContainsRegex("\nport id=[0-9]+ bound=127.0.0.1:8081 [^\n]* total=0 "));
    EXPECT_THAT(lines, HasSubstr("\ninbound_opened 1\n"));
    penstock.Kill(SIGTERM);
    EXPECT_THAT(penstock.Wait().errors,
                AllOf(HasSubstr("penstock: published ports\nBOUND "),
                      ContainsRegex("\n127.0.0.1:8080 +10.0.2.15:7 +tcp ")));
  });
}

// ---------------------------------------------------------------- the socket's file

class PortsControl : public Ports {};
INSTANTIATE_TEST_SUITE_P(All, PortsControl, testing::Values("1"));

TEST_P(PortsControl, IsTheOwnersAndReplacesADeadOne) {
  InOwnNetwork([this] {
    {
      Program killed(EchoWords({"--control", control()}));
      AwaitEcho(killed);
      struct stat file {};
      ASSERT_EQ(lstat(control().c_str(), &file), 0);
      EXPECT_EQ(file.st_mode, mode_t{S_IFSOCK | 0600});

      const Outcome second = RunProgram(EchoWords({"--control", control()}));
      EXPECT_EQ(second.status, 1);
      EXPECT_THAT(second.errors, StartsWith("penstock: another penstock listens at "));
      killed.Kill(SIGKILL);
      (void)killed.Wait();
    }
    EXPECT_EQ(access(control().c_str(), F_OK), 0);
    EXPECT_THAT(Order("list").errors, HasSubstr("is dead: start another one"));
    Program next(EchoWords({"--control", control()}));
    AwaitEcho(next);
    EXPECT_EQ(Order("list").status, 0);
    End(next);
    EXPECT_THAT(Order("list").errors, HasSubstr("no penstock listens at "));
  });
}

TEST_P(PortsControl, OneThatIsStoppedIsAnErrorAfterFiveSeconds) {
  InOwnNetwork([this] {
    Program penstock(EchoWords({"--control", control()}));
    AwaitEcho(penstock);
    penstock.Kill(SIGSTOP);
    const auto start = std::chrono::steady_clock::now();
    const Outcome outcome = Order("list");
    EXPECT_EQ(outcome.status, 1);
    EXPECT_EQ(outcome.output, "");
    EXPECT_THAT(outcome.errors, HasSubstr("has not answered for 5 s"));
    EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
    penstock.Kill(SIGCONT);
    End(penstock);
  });
}

TEST_P(PortsControl, AnotherUserMayNot) {
  // Not in a namespace of the test's, where an ordinary user is root.
  Program penstock(EchoWords({"--control", control()}));
  AwaitEcho(penstock);
  if (geteuid() != 0) {
    // Who cannot become somebody else keeps themselves out.
    ASSERT_EQ(chmod(control().c_str(), 0), 0);
  }
  const Outcome kept_out =
      RunProgram({"penstock", "ports", "list", "--control", control()}, DropRoot);
  EXPECT_EQ(kept_out.status, 1);
  EXPECT_THAT(kept_out.errors, HasSubstr("somebody else's"));
  End(penstock);
}

TEST_P(PortsControl, OfAnOrdinaryUserObeysRoot) {
  InOwnNetwork([this] {
    // The build tree need not be reachable for them: a command of the system's.
    Program penstock({"penstock", "run", "--control", control(), "--", "sh", "-c",
                      "echo ready; exec sleep 1000"},
                     BecomeOrdinaryUser);
    (void)penstock.AwaitLine("ready");
    const Outcome added = Order("add", {"8080:7"});
    EXPECT_EQ(added.status, 0) << added.errors;
    EXPECT_EQ(added.output, "127.0.0.1:8080 -> 10.0.2.15:7/tcp\n");
    EXPECT_EQ(RunProgram({"penstock", "ports", "list", "--control", control()}, DropRoot).status,
              0);
    penstock.Kill(SIGTERM);
    EXPECT_EQ(penstock.Wait().status, 128 + SIGTERM);
  });
}

}  // namespace
}  // namespace penstock::tool
