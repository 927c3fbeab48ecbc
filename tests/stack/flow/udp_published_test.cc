// Published UDP ports of a whole stack: sockets of the host's kernel, the publisher, a
// relay thread, and a guest whose UDP is the test's (tests/support/udp_guest.h).
#include <algorithm>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "tests/stack/flow/flow_fixture.h"
#include "tests/support/packet_builder.h"
#include "tests/support/sandbox_datagram.h"
#include "tests/support/udp_guest.h"

namespace penstock {
namespace {

constexpr uint16_t kGuestUdpPort = 53;

class UdpPublishedTest : public FlowTest {
 protected:
  void Begin(Config config = {}) {
    config.guest_mac = kGuestMac;
    Start(config);
  }
  [[nodiscard]] PortSpec Spec() const {
    return {.place = {.address = Loopback()},
            .guest = {kGuestUdpPort, kGuestUdpPort},
            .protocol = PortProtocol::kUdp};
  }
  PublishedPort Publish() {
    const auto rows = guest().stack().Publish(Spec());
    EXPECT_TRUE(rows.ok()) << rows.status().message();
    return rows->front();
  }
  [[nodiscard]] IpAddress Loopback() const {
    return v4() ? IpAddress::V4(127, 0, 0, 1) : *IpAddress::Parse("::1");
  }

  // The next datagram that reaches the guest.
  GuestDatagram Arrived() {
    GuestDatagram arrived;
    guest().Until("a datagram at the guest", [&] {
      while (taken_ < guest().other_frames().size()) {
        if (auto datagram = udp_.Take(guest().other_frames()[taken_++])) {
          arrived = *std::move(datagram);
          return true;
        }
      }
      return false;
    });
    return arrived;
  }
  void Answer(const GuestDatagram& question, std::string_view text) {
    guest().SendFrames(udp_.Frames({.source = question.destination,
                                    .destination = question.source,
                                    .payload = {text.begin(), text.end()}}));
  }
  [[nodiscard]] std::string TextOf(const GuestDatagram& datagram) const {
    return {datagram.payload.begin(), datagram.payload.end()};
  }
  [[nodiscard]] bool IsFree(const Endpoint& address) const {
    e2e::UdpSocket socket(GetParam());
    try {
      socket.Bind(address);
      return true;
    } catch (const std::system_error&) {
      return false;
    }
  }

 private:
  UdpGuest udp_;
  size_t taken_ = 0;
};
PENSTOCK_BOTH_FAMILIES(UdpPublishedTest);

TEST_P(UdpPublishedTest, ClientReachesTheGuestAndIsAnswered) {
  Begin();
  const PublishedPort port = Publish();
  EXPECT_EQ(port.protocol, PortProtocol::kUdp);
  EXPECT_EQ(port.guest, (Endpoint{Guest(GetParam()), kGuestUdpPort}));
  EXPECT_EQ(port.exposure, Exposure::kLoopback);
  EXPECT_FALSE(IsFree(port.bound));
  e2e::UdpSocket client(GetParam());
  client.SendTo(port.bound, "a question");
  const GuestDatagram question = Arrived();
  EXPECT_EQ(TextOf(question), "a question");
  EXPECT_EQ(question.destination, port.guest);
  Answer(question, "an answer");
  const e2e::UdpSocket::Datagram answer = client.Receive();
  EXPECT_EQ(answer.text, "an answer");
  EXPECT_EQ(answer.from, port.bound);

  const std::vector<PublishedPort> rows = guest().stack().PublishedPorts();
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].id, port.id);
  EXPECT_EQ(rows[0].flows_live, 1u);
  EXPECT_EQ(rows[0].flows_total, 1u);
  EXPECT_EQ(rows[0].bytes_to_guest, 10u);
  EXPECT_EQ(rows[0].bytes_to_host, 9u);
  EXPECT_EQ(counters().udp_peers, 1u);
}

