// A kernel that is short of everything and interrupts all the time: a library to be preloaded
// into penstock, which makes some of its system calls fail, or do less than they were asked.
//
// Which, is what the seed says in the file that PENSTOCK_FAULTS_FILE names (fault_file.h),
// mapped and shared: the test turns faults on once penstock is set up, and reads how many
// there were. The n-th call that may fail draws from the seed and n; with threads their order
// is the scheduler's, so a seed repeats the mixture and not the run.
//
// Nothing is done that Linux does not do. A read of Asio's is never cut short, and finds what
// is there: it has an edge-triggered descriptor, which would not be reported again.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>

#include "tests/preload/fault_file.h"

#define PENSTOCK_EXPORT extern "C" [[gnu::visibility("default")]]

namespace penstock {
namespace {

FaultFile* file = nullptr;  // nullptr: nobody asked for faults

[[gnu::constructor]] void Open() {
  const char* path = std::getenv("PENSTOCK_FAULTS_FILE");
  if (path == nullptr) return;
  const int descriptor = open(path, O_RDWR | O_CLOEXEC);
  void* memory =
      mmap(nullptr, sizeof(FaultFile), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (descriptor < 0 || memory == MAP_FAILED) std::abort();
  close(descriptor);
  unsetenv("PENSTOCK_FAULTS_FILE");  // what penstock starts has no part in it
  file = static_cast<FaultFile*>(memory);
}

// SplitMix64.
uint64_t Mix(uint64_t state) {
  state += 0x9e3779b97f4a7c15;
  state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9;
  state = (state ^ (state >> 27)) * 0x94d049bb133111eb;
  return state ^ (state >> 31);
}

// 0, or a number that says which fault this call has.
uint64_t Draw(FaultKind kind) {
  if (file == nullptr || file->kind.load(std::memory_order_acquire) != kind) return 0;
  const uint64_t number = file->drawn.fetch_add(1, std::memory_order_relaxed);
  const uint64_t drawn = Mix(file->seed + number);
  return drawn % file->one_in == 0 ? std::max<uint64_t>(drawn / file->one_in, 1) : 0;
}

bool Fails(int error) {
  file->faults.fetch_add(1, std::memory_order_relaxed);
  errno = error;
  return true;
}

// True, and errno is one of `errors`, where a fault of `kind` is drawn.
bool Fails(FaultKind kind, std::initializer_list<int> errors) {
  const uint64_t drawn = Draw(kind);
  return drawn != 0 && Fails(errors.begin()[drawn % errors.size()]);
}

// `bytes`, or less of them but one.
size_t Shortened(size_t bytes) {
  const uint64_t drawn = Draw(FaultKind::kTransient);
  if (drawn == 0 || bytes < 2) return bytes;
  file->faults.fetch_add(1, std::memory_order_relaxed);
  return 1 + drawn % (bytes - 1);
}

// libc's function of this name.
template <typename Function>
Function* Next(Function*, const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

constexpr FaultKind kTransient = FaultKind::kTransient, kRefusal = FaultKind::kRefusal;

}  // namespace
}  // namespace penstock

#define PENSTOCK_NEXT(name) static auto* const next = penstock::Next(&::name, #name)

using penstock::Fails;
using penstock::kRefusal;
using penstock::kTransient;
using penstock::Shortened;

// ---------------------------------------------------------------- the tap

PENSTOCK_EXPORT ssize_t readv(int fd, const iovec* parts, int count) {
  PENSTOCK_NEXT(readv);
  return Fails(kTransient, {EINTR, EAGAIN}) ? -1 : next(fd, parts, count);
}
PENSTOCK_EXPORT ssize_t writev(int fd, const iovec* parts, int count) {
  PENSTOCK_NEXT(writev);
  if (Fails(kTransient, {EINTR, EAGAIN}) || Fails(kRefusal, {ENOBUFS, ENOMEM, EIO})) return -1;
  return next(fd, parts, count);
}

// ---------------------------------------------------------------- doorbells

PENSTOCK_EXPORT ssize_t read(int fd, void* room, size_t bytes) {
  PENSTOCK_NEXT(read);
  return Fails(kTransient, {EINTR}) ? -1 : next(fd, room, bytes);
}
PENSTOCK_EXPORT int epoll_wait(int fd, epoll_event* events, int count, int timeout) {
  PENSTOCK_NEXT(epoll_wait);
  if (Fails(kTransient, {EINTR})) return -1;
  return next(fd, events, static_cast<int>(Shortened(static_cast<size_t>(count))), timeout);
}
PENSTOCK_EXPORT int epoll_ctl(int fd, int change, int of, epoll_event* event) {
  PENSTOCK_NEXT(epoll_ctl);
  if (change == EPOLL_CTL_ADD && Fails(kRefusal, {ENOMEM, ENOSPC})) return -1;
  return next(fd, change, of, event);
}

// ---------------------------------------------------------------- host sockets

PENSTOCK_EXPORT ssize_t recv(int fd, void* room, size_t bytes, int flags) {
  PENSTOCK_NEXT(recv);
  if (Fails(kTransient, {EINTR})) return -1;
  return next(fd, room, (flags & MSG_DONTWAIT) != 0 ? Shortened(bytes) : bytes, flags);
}
PENSTOCK_EXPORT ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  PENSTOCK_NEXT(sendmsg);
  if (Fails(kTransient, {EINTR, EAGAIN}) || Fails(kRefusal, {ENOBUFS, ENOMEM})) return -1;
  if (message->msg_iovlen == 0 || message->msg_name != nullptr) return next(fd, message, flags);
  iovec first = message->msg_iov[0];
  const size_t bytes = Shortened(first.iov_len);
  if (bytes == first.iov_len) return next(fd, message, flags);
  first.iov_len = bytes;
  msghdr cut = *message;
  cut.msg_iov = &first;
  cut.msg_iovlen = 1;
  return next(fd, &cut, flags);
}
PENSTOCK_EXPORT int recvmmsg(int fd, mmsghdr* messages, unsigned int count, int flags,
                             timespec* timeout) {
  PENSTOCK_NEXT(recvmmsg);
  if (Fails(kTransient, {EINTR}) || Fails(kRefusal, {ENOMEM, ENOBUFS})) return -1;
  return next(fd, messages, count, flags, timeout);
}
PENSTOCK_EXPORT int sendmmsg(int fd, mmsghdr* messages, unsigned int count, int flags) {
  PENSTOCK_NEXT(sendmmsg);
  if (Fails(kTransient, {EINTR, EAGAIN}) || Fails(kRefusal, {ENOBUFS, ENOMEM})) return -1;
  return next(fd, messages, static_cast<unsigned int>(Shortened(count)), flags);
}
PENSTOCK_EXPORT int socket(int domain, int type, int protocol) {
  PENSTOCK_NEXT(socket);
  return Fails(kRefusal, {EMFILE, ENFILE, ENOBUFS, ENOMEM}) ? -1 : next(domain, type, protocol);
}
PENSTOCK_EXPORT int connect(int fd, const sockaddr* to, socklen_t length) {
  PENSTOCK_NEXT(connect);
  return Fails(kRefusal, {ENOBUFS, ENOMEM, EADDRNOTAVAIL}) ? -1 : next(fd, to, length);
}
PENSTOCK_EXPORT int accept4(int fd, sockaddr* from, socklen_t* length, int flags) {
  PENSTOCK_NEXT(accept4);
  if (Fails(kTransient, {EINTR, ECONNABORTED})) return -1;
  if (Fails(kRefusal, {EMFILE, ENFILE, ENOBUFS, ENOMEM})) return -1;
  return next(fd, from, length, flags);
}
