// What penstock asks of the system: a library to be preloaded into it, which counts the
// calls of each kind that it makes and the bytes they move, and its allocations. No tracer
// stands between, so the calls are those that it makes when nobody looks.
//
// The counts lie in the file that PENSTOCK_CALLS_FILE names, mapped and shared, so that
// another process reads them at any moment: bench/counts.py, in the layout of Count. What is
// counted are calls through libc's functions, which is all that penstock and Asio make once
// they run, but for the locks of the C library and what malloc itself asks for; `strace -c`
// shows the same. Any thread.
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#define PENSTOCK_EXPORT extern "C" [[gnu::visibility("default")]]

// In the order in which the file has them.
#define PENSTOCK_CALLS(X) \
  X(read)                 \
  X(write)                \
  X(readv)                \
  X(writev)               \
  X(recv)                 \
  X(recvfrom)             \
  X(recvmsg)              \
  X(recvmmsg)             \
  X(send)                 \
  X(sendto)               \
  X(sendmsg)              \
  X(sendmmsg)             \
  X(splice)               \
  X(epoll_wait)           \
  X(epoll_pwait)          \
  X(epoll_ctl)            \
  X(poll)                 \
  X(ppoll)                \
  X(socket)               \
  X(connect)              \
  X(bind)                 \
  X(accept)               \
  X(accept4)              \
  X(close)                \
  X(shutdown)             \
  X(setsockopt)           \
  X(getsockopt)           \
  X(getsockname)          \
  X(getpeername)          \
  X(ioctl)                \
  X(fcntl)                \
  X(timerfd_settime)      \
  X(mmap)                 \
  X(munmap)               \
  X(madvise)              \
  X(syscall)              \
  X(malloc)

