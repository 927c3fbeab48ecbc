#include "tools/penstock/netlink.h"

#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tools/penstock/route_watch.h"

namespace penstock::tool {
namespace {

// Frames that wait in the tap while the stack is busy: a window of super-segments
// each way, not seconds of them.
constexpr uint32_t kTransmitQueueLength = 1000;

constexpr uint32_t kLastOfAllRoutes = 0xffff'ffff;

// One request: header, fixed body, attributes; lengths are kept right as it grows.
class NetlinkRequest final {
 public:
  NetlinkRequest(uint16_t type, uint16_t flags) {
    nlmsghdr header{};
    header.nlmsg_type = type;
    header.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
    header.nlmsg_seq = 1;
    Append(&header, sizeof header);
  }

  template <typename T>
  void Body(const T& body) {
    Append(&body, sizeof body);
  }

  void Attribute(uint16_t type, const void* value, size_t length) {
    const rtattr header{.rta_len = static_cast<uint16_t>(RTA_LENGTH(length)), .rta_type = type};
    Append(&header, sizeof header);
    Append(value, length);
  }
  void Attribute(uint16_t type, uint32_t value) { Attribute(type, &value, sizeof value); }
  void Attribute(uint16_t type, const IpAddress& address) {
    Attribute(type, address.wire().data(), address.wire().size());
  }

  [[nodiscard]] std::span<const uint8_t> Finish() {
    const auto length = static_cast<uint32_t>(bytes_.size());
    std::memcpy(bytes_.data(), &length, sizeof length);  // nlmsg_len is the first field
    return bytes_;
  }

 private:
  void Append(const void* data, size_t length) {
    const auto* first = static_cast<const uint8_t*>(data);
    bytes_.insert(bytes_.end(), first, first + length);
    bytes_.resize(NLMSG_ALIGN(bytes_.size()));
  }

