// Peers of published UDP ports: found both ways, limits, eviction, expiry, and whom the
// guest sees.
#include "stack/flow/udp_peers.h"

#include <gtest/gtest.h>

#include <deque>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace penstock {
namespace {

using namespace std::chrono_literals;

constexpr Duration kTimeout = 120s;
const IpAddress kGateway = IpAddress::V4(10, 0, 2, 2);
const Endpoint kGuestPort{IpAddress::V4(10, 0, 2, 15), 53};

DatagramPath Client(uint32_t number) {
  return {.peer = {IpAddress::V4(198, 51, static_cast<uint8_t>(number >> 14),
                                 static_cast<uint8_t>((number >> 8) & 0x3f)),
                   static_cast<uint16_t>(1'024 + (number & 0xff))}};
}

class UdpPeersTest : public testing::Test {
 protected:
  void Make(uint32_t count_max) { peers_.emplace(count_max, kTimeout, counters_); }
  UdpPeerSet& Open(uint32_t id, const Endpoint& guest = kGuestPort) {
    UdpPeerSet& set = sets_.emplace_back();
    set.id = id, set.guest = guest, set.gateway = kGateway;
    peers_->Open(set);
    return set;
  }
  UdpPeer* Add(UdpPeerSet& set, const DatagramPath& path) {
    return peers_->Add(set, path, std::nullopt, now_);
  }
  [[nodiscard]] UdpPeer* Find(UdpPeerSet& set, const DatagramPath& path) {
    return peers_->Find(set, path, now_);
  }

  Time now_{1h};
  Counters counters_;
  std::deque<UdpPeerSet> sets_;
  std::optional<UdpPeers> peers_;
};

TEST_F(UdpPeersTest, FoundBothWays) {
  Make(10);
  UdpPeerSet& set = Open(1);
  UdpPeer* peer = Add(set, Client(1));
  ASSERT_NE(peer, nullptr);
  EXPECT_EQ(Find(set, Client(1)), peer);
  EXPECT_EQ(peers_->FindSeen(peer->seen, now_), peer);
  EXPECT_EQ(peer->seen.guest, kGuestPort);
  EXPECT_EQ(peer->seen.destination.address, kGateway);
  EXPECT_EQ(Find(set, Client(2)), nullptr);
  TcpTuple other = peer->seen;
  ++other.destination.port;
  EXPECT_EQ(peers_->FindSeen(other, now_), nullptr);
  other = peer->seen;
  ++other.guest.port;
  EXPECT_EQ(peers_->FindSeen(other, now_), nullptr) << "another port of the guest's";
  other = peer->seen;
  other.guest.address = IpAddress::V4(10, 0, 2, 16);
  EXPECT_EQ(peers_->FindSeen(other, now_), nullptr);
}

TEST_F(UdpPeersTest, APeerIsAllOfItsPath) {
  Make(10);
  UdpPeerSet& set = Open(1);
  UdpPeerSet& other_port = Open(2);
  DatagramPath path = Client(1);
  const UdpPeer* first = Add(set, path);
  EXPECT_EQ(Find(other_port, path), nullptr);
  path.local = IpAddress::V4(127, 0, 0, 2);
  EXPECT_EQ(Find(set, path), nullptr) << "asked another address of the host's";
  const UdpPeer* second = Add(set, path);
  EXPECT_NE(first->seen.destination, second->seen.destination);
  path.interface = 3;
  EXPECT_EQ(Find(set, path), nullptr);
}

TEST_F(UdpPeersTest, SixteenThousandPeersAndOneMore) {
  constexpr uint32_t kMax = 16'384;
  Make(kMax);
  UdpPeerSet& set = Open(1);
  std::set<uint16_t> ports;
  for (uint32_t i = 0; i < kMax; ++i) {
    const UdpPeer* peer = Add(set, Client(i));
    ASSERT_NE(peer, nullptr);
    ports.insert(peer->seen.destination.port);
  }
  EXPECT_EQ(ports.size(), kMax) << "each is seen as somebody else";
  EXPECT_GE(*ports.begin(), kLeaseFirst);
  EXPECT_LE(*ports.rbegin(), kLeaseLast);
  EXPECT_EQ(set.count, kMax);
  EXPECT_EQ(counters_.udp_peers.value(), kMax);
  EXPECT_EQ(counters_.udp_peers_evicted.value(), 0u);
  // The first is heard again: the second is now the one heard of least recently.
  peers_->Refresh(*Find(set, Client(0)), now_);
  const TcpTuple evicted = Find(set, Client(1))->seen;
  const UdpPeer* one_more = Add(set, Client(kMax));
  ASSERT_NE(one_more, nullptr);
  EXPECT_EQ(set.count, kMax);
  EXPECT_EQ(counters_.udp_peers_evicted.value(), 1u);
  EXPECT_NE(Find(set, Client(0)), nullptr);
  EXPECT_EQ(Find(set, Client(1)), nullptr);
  EXPECT_EQ(peers_->FindSeen(evicted, now_), nullptr) << "answers to it go to nobody else";
  EXPECT_FALSE(ports.contains(one_more->seen.destination.port)) << "of those never used";
}

TEST_F(UdpPeersTest, TheOneHeardOfLeastRecentlyGivesWay) {
  Make(3);
  UdpPeerSet& set = Open(1);
  UdpPeerSet& other = Open(2);
  (void)Add(other, Client(9));
  for (uint32_t i = 0; i < 3; ++i) (void)Add(set, Client(i));
  peers_->Refresh(*Find(set, Client(0)), now_);
  peers_->Refresh(*Find(set, Client(2)), now_);
  (void)Add(set, Client(3));  // 1 goes
  (void)Add(set, Client(4));  // 0 goes
  EXPECT_EQ(Find(set, Client(1)), nullptr);
  EXPECT_EQ(Find(set, Client(0)), nullptr);
  EXPECT_NE(Find(set, Client(2)), nullptr);
  EXPECT_NE(Find(set, Client(3)), nullptr);
  EXPECT_NE(Find(set, Client(4)), nullptr);
  EXPECT_NE(Find(other, Client(9)), nullptr) << "a full port takes nothing from others";
}

TEST_F(UdpPeersTest, ExpiresByTheTimeThatItIsGiven) {
  Make(10);
  UdpPeerSet& set = Open(1);
  EXPECT_EQ(peers_->next_expiry(), kNever);
  const TcpTuple first = Add(set, Client(1))->seen;
  now_ += 10s;
  (void)Add(set, Client(2));
  EXPECT_EQ(peers_->next_expiry(), now_ - 10s + kTimeout);
  now_ += 20s;
  peers_->Refresh(*Find(set, Client(1)), now_);
  EXPECT_EQ(peers_->next_expiry(), now_ - 20s + kTimeout) << "the second one's";
  now_ = peers_->next_expiry() - 1ns;
  peers_->Expire(now_, 100);
  EXPECT_EQ(set.count, 2u);
  now_ += 1ns;
  peers_->Expire(now_, 100);
  EXPECT_EQ(set.count, 1u);
  EXPECT_EQ(Find(set, Client(2)), nullptr);
  EXPECT_NE(Find(set, Client(1)), nullptr);
  EXPECT_EQ(counters_.udp_peers_expired.value(), 1u);
  // Whose time is up is gone although nobody called Expire.
  now_ = peers_->next_expiry();
  EXPECT_EQ(peers_->FindSeen(first, now_), nullptr);
  EXPECT_EQ(Find(set, Client(1)), nullptr);
  EXPECT_EQ(counters_.udp_peers_expired.value(), 2u);
  EXPECT_EQ(peers_->next_expiry(), kNever);
  EXPECT_EQ(peers_->count(), 0u);
}

TEST_F(UdpPeersTest, ExpiryIsBounded) {
  Make(100);
  UdpPeerSet& set = Open(1);
  for (uint32_t i = 0; i < 100; ++i) (void)Add(set, Client(i));
  now_ += kTimeout;
  peers_->Expire(now_, 30);
  EXPECT_EQ(set.count, 70u);
  EXPECT_LE(peers_->next_expiry(), now_);
  peers_->Expire(now_, 100);
  EXPECT_EQ(set.count, 0u);
}

TEST_F(UdpPeersTest, APortThatWasJustFreedIsLeasedLast) {
  Make(1);
  UdpPeerSet& set = Open(1);
  std::set<uint16_t> ports;
  constexpr uint32_t kCount = kLeaseLast - kLeaseFirst + 1;
  uint16_t first = 0, port = 0;
  for (uint32_t i = 0; i < kCount; ++i) {
    port = Add(set, Client(i))->seen.destination.port;
    if (i == 0) first = port;
    ports.insert(port);
  }
  EXPECT_EQ(ports.size(), kCount) << "none twice before all were used";
  EXPECT_EQ(Add(set, Client(kCount))->seen.destination.port, first) << "the longest free";
}

TEST_F(UdpPeersTest, APortPublishedAnewDoesNotBeginWithTheSamePeers) {
  Make(10);
  UdpPeerSet& before = Open(1);
  const TcpTuple seen = Add(before, Client(1))->seen;
  peers_->Close(before);
  EXPECT_EQ(peers_->count(), 0u);
  EXPECT_EQ(peers_->FindSeen(seen, now_), nullptr);
  UdpPeerSet& after = Open(2);
  EXPECT_NE(Add(after, Client(1))->seen.destination.port, seen.destination.port);
}

TEST_F(UdpPeersTest, PortsThatLeadToOneGuestPortShareItsPeers) {
  Make(28'232);
  UdpPeerSet& first = Open(1);
  UdpPeerSet& second = Open(2);
  UdpPeerSet& elsewhere = Open(3, {kGuestPort.address, 54});
  constexpr uint32_t kCount = kLeaseLast - kLeaseFirst + 1;
  std::set<uint16_t> ports;
  for (uint32_t i = 0; i < kCount; ++i) {
    ports.insert(Add(i % 2 == 0 ? first : second, Client(i))->seen.destination.port);
  }
  EXPECT_EQ(ports.size(), kCount);
  EXPECT_NE(Add(elsewhere, Client(1)), nullptr) << "another guest port";
  // No port is free: the port's own peer heard of least recently gives way.
  ASSERT_NE(Add(second, Client(kCount)), nullptr);
  EXPECT_EQ(counters_.udp_peers_evicted.value(), 1u);
  EXPECT_EQ(Find(second, Client(1)), nullptr);
  EXPECT_NE(Find(first, Client(0)), nullptr);
  UdpPeerSet& third = Open(4);
  EXPECT_EQ(Add(third, Client(1)), nullptr) << "it has none to give way";
}

TEST_F(UdpPeersTest, SeenAsItselfWhereNobodyElseIs) {
  Make(10);
  UdpPeerSet& first = Open(1);
  UdpPeerSet& second = Open(2);
  const DatagramPath path = Client(1);
  UdpPeer* itself = peers_->Add(first, path, path.peer, now_);
  EXPECT_EQ(itself->seen.destination, path.peer);
  // The same client by way of another port to the same guest port.
  UdpPeer* again = peers_->Add(second, path, path.peer, now_);
  EXPECT_EQ(again->seen.destination.address, path.peer.address);
  EXPECT_NE(again->seen.destination.port, path.peer.port);
  EXPECT_EQ(peers_->FindSeen(itself->seen, now_), itself);
  EXPECT_EQ(peers_->FindSeen(again->seen, now_), again);
  peers_->Close(first);
  EXPECT_EQ(peers_->FindSeen({.guest = kGuestPort, .destination = path.peer}, now_), nullptr);
  EXPECT_EQ(peers_->FindSeen(again->seen, now_), again);
}

}  // namespace
}  // namespace penstock
