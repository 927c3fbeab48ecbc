#include "tools/penstock/route_watch.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <span>

#include "relay/time.h"

namespace penstock::tool {
namespace {

bool IsLocalRoute(nlmsghdr& message, const IpAddress& prefix, int prefix_length) {
  auto* route = static_cast<rtmsg*>(NLMSG_DATA(&message));
  if (route->rtm_type != RTN_LOCAL || route->rtm_dst_len != 128) return false;
  auto left = RTM_PAYLOAD(&message);
  for (rtattr* attribute = RTM_RTA(route); RTA_OK(attribute, left);
       attribute = RTA_NEXT(attribute, left)) {
    if (attribute->rta_type != RTA_DST || RTA_PAYLOAD(attribute) != 16) continue;
    const std::span address(static_cast<const uint8_t*>(RTA_DATA(attribute)), 16);
    return InPrefix(IpAddress::From(address), prefix, prefix_length);
  }
  return false;
}

}  // namespace

RouteWatch::RouteWatch(const IpAddress& prefix, int prefix_length)
    : netlink_(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE)),
      prefix_(prefix),
      prefix_length_(prefix_length) {
  sockaddr_nl groups{};
  groups.nl_family = AF_NETLINK;
  groups.nl_groups = RTMGRP_IPV6_ROUTE;
  if (bind(netlink_.get(), reinterpret_cast<sockaddr*>(&groups), sizeof groups) != 0) {
    netlink_.Reset();
  }
}

bool RouteWatch::Arrived() const {
  if (!netlink_.valid()) return true;
  alignas(nlmsghdr) std::array<uint8_t, 8192> bytes;
  for (ssize_t got; (got = recv(netlink_.get(), bytes.data(), bytes.size(), 0)) > 0;) {
    auto left = static_cast<size_t>(got);
    for (auto* message = reinterpret_cast<nlmsghdr*>(bytes.data()); NLMSG_OK(message, left);
         message = NLMSG_NEXT(message, left)) {
      if (message->nlmsg_type == RTM_NEWROUTE && IsLocalRoute(*message, prefix_, prefix_length_)) {
        return true;
      }
    }
  }
  return false;
}

void RouteWatch::Wait() const {
  const Time deadline = Clock::now() + std::chrono::seconds(2);
  while (!Arrived()) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    pollfd watched{.fd = netlink_.get(), .events = POLLIN, .revents = 0};
    if (left.count() <= 0 || poll(&watched, 1, static_cast<int>(left.count()) + 1) == 0) return;
  }
}

}  // namespace penstock::tool