  std::vector<uint8_t> bytes_;
};

// `call` until no signal interrupts it.
ssize_t Uninterrupted(auto&& call) {
  ssize_t result;
  do {
    result = call();
  } while (result < 0 && errno == EINTR);
  return result;
}

// Sends `request` and reads its acknowledgement; `what` opens the error.
absl::Status Exchange(int netlink, NetlinkRequest request, const std::string& what) {
  const std::span<const uint8_t> bytes = request.Finish();
  const ssize_t sent = Uninterrupted([&] { return send(netlink, bytes.data(), bytes.size(), 0); });
  if (sent < 0) return ErrnoStatus(what, errno);
  alignas(nlmsghdr) std::array<uint8_t, 8192> answer;
  const ssize_t length =
      Uninterrupted([&] { return recv(netlink, answer.data(), answer.size(), 0); });
  if (length < 0) return ErrnoStatus(what, errno);
  nlmsghdr header;
  nlmsgerr result;
  if (static_cast<size_t>(length) < sizeof header + sizeof result.error) {
    return absl::InternalError(absl::StrCat(what, ": short answer from the kernel"));
  }
  std::memcpy(&header, answer.data(), sizeof header);
  std::memcpy(&result.error, answer.data() + sizeof header, sizeof result.error);
  if (header.nlmsg_type != NLMSG_ERROR) {
    return absl::InternalError(absl::StrCat(what, ": unexpected answer from the kernel"));
  }
  return result.error == 0 ? absl::OkStatus() : ErrnoStatus(what, -result.error);
}

absl::StatusOr<int> IndexOf(const std::string& name) {
  const unsigned index = if_nametoindex(name.c_str());
  if (index == 0) return ErrnoStatus(absl::StrCat("no interface ", name), errno);
  return static_cast<int>(index);
}

// An RTM_NEWLINK for what is there.
NetlinkRequest LinkRequest(int index, unsigned flags) {
  NetlinkRequest request(RTM_NEWLINK, 0);
  ifinfomsg body{};
  body.ifi_family = AF_UNSPEC;
  body.ifi_index = index;
  body.ifi_flags = flags;
  body.ifi_change = flags;
  request.Body(body);
  return request;
}

absl::Status BringUp(int netlink, const std::string& name) {
  const absl::StatusOr<int> index = IndexOf(name);
  if (!index.ok()) return index.status();
  return Exchange(netlink, LinkRequest(*index, IFF_UP), absl::StrCat("cannot bring ", name, " up"));
}

absl::Status SetQueueLength(int netlink, int index) {
  NetlinkRequest request = LinkRequest(index, 0);
  request.Attribute(IFLA_TXQLEN, kTransmitQueueLength);
  return Exchange(netlink, std::move(request), "cannot set the queue length of the tap");
}

absl::Status SetMtu(int netlink, int index, uint32_t mtu) {
  NetlinkRequest request = LinkRequest(index, 0);
  request.Attribute(IFLA_MTU, mtu);
  return Exchange(netlink, std::move(request), absl::StrCat("cannot set the MTU ", mtu));
}

// With it the kernel makes the address that the configuration names out of an advertised
// prefix, and not one of the interface's MAC: published ports and people know it before.
absl::Status SetToken(int netlink, int index, const IpAddress& address) {
  std::array<uint8_t, 16> token{};
  std::copy(address.bytes.begin() + 8, address.bytes.end(), token.begin() + 8);
  // IFLA_AF_SPEC { AF_INET6 { IFLA_INET6_TOKEN } }
  struct {
    rtattr family;
    rtattr kind;
    std::array<uint8_t, 16> token;
  } const nested{.family = {.rta_len = sizeof nested, .rta_type = AF_INET6},
                 .kind = {.rta_len = RTA_LENGTH(sizeof token), .rta_type = IFLA_INET6_TOKEN},
                 .token = token};
  NetlinkRequest request = LinkRequest(index, 0);
  request.Attribute(IFLA_AF_SPEC, &nested, sizeof nested);
  return Exchange(netlink, std::move(request),
                  absl::StrCat("cannot choose the address ", address.ToString()));
}

uint8_t AddressFamily(const IpAddress& address) { return address.is_v4() ? AF_INET : AF_INET6; }

rtmsg DefaultRoute(Family family) {
  rtmsg body{};
  body.rtm_family = family == Family::kIpv4 ? AF_INET : AF_INET6;
  body.rtm_table = RT_TABLE_MAIN;
  body.rtm_protocol = RTPROT_STATIC;
  body.rtm_type = RTN_UNICAST;
  return body;
}

struct Address {
  IpAddress address;
  int prefix_length = 0;
  uint32_t seconds = DhcpLease::kForever;
};

// A new lifetime if it is there already.
absl::Status AddAddress(int netlink, int index, const Address& added) {
  const uint32_t flags = added.seconds == DhcpLease::kForever ? IFA_F_PERMANENT : 0;
  NetlinkRequest request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
  ifaddrmsg body{};
  body.ifa_family = AddressFamily(added.address);
  body.ifa_prefixlen = static_cast<uint8_t>(added.prefix_length);
  body.ifa_flags = static_cast<uint8_t>(flags);
  body.ifa_scope = RT_SCOPE_UNIVERSE;
  body.ifa_index = static_cast<uint32_t>(index);
  request.Body(body);
  request.Attribute(IFA_LOCAL, added.address);
  request.Attribute(IFA_ADDRESS, added.address);
  if (added.address.is_v6()) request.Attribute(IFA_FLAGS, flags | IFA_F_NODAD);
  const ifa_cacheinfo lifetime{
      .ifa_prefered = added.seconds, .ifa_valid = added.seconds, .cstamp = 0, .tstamp = 0};
  request.Attribute(IFA_CACHEINFO, &lifetime, sizeof lifetime);
  return Exchange(
      netlink, std::move(request),
      absl::StrCat("cannot add address ", added.address.ToString(), "/", added.prefix_length));
}

absl::Status RemoveAddress(int netlink, int index, const Address& removed) {
  NetlinkRequest request(RTM_DELADDR, 0);
  ifaddrmsg body{};
  body.ifa_family = AddressFamily(removed.address);
  body.ifa_prefixlen = static_cast<uint8_t>(removed.prefix_length);
  body.ifa_index = static_cast<uint32_t>(index);
  request.Body(body);
  request.Attribute(IFA_LOCAL, removed.address);
  return Exchange(netlink, std::move(request),
                  absl::StrCat("cannot remove address ", removed.address.ToString()));
}

absl::Status AddDefaultRoute(int netlink, int index, const IpAddress& gateway) {
  NetlinkRequest request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE);
  rtmsg body = DefaultRoute(gateway.family);
  body.rtm_scope = RT_SCOPE_UNIVERSE;
  body.rtm_flags = RTNH_F_ONLINK;  // the gateway needs no route of its own
  request.Body(body);
  request.Attribute(RTA_GATEWAY, gateway);
  request.Attribute(RTA_OIF, static_cast<uint32_t>(index));
  return Exchange(netlink, std::move(request),
                  absl::StrCat("cannot add the default route by ", gateway.ToString()));
}

// /proc/sys may be read-only (containers): the interface then works all the same,
// only later and with some noise from the kernel, so this is a warning, and one is enough.
void SetAll(const std::string& folder,
            std::initializer_list<std::pair<const char*, std::string_view>> settings) {
  for (const auto& [name, value] : settings) {
    const std::string path = absl::StrCat("/proc/sys/net/", folder, name);
    const Descriptor file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!file.valid() ||
        write(file.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size())) {
      std::fprintf(stderr, "penstock: warning: cannot set %s to %.*s: %s\n", path.c_str(),
                   static_cast<int>(value.size()), value.data(), std::strerror(errno));
      return;
    }
  }
}

