// CHECK for our own bugs, on in release builds. A guest's bytes never reach one.
#ifndef PENSTOCK_RELAY_CHECK_H_
#define PENSTOCK_RELAY_CHECK_H_

namespace penstock {
// Says file, line and what on stderr, then aborts.
[[noreturn]] void CheckFailed(const char* file, int line, const char* what) noexcept;
}  // namespace penstock

#define PENSTOCK_CHECK(condition) \
  ((condition) ? (void)0 : ::penstock::CheckFailed(__FILE__, __LINE__, #condition))

#endif  // PENSTOCK_RELAY_CHECK_H_
