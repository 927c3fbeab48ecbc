// Parse has already refused what is malformed, spoofed or martian; what is left
// here is to tell our own addresses from everybody else's. Poll thread.
#include "stack/service/gateway.h"

#include "stack/wire/addresses.h"
#include "stack/wire/icmp.h"
#include "stack/wire/protocols.h"
#include "stack/wire/reader.h"

namespace penstock {
namespace {

Gateway::Answer Reply(size_t length) {
  if (length == 0) return {.drop = DropCause::kNoBuffer};
  return {.length = length};
}

bool IsNeighbourDiscovery(uint8_t icmpv6_type) {
  return icmpv6_type >= kRouterSolicitation && icmpv6_type <= kRedirect;
}

}  // namespace

Gateway::Gateway(const Config& config)
    : ipv4_(config.ipv4), ipv6_(config.ipv6), link_local_(LinkLocalOf(config.gateway_mac)) {}

bool Gateway::IsOurs(const IpAddress& address) const {
  const FamilyConfig& family = address.is_v4() ? ipv4_ : ipv6_;
  if (!family.enabled) return false;
  return address == family.gateway || address == family.dns || address == link_local_;
}

Gateway::Answer Gateway::Handle(const Packet& packet, const LinkAddresses& link,
                                std::span<uint8_t> out) const {
  switch (packet.protocol) {
    case Protocol::kArp:
      return HandleArp(packet, link, out);
    case Protocol::kIcmpv4:
    case Protocol::kIcmpv6:
      return HandleIcmp(packet, link, out);
    case Protocol::kTcp:
    case Protocol::kUdp:
      break;
  }
  return {.drop = DropCause::kUnknownProtocol};
}

Gateway::Answer Gateway::HandleArp(const Packet& packet, const LinkAddresses& link,
                                   std::span<uint8_t> out) const {
  const auto arp = Header<kArpBytes>::At(packet.transport);
  if (!arp || arp->U16<6>() != kArpRequest || !IsOurs(packet.destination)) {
    return {.drop = DropCause::kArpIgnored};
  }
  return Reply(EmitArpReply(link, packet, out));
}

Gateway::Answer Gateway::HandleIcmp(const Packet& packet, const LinkAddresses& link,
                                    std::span<uint8_t> out) const {
  const auto header = Header<kIcmpHeaderBytes>::At(packet.transport);
  if (!header) return {.drop = DropCause::kIcmpMalformed};
  const uint8_t type = header->U8<0>();
  if (packet.protocol == Protocol::kIcmpv6) {
    if (type == kNeighbourSolicitation) return HandleSolicitation(packet, link, out);
    if (IsNeighbourDiscovery(type)) return {.drop = DropCause::kNdpIgnored};
    if (IsMld(type)) return {};  // nobody here forwards multicast
  }
  if (!IsEchoRequest(packet) || !IsOurs(packet.destination)) {
    return {.drop = DropCause::kIcmpIgnored};
  }
  return Reply(EmitEchoReply(link, packet, out));
}

Gateway::Answer Gateway::HandleSolicitation(const Packet& packet, const LinkAddresses& link,
                                            std::span<uint8_t> out) const {
  const auto target = Header<16>::At(packet.transport, 8);
  if (!target || !IsOurs(target->Ipv6<0>())) return {.drop = DropCause::kNdpIgnored};
  return Reply(EmitNeighbourAdvertisement(link, packet, target->Ipv6<0>(), out));
}

}  // namespace penstock
