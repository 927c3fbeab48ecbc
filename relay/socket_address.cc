#include "relay/socket_address.h"

#include <cstring>
#include <span>

namespace penstock {

SocketAddress::SocketAddress(const Endpoint& endpoint, uint32_t zone) {
  if (endpoint.address.is_v4()) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(endpoint.port);
    std::memcpy(&address.sin_addr, endpoint.address.bytes.data(), 4);
    std::memcpy(&any_, &address, sizeof address);
    length_ = sizeof address;
  } else {
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(endpoint.port);
    address.sin6_scope_id = zone;
    std::memcpy(&address.sin6_addr, endpoint.address.bytes.data(), 16);
    std::memcpy(&any_, &address, sizeof address);
    length_ = sizeof address;
  }
}

Endpoint SocketAddress::ToEndpoint() const {
  if (any_.ss_family == AF_INET) {
    sockaddr_in address;
    std::memcpy(&address, &any_, sizeof address);
    const auto* bytes = reinterpret_cast<const uint8_t*>(&address.sin_addr);
    return {IpAddress::From(std::span(bytes, 4)), ntohs(address.sin_port)};
  }
  if (any_.ss_family == AF_INET6) {
    sockaddr_in6 address;
    std::memcpy(&address, &any_, sizeof address);
    const auto* bytes = reinterpret_cast<const uint8_t*>(&address.sin6_addr);
    return {IpAddress::From(std::span(bytes, 16)), ntohs(address.sin6_port)};
  }
  return {};
}

uint32_t SocketAddress::zone() const {
  if (any_.ss_family != AF_INET6) return 0;
  sockaddr_in6 address;
  std::memcpy(&address, &any_, sizeof address);
  return address.sin6_scope_id;
}

}  // namespace penstock
