// Allocations that fail on purpose, in this program: what penstock and lwIP ask of malloc
// and of operator new, counted and refused by number.
//
// The linker leads every call of malloc and its kin here (--wrap, tests/CMakeLists.txt),
// those of the archives with them, and this program's operator new is the one that all of
// it uses. Only what is asked for while an AllocationsCount lives is counted and may fail,
// so that a test's own allocations never do. One thread.
#ifndef PENSTOCK_TESTS_FAULTS_FAILING_ALLOCATOR_H_
#define PENSTOCK_TESTS_FAULTS_FAILING_ALLOCATOR_H_

#include <cstdint>

namespace penstock::faults {

enum class Allocator : uint8_t {
  kMalloc,  // lwIP and the pools of buffers: a null pointer says no
  kNew,     // everything else: std::bad_alloc does
};

// The allocations of `allocator` with the numbers first to first + count - 1 fail, counted
// from now on and from 1; with `first` 0 none does.
struct AllocationFault {
  Allocator allocator = Allocator::kMalloc;
  uint64_t first = 0;
  uint64_t count = 1;
};
void FailAllocations(const AllocationFault& fault);

// Since FailAllocations.
[[nodiscard]] uint64_t AllocationsSeen();
[[nodiscard]] uint64_t AllocationsFailed();

class AllocationsCount final {
 public:
  AllocationsCount();
  ~AllocationsCount();
  AllocationsCount(const AllocationsCount&) = delete;
  AllocationsCount& operator=(const AllocationsCount&) = delete;
};

}  // namespace penstock::faults

#endif  // PENSTOCK_TESTS_FAULTS_FAILING_ALLOCATOR_H_
