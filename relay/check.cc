#include "relay/check.h"

#include <cstdio>
#include <cstdlib>

namespace penstock {

void CheckFailed(const char* file, int line, const char* what) noexcept {
  std::fprintf(stderr, "penstock: bug at %s:%d: %s does not hold\n", file, line, what);
  std::abort();
}

}  // namespace penstock
