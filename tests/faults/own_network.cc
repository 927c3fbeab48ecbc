#include "tests/faults/own_network.h"

#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <string>

#include "tests/faults/talk.h"
#include "tests/support/host_side.h"

namespace penstock::faults {
namespace {

// in6_ifreq, whose header cannot stand beside netinet's.
struct Ipv6Request {
  in6_addr address;
  uint32_t prefix_length;
  int interface;
};

void Write(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text << std::flush;
  Require(file.good(), "cannot write " + path);
}

void BecomeRootOfUserNamespace() {
  const std::string user = std::to_string(geteuid()), group = std::to_string(getegid());
  Require(unshare(CLONE_NEWUSER) == 0, "no user namespace");
  Write("/proc/self/uid_map", "0 " + user + " 1");
  Write("/proc/self/setgroups", "deny");
  Write("/proc/self/gid_map", "0 " + group + " 1");
}

ifreq Loopback() {
  ifreq request{};
  strncpy(request.ifr_name, "lo", IFNAMSIZ - 1);
  return request;
}

void AddIpv4(int descriptor) {
  ifreq request = Loopback();
  strncpy(request.ifr_name, "lo:1", IFNAMSIZ - 1);  // beside 127.0.0.1
  const IpAddress host = EchoHost(Family::kIpv4);
  const auto bytes = host.wire();
  sockaddr_in address{};
  address.sin_family = AF_INET;
  memcpy(&address.sin_addr, bytes.data(), bytes.size());
  memcpy(&request.ifr_addr, &address, sizeof address);
  Require(ioctl(descriptor, SIOCSIFADDR, &request) == 0, "cannot add an IPv4 address");
}

void AddIpv6() {
  const HostDescriptor descriptor(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  Ipv6Request request{.prefix_length = 128, .interface = static_cast<int>(if_nametoindex("lo"))};
  const IpAddress host = EchoHost(Family::kIpv6);
  const auto bytes = host.wire();
  memcpy(&request.address, bytes.data(), bytes.size());
  Require(ioctl(descriptor.get(), SIOCSIFADDR, &request) == 0, "cannot add an IPv6 address");
}

}  // namespace

IpAddress EchoHost(Family family) {
  return *IpAddress::Parse(family == Family::kIpv4 ? "198.18.0.2" : "fd01::2");
}

void EnterOwnNetwork() {
  if (geteuid() != 0) BecomeRootOfUserNamespace();
  Require(unshare(CLONE_NEWNET) == 0, "no network namespace");
  const HostDescriptor descriptor(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq up = Loopback();
  up.ifr_flags = IFF_UP;
  Require(ioctl(descriptor.get(), SIOCSIFFLAGS, &up) == 0, "cannot bring lo up");
  AddIpv4(descriptor.get());
  AddIpv6();
  Write("/proc/sys/net/ipv4/ping_group_range", "0 0");
}

}  // namespace penstock::faults
