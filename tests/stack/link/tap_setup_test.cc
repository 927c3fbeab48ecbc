// Making and adopting tap devices: what is refused and with which words, and what
// is read from a descriptor that somebody else has made.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "stack/link/tap.h"
#include "tests/stack/link/tap_guest.h"

namespace penstock {
namespace {

void ExpectError(const absl::Status& status, absl::StatusCode code, const std::string& advice) {
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_NE(status.ToString().find(advice), std::string::npos) << status;
}

TEST(TapErrorTest, NamesThatCannotBe) {
  for (const std::string name : {"", "a-name-of-16-chr", "tap%d"}) {
    ExpectError(OpenTap({.name = name}).status(), absl::StatusCode::kInvalidArgument, name);
  }
}

TEST(TapErrorTest, MissingDeviceNode) {
  ExpectError(OpenTap({.name = "tap0", .device = "/nonexistent/tun"}).status(),
              absl::StatusCode::kNotFound, "cannot open /nonexistent/tun");
}

void DropCapabilities() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2]{};
  ASSERT_EQ(syscall(SYS_capset, &header, data), 0) << strerror(errno);
}

TEST(TapErrorTest, NoPermissionForTheDeviceNode) {
  RunInNewNetwork([] {
    char path[] = "/tmp/penstock-tap-test-XXXXXX";
    const int file = mkstemp(path);
    ASSERT_GE(file, 0);
    ASSERT_EQ(fchmod(file, 0), 0);
    close(file);
    DropCapabilities();  // or root would read it in spite of its mode
    ExpectError(OpenTap({.name = "tap0", .device = path}).status(),
                absl::StatusCode::kPermissionDenied, "chmod 0666");
    EXPECT_EQ(unlink(path), 0);
  });
}

TEST(TapErrorTest, DeviceNodeOfAnotherKind) {
  RunInNewNetwork([] {
    const absl::Status status = OpenTap({.name = "tap0", .device = "/dev/null"}).status();
    EXPECT_FALSE(status.ok());
    EXPECT_NE(status.ToString().find("tap0"), std::string::npos) << status;
  });
}

TEST_F(TapTest, NoRightToMakeDevices) {
  RunInNewNetwork([] {
    DropCapabilities();
    ExpectError(OpenTap({.name = "tap0"}).status(), absl::StatusCode::kPermissionDenied,
                "CAP_NET_ADMIN");
  });
}

TEST_F(TapTest, NameInUse) {
  RunInNewNetwork([] {
    auto tap = OpenTap({.name = "tap0"});
    ASSERT_TRUE(tap.ok()) << tap.status();
    ExpectError(OpenTap({.name = "tap0"}).status(), absl::StatusCode::kAlreadyExists, "'tap0'");
    ExpectError(OpenTap({.name = "lo"}).status(), absl::StatusCode::kInvalidArgument,
                "another kind");
  });
}

TEST_F(TapTest, MtuThatTheDeviceCannotCarry) {
  RunInNewNetwork([] {
    ExpectError(OpenTap({.name = "tap0", .mtu_max = 65'522}).status(),
                absl::StatusCode::kInvalidArgument, "65522");
    auto tap = OpenTap({.name = "tap0", .mtu_max = 9'000});
    ASSERT_TRUE(tap.ok()) << "the failed one has left nothing behind: " << tap.status();
    EXPECT_EQ((*tap)->capabilities().mtu_max, 9'000u);
  });
}

TEST_F(TapTest, AdoptReadsTheKindFromTheDescriptor) {
  RunInNewNetwork([] {
    auto tun = AdoptTap(RawTap(IFF_TUN | IFF_NO_PI), 1'500);
    ASSERT_TRUE(tun.ok()) << tun.status();
    EXPECT_FALSE((*tun)->capabilities().ethernet);
    EXPECT_FALSE((*tun)->capabilities().partial_checksum_to_guest);
    EXPECT_EQ((*tun)->capabilities().mtu_max, 1'500u);
  });
}

TEST_F(TapTest, AdoptRefusesWhatIsNoUsableTap) {
  RunInNewNetwork([] {
    const int no_tap = eventfd(0, EFD_CLOEXEC);
    ExpectError(AdoptTap(no_tap).status(), absl::StatusCode::kInvalidArgument, "is no tap device");
    EXPECT_EQ(fcntl(no_tap, F_GETFD), -1) << "owned from the call on";
    const int unattached = open(kTunDevice, O_RDWR | O_CLOEXEC);
    ExpectError(AdoptTap(unattached).status(), absl::StatusCode::kInvalidArgument, "TUNSETIFF");
  });
}

}  // namespace
}  // namespace penstock
