#include "tests/faults/failing_allocator.h"

#include <cstddef>
#include <cstdlib>
#include <new>

namespace penstock::faults {
namespace {

AllocationFault fault;
uint64_t seen = 0;
uint64_t failed = 0;
int counting = 0;

// True if this allocation fails.
bool Fails(Allocator allocator) {
  if (counting == 0 || allocator != fault.allocator) return false;
  ++seen;
  if (fault.first == 0 || seen < fault.first || seen - fault.first >= fault.count) return false;
  ++failed;
  return true;
}

}  // namespace

void FailAllocations(const AllocationFault& wanted) {
  fault = wanted;
  seen = failed = 0;
}
uint64_t AllocationsSeen() { return seen; }
uint64_t AllocationsFailed() { return failed; }
AllocationsCount::AllocationsCount() { ++counting; }
AllocationsCount::~AllocationsCount() { --counting; }

}  // namespace penstock::faults

// ---------------------------------------------------------------- what the linker leads here

using penstock::faults::Allocator;

extern "C" {

void* __real_malloc(size_t bytes);
void* __real_calloc(size_t count, size_t bytes);
void* __real_realloc(void* block, size_t bytes);
void* __real_aligned_alloc(size_t alignment, size_t bytes);

void* __wrap_malloc(size_t bytes) {
  return penstock::faults::Fails(Allocator::kMalloc) ? nullptr : __real_malloc(bytes);
}
void* __wrap_calloc(size_t count, size_t bytes) {
  return penstock::faults::Fails(Allocator::kMalloc) ? nullptr : __real_calloc(count, bytes);
}
void* __wrap_realloc(void* block, size_t bytes) {
  return penstock::faults::Fails(Allocator::kMalloc) ? nullptr : __real_realloc(block, bytes);
}
void* __wrap_aligned_alloc(size_t alignment, size_t bytes) {
  // Only Asio asks here, for its handlers, and throws.
  return penstock::faults::Fails(Allocator::kNew) ? nullptr
                                                  : __real_aligned_alloc(alignment, bytes);
}

}  // extern "C"

namespace penstock::faults {
namespace {

void* Allocate(size_t bytes, size_t alignment) {
  if (Fails(Allocator::kNew)) throw std::bad_alloc();
  const size_t room = (bytes + alignment) / alignment * alignment;
  void* const block = alignment <= alignof(std::max_align_t)
                          ? __real_malloc(room)
                          : __real_aligned_alloc(alignment, room);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

}  // namespace
}  // namespace penstock::faults

// All forms: a sanitizer's own stand for those that are not here.
void* operator new(size_t bytes) {
  return penstock::faults::Allocate(bytes, alignof(std::max_align_t));
}
void* operator new(size_t bytes, std::align_val_t alignment) {
  return penstock::faults::Allocate(bytes, static_cast<size_t>(alignment));
}
void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  try {
    return operator new(bytes);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void* operator new[](size_t bytes) { return operator new(bytes); }
void* operator new[](size_t bytes, const std::nothrow_t& nothrow) noexcept {
  return operator new(bytes, nothrow);
}
void operator delete[](void* block) noexcept { std::free(block); }
void operator delete[](void* block, size_t) noexcept { std::free(block); }
void operator delete(void* block) noexcept { std::free(block); }
void operator delete(void* block, size_t) noexcept { std::free(block); }
void operator delete(void* block, std::align_val_t) noexcept { std::free(block); }
void operator delete(void* block, size_t, std::align_val_t) noexcept { std::free(block); }
