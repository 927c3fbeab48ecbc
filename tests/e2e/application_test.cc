// Ordinary programs in the sandbox: HTTPS by curl against a server with a long chain
// of certificates, servers behind published ports (nginx, iperf3, ncat) with ordinary
// clients on the host (curl, wrk, iperf3, ncat), and the demo that a newcomer runs first.

#include <poll.h>
#include <unistd.h>

#include <iostream>
#include <string>

#include "tests/support/places.h"
#include "tests/support/sandbox.h"

namespace penstock::e2e {
namespace {

// A root, an intermediate and a server's certificate for the gateway addresses that
// also names two hundred other hosts, as those of large sites do.
void MakeCertificates(const TemporaryFolder& folder) {
  std::string names = "IP:10.0.2.2,IP:fd00::2";
  for (int i = 0; i < 200; ++i) names += ",DNS:host-" + std::to_string(i) + ".penstock.example";
  WriteFile(folder / "ca.ext", "basicConstraints=critical,CA:TRUE\n");
  WriteFile(folder / "server.ext", "subjectAltName=" + names + "\n");

  auto request = [&](const std::string& name) {
    RunOrThrow({"openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=" + name,
                "-keyout", folder / (name + ".key"), "-out", folder / (name + ".csr")});
  };
  auto sign = [&](const std::string& name, const std::string& issuer,
                  const std::string& extensions) {
    RunOrThrow({"openssl", "x509", "-req", "-days", "2", "-in", folder / (name + ".csr"), "-CA",
                folder / (issuer + ".pem"), "-CAkey", folder / (issuer + ".key"), "-CAcreateserial",
                "-extfile", folder / extensions, "-out", folder / (name + ".pem")});
  };
  RunOrThrow({"openssl", "req", "-x509", "-days", "2", "-newkey", "rsa:2048", "-nodes", "-subj",
              "/CN=root", "-keyout", folder / "root.key", "-out", folder / "root.pem"});
  request("intermediate");
  sign("intermediate", "root", "ca.ext");
  request("server");
  sign("server", "intermediate", "server.ext");
}

void WaitForLine(int descriptor, const std::string& wanted) {
  std::string output;
  char byte = 0;
  while (output.find(wanted) == std::string::npos) {
    if (read(descriptor, &byte, 1) != 1) {
      throw std::runtime_error("the server ended before it was ready: " + output);
    }
    output += byte;
  }
}

class Application : public SandboxTest {};

INSTANTIATE_TEST_SUITE_P(E2e, Application, ::testing::ValuesIn(EveryCase()), CaseName);

TEST_P(Application, HttpsWithALongCertificateChain) {
  TemporaryFolder folder;
  MakeCertificates(folder);
  // Base64: four characters for three bytes.
  size_t chain_bytes =
      (ReadFile(folder / "server.pem").size() + ReadFile(folder / "intermediate.pem").size()) * 3 /
      4;
  ASSERT_GT(chain_bytes, 4096u);
  std::string page(1 << 20, '\0');
  FillPattern(1, 0, {reinterpret_cast<uint8_t*>(page.data()), page.size()});
  WriteFile(folder / "page", page);

  Pipe output;
  std::string path = folder / "";
  Process server(
      {"openssl", "s_server", "-WWW", "-accept", "4433", family() == Family::kIpv4 ? "-4" : "-6",
       "-cert", "server.pem", "-key", "server.key", "-cert_chain", "intermediate.pem"},
      {.output = output.writing_end.get(), .before_exec = [&] { (void)!chdir(path.c_str()); }});
  output.writing_end.Close();
  WaitForLine(output.reading_end.get(), "ACCEPT");

  std::string address = family() == Family::kIpv4 ? "10.0.2.2" : "[fd00::2]";
  RunOrThrow({"curl", "--disable", "--silent", "--show-error", "--max-time", "30", "--cacert",
              folder / "root.pem", "--output", folder / "got", "https://" + address + ":4433/page"},
             {.network_namespace = sandbox_.guest().descriptor()});
  EXPECT_TRUE(ReadFile(folder / "got") == page) << "the page differs";
}

// ---------------------------------------------------------------- published ports

// Until a server of the guest's listens there: looked at from within the guest.
void WaitForServer(const Sandbox& sandbox, Family family, uint16_t port) {
  const Time limit = Clock::now() + std::chrono::seconds(20);
  for (;;) {
    TcpSocket probe = sandbox.GuestSocket(family);
    if (probe.TryConnect(Sandbox::GuestAddress(family, port)) == 0) return;
    if (Clock::now() > limit) throw std::runtime_error("the server does not listen");
  }
}

// Serves `folder` on port 8080, and on 8085 says whom a PROXY header names.
Process StartNginx(const Sandbox& sandbox, Family family, const TemporaryFolder& folder) {
  WriteFile(folder / "nginx.conf",
            "daemon off;\nmaster_process off;\npid " + (folder / "pid") +
                ";\nerror_log stderr warn;\nevents { worker_connections 1024; }\n"
                "http { access_log off; keepalive_requests 1000000;\n"
                "  client_body_temp_path " +
                (folder / "body") +
                ";\n"
                "  proxy_temp_path " +
                (folder / "proxy") +
                ";\n"
                "  fastcgi_temp_path " +
                (folder / "fastcgi") +
                ";\n"
                "  uwsgi_temp_path " +
                (folder / "uwsgi") +
                ";\n"
                "  scgi_temp_path " +
                (folder / "scgi") +
                ";\n"
                "  server { listen 8085 proxy_protocol; listen [::]:8085 proxy_protocol;\n"
                "    return 200 \"$proxy_protocol_addr $proxy_protocol_port\"; }\n"
                "  server { listen 8080; listen [::]:8080; root " +
                (folder / "") + "; } }\n");
  Process server({"nginx", "-p", folder / "", "-c", folder / "nginx.conf"},
                 {.network_namespace = sandbox.guest().descriptor()});
  WaitForServer(sandbox, family, 8080);
  return server;
}

// A server in the guest, reached by a port of the host's loopback under its own number.
class PublishedApplication : public ::testing::TestWithParam<SandboxCase> {
 protected:
  [[nodiscard]] static Family family() { return GetParam().family; }
  // "127.0.0.1"; "[::1]".
  [[nodiscard]] static std::string Loopback() {
    return family() == Family::kIpv4 ? "127.0.0.1" : "[::1]";
  }
  [[nodiscard]] static std::string BareLoopback() {
    return family() == Family::kIpv4 ? "127.0.0.1" : "::1";
  }
  [[nodiscard]] static std::string DigitOption() { return family() == Family::kIpv4 ? "-4" : "-6"; }

