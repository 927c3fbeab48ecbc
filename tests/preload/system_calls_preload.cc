// A kernel that is short of everything and interrupts all the time: a library to be preloaded
// into penstock, which makes its system calls fail, or do less than they were asked: those
// that move bytes, wait, or make something that may run out.
//
// Which, is what the seed says in the file that PENSTOCK_FAULTS_FILE names (fault_file.h),
// mapped and shared: the test turns faults on when it likes, and reads how many there were.
// The n-th call that may fail draws from the seed and n; with threads and children their order
// is the scheduler's, so a seed repeats the mixture and not the run.
//
// Nothing is done that Linux does not do:
// - A read of Asio's is never cut short, and finds what is there: it has an edge-triggered
//   descriptor, which would not be reported again.
// - Only streams and files are moved in part; a datagram, a netlink message, what an eventfd
//   or a signalfd holds is moved whole or not at all. Each descriptor says which it is when
//   it is made here; of those that penstock was given (or was passed), nothing is known.
// - An eventfd that does not block is written without being interrupted.
// - Options of sockets need memory only where a BPF program looks at them; that one which
//   makes a close a reset is spared.
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
// Behind the headers that it needs:
#include <linux/if_tun.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdarg>
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
  const uint64_t number = file->drawn.fetch_add(1, std::memory_order_relaxed) + 1;
  const uint64_t drawn = Mix(file->seed + number);
  const bool fails = file->only != 0 ? number == file->only : drawn % file->one_in == 0;
  return fails ? std::max<uint64_t>(drawn / file->one_in, 1) : 0;
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

constexpr FaultKind kTransient = FaultKind::kTransient, kRefusal = FaultKind::kRefusal;

bool Interrupted() { return Fails(kTransient, {EINTR}); }
bool NoDescriptor() { return Fails(kRefusal, {EMFILE, ENFILE, ENOMEM}); }

// `count`, or less of them but one.
size_t Shortened(size_t count) {
  if (count < 2) return count;
  const uint64_t drawn = Draw(kTransient);
  if (drawn == 0) return count;
  file->faults.fetch_add(1, std::memory_order_relaxed);
  return 1 + drawn % (count - 1);
}

// How a descriptor moves its bytes.
struct alignas(4) Manner {
  bool in_parts = false;  // as few as the kernel likes
  bool file = false;
  bool blocks = true;
};
constexpr size_t kKnownMax = 8'192;
std::array<std::atomic<Manner>, kKnownMax> manners;

Manner MannerOf(int fd) {
  return static_cast<size_t>(fd) < kKnownMax ? manners[static_cast<size_t>(fd)].load() : Manner{};
}
// A descriptor that was made just now, or the error of it.
int Made(int fd, Manner manner = {}) {
  if (fd >= 0 && static_cast<size_t>(fd) < kKnownMax) manners[static_cast<size_t>(fd)] = manner;
  return fd;
}
// A file that is there and written is one of /proc's: it takes its text at once.
Manner FileManner(int flags) {
  const bool plain = (flags & O_ACCMODE) == O_RDONLY || (flags & O_CREAT) != 0;
  return {.in_parts = plain, .file = plain};
}
Manner SocketManner(int type) {
  return {.in_parts = (type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) == SOCK_STREAM,
          .blocks = (type & SOCK_NONBLOCK) == 0};
}

size_t PartOf(int fd, size_t bytes) { return MannerOf(fd).in_parts ? Shortened(bytes) : bytes; }

// Of a socket's send: interrupted, not now, or no memory.
bool SendFails(int fd, int flags) {
  const bool blocks = MannerOf(fd).blocks && (flags & MSG_DONTWAIT) == 0;
  return (blocks ? Interrupted() : Fails(kTransient, {EINTR, EAGAIN})) ||
         Fails(kRefusal, {ENOBUFS, ENOMEM});
}
// Of a socket's receive; what a stream holds is there already.
bool ReceiveFails(int fd) {
  return Interrupted() || (!MannerOf(fd).in_parts && Fails(kRefusal, {ENOMEM, ENOBUFS}));
}

