#include "relay/out_of_memory.h"

#include <cstdio>
#include <cstdlib>

namespace penstock {

void EndWithoutMemory() noexcept {
  std::fputs("penstock: out of memory\n", stderr);
  std::abort();
}

}  // namespace penstock
