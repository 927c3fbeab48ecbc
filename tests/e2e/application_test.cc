// Ordinary programs in the sandbox: HTTPS by curl against a server with a long chain
// of certificates, and the demo that a newcomer runs first.

#include <unistd.h>

#include <string>

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

// The demo, with a small file: it compares every copy itself.
TEST(Demo, EveryCopyIsTheSame) {
  World world;
  std::string output = RunOrThrow({"env", "PENSTOCK_PROGRAMS=" PENSTOCK_PROGRAM_DIR,
                                   PENSTOCK_SOURCE_DIR "/tools/demo", "--mib", "16"});
  EXPECT_NE(output.find("Every copy of 16 MiB has the same SHA-256"), std::string::npos) << output;
  for (const char* row : {"download IPv4", "download IPv6", "upload   IPv4", "upload   IPv6"}) {
    EXPECT_NE(output.find(row), std::string::npos) << row << " is missing:\n" << output;
  }
}

}  // namespace
}  // namespace penstock::e2e