// `message`, or a part of its first piece, which `room` holds.
struct Cut {
  msghdr message;
  iovec first;
};
const msghdr* PartOf(int fd, const msghdr* message, Cut& room) {
  if (message->msg_iovlen == 0 || !MannerOf(fd).in_parts) return message;
  room.first = message->msg_iov[0];
  room.first.iov_len = Shortened(room.first.iov_len);
  if (room.first.iov_len == message->msg_iov[0].iov_len) return message;
  room.message = *message;
  room.message.msg_iov = &room.first;
  room.message.msg_iovlen = 1;
  return &room.message;
}

// libc's function of this name.
template <typename Function>
Function* Next(Function*, const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace
}  // namespace penstock

#define PENSTOCK_NEXT(name) static auto* const next = penstock::Next(&::name, #name)

using namespace penstock;

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
PENSTOCK_EXPORT int ioctl(int fd, unsigned long request, ...) noexcept {
  PENSTOCK_NEXT(ioctl);
  va_list rest;
  va_start(rest, request);
  void* const argument = va_arg(rest, void*);
  va_end(rest);
  if (request == TUNSETIFF && Fails(kRefusal, {ENOMEM, EBUSY})) return -1;
  return next(fd, request, argument);
}

// ---------------------------------------------------------------- files, doorbells, signals

PENSTOCK_EXPORT int open(const char* path, int flags, ...) {
  PENSTOCK_NEXT(open);
  va_list rest;
  va_start(rest, flags);
  const auto mode = static_cast<mode_t>(va_arg(rest, int));  // noise where none was given
  va_end(rest);
  return NoDescriptor() ? -1 : Made(next(path, flags, mode), FileManner(flags));
}
PENSTOCK_EXPORT int openat(int folder, const char* path, int flags, ...) {
  PENSTOCK_NEXT(openat);
  va_list rest;
  va_start(rest, flags);
  const auto mode = static_cast<mode_t>(va_arg(rest, int));
  va_end(rest);
  return NoDescriptor() ? -1 : Made(next(folder, path, flags, mode), FileManner(flags));
}
PENSTOCK_EXPORT ssize_t read(int fd, void* room, size_t bytes) {
  PENSTOCK_NEXT(read);
  if (Interrupted() || (MannerOf(fd).file && Fails(kRefusal, {EIO, ENOMEM}))) return -1;
  return next(fd, room, PartOf(fd, bytes));
}
PENSTOCK_EXPORT ssize_t write(int fd, const void* bytes, size_t count) {
  PENSTOCK_NEXT(write);
  if (!MannerOf(fd).file) return next(fd, bytes, count);
  if (Interrupted() || Fails(kRefusal, {ENOSPC, EIO, ENOMEM})) return -1;
  return next(fd, bytes, PartOf(fd, count));
}
PENSTOCK_EXPORT int eventfd(unsigned int count, int flags) noexcept {
  PENSTOCK_NEXT(eventfd);
  return NoDescriptor() ? -1 : Made(next(count, flags));
}
PENSTOCK_EXPORT int signalfd(int fd, const sigset_t* signals, int flags) noexcept {
  PENSTOCK_NEXT(signalfd);
  return NoDescriptor() ? -1 : Made(next(fd, signals, flags));
}
PENSTOCK_EXPORT int timerfd_create(clockid_t clock, int flags) noexcept {
  PENSTOCK_NEXT(timerfd_create);
  return NoDescriptor() ? -1 : Made(next(clock, flags));
}
PENSTOCK_EXPORT int inotify_init1(int flags) noexcept {
  PENSTOCK_NEXT(inotify_init1);
  return NoDescriptor() ? -1 : Made(next(flags));
}
PENSTOCK_EXPORT int inotify_add_watch(int fd, const char* path, uint32_t events) noexcept {
  PENSTOCK_NEXT(inotify_add_watch);
  return Fails(kRefusal, {ENOSPC, ENOMEM}) ? -1 : next(fd, path, events);
}
PENSTOCK_EXPORT int fcntl(int fd, int request, ...) {
  PENSTOCK_NEXT(fcntl);
  va_list rest;
  va_start(rest, request);
  void* const argument = va_arg(rest, void*);
  va_end(rest);
  if (request != F_DUPFD_CLOEXEC) return next(fd, request, argument);
  return Fails(kRefusal, {EMFILE}) ? -1 : Made(next(fd, request, argument), MannerOf(fd));
}
PENSTOCK_EXPORT int dup2(int from, int to) noexcept {
  PENSTOCK_NEXT(dup2);
  return Made(next(from, to), MannerOf(from));
}

