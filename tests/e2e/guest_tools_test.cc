// What people try first in a new network: ping, traceroute, dig, iperf3, a QUIC download, as
// they come from Debian, in `penstock run`, both families and both forms.

#include <gmock/gmock.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/places.h"
#include "tests/support/sandbox.h"
#include "tests/support/sandbox_datagram.h"

namespace penstock::e2e {
namespace {

using testing::ContainsRegex;

void SetPingGroups(const std::string& range) {
  std::ofstream("/proc/sys/net/ipv4/ping_group_range") << range;
}

class GuestTools : public ::testing::TestWithParam<SandboxCase> {
 protected:
  // Whatever the machine has: this group, which is 0 in every namespace of the tests.
  GuestTools() { SetPingGroups("0 0"); }
  [[nodiscard]] static Family family() { return GetParam().family; }
  [[nodiscard]] static bool v4() { return family() == Family::kIpv4; }
  [[nodiscard]] static std::string Outside() {
    return World::Outside(family(), 0).address.ToString();
  }
  [[nodiscard]] static std::string Digit() { return v4() ? "-4" : "-6"; }

  // In a sandbox of its own, which may reach private addresses: the world's of IPv6 are.
  static CommandResult Run(const std::vector<std::string>& command) {
    std::vector<std::string> words{ProgramPath("penstock"),
                                   "run",
                                   "--profile",
                                   "all",
                                   "--relay-threads",
                                   GetParam().via == Via::kOneThread ? "0" : "1",
                                   "--"};
    words.insert(words.end(), command.begin(), command.end());
    return RunCommand(words);
  }
  static std::string RunWell(const std::vector<std::string>& command) {
    const CommandResult result = Run(command);
    EXPECT_EQ(result.status, 0) << result.output;
    return result.output;
  }
  // A program outside that has said `ready`.
  Process StartOutside(const std::vector<std::string>& command, const std::string& ready) {
    Pipe output;
    Process process(command, {.network_namespace = world_.outside().descriptor(),
                              .output = output.writing_end.get()});
    output.writing_end.Close();
    std::string said;
    char byte = 0;
    while (said.find(ready) == std::string::npos) {
      if (read(output.reading_end.get(), &byte, 1) != 1) {
        throw std::runtime_error("the server ended before it was ready: " + said);
      }
      said += byte;
    }
    server_output_ = std::move(output.reading_end);
    return process;
  }

