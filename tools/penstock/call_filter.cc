#include "tools/penstock/call_filter.h"

#include <fcntl.h>
#include <linux/netlink.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace penstock::tool {
namespace {

struct Call {
  // Lists of calls are written without its name. NOLINTNEXTLINE(google-explicit-constructor)
  Call(int called, std::vector<scmp_arg_cmp> conditions = {})
      : number(called), when(std::move(conditions)) {}

  int number;
  std::vector<scmp_arg_cmp> when;  // all of them; none: always
};

struct Group {
  const char* reason;
  std::vector<Call> calls;
};

constexpr uint64_t kSocketType = 0xf;  // without SOCK_NONBLOCK and SOCK_CLOEXEC
constexpr uint64_t kOpensToWrite = O_ACCMODE | O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY);

scmp_arg_cmp Is(unsigned argument, uint64_t value) {
  return {.arg = argument, .op = SCMP_CMP_EQ, .datum_a = value, .datum_b = 0};
}

// Those bits of it.
scmp_arg_cmp Masked(unsigned argument, uint64_t mask, uint64_t value) {
  return {.arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = mask, .datum_b = value};
}

Call Socket(int domain, int type) {
  return {
      SCMP_SYS(socket),
      {Is(0, static_cast<uint64_t>(domain)), Masked(1, kSocketType, static_cast<uint64_t>(type))}};
}

Call Ioctl(unsigned long request) { return {SCMP_SYS(ioctl), {Is(1, request)}}; }

using Groups = std::vector<Group>;

// ---------------------------------------------------------------- the list

// What is called for every frame has no conditions: the kernel then answers from a bitmap.
Groups OfTraffic() {
  return {
      {"the tap, doorbells, signals, the capture file, what is said on stderr",
       {SCMP_SYS(read), SCMP_SYS(readv), SCMP_SYS(write), SCMP_SYS(writev)}},
      {"waiting for all of them",
       {SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_ctl), SCMP_SYS(poll),
        SCMP_SYS(ppoll), SCMP_SYS(timerfd_settime)}},
      {"host sockets, the control socket's clients, the clerk",
       {SCMP_SYS(sendmsg),     SCMP_SYS(sendto),      SCMP_SYS(sendmmsg),   SCMP_SYS(recvmsg),
        SCMP_SYS(recvfrom),    SCMP_SYS(recvmmsg),    SCMP_SYS(accept),     SCMP_SYS(accept4),
        SCMP_SYS(bind),        SCMP_SYS(connect),     SCMP_SYS(listen),     SCMP_SYS(shutdown),
        SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(getsockopt), SCMP_SYS(setsockopt),
        SCMP_SYS(close),       SCMP_SYS(fcntl),       Ioctl(FIONBIO),       Ioctl(FIONREAD),
        Ioctl(TIOCOUTQ)}},
      {"new ones: TCP, UDP and ping, nothing else and nothing raw",
       {Socket(AF_INET, SOCK_STREAM), Socket(AF_INET, SOCK_DGRAM), Socket(AF_INET6, SOCK_STREAM),
        Socket(AF_INET6, SOCK_DGRAM)}},
      {"what the guest asks of names by TCP is answered over a pair",
       {{SCMP_SYS(socketpair), {Is(0, AF_UNIX)}}}},
      {"which routes the host has; the number of an interface by its name",
       {{SCMP_SYS(socket), {Is(0, AF_NETLINK), Is(2, NETLINK_ROUTE)}},
        Ioctl(SIOCGIFINDEX),
        Ioctl(SIOCGIFNAME)}},
      {"the copy of resolv.conf, to read; a capture on a full disk ends where it was whole",
       {{SCMP_SYS(openat), {Masked(2, kOpensToWrite, O_RDONLY)}},
        SCMP_SYS(fstat),
        SCMP_SYS(newfstatat),
        SCMP_SYS(statx),
        SCMP_SYS(readlink),
        SCMP_SYS(readlinkat),
        SCMP_SYS(getcwd),
        SCMP_SYS(inotify_add_watch),
        SCMP_SYS(inotify_rm_watch),
        SCMP_SYS(ftruncate),
        SCMP_SYS(lseek)}},
  };
}

