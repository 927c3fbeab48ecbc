// Making, entering and furnishing namespaces. What changes the calling process for
// good runs in a child that was forked for it; the tool itself never leaves the
// host's namespaces.
#ifndef PENSTOCK_TOOLS_PENSTOCK_NAMESPACES_H_
#define PENSTOCK_TOOLS_PENSTOCK_NAMESPACES_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "relay/endpoint.h"
#include "tools/penstock/descriptor.h"

namespace penstock::tool {

// Like fork(2), with the child in new namespaces (`kinds` of CLONE_NEW…, perhaps 0).
// No fork handlers run: some of them start threads again (those of a sanitizer), and
// a process with threads may not enter a user namespace. For a caller that has
// started no threads of its own. -1 and errno on failure.
[[nodiscard]] pid_t ForkInto(int kinds);

// Mount and network namespaces for a sandbox, inside a new user namespace if asked
// for. The caller's user and group keep their numbers there.
class SandboxNamespaces final {
 public:
  explicit SandboxNamespaces(bool user_namespace);
  // In the parent: the child's number; 0 in the child.
  [[nodiscard]] absl::StatusOr<pid_t> Fork() const;
  // In the child, first of all. From then on no mount that it makes is seen outside.
  // Opens the group range for ping, and every port for servers, as far as the system
  // lets it.
  [[nodiscard]] absl::Status Settle() const;

 private:
  const bool user_namespace_;
  const uid_t user_;
  const gid_t group_;
};

// In a process that has just entered a new user namespace: `user` and `group` keep their
// numbers in it.
[[nodiscard]] absl::Status MapIdentity(uid_t user, gid_t group);

// Mounts a file that names `nameservers` and `search` domains over /etc/resolv.conf (over what it
// points to, if it is a symbolic link). The caller is in a mount namespace of its own.
[[nodiscard]] absl::Status MountResolvConf(const std::vector<IpAddress>& nameservers,
                                           const std::vector<std::string>& search);

// Opens a namespace by path; the error says if it is no namespace of that kind
// (CLONE_NEWNET, CLONE_NEWUSER).
[[nodiscard]] absl::StatusOr<Descriptor> OpenNamespace(const std::string& path, int kind);

// Moves the caller into a network namespace; into `user` first, if given. Without
// it, and without the right to enter, tries by way of the user namespace that owns
// `network`: an ordinary user can so enter a namespace of a sandbox of their own.
[[nodiscard]] absl::Status EnterNetwork(int network, const Descriptor& user);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_NAMESPACES_H_
