#include "stack/wire/claim.h"

#include "stack/wire/protocols.h"
#include "stack/wire/reader.h"

namespace penstock {

std::optional<Claim> ReadClaim(std::span<const uint8_t> packet) {
  if (packet.empty()) return std::nullopt;
  Claim claim;
  size_t header_bytes = 0;
  if (packet[0] >> 4 == 4) {
    const auto header = Header<kIpv4HeaderBytes>::At(packet);
    if (!header) return std::nullopt;
    claim.ip_protocol = header->U8<9>();
    claim.source.address = header->Ipv4<12>();
    claim.destination.address = header->Ipv4<16>();
    header_bytes = size_t{4} * (packet[0] & 0x0f);
  } else if (packet[0] >> 4 == 6) {
    const auto header = Header<kIpv6HeaderBytes>::At(packet);
    if (!header) return std::nullopt;
    claim.ip_protocol = header->U8<6>();
    claim.source.address = header->Ipv6<8>();
    claim.destination.address = header->Ipv6<24>();
    header_bytes = kIpv6HeaderBytes;
  } else {
    return std::nullopt;
  }
  if (claim.ip_protocol != kIpProtocolTcp && claim.ip_protocol != kIpProtocolUdp) return claim;
  if (const auto ports = Header<4>::At(packet, header_bytes)) {
    claim.source.port = ports->U16<0>();
    claim.destination.port = ports->U16<2>();
  }
  return claim;
}

}  // namespace penstock
