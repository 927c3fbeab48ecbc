// Any bytes as what a guest sends to the services that configure it: the first byte
// chooses DHCP, DHCPv6 or a router solicitation, and how much time passes before.
#include <cstddef>
#include <cstdint>

#include "relay/check.h"
#include "stack/service/services.h"
#include "tests/support/packet_builder.h"

namespace penstock {
namespace {

Bytes FrameOf(uint8_t kind, const Bytes& payload) {
  if (kind == 0) {
    return EthernetFrame(
        IpPacket(
            {.source = IpAddress::V4(0, 0, 0, 0), .destination = IpAddress::V4(255, 255, 255, 255)},
            UdpDatagram({.source_port = 68, .destination_port = 67, .payload = payload})),
        {.destination = kBroadcastMac});
  }
  const IpAddress guest = Address("fe80::15");
  if (kind == 1) {
    return EthernetFrame(
        IpPacket({.source = guest, .destination = Address("ff02::1:2")},
                 UdpDatagram({.source_port = 546, .destination_port = 547, .payload = payload})),
        {.destination = {0x33, 0x33, 0, 1, 0, 2}});
  }
  return EthernetFrame(
      IpPacket({.source = guest, .destination = Address("ff02::2"), .hop_limit = 255},
               Icmpv6Message({.type = 133, .body = payload})),
      {.destination = {0x33, 0x33, 0, 0, 0, 2}});
}

}  // namespace
}  // namespace penstock

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock;
  LinkAddresses link{.gateway_mac = kGatewayMac, .guest_mac = kGuestMac};
  Counters counters;
  Config config;
  config.search_domains = {"corp.example", "lab.example"};
  config.guest_host_name = "guest";
  Services services(config, link, counters);
  Time now{};
  std::span<const uint8_t> rest(data, size);
  // Messages of "kind and time, length / 4, bytes".
  while (rest.size() >= 2) {
    const uint8_t head = rest[0];
    const size_t length = std::min(size_t{rest[1]} * 4, rest.size() - 2);
    const Bytes payload(rest.begin() + 2, rest.begin() + 2 + static_cast<ptrdiff_t>(length));
    rest = rest.subspan(2 + length);
    now += std::chrono::minutes(head / 3);
    const Parsed parsed = ParseFrame(FrameOf(head % 3, payload));
    if (!parsed.ok()) continue;
    services.See(parsed.packet(), now);
    Bytes out(1514);
    const auto answer = services.Handle(parsed.packet(), now, out);
    PENSTOCK_CHECK(!answer || answer->length <= out.size());
    PENSTOCK_CHECK(!answer || answer->length == 0 || !answer->drop);
    PENSTOCK_CHECK(services.Tick(now, out) <= out.size());
  }
  return 0;
}