  [[nodiscard]] Process InGuest(const std::vector<std::string>& command) {
    return Process(command, {.network_namespace = sandbox_.guest().descriptor(),
                             .output = output_.writing_end.get()});
  }
  World world_;
  TemporaryFolder folder_;
  Pipe output_;  // what servers say
  Sandbox sandbox_{{.via = GetParam().via,
                    .penstock_options = {"--publish", "127.0.0.1:8080-8084:8080-8084", "--publish",
                                         "[::1]:8080-8084:8080-8084"}}};
};

INSTANTIATE_TEST_SUITE_P(E2e, PublishedApplication, ::testing::ValuesIn(PenstockCases()), CaseName);

TEST_P(PublishedApplication, CurlFetchesFromNginx) {
  std::string page(5 << 20, '\0');
  FillPattern(1, 0, {reinterpret_cast<uint8_t*>(page.data()), page.size()});
  WriteFile(folder_ / "page", page);
  const Process server = StartNginx(sandbox_, family(), folder_);
  RunOrThrow({"curl", "--disable", "--silent", "--show-error", "--fail", "--max-time", "60",
              "--noproxy", "*", "--output", folder_ / "got",
              "http://" + Loopback() + ":8080/page"});
  EXPECT_TRUE(ReadFile(folder_ / "got") == page) << "the page differs";
}

// Ten seconds of requests on 64 connections: none fails.
TEST_P(PublishedApplication, WrkLoadsNginxAndNoRequestFails) {
  WriteFile(folder_ / "page", std::string(1000, 'x'));
  const Process server = StartNginx(sandbox_, family(), folder_);
  const std::string report =
      RunOrThrow({"wrk", "--threads", "1", "--connections", "64", "--duration", "10s",
                  "http://" + Loopback() + ":8080/page"});
  std::cout << report;
  EXPECT_EQ(report.find("Socket errors"), std::string::npos);
  EXPECT_EQ(report.find("Non-2xx"), std::string::npos);
  EXPECT_NE(report.find("requests in 1"), std::string::npos) << "not ten seconds of requests";
}

TEST_P(PublishedApplication, Iperf3RunsBothWays) {
  Pipe output;
  const Process server(
      {"iperf3", "--server", "--port", "8081", "--forceflush"},
      {.network_namespace = sandbox_.guest().descriptor(), .output = output.writing_end.get()});
  output.writing_end.Close();
  for (const char* direction : {"--forceflush", "--reverse"}) {
    // No probe: a client that comes and goes has iperf3 open its listener anew. It says so
    // before each test.
    WaitForLine(output.reading_end.get(), "listening");
    const std::string report = RunOrThrow({"iperf3", "--client", BareLoopback(), DigitOption(),
                                           "--port", "8081", "--bytes", "200M", direction});
    EXPECT_NE(report.find("iperf Done"), std::string::npos) << report;
  }
}

// ncat with --send-only ends after its input; the server's copy is the whole of it. And
// the other way round: the server sends and ends.
TEST_P(PublishedApplication, NcatCopiesBothWays) {
  std::string text(3 << 20, '\0');
  FillPattern(7, 0, {reinterpret_cast<uint8_t*>(text.data()), text.size()});
  WriteFile(folder_ / "text", text);
  const auto shell = [](const std::string& line) {
    return std::vector<std::string>{"sh", "-c", line};
  };
  const std::string listen = "ncat " + DigitOption() + " --listen --no-shutdown ";
  Process taker = InGuest(shell(listen + "--recv-only 8082 > " + (folder_ / "taken")));
  Process giver = InGuest(shell(listen + "--send-only 8083 < " + (folder_ / "text")));
  const std::string connect = "ncat " + DigitOption() + " " + BareLoopback() + " ";
  // The first connection is the one that counts: no probe; try until somebody listens.
  const auto until_served = [&](const std::string& line) {
    for (int i = 0; i < 200; ++i) {
      if (RunCommand(shell(line)).status == 0) return true;
      poll(nullptr, 0, 50);
    }
    return false;
  };
  ASSERT_TRUE(until_served(connect + "--send-only 8082 < " + (folder_ / "text")));
  EXPECT_EQ(taker.Wait(std::chrono::seconds(20)), 0);
  EXPECT_TRUE(ReadFile(folder_ / "taken") == text) << "the guest's copy differs";
  ASSERT_TRUE(until_served(connect + "--recv-only 8083 > " + (folder_ / "given")));
  EXPECT_EQ(giver.Wait(std::chrono::seconds(20)), 0);
  EXPECT_TRUE(ReadFile(folder_ / "given") == text) << "the host's copy differs";
}

class ProxyProtocol : public ::testing::TestWithParam<Family> {
 protected:
  World world_;
  TemporaryFolder folder_;
  Sandbox sandbox_{{.penstock_options = {"--client-identity", "proxy-protocol", "--publish",
                                         "127.0.0.1:8085:8085", "--publish", "[::1]:8085:8085"}}};
};

INSTANTIATE_TEST_SUITE_P(E2e, ProxyProtocol, ::testing::Values(Family::kIpv4, Family::kIpv6),
                         [](const auto& test) { return Name(test.param); });

// A real server understands the header, and knows the client on the host by it.
TEST_P(ProxyProtocol, NginxKnowsTheClient) {
  const Process server = StartNginx(sandbox_, GetParam(), folder_);
  const std::string address = GetParam() == Family::kIpv4 ? "127.0.0.1" : "[::1]";
  const std::string named = RunOrThrow(
      {"curl", "--disable", "--silent", "--show-error", "--fail", "--max-time", "30", "--noproxy",
       "*", "--write-out", "\n%{local_ip} %{local_port}", "http://" + address + ":8085/"});
  const size_t line = named.find('\n');
  ASSERT_NE(line, std::string::npos) << named;
  EXPECT_EQ(named.substr(0, line), named.substr(line + 1));
}

// The demo, with a small file: it compares every copy itself.
TEST(Demo, EveryCopyIsTheSame) {
  World world;
  std::string output = RunOrThrow(
      {"env", "PENSTOCK_PROGRAMS=" + ProgramPath(""), SourcePath("tools/demo"), "--mib", "16"});
  EXPECT_NE(output.find("Every copy of 16 MiB has the same SHA-256"), std::string::npos) << output;
  for (const char* row : {"download IPv4", "download IPv6", "upload   IPv4", "upload   IPv6"}) {
    EXPECT_NE(output.find(row), std::string::npos) << row << " is missing:\n" << output;
  }
}

}  // namespace
}  // namespace penstock::e2e
