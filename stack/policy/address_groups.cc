// Names of things, and which group an address is in. The groups are those of policy.h, in
// their order. Read first: RFC 1918, 6598 (100.64.0.0/10), 4193 (fc00::/7), 6890.
#include "stack/policy/policy.h"

namespace penstock {
namespace {

bool Begins(const IpAddress& address, uint8_t byte) { return address.bytes[0] == byte; }

// The first two bytes, of which the upper `bits` count.
bool Begins(const IpAddress& address, uint16_t value, int bits) {
  const auto first = static_cast<uint16_t>(address.bytes[0] << 8 | address.bytes[1]);
  return ((first ^ value) >> (16 - bits)) == 0;
}

bool IsMetadata(const IpAddress& address) {
  static constexpr std::array<uint8_t, 16> kMetadata4{169, 254, 169, 254};
  static constexpr std::array<uint8_t, 16> kMetadata6{0xfd, 0x00, 0x0e, 0xc2, 0, 0, 0, 0,
                                                      0,    0,    0,    0,    0, 0, 2, 0x54};
  return address.bytes == (address.is_v4() ? kMetadata4 : kMetadata6);
}

AddressGroup Ipv4Group(const IpAddress& address) {
  if (Begins(address, 127)) return AddressGroup::kLoopback;
  if (Begins(address, 10) || Begins(address, 0xac10, 12) || Begins(address, 0xc0a8, 16) ||
      Begins(address, 0x6440, 10)) {
    return AddressGroup::kPrivate;
  }
  if (Begins(address, 0xa9fe, 16)) return AddressGroup::kLinkLocal;
  return Begins(address, 0xe000, 4) ? AddressGroup::kMulticast : AddressGroup::kPublic;
}

AddressGroup Ipv6Group(const IpAddress& address) {
  static constexpr std::array<uint8_t, 16> kLoopback{0, 0, 0, 0, 0, 0, 0, 0,
                                                     0, 0, 0, 0, 0, 0, 0, 1};
  if (address.bytes == kLoopback) return AddressGroup::kLoopback;
  if (Begins(address, 0xfc00, 7)) return AddressGroup::kPrivate;
  if (Begins(address, 0xfe80, 10)) return AddressGroup::kLinkLocal;
  return Begins(address, 0xff) ? AddressGroup::kMulticast : AddressGroup::kPublic;
}

}  // namespace

std::string_view Name(Direction direction) {
  return direction == Direction::kEgress ? "egress" : "ingress";
}

std::string_view Name(PolicyProtocol protocol) {
  switch (protocol) {
    case PolicyProtocol::kTcp:
      return "tcp";
    case PolicyProtocol::kUdp:
      return "udp";
    case PolicyProtocol::kIcmp:
      return "icmp";
  }
  return "";
}

std::string_view Name(AddressGroup group) {
  switch (group) {
    case AddressGroup::kHost:
      return "host";
    case AddressGroup::kMetadata:
      return "metadata";
    case AddressGroup::kLoopback:
      return "loopback";
    case AddressGroup::kPrivate:
      return "private";
    case AddressGroup::kLinkLocal:
      return "link-local";
    case AddressGroup::kMulticast:
      return "multicast";
    case AddressGroup::kPublic:
      return "public";
    case AddressGroup::kNone:
      return "none";
  }
  return "";
}

AddressGroup GroupOf(const IpAddress& address, const PolicyContext& context) {
  const IpAddress plain = address.Unmapped();
  if (plain.bytes == std::array<uint8_t, 16>{}) return AddressGroup::kNone;
  if (plain == context.gateway4 || plain == context.gateway6 ||
      plain == context.gateway6_link_local) {
    return AddressGroup::kHost;
  }
  if (IsMetadata(plain)) return AddressGroup::kMetadata;
  return plain.is_v4() ? Ipv4Group(plain) : Ipv6Group(plain);
}

}  // namespace penstock
