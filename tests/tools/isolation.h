// Places for programs to run in: namespaces of the test's own, an ordinary user's
// shoes, machines on which something is missing. Each function changes the calling
// process for good: they are for children. They throw if they cannot.
//
// Root and an ordinary user can both run the tests; the latter needs user
// namespaces and a /dev/net/tun that is open to everybody.
#ifndef PENSTOCK_TESTS_TOOLS_ISOLATION_H_
#define PENSTOCK_TESTS_TOOLS_ISOLATION_H_

#include <sys/types.h>

#include <functional>

namespace penstock::tool {

// Who an ordinary user is: one that root becomes, or whoever runs the tests.
[[nodiscard]] uid_t OrdinaryUser();

// New network and mount namespaces, `lo` up; an ordinary user becomes root of a new
// user namespace.
void EnterOwnNamespaces();

// In namespaces of one's own: both families have a route, over interfaces that lead
// nowhere.
void AddRoutes();

// Runs `body`, a test's, in a child that has entered namespaces of its own. Fails
// the test if an expectation in it failed or something was thrown.
void InOwnNamespaces(const std::function<void()>& body);

// Root becomes OrdinaryUser(), without privileges and groups, with a /dev/net/tun that
// everybody may open, as most systems have it. An ordinary user stays as they are.
void BecomeOrdinaryUser();

// The same, but only root may open /dev/net/tun. For root only.
void BecomeOrdinaryUserWithoutTun();

// Root becomes OrdinaryUser(), and nothing else changes.
void DropRoot();

// No /dev/net/tun.
void RemoveTunDevice();

// No further user namespace can be made.
void ForbidUserNamespaces();

// No IPC namespace can be made: what a command's sandbox needs can be had, what confines
// penstock itself cannot.
void ForbidIpcNamespaces();

// /etc is empty but for a resolv.conf that links to `target`; none if `target` is null.
// `target` is made, holding "the host's own".
void ReplaceEtc(const char* target);

}  // namespace penstock::tool

#endif  // PENSTOCK_TESTS_TOOLS_ISOLATION_H_