  World world_;
  Descriptor server_output_;
};

INSTANTIATE_TEST_SUITE_P(E2e, GuestTools, ::testing::ValuesIn(PenstockCases()), CaseName);

// ---------------------------------------------------------------- ping

TEST_P(GuestTools, Ping) {
  EXPECT_NE(RunWell({"ping", "-c", "3", "-i", "0.2", Outside()}).find("3 received, 0% packet loss"),
            std::string::npos);
  // In fragments, both ways; the bytes are compared by ping.
  const std::string large = RunWell({"ping", "-c", "3", "-i", "0.2", "-s", "20000", Outside()});
  EXPECT_NE(large.find("3 received, 0% packet loss"), std::string::npos) << large;
  EXPECT_EQ(large.find("wrong data"), std::string::npos) << large;
}

TEST_P(GuestTools, TwoPingsAtOnceGetTheirOwnReplies) {
  const std::string output =
      RunWell({"sh", "-c",
               "ping -c 5 -i 0.2 -p aa " + Outside() + " & a=$!; ping -c 5 -i 0.2 -p bb " +
                   Outside() + " & wait $! && wait $a"});
  const std::string all = "5 received, 0% packet loss";
  EXPECT_NE(output.find(all, output.find(all) + 1), std::string::npos) << output;
  EXPECT_EQ(output.find("DUP"), std::string::npos) << output;
}

TEST_P(GuestTools, PingHearsOfErrors) {
  const CommandResult unreachable = Run(
      {"ping", "-c", "1", "-W", "5", World::RouterSaysUnreachable(family()).address.ToString()});
  EXPECT_EQ(unreachable.status, 1);
  EXPECT_NE(unreachable.output.find(v4() ? "Host Unreachable" : "No route"), std::string::npos)
      << unreachable.output;
  const CommandResult short_of_breath = Run({"ping", "-c", "1", "-t", "1", "-W", "5", Outside()});
  EXPECT_NE(short_of_breath.output.find(v4() ? "From 10.0.2.2" : "From fd00::2"), std::string::npos)
      << short_of_breath.output;
  EXPECT_NE(short_of_breath.output.find(v4() ? "Time to live exceeded" : "Hop limit"),
            std::string::npos)
      << short_of_breath.output;
}

// Where the system has no ping sockets for us the guest is told, and so is the operator.
TEST_P(GuestTools, ForbiddenPingIsNoSilence) {
  SetPingGroups("1 0");
  const CommandResult result = Run({"ping", "-c", "1", "-W", "5", Outside()});
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.output.find(v4() ? "Packet filtered" : "Administratively prohibited"),
            std::string::npos)
      << result.output;
  EXPECT_NE(result.output.find("net.ipv4.ping_group_range"), std::string::npos) << result.output;
  // The gateway answers of itself.
  RunWell({"ping", "-c", "1", v4() ? "10.0.2.2" : "fd00::2"});
}

// ---------------------------------------------------------------- traceroute

// The gateway, the router outside, and what they say of what they do not pass on.
TEST_P(GuestTools, TracerouteShowsTheWay) {
  // A network to which the outside passes on (back to the host, as it happens).
  const std::string network = v4() ? "198.19.5.0/24" : "fd02:5::/32";
  const std::string beyond = v4() ? "198.19.5.1" : "fd02:5::1";
  RunOrThrow({"ip", "route", "add", network, "via", Outside()});
  world_.outside().Ip("route add " + network + " via " + (v4() ? "198.18.0.2" : "fd01::2"));
  const std::string gateway = v4() ? "10\\.0\\.2\\.2" : "fd00::2";
  const std::string router = v4() ? "198\\.18\\.0\\.1" : "fd01::1";
  const auto trace = [&](std::vector<std::string> options, const std::string& to) {
    std::vector<std::string> command{"traceroute", Digit(), "-n", "-q", "1", "-N", "1", "-w", "3"};
    command.insert(command.end(), options.begin(), options.end());
    command.push_back(to);
    return RunWell(command);
  };
  for (const char* kind : {"-U", "-I"}) {
    const std::string way = trace({kind, "-m", "2"}, beyond);
    EXPECT_THAT(way, ContainsRegex(" 1  " + gateway + "  [0-9.]+ ms\n"));
    EXPECT_THAT(way, ContainsRegex(" 2  " + router + "  [0-9.]+ ms\n"));
    // A kernel says so once a second at most: perhaps not at the first probe.
    const std::string refused =
        trace({kind}, World::RouterSaysUnreachable(family()).address.ToString());
    EXPECT_THAT(refused, ContainsRegex(" [23]  " + router + "  [0-9.]+ ms ![HN]\n"));
  }
  const std::string tcp = trace({"-T", "-p", "9"}, Outside());
  EXPECT_THAT(tcp, ContainsRegex(" 1  " + gateway + "  [0-9.]+ ms\n"));
  EXPECT_THAT(tcp, ContainsRegex(" 2  " + router + "  [0-9.]+ ms\n"));
}

// ---------------------------------------------------------------- names, streams, QUIC

// The answer to `query`: as many texts of 255 bytes as 65 KB hold.
std::string LargeAnswer(const std::string& query, int texts) {
  const size_t name_end = query.find('\0', 12);
  std::string answer = query.substr(0, name_end + 5);  // header and question
  answer[2] = static_cast<char>(0x84);                 // an authoritative response
  answer[3] = 0;
  answer[6] = static_cast<char>(texts >> 8);
  answer[7] = static_cast<char>(texts & 0xff);
  for (size_t i = 8; i < 12; ++i) answer[i] = 0;  // no other records
  for (int i = 0; i < texts; ++i) {
    const std::string head("\xc0\x0c\0\x10\0\x01\0\0\0\x3c\x01\0\xff", 13);
    std::string text = std::to_string(1'000 + i);
    text.resize(255, 'x');
    answer += head + text;
  }
  return answer;
}

TEST_P(GuestTools, DigGetsSixtyFourKilobytes) {
  constexpr int kTexts = 244;
  UdpSocket server = [&] {
    const InNamespace there(world_.outside().descriptor());
    return UdpSocket(family());
  }();
  server.Bind(World::Outside(family(), 0));
  std::thread serving([&] {
    const auto query = server.TryReceive(std::chrono::seconds(30));
    if (query) server.SendTo(query->from, LargeAnswer(query->text, kTexts));
  });
  const std::string output =
      RunWell({"dig", "@" + Outside(), "-p", std::to_string(server.own().port), "+notcp", "+ignore",
               "+bufsize=65535", "+tries=1", "+time=20", "big.example", "TXT"});
  serving.join();
  EXPECT_NE(output.find("MSG SIZE  rcvd: 654"), std::string::npos) << output.substr(0, 500);
  for (int i = 0; i < kTexts; ++i) {
    EXPECT_NE(output.find("\"" + std::to_string(1'000 + i) + "x"), std::string::npos) << i;
  }
}

// Of the last member of this name in the text of a JSON object.
uint64_t NumberOf(const std::string& json, const std::string& name) {
  const std::string member = "\"" + name + "\":";
  const size_t at = json.rfind(member);
  if (at == std::string::npos) throw std::runtime_error("no " + name + " in: " + json);
  return std::stoull(json.substr(at + member.size()));
}

// Datagrams may be lost on a busy machine; what arrives is counted by iperf3.
TEST_P(GuestTools, Iperf3UdpBothWays) {
  for (const bool reverse : {false, true}) {
    const Process server = StartOutside({"iperf3", "--forceflush", "-s", "-1"}, "listening");
    std::vector<std::string> client{"iperf3", "-c",   Outside(), "-u", "-b", "50M",
                                    "-l",     "1400", "-t",      "1",  "-J"};
    if (reverse) client.push_back("-R");
    const std::string output = RunWell(client);
    // Of the sums behind the intervals.
    const std::string sums = output.substr(output.find("\"end\":"));
    const uint64_t sent = NumberOf(sums, "packets"), lost = NumberOf(sums, "lost_packets");
    EXPECT_GT(sent, 1'000u) << output;
    EXPECT_LT(lost, sent / 2) << output;
  }
}

TEST_P(GuestTools, QuicDownloadIsExact) {
  TemporaryFolder folder;
  std::string page(5 << 20, '\0');
  FillPattern(1, 0, {reinterpret_cast<uint8_t*>(page.data()), page.size()});
  WriteFile(folder / "page", page);
  RunOrThrow({"openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
              "/CN=quic.example", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"});
  const Process server = StartOutside({"gtlsserver", "-q", "-d", folder / "", Outside(), "4433",
                                       folder / "key.pem", folder / "cert.pem"},
                                      "document root");
  RunOrThrow({"mkdir", folder / "got"});
  RunWell({"timeout", "40", "gtlsclient", "-q", "--exit-on-all-streams-close",
           "--download=" + (folder / "got"), Outside(), "4433", "https://quic.example/page"});
  EXPECT_TRUE(ReadFile(folder / "got/page") == page) << "the page differs";
}

}  // namespace
}  // namespace penstock::e2e
