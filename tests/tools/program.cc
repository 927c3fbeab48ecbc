#include "tests/tools/program.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "tests/support/places.h"
#include "tools/penstock/namespaces.h"

namespace penstock::tool {
namespace {

constexpr int kSetupFailed = 99;

std::string PathOf(const std::string& name) {
  const std::string built = ProgramPath(name);
  if (access(built.c_str(), X_OK) == 0) return built;
  for (const char* folder : {"/usr/bin/", "/bin/", "/usr/sbin/", "/sbin/"}) {
    if (access((folder + name).c_str(), X_OK) == 0) return folder + name;
  }
  throw std::runtime_error("no program " + name);
}

// By descriptor: whoever the child becomes need not be able to reach the build tree.
[[noreturn]] void Become(int program, const std::vector<std::string>& words,
                         const std::function<void()>& setup) {
  try {
    if (setup) setup();
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "set-up of the test: %s\n", failure.what());
    _exit(kSetupFailed);
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  fexecve(program, arguments.data(), environ);
  std::fprintf(stderr, "cannot execute %s: %s\n", words[0].c_str(), std::strerror(errno));
  _exit(kSetupFailed);
}

bool AwaitReadable(int descriptor) {
  pollfd watched{.fd = descriptor, .events = POLLIN, .revents = 0};
  return poll(&watched, 1, kLimitSeconds * 1000) == 1;
}

}  // namespace

Program::Program(const std::vector<std::string>& words, std::function<void()> setup) {
  const int program = open(PathOf(words[0]).c_str(), O_PATH | O_CLOEXEC);
  int output[2];
  int errors[2];
  if (program < 0 || pipe2(output, O_CLOEXEC) != 0 || pipe2(errors, O_CLOEXEC) != 0) {
    throw std::runtime_error("cannot start " + words[0]);
  }
  pid_ = ForkInto(0);
  if (pid_ == 0) {
    dup2(output[1], STDOUT_FILENO);
    dup2(errors[1], STDERR_FILENO);
    Become(program, words, setup);
  }
  close(program);
  close(output[1]);
  close(errors[1]);
  output_ = output[0];
  errors_ = errors[0];
}

Program::~Program() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  close(output_);
  close(errors_);
}

void Program::Kill(int signal) const { kill(pid_, signal); }

bool Program::ReadSome() {
  std::array<pollfd, 2> watched{pollfd{.fd = output_, .events = POLLIN, .revents = 0},
                                pollfd{.fd = errors_, .events = POLLIN, .revents = 0}};
  if (poll(watched.data(), watched.size(), kLimitSeconds * 1000) <= 0) {
    throw std::runtime_error("nothing came for " + std::to_string(kLimitSeconds) +
                             " s; so far: " + outcome_.output + outcome_.errors);
  }
  std::array<char, 4096> bytes;
  for (size_t i = 0; i < watched.size(); ++i) {
    if (watched[i].revents == 0) continue;
    const ssize_t length = read(watched[i].fd, bytes.data(), bytes.size());
    int& stream = i == 0 ? output_ : errors_;
    if (length > 0) {
      (i == 0 ? outcome_.output : outcome_.errors).append(bytes.data(), size_t(length));
    } else {
      close(stream);
      stream = -1;
    }
  }
  return output_ >= 0 || errors_ >= 0;
}

std::string Program::AwaitLine(const std::string& start) {
  size_t from = 0;
  return AwaitLineOf(outcome_.output, start, from);
}

std::string Program::AwaitNextLine(const std::string& start) {
  return AwaitLineOf(outcome_.output, start, read_to_);
}

std::string Program::AwaitErrorLine(const std::string& start) {
  size_t from = 0;
  return AwaitLineOf(outcome_.errors, start, from);
}

std::string Program::AwaitLineOf(const std::string& stream, const std::string& start,
                                 size_t& from) {
  for (;;) {
    for (size_t end; (end = stream.find('\n', from)) != std::string::npos;) {
      const std::string line = stream.substr(from, end - from);
      from = end + 1;
      if (line.starts_with(start)) return line.substr(start.size());
    }
    if (!ReadSome()) {
      throw std::runtime_error("it ended without \"" + start + "\": " + outcome_.output +
                               outcome_.errors);
    }
  }
}

Outcome Program::Wait() {
  while (ReadSome()) {
  }
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  outcome_.status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return outcome_;
}

Outcome RunProgram(const std::vector<std::string>& words, std::function<void()> setup) {
  return Program(words, std::move(setup)).Wait();
}

bool AwaitEnd(pid_t pid) {
  const int process = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (process < 0) return errno == ESRCH;
  const bool ended = AwaitReadable(process);
  close(process);
  return ended;
}

TemporaryFolder::TemporaryFolder() : path_("/tmp/penstock-test-XXXXXX") {
  if (mkdtemp(path_.data()) == nullptr) throw std::runtime_error("cannot make a folder in /tmp");
  chmod(path_.c_str(), 0777);  // for those who become another user
  watch_ = inotify_init1(IN_CLOEXEC);
  inotify_add_watch(watch_, path_.c_str(), IN_MOVED_TO);
}

TemporaryFolder::~TemporaryFolder() {
  close(watch_);
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryFolder::operator/(const std::string& name) const { return path_ + "/" + name; }

std::string TemporaryFolder::AwaitMovedFile(const std::string& name) {
  alignas(inotify_event) std::array<char, 4096> events;
  for (;;) {
    if (!AwaitReadable(watch_)) throw std::runtime_error("no file " + name + " came");
    const ssize_t length = read(watch_, events.data(), events.size());
    for (ssize_t at = 0; at < length;) {
      const auto* event = reinterpret_cast<const inotify_event*>(events.data() + at);
      if (event->len > 0 && name == event->name) return ReadFile(*this / name);
      at += static_cast<ssize_t>(sizeof *event + event->len);
    }
  }
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

uint16_t EchoPort(Program& echo, const std::string& protocol) {
  return static_cast<uint16_t>(
      std::stoi(echo.AwaitLine("net-echo: listening on " + protocol + " port ")));
}

}  // namespace penstock::tool
