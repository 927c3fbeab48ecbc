#include "bench/program.h"

#include <arpa/inet.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <sstream>

namespace penstock {

void Fail(const std::string& what) {
  std::cerr << program_invocation_short_name << ": " << what << "\n";
  std::_Exit(1);
}

void FailErrno(const std::string& what) { Fail(what + ": " + std::strerror(errno)); }

std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

sockaddr_in ParseEndpoint(const std::string& text) {
  sockaddr_in endpoint{};
  endpoint.sin_family = AF_INET;
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos ||
      inet_pton(AF_INET, text.substr(0, colon).c_str(), &endpoint.sin_addr) != 1) {
    Fail("--connect wants ADDRESS:PORT with an IPv4 address, not " + text);
  }
  endpoint.sin_port = htons(static_cast<uint16_t>(std::stoul(text.substr(colon + 1))));
  return endpoint;
}

void RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) FailErrno("getrlimit");
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) FailErrno("setrlimit");
}

ProcessUsage UsageOf(const std::vector<std::string>& pids) {
  ProcessUsage usage;
  for (const std::string& pid : pids) {
    std::ifstream file("/proc/" + pid + "/stat");
    std::string stat;
    std::getline(file, stat);
    // The fields behind the name, which may hold blanks and parentheses itself. The first
    // is field 3, the state; 14 and 15 are utime and stime, 24 is the resident set.
    const size_t name_end = stat.rfind(')');
    if (name_end == std::string::npos) Fail("process " + pid + ", which is measured, is gone");
    const std::vector<std::string> fields = Split(stat.substr(name_end + 2), ' ');
    usage.cpu_seconds += (std::stod(fields.at(11)) + std::stod(fields.at(12))) /
                         static_cast<double>(sysconf(_SC_CLK_TCK));
    usage.resident_bytes +=
        std::stoull(fields.at(21)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  }
  return usage;
}

}  // namespace penstock
