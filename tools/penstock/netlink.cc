#include "tools/penstock/netlink.h"

#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "tools/penstock/descriptor.h"

namespace penstock::tool {
namespace {

// Frames that wait in the tap while the stack is busy: a window of super-segments
// each way, not seconds of them.
constexpr uint32_t kTransmitQueueLength = 1000;

// One request: header, fixed body, attributes; lengths are kept right as it grows.
class Request final {
 public:
  Request(uint16_t type, uint16_t flags) {
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

// Sends `request` and reads its acknowledgement; `what` opens the error.
absl::Status Exchange(int netlink, Request request, const std::string& what) {
  const std::span<const uint8_t> bytes = request.Finish();
  if (send(netlink, bytes.data(), bytes.size(), 0) < 0) return ErrnoStatus(what, errno);
  alignas(nlmsghdr) std::array<uint8_t, 8192> answer;
  const ssize_t length = recv(netlink, answer.data(), answer.size(), 0);
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

absl::Status BringUp(int netlink, const std::string& name, std::optional<uint32_t> mtu) {
  const absl::StatusOr<int> index = IndexOf(name);
  if (!index.ok()) return index.status();
  Request request(RTM_NEWLINK, 0);
  ifinfomsg body{};
  body.ifi_family = AF_UNSPEC;
  body.ifi_index = *index;
  body.ifi_flags = IFF_UP;
  body.ifi_change = IFF_UP;
  request.Body(body);
  if (mtu) {
    request.Attribute(IFLA_MTU, *mtu);
    request.Attribute(IFLA_TXQLEN, kTransmitQueueLength);
  }
  return Exchange(netlink, std::move(request), absl::StrCat("cannot bring ", name, " up"));
}

uint8_t AddressFamily(const IpAddress& address) { return address.is_v4() ? AF_INET : AF_INET6; }

absl::Status AddAddress(int netlink, int index, const FamilyConfig& family) {
  Request request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
  ifaddrmsg body{};
  body.ifa_family = AddressFamily(family.guest);
  body.ifa_prefixlen = static_cast<uint8_t>(family.prefix_length);
  body.ifa_flags = IFA_F_PERMANENT;
  body.ifa_scope = RT_SCOPE_UNIVERSE;
  body.ifa_index = static_cast<uint32_t>(index);
  request.Body(body);
  request.Attribute(IFA_LOCAL, family.guest);
  request.Attribute(IFA_ADDRESS, family.guest);
  if (family.guest.is_v6()) request.Attribute(IFA_FLAGS, IFA_F_PERMANENT | IFA_F_NODAD);
  return Exchange(
      netlink, std::move(request),
      absl::StrCat("cannot add address ", family.guest.ToString(), "/", family.prefix_length));
}

absl::Status AddDefaultRoute(int netlink, int index, const FamilyConfig& family) {
  Request request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE);
  rtmsg body{};
  body.rtm_family = AddressFamily(family.gateway);
  body.rtm_table = RT_TABLE_MAIN;
  body.rtm_protocol = RTPROT_STATIC;
  body.rtm_scope = RT_SCOPE_UNIVERSE;
  body.rtm_type = RTN_UNICAST;
  body.rtm_flags = RTNH_F_ONLINK;  // the gateway needs no route of its own
  request.Body(body);
  request.Attribute(RTA_GATEWAY, family.gateway);
  request.Attribute(RTA_OIF, static_cast<uint32_t>(index));
  return Exchange(netlink, std::move(request),
                  absl::StrCat("cannot add the default route by ", family.gateway.ToString()));
}

// /proc/sys may be read-only (containers): the interface then works all the same,
// only with some noise from the kernel, so this is a warning.
void Set(const std::string& setting, std::string_view value) {
  const std::string path = absl::StrCat("/proc/sys/net/", setting);
  const Descriptor file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file.valid() ||
      write(file.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size())) {
    std::fprintf(stderr, "penstock: warning: cannot set %s to %.*s: %s\n", path.c_str(),
                 static_cast<int>(value.size()), value.data(), std::strerror(errno));
  }
}

void SetIpv6Behaviour(const InterfaceSettings& settings) {
  if (access("/proc/sys/net/ipv6", F_OK) != 0) return;  // a kernel without IPv6
  const std::string folder = absl::StrCat("ipv6/conf/", settings.name, "/");
  if (!settings.ipv6.enabled) {
    Set(folder + "disable_ipv6", "1");
    return;
  }
  Set(folder + "accept_ra", "0");
  Set(folder + "accept_dad", "0");
}

// The kernel installs the local route of a new IPv6 address from a work queue, and drops
// what arrives for the address before that: an answer to the command's first packet
// would be lost for a second. Watches from before the address is added.
class LocalRouteWatch final {
 public:
  LocalRouteWatch()
      : netlink_(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE)) {
    sockaddr_nl groups{};
    groups.nl_family = AF_NETLINK;
    groups.nl_groups = RTMGRP_IPV6_ROUTE;
    watching_ = netlink_.valid() &&
                bind(netlink_.get(), reinterpret_cast<sockaddr*>(&groups), sizeof groups) == 0;
  }