TEST_P(UdpPublishedTest, SixtyThousandBytesBothWays) {
  Begin();
  const PublishedPort port = Publish();
  e2e::UdpSocket client(GetParam());
  const std::string text = Pattern(60'000);
  client.SendTo(port.bound, text);
  const GuestDatagram question = Arrived();
  EXPECT_TRUE(TextOf(question) == text);
  Answer(question, text);
  EXPECT_TRUE(client.Receive().text == text);
  EXPECT_EQ(counters().fragments_held, 0u);
}

// Time is Poll's: nothing here waits for two minutes.
TEST_P(UdpPublishedTest, AForgottenPeerIsNotAnswered) {
  Begin();
  const PublishedPort port = Publish();
  e2e::UdpSocket client(GetParam());
  client.SendTo(port.bound, "?");
  const GuestDatagram question = Arrived();
  for (int i = 0; i < 3; ++i) {
    guest().Advance(119s);
    Answer(question, "still there");
    EXPECT_EQ(client.Receive().text, "still there");
  }
  EXPECT_EQ(guest().deadline(), guest().now() + 120s) << "nothing else is due";
  guest().Advance(120s);
  EXPECT_EQ(counters().udp_peers, 0u);
  EXPECT_EQ(guest().deadline(), kNever);
  Answer(question, "too late");
  EXPECT_EQ(counters().udp_datagrams_to_host, 3u);
  EXPECT_EQ(counters().drops_of(DropCause::kUdpRefused), 1u);
  EXPECT_FALSE(client.TryReceive(Duration{}).has_value());
}

TEST_P(UdpPublishedTest, TheHookDeniesAndAllows) {
  Config config;
  bool allow = false;
  config.ingress_hook = [&](const IngressRequest& request) {
    EXPECT_EQ(request.protocol, PortProtocol::kUdp);
    EXPECT_EQ(request.guest_port, kGuestUdpPort);
    return allow;
  };
  Begin(config);
  const PublishedPort port = Publish();
  e2e::UdpSocket client(GetParam());
  client.SendTo(port.bound, "no");
  guest().Until("a denial", [&] { return counters().udp_denied == 1; });
  allow = true;
  client.SendTo(port.bound, "yes");
  EXPECT_EQ(TextOf(Arrived()), "yes");
}

TEST_P(UdpPublishedTest, RemovedAtOnce) {
  Begin();
  const PublishedPort port = Publish();
  const PublishedPort other = Publish();
  e2e::UdpSocket client(GetParam());
  client.SendTo(port.bound, "?");
  const GuestDatagram question = Arrived();
  for (int i = 0; i < 20; ++i) client.SendTo(port.bound, "under way");
  const uint32_t ids[] = {port.id};
  EXPECT_TRUE(guest().stack().Unpublish(ids, LiveFlows::kKeep).ok());
  EXPECT_TRUE(IsFree(port.bound));
  EXPECT_EQ(guest().stack().PublishedPorts().size(), 1u);
  EXPECT_TRUE(absl::IsNotFound(guest().stack().Unpublish(ids, LiveFlows::kKeep)));
  guest().Pump();
  Answer(question, "to nobody");
  EXPECT_EQ(counters().udp_datagrams_to_host, 0u);
  // The other one lives.
  client.SendTo(other.bound, "other");
  GuestDatagram arrived = Arrived();
  while (TextOf(arrived) == "under way") arrived = Arrived();
  EXPECT_EQ(TextOf(arrived), "other");
  // And its number is free to be published again.
  PortSpec again = Spec();
  again.host = {port.bound.port, port.bound.port};
  EXPECT_TRUE(guest().stack().Publish(again).ok());
}

TEST_P(UdpPublishedTest, AllPortsOfARangeOrNone) {
  Begin();
  e2e::UdpSocket taken(GetParam());
  taken.Bind({Loopback(), 0});
  const uint16_t last = taken.own().port;
  PortSpec spec = Spec();
  spec.host = {static_cast<uint16_t>(last - 2), last};
  spec.guest = {1'000, 1'002};
  const auto rows = guest().stack().Publish(spec);
  EXPECT_TRUE(absl::IsAlreadyExists(rows.status())) << rows.status();
  EXPECT_TRUE(guest().stack().PublishedPorts().empty());
  guest().Pump();
}

TEST_P(UdpPublishedTest, DestroyedWithDatagramsUnderWay) {
  Begin();
  const PublishedPort port = Publish();
  e2e::UdpSocket client(GetParam());
  client.SendTo(port.bound, "?");
  const GuestDatagram question = Arrived();
  for (int i = 0; i < 20; ++i) client.SendTo(port.bound, "under way");
  Answer(question, "under way");
  guest().DestroyStack();
  EXPECT_TRUE(IsFree(port.bound));
}

// A guest that has not spoken yet is asked who it is.
TEST_P(UdpPublishedTest, AGuestWhoseMacIsUnknownIsSolicited) {
  Start(Config{});
  const PublishedPort port = Publish();
  e2e::UdpSocket client(GetParam());
  client.SendTo(port.bound, "lost");
  guest().Until("a loss", [&] { return counters().udp_lost_no_guest == 1; });
  EXPECT_EQ(counters().solicitations_sent, 1u);
}

}  // namespace
}  // namespace penstock
