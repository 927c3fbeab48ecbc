#include "tests/world/child.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <system_error>

namespace penstock::world {
namespace {

// The child's first byte; an early end says neither.
constexpr char kReturned = '+', kThrew = '-';

// In the child: the report, as long as somebody reads it.
[[noreturn]] void Report(int descriptor, const std::string& report) {
  std::fflush(nullptr);
  for (size_t sent = 0; sent < report.size();) {
    const ssize_t count = write(descriptor, report.data() + sent, report.size() - sent);
    if (count < 0 && errno != EINTR) break;
    sent += static_cast<size_t>(std::max<ssize_t>(count, 0));
  }
  _exit(0);
}

[[noreturn]] void RunAndReport(int descriptor, const std::function<void()>& scenario) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  std::string report(1, kReturned);
  try {
    scenario();
  } catch (const std::exception& thrown) {
    report = kThrew + std::string(thrown.what());
  } catch (...) {
    report = kThrew + std::string("threw something that is no std::exception");
  }
  Report(descriptor, report);
}

// Reads to the end of the file; false if that does not come in time.
bool ReadAll(int descriptor, Time deadline, std::string& text) {
  char buffer[4096];
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) return false;
    pollfd readable{.fd = descriptor, .events = POLLIN, .revents = 0};
    if (poll(&readable, 1, static_cast<int>(left.count())) <= 0) continue;
    const ssize_t count = read(descriptor, buffer, sizeof buffer);
    if (count == 0) return true;
    if (count > 0) text.append(buffer, static_cast<size_t>(count));
  }
}

std::string SentenceOf(const std::string& report, int status) {
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    return "the child was ended by signal " + std::to_string(signal) + " (" + strsignal(signal) +
           ")";
  }
  if (report.empty()) {
    return "the child ended early with status " + std::to_string(WEXITSTATUS(status));
  }
  if (report[0] == kReturned) return "";
  return report.size() > 1 ? report.substr(1) : "threw an exception without a word";
}

}  // namespace

std::string RunInChild(const std::function<void()>& scenario, Duration limit) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe2");
  // What is buffered is ours to write, not the child's.
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (child == 0) {
    close(ends[0]);
    RunAndReport(ends[1], scenario);
  }
  close(ends[1]);
  std::string report;
  const bool in_time = ReadAll(ends[0], Clock::now() + limit, report);
  close(ends[0]);
  if (!in_time) kill(child, SIGKILL);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (in_time) return SentenceOf(report, status);
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(limit);
  return "the child did not end within " + std::to_string(seconds.count()) + " s";
}

}  // namespace penstock::world
