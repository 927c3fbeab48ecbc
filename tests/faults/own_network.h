// A network of the process's own, where echo requests are answered and may be sent.
#ifndef PENSTOCK_TESTS_FAULTS_OWN_NETWORK_H_
#define PENSTOCK_TESTS_FAULTS_OWN_NETWORK_H_

#include "relay/endpoint.h"

namespace penstock::faults {

// The calling process, of one thread, is in a new network namespace for good. It has lo, with
// EchoHost's addresses, and whoever asks may have ping sockets. Throws what is not so.
void EnterOwnNetwork();

// No address of loopback, which nobody may ask through a stack.
[[nodiscard]] IpAddress EchoHost(Family family);

}  // namespace penstock::faults

#endif  // PENSTOCK_TESTS_FAULTS_OWN_NETWORK_H_
