// What the tests of the tap share: a process with a network namespace of its own,
// whose kernel is the guest, and how that guest is configured. A failed step is a
// failure of the test.
#ifndef PENSTOCK_TESTS_STACK_LINK_TAP_GUEST_H_
#define PENSTOCK_TESTS_STACK_LINK_TAP_GUEST_H_

#include <gtest/gtest.h>

#include <functional>
#include <string>

namespace penstock {

inline constexpr char kTunDevice[] = "/dev/net/tun";

// Runs `body` in a child with a network namespace of its own; what fails there
// fails here.
void RunInNewNetwork(const std::function<void()>& body);

// Lines for ip(8), each without the leading "ip".
void Ip(const std::string& lines);

// The kernel's end of tap0: up, with the guest's default addresses (10.0.2.15,
// fd00::15) usable, and gateways that it need not ask for.
void ConfigureGuest(bool ethernet);

// A descriptor as another process might have made it, with tap0 on it: blocking,
// without close-on-exec. `flags` as for TUNSETIFF.
[[nodiscard]] int RawTap(int flags);

// For cases that need the device node.
class TapTest : public ::testing::Test {
 protected:
  void SetUp() override;
};

}  // namespace penstock

#endif  // PENSTOCK_TESTS_STACK_LINK_TAP_GUEST_H_
