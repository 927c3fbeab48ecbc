// IP addresses and endpoints, both families, as plain values.
//
// An IpAddress is 16 bytes in network order plus its family; an IPv4 address
// fills the first four and leaves the rest zero, so that comparison and hashing
// need no branch. "Mapped" addresses (::ffff:a.b.c.d) stay IPv6 here: whoever
// decides something by address calls Unmapped() first.
#ifndef PENSTOCK_RELAY_ENDPOINT_H_
#define PENSTOCK_RELAY_ENDPOINT_H_

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace penstock {

enum class Family : uint8_t { kIpv4 = 4, kIpv6 = 6 };

struct IpAddress {
  std::array<uint8_t, 16> bytes{};
  Family family = Family::kIpv4;

  static IpAddress V4(uint8_t a, uint8_t b, uint8_t c, uint8_t d);
  // `network_order` holds 4 or 16 bytes; anything else is a bug of the caller.
  static IpAddress From(std::span<const uint8_t> network_order);
  // "10.0.2.2" or "fd00::2"; no zone, no port, no brackets.
  static std::optional<IpAddress> Parse(std::string_view text);

  [[nodiscard]] bool is_v4() const { return family == Family::kIpv4; }
  [[nodiscard]] bool is_v6() const { return family == Family::kIpv6; }
  // The 4 or 16 bytes on the wire; valid as long as *this.
  [[nodiscard]] std::span<const uint8_t> wire() const {
    return {bytes.data(), is_v4() ? size_t{4} : size_t{16}};
  }
  // ::ffff:a.b.c.d as a.b.c.d; everything else unchanged.
  [[nodiscard]] IpAddress Unmapped() const;
  [[nodiscard]] std::string ToString() const;

  friend bool operator==(const IpAddress&, const IpAddress&) = default;
  friend auto operator<=>(const IpAddress&, const IpAddress&) = default;
};

// True if the first `prefix_length` bits (0–32 or 0–128) of both are equal and
// both are of one family.
[[nodiscard]] bool InPrefix(const IpAddress& address, const IpAddress& prefix, int prefix_length);

struct Endpoint {
  IpAddress address;
  uint16_t port = 0;  // host order

  // "10.0.2.2:80" or "[fd00::2]:80".
  [[nodiscard]] std::string ToString() const;

  friend bool operator==(const Endpoint&, const Endpoint&) = default;
  friend auto operator<=>(const Endpoint&, const Endpoint&) = default;
};

}  // namespace penstock

#endif  // PENSTOCK_RELAY_ENDPOINT_H_
