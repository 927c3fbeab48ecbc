// Making, entering and furnishing namespaces. Everything here changes the calling
// process for good, so it runs in a child that was forked for it; the tool itself
// never leaves the host's namespaces.
#ifndef PENSTOCK_TOOLS_PENSTOCK_NAMESPACES_H_
#define PENSTOCK_TOOLS_PENSTOCK_NAMESPACES_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "relay/endpoint.h"
#include "tools/penstock/descriptor.h"

namespace penstock::tool {

// Moves the caller into new mount and network namespaces, with `user_namespace`
// inside a new user namespace where its user and group keep their numbers. No
// mount made later is seen outside. Opens the group range for ping as far as the
// system lets it.
[[nodiscard]] absl::Status MakeNamespaces(bool user_namespace);

// Mounts a file that names `nameservers` over /etc/resolv.conf (over what it points
// to, if it is a symbolic link). The caller is in a mount namespace of its own.
[[nodiscard]] absl::Status MountResolvConf(const std::vector<IpAddress>& nameservers);

// Opens a namespace by path; the error says if it is no namespace of that kind
// (CLONE_NEWNET, CLONE_NEWUSER).
[[nodiscard]] absl::StatusOr<Descriptor> OpenNamespace(const std::string& path, int kind);

// Moves the caller into a network namespace; into `user` first, if given. Without
// it, and without the right to enter, tries by way of the user namespace that owns
// `network`: an ordinary user can so enter a namespace of a sandbox of their own.
[[nodiscard]] absl::Status EnterNetwork(int network, const Descriptor& user);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_NAMESPACES_H_
