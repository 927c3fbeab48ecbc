// What the guest's kernel says to its neighbours: neighbour discovery, ARP and ICMP of both
// families, with right checksums and any bodies, to the services and the gateway in the order
// in which the stack asks them. Whatever they answer must be a sound frame, and must speak
// for no address that is not the stack's own.
//
// An input is messages of "kind, addresses, hop limit and code, length" and so many bytes.
#include <algorithm>

#include "relay/check.h"
#include "stack/service/gateway.h"
#include "stack/service/services.h"
#include "stack/wire/icmp.h"
#include "tests/support/packet_builder.h"

namespace penstock {
namespace {

constexpr size_t kHeadBytes = 4;
constexpr size_t kHopLimitAt6 = kIpAt + 7, kIpv6HeaderEnd = kTransport6At;
constexpr uint8_t kEchoReply = 129, kRouterAdvertisement = 134, kNeighbourSolicitation = 135,
                  kNeighbourAdvertisement = 136;

class Run {
 public:
  void Message(std::span<const uint8_t> head, const Bytes& body) {
    now_ += std::chrono::milliseconds(head[2] % 16 * 100);
    const Bytes frame = FrameOf(head, body);
    const Parsed parsed = ParseFrame(frame);
    if (!parsed.ok()) return;
    const Packet& packet = parsed.packet();
    (void)ParsePathMtu(packet);
    (void)ParseUnreachable(packet);
    services_.See(packet, now_);
    Bytes out(frame.size());
    if (const auto answer = services_.Handle(packet, now_, out)) {
      if (answer->length > 0) Verify(std::span(out).first(answer->length));
      return;
    }
    const Gateway::Answer answer = gateway_.Handle(packet, link_, out);
    PENSTOCK_CHECK(answer.length == 0 || !answer.drop);
    if (answer.length > 0) Verify(std::span(out).first(answer.length));
    Bytes unasked(1514);
    const size_t length = services_.Tick(now_, unasked);
    if (length > 0) Verify(std::span(unasked).first(length));
  }

 private:
  IpAddress Source6(uint8_t choice) const {
    const IpAddress sources[] = {kGuest6, Address("fe80::15"), Address("::"), kGateway6};
    return sources[choice % 4];
  }
  IpAddress Destination6(uint8_t choice) const {
    const IpAddress destinations[] = {kGateway6,           Address("ff02::1:ff00:2"),
                                      Address("ff02::1"),  Address("ff02::2"),
                                      Address("ff02::16"), kPeer6,
                                      config_.ipv6.dns,    kGuest6};
    return destinations[choice % 8];
  }

  Bytes FrameOf(std::span<const uint8_t> head, const Bytes& body) const {
    const uint8_t kind = head[0], code = head[2] / 64 == 3 ? head[2] : uint8_t{0};
    const uint8_t hop_limit = (head[2] & 16) != 0 ? 64 : 255;
    if (kind == 0) return Arp(head, body);
    if (kind % 4 == 1) {
      const IpSpec ip{.source = (head[1] & 8) != 0 ? Address("0.0.0.0") : kGuest4,
                      .destination = head[1] % 4 == 0   ? kGateway4
                                     : head[1] % 4 == 1 ? config_.ipv4.dns
                                                        : kPeer4,
                      .hop_limit = hop_limit};
      return EthernetFrame(IpPacket(
          ip, Icmpv4Message({.type = static_cast<uint8_t>(kind / 4), .code = code, .body = body})));
    }
    // Types 133 to 137 are those of discovery.
    const uint8_t type = kind < 0x60 ? static_cast<uint8_t>(133 + kind / 4 % 5) : kind;
    const IpSpec ip{
        .source = Source6(head[1]),
        .destination = Destination6(head[1] / 4),
        .hop_limit = hop_limit,
        .extensions = (head[1] & 0x80) != 0
                          ? std::vector<Extension>{{.protocol = 0, .body = {5, 2, 0, 0}}}
                          : std::vector<Extension>{}};
    const bool multicast = ip.destination.bytes[0] == 0xff;
    return EthernetFrame(
        IpPacket(ip, Icmpv6Message({.type = type, .code = code, .body = body})),
        {.destination = multicast ? MacAddress{0x33, 0x33, 0, 0, 0, 1} : kGatewayMac});
  }

