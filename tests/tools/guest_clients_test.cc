// Guests that configure themselves, with the clients that real systems have: busybox's
// udhcpc, ISC's dhclient for both families, systemd-networkd, the kernel's own
// autoconfiguration, and rdisc6
// to look at what is advertised. Behind `penstock attach --no-configure`.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "tests/tools/attached.h"

namespace penstock::tool {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;

// A namespace with a tap that is up, and nobody who configures it.
class Unconfigured final {
 public:
  explicit Unconfigured(std::vector<std::string> options = {}) {
    AddRoutes();
    options.insert(options.begin(), {"--pid", holder_.pid(), "--no-configure", "--mtu", "1400",
                                     "--search", "corp.example", "--search", "lab.example"});
    penstock_.emplace(options);
    // Before it is up: what the kernel says first of all counts.
    (void)Shell(
        "cd /proc/sys/net/ipv6/conf/tap0; echo 0 > accept_dad; echo 1 > accept_ra;"
        "echo 1 > router_solicitation_interval; ip link set lo up; ip link set tap0 up");
  }
  // A shell script inside.
  [[nodiscard]] Outcome Shell(const std::string& script) const {
    return RunProgram({"nsenter", "--net=" + holder_.path(), "sh", "-c", script});
  }
  // A program for a client to call: it writes its environment to `file`.
  [[nodiscard]] std::string Hook(const std::string& condition) {
    const std::string path = folder_ / "hook";
    std::ofstream(path) << "#!/bin/sh\n" << condition << " && env > " << file() << "\nexit 0\n";
    chmod(path.c_str(), 0755);
    return path;
  }
  [[nodiscard]] std::string file() const { return folder_ / "told"; }
  [[nodiscard]] std::string In(const std::string& name) const { return folder_ / name; }
  [[nodiscard]] std::string Told() const { return ReadFile(file()); }

