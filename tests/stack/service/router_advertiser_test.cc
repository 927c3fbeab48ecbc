// Router advertisements: what they say, to whom, and when.
#include "stack/service/router_advertiser.h"

#include <algorithm>

#include "stack/service/domain_names.h"
#include "stack/wire/addresses.h"
#include "tests/stack/service/service_fixture.h"

namespace penstock {
namespace {

Bytes SolicitationFrom(const char* source, const Bytes& options = {}) {
  return EthernetFrame(
      IpPacket({.source = Address(source), .destination = Address("ff02::2"), .hop_limit = 255},
               Icmpv6Message({.type = 133, .body = options})),
      {.destination = {0x33, 0x33, 0, 0, 0, 2}});
}

Bytes EchoFrom6() {
  return EthernetFrame(
      IpPacket({.source = kGuest6, .destination = kGateway6}, EchoRequest(Family::kIpv6, {1})));
}

// The data of an option, from its type on; empty if there is none.
Bytes OptionOf(const Bytes& frame, uint8_t type) {
  for (size_t at = kTransport6At + 16; at + 8 <= frame.size(); at += frame[at + 1] * 8) {
    if (frame[at + 1] == 0) break;
    const auto begin = frame.begin() + static_cast<ptrdiff_t>(at);
    if (frame[at] == type) return {begin, begin + frame[at + 1] * 8};
  }
  return {};
}

class RouterAdvertiserTest : public ServiceTest {
 protected:
  Bytes Tick() {
    Bytes out(1514);
    out.resize(services_->Tick(now_, out));
    return out;
  }
  static IpAddress To(const Bytes& frame) {
    return IpAddress::From(std::span(frame).subspan(kIpAt + 24, 16));
  }
};

TEST_F(RouterAdvertiserTest, TellsEverythingThatIsConfigured) {
  Config config;
  config.mtu = 9'000;
  config.search_domains = {"corp.example", "lab.example"};
  Start(config);
  const Bytes frame = React(SolicitationFrom("fe80::15"));
  ASSERT_FALSE(frame.empty()) << drop_;
  EXPECT_EQ(frame[kIpAt + 7], 255);
  EXPECT_EQ(IpAddress::From(std::span(frame).subspan(kIpAt + 8, 16)), LinkLocalOf(kGatewayMac));
  EXPECT_EQ(To(frame), Address("fe80::15"));
  EXPECT_EQ(frame[kTransport6At], 134);
  EXPECT_EQ(frame[kTransport6At + 5], 0x40);  // the rest by DHCPv6
  EXPECT_EQ(Get16(frame, kTransport6At + 6), 1'800);
  EXPECT_TRUE(
      std::ranges::equal(std::span<const uint8_t>(OptionOf(frame, 1)).subspan(2), kGatewayMac));
  EXPECT_EQ(Get32(OptionOf(frame, 5), 4), 9'000u);
  const Bytes prefix = OptionOf(frame, 3);
  ASSERT_EQ(prefix.size(), 32u);
  EXPECT_EQ(prefix[2], 64);
  EXPECT_EQ(prefix[3], 0xc0);
  EXPECT_EQ(Get32(prefix, 4), 5'400u);
  EXPECT_EQ(Get32(prefix, 8), 2'700u);
  EXPECT_EQ(IpAddress::From(std::span(prefix).subspan(16)), Address("fd00::"));
  EXPECT_EQ(IpAddress::From(std::span<const uint8_t>(OptionOf(frame, 25)).subspan(8)),
            config.ipv6.dns);
  const Bytes search = OptionOf(frame, 31);
  EXPECT_EQ(DecodeDomainNames(std::span(search).subspan(8)), config.search_domains);
  EXPECT_EQ(counters_.router_advertisements_sent.value(), 1u);
}

TEST_F(RouterAdvertiserTest, WhoHasNoAddressIsToldWithEverybody) {
  const Bytes frame = React(SolicitationFrom("::"));
  ASSERT_FALSE(frame.empty()) << drop_;
  EXPECT_EQ(To(frame), Address("ff02::1"));
  EXPECT_TRUE(std::ranges::equal(std::span(frame).first(6), kAllNodesMacAddress));
}

TEST_F(RouterAdvertiserTest, APrefixThatMakesNoAddressesIsOnlyOnLink) {
  Config config;
  config.ipv6.prefix_length = 60;
  config.dhcp = false;
  Start(config);
  const Bytes frame = React(SolicitationFrom("fe80::15"));
  EXPECT_EQ(OptionOf(frame, 3)[2], 60);
  EXPECT_EQ(OptionOf(frame, 3)[3], 0x80);
  EXPECT_EQ(frame[kTransport6At + 5], 0);
}

TEST_F(RouterAdvertiserTest, AnswersAreLimited) {
  for (int i = 0; i < RouterAdvertiser::kAnswersMax; ++i) {
    EXPECT_FALSE(React(SolicitationFrom("fe80::15")).empty());
  }
  EXPECT_TRUE(React(SolicitationFrom("fe80::15")).empty());
  EXPECT_EQ(drop_, "router_solicitation_limit");
  now_ += RouterAdvertiser::kAnswerInterval;
  EXPECT_FALSE(React(SolicitationFrom("fe80::15")).empty());
  EXPECT_TRUE(React(SolicitationFrom("fe80::15")).empty());
}

TEST_F(RouterAdvertiserTest, UnaskedItComesEveryTenMinutesOnceAGuestWasHeard) {
  Start();
  EXPECT_EQ(services_->NextDeadline(), kNever);
  EXPECT_TRUE(Tick().empty());
  (void)React(EchoFrom6());
  EXPECT_EQ(services_->NextDeadline(), now_ + RouterAdvertiser::kFirstInterval);
  now_ = services_->NextDeadline();
  EXPECT_EQ(To(Tick()), Address("ff02::1"));
  EXPECT_TRUE(Tick().empty());
  EXPECT_EQ(services_->NextDeadline(), now_ + RouterAdvertiser::kInterval);
  now_ += kSecond * 100;
  (void)React(SolicitationFrom("fe80::15"));
  EXPECT_EQ(services_->NextDeadline(), now_ + RouterAdvertiser::kInterval);
}

TEST_F(RouterAdvertiserTest, AChangeOfRoutesIsToldAtOnce) {
  Start();
  services_->SetHostRoutes({.ipv6 = false}, now_);
  EXPECT_EQ(services_->NextDeadline(), kNever);  // to nobody
  EXPECT_EQ(Get16(React(SolicitationFrom("fe80::15")), kTransport6At + 6), 0);
  services_->SetHostRoutes({}, now_);
  EXPECT_EQ(Get16(Tick(), kTransport6At + 6), 1'800);
  services_->SetHostRoutes({.ipv6 = false}, now_);
  EXPECT_TRUE(Tick().empty());  // not more than one in three seconds
  now_ += RouterAdvertiser::kDelayMin;
  EXPECT_EQ(Get16(Tick(), kTransport6At + 6), 0);
  services_->SetHostRoutes({.ipv4 = false, .ipv6 = false}, now_);
  now_ += RouterAdvertiser::kDelayMin;
  EXPECT_TRUE(Tick().empty());  // the other family's
}

TEST_F(RouterAdvertiserTest, MalformedSolicitationsAreDroppedByName) {
  const Bytes own_mac{1, 1, 2, 0, 0, 0, 0, 0x15};
  EXPECT_FALSE(React(SolicitationFrom("fe80::15", own_mac)).empty());
  for (const Bytes& options : {Bytes{1, 0, 2, 0, 0, 0, 0, 0x15}, Bytes{1},
                               Bytes{1, 2, 0, 0, 0, 0, 0, 0}, Bytes{14, 255, 0, 0, 0, 0, 0, 0}}) {
    EXPECT_TRUE(React(SolicitationFrom("fe80::15", options)).empty());
    EXPECT_EQ(drop_, "ndp_malformed");
  }
}

TEST_F(RouterAdvertiserTest, SwitchedOffItIsSilent) {
  Config config;
  config.router_advertisements = false;
  Start(config);
  EXPECT_TRUE(React(SolicitationFrom("fe80::15")).empty());
  EXPECT_EQ(drop_, "not for a service");
  EXPECT_EQ(services_->NextDeadline(), kNever);
}

// ---------------------------------------------------------------- where the guest is

class GuestAddressesTest : public RouterAdvertiserTest {
 protected:
  void SetUp() override {
    Config config;
    config.router_advertisements = false;
    Start(config);
  }
  void PacketFrom(const char* source) {
    (void)React(EthernetFrame(
        IpPacket({.source = Address(source), .destination = kPeer6}, UdpDatagram({}))));
  }
};

TEST_F(GuestAddressesTest, TheFirstAddressThatIsUsedIsTheGuests) {
  EXPECT_EQ(link_.guest6, kGuest6);
  PacketFrom("fe80::15");
  EXPECT_EQ(link_.guest6, kGuest6);
  EXPECT_FALSE(services_->TakeGuestMoved());
  PacketFrom("fd00::77");
  EXPECT_EQ(link_.guest6, Address("fd00::77"));
  EXPECT_TRUE(services_->TakeGuestMoved());
}

TEST_F(GuestAddressesTest, AProbeForDuplicatesIsEnough) {
  (void)React(EthernetFrame(
      IpPacket(
          {.source = Address("::"), .destination = Address("ff02::1:ff00:77"), .hop_limit = 255},
          Solicitation(Address("fd00::77"))),
      {.destination = {0x33, 0x33, 0xff, 0, 0, 0x77}}));
  EXPECT_EQ(link_.guest6, Address("fd00::77"));
}

TEST_F(GuestAddressesTest, AnotherOneIsBelievedOnlyWhenTheKnownOneIsSilent) {
  PacketFrom("fd00::77");
  PacketFrom("fd00::88");
  EXPECT_EQ(link_.guest6, Address("fd00::77"));
  for (int i = 0; i < GuestAddresses::kQuestionCount; ++i) {
    const Bytes question = Tick();
    ASSERT_FALSE(question.empty()) << i;
    EXPECT_EQ(IpAddress::From(std::span(question).subspan(kTransport6At + 8, 16)),
              Address("fd00::77"));
    EXPECT_TRUE(Tick().empty());
    now_ = services_->NextDeadline();
  }
  EXPECT_TRUE(Tick().empty());
  EXPECT_EQ(link_.guest6, Address("fd00::88"));
  EXPECT_EQ(services_->NextDeadline(), kNever);
}

TEST_F(GuestAddressesTest, AGuestWithSeveralAddressesKeepsTheFirst) {
  PacketFrom("fd00::77");
  PacketFrom("fd00::88");
  EXPECT_FALSE(Tick().empty());
  (void)React(EthernetFrame(IpPacket(
      {.source = Address("fe80::15"), .destination = LinkLocalOf(kGatewayMac), .hop_limit = 255},
      Solicitation(Address("fd00::77"), {}, 136))));
  EXPECT_EQ(services_->NextDeadline(), kNever);
  PacketFrom("fd00::88");
  EXPECT_EQ(services_->NextDeadline(), kNever);  // for a while
  EXPECT_EQ(link_.guest6, Address("fd00::77"));
  now_ += GuestAddresses::kAnswerLasts;
  PacketFrom("fd00::88");
  EXPECT_EQ(services_->NextDeadline(), now_);
}

}  // namespace
}  // namespace penstock
