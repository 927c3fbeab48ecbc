// The DHCP client of `penstock run` against a server that is played: virtual time, no
// socket.
#include "tools/penstock/dhcp_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "stack/service/domain_names.h"

namespace penstock::tool {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;

constexpr MacAddress kMac{2, 0, 0, 0, 0, 9};
const IpAddress kServer = IpAddress::V4(10, 0, 2, 2);
const IpAddress kAddress = IpAddress::V4(10, 0, 2, 15);
const IpAddress kEverybody = IpAddress::V4(255, 255, 255, 255);

class DhcpClientTest : public testing::Test {
 protected:
  // What the client says now, if anything.
  std::optional<DhcpType> Tick() {
    const auto message = client_.Tick(now_);
    if (!message) return std::nullopt;
    sent_ = message->bytes;
    destination_ = message->destination;
    return Sent().type();
  }
  [[nodiscard]] DhcpMessage Sent() const { return *DhcpMessage::Read(sent_); }

  // An answer to what was said last.
  [[nodiscard]] std::vector<uint8_t> Answer(DhcpType type, uint32_t lease_seconds = 100,
                                            const MacAddress& to = kMac) const {
    DhcpWriter writer({.transaction = Sent().transaction(),
                       .client = {},
                       .offered = kAddress,
                       .hardware_address = to},
                      type);
    writer.Put(DhcpOption::kServerId, kServer);
    if (type != DhcpType::kNak) {
      writer.PutU32(DhcpOption::kLeaseTime, lease_seconds);
      writer.PutU32(DhcpOption::kSubnetMask, 0xffff'ff00);
      writer.Put(DhcpOption::kRouter, kServer);
      writer.Put(DhcpOption::kDnsServer, std::array<uint8_t, 8>{10, 0, 2, 3, 10, 0, 2, 4});
      writer.PutU16(DhcpOption::kMtu, 9000);
      const std::vector<std::string> search{"a.example", "b.example"};
      writer.Put(DhcpOption::kSearchDomains, EncodeDomainNames(search));
    }
    const auto bytes = writer.Finish();
    return {bytes.begin(), bytes.end()};
  }
  bool Receive(DhcpType type, uint32_t lease_seconds = 100) {
    return client_.Receive(Answer(type, lease_seconds), now_);
  }
  void Bind(uint32_t lease_seconds = 100) {
    ASSERT_EQ(Tick(), DhcpType::kDiscover);
    ASSERT_FALSE(Receive(DhcpType::kOffer, lease_seconds));
    ASSERT_EQ(Tick(), DhcpType::kRequest);
    ASSERT_TRUE(Receive(DhcpType::kAck, lease_seconds));
    ASSERT_TRUE(client_.idle());
  }
  void GoToDeadline() { now_ = client_.NextDeadline(); }

  DhcpClient client_{kMac, 7};
  Time now_{seconds(1000)};
  std::vector<uint8_t> sent_;
  IpAddress destination_;
};

TEST_F(DhcpClientTest, GetsALease) {
  ASSERT_EQ(Tick(), DhcpType::kDiscover);
  EXPECT_EQ(destination_, kEverybody);
  EXPECT_TRUE(Sent().wants_broadcast());
  EXPECT_EQ(Tick(), std::nullopt);  // not again at once
  EXPECT_FALSE(Receive(DhcpType::kOffer));
  ASSERT_EQ(Tick(), DhcpType::kRequest);
  EXPECT_EQ(Sent().FindAddress(DhcpOption::kRequestedAddress), kAddress);
  EXPECT_EQ(Sent().FindAddress(DhcpOption::kServerId), kServer);
  EXPECT_FALSE(client_.lease());
  EXPECT_TRUE(Receive(DhcpType::kAck));
  ASSERT_TRUE(client_.lease());
  const DhcpLease& lease = *client_.lease();
  EXPECT_EQ(lease.address, kAddress);
  EXPECT_EQ(lease.prefix_length, 24);
  EXPECT_EQ(lease.router, kServer);
  EXPECT_THAT(lease.nameservers,
              ElementsAre(IpAddress::V4(10, 0, 2, 3), IpAddress::V4(10, 0, 2, 4)));
  EXPECT_THAT(lease.search, ElementsAre("a.example", "b.example"));
  EXPECT_EQ(lease.mtu, 9000);
  EXPECT_EQ(lease.seconds, 100u);
}

TEST_F(DhcpClientTest, SendsAgainEachTimeLater) {
  Duration wait = DhcpClient::kFirstWait;
  for (int i = 0; i < 12; ++i) {
    ASSERT_EQ(Tick(), DhcpType::kDiscover) << i;
    EXPECT_EQ(client_.NextDeadline() - now_, wait) << i;
    if (i < DhcpClient::kDoublingsMax) wait *= 2;
    GoToDeadline();
  }
}

TEST_F(DhcpClientTest, BeginsAgainWhenNobodyConfirms) {
  ASSERT_EQ(Tick(), DhcpType::kDiscover);
  (void)Receive(DhcpType::kOffer);
  for (int i = 0; i < DhcpClient::kRequestsMax; ++i) {
    ASSERT_EQ(Tick(), DhcpType::kRequest) << i;
    GoToDeadline();
  }
  EXPECT_EQ(Tick(), DhcpType::kDiscover);
}

TEST_F(DhcpClientTest, RenewsAtHalfOfTheLease) {
  Bind(100);
  EXPECT_EQ(client_.NextDeadline() - now_, seconds(50));
  GoToDeadline();
  ASSERT_EQ(Tick(), DhcpType::kRequest);
  EXPECT_EQ(destination_, kServer);
  EXPECT_EQ(Sent().client(), kAddress);
  EXPECT_FALSE(Sent().wants_broadcast());
  EXPECT_FALSE(Sent().Find(DhcpOption::kRequestedAddress));
  EXPECT_FALSE(Sent().Find(DhcpOption::kServerId));
  EXPECT_TRUE(client_.lease());
  EXPECT_TRUE(Receive(DhcpType::kAck, 60));
  EXPECT_EQ(client_.NextDeadline() - now_, seconds(30));
}

TEST_F(DhcpClientTest, LosesItsLeaseAtItsEndAndAsksAnew) {
  Bind(100);
  const Time end = now_ + seconds(100);
  while (client_.lease()) {
    ASSERT_LE(now_, end);
    GoToDeadline();
    const auto said = Tick();
    EXPECT_EQ(said, now_ < end ? DhcpType::kRequest : DhcpType::kDiscover);
  }
  EXPECT_EQ(now_, end);
  EXPECT_EQ(destination_, kEverybody);
  (void)Receive(DhcpType::kOffer);
  ASSERT_EQ(Tick(), DhcpType::kRequest);
  EXPECT_TRUE(Receive(DhcpType::kAck));
}

TEST_F(DhcpClientTest, LosesItsLeaseByRefusalAndAsksAnew) {
  Bind(100);
  GoToDeadline();
  ASSERT_EQ(Tick(), DhcpType::kRequest);
  EXPECT_TRUE(Receive(DhcpType::kNak));
  EXPECT_FALSE(client_.lease());
  EXPECT_EQ(Tick(), std::nullopt);  // in a moment
  GoToDeadline();
  EXPECT_EQ(Tick(), DhcpType::kDiscover);
}

TEST_F(DhcpClientTest, KeepsALeaseWithoutEnd) {
  Bind(DhcpLease::kForever);
  EXPECT_EQ(client_.NextDeadline(), kNever);
}

TEST_F(DhcpClientTest, HearsNobodyElse) {
  ASSERT_EQ(Tick(), DhcpType::kDiscover);
  const std::vector<uint8_t> offer = Answer(DhcpType::kOffer);
  for (size_t length = 0; length < 240; ++length) {
    (void)client_.Receive(std::span(offer).first(length), now_);
  }
  EXPECT_FALSE(client_.Receive(sent_, now_));                                  // its own
  EXPECT_FALSE(client_.Receive(Answer(DhcpType::kAck), now_));                 // too early
  EXPECT_FALSE(client_.Receive(Answer(DhcpType::kNak), now_));                 // of nothing
  EXPECT_FALSE(client_.Receive(Answer(DhcpType::kOffer, 100, {9, 9}), now_));  // another's
  EXPECT_FALSE(client_.Receive(Answer(DhcpType::kOffer, 0), now_));            // no lease
  std::vector<uint8_t> stale = offer;
  stale[7] ^= 1;
  EXPECT_FALSE(client_.Receive(stale, now_));
  EXPECT_EQ(Tick(), std::nullopt);
  EXPECT_FALSE(client_.lease());
  (void)client_.Receive(offer, now_);
  EXPECT_EQ(Tick(), DhcpType::kRequest);
}

}  // namespace
}  // namespace penstock::tool
