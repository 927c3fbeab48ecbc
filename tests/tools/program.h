// Starts the built programs as a user would, and looks at what they do. Nothing is
// waited for without a limit, and whatever a test started ends with it.
#ifndef PENSTOCK_TESTS_TOOLS_PROGRAM_H_
#define PENSTOCK_TESTS_TOOLS_PROGRAM_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace penstock::tool {

// The longest that anything may take; far more than it does.
inline constexpr int kLimitSeconds = 20;

// How a program ended and what it said.
struct Outcome {
  int status = -1;  // 128 + the signal that killed it
  std::string output;
  std::string errors;
};

class Program final {
 public:
  // `words[0]` is a program of this build ("penstock", "net-echo"), or one on PATH.
  // `setup` runs in the child before exec; what it throws ends the child with
  // status 99 and the sentence on stderr.
  explicit Program(const std::vector<std::string>& words, std::function<void()> setup = {});
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program();  // kills it

  [[nodiscard]] pid_t pid() const { return pid_; }
  void Kill(int signal) const;
  // Reads on until stdout has a whole line that starts with `start`; returns the rest
  // of that line.
  [[nodiscard]] std::string AwaitLine(const std::string& start);
  // The same, behind the line that was found by this the last time.
  [[nodiscard]] std::string AwaitNextLine(const std::string& start);
  // As AwaitLine, on stderr.
  [[nodiscard]] std::string AwaitErrorLine(const std::string& start);
  [[nodiscard]] Outcome Wait();

 private:
  // Reads once from both streams; false at the end of both, throws after the limit.
  bool ReadSome();
  // Behind the first `from` bytes, which it moves behind the line.
  [[nodiscard]] std::string AwaitLineOf(const std::string& stream, const std::string& start,
                                        size_t& from);

  pid_t pid_ = -1;
  int output_ = -1;
  int errors_ = -1;
  size_t read_to_ = 0;  // of the output, by AwaitNextLine
  Outcome outcome_;
};

[[nodiscard]] Outcome RunProgram(const std::vector<std::string>& words,
                                 std::function<void()> setup = {});

// Waits for the end of a process that may be anybody's child; false after the limit.
[[nodiscard]] bool AwaitEnd(pid_t pid);

// A folder that vanishes with its owner.
class TemporaryFolder final {
 public:
  TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder();
  [[nodiscard]] std::string operator/(const std::string& name) const;
  // Waits until `name` was moved here and returns what it holds.
  [[nodiscard]] std::string AwaitMovedFile(const std::string& name);

 private:
  std::string path_;
  int watch_ = -1;
};

[[nodiscard]] std::string ReadFile(const std::string& path);

// Where a net-echo listens, which says so: `protocol` is "TCP" or "UDP".
[[nodiscard]] uint16_t EchoPort(Program& echo, const std::string& protocol);

}  // namespace penstock::tool

#endif  // PENSTOCK_TESTS_TOOLS_PROGRAM_H_
