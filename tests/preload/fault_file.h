// What a test and the library that it preloads into penstock share (system_calls_preload.cc):
// which calls fail, and how many did.
#ifndef PENSTOCK_TESTS_PRELOAD_FAULT_FILE_H_
#define PENSTOCK_TESTS_PRELOAD_FAULT_FILE_H_

#include <atomic>
#include <cstdint>

namespace penstock {

enum class FaultKind : uint32_t {
  kNone,
  // Interruptions, less than asked, not now: nobody may notice.
  kTransient,
  // No descriptors, memory or buffers, a device that is down: refused, lost or cut, and told.
  kRefusal,
};

struct FaultFile {
  // The test's; `kind` is written last, with release, and read with acquire.
  std::atomic<FaultKind> kind;
  uint64_t seed;
  uint64_t one_in;  // of the calls that may fail
  uint64_t only;    // not 0: the call with this number alone, from 1
  // The library's.
  std::atomic<uint64_t> drawn;  // calls that might have failed
  std::atomic<uint64_t> faults;
};

}  // namespace penstock

#endif  // PENSTOCK_TESTS_PRELOAD_FAULT_FILE_H_
