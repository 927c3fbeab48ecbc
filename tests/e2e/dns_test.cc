// Names in a sandbox: programs that ask as programs do, through penstock, of a real name
// server, and of one that the test plays, whose faults are the resolver's daily bread.
#include <gmock/gmock.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/support/dns_builder.h"
#include "tests/support/places.h"
#include "tests/support/sandbox.h"
#include "tests/support/sandbox_datagram.h"

namespace penstock::e2e {
namespace {

using namespace std::chrono_literals;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

// A name server of the test's, on a loopback address of the host's.
class PlayedServer final {
 public:
  // What is answered to a question, from its own socket; empty: nothing.
  using Answerer = std::function<Bytes(const Bytes& question)>;

  PlayedServer(const Endpoint& own, Answerer answerer)
      : socket_(own.address.family), answerer_(std::move(answerer)) {
    socket_.Bind(own);
    thread_ = std::thread([this] { Run(); });
  }
  ~PlayedServer() {
    stopped_ = true;
    thread_.join();
  }
  PlayedServer(const PlayedServer&) = delete;
  PlayedServer& operator=(const PlayedServer&) = delete;

  [[nodiscard]] Endpoint own() const { return socket_.own(); }
  [[nodiscard]] int questions() const { return questions_; }
  // From here the same answers leave first, with another address in them.
  void ForgeFrom(UdpSocket* forger) { forger_ = forger; }

 private:
  void Run() {
    while (!stopped_) {
      const auto datagram = socket_.TryReceive(20ms);
      if (!datagram) continue;
      ++questions_;
      const Bytes question(datagram->text.begin(), datagram->text.end());
      if (forger_ != nullptr) {
        Send(*forger_, datagram->from, DnsAnswerTo(question, {Address("192.0.2.66")}));
      }
      const Bytes answer = answerer_(question);
      if (!answer.empty()) Send(socket_, datagram->from, answer);
    }
  }
  static void Send(UdpSocket& from, const Endpoint& to, const Bytes& message) {
    from.SendTo(to, {reinterpret_cast<const char*>(message.data()), message.size()});
  }

 public:
  // Of the asked name, whatever it is.
  static DnsRecordSpec Address(std::string_view address) {
    DnsRecordSpec record = DnsRecordOf("", address);
    record.owner = {0xc0, 12};
    return record;
  }
  static Answerer Answers(const std::string& address) {
    return [=](const Bytes& question) { return DnsAnswerTo(question, {Address(address)}); };
  }
  static Answerer Silence() {
    return [](const Bytes&) { return Bytes(); };
  }

 private:
  UdpSocket socket_;
  const Answerer answerer_;
  std::atomic<UdpSocket*> forger_{nullptr};
  std::atomic<bool> stopped_{false};
  std::atomic<int> questions_{0};
  std::thread thread_;
};

class Names : public ::testing::TestWithParam<SandboxCase> {
 protected:
  [[nodiscard]] static Family family() { return GetParam().family; }
  [[nodiscard]] static bool v4() { return family() == Family::kIpv4; }
  // The name server that the sandbox knows.
  [[nodiscard]] static std::string Server() { return v4() ? "@10.0.2.3" : "@fd00::3"; }
  [[nodiscard]] static Endpoint Loopback() {
    return {*IpAddress::Parse(v4() ? "127.0.0.1" : "::1"), 0};
  }
  // On it, nobody listens.
  [[nodiscard]] static std::string ClosedPort() {
    UdpSocket socket(family());
    socket.Bind(Loopback());
    return socket.own().ToString();
  }