namespace penstock {
namespace {

struct Count {
  char name[24];
  std::atomic<uint64_t> calls;
  std::atomic<uint64_t> empty;   // nothing came of it: an error, no event
  std::atomic<uint64_t> amount;  // sum of the results above 0
};

enum Call : size_t {
#define PENSTOCK_X(name) k_##name,
  PENSTOCK_CALLS(PENSTOCK_X)
#undef PENSTOCK_X
      kCallCount
};

Count* counts = nullptr;  // nullptr: nobody asked

void Note(Call call, int64_t result) {
  if (counts == nullptr) return;
  Count& count = counts[call];
  count.calls.fetch_add(1, std::memory_order_relaxed);
  if (result <= 0) count.empty.fetch_add(1, std::memory_order_relaxed);
  if (result > 0) {
    count.amount.fetch_add(static_cast<uint64_t>(result), std::memory_order_relaxed);
  }
}

[[gnu::constructor]] void Open() {
  const char* path = std::getenv("PENSTOCK_CALLS_FILE");
  if (path == nullptr) return;
  constexpr size_t kBytes = sizeof(Count) * kCallCount;
  const int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (file < 0 || ftruncate(file, kBytes) != 0) std::abort();
  void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED) std::abort();
  close(file);
  unsetenv("PENSTOCK_CALLS_FILE");  // what penstock starts has no part in it
  auto* opened = static_cast<Count*>(memory);
  size_t i = 0;
  for (const char* name : {
#define PENSTOCK_X(name) #name,
           PENSTOCK_CALLS(PENSTOCK_X)
#undef PENSTOCK_X
       }) {
    for (size_t at = 0; name[at] != 0; ++at) opened[i].name[at] = name[at];
    ++i;
  }
  counts = opened;
}

// libc's function of this name.
template <typename Function>
Function* Next(Function*, const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace
}  // namespace penstock

// PENSTOCK_WRAP(what it returns, its name, parameters, their names)
#define PENSTOCK_WRAP(result_type, name, parameters, arguments)       \
  PENSTOCK_EXPORT result_type name parameters {                       \
    static auto* const next = penstock::Next(&::name, #name);         \
    const result_type result = next arguments;                        \
    const int error = errno;                                          \
    penstock::Note(penstock::k_##name, static_cast<int64_t>(result)); \
    errno = error;                                                    \
    return result;                                                    \
  }

using Address = sockaddr;

PENSTOCK_WRAP(ssize_t, read, (int fd, void* room, size_t bytes), (fd, room, bytes))
PENSTOCK_WRAP(ssize_t, write, (int fd, const void* from, size_t bytes), (fd, from, bytes))
PENSTOCK_WRAP(ssize_t, readv, (int fd, const iovec* parts, int count), (fd, parts, count))
PENSTOCK_WRAP(ssize_t, writev, (int fd, const iovec* parts, int count), (fd, parts, count))
PENSTOCK_WRAP(ssize_t, recv, (int fd, void* room, size_t bytes, int flags),
              (fd, room, bytes, flags))
PENSTOCK_WRAP(ssize_t, recvfrom,
              (int fd, void* room, size_t bytes, int flags, Address* from, socklen_t* length),
              (fd, room, bytes, flags, from, length))
PENSTOCK_WRAP(ssize_t, recvmsg, (int fd, msghdr* message, int flags), (fd, message, flags))
PENSTOCK_WRAP(ssize_t, send, (int fd, const void* from, size_t bytes, int flags),
              (fd, from, bytes, flags))
PENSTOCK_WRAP(ssize_t, sendto,
              (int fd, const void* from, size_t bytes, int flags, const Address* to,
               socklen_t length),
              (fd, from, bytes, flags, to, length))
PENSTOCK_WRAP(ssize_t, sendmsg, (int fd, const msghdr* message, int flags), (fd, message, flags))
PENSTOCK_WRAP(ssize_t, splice,
              (int from, off64_t* from_at, int to, off64_t* to_at, size_t bytes,
               unsigned int flags),
              (from, from_at, to, to_at, bytes, flags))
PENSTOCK_WRAP(int, epoll_wait, (int fd, epoll_event* events, int count, int timeout),
              (fd, events, count, timeout))
PENSTOCK_WRAP(int, epoll_pwait,
              (int fd, epoll_event* events, int count, int timeout, const sigset_t* signals),
              (fd, events, count, timeout, signals))
PENSTOCK_WRAP(int, epoll_ctl, (int fd, int change, int of, epoll_event* event),
              (fd, change, of, event))
PENSTOCK_WRAP(int, poll, (pollfd * descriptors, nfds_t count, int timeout),
              (descriptors, count, timeout))
PENSTOCK_WRAP(int, ppoll,
              (pollfd * descriptors, nfds_t count, const timespec* timeout,
               const sigset_t* signals),
              (descriptors, count, timeout, signals))
PENSTOCK_WRAP(int, socket, (int domain, int type, int protocol), (domain, type, protocol))
PENSTOCK_WRAP(int, connect, (int fd, const Address* to, socklen_t length), (fd, to, length))
PENSTOCK_WRAP(int, bind, (int fd, const Address* to, socklen_t length), (fd, to, length))
PENSTOCK_WRAP(int, accept, (int fd, Address* from, socklen_t* length), (fd, from, length))
PENSTOCK_WRAP(int, accept4, (int fd, Address* from, socklen_t* length, int flags),
              (fd, from, length, flags))
PENSTOCK_WRAP(int, close, (int fd), (fd))
PENSTOCK_WRAP(int, shutdown, (int fd, int how), (fd, how))
PENSTOCK_WRAP(int, setsockopt, (int fd, int level, int option, const void* value, socklen_t bytes),
              (fd, level, option, value, bytes))
PENSTOCK_WRAP(int, getsockopt, (int fd, int level, int option, void* value, socklen_t* bytes),
              (fd, level, option, value, bytes))
PENSTOCK_WRAP(int, getsockname, (int fd, Address* to, socklen_t* bytes), (fd, to, bytes))
PENSTOCK_WRAP(int, getpeername, (int fd, Address* to, socklen_t* bytes), (fd, to, bytes))
PENSTOCK_WRAP(int, timerfd_settime, (int fd, int flags, const itimerspec* when, itimerspec* before),
              (fd, flags, when, before))
PENSTOCK_WRAP(int, munmap, (void* memory, size_t bytes), (memory, bytes))
PENSTOCK_WRAP(int, madvise, (void* memory, size_t bytes, int advice), (memory, bytes, advice))

// Of several messages the amount is their bytes, too.
PENSTOCK_EXPORT int recvmmsg(int fd, mmsghdr* messages, unsigned int count, int flags,
                             timespec* timeout) {
  static auto* const next = penstock::Next(&::recvmmsg, "recvmmsg");
  const int result = next(fd, messages, count, flags, timeout);
  const int error = errno;
  int64_t bytes = 0;
  for (int i = 0; i < result; ++i) bytes += messages[i].msg_len;
  penstock::Note(penstock::k_recvmmsg, bytes);
  errno = error;
  return result;
}
PENSTOCK_EXPORT int sendmmsg(int fd, mmsghdr* messages, unsigned int count, int flags) {
  static auto* const next = penstock::Next(&::sendmmsg, "sendmmsg");
  const int result = next(fd, messages, count, flags);
  const int error = errno;
  int64_t bytes = 0;
  for (int i = 0; i < result; ++i) bytes += messages[i].msg_len;
  penstock::Note(penstock::k_sendmmsg, bytes);
  errno = error;
  return result;
}

PENSTOCK_EXPORT void* mmap(void* where, size_t bytes, int protection, int flags, int fd,
                           off_t offset) noexcept {
  static auto* const next = penstock::Next(&::mmap, "mmap");
  penstock::Note(penstock::k_mmap, 0);
  return next(where, bytes, protection, flags, fd, offset);
}

// With a third argument of any kind, or none.
PENSTOCK_EXPORT int ioctl(int fd, unsigned long request, ...) noexcept {
  static auto* const next = penstock::Next(&::ioctl, "ioctl");
  va_list rest;
  va_start(rest, request);
  void* const argument = va_arg(rest, void*);
  va_end(rest);
  penstock::Note(penstock::k_ioctl, 0);
  return next(fd, request, argument);
}
PENSTOCK_EXPORT int fcntl(int fd, int request, ...) {
  static auto* const next = penstock::Next(&::fcntl, "fcntl");
  va_list rest;
  va_start(rest, request);
  void* const argument = va_arg(rest, void*);
  va_end(rest);
  penstock::Note(penstock::k_fcntl, 0);
  return next(fd, request, argument);
}
// What has no function of its own, such as io_uring_enter.
PENSTOCK_EXPORT long syscall(long number, ...) noexcept {
  static auto* const next = penstock::Next(&::syscall, "syscall");
  va_list rest;
  va_start(rest, number);
  long arguments[6];
  for (long& argument : arguments) argument = va_arg(rest, long);
  va_end(rest);
  penstock::Note(penstock::k_syscall, 0);
  return next(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
              arguments[5]);
}

// Allocations of every kind are `malloc`; the amount is the bytes asked for. glibc's own
// functions, so that nothing has to be looked up before the first one.
extern "C" {
void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t count, size_t bytes);
void* __libc_realloc(void* block, size_t bytes);
void* __libc_memalign(size_t alignment, size_t bytes);
}

PENSTOCK_EXPORT void* malloc(size_t bytes) {
  penstock::Note(penstock::k_malloc, static_cast<int64_t>(bytes));
  return __libc_malloc(bytes);
}
PENSTOCK_EXPORT void* calloc(size_t count, size_t bytes) {
  penstock::Note(penstock::k_malloc, static_cast<int64_t>(count * bytes));
  return __libc_calloc(count, bytes);
}
PENSTOCK_EXPORT void* realloc(void* block, size_t bytes) {
  penstock::Note(penstock::k_malloc, static_cast<int64_t>(bytes));
  return __libc_realloc(block, bytes);
}
PENSTOCK_EXPORT void* memalign(size_t alignment, size_t bytes) {
  penstock::Note(penstock::k_malloc, static_cast<int64_t>(bytes));
  return __libc_memalign(alignment, bytes);
}
PENSTOCK_EXPORT void* aligned_alloc(size_t alignment, size_t bytes) {
  penstock::Note(penstock::k_malloc, static_cast<int64_t>(bytes));
  return __libc_memalign(alignment, bytes);
}
PENSTOCK_EXPORT int posix_memalign(void** block, size_t alignment, size_t bytes) {
  penstock::Note(penstock::k_malloc, static_cast<int64_t>(bytes));
  *block = __libc_memalign(alignment, bytes);
  return *block == nullptr ? ENOMEM : 0;
}
