#include "tools/penstock/namespaces.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cerrno>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace penstock::tool {
namespace {

absl::Status WriteFile(const std::string& path, std::string_view text) {
  const Descriptor file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file.valid() ||
      write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    return ErrnoStatus(absl::StrCat("cannot write ", path), errno);
  }
  return absl::OkStatus();
}

absl::Status NoNamespaces(bool user_namespace, int error) {
  if (!user_namespace) {
    return ErrnoStatus(
        "cannot make network and mount namespaces as root (use --user-namespace, or grant "
        "CAP_SYS_ADMIN)",
        error);
  }
  if (error == ENOSPC || error == EUSERS) {
    return ErrnoStatus(
        "no user namespace can be made here (raise user.max_user_namespaces with sysctl, or run "
        "penstock as root)",
        error);
  }
  return ErrnoStatus(
      "user namespaces are forbidden here (allow them: kernel.unprivileged_userns_clone=1, "
      "kernel.apparmor_restrict_unprivileged_userns=0 or the container's seccomp profile; or run "
      "penstock as root)",
      error);
}

// A tmpfs that covers `folder` until the end of the scope; a file bind-mounted out
// of it lives on.
class CoveredFolder final {
 public:
  explicit CoveredFolder(const char* folder)
      : folder_(folder),
        covered_(mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=64k") == 0) {}
  CoveredFolder(const CoveredFolder&) = delete;
  CoveredFolder& operator=(const CoveredFolder&) = delete;
  ~CoveredFolder() {
    if (covered_) umount2(folder_, MNT_DETACH);
  }
  [[nodiscard]] bool covered() const { return covered_; }

 private:
  const char* folder_;
  bool covered_;
};

}  // namespace

// Maps the caller's user and group to themselves. An unprivileged process may write
// just this, once it has given up setgroups (user_namespaces(7)).
absl::Status MapIdentity(uid_t user, gid_t group) {
  if (absl::Status s = WriteFile("/proc/self/setgroups", "deny"); !s.ok()) return s;
  if (absl::Status s = WriteFile("/proc/self/uid_map", absl::StrCat(user, " ", user, " 1"));
      !s.ok()) {
    return s;
  }
  return WriteFile("/proc/self/gid_map", absl::StrCat(group, " ", group, " 1"));
}

pid_t ForkInto(int kinds) {
  return static_cast<pid_t>(syscall(SYS_clone, kinds | SIGCHLD, nullptr, nullptr, nullptr, 0UL));
}

SandboxNamespaces::SandboxNamespaces(bool user_namespace)
    : user_namespace_(user_namespace), user_(geteuid()), group_(getegid()) {}

absl::StatusOr<pid_t> SandboxNamespaces::Fork() const {
  const pid_t child = ForkInto(CLONE_NEWNS | CLONE_NEWNET | (user_namespace_ ? CLONE_NEWUSER : 0));
  if (child < 0) return NoNamespaces(user_namespace_, errno);
  return child;
}

absl::Status SandboxNamespaces::Settle() const {
  if (user_namespace_) {
    if (absl::Status mapped = MapIdentity(user_, group_); !mapped.ok()) return mapped;
  }
  // Slave: what the host mounts still comes in, what we mount never gets out.
  if (mount("none", "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0) {
    return user_namespace_ ? NoNamespaces(true, errno)
                           : ErrnoStatus("cannot make the mount namespace private", errno);
  }
  // Best effort: without them only ping(8) without privileges and servers at ports below
  // 1024 are missing. The ports are the sandbox's own: there is nothing to protect.
  (void)WriteFile("/proc/sys/net/ipv4/ping_group_range", absl::StrCat(group_, " ", group_));
  (void)WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
  return absl::OkStatus();
}

absl::Status MountResolvConf(const std::vector<IpAddress>& nameservers,
                             const std::vector<std::string>& search) {
  const Descriptor target(open("/etc/resolv.conf", O_PATH | O_CLOEXEC));
  if (!target.valid()) return ErrnoStatus("cannot open /etc/resolv.conf", errno);
  const CoveredFolder staging("/tmp");
  if (!staging.covered()) return ErrnoStatus("cannot mount a tmpfs on /tmp", errno);

  std::string text = "# made by penstock for this sandbox\n";
  for (const IpAddress& nameserver : nameservers) {
    absl::StrAppend(&text, "nameserver ", nameserver.ToString(), "\n");
  }
  if (!search.empty()) absl::StrAppend(&text, "search ", absl::StrJoin(search, " "), "\n");
  constexpr const char* kStaged = "/tmp/resolv.conf";
  const Descriptor file(open(kStaged, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644));
  if (!file.valid() || fchmod(file.get(), 0644) != 0) {
    return ErrnoStatus("cannot make a file in a tmpfs", errno);
  }
  if (absl::Status written = WriteFile(kStaged, text); !written.ok()) return written;
  const std::string over = absl::StrCat("/proc/self/fd/", target.get());
  if (mount(kStaged, over.c_str(), nullptr, MS_BIND, nullptr) != 0) {
    return ErrnoStatus("cannot mount a file over /etc/resolv.conf", errno);
  }
  return absl::OkStatus();
}

absl::StatusOr<Descriptor> OpenNamespace(const std::string& path, int kind) {
  const char* name = kind == CLONE_NEWNET ? "network" : "user";
  // O_NONBLOCK: a path that turns out to be a FIFO must not hold us up.
  Descriptor descriptor(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!descriptor.valid()) {
    return ErrnoStatus(absl::StrCat("cannot open the ", name, " namespace ", path), errno);
  }
  if (ioctl(descriptor.get(), NS_GET_NSTYPE) != kind) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is no ", name,
                     " namespace: give one such as /run/netns/NAME or "
                     "/proc/PID/ns/",
                     kind == CLONE_NEWNET ? "net" : "user"));
  }
  return descriptor;
}

absl::Status EnterNetwork(int network, const Descriptor& user) {
  if (user.valid()) {
    if (setns(user.get(), CLONE_NEWUSER) != 0) {
      return ErrnoStatus("cannot enter the user namespace (are you its owner?)", errno);
    }
  }
  if (setns(network, CLONE_NEWNET) == 0) return absl::OkStatus();
  const int refusal = errno;
  const Descriptor owner(ioctl(network, NS_GET_USERNS));
  if (!user.valid() && refusal == EPERM && owner.valid() &&
      setns(owner.get(), CLONE_NEWUSER) == 0 && setns(network, CLONE_NEWNET) == 0) {
    return absl::OkStatus();
  }
  return ErrnoStatus("cannot enter the network namespace (be root, or the user who made it)",
                     refusal);
}

}  // namespace penstock::tool
