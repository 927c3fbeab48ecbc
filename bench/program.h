// What the programs of the system benchmarks share: failing with a sentence, reading
// their arguments, and what the measured processes use.
//
// One thread.
#ifndef PENSTOCK_BENCH_PROGRAM_H_
#define PENSTOCK_BENCH_PROGRAM_H_

#include <netinet/in.h>

#include <cstdint>
#include <string>
#include <vector>

namespace penstock {

// Writes "<program>: <what>" to standard error and ends the process at once, whatever
// its threads do.
[[noreturn]] void Fail(const std::string& what);
[[noreturn]] void FailErrno(const std::string& what);

[[nodiscard]] std::vector<std::string> Split(const std::string& text, char separator);

// "192.0.2.1:80"; fails with a sentence on anything else.
[[nodiscard]] sockaddr_in ParseEndpoint(const std::string& text);

// Up to the hard limit: ten thousand connections want more than the usual soft one.
void RaiseDescriptorLimit();

struct ProcessUsage {
  double cpu_seconds = 0;       // user and system, all threads, living and gone
  uint64_t resident_bytes = 0;  // to within some 100 KiB: the kernel counts it per core
};

// Of processes together, from /proc/PID/stat; fails if one of them is gone.
[[nodiscard]] ProcessUsage UsageOf(const std::vector<std::string>& pids);

}  // namespace penstock

#endif  // PENSTOCK_BENCH_PROGRAM_H_