  // Without the route after two seconds things go on: it is seen at once or late, and
  // all that late costs is a retry.
  void Wait(const IpAddress& address) const {
    const Time deadline = Clock::now() + std::chrono::seconds(2);
    while (watching_ && !Arrived(address)) {
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
      pollfd watched{.fd = netlink_.get(), .events = POLLIN, .revents = 0};
      if (left.count() <= 0 || poll(&watched, 1, static_cast<int>(left.count()) + 1) == 0) return;
    }
  }

 private:
  // Reads what there is; true if the route was in it.
  [[nodiscard]] bool Arrived(const IpAddress& address) const {
    alignas(nlmsghdr) std::array<uint8_t, 8192> bytes;
    for (ssize_t got; (got = recv(netlink_.get(), bytes.data(), bytes.size(), 0)) > 0;) {
      auto left = static_cast<size_t>(got);
      for (auto* message = reinterpret_cast<nlmsghdr*>(bytes.data()); NLMSG_OK(message, left);
           message = NLMSG_NEXT(message, left)) {
        if (message->nlmsg_type == RTM_NEWROUTE && IsLocalRoute(*message, address)) return true;
      }
    }
    return false;
  }

  [[nodiscard]] static bool IsLocalRoute(nlmsghdr& message, const IpAddress& address) {
    auto* route = static_cast<rtmsg*>(NLMSG_DATA(&message));
    if (route->rtm_type != RTN_LOCAL || route->rtm_dst_len != 128) return false;
    auto left = RTM_PAYLOAD(&message);
    for (rtattr* attribute = RTM_RTA(route); RTA_OK(attribute, left);
         attribute = RTA_NEXT(attribute, left)) {
      if (attribute->rta_type == RTA_DST && RTA_PAYLOAD(attribute) == 16) {
        return std::memcmp(RTA_DATA(attribute), address.bytes.data(), 16) == 0;
      }
    }
    return false;
  }

  const Descriptor netlink_;
  bool watching_ = false;
};

}  // namespace

absl::Status ConfigureNamespace(const InterfaceSettings& settings) {
  const Descriptor netlink(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!netlink.valid()) return ErrnoStatus("cannot open a netlink socket", errno);
  if (absl::Status up = BringUp(netlink.get(), "lo", std::nullopt); !up.ok()) return up;

  const absl::StatusOr<int> index = IndexOf(settings.name);
  if (!index.ok()) return index.status();
  SetIpv6Behaviour(settings);
  if (absl::Status up = BringUp(netlink.get(), settings.name, settings.mtu); !up.ok()) return up;
  for (const FamilyConfig* family : {&settings.ipv4, &settings.ipv6}) {
    if (!family->enabled) continue;
    const LocalRouteWatch watch;
    if (absl::Status added = AddAddress(netlink.get(), *index, *family); !added.ok()) {
      return added;
    }
    if (absl::Status added = AddDefaultRoute(netlink.get(), *index, *family); !added.ok()) {
      return added;
    }
    if (family->guest.is_v6()) watch.Wait(family->guest);
  }
  return absl::OkStatus();
}

}  // namespace penstock::tool
