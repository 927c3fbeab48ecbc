// The gateway as the guest's link sees it: it owns the gateway and DNS addresses
// and the link-local address of the gateway's MAC, answers ARP and neighbour
// solicitations for them, defends them against duplicate-address probes, and
// answers echo requests to them. It never speaks for any other address.
//
// Without state: each packet gives one answer, none, or a named drop. Poll thread.
//
// Read first: RFC 826, RFC 5227 2.1 (probes), RFC 4861 7.2, RFC 4862 5.4.
#ifndef PENSTOCK_STACK_SERVICE_GATEWAY_H_
#define PENSTOCK_STACK_SERVICE_GATEWAY_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "stack/config.h"
#include "stack/counters.h"
#include "stack/wire/emit.h"
#include "stack/wire/packet.h"

namespace penstock {

class Gateway final {
 public:
  explicit Gateway(const Config& config);

  // True for the addresses that the stack itself has on the link; a family that is
  // switched off has none.
  [[nodiscard]] bool IsOurs(const IpAddress& address) const;

  struct Answer {
    size_t length = 0;                             // of the frame written to `out`
    std::optional<DropCause> drop = std::nullopt;  // set only if length is 0
  };

  // For ARP, ICMPv4 and ICMPv6 packets from Parse, after the flows had their look
  // at path-MTU errors. `out` needs room for a frame as long as the one that
  // `packet` came in, which is at most the MTU and an Ethernet header; where an
  // answer does not fit, it is dropped as kNoBuffer. Neither a frame nor a drop:
  // the packet was understood and wants no answer.
  [[nodiscard]] Answer Handle(const Packet& packet, const LinkAddresses& link,
                              std::span<uint8_t> out) const;

 private:
  [[nodiscard]] Answer HandleArp(const Packet& packet, const LinkAddresses& link,
                                 std::span<uint8_t> out) const;
  [[nodiscard]] Answer HandleIcmp(const Packet& packet, const LinkAddresses& link,
                                  std::span<uint8_t> out) const;
  [[nodiscard]] Answer HandleSolicitation(const Packet& packet, const LinkAddresses& link,
                                          std::span<uint8_t> out) const;

  FamilyConfig ipv4_;
  FamilyConfig ipv6_;
  IpAddress link_local_;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_SERVICE_GATEWAY_H_
