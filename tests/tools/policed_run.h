// `penstock run` with a policy, in a network namespace of the test's own whose loopback has
// a public and a private address; what tests say to the sandbox and to the penstock.
#ifndef PENSTOCK_TESTS_TOOLS_POLICED_RUN_H_
#define PENSTOCK_TESTS_TOOLS_POLICED_RUN_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/tools/isolation.h"
#include "tests/tools/program.h"
#include "tools/penstock/control_socket.h"

namespace penstock::tool {

using Words = std::vector<std::string>;

inline constexpr const char* kPublic = "198.18.0.1";
inline constexpr const char* kPrivate = "10.1.2.3";

// Reads "ID HOST PORT" from its standard input and says "ID open" or "ID shut".
inline constexpr const char* kTry = R"(
echo ready
while read -r id host port; do
  if (exec 3<>"/dev/tcp/$host/$port") 2>/dev/null; then echo "$id open"; else echo "$id shut"; fi
done)";

// Holds a connection to HOST PORT: says what comes back of each line, and then its end.
inline constexpr const char* kHold = R"(
trap '' PIPE
exec 3<>"/dev/tcp/$0/$1" || exit 9
echo one >&3; read -r line <&3; echo "got $line"
read -r go; echo two >&3; read -r line <&3 || line=nothing; echo "then $line")";

// Both ways to drive the stack.
class PolicedRun : public testing::TestWithParam<const char*> {
 protected:
  static void InOwnNetwork(const std::function<void()>& body) {
    InOwnNamespaces([&body] {
      for (const char* address : {kPublic, kPrivate}) {
        const Outcome added = RunProgram({"ip", "address", "add", address, "dev", "lo"});
        if (added.status != 0) throw std::runtime_error(added.errors);
      }
      body();
    });
  }
  static uint16_t PortOf(Program& echo) {
    return static_cast<uint16_t>(std::stoi(echo.AwaitLine("net-echo: listening on TCP port ")));
  }

  [[nodiscard]] std::string control() const { return folder_ / "c"; }
  [[nodiscard]] std::string input() const { return folder_ / "input"; }
  [[nodiscard]] std::string File(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name) << text;
    return folder_ / name;
  }

  // `penstock run OPTIONS -- bash -c SCRIPT ARGUMENTS`, which needs nobody's routes.
  [[nodiscard]] static Words RunWords(const Words& options, const std::string& script,
                                      const Words& arguments = {}) {
    Words words{"penstock", "run", "--relay-threads", GetParam(), "--static"};
    words.insert(words.end(), options.begin(), options.end());
    words.insert(words.end(), {"--", "bash", "-c", script});
    words.insert(words.end(), arguments.begin(), arguments.end());
    return words;
  }
  // One that runs `script` with input() as its standard input, and takes orders.
  [[nodiscard]] std::unique_ptr<Program> Start(Words options, const std::string& script,
                                               const Words& arguments = {}) {
    if (mkfifo(input().c_str(), 0600) != 0) throw std::runtime_error("mkfifo");
    input_.Reset(open(input().c_str(), O_RDWR | O_CLOEXEC));
    options.insert(options.end(), {"--control", control()});
    return std::make_unique<Program>(
        RunWords(options, "exec 0<" + input() + ";" + script, arguments));
  }
  void Say(const std::string& line) const {
    if (write(input_.get(), (line + "\n").c_str(), line.size() + 1) < 0) {
      throw std::runtime_error("write");
    }
  }
  // Whether the sandbox of kTry can connect.
  std::string Try(Program& penstock, const std::string& host, uint16_t port) {
    const std::string id = "try" + std::to_string(++tries_);
    Say(id + " " + host + " " + std::to_string(port));
    return penstock.AwaitLine(id + " ");
  }
  static void End(Program& penstock) {
    penstock.Kill(SIGKILL);
    (void)penstock.Wait();
  }

  // `penstock WORDS --control PATH`.
  [[nodiscard]] Outcome Order(Words words) const {
    words.insert(words.begin(), "penstock");
    words.insert(words.end(), {"--control", control()});
    return RunProgram(words);
  }

  // A connection to the control socket on which `request` was sent.
  [[nodiscard]] Descriptor Send(const std::string& request) const {
    auto client = ConnectToControl(control(), std::chrono::seconds(kLimitSeconds));
    if (!client.ok()) throw std::runtime_error(client.status().ToString());
    (void)!send(client->get(), request.data(), request.size(), MSG_NOSIGNAL);
    return *std::move(client);
  }
  // The next line that holds `part`.
  static nlohmann::json NextLine(const Descriptor& client, const std::string& part) {
    std::string line;
    char byte = 0;
    while (recv(client.get(), &byte, 1, 0) == 1) {
      if (byte != '\n') {
        line += byte;
      } else if (line.find(part) != std::string::npos) {
        return nlohmann::json::parse(line, nullptr, false);
      } else {
        line.clear();
      }
    }
    throw std::runtime_error("no line with " + part);
  }
  [[nodiscard]] Descriptor Subscribe() const {
    Descriptor client = Send("{\"execute\":\"events\"}");
    (void)NextLine(client, "return");
    return client;
  }
  [[nodiscard]] std::string ErrorOf(const std::string& request) const {
    const Descriptor client = Send(request);
    shutdown(client.get(), SHUT_WR);
    const nlohmann::json answer = NextLine(client, "");
    return answer.contains("error") ? answer["error"]["desc"].get<std::string>() : answer.dump();
  }

  TemporaryFolder folder_;
  Descriptor input_;
  int tries_ = 0;
};

// How often `part` is in `text`.
inline size_t CountOf(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++count;
  return count;
}

}  // namespace penstock::tool

#endif  // PENSTOCK_TESTS_TOOLS_POLICED_RUN_H_
