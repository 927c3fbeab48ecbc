#include "tools/penstock/confinement.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "tools/penstock/call_filter.h"
#include "tools/penstock/namespaces.h"

namespace penstock::tool {
namespace {

// A folder that is there wherever a tap can be made, to mount the new root on.
constexpr const char* kRoot = "/dev";
constexpr const char* kRootOptions = "mode=700,size=1m,nr_inodes=64";
constexpr unsigned long kRootFlags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

absl::Status Unconfined(const char* what, int error) {
  return CannotConfine(absl::StrCat(what, ": ", std::strerror(error)));
}

// ---------------------------------------------------------------- capabilities

constexpr uint64_t Bit(int capability) { return uint64_t{1} << capability; }

uint64_t EffectiveCapabilities() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
  if (syscall(SYS_capget, &header, sets.data()) != 0) return 0;
  return uint64_t{sets[1].effective} << 32 | sets[0].effective;
}

absl::Status KeepCapabilities(uint64_t kept) {
  (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  // What an executed program could regain. There will be none: best effort.
  for (int i = 0; i < 64; ++i) {
    if ((kept & Bit(i)) == 0) (void)prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
  }
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
  for (size_t i = 0; i < sets.size(); ++i) {
    sets[i].effective = sets[i].permitted = static_cast<uint32_t>(kept >> (32 * i));
  }
  if (syscall(SYS_capset, &header, sets.data()) != 0) {
    return Unconfined("capabilities cannot be given up", errno);
  }
  return absl::OkStatus();
}

// ---------------------------------------------------------------- root

enum class Root { kByPrivilege, kByUserNamespace, kHosts };

Root RootFor(uint64_t capabilities) {
  if ((capabilities & Bit(CAP_SYS_ADMIN)) != 0) return Root::kByPrivilege;
  if ((capabilities & Bit(CAP_NET_BIND_SERVICE)) != 0) return Root::kHosts;
  return kThreadSanitized ? Root::kHosts : Root::kByUserNamespace;
}

absl::Status Separate(Root root) {
  const uid_t user = geteuid();
  const gid_t group = getegid();
  const bool by_user = root == Root::kByUserNamespace;
  if (unshare(CLONE_NEWNS | CLONE_NEWIPC | (by_user ? CLONE_NEWUSER : 0)) != 0) {
    return Unconfined(by_user ? "it may not make user, mount and IPC namespaces (allow user "
                                "namespaces, or raise user.max_*_namespaces with sysctl)"
                              : "it may not make mount and IPC namespaces (raise "
                                "user.max_*_namespaces with sysctl)",
                      errno);
  }
  if (by_user) {
    const absl::Status mapped = MapIdentity(user, group);
    if (!mapped.ok()) return CannotConfine(mapped.message());
  }
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return Unconfined("mounts cannot be made private", errno);
  }
  return absl::OkStatus();
}

// The clerk writes through the mount below, penstock sees the read-only one on top of it.
absl::Status EnterEmptyRoot(const Clerk& clerk) {
  if (mount("tmpfs", kRoot, "tmpfs", kRootFlags, kRootOptions) != 0) {
    return Unconfined("an empty root cannot be mounted", errno);
  }
  {
    const Descriptor folder(open(kRoot, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder.valid()) return Unconfined("the empty root cannot be opened", errno);
    const absl::Status furnished = clerk.Furnish(folder.get());
    if (!furnished.ok()) return CannotConfine(furnished.message());
  }
  if (kAddressSanitized) {  // looks for its threads there at the end
    const std::string proc = absl::StrCat(kRoot, "/proc");
    if (mkdir(proc.c_str(), S_IRWXU) != 0 ||
        mount("/proc", proc.c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0) {
      return Unconfined("the sanitizer's /proc cannot be mounted", errno);
    }
  }
  if (mount(kRoot, kRoot, nullptr, MS_BIND | MS_REC, nullptr) != 0 ||
      mount("none", kRoot, nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | kRootFlags, nullptr) != 0) {
    return Unconfined("the empty root cannot be made read-only", errno);
  }
  // The old root comes to lie on top of the new one, and is taken off (pivot_root(2)).
  if (chdir(kRoot) != 0 || syscall(SYS_pivot_root, ".", ".") != 0 ||
      umount2(".", MNT_DETACH) != 0 || chdir("/") != 0) {
    return Unconfined("the root cannot be left for an empty one", errno);
  }
  return absl::OkStatus();
}

// ---------------------------------------------------------------- the rest

absl::Status GiveUpPrivileges(uint64_t capabilities, Root root) {
  const uint64_t kept = root == Root::kByUserNamespace ? 0 : Bit(CAP_NET_BIND_SERVICE);
  if (absl::Status given_up = KeepCapabilities(capabilities & kept); !given_up.ok()) {
    return given_up;
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    return Unconfined("new privileges cannot be given up", errno);
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
    return Unconfined("it cannot be made non-dumpable", errno);
  return absl::OkStatus();
}

void SetLimits() {
  constexpr rlimit kNone{.rlim_cur = 0, .rlim_max = 0};
  // That of open files stays: a connection is one. Address space and file size depend on what
  // the user asked for, and files on what stderr is.
  (void)setrlimit(RLIMIT_CORE, &kNone);
  (void)setrlimit(RLIMIT_MEMLOCK, &kNone);
  (void)setrlimit(RLIMIT_MSGQUEUE, &kNone);
  if (!kAddressSanitized) (void)setrlimit(RLIMIT_NPROC, &kNone);  // it looks for leaks in one
}

// As the stack will open it, from whatever folder.
std::string ResolvConfOf(const DnsConfig& dns) {
  if (!dns.enabled || !dns.upstreams.empty()) return {};
  std::error_code error;
  const std::filesystem::path path = std::filesystem::absolute(dns.resolv_conf, error);
  return error ? dns.resolv_conf : path.lexically_normal().string();
}

absl::Status Confine(const std::string& resolv_conf, CommonOptions& options, const Clerk& clerk) {
  const uint64_t capabilities = EffectiveCapabilities();
  const Root root = RootFor(capabilities);
  if (root != Root::kHosts) {
    if (absl::Status separate = Separate(root); !separate.ok()) return separate;
    if (absl::Status entered = EnterEmptyRoot(clerk); !entered.ok()) return entered;
    if (!resolv_conf.empty()) options.config.dns.resolv_conf = resolv_conf;
  }
  return GiveUpPrivileges(capabilities, root);
}

}  // namespace

absl::StatusOr<Confinement> Confinement::Enter(CommonOptions& options, Lifetime& lifetime,
                                               ControlService& service) {
  const std::string resolv_conf = ResolvConfOf(options.config.dns);
  ClerkDuties duties{.resolv_conf = resolv_conf,
                     .stats_file = options.stats_file,
                     .control = service.LeaveFile(),
                     .path = std::nullopt};
  if (lifetime.path() != nullptr) duties.path = *lifetime.path();
  absl::StatusOr<Clerk> started = Clerk::Start(duties);
  if (!started.ok()) {
    if (duties.control) duties.control->Remove();  // nobody else will
    return started.status();
  }
  auto clerk = std::make_unique<Clerk>(*std::move(started));
  lifetime.LookBy([&clerk = *clerk] { return clerk.PathLeadsThere(); });
  service.AskForUsers([&clerk = *clerk](int socket) { return clerk.UserOf(socket); });
  Confinement confinement(std::move(clerk), options.confined);
  if (!options.confined) return confinement;

  const absl::Status confined = Confine(resolv_conf, options, confinement.clerk());
  if (confined.ok()) return confinement;
  // The clerk does it, too, unless it was the clerk that failed.
  if (duties.control) duties.control->Remove();
  return confined;
}

absl::Status Confinement::Seal(std::optional<pid_t> signalled) const {
  if (!confined_) return absl::OkStatus();
  SetLimits();
  return FilterCalls(signalled);
}

}  // namespace penstock::tool
