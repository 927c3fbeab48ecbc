// The DHCP server, message by message, on virtual time: leases, refusals, and what is
// malformed in every way that servers were seen to fall for.
#include "stack/service/dhcp.h"

#include <algorithm>

#include "stack/service/domain_names.h"
#include "tests/stack/service/service_fixture.h"

namespace penstock {
namespace {

constexpr uint8_t kDiscover = 1, kRequest = 3, kDecline = 4, kRelease = 7, kInform = 8;

struct Ask {
  uint8_t type = kDiscover;
  Bytes options{};  // behind the type
  IpAddress client = IpAddress::V4(0, 0, 0, 0);
  uint8_t hardware_bytes = 6;
  bool broadcast = false;
  MacAddress chaddr = kGuestMac;
};

Bytes Option(uint8_t code, const Bytes& data) {
  return Concat({code, static_cast<uint8_t>(data.size())}, data);
}
Bytes AddressOption(uint8_t code, const IpAddress& address) {
  return Option(code, Bytes(address.wire().begin(), address.wire().end()));
}

// From op to the magic number.
Bytes Head(const Ask& ask) {
  Bytes bytes(240);
  bytes[0] = 1;
  bytes[1] = 1;
  bytes[2] = ask.hardware_bytes;
  Put32(bytes, 4, 0x1234'5678);
  if (ask.broadcast) bytes[10] = 0x80;
  std::ranges::copy(ask.client.wire(), bytes.begin() + 12);
  std::ranges::copy(ask.chaddr, bytes.begin() + 28);
  Put32(bytes, 236, 0x6382'5363);
  return bytes;
}

Bytes Message(const Ask& ask) {
  Bytes bytes = Concat(Head(ask), Option(53, Bytes{ask.type}));
  bytes = Concat(bytes, ask.options);
  bytes.push_back(255);
  return bytes;
}

Bytes Frame(const Bytes& payload, const IpAddress& source = IpAddress::V4(0, 0, 0, 0)) {
  const bool broadcast = source == IpAddress::V4(0, 0, 0, 0);
  return EthernetFrame(
      IpPacket({.source = source,
                .destination = broadcast ? IpAddress::V4(255, 255, 255, 255) : kGateway4},
               UdpDatagram({.source_port = 68, .destination_port = 67, .payload = payload})),
      {.destination = broadcast ? kBroadcastMac : kGatewayMac});
}

class DhcpTest : public ServiceTest {
 protected:
  // The answer to `ask`; it is of `type`, or there is none.
  std::optional<DhcpMessage> Say(const Ask& ask, DhcpType type) {
    answer_ = React(Frame(Message(ask), ask.client));
    if (answer_.empty()) return std::nullopt;
    const auto message = DhcpMessage::Read(std::span(answer_).subspan(kTransport4At + 8));
    EXPECT_TRUE(message);
    EXPECT_TRUE(!message || message->type() == type);
    return message;
  }
  // The address that a client that asks in the ordinary way gets.
  IpAddress Lease(const Bytes& client_id = {}, const Bytes& wish = {}) {
    const Bytes id = client_id.empty() ? Bytes{} : Option(61, client_id);
    const auto offer = Say({.options = Concat(id, wish)}, DhcpType::kOffer);
    if (!offer) return {};
    const Bytes chosen = Concat(id, AddressOption(50, offer->offered()));
    const auto ack =
        Say({.type = kRequest, .options = Concat(chosen, AddressOption(54, kGateway4))},
            DhcpType::kAck);
    return ack ? ack->offered() : IpAddress();
  }
  [[nodiscard]] IpAddress To() const {
    return IpAddress::From(std::span(answer_).subspan(kIpAt + 16, 4));
  }
  // What a message of these bytes is dropped as.
  std::string DropOf(const Bytes& payload) {
    EXPECT_TRUE(React(Frame(payload)).empty());
    return drop_;
  }

  Bytes answer_;
};

TEST_F(DhcpTest, TellsEverythingThatIsConfigured) {
  Config config;
  config.mtu = 9'000;
  config.search_domains = {"corp.example", "lab.example"};
  config.guest_host_name = "blue";
  Start(config);
  const auto offer = Say({}, DhcpType::kOffer);
  ASSERT_TRUE(offer);
  const auto text = [&](DhcpOption option) {
    const auto found = offer->Find(option);
    return found ? std::string(found->begin(), found->end()) : "";
  };
  EXPECT_EQ(offer->offered(), kGuest4);
  EXPECT_EQ(offer->FindAddress(DhcpOption::kSubnetMask), Address("255.255.255.0"));
  EXPECT_EQ(offer->FindAddress(DhcpOption::kRouter), kGateway4);
  EXPECT_EQ(offer->FindAddress(DhcpOption::kDnsServer), config.ipv4.dns);
  EXPECT_EQ(offer->FindAddress(DhcpOption::kServerId), kGateway4);
  EXPECT_EQ(offer->FindSeconds(DhcpOption::kLeaseTime), 86'400u);
  EXPECT_EQ(offer->FindSeconds(DhcpOption::kRenewalTime), 43'200u);
  EXPECT_EQ(offer->FindSeconds(DhcpOption::kRebindingTime), 75'600u);
  EXPECT_EQ(Get16(*offer->Find(DhcpOption::kMtu), 0), 9'000);
  EXPECT_EQ(DecodeDomainNames(*offer->Find(DhcpOption::kSearchDomains)), config.search_domains);
  EXPECT_EQ(text(DhcpOption::kDomainName), "corp.example");
  EXPECT_EQ(text(DhcpOption::kHostName), "blue");
  // To who has no address yet, but its MAC; the rest of the fixed part is empty.
  EXPECT_EQ(To(), kGuest4);
  EXPECT_TRUE(std::ranges::equal(std::span(answer_).first(6), kGuestMac));
  const auto names = std::span(answer_).subspan(kTransport4At + 8 + 34, 202);
  EXPECT_TRUE(std::ranges::all_of(names, [](uint8_t byte) { return byte == 0; }));
}

TEST_F(DhcpTest, WithoutARouteOfTheHostThereIsNoRouter) {
  Start();
  services_->SetHostRoutes({.ipv4 = false}, now_);
  EXPECT_FALSE(Say({}, DhcpType::kOffer)->Find(DhcpOption::kRouter));
  services_->SetHostRoutes({}, now_);
  EXPECT_TRUE(Say({}, DhcpType::kOffer)->Find(DhcpOption::kRouter));
}

TEST_F(DhcpTest, TheFirstClientGetsTheGuestsAddressTheNextTheNext) {
  EXPECT_EQ(Lease(), kGuest4);
  EXPECT_EQ(Lease({9, 9}), Address("10.0.2.16"));
  EXPECT_EQ(Lease({9, 8}), Address("10.0.2.17"));
  EXPECT_EQ(Lease(), kGuest4);
  EXPECT_EQ(Lease({9, 9}), Address("10.0.2.16"));
  EXPECT_EQ(counters_.dhcp_leases_given.value(), 5u);
}

TEST_F(DhcpTest, AnIdentifierThatIsTheHardwareAddressIsTheSameClient) {
  const Bytes id = Concat({1}, kGuestMac);
  EXPECT_EQ(Lease(), kGuest4);
  EXPECT_EQ(Lease(id), kGuest4);
}

TEST_F(DhcpTest, EchoesTheIdentifierAndHonoursTheBroadcastFlag) {
  const auto offer = Say({.options = Option(61, {0, 1, 2}), .broadcast = true}, DhcpType::kOffer);
  EXPECT_TRUE(std::ranges::equal(*offer->Find(DhcpOption::kClientId), Bytes{0, 1, 2}));
  EXPECT_TRUE(offer->wants_broadcast());
  EXPECT_EQ(To(), Address("255.255.255.255"));
  EXPECT_TRUE(std::ranges::equal(std::span(answer_).first(6), kBroadcastMac));
}

TEST_F(DhcpTest, AFreeAddressThatIsAskedForIsGiven) {
  EXPECT_EQ(Lease({}, AddressOption(50, Address("10.0.2.77"))), Address("10.0.2.77"));
  EXPECT_EQ(link_.guest4, Address("10.0.2.77"));  // and published ports lead there
  EXPECT_EQ(Lease({9, 9}, AddressOption(50, Address("10.0.2.77"))), kGuest4);
  for (const char* never : {"10.0.2.2", "10.0.2.3", "10.0.2.0", "10.0.2.255", "10.0.2.14",
                            "10.0.3.15", "0.0.0.0", "255.255.255.255"}) {
    EXPECT_NE(Lease({7, 7}, AddressOption(50, Address(never))), Address(never));
  }
}

TEST_F(DhcpTest, RefusesWhatIsNotOurs) {
  EXPECT_EQ(Lease({9, 9}), kGuest4);
  for (const char* wrong : {"192.168.1.5", "10.0.2.2", "10.0.2.15", "10.0.2.255"}) {
    const auto nak =
        Say({.type = kRequest, .options = AddressOption(50, Address(wrong))}, DhcpType::kNak);
    ASSERT_TRUE(nak) << wrong;
    EXPECT_EQ(nak->FindAddress(DhcpOption::kServerId), kGateway4);
    EXPECT_EQ(nak->offered(), Address("0.0.0.0"));
    EXPECT_FALSE(nak->Find(DhcpOption::kLeaseTime));
    EXPECT_EQ(To(), Address("255.255.255.255"));
  }
  EXPECT_EQ(counters_.dhcp_naks_sent.value(), 4u);
}

TEST_F(DhcpTest, ARebootedClientKeepsItsAddressAlsoOverAnEarlierStack) {
  const Ask reboot{.type = kRequest, .options = AddressOption(50, Address("10.0.2.40"))};
  EXPECT_EQ(Say(reboot, DhcpType::kAck)->offered(), Address("10.0.2.40"));
  EXPECT_EQ(Say(reboot, DhcpType::kAck)->offered(), Address("10.0.2.40"));
}

TEST_F(DhcpTest, RenewsByUnicastAtT1) {
  EXPECT_EQ(Lease(), kGuest4);
  now_ += std::chrono::hours(12);
  const auto ack = Say({.type = kRequest, .client = kGuest4}, DhcpType::kAck);
  ASSERT_TRUE(ack);
  EXPECT_EQ(ack->client(), kGuest4);
  EXPECT_EQ(To(), kGuest4);
  now_ += std::chrono::hours(23);  // longer than the first lease, not than the second
  EXPECT_NE(Lease({9, 9}), kGuest4);
}

TEST_F(DhcpTest, ExpiredLeasesAreReused) {
  Config config;
  config.dhcp_pool_first = config.dhcp_pool_last = kGuest4;
  config.dhcp_lease_time = std::chrono::minutes(1);
  Start(config);
  EXPECT_EQ(Lease(), kGuest4);
  (void)Say({.options = Option(61, {9, 9})}, DhcpType::kOffer);
  EXPECT_EQ(drop_, "dhcp_no_address");
  now_ += std::chrono::seconds(60);
  EXPECT_EQ(Lease({9, 9}), kGuest4);
  (void)Say({}, DhcpType::kOffer);
  EXPECT_EQ(drop_, "dhcp_no_address");
}

TEST_F(DhcpTest, AReleasedAddressIsFreeAtOnce) {
  EXPECT_EQ(Lease({9, 9}, AddressOption(50, Address("10.0.2.30"))), Address("10.0.2.30"));
  (void)Say({.type = kRelease, .options = Option(61, {9, 9}), .client = Address("10.0.2.30")},
            DhcpType::kAck);
  EXPECT_EQ(drop_, "nothing");
  EXPECT_EQ(counters_.dhcp_leases_released.value(), 1u);
  EXPECT_EQ(link_.guest4, kGuest4);
  EXPECT_EQ(Lease({}, AddressOption(50, Address("10.0.2.30"))), Address("10.0.2.30"));
}

TEST_F(DhcpTest, ADeclinedAddressRests) {
  EXPECT_EQ(Lease(), kGuest4);
  (void)Say({.type = kDecline, .options = AddressOption(50, kGuest4)}, DhcpType::kAck);
  EXPECT_EQ(drop_, "nothing");
  EXPECT_EQ(Lease(), Address("10.0.2.16"));
  now_ += DhcpServer::kDeclinedTime;
  EXPECT_EQ(Lease({9, 9}), kGuest4);
}

TEST_F(DhcpTest, InformTellsTheRestAndLeasesNothing) {
  const auto ack = Say({.type = kInform, .client = kGuest4}, DhcpType::kAck);
  ASSERT_TRUE(ack);
  EXPECT_EQ(ack->FindAddress(DhcpOption::kDnsServer), Address("10.0.2.3"));
  EXPECT_EQ(ack->offered(), Address("0.0.0.0"));
  EXPECT_FALSE(ack->Find(DhcpOption::kLeaseTime));
  EXPECT_EQ(To(), kGuest4);
  EXPECT_FALSE(services_->leased());
}

TEST_F(DhcpTest, IgnoresByName) {
  Bytes relayed = Message({});
  relayed[27] = 9;
  Bytes reply = Message({});
  reply[0] = 2;
  Bytes bootp = Head({});
  bootp.push_back(255);
  const Bytes other = AddressOption(54, Address("10.0.2.99"));
  for (const Bytes& payload :
       {relayed, reply, bootp, Message({.type = 2}), Message({.type = 0}), Message({.type = 200}),
        Message({.hardware_bytes = 0}), Message({.type = kRequest}),
        Message({.type = kRequest, .options = Concat(other, AddressOption(50, kGuest4))}),
        Message({.type = kDecline, .options = AddressOption(50, kGuest4)}),
        Message({.type = kInform})}) {
    EXPECT_EQ(DropOf(payload), "dhcp_ignored");
  }
}

TEST_F(DhcpTest, MalformedMessagesAreDroppedByName) {
  Bytes no_magic = Message({});
  no_magic[236] ^= 1;
  const auto with = [](const Bytes& options) { return Message({.options = options}); };
  for (const Bytes& payload : {Bytes{},
                               Bytes(1),
                               Bytes(235),
                               Bytes(236),
                               Bytes(239),
                               Bytes(300),
                               no_magic,
                               Message({.hardware_bytes = 17}),
                               Message({.hardware_bytes = 255}),
                               Concat(Head({}), Bytes{53}),
                               Concat(Head({}), Bytes{53, 1}),
                               Concat(Head({}), Bytes{53, 0}),
                               Concat(Head({}), Bytes{53, 2, 1, 1}),
                               with({61, 255, 1, 2}),
                               with({61, 0}),
                               with({61, 1, 1}),
                               with({50, 0}),
                               with({50, 3, 1, 2, 3}),
                               with({50, 5, 1, 2, 3, 4, 5}),
                               with({54, 1, 1}),
                               with({52, 0}),
                               with({52, 1, 0}),
                               with({52, 1, 4}),
                               with({12, 200, 'x'})}) {
    EXPECT_EQ(DropOf(payload), "dhcp_malformed");
  }
}

TEST_F(DhcpTest, ToleratesWhatIsOnlyOdd) {
  const auto offered = [this](const Bytes& payload) { return !React(Frame(payload)).empty(); };
  EXPECT_TRUE(offered(Concat(Head({}), Bytes{53, 1, 1})));              // no end
  EXPECT_TRUE(offered(Message({.options = {12, 0, 55, 0, 0, 0, 0}})));  // empty options, padding
  EXPECT_TRUE(offered(Concat(Message({}), Bytes{61, 200})));            // behind the end
  EXPECT_TRUE(offered(Message({.hardware_bytes = 16})));
  EXPECT_TRUE(offered(Message({.options = Option(61, Bytes(255, 7))})));
  Bytes overloaded = Message({.options = {52, 1, 3}});
  overloaded[108] = 61;  // the file field
  overloaded[109] = 2;
  overloaded[44] = 12;  // the server's name
  overloaded[45] = 1;
  EXPECT_TRUE(offered(overloaded));
  overloaded[109] = 127;  // one more than the field has
  EXPECT_EQ(DropOf(overloaded), "dhcp_malformed");
}

TEST_F(DhcpTest, EveryTruncationIsHarmless) {
  const Bytes whole =
      Message({.options = Concat(Option(61, {1, 2, 3}), AddressOption(50, kGuest4))});
  for (size_t length = 0; length < whole.size(); ++length) {
    (void)React(Frame(Bytes(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(length))));
  }
}

TEST_F(DhcpTest, TheLongestIdentifierLeavesRoomForTheSettings) {
  Config config;
  config.search_domains = {std::string(60, 'a') + "." + std::string(60, 'b') + "." +
                           std::string(60, 'c') + ".example"};
  Start(config);
  const auto offer = Say({.options = Option(61, Bytes(255, 7))}, DhcpType::kOffer);
  ASSERT_TRUE(offer);
  EXPECT_TRUE(offer->Find(DhcpOption::kSearchDomains));
  EXPECT_LE(answer_.size(), 14u + 576u);
}

TEST_F(DhcpTest, LeasesAreBounded) {
  Config config;
  config.ipv4.prefix_length = 8;
  Start(config);
  for (uint16_t i = 0; i < DhcpServer::kLeaseCountMax; ++i) {
    const Bytes id{1, 2, static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i)};
    EXPECT_NE(Lease(id), IpAddress()) << i;
  }
  (void)Say({.options = Option(61, {3, 3})}, DhcpType::kOffer);
  EXPECT_EQ(drop_, "dhcp_no_address");
  now_ += std::chrono::hours(24);
  EXPECT_NE(Lease({3, 3}), IpAddress());
}

TEST_F(DhcpTest, SwitchedOffItIsNotThere) {
  Config config;
  config.dhcp = false;
  Start(config);
  (void)Say({}, DhcpType::kOffer);
  EXPECT_EQ(drop_, "not for a service");
}

}  // namespace
}  // namespace penstock
