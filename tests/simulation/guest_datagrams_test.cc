// The guest's own datagrams in the smallest world: what the host's system refuses, and what
// several datagrams in one buffer count as.
#include <gtest/gtest.h>

#include <cerrno>

#include "tests/support/packet_builder.h"
#include "tests/world/rig.h"
#include "tests/world/sim_datagrams.h"

namespace penstock::world {
namespace {

RigOptions Options() {
  RigOptions options;
  options.config.guest_mac = kGuestMac;
  return options;
}

class GuestDatagramsTest : public testing::TestWithParam<Family> {
 protected:
  void Ping() {
    const IpSpec ip{.source = Guest(GetParam()), .destination = Peer(GetParam())};
    rig_.link().PushToHost(EthernetFrame(IpPacket(ip, EchoRequest(GetParam(), Bytes(32)))));
    rig_.Settle();
  }
  void Ask() {
    rig_.link().PushToHost(UdpFrame(GetParam(), {.payload = Bytes(32)}));
    rig_.Settle();
  }

  Rig rig_{Options()};
};

TEST_P(GuestDatagramsTest, WithoutASocketEachIsCounted) {
  rig_.host().on_guest_socket = [](const DatagramRequest&) { return EMFILE; };
  Ask();
  EXPECT_EQ(rig_.stack().Snapshot().udp_lost_no_socket, 1u);
  Ping();
  EXPECT_EQ(rig_.stack().Snapshot().udp_lost_no_socket, 2u);
  EXPECT_EQ(rig_.link().waiting_to_guest(), 0u);
}

TEST_P(GuestDatagramsTest, AForbiddenPingIsSaidToTheGuest) {
  rig_.host().on_guest_socket = [](const DatagramRequest&) { return EACCES; };
  Ping();
  EXPECT_EQ(rig_.stack().Snapshot().echo_forbidden, 1u);
  EXPECT_EQ(rig_.stack().Snapshot().host_errors_to_guest, 1u);
  EXPECT_EQ(rig_.link().waiting_to_guest(), 1u);
}

TEST_P(GuestDatagramsTest, OfJoinedDatagramsEachIsFiltered) {
  Ask();
  ASSERT_EQ(rig_.host().guest_sockets().size(), 1u);
  SimDatagrams& socket = *rig_.host().guest_sockets().front();
  socket.join_max = 8;
  const DatagramPath other{.peer = {Peer(GetParam()), 54}};
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(socket.Arrive(other, Bytes(100)));
  rig_.Settle();
  EXPECT_EQ(rig_.stack().Snapshot().udp_filtered, 3u);
  const DatagramPath asked{.peer = {Peer(GetParam()), 53}};
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(socket.Arrive(asked, Bytes(100)));
  rig_.Settle();
  EXPECT_EQ(rig_.stack().Snapshot().udp_datagrams_to_guest, 3u);
}

INSTANTIATE_TEST_SUITE_P(Families, GuestDatagramsTest,
                         testing::Values(Family::kIpv4, Family::kIpv6));

}  // namespace
}  // namespace penstock::world
