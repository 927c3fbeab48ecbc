#include "tests/support/sandbox_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace penstock::e2e {
namespace {

// Milliseconds until `deadline`, rounded up, not below zero: poll(2)'s argument.
int MillisecondsUntil(Time deadline) {
  auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
  return left.count() > 0 ? static_cast<int>(left.count()) : 0;
}

std::string Join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

Descriptor MemoryFile(const std::string& content) {
  Descriptor file(memfd_create("input", MFD_CLOEXEC));
  if (file.get() < 0) ThrowErrno("memfd_create");
  if (write(file.get(), content.data(), content.size()) != static_cast<ssize_t>(content.size())) {
    ThrowErrno("write to a memory file");
  }
  if (lseek(file.get(), 0, SEEK_SET) < 0) ThrowErrno("lseek");
  return file;
}

// In the child. Returns only on failure, with errno set.
void BecomeProgram(char* const* arguments, const ProcessOptions& options, int input) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return;
  if (options.network_namespace >= 0 && setns(options.network_namespace, CLONE_NEWNET) != 0) return;
  if (options.own_network_namespace && unshare(CLONE_NEWNET) != 0) return;
  if (input >= 0 && dup2(input, STDIN_FILENO) < 0) return;
  if (options.output >= 0) {
    if (dup2(options.output, STDOUT_FILENO) < 0) return;
    if (dup2(options.output, STDERR_FILENO) < 0) return;
  }
  for (int descriptor : options.kept) {
    if (fcntl(descriptor, F_SETFD, 0) != 0) return;
  }
  if (options.before_exec) options.before_exec();
  execvp(arguments[0], arguments);
}

}  // namespace

void ThrowErrno(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    Close();
    descriptor_ = other.Release();
  }
  return *this;
}

int Descriptor::Release() { return std::exchange(descriptor_, -1); }

void Descriptor::Close() {
  if (descriptor_ >= 0) close(Release());
}

Pipe::Pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) ThrowErrno("pipe2");
  reading_end = Descriptor(ends[0]);
  writing_end = Descriptor(ends[1]);
}

Process::Process(const std::vector<std::string>& command, const ProcessOptions& options) {
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  Descriptor input;
  if (!options.input.empty()) input = MemoryFile(options.input);

  // Close-on-exec: end of file says that exec went well, an errno that it did not.
  Pipe failure;
  pid_ = fork();
  if (pid_ < 0) ThrowErrno("fork");
  if (pid_ == 0) {
    BecomeProgram(arguments.data(), options, input.get());
    int error = errno;
    (void)!write(failure.writing_end.get(), &error, sizeof error);
    _exit(127);
  }
  failure.writing_end.Close();
  int error = 0;
  if (read(failure.reading_end.get(), &error, sizeof error) == 0) return;
  waitpid(std::exchange(pid_, -1), nullptr, 0);
  throw std::system_error(error, std::generic_category(), "cannot start " + Join(command));
}

Process::~Process() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

Process::Process(Process&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}

Process& Process::operator=(Process&& other) noexcept {
  std::swap(pid_, other.pid_);
  return *this;
}

void Process::Signal(int signal) const {
  if (kill(pid_, signal) != 0) ThrowErrno("kill");
}

int Process::Wait(Duration limit) {
  Descriptor process(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
  if (process.get() < 0) ThrowErrno("pidfd_open");
  Time deadline = Clock::now() + limit;
  pollfd ended{.fd = process.get(), .events = POLLIN, .revents = 0};
  int ready;
  do {
    ready = poll(&ended, 1, MillisecondsUntil(deadline));
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) {
    kill(pid_, SIGKILL);
    waitpid(std::exchange(pid_, -1), nullptr, 0);
    throw std::runtime_error("a child process did not end in time");
  }
  int status = 0;
  if (waitpid(std::exchange(pid_, -1), &status, 0) < 0) ThrowErrno("waitpid");
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

CommandResult RunCommand(const std::vector<std::string>& command, ProcessOptions options,
                         Duration limit) {
  Time deadline = Clock::now() + limit;
  Pipe output;
  options.output = output.writing_end.get();
  Process process(command, options);
  output.writing_end.Close();

  CommandResult result;
  char buffer[4096];
  for (;;) {
    pollfd readable{.fd = output.reading_end.get(), .events = POLLIN, .revents = 0};
    if (poll(&readable, 1, MillisecondsUntil(deadline)) == 0) {
      throw std::runtime_error(Join(command) + " did not end in time; it said:\n" + result.output);
    }
    ssize_t size = read(output.reading_end.get(), buffer, sizeof buffer);
    if (size < 0) ThrowErrno("read the output of " + Join(command));
    if (size == 0) break;
    result.output.append(buffer, static_cast<size_t>(size));
  }
  result.status = process.Wait(std::chrono::seconds(10));
  return result;
}

std::string RunOrThrow(const std::vector<std::string>& command, ProcessOptions options) {
  CommandResult result = RunCommand(command, std::move(options));
  if (result.status == 0) return result.output;
  throw std::runtime_error(Join(command) + " ended with status " + std::to_string(result.status) +
                           ":\n" + result.output);
}

}  // namespace penstock::e2e
