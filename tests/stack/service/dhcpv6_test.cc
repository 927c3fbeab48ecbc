// The stateless DHCPv6 server: who gets what, who gets silence, what is malformed.
#include "stack/service/dhcpv6.h"

#include <algorithm>

#include "stack/service/domain_names.h"
#include "stack/wire/addresses.h"
#include "tests/stack/service/service_fixture.h"

namespace penstock {
namespace {

const Bytes kDuid{0, 3, 0, 1, 2, 0, 0, 0, 0, 0x15};

Bytes Option6(uint16_t code, const Bytes& data) {
  Bytes bytes(4);
  Put16(bytes, 0, code);
  Put16(bytes, 2, static_cast<uint16_t>(data.size()));
  return Concat(bytes, data);
}
const Bytes kClient = Option6(1, kDuid);
const Bytes kIaNa = Option6(3, {0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0});
const Bytes kIaPd = Option6(25, {0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0});

Bytes Message(uint8_t type, const Bytes& options) {
  return Concat(Bytes{type, 0xab, 0xcd, 0xef}, options);
}

Bytes Frame6(const Bytes& payload, const char* to = "ff02::1:2", const char* from = "fe80::15",
             uint16_t port = 547) {
  const bool group = Address(to).bytes[0] == 0xff;
  return EthernetFrame(
      IpPacket({.source = Address(from), .destination = Address(to)},
               UdpDatagram({.source_port = 546, .destination_port = port, .payload = payload})),
      {.destination = group ? MacAddress{0x33, 0x33, 0, 1, 0, 2} : kGatewayMac});
}

class Dhcpv6Test : public ServiceTest {
 protected:
  // The message that answers.
  Bytes Say(uint8_t type, const Bytes& options) {
    const Bytes frame = React(Frame6(Message(type, options)));
    if (frame.empty()) return {};
    EXPECT_EQ(IpAddress::From(std::span(frame).subspan(kIpAt + 24, 16)), Address("fe80::15"));
    EXPECT_EQ(Get16(frame, kTransport6At), 547);
    EXPECT_EQ(Get16(frame, kTransport6At + 2), 546);
    return {frame.begin() + kTransport6At + 8, frame.end()};
  }
  static Bytes Find(const Bytes& message, uint16_t code) {
    for (size_t at = 4; at + 4 <= message.size(); at += 4 + Get16(message, at + 2)) {
      const auto begin = message.begin() + static_cast<ptrdiff_t>(at) + 4;
      if (Get16(message, at) == code) return {begin, begin + Get16(message, at + 2)};
    }
    return {};
  }
  Bytes Ours() { return Option6(2, Find(Say(11, kClient), 2)); }
};

TEST_F(Dhcpv6Test, TellsTheSettings) {
  Config config;
  config.search_domains = {"corp.example"};
  Start(config);
  const Bytes reply = Say(11, kClient);
  ASSERT_FALSE(reply.empty()) << drop_;
  EXPECT_EQ(Bytes(reply.begin(), reply.begin() + 4), (Bytes{7, 0xab, 0xcd, 0xef}));
  EXPECT_EQ(Find(reply, 1), kDuid);
  EXPECT_EQ(Find(reply, 2).size(), 10u);
  EXPECT_EQ(IpAddress::From(Find(reply, 23)), config.ipv6.dns);
  EXPECT_EQ(DecodeDomainNames(Find(reply, 24)), config.search_domains);
  EXPECT_EQ(Get32(Find(reply, 32), 0), 86'400u);
  EXPECT_TRUE(Find(Say(11, {}), 1).empty());  // who has no identifier is answered, too
  EXPECT_EQ(counters_.dhcpv6_replies_sent.value(), 2u);
}

TEST_F(Dhcpv6Test, WhoWantsAnAddressIsToldThatThereIsNone) {
  const Bytes advertise = Say(1, Concat(kClient, Concat(kIaNa, kIaPd)));
  ASSERT_FALSE(advertise.empty()) << drop_;
  EXPECT_EQ(advertise[0], 2);
  const Bytes ia = Find(advertise, 3);
  EXPECT_EQ(Get32(ia, 0), 7u);
  EXPECT_EQ(Get16(ia, 12), 13);
  EXPECT_EQ(Get16(ia, 16), 2);                   // NoAddrsAvail
  EXPECT_EQ(Get16(Find(advertise, 25), 16), 6);  // NoPrefixAvail
  const Bytes reply = Say(3, Concat(Ours(), Concat(kClient, kIaNa)));
  EXPECT_EQ(reply[0], 7);
  EXPECT_EQ(Get16(Find(reply, 3), 16), 2);
  for (const uint8_t type : {uint8_t{5}, uint8_t{8}, uint8_t{9}}) {
    const Bytes answer = Say(type, Concat(Ours(), Concat(kClient, kIaNa)));
    ASSERT_FALSE(answer.empty());
    EXPECT_EQ(Get16(Find(answer, 3), 16), 3);  // NoBinding
  }
}

TEST_F(Dhcpv6Test, IgnoresByName) {
  const Bytes ours = Ours();
  const Bytes other = Option6(2, {0, 3, 0, 1, 9, 9, 9, 9, 9, 9});
  const std::pair<uint8_t, Bytes> messages[] = {{1, {}},       {1, Concat(ours, kClient)},
                                                {3, kClient},  {3, Concat(other, kClient)},
                                                {3, ours},     {4, kClient},
                                                {5, kClient},  {6, kClient},
                                                {8, kClient},  {9, kClient},
                                                {11, other},   {11, kIaNa},
                                                {2, kClient},  {7, kClient},
                                                {10, kClient}, {12, {}},
                                                {13, {}},      {0, {}},
                                                {255, kClient}};
  for (const auto& [type, options] : messages) {
    EXPECT_TRUE(Say(type, options).empty()) << int{type};
    EXPECT_EQ(drop_, "dhcpv6_ignored") << int{type};
  }
  // As a relay sends it: its header is longer, and means other things.
  EXPECT_TRUE(React(Frame6(Concat(Bytes(34, 12), Option6(9, Message(1, kClient))))).empty());
}

TEST_F(Dhcpv6Test, MalformedMessagesAreDroppedByName) {
  const Bytes payloads[] = {{},
                            {11},
                            {11, 1, 2},
                            Message(11, {0}),
                            Message(11, {0, 1, 0}),
                            Message(11, {0, 1, 0, 1}),
                            Message(11, {0, 1, 255, 255, 0}),
                            Message(11, Option6(1, {})),
                            Message(11, Option6(1, {0, 1})),
                            Message(11, Option6(1, Bytes(131))),
                            Message(11, Concat(kClient, kClient)),
                            Message(11, Option6(2, Bytes(2))),
                            Message(1, Concat(kClient, Option6(3, Bytes(11)))),
                            Message(1, Concat(kClient, Option6(4, Bytes(3)))),
                            Message(1, Option6(25, {}))};
  for (const Bytes& payload : payloads) {
    EXPECT_TRUE(React(Frame6(payload)).empty());
    EXPECT_EQ(drop_, "dhcpv6_malformed");
  }
  const Bytes whole = Message(1, Concat(kClient, Concat(kIaNa, kIaPd)));
  for (size_t length = 0; length < whole.size(); ++length) {
    (void)React(Frame6(Bytes(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(length))));
  }
}

TEST_F(Dhcpv6Test, ManyAssociationsAndTheLongestIdentifierFit) {
  Bytes options = Option6(1, Bytes(130, 5));
  for (int i = 0; i < 40; ++i) options = Concat(options, kIaNa);
  EXPECT_FALSE(Say(1, options).empty());
}

TEST_F(Dhcpv6Test, OnlyTheServersGroupFromTheLinkIsListenedTo) {
  const Bytes question = Message(11, kClient);
  EXPECT_TRUE(React(Frame6(question, "fe80::5055:aff:fe00:202")).empty());
  EXPECT_EQ(drop_, "not for a service");
  for (const auto& frame :
       {Frame6(question, "ff02::1:2", "fd00::15"), Frame6(question, "ff02::1:2", "fe80::15", 546),
        Frame6(question, "ff05::1:3"), Frame6(question, "ff02::1:3")}) {
    EXPECT_TRUE(React(frame).empty());
    EXPECT_EQ(drop_, "multicast");
  }
}

}  // namespace
}  // namespace penstock
