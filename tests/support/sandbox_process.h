// Child processes of the end-to-end tests: started with exec, killed with their
// owner, and never waited for without a limit.
//
// The tests' support code throws on whatever a scenario did not foresee
// (std::system_error, std::runtime_error): a scenario reads as a list of steps, and
// gtest or std::future carries the sentence to the report.
#ifndef PENSTOCK_TESTS_SUPPORT_SANDBOX_PROCESS_H_
#define PENSTOCK_TESTS_SUPPORT_SANDBOX_PROCESS_H_

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "relay/time.h"

namespace penstock::e2e {

[[noreturn]] void ThrowErrno(const std::string& what);

// Owns one descriptor.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int descriptor) : descriptor_(descriptor) {}
  ~Descriptor() { Close(); }
  Descriptor(Descriptor&& other) noexcept : descriptor_(other.Release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept;

  [[nodiscard]] int get() const { return descriptor_; }
  int Release();
  void Close();

 private:
  int descriptor_ = -1;
};

struct Pipe {
  Pipe();
  Descriptor reading_end;
  Descriptor writing_end;
};

struct ProcessOptions {
  // The network namespace that the program starts in; -1: the caller's.
  int network_namespace = -1;
  // The program starts in a new, empty network namespace.
  bool own_network_namespace = false;
  std::string input{};      // what the program finds on its stdin
  int output = -1;          // becomes stdout and stderr; -1: the test's own
  std::vector<int> kept{};  // descriptors that stay open, under their numbers
  // Runs in the child before exec. Between fork and exec: system calls only.
  std::function<void()> before_exec{};
};

class Process {
 public:
  Process() = default;
  // Returns when the program runs (exec has happened, namespaces are entered);
  // throws if it cannot be started. The child dies with the calling thread.
  explicit Process(const std::vector<std::string>& command, const ProcessOptions& options = {});
  ~Process();
  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;

  [[nodiscard]] pid_t pid() const { return pid_; }
  void Signal(int signal) const;
  // The exit status, or 128 + the signal that ended it. After `limit` the process is
  // killed and the call throws.
  int Wait(Duration limit);

 private:
  pid_t pid_ = -1;
};

struct CommandResult {
  int status = 0;
  std::string output;  // stdout and stderr
};

// Runs a command to its end, at most `limit`.
CommandResult RunCommand(const std::vector<std::string>& command, ProcessOptions options = {},
                         Duration limit = std::chrono::seconds(60));

// The same; throws with the output if the status is not 0.
std::string RunOrThrow(const std::vector<std::string>& command, ProcessOptions options = {});

}  // namespace penstock::e2e

#endif  // PENSTOCK_TESTS_SUPPORT_SANDBOX_PROCESS_H_