  static CommandResult Run(const std::vector<std::string>& options,
                           const std::vector<std::string>& command) {
    std::vector<std::string> words{ProgramPath("penstock"), "run", "--relay-threads",
                                   GetParam().via == Via::kOneThread ? "0" : "1"};
    words.insert(words.end(), options.begin(), options.end());
    words.emplace_back("--");
    words.insert(words.end(), command.begin(), command.end());
    return RunCommand(words);
  }
  static std::string RunWell(const std::vector<std::string>& options,
                             const std::vector<std::string>& command) {
    const CommandResult result = Run(options, command);
    EXPECT_EQ(result.status, 0) << result.output;
    return result.output;
  }
  // dig, asking once and waiting as long as a stub resolver does.
  static std::string Dig(const std::string& name) {
    return "dig " + Server() + " +tries=1 +time=5 " + name + "\n";
  }
  static std::string RunDig(const std::vector<std::string>& options, const std::string& name) {
    return RunWell(options, {"sh", "-c", Dig(name)});
  }
  static std::vector<std::string> Asking(const std::vector<std::string>& servers) {
    std::vector<std::string> options;
    for (const std::string& server : servers) {
      options.insert(options.end(), {"--dns-server", server});
    }
    return options;
  }

  World world_;
};

INSTANTIATE_TEST_SUITE_P(E2e, Names, ::testing::ValuesIn(PenstockCases()), CaseName);

// ---------------------------------------------------------------- a real name server

class RealServer : public Names {
 protected:
  // Outside, where the host's resolv.conf points to.
  RealServer() {
    const std::string address = World::Outside(family(), 0).address.ToString();
    Pipe output;
    server_ = Process(
        {"dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
         "--user=root", "--group=root", "--pid-file", "--port=53", "--bind-interfaces",
         "--listen-address=" + address, "--host-record=www.example.test,192.0.2.80,2001:db8::80",
         "--cname=alias.example.test,www.example.test", "--local=/test/", "--edns-packet-max=4096",
         "--txt-record=large.example.test," + Large()},
        {.network_namespace = world_.outside().descriptor(), .output = output.writing_end.get()});
    output.writing_end.Close();
    std::string said;
    char byte = 0;
    while (said.find("started") == std::string::npos) {
      if (read(output.reading_end.get(), &byte, 1) != 1) {
        throw std::runtime_error("no name server: " + said);
      }
      said += byte;
    }
    output_ = std::move(output.reading_end);
    WriteFile(folder_ / "resolv.conf", "# the host's\nnameserver " + address + "\n");
  }
  static std::string Large() {
    std::string texts;
    for (int i = 0; i < 12; ++i) texts += (i == 0 ? "" : ",") + std::string(200, 'x');
    return texts;
  }
  [[nodiscard]] std::vector<std::string> Options() const {
    return {"--resolv-conf", folder_ / "resolv.conf"};
  }

