// What becomes of a process whose operator new finds no memory where nothing can be refused:
// it ends, with one sentence. (malloc under a stack's pools and under lwIP may fail, and so
// may what a flow begins with: that refuses, drops or resets, and is counted.)
//
// A container that cannot grow, in the middle of a change, leaves no state to go on with:
// Abseil's hash tables, for one, are broken by it. So std::bad_alloc leaves neither a pass of
// the stack nor a relay's thread.
#ifndef PENSTOCK_RELAY_OUT_OF_MEMORY_H_
#define PENSTOCK_RELAY_OUT_OF_MEMORY_H_

#include <new>

namespace penstock {

// Says so on stderr, then aborts.
[[noreturn]] void EndWithoutMemory() noexcept;

// Returns what `work` does. Whatever else it throws is passed on.
template <typename Work>
auto OrEndWithoutMemory(Work&& work) -> decltype(work()) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    EndWithoutMemory();
  }
}

}  // namespace penstock

#endif  // PENSTOCK_RELAY_OUT_OF_MEMORY_H_
