// The system calls of a penstock that is set up: a list (call_filter.cc), the kernel's seccomp
// behind it. A call that is not on it ends the process at once, by SIGSYS ("Bad system call",
// exit status 159 in a shell), and the kernel notes it where it has an audit log: `dmesg` or
// `ausearch -m SECCOMP` say "type=1326 ... comm="penstock" ... syscall=N", and `ausyscall N`
// what N is. Whoever sees that has found a bug, or is being attacked.
//
// The thread that drives the tool; the list is of all threads of the process, and for good.
#ifndef PENSTOCK_TOOLS_PENSTOCK_CALL_FILTER_H_
#define PENSTOCK_TOOLS_PENSTOCK_CALL_FILTER_H_

#include <sys/types.h>

#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace penstock::tool {

// What this was built with. A sanitizer asks for more than penstock does.
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAddressSanitized = true;
#else
inline constexpr bool kAddressSanitized = false;
#endif
#if defined(__SANITIZE_THREAD__)
inline constexpr bool kThreadSanitized = true;
#else
inline constexpr bool kThreadSanitized = false;
#endif

// An error that says what --no-sandbox is for.
[[nodiscard]] absl::Status CannotConfine(absl::string_view why);

// `signalled`: the one process that signals may be sent to, beside this one.
[[nodiscard]] absl::Status FilterCalls(std::optional<pid_t> signalled);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_CALL_FILTER_H_