  Bytes Arp(std::span<const uint8_t> head, const Bytes& body) const {
    const IpAddress targets[] = {kGateway4, config_.ipv4.dns, kPeer4, kGuest4};
    Bytes arp = ArpBody({.operation = static_cast<uint16_t>(1 + (head[2] & 1)),
                         .sender = (head[1] & 4) != 0 ? Address("0.0.0.0") : kGuest4,
                         .target = targets[head[1] % 4]});
    // Beyond what is right: bytes of it are others.
    for (size_t i = 0; i + 1 < body.size(); i += 2) arp[body[i] % arp.size()] = body[i + 1];
    return EthernetFrame(arp, {.destination = (head[1] & 8) != 0 ? kGatewayMac : kBroadcastMac,
                               .ether_type = 0x806});
  }

  void Verify(std::span<const uint8_t> frame) const {
    PENSTOCK_CHECK(frame.size() >= kTransport4At);
    PENSTOCK_CHECK(std::equal(kGatewayMac.begin(), kGatewayMac.end(), frame.begin() + 6));
    switch (Get16(frame, 12)) {
      case 0x806:
        return PENSTOCK_CHECK(Get16(frame, kIpAt + 6) == 2 &&
                              gateway_.IsOurs(IpAddress::From(frame.subspan(kIpAt + 14, 4))));
      case 0x800: {
        const std::span<const uint8_t> ip = frame.subspan(kIpAt);
        PENSTOCK_CHECK(SlowSum(ip.first(20)) == 0xffff && Get16(ip, 2) == ip.size());
        PENSTOCK_CHECK(ip[9] == 1 && SlowSum(ip.subspan(20)) == 0xffff);
        return PENSTOCK_CHECK(gateway_.IsOurs(IpAddress::From(ip.subspan(12, 4))));
      }
      case 0x86dd:
        return VerifyIpv6(frame);
      default:
        PENSTOCK_CHECK(false);
    }
  }

  void VerifyIpv6(std::span<const uint8_t> frame) const {
    PENSTOCK_CHECK(frame.size() >= kIpv6HeaderEnd + 8);
    const IpAddress source = IpAddress::From(frame.subspan(kIpAt + 8, 16));
    const IpAddress destination = IpAddress::From(frame.subspan(kIpAt + 24, 16));
    const std::span<const uint8_t> icmp = frame.subspan(kIpv6HeaderEnd);
    PENSTOCK_CHECK(frame[kIpAt + 6] == 58 && Get16(frame, kIpAt + 4) == icmp.size());
    PENSTOCK_CHECK(SlowTransportSum(source, destination, 58, icmp) == 0xffff);
    PENSTOCK_CHECK(gateway_.IsOurs(source));
    if (icmp[0] == kEchoReply) return;
    PENSTOCK_CHECK(frame[kHopLimitAt6] == 255);
    if (icmp[0] == kRouterAdvertisement) return;
    // Whom it asks for is the guest; what it says is about itself.
    PENSTOCK_CHECK(icmp[0] == kNeighbourSolicitation || icmp[0] == kNeighbourAdvertisement);
    PENSTOCK_CHECK(icmp.size() >= 24);
    const bool ours = gateway_.IsOurs(IpAddress::From(icmp.subspan(8, 16)));
    PENSTOCK_CHECK(ours == (icmp[0] == kNeighbourAdvertisement));
  }

  Time now_{std::chrono::hours(1)};
  LinkAddresses link_{.gateway_mac = kGatewayMac, .guest_mac = kGuestMac};
  Counters counters_;
  const Config config_{};
  Services services_{config_, link_, counters_};
  const Gateway gateway_{config_};
};

}  // namespace
}  // namespace penstock

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock;
  Run run;
  std::span<const uint8_t> rest(data, size);
  while (rest.size() >= kHeadBytes) {
    const auto head = rest.first(kHeadBytes);
    const size_t length = std::min<size_t>(head[3], rest.size() - kHeadBytes);
    const auto body = rest.subspan(kHeadBytes, length);
    run.Message(head, Bytes(body.begin(), body.end()));
    rest = rest.subspan(kHeadBytes + length);
  }
  return 0;
}
