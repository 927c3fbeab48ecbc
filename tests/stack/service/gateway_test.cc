#include "stack/service/gateway.h"

#include <gtest/gtest.h>

#include "stack/wire/addresses.h"
#include "tests/support/packet_builder.h"

namespace penstock {
namespace {

const LinkAddresses kLink{.gateway_mac = kGatewayMac, .guest_mac = kGuestMac};

// The answer's frame, or the name of the drop; "nothing" for neither.
struct Reaction {
  Bytes frame;
  std::string_view drop = "nothing";
};

Reaction React(const Bytes& frame, const Config& config = {}) {
  const Parsed parsed = ParseFrame(frame);
  EXPECT_EQ(parsed.outcome(), "parsed");
  if (!parsed.ok()) return {};
  Bytes out(frame.size() + 40);
  const Gateway::Answer answer = Gateway(config).Handle(parsed.packet(), kLink, out);
  EXPECT_TRUE(answer.length == 0 || !answer.drop);
  out.resize(answer.length);
  return {out, answer.drop ? Name(*answer.drop) : std::string_view("nothing")};
}

Bytes SolicitationFrame(const char* source, const IpAddress& target) {
  IpAddress group = Address("ff02::1:ff00:0");
  for (size_t i = 13; i < 16; ++i) group.bytes[i] = target.bytes[i];
  return EthernetFrame(
      IpPacket({.source = Address(source), .destination = group, .hop_limit = 255},
               Solicitation(target)),
      {.destination = {0x33, 0x33, 0xff, group.bytes[13], group.bytes[14], group.bytes[15]}});
}

Bytes EchoFrame(const char* destination) {
  const IpAddress address = Address(destination);
  return EthernetFrame(IpPacket({.source = Guest(address.family), .destination = address},
                                EchoRequest(address.family, {1, 2, 3})));
}

TEST(GatewayTest, OursAreGatewayDnsAndLinkLocal) {
  const Gateway gateway{Config{}};
  for (const char* ours :
       {"10.0.2.2", "10.0.2.3", "fd00::2", "fd00::3", "fe80::5055:aff:fe00:202"}) {
    EXPECT_TRUE(gateway.IsOurs(Address(ours))) << ours;
  }
  for (const char* other : {"10.0.2.15", "10.0.2.4", "10.0.2.255", "fd00::15", "fd00::4", "fe80::1",
                            "192.0.2.80", "::ffff:10.0.2.2"}) {
    EXPECT_FALSE(gateway.IsOurs(Address(other))) << other;
  }
}

TEST(GatewayTest, FamilyThatIsOffHasNoAddress) {
  Config config;
  config.ipv4.enabled = false;
  EXPECT_FALSE(Gateway(config).IsOurs(kGateway4));
  EXPECT_TRUE(Gateway(config).IsOurs(kGateway6));
  config = Config{};
  config.ipv6.enabled = false;
  EXPECT_TRUE(Gateway(config).IsOurs(kGateway4));
  EXPECT_FALSE(Gateway(config).IsOurs(kGateway6));
  EXPECT_FALSE(Gateway(config).IsOurs(LinkLocalOf(kGatewayMac)));
}

TEST(GatewayTest, AnswersArpForGatewayAndDns) {
  for (const char* target : {"10.0.2.2", "10.0.2.3"}) {
    const Reaction reaction = React(ArpFrame({.target = Address(target)}));
    ASSERT_EQ(reaction.frame.size(), 42u) << target;
    EXPECT_EQ(Get16(reaction.frame, kIpAt + 6), 2);
    EXPECT_EQ(Get32(reaction.frame, kIpAt + 14), Get32(Address(target).wire(), 0));
  }
}

TEST(GatewayTest, DefendsItsAddressesAgainstArpProbes) {
  EXPECT_EQ(React(ArpFrame({.sender = Address("0.0.0.0"), .target = kGateway4})).frame.size(), 42u);
}

TEST(GatewayTest, IgnoresOtherArp) {
  // The guest's own probe and announcement among them: an answer would tell it that
  // its address is taken.
  for (const ArpSpec& spec : {ArpSpec{.sender = Address("0.0.0.0"), .target = kGuest4},
                              ArpSpec{.target = kGuest4}, ArpSpec{.target = Address("10.0.2.99")},
                              ArpSpec{.target = kPeer4}, ArpSpec{.operation = 2}}) {
    const Reaction reaction = React(ArpFrame(spec));
    EXPECT_EQ(reaction.drop, "arp_ignored");
    EXPECT_TRUE(reaction.frame.empty());
  }
}

TEST(GatewayTest, AnswersSolicitationsForItsAddresses) {
  for (const IpAddress& target : {kGateway6, kTestConfig.ipv6.dns, LinkLocalOf(kGatewayMac)}) {
    const Reaction reaction = React(SolicitationFrame("fd00::15", target));
    ASSERT_EQ(reaction.frame.size(), kTransport6At + 32) << target.ToString();
    EXPECT_EQ(reaction.frame[kTransport6At], 136);
    const auto said = std::span(reaction.frame).subspan(kTransport6At + 8, 16);
    EXPECT_EQ(IpAddress::From(said), target);
  }
}

TEST(GatewayTest, AnswersUnicastSolicitation) {
  const Bytes frame = EthernetFrame(IpPacket(
      {.source = kGuest6, .destination = kGateway6, .hop_limit = 255}, Solicitation(kGateway6)));
  EXPECT_FALSE(React(frame).frame.empty());
}

TEST(GatewayTest, DefendsItsAddressesAgainstDuplicateAddressProbes) {
  const Reaction reaction = React(SolicitationFrame("::", kGateway6));
  ASSERT_FALSE(reaction.frame.empty());
  EXPECT_EQ(IpAddress::From(std::span(reaction.frame).subspan(kIpAt + 24, 16)), Address("ff02::1"));
}

TEST(GatewayTest, IgnoresOtherSolicitations) {
  for (const char* source : {"::", "fd00::15", "fe80::15"}) {
    for (const IpAddress& target : {kGuest6, Address("fd00::77"), Address("fe80::15"), kPeer6}) {
      const Reaction reaction = React(SolicitationFrame(source, target));
      EXPECT_EQ(reaction.drop, "ndp_ignored") << source << " asks for " << target.ToString();
      EXPECT_TRUE(reaction.frame.empty());
    }
  }
}

TEST(GatewayTest, IgnoresOtherNeighbourDiscovery) {
  const auto message = [](const Transport& transport) {
    return EthernetFrame(
        IpPacket({.source = kGuest6, .destination = kGateway6, .hop_limit = 255}, transport));
  };
  EXPECT_EQ(React(message(Icmpv6Message({.type = 133}))).drop, "ndp_ignored");
  EXPECT_EQ(React(message(Icmpv6Message({.type = 134, .body = Bytes(8)}))).drop, "ndp_ignored");
  EXPECT_EQ(React(message(Solicitation(kGateway6, {}, 136))).drop, "ndp_ignored");
  EXPECT_EQ(React(message(Icmpv6Message({.type = 137, .body = Bytes(32)}))).drop, "ndp_ignored");
}

TEST(GatewayTest, MulticastListenerReportsAreNoError) {
  const Bytes frame = EthernetFrame(IpPacket({.source = Address("fe80::15"),
                                              .destination = Address("ff02::16"),
                                              .hop_limit = 1,
                                              .extensions = {{0, {0, 5, 2, 0, 0, 1, 0}}}},
                                             Icmpv6Message({.type = 143, .body = Bytes(20)})));
  const Reaction reaction = React(frame);
  EXPECT_TRUE(reaction.frame.empty());
  EXPECT_EQ(reaction.drop, "nothing");
}

TEST(GatewayTest, AnswersEchoRequestsToItsAddresses) {
  for (const char* ours :
       {"10.0.2.2", "10.0.2.3", "fd00::2", "fd00::3", "fe80::5055:aff:fe00:202"}) {
    const Bytes request = EchoFrame(ours);
    const Reaction reaction = React(request);
    ASSERT_EQ(reaction.frame.size(), request.size()) << ours;
    const size_t at = TransportAt(Address(ours).family);
    EXPECT_EQ(reaction.frame[at], Address(ours).is_v4() ? 0 : 129);
    EXPECT_EQ(Bytes(reaction.frame.begin() + static_cast<long>(at) + 4, reaction.frame.end()),
              Bytes(request.begin() + static_cast<long>(at) + 4, request.end()));
  }
}

TEST(GatewayTest, NeverAnswersForAHostThatItIsNot) {
  for (const char* other : {"192.0.2.80", "10.0.2.77", "2001:db8::80", "fd00::77"}) {
    const Reaction reaction = React(EchoFrame(other));
    EXPECT_EQ(reaction.drop, "icmp_ignored") << other;
    EXPECT_TRUE(reaction.frame.empty());
  }
}

TEST(GatewayTest, IgnoresOtherIcmp) {
  const auto to_gateway = [](const Transport& transport) {
    return EthernetFrame(IpPacket({.source = kGuest4, .destination = kGateway4}, transport));
  };
  EXPECT_EQ(React(to_gateway(Icmpv4Message({.type = 0}))).drop, "icmp_ignored");
  EXPECT_EQ(React(to_gateway(Icmpv4Message({.type = 3, .code = 3}))).drop, "icmp_ignored");
  EXPECT_EQ(React(to_gateway(Icmpv4Message({.type = 13, .body = Bytes(12)}))).drop, "icmp_ignored");
  EXPECT_EQ(React(to_gateway(Icmpv4Message({.type = 8, .code = 1}))).drop, "icmp_ignored");
}

TEST(GatewayTest, AnswerThatDoesNotFitIsDroppedByName) {
  const Parsed request = ParseFrame(EchoFrame("10.0.2.2"));
  Bytes out(request.bytes.size() - 1);
  const Gateway::Answer answer = Gateway(Config{}).Handle(request.packet(), kLink, out);
  EXPECT_EQ(answer.length, 0u);
  EXPECT_EQ(answer.drop, DropCause::kNoBuffer);
}

TEST(GatewayTest, TcpAndUdpAreNotItsOwn) {
  const Parsed tcp = ParseFrame(TcpFrame(Family::kIpv4, {}));
  Bytes out(200);
  EXPECT_EQ(Gateway(Config{}).Handle(tcp.packet(), kLink, out).drop, DropCause::kUnknownProtocol);
}

}  // namespace
}  // namespace penstock