  TemporaryFolder folder_;
  Process server_;
  Descriptor output_;
};

INSTANTIATE_TEST_SUITE_P(E2e, RealServer, ::testing::ValuesIn(PenstockCases()), CaseName);

TEST_P(RealServer, GetentKnowsNames) {
  const std::string known = RunWell(Options(), {"getent", "ahosts", "alias.example.test"});
  EXPECT_THAT(known, HasSubstr("192.0.2.80"));
  EXPECT_THAT(known, HasSubstr("2001:db8::80"));
  EXPECT_EQ(Run(Options(), {"getent", "ahosts", "no.example.test"}).status, 2);
}

TEST_P(RealServer, DigGetsWhatTheServerSays) {
  EXPECT_THAT(RunDig(Options(), "www.example.test A"), ContainsRegex("192\\.0\\.2\\.80"));
  const std::string alias = RunDig(Options(), "alias.example.test AAAA");
  EXPECT_THAT(alias, HasSubstr("2001:db8::80"));
  EXPECT_THAT(alias, ContainsRegex("CNAME.www\\.example\\.test"));
  EXPECT_THAT(alias, HasSubstr(v4() ? "SERVER: 10.0.2.3#53" : "SERVER: fd00::3#53"));
  EXPECT_THAT(RunDig(Options(), "no.example.test A"), HasSubstr("status: NXDOMAIN"));
  // 2.4 KB, in fragments.
  const std::string large = RunDig(Options(), "large.example.test TXT +bufsize=4096 +notcp");
  EXPECT_THAT(large, ContainsRegex("MSG SIZE  rcvd: 24[0-9][0-9]"));
  EXPECT_THAT(RunDig(Options(), "large.example.test TXT +noedns +ignore"), HasSubstr(" tc "));
}

TEST_P(RealServer, ByTcpWhatDoesNotFit) {
  const std::string large = RunDig(Options(), "large.example.test TXT +noedns");
  EXPECT_THAT(large, HasSubstr("Truncated, retrying in TCP mode"));
  EXPECT_THAT(large, ContainsRegex("MSG SIZE  rcvd: 24[0-9][0-9]"));
  EXPECT_THAT(large, HasSubstr("(TCP)"));
  // Several questions on one connection.
  const std::string two =
      RunDig(Options(), "+tcp +keepopen +short www.example.test A alias.example.test AAAA");
  EXPECT_THAT(two, HasSubstr("192.0.2.80"));
  EXPECT_THAT(two, HasSubstr("2001:db8::80"));
}

TEST_P(RealServer, InPlaceOfAnyOther) {
  std::vector<std::string> options = Options();
  options.emplace_back("--dns-intercept");
  const std::string other = v4() ? "192.0.2.53" : "2001:db8::53";
  const std::string answer =
      RunWell(options, {"dig", "@" + other, "+tries=1", "+time=5", "www.example.test", "A"});
  EXPECT_THAT(answer, HasSubstr("192.0.2.80"));
  EXPECT_THAT(answer, HasSubstr("SERVER: " + other + "#53"));
  const std::string by_tcp =
      RunWell(options, {"dig", "@" + other, "+tcp", "+tries=1", "+time=5", "www.example.test"});
  EXPECT_THAT(by_tcp, HasSubstr("192.0.2.80"));
  EXPECT_THAT(by_tcp, HasSubstr("SERVER: " + other + "#53(" + other + ") (TCP)"));
}

// ---------------------------------------------------------------- own names

TEST_P(Names, OwnNamesHostsAndZones) {
  const std::string all = RunWell(
      {"--dns-server", "192.0.2.1", "--dns-host", "db.corp.test=192.0.2.7,2001:db8::7",
       "--dns-zone", "corp.test"},
      {"sh", "-c",
       "getent ahosts gateway.penstock.internal; getent ahosts db.corp.test; getent hosts " +
           std::string(v4() ? "10.0.2.2" : "fd00::2") +
           "; getent ahosts no.corp.test || echo none"});
  EXPECT_THAT(all, HasSubstr("10.0.2.2"));
  EXPECT_THAT(all, HasSubstr("fd00::2"));
  EXPECT_THAT(all, HasSubstr("192.0.2.7"));
  EXPECT_THAT(all, HasSubstr("2001:db8::7"));
  EXPECT_THAT(all, ContainsRegex(v4() ? "10\\.0\\.2\\.2 +gateway\\.penstock\\.internal"
                                      : "fd00::2 +gateway\\.penstock\\.internal"));
  EXPECT_THAT(all, HasSubstr("none"));
}

// ---------------------------------------------------------------- faults of name servers

TEST_P(Names, TheFirstServerIsNotThere) {
  const PlayedServer second(Loopback(), PlayedServer::Answers("192.0.2.1"));
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THAT(RunDig(Asking({ClosedPort(), second.own().ToString()}), "a.test A"),
              HasSubstr("192.0.2.1"));
  EXPECT_LT(Seconds(std::chrono::steady_clock::now() - begin), 2) << "nothing was waited for";
}

TEST_P(Names, TheFirstServerIsSilent) {
  const PlayedServer first(Loopback(), PlayedServer::Silence());
  const PlayedServer second(Loopback(), PlayedServer::Answers("192.0.2.1"));
  const std::string both = RunWell(Asking({first.own().ToString(), second.own().ToString()}),
                                   {"sh", "-c", Dig("a.test A") + Dig("b.test A")});
  EXPECT_THAT(both, ContainsRegex("Query time: 2[0-9]{3} msec"));
  EXPECT_THAT(both, ContainsRegex("Query time: [0-9]{1,3} msec")) << "then it is passed over";
  EXPECT_EQ(first.questions(), 1);
  EXPECT_EQ(second.questions(), 2);
}

TEST_P(Names, AllServersAreSilent) {
  const PlayedServer server(Loopback(), PlayedServer::Silence());
  const std::string said = RunDig(Asking({server.own().ToString()}), "a.test A");
  EXPECT_THAT(said, HasSubstr("status: SERVFAIL"));
  EXPECT_THAT(said, ContainsRegex("Query time: 4[0-9]{3} msec"));
  EXPECT_EQ(server.questions(), 2) << "what was lost is repaired once";
}

TEST_P(Names, AFailureIsAnAnswer) {
  const PlayedServer first(Loopback(),
                           [](const Bytes& question) { return DnsAnswerTo(question, {}, 2); });
  const PlayedServer second(Loopback(), PlayedServer::Answers("192.0.2.1"));
  EXPECT_THAT(RunDig(Asking({first.own().ToString(), second.own().ToString()}), "a.test A"),
              HasSubstr("status: SERVFAIL"));
  EXPECT_EQ(second.questions(), 0);
}

TEST_P(Names, AnAnswerFromElsewhereIsNone) {
  PlayedServer server(Loopback(), PlayedServer::Answers("192.0.2.1"));
  UdpSocket forger(family());
  forger.Bind(Loopback());
  server.ForgeFrom(&forger);
  const std::string said = RunDig(Asking({server.own().ToString()}), "a.test A");
  EXPECT_THAT(said, HasSubstr("192.0.2.1"));
  EXPECT_THAT(said, Not(HasSubstr("192.0.2.66")));
}

// By TCP they are passed over as by UDP: the first has no port, the second says nothing.
TEST_P(Names, ByTcpTheFirstServerIsNotThere) {
  const TcpListener listener;
  const Endpoint silent{Loopback().address, listener.port()};
  const auto begin = std::chrono::steady_clock::now();
  const std::string said = RunDig(Asking({ClosedPort(), silent.ToString()}), "+tcp a.test A");
  EXPECT_THAT(said, HasSubstr("status: SERVFAIL"));
  EXPECT_GT(Seconds(std::chrono::steady_clock::now() - begin), 3) << "the second is waited for";
}

TEST_P(Names, AServerForADomain) {
  const PlayedServer corp(Loopback(), PlayedServer::Answers("192.0.2.7"));
  const PlayedServer all(Loopback(), PlayedServer::Answers("192.0.2.1"));
  const std::string both =
      RunWell(Asking({"corp.test=" + corp.own().ToString(), all.own().ToString()}),
              {"sh", "-c", Dig("db.corp.test A +short") + Dig("a.test A +short")});
  EXPECT_EQ(both, "192.0.2.7\n192.0.2.1\n");
}

// The host moves to another network: its resolv.conf is replaced by a rename, as it is done,
// while the sandbox runs.
TEST_P(Names, TheHostsServersBecomeOthers) {
  if (!v4()) RunOrThrow({"ip", "addr", "add", "fd53::2/128", "dev", "lo", "nodad"});
  const std::string old_one = v4() ? "127.0.0.1" : "::1";
  const std::string new_one = v4() ? "127.0.0.2" : "fd53::2";
  const PlayedServer before({*IpAddress::Parse(old_one), 53}, PlayedServer::Answers("192.0.2.1"));
  const PlayedServer after({*IpAddress::Parse(new_one), 53}, PlayedServer::Answers("192.0.2.2"));
  TemporaryFolder folder;
  WriteFile(folder / "resolv.conf", "nameserver " + old_one + "\n");
  WriteFile(folder / "new", "nameserver " + new_one + "\n");
  const std::string both = RunWell({"--resolv-conf", folder / "resolv.conf"},
                                   {"sh", "-c",
                                    Dig("a.test A +short") + "mv " + (folder / "new") + " " +
                                        (folder / "resolv.conf") + "\n" + Dig("b.test A +short")});
  EXPECT_EQ(both, "192.0.2.1\n192.0.2.2\n");
}

}  // namespace
}  // namespace penstock::e2e
