// The stateless DHCPv6 server of the link: it tells name servers and search domains, and
// has no addresses (router advertisements make those). Who asks for one is told so at
// once, rather than left to ask again and again.
//
// | from the client | what it gets |
// | --- | --- |
// | information request | a reply with the settings |
// | solicit | an advertise in which each IA has the status NoAddrsAvail (NoPrefixAvail) |
// | request | a reply with the same |
// | renew, release, decline | a reply in which each IA has the status NoBinding |
// | confirm, rebind | silence: some other server may know (RFC 8415 18.3.3, 18.3.5) |
// | relayed messages | silence: there is no relay on this link |
//
// Without state: each message gives one answer, none, or a named drop. Poll thread.
//
// Read first: RFC 8415 16, 18.3 and 21 (21.23: the refresh time), RFC 3646.
#ifndef PENSTOCK_STACK_SERVICE_DHCPV6_H_
#define PENSTOCK_STACK_SERVICE_DHCPV6_H_

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "stack/config.h"
#include "stack/counters.h"
#include "stack/service/service_frames.h"
#include "stack/wire/packet.h"

namespace penstock {

inline constexpr uint16_t kDhcpv6ServerPort = 547, kDhcpv6ClientPort = 546;

class Dhcpv6Server final {
 public:
  // When to ask again (RFC 8415 7.6, IRT_DEFAULT).
  static constexpr uint32_t kRefreshSeconds = 86'400;
  // Of a message; more are not answered.
  static constexpr size_t kAssociationCountMax = 16;

  // All but `config` must live as long as this.
  Dhcpv6Server(const Config& config, const LinkAddresses& link, Counters& counters);

  // True for UDP to all servers and relays of the link; nobody else is listened to
  // (RFC 8415 18.4).
  [[nodiscard]] bool IsFor(const Packet& packet) const;
  [[nodiscard]] ServiceAnswer Handle(const Packet& packet, std::span<uint8_t> out) const;

 private:
  struct Message;
  using DuidBytes = std::array<uint8_t, 10>;

  [[nodiscard]] bool MayAnswer(const Message& message) const;
  [[nodiscard]] ServiceAnswer Answer(const Message& message, const Packet& packet,
                                     std::span<uint8_t> out) const;

  const bool enabled_;
  const IpAddress dns_;
  const std::vector<uint8_t> search_;
  const LinkAddresses& link_;
  Counters& counters_;
  DuidBytes duid_{};
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_SERVICE_DHCPV6_H_
