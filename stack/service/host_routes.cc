#include "stack/service/host_routes.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

namespace penstock {
namespace {

constexpr uint32_t kGroups =
    RTMGRP_LINK | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;
// As large as the kernel makes the messages of a dump.
constexpr size_t kAnswerBytes = 32'768;

int OpenNetlink(uint32_t groups) {
  const int descriptor = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
  if (descriptor < 0) return -1;
  sockaddr_nl own{};
  own.nl_family = AF_NETLINK;
  own.nl_groups = groups;
  if (bind(descriptor, reinterpret_cast<const sockaddr*>(&own), sizeof own) == 0) {
    return descriptor;
  }
  close(descriptor);
  return -1;
}

// The bytes are the kernel's; they are still read by their length.
template <typename T>
std::optional<T> Read(std::span<const uint8_t> bytes) {
  T value;
  if (bytes.size() < sizeof value) return std::nullopt;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

std::span<const uint8_t> Behind(std::span<const uint8_t> bytes, size_t length) {
  return bytes.subspan(std::min(length, bytes.size()));
}

// Multicast's and link-local's networks, and the host's own.
bool LeadsNowhere(const rtmsg& route, std::span<const uint8_t> destination) {
  if (route.rtm_dst_len == 0 || destination.empty()) return false;  // a default route
  if (route.rtm_family == AF_INET) {
    const uint8_t first = destination[0];
    const bool link_local = first == 169 && destination.size() > 1 && destination[1] == 254;
    return first == 127 || link_local || first >= 224;
  }
  const bool link_local =
      destination[0] == 0xfe && destination.size() > 1 && (destination[1] & 0xc0) == 0x80;
  const bool loopback =
      route.rtm_dst_len == 128 && std::ranges::all_of(destination.first(destination.size() - 1),
                                                      [](uint8_t byte) { return byte == 0; });
  return destination[0] == 0xff || link_local || loopback;
}

// `message` is an RTM_NEWROUTE's body.
bool Counts(std::span<const uint8_t> message, unsigned loopback_index) {
  const auto route = Read<rtmsg>(message);
  if (!route || route->rtm_type != RTN_UNICAST || route->rtm_table == RT_TABLE_LOCAL ||
      (route->rtm_flags & (RTM_F_CLONED | RTNH_F_DEAD | RTNH_F_LINKDOWN)) != 0) {
    return false;
  }
  std::span<const uint8_t> destination;
  for (auto rest = Behind(message, NLMSG_ALIGN(sizeof *route)); !rest.empty();) {
    const auto attribute = Read<rtattr>(rest);
    if (!attribute || attribute->rta_len < sizeof *attribute || attribute->rta_len > rest.size()) {
      return false;
    }
    const auto value = rest.subspan(sizeof *attribute, attribute->rta_len - sizeof *attribute);
    if (attribute->rta_type == RTA_DST) destination = value;
    if (attribute->rta_type == RTA_OIF && Read<uint32_t>(value) == loopback_index) return false;
    rest = Behind(rest, RTA_ALIGN(attribute->rta_len));
  }
  return !LeadsNowhere(*route, destination);
}

enum class Found : uint8_t { kYes, kNo, kUnknown };

// What one answer of a dump says; nothing if more is to come.
std::optional<Found> Scan(std::span<const uint8_t> answer, unsigned loopback_index) {
  while (const auto header = Read<nlmsghdr>(answer)) {
    if (header->nlmsg_len < sizeof *header || header->nlmsg_len > answer.size()) break;
    if (header->nlmsg_type == NLMSG_DONE) return Found::kNo;
    if (header->nlmsg_type == NLMSG_ERROR) return Found::kUnknown;
    const auto body = answer.subspan(sizeof *header, header->nlmsg_len - sizeof *header);
    if (header->nlmsg_type == RTM_NEWROUTE && Counts(body, loopback_index)) return Found::kYes;
    answer = Behind(answer, NLMSG_ALIGN(header->nlmsg_len));
  }
  return std::nullopt;
}

// A socket of its own: closing it ends the dump. The kernel answers within send and
// recv, so nothing is waited for.
Found Dump(uint8_t family, unsigned loopback_index) {
  const int descriptor = OpenNetlink(0);
  if (descriptor < 0) return Found::kUnknown;
  struct {
    nlmsghdr header;
    rtmsg body;
  } request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = RTM_GETROUTE;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.body.rtm_family = family;
  std::optional<Found> found;
  if (send(descriptor, &request, sizeof request, 0) < 0) found = Found::kUnknown;
  alignas(nlmsghdr) std::array<uint8_t, kAnswerBytes> answer;
  while (!found) {
    const ssize_t length = recv(descriptor, answer.data(), answer.size(), 0);
    if (length < 0 && errno == EINTR) continue;
    if (length <= 0) found = Found::kUnknown;
    if (length > 0) found = Scan({answer.data(), static_cast<size_t>(length)}, loopback_index);
  }
  close(descriptor);
  return *found;
}

HostRoutes Look() {
  const unsigned loopback_index = if_nametoindex("lo");
  // What cannot be known is not denied.
  return {.ipv4 = Dump(AF_INET, loopback_index) != Found::kNo,
          .ipv6 = Dump(AF_INET6, loopback_index) != Found::kNo};
}

}  // namespace

RouteFollower::RouteFollower(std::function<void(const HostRoutes&)> on_change)
    : on_change_(std::move(on_change)), descriptor_(OpenNetlink(kGroups)) {
  // Listening first: what changes while we look is looked at again.
  if (descriptor_ >= 0) routes_ = Look();
}

RouteFollower::~RouteFollower() {
  if (descriptor_ >= 0) close(descriptor_);
}

bool RouteFollower::Update() {
  if (descriptor_ < 0) return false;
  bool happened = false;
  for (int i = 0; i < kMessagesMax; ++i) {
    uint8_t first = 0;  // the rest of the message is cut off
    const bool none = recv(descriptor_, &first, sizeof first, 0) < 0 && errno != ENOBUFS;
    if (none) break;
    happened = true;
  }
  if (!happened) return false;
  const HostRoutes before = std::exchange(routes_, Look());
  if (routes_ == before) return false;
  if (on_change_) on_change_(routes_);
  return true;
}

}  // namespace penstock
