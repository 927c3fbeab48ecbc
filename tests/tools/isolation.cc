#include "tests/tools/isolation.h"

#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>

#include "tools/penstock/namespaces.h"

namespace penstock::tool {
namespace {

// Not somebody who is root only of a user namespace that the tests made.
const bool kStartedByRoot = geteuid() == 0;
constexpr uid_t kNobody = 65534;

void Check(bool succeeded, const std::string& what) {
  if (!succeeded) throw std::runtime_error(what + ": " + std::strerror(errno));
}

void Write(const std::string& path, const std::string& text) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  Check(file >= 0 && write(file, text.data(), text.size()) == ssize_t(text.size()), path);
  close(file);
}

// A user namespace is added for those who need it; there they are root.
void Unshare(int kinds) {
  if (geteuid() == 0) {
    Check(unshare(kinds) == 0, "unshare");
  } else {
    const std::string user = std::to_string(geteuid());
    const std::string group = std::to_string(getegid());
    Check(unshare(kinds | CLONE_NEWUSER) == 0, "unshare with a user namespace");
    Write("/proc/self/setgroups", "deny");
    Write("/proc/self/uid_map", "0 " + user + " 1");
    Write("/proc/self/gid_map", "0 " + group + " 1");
  }
  if ((kinds & CLONE_NEWNS) != 0) {
    Check(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, "private mounts");
  }
}

void CoverByTmpfs(const char* folder) {
  Check(mount("tmpfs", folder, "tmpfs", 0, "mode=755") == 0, std::string("tmpfs on ") + folder);
}

void MakeTunDevice(mode_t mode) {
  Unshare(CLONE_NEWNS);
  CoverByTmpfs("/dev/net");
  constexpr const char* kTun = "/dev/net/tun";
  Check(mknod(kTun, S_IFCHR | mode, makedev(10, 200)) == 0 && chmod(kTun, mode) == 0, kTun);
}

// Maps every user of the caller's new user namespace to itself. Only somebody outside
// may write that: a child that stayed there.
void UnshareUserNamespaceKeepingUsers() {
  int ready[2];
  Check(pipe(ready) == 0, "pipe");
  const pid_t outside = ForkInto(0);
  Check(outside >= 0, "fork");
  if (outside == 0) {
    char go;
    close(ready[1]);
    if (read(ready[0], &go, 1) != 1) _exit(1);
    const std::string self = "/proc/" + std::to_string(getppid());
    try {
      Write(self + "/uid_map", "0 0 65535");
      Write(self + "/gid_map", "0 0 65535");
    } catch (const std::exception&) {
      _exit(1);
    }
    _exit(0);
  }
  Check(unshare(CLONE_NEWUSER) == 0, "unshare");
  Check(write(ready[1], "g", 1) == 1, "write");
  int status = 0;
  Check(waitpid(outside, &status, 0) == outside && status == 0, "mapping users");
  close(ready[0]);
  close(ready[1]);
}

}  // namespace

uid_t OrdinaryUser() { return kStartedByRoot ? kNobody : geteuid(); }

void DropRoot() {
  if (!kStartedByRoot) return;
  Check(setgroups(0, nullptr) == 0, "setgroups");
  Check(setresgid(kNobody, kNobody, kNobody) == 0, "setresgid");
  Check(setresuid(kNobody, kNobody, kNobody) == 0, "setresuid");
}

void EnterOwnNamespaces() {
  Unshare(CLONE_NEWNET | CLONE_NEWNS);
  const int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ifreq loopback{};
  std::strcpy(loopback.ifr_name, "lo");
  loopback.ifr_flags = IFF_UP;
  Check(ioctl(any, SIOCSIFFLAGS, &loopback) == 0, "lo up");
  close(any);
}

void InOwnNamespaces(const std::function<void()>& body) {
  std::fflush(nullptr);
  const pid_t child = ForkInto(0);
  ASSERT_GE(child, 0);
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    try {
      EnterOwnNamespaces();
      body();
    } catch (const std::exception& failure) {
      ADD_FAILURE() << failure.what();
    }
    std::fflush(nullptr);
    _exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0)
      << "failed in the child; status " << status;
}

void AddRoutes() {
  Check(std::system("ip link add way-out type veth peer name nowhere &&"
                    "ip address add 198.18.0.1/24 dev way-out &&"
                    "ip address add fd01::1/64 dev way-out nodad &&"
                    "ip link set way-out up && ip link set nowhere up") == 0,
        "ip");
}

void BecomeOrdinaryUser() {
  if (!kStartedByRoot) return;
  MakeTunDevice(0666);
  DropRoot();
}

void BecomeOrdinaryUserWithoutTun() {
  MakeTunDevice(0600);
  DropRoot();
}

void RemoveTunDevice() {
  Unshare(CLONE_NEWNS);
  CoverByTmpfs("/dev/net");
}

void ForbidUserNamespaces() {
  if (kStartedByRoot) {
    UnshareUserNamespaceKeepingUsers();
  } else {
    Unshare(CLONE_NEWNET);
  }
  Write("/proc/sys/user/max_user_namespaces", "0");
  DropRoot();
}

void ForbidIpcNamespaces() {
  if (kStartedByRoot) {
    MakeTunDevice(0666);
    UnshareUserNamespaceKeepingUsers();
  } else {
    Unshare(CLONE_NEWNET);
  }
  Write("/proc/sys/user/max_ipc_namespaces", "0");
  DropRoot();
}

void ReplaceEtc(const char* target) {
  Unshare(CLONE_NEWNS);
  CoverByTmpfs("/etc");
  if (target == nullptr) return;
  Write(target, "the host's own\n");
  Check(symlink(target, "/etc/resolv.conf") == 0, "symlink");
}

}  // namespace penstock::tool