// The kernel asks for an advertisement as soon as the interface is up, and again each
// second, and has its address without a probe for duplicates: nobody else is on the link.
// accept_ra 2: also where the command makes a router of the sandbox.
void SetIpv6Behaviour(const InterfaceSettings& settings) {
  if (access("/proc/sys/net/ipv6", F_OK) != 0) return;  // a kernel without IPv6
  const std::string folder = absl::StrCat("ipv6/conf/", settings.name, "/");
  if (!settings.ipv6.enabled) {
    SetAll(folder, {{"disable_ipv6", "1"}});
  } else if (settings.ipv6_by_advertisements) {
    SetAll(folder, {{"accept_dad", "0"},
                    {"accept_ra", "2"},
                    {"autoconf", "1"},
                    {"use_tempaddr", "0"},
                    {"router_solicitation_delay", "0"},
                    {"router_solicitation_interval", "1"},
                    {"router_solicitation_max_interval", "1"}});
  } else {
    SetAll(folder, {{"accept_ra", "0"}, {"accept_dad", "0"}});
  }
}

absl::Status SetFamily(int netlink, int index, const FamilyConfig& family) {
  std::optional<RouteWatch> watch;
  if (family.guest.is_v6()) watch.emplace(family.guest, 128);
  const Address address{.address = family.guest, .prefix_length = family.prefix_length};
  if (absl::Status added = AddAddress(netlink, index, address); !added.ok()) return added;
  if (absl::Status added = AddDefaultRoute(netlink, index, family.gateway); !added.ok()) {
    return added;
  }
  if (watch) watch->Wait();
  return absl::OkStatus();
}

}  // namespace

absl::Status ConfigureNamespace(const InterfaceSettings& settings) {
  const Descriptor netlink(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!netlink.valid()) return ErrnoStatus("cannot open a netlink socket", errno);
  if (absl::Status up = BringUp(netlink.get(), "lo"); !up.ok()) return up;

  const absl::StatusOr<int> index = IndexOf(settings.name);
  if (!index.ok()) return index.status();
  SetIpv6Behaviour(settings);
  if (absl::Status set = SetQueueLength(netlink.get(), *index); !set.ok()) return set;
  if (!settings.ipv4_by_dhcp) {
    if (absl::Status set = SetMtu(netlink.get(), *index, settings.mtu); !set.ok()) return set;
  }
  if (settings.ipv6.enabled && settings.ipv6_by_advertisements) {
    absl::Status set = SetToken(netlink.get(), *index, settings.ipv6.guest);
    if (!set.ok()) return set;
  }
  if (absl::Status up = BringUp(netlink.get(), settings.name); !up.ok()) return up;
  if (settings.ipv4.enabled && !settings.ipv4_by_dhcp) {
    if (absl::Status s = SetFamily(netlink.get(), *index, settings.ipv4); !s.ok()) return s;
  }
  if (settings.ipv6.enabled && !settings.ipv6_by_advertisements) {
    if (absl::Status s = SetFamily(netlink.get(), *index, settings.ipv6); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::StatusOr<LeasedInterface> LeasedInterface::Open(const std::string& name) {
  LeasedInterface interface;
  interface.netlink_.Reset(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!interface.netlink_.valid()) return ErrnoStatus("cannot open a netlink socket", errno);
  const absl::StatusOr<int> index = IndexOf(name);
  if (!index.ok()) return index.status();
  interface.index_ = *index;
  return interface;
}

absl::Status LeasedInterface::AddBroadcastRoute() {
  NetlinkRequest request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE);
  rtmsg body = DefaultRoute(Family::kIpv4);
  body.rtm_scope = RT_SCOPE_LINK;
  request.Body(body);
  request.Attribute(RTA_OIF, static_cast<uint32_t>(index_));
  request.Attribute(RTA_PRIORITY, kLastOfAllRoutes);
  return Exchange(netlink_.get(), std::move(request), "cannot add a route for DHCP");
}

absl::Status LeasedInterface::Set(const DhcpLease& lease) {
  const Address address{
      .address = lease.address, .prefix_length = lease.prefix_length, .seconds = lease.seconds};
  if (absl::Status added = AddAddress(netlink_.get(), index_, address); !added.ok()) return added;
  if (lease.mtu) {
    if (absl::Status set = SetMtu(netlink_.get(), index_, *lease.mtu); !set.ok()) return set;
  }
  NetlinkRequest request(RTM_DELROUTE, 0);
  rtmsg body = DefaultRoute(Family::kIpv4);
  body.rtm_scope = RT_SCOPE_NOWHERE;  // any
  request.Body(body);
  request.Attribute(RTA_OIF, static_cast<uint32_t>(index_));
  if (lease.router) {
    absl::Status added = AddDefaultRoute(netlink_.get(), index_, *lease.router);
    if (!added.ok()) return added;
    request.Attribute(RTA_PRIORITY, kLastOfAllRoutes);
  }
  // Without a router every default route goes, also one that an earlier lease had told.
  while (Exchange(netlink_.get(), request, "no such route").ok()) {
  }
  return absl::OkStatus();
}

// Its routes go with it.
absl::Status LeasedInterface::Drop(const DhcpLease& lease) {
  return RemoveAddress(netlink_.get(), index_,
                       {.address = lease.address, .prefix_length = lease.prefix_length});
}

}  // namespace penstock::tool