// ---------------------------------------------------------------- waiting

PENSTOCK_EXPORT int epoll_create1(int flags) noexcept {
  PENSTOCK_NEXT(epoll_create1);
  return NoDescriptor() ? -1 : Made(next(flags));
}
PENSTOCK_EXPORT int epoll_wait(int fd, epoll_event* events, int count, int timeout) {
  PENSTOCK_NEXT(epoll_wait);
  if (Interrupted()) return -1;
  return next(fd, events, static_cast<int>(Shortened(static_cast<size_t>(count))), timeout);
}
PENSTOCK_EXPORT int epoll_ctl(int fd, int change, int of, epoll_event* event) noexcept {
  PENSTOCK_NEXT(epoll_ctl);
  if (change == EPOLL_CTL_ADD && Fails(kRefusal, {ENOMEM, ENOSPC})) return -1;
  return next(fd, change, of, event);
}
PENSTOCK_EXPORT int poll(pollfd* watched, nfds_t count, int timeout) {
  PENSTOCK_NEXT(poll);
  return Interrupted() ? -1 : next(watched, count, timeout);
}
PENSTOCK_EXPORT int ppoll(pollfd* watched, nfds_t count, const timespec* timeout,
                          const sigset_t* signals) {
  PENSTOCK_NEXT(ppoll);
  return Interrupted() ? -1 : next(watched, count, timeout, signals);
}
PENSTOCK_EXPORT pid_t waitpid(pid_t pid, int* status, int options) {
  PENSTOCK_NEXT(waitpid);
  return (options & WNOHANG) == 0 && Interrupted() ? -1 : next(pid, status, options);
}

// ---------------------------------------------------------------- sockets

