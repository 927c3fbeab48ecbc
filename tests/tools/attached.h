// A network namespace, and `penstock attach` for it. For bodies of InOwnNamespaces.
#ifndef PENSTOCK_TESTS_TOOLS_ATTACHED_H_
#define PENSTOCK_TESTS_TOOLS_ATTACHED_H_

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/tools/isolation.h"
#include "tests/tools/program.h"

namespace penstock::tool {

// A network namespace, held by a process.
class Holder final {
 public:
  Holder() : process_({"sh", "-c", "echo ready; exec sleep 1000"}, EnterOwnNamespaces) {
    (void)process_.AwaitLine("ready");
  }
  [[nodiscard]] std::string pid() const { return std::to_string(process_.pid()); }
  [[nodiscard]] std::string path() const { return "/proc/" + pid() + "/ns/net"; }
  void End() {
    process_.Kill(SIGKILL);
    (void)process_.Wait();
  }
  // What `ip` says inside.
  [[nodiscard]] std::string Ip(const std::vector<std::string>& words) const {
    std::vector<std::string> all{"nsenter", "--net=" + path(), "ip"};
    all.insert(all.end(), words.begin(), words.end());
    return RunProgram(all).output;
  }

 private:
  Program process_;
};

// `penstock attach`, once it has said that it is ready.
class Attached final {
 public:
  explicit Attached(std::vector<std::string> options, std::function<void()> setup = {}) {
    options.insert(options.begin(), {"penstock", "attach"});
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe");
    // A number that nothing else has; the child's copy is not close-on-exec.
    constexpr int kReady = 77;
    options.insert(options.end(), {"--ready-fd", std::to_string(kReady)});
    program_.emplace(options, [setup, ready = ends[1]] {
      if (dup2(ready, kReady) != kReady) throw std::runtime_error("dup2");
      if (setup) setup();
    });
    close(ends[1]);
    std::array<char, 8> bytes{};
    ssize_t length = 0;
    for (ssize_t n; (n = read(ends[0], bytes.data() + length, bytes.size() - length)) > 0;) {
      length += n;
    }
    close(ends[0]);
    ready_ = std::string(bytes.data(), size_t(length));
    if (ready_ != "1") throw std::runtime_error("not ready: " + program_->Wait().errors);
  }
  Program& operator*() { return *program_; }
  Program* operator->() { return &*program_; }

 private:
  std::optional<Program> program_;
  std::string ready_;
};

}  // namespace penstock::tool

#endif  // PENSTOCK_TESTS_TOOLS_ATTACHED_H_
