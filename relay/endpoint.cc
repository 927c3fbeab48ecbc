// Values only: text to address and back by inet_pton(3) and inet_ntop(3), which
// know every form of both families and touch no name service. Any thread.
#include "relay/endpoint.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <algorithm>

#include "relay/check.h"

namespace penstock {
namespace {

constexpr std::array<uint8_t, 12> kMappedPrefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

// The first `count` bits of a byte.
constexpr uint8_t LeadingBits(int count) { return static_cast<uint8_t>(0xff00 >> count); }

}  // namespace

IpAddress IpAddress::V4(uint8_t a, uint8_t b, uint8_t c, uint8_t d) {
  IpAddress address;
  address.bytes = {a, b, c, d};
  return address;
}

IpAddress IpAddress::From(std::span<const uint8_t> network_order) {
  PENSTOCK_CHECK(network_order.size() == 4 || network_order.size() == 16);
  IpAddress address;
  address.family = network_order.size() == 4 ? Family::kIpv4 : Family::kIpv6;
  std::copy(network_order.begin(), network_order.end(), address.bytes.begin());
  return address;
}

std::optional<IpAddress> IpAddress::Parse(std::string_view text) {
  std::array<char, INET6_ADDRSTRLEN> terminated{};
  if (text.size() >= terminated.size() || text.find('\0') != std::string_view::npos) {
    return std::nullopt;
  }
  std::copy(text.begin(), text.end(), terminated.begin());
  IpAddress address;
  address.family = text.find(':') == std::string_view::npos ? Family::kIpv4 : Family::kIpv6;
  const int family = address.is_v4() ? AF_INET : AF_INET6;
  if (inet_pton(family, terminated.data(), address.bytes.data()) != 1) return std::nullopt;
  return address;
}

IpAddress IpAddress::Unmapped() const {
  if (is_v4() || !std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), bytes.begin())) {
    return *this;
  }
  return V4(bytes[12], bytes[13], bytes[14], bytes[15]);
}

std::string IpAddress::ToString() const {
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(is_v4() ? AF_INET : AF_INET6, bytes.data(), text.data(), text.size());
  return text.data();
}

bool InPrefix(const IpAddress& address, const IpAddress& prefix, int prefix_length) {
  if (address.family != prefix.family || prefix_length < 0 ||
      prefix_length > static_cast<int>(address.wire().size() * 8)) {
    return false;
  }
  const auto whole_bytes = static_cast<size_t>(prefix_length / 8);
  if (!std::equal(address.bytes.begin(), address.bytes.begin() + whole_bytes,
                  prefix.bytes.begin())) {
    return false;
  }
  const int bits = prefix_length % 8;
  if (bits == 0) return true;
  return ((address.bytes[whole_bytes] ^ prefix.bytes[whole_bytes]) & LeadingBits(bits)) == 0;
}

std::string Endpoint::ToString() const {
  const std::string host = address.is_v4() ? address.ToString() : "[" + address.ToString() + "]";
  return host + ":" + std::to_string(port);
}

}  // namespace penstock