Groups OfTheProcess(std::optional<pid_t> signalled) {
  Groups groups{
      {"memory that nobody executes; malloc asks for how many cores",
       {{SCMP_SYS(mmap), {Masked(2, PROT_EXEC, 0)}},
        {SCMP_SYS(mprotect), {Masked(2, PROT_EXEC, 0)}},
        SCMP_SYS(munmap),
        SCMP_SYS(mremap),
        SCMP_SYS(madvise),
        SCMP_SYS(brk),
        SCMP_SYS(sched_getaffinity)}},
      {"relay threads, which may be just beginning, wait for each other and end",
       {SCMP_SYS(futex),
        SCMP_SYS(sched_yield),
        SCMP_SYS(rseq),
        SCMP_SYS(set_robust_list),
        {SCMP_SYS(prctl), {Is(0, PR_SET_NAME)}},
        SCMP_SYS(exit)}},
      {"clocks, where the vDSO has none; random numbers; who one is",
       {SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday), SCMP_SYS(clock_nanosleep),
        SCMP_SYS(nanosleep), SCMP_SYS(restart_syscall), SCMP_SYS(getrandom), SCMP_SYS(geteuid),
        SCMP_SYS(gettid), SCMP_SYS(getpid)}},
      {"the end: the keeper and the clerk are waited for; abort(), if a check failed",
       {SCMP_SYS(wait4),
        SCMP_SYS(rt_sigaction),
        SCMP_SYS(rt_sigprocmask),
        SCMP_SYS(rt_sigreturn),
        {SCMP_SYS(tgkill), {Is(0, static_cast<uint64_t>(getpid()))}},
        SCMP_SYS(exit_group)}},
  };
  if (signalled) {
    groups.push_back({"signals for the command, to its keeper",
                      {{SCMP_SYS(kill), {Is(0, static_cast<uint64_t>(*signalled))}}}});
  }
  return groups;
}

Groups OfSanitizers() {
  if (kAddressSanitized) {
    return {
        {"address sanitizer: a process of its own looks for leaks at the end",
         {SCMP_SYS(clone), SCMP_SYS(ptrace), SCMP_SYS(prctl), SCMP_SYS(process_vm_readv),
          SCMP_SYS(getdents), SCMP_SYS(getdents64), SCMP_SYS(sigaltstack), SCMP_SYS(getppid),
          SCMP_SYS(prlimit64), SCMP_SYS(pipe), SCMP_SYS(pipe2), SCMP_SYS(open), SCMP_SYS(stat)}}};
  }
  if (kThreadSanitized) {
    return {{"thread sanitizer: its own thread, and threads' stacks at their end",
             {SCMP_SYS(sigaltstack), SCMP_SYS(prctl), SCMP_SYS(prlimit64), SCMP_SYS(getdents),
              SCMP_SYS(getdents64), SCMP_SYS(open), SCMP_SYS(stat)}}};
  }
  return {};
}

// ---------------------------------------------------------------- the filter

// 0, or an error with its sign turned, as libseccomp has them.
int Allow(scmp_filter_ctx filter, const Groups& groups) {
  for (const Group& group : groups) {
    for (const Call& call : group.calls) {
      const int error =
          seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call.number,
                                 static_cast<unsigned>(call.when.size()), call.when.data());
      if (error != 0) return error;
    }
  }
  return 0;
}

}  // namespace

absl::Status CannotConfine(absl::string_view why) {
  return absl::FailedPreconditionError(absl::StrCat(
      "cannot confine penstock: ", why, " (--no-sandbox goes without, and is for debugging)"));
}

absl::Status FilterCalls(std::optional<pid_t> signalled) {
  const std::unique_ptr<void, decltype(&seccomp_release)> filter(
      seccomp_init(SCMP_ACT_KILL_PROCESS), &seccomp_release);
  if (filter == nullptr) return CannotConfine("no memory for the list of system calls");
  // Threads that are there already; other ABIs of the machine; a tree instead of a chain; and
  // no slower processor for it: nobody's code but ours is to run here.
  int error = seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_TSYNC, 1);
  if (error == 0) {
    error = seccomp_attr_set(filter.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
  }
  if (error == 0) error = seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);
  if (error == 0) error = seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_SSB, 1);
  for (const Groups& groups : {OfTraffic(), OfTheProcess(signalled), OfSanitizers()}) {
    if (error == 0) error = Allow(filter.get(), groups);
  }
  // The C library's first choice to ask for an interface; it then takes an Internet socket.
  // Unix sockets would lead to whatever of the host's listens at abstract names.
  const scmp_arg_cmp unix_socket = Is(0, AF_UNIX);
  if (error == 0) {
    error = seccomp_rule_add_array(filter.get(), SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                                   &unix_socket);
  }
  if (error == 0) error = seccomp_load(filter.get());
  if (error == 0) return absl::OkStatus();
  return CannotConfine(
      absl::StrCat("the kernel takes no list of system calls: ", std::strerror(-error)));
}

}  // namespace penstock::tool