 private:
  Holder holder_;
  TemporaryFolder folder_;
  std::optional<Attached> penstock_;
};

TEST(GuestClients, Udhcpc) {
  InOwnNamespaces([] {
    Unconfigured guest({"--lease-time", "600"});
    const Outcome outcome = guest.Shell("udhcpc -f -n -q -i tap0 -O search -O mtu -s " +
                                        guest.Hook("[ \"$1\" = bound ]"));
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    EXPECT_THAT(
        guest.Told(),
        AllOf(HasSubstr("ip=10.0.2.15\n"), HasSubstr("subnet=255.255.255.0\n"),
              HasSubstr("router=10.0.2.2\n"), HasSubstr("dns=10.0.2.3\n"), HasSubstr("mtu=1400\n"),
              HasSubstr("lease=600\n"), HasSubstr("search=corp.example lab.example\n"),
              HasSubstr("domain=corp.example\n"), HasSubstr("serverid=10.0.2.2\n")));
  });
}

TEST(GuestClients, UdhcpcGetsWhatItAsksForAndIsRefusedWhatIsNotOurs) {
  InOwnNamespaces([] {
    Unconfigured guest({"--dhcp-pool", "10.0.2.15-10.0.2.99"});
    const std::string hook = guest.Hook("[ \"$1\" = bound ]");
    (void)guest.Shell("udhcpc -f -n -q -i tap0 -r 10.0.2.77 -s " + hook);
    EXPECT_THAT(guest.Told(), HasSubstr("ip=10.0.2.77\n"));
    // The address is good: a packet from it is not refused as false.
    const Outcome ping =
        guest.Shell("ip address add 10.0.2.77/24 dev tap0; ping -c 1 -W 5 10.0.2.2");
    EXPECT_EQ(ping.status, 0) << ping.output;
    (void)guest.Shell("udhcpc -f -n -q -i tap0 -r 10.0.2.100 -s " + hook);
    EXPECT_THAT(guest.Told(), HasSubstr("ip=10.0.2.77\n"));
  });
}

TEST(GuestClients, Dhclient) {
  InOwnNamespaces([] {
    Unconfigured guest;
    std::ofstream(guest.In("conf"))
        << "request subnet-mask, routers, domain-name-servers, domain-search, interface-mtu;\n";
    const Outcome outcome =
        guest.Shell("dhclient -4 -1 -sf " + guest.Hook("[ \"$reason\" = BOUND ]") + " -cf " +
                    guest.In("conf") + " -lf " + guest.In("leases") + " -pf " + guest.In("pid") +
                    " tap0; status=$?; kill $(cat " + guest.In("pid") + "); exit $status");
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    EXPECT_THAT(
        guest.Told(),
        AllOf(HasSubstr("new_ip_address=10.0.2.15\n"), HasSubstr("new_subnet_mask=255.255.255.0\n"),
              HasSubstr("new_routers=10.0.2.2\n"), HasSubstr("new_domain_name_servers=10.0.2.3\n"),
              HasSubstr("new_interface_mtu=1400\n"), HasSubstr("new_dhcp_lease_time=86400\n")));
    EXPECT_THAT(guest.Told(), HasSubstr("new_domain_search=corp.example. lab.example."));
  });
}

TEST(GuestClients, DhclientStateless6) {
  InOwnNamespaces([] {
    Unconfigured guest;
    const Outcome outcome = guest.Shell(
        "dhclient -6 -S -1 -sf " + guest.Hook("[ -n \"$new_dhcp6_name_servers\" ]") +
        " -cf /dev/null -lf " + guest.In("leases") + " -pf " + guest.In("pid") +
        " tap0; status=$?; kill $(cat " + guest.In("pid") + ") 2> /dev/null; exit $status");
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    EXPECT_THAT(guest.Told(),
                AllOf(HasSubstr("new_dhcp6_name_servers=fd00::3\n"),
                      HasSubstr("new_dhcp6_domain_search=corp.example. lab.example.")));
  });
}

TEST(GuestClients, Rdisc6SeesWhatIsAdvertised) {
  InOwnNamespaces([] {
    Unconfigured guest;
    const Outcome outcome = guest.Shell("rdisc6 -1 tap0");
    EXPECT_EQ(outcome.status, 0) << outcome.errors;
    EXPECT_THAT(outcome.output,
                AllOf(HasSubstr("fd00::/64"), HasSubstr("1400 bytes"), HasSubstr("fd00::3"),
                      HasSubstr("corp.example lab.example"), HasSubstr("52:55:0A:00:02:02"),
                      ContainsRegex("Router lifetime *: *1800")));
  });
}

TEST(GuestClients, KernelsAutoconfiguration) {
  InOwnNamespaces([] {
    Unconfigured guest;
    const Outcome outcome = guest.Shell(
        "for i in $(seq 100); do ip -6 route | grep -q ^default && break; sleep 0.1; done;"
        "ip -6 route; ip -6 -o address; cat /proc/sys/net/ipv6/conf/tap0/mtu;"
        "ping -c 1 -W 5 fd00::2 > /dev/null && echo answered");
    EXPECT_THAT(outcome.output,
                AllOf(ContainsRegex("default via fe80::5055:aff:fe00:202 dev tap0 proto ra"),
                      ContainsRegex("inet6 fd00::[0-9a-f:]*/64 scope global"),
                      HasSubstr("\n1400\n"), HasSubstr("answered")));
  });
}

// As a systemd guest runs it, but for its user, who is whoever runs the test, and for udev,
// which it does not wait for where /sys cannot be written to.
TEST(GuestClients, SystemdNetworkd) {
  InOwnNamespaces([] {
    Unconfigured guest;
    std::ofstream(guest.In("tap0.network"))
        << "[Match]\nName=tap0\n[Network]\nDHCP=yes\nIPv6AcceptRA=yes\n[DHCPv4]\nUseMTU=yes\n";
    std::ofstream(guest.In("script"))
        << "mount -t sysfs -o ro sysfs /sys && mount -t tmpfs tmpfs /run || exit 1\n"
           "mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases\n"
           "mkdir -p /run/systemd/netif/lldp\n"
           "echo systemd-network:x:0:0::/:/bin/false > /run/passwd\n"
           "echo systemd-network:x:0: > /run/group\n"
           "mount --bind /run/passwd /etc/passwd && mount --bind /run/group /etc/group || exit 1\n"
           "cp " +
               guest.In("tap0.network") +
               " /run/systemd/network\n"
               "/lib/systemd/systemd-networkd & daemon=$!\n"
               "for i in $(seq 100); do\n"
               "  cat /run/systemd/netif/links/* | grep -q 'DNS=10.0.2.3 fd00::3' && break\n"
               "  sleep 0.1\n"
               "done\n"
               "cat /run/systemd/netif/links/* /run/systemd/netif/leases/*\n"
               "ip -o address; ip route; ip -6 route; kill $daemon; wait\n";
    const Outcome outcome = guest.Shell("unshare --mount sh " + guest.In("script"));
    EXPECT_THAT(
        outcome.output,
        AllOf(HasSubstr("DNS=10.0.2.3 fd00::3\n"), HasSubstr("ADDRESS=10.0.2.15\n"),
              HasSubstr("MTU=1400\n"), HasSubstr("DOMAIN_SEARCH_LIST=corp.example lab.example"),
              ContainsRegex("default via 10.0.2.2 dev tap0 proto dhcp"),
              ContainsRegex("default via fe80::5055:aff:fe00:202 dev tap0 proto ra"),
              ContainsRegex("inet6 fd00::[0-9a-f:]*/64 .*scope global")))
        << outcome.errors;
  });
}

TEST(GuestClients, SwitchedOffNothingIsTold) {
  InOwnNamespaces([] {
    Unconfigured guest({"--no-dhcp", "--no-ra"});
    EXPECT_NE(guest.Shell("udhcpc -f -n -q -t 1 -T 1 -i tap0 -s /bin/true").status, 0);
    EXPECT_NE(guest.Shell("rdisc6 -1 -r 1 -w 500 tap0").status, 0);
  });
}

}  // namespace
}  // namespace penstock::tool