PENSTOCK_EXPORT ssize_t recv(int fd, void* room, size_t bytes, int flags) {
  PENSTOCK_NEXT(recv);
  return ReceiveFails(fd) ? -1 : next(fd, room, PartOf(fd, bytes), flags);
}
PENSTOCK_EXPORT ssize_t recvfrom(int fd, void* room, size_t bytes, int flags, sockaddr* from,
                                 socklen_t* length) {
  PENSTOCK_NEXT(recvfrom);
  return ReceiveFails(fd) ? -1 : next(fd, room, PartOf(fd, bytes), flags, from, length);
}
PENSTOCK_EXPORT ssize_t recvmsg(int fd, msghdr* message, int flags) {
  PENSTOCK_NEXT(recvmsg);
  // An error queue is looked at without waiting and without memory.
  if ((flags & MSG_ERRQUEUE) != 0) return next(fd, message, flags);
  if (ReceiveFails(fd)) return -1;
  if (!MannerOf(fd).in_parts || message->msg_iovlen != 1) return next(fd, message, flags);
  const size_t all = message->msg_iov->iov_len;
  message->msg_iov->iov_len = Shortened(all);
  const ssize_t got = next(fd, message, flags);
  message->msg_iov->iov_len = all;
  return got;
}
PENSTOCK_EXPORT int recvmmsg(int fd, mmsghdr* messages, unsigned int count, int flags,
                             timespec* timeout) {
  PENSTOCK_NEXT(recvmmsg);
  if (ReceiveFails(fd)) return -1;
  return next(fd, messages, static_cast<unsigned int>(Shortened(count)), flags, timeout);
}
PENSTOCK_EXPORT ssize_t send(int fd, const void* bytes, size_t count, int flags) {
  PENSTOCK_NEXT(send);
  return SendFails(fd, flags) ? -1 : next(fd, bytes, PartOf(fd, count), flags);
}
PENSTOCK_EXPORT ssize_t sendto(int fd, const void* bytes, size_t count, int flags,
                               const sockaddr* to, socklen_t length) {
  PENSTOCK_NEXT(sendto);
  return SendFails(fd, flags) ? -1 : next(fd, bytes, PartOf(fd, count), flags, to, length);
}
PENSTOCK_EXPORT ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  PENSTOCK_NEXT(sendmsg);
  Cut cut;
  return SendFails(fd, flags) ? -1 : next(fd, PartOf(fd, message, cut), flags);
}
PENSTOCK_EXPORT int sendmmsg(int fd, mmsghdr* messages, unsigned int count, int flags) {
  PENSTOCK_NEXT(sendmmsg);
  if (SendFails(fd, flags)) return -1;
  return next(fd, messages, static_cast<unsigned int>(Shortened(count)), flags);
}
PENSTOCK_EXPORT int socket(int domain, int type, int protocol) noexcept {
  PENSTOCK_NEXT(socket);
  if (Fails(kRefusal, {EMFILE, ENFILE, ENOBUFS, ENOMEM})) return -1;
  return Made(next(domain, type, protocol), SocketManner(type));
}
PENSTOCK_EXPORT int socketpair(int domain, int type, int protocol, int ends[2]) noexcept {
  PENSTOCK_NEXT(socketpair);
  if (NoDescriptor()) return -1;
  const int result = next(domain, type, protocol, ends);
  for (int i = 0; result == 0 && i < 2; ++i) Made(ends[i], SocketManner(type));
  return result;
}
PENSTOCK_EXPORT int accept4(int fd, sockaddr* from, socklen_t* length, int flags) {
  PENSTOCK_NEXT(accept4);
  if (Fails(kTransient, {EINTR, ECONNABORTED})) return -1;
  if (Fails(kRefusal, {EMFILE, ENFILE, ENOBUFS, ENOMEM})) return -1;
  return Made(next(fd, from, length, flags), SocketManner(SOCK_STREAM | flags));
}
PENSTOCK_EXPORT int bind(int fd, const sockaddr* own, socklen_t length) noexcept {
  PENSTOCK_NEXT(bind);
  return Fails(kRefusal, {EADDRINUSE, ENOMEM}) ? -1 : next(fd, own, length);
}
PENSTOCK_EXPORT int listen(int fd, int backlog) noexcept {
  PENSTOCK_NEXT(listen);
  return Fails(kRefusal, {EADDRINUSE, ENOBUFS}) ? -1 : next(fd, backlog);
}
PENSTOCK_EXPORT int connect(int fd, const sockaddr* to, socklen_t length) {
  PENSTOCK_NEXT(connect);
  return Fails(kRefusal, {ENOBUFS, ENOMEM, EADDRNOTAVAIL}) ? -1 : next(fd, to, length);
}
PENSTOCK_EXPORT int getsockopt(int fd, int level, int name, void* room,
                               socklen_t* length) noexcept {
  PENSTOCK_NEXT(getsockopt);
  return Fails(kRefusal, {ENOMEM}) ? -1 : next(fd, level, name, room, length);
}
PENSTOCK_EXPORT int setsockopt(int fd, int level, int name, const void* value,
                               socklen_t length) noexcept {
  PENSTOCK_NEXT(setsockopt);
  const bool spared = level == SOL_SOCKET && name == SO_LINGER;
  return !spared && Fails(kRefusal, {ENOMEM}) ? -1 : next(fd, level, name, value, length);
}

// ---------------------------------------------------------------- processes and threads

PENSTOCK_EXPORT pid_t fork() noexcept {
  PENSTOCK_NEXT(fork);
  return Fails(kRefusal, {EAGAIN, ENOMEM}) ? -1 : next();
}
PENSTOCK_EXPORT long syscall(long number, ...) noexcept {
  PENSTOCK_NEXT(syscall);
  va_list rest;
  va_start(rest, number);
  std::array<long, 6> words;  // noise beyond those that were given, as libc's own reads it
  for (long& word : words) word = va_arg(rest, long);
  va_end(rest);
  if (number == SYS_clone && Fails(kRefusal, {EAGAIN, ENOMEM})) return -1;
  if (number == SYS_pidfd_open && NoDescriptor()) return -1;
  return next(number, words[0], words[1], words[2], words[3], words[4], words[5]);
}
PENSTOCK_EXPORT int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                                   void* (*run)(void*), void* argument) noexcept {
  PENSTOCK_NEXT(pthread_create);
  return Draw(kRefusal) != 0 && Fails(EAGAIN) ? EAGAIN : next(thread, attributes, run, argument);
}
