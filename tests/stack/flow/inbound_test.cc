// Published TCP ports as host clients and the guest see them: whom the guest is dialled
// for, who refuses and how soon, and that from the handshake on both ends mean what they
// say. RFC 9293 3.5 and 3.10.7.3.
#include <cerrno>
#include <mutex>
#include <optional>
#include <set>
#include <vector>

#include "tests/stack/flow/flow_fixture.h"
#include "tests/support/packet_builder.h"

namespace penstock {
namespace {

constexpr uint16_t kGuestPort = 80;

class InboundTest : public FlowTest {
 protected:
  // A port of the host's loopback that leads to the guest's.
  PublishedPort Publish(ClientIdentity identity = ClientIdentity::kGateway) {
    PortSpec spec{
        .place = {.address = Loopback()}, .guest = {kGuestPort, kGuestPort}, .identity = identity};
    auto rows = guest().stack().Publish(spec);
    EXPECT_TRUE(rows.ok()) << rows.status().message();
    return rows->front();
  }

  [[nodiscard]] IpAddress Loopback() const {
    return v4() ? IpAddress::V4(127, 0, 0, 1) : *IpAddress::Parse("::1");
  }

  // The guest speaks once, so that its MAC address is known.
  void Introduce() {
    if (known_) return;
    known_ = true;
    guest().Flow(9).Send({.flags = kTcpRst});
  }

  // A connection from the host, open at both ends.
  Connection Open(const HandshakeOptions& options = {}) {
    if (!started_) Begin();
    HostSocket client = HostSocket::ConnectTo(port_.bound);
    GuestFlow& flow = guest().Arrived();
    flow.Expect(kTcpSyn);
    flow.Answer(options);
    return {.flow = flow, .host = std::move(client)};
  }

  void Begin(const Config& config = {}, ClientIdentity identity = ClientIdentity::kGateway) {
    started_ = true;
    Start(config);
    Introduce();
    port_ = Publish(identity);
  }

  [[nodiscard]] PublishedPort Row() {
    for (const PublishedPort& row : guest().stack().PublishedPorts()) {
      if (row.id == port_.id) return row;
    }
    return {};
  }

  PublishedPort port_;

 private:
  bool started_ = false;
  bool known_ = false;
};
PENSTOCK_BOTH_FAMILIES(InboundTest);

TEST_P(InboundTest, ClientReachesTheGuestAndBothWaysCarryBytes) {
  Connection connection = Open();
  EXPECT_EQ(connection.flow.guest().port, kGuestPort);
  EXPECT_EQ(connection.flow.destination().address,
            v4() ? guest().config().ipv4.gateway : guest().config().ipv6.gateway);
  ExpectAlive(connection);
  const PublishedPort row = Row();
  EXPECT_EQ(row.flows_live, 1u);
  EXPECT_EQ(row.flows_total, 1u);
  EXPECT_EQ(row.bytes_to_guest, 8u);
  EXPECT_EQ(row.bytes_to_host, 7u);
  EXPECT_EQ(counters().inbound_opened, 1u);
}

// What the client says before the guest has answered arrives, its end too.
TEST_P(InboundTest, ClientThatDoesNotWaitLosesNothing) {
  Begin();
  HostSocket client = HostSocket::ConnectTo(port_.bound);
  client.Write("request");
  client.ShutdownWrite();
  GuestFlow& flow = guest().Arrived();
  flow.Expect(kTcpSyn);
  flow.Answer();
  flow.ReceiveTo(7);
  guest().Until("the end at the guest", [&] { return flow.finished(); });
  EXPECT_EQ(flow.received(), "request");
  flow.Send({.payload = "response"});
  flow.Send({.flags = kTcpFin | kTcpAck});
  ReadToEnd(client);
  EXPECT_EQ(client.received(), "response");
}

// The guest's answer decides: its RST resets the client, and nothing else is needed.
TEST_P(InboundTest, GuestRefusesAndTheClientIsReset) {
  Begin();
  HostSocket client = HostSocket::ConnectTo(port_.bound);
  GuestFlow& flow = guest().Arrived();
  flow.Expect(kTcpSyn);
  flow.Send({.flags = kTcpRst | kTcpAck});
  ExpectReset(client);
  EXPECT_EQ(counters().inbound_refused, 1u);
  ExpectNoFlowLeft();
  EXPECT_EQ(Row().flows_live, 0u);
}

// A RST that answers something else is no answer (RFC 9293 3.10.7.3).
TEST_P(InboundTest, FalseResetWhileDiallingIsIgnored) {
  Begin();
  HostSocket client = HostSocket::ConnectTo(port_.bound);
  GuestFlow& flow = guest().Arrived();
  flow.Expect(kTcpSyn);
  flow.Send({.flags = kTcpRst | kTcpAck, .sequence = 0, .acknowledgement = 77});
  flow.Answer();
  Connection connection{.flow = flow, .host = std::move(client)};
  ExpectAlive(connection);
}

// A guest that never answers costs the client the dial timeout, no more; meanwhile the
// SYN is repeated each second.
TEST_P(InboundTest, SilentGuestIsGivenUpAfterTheDialTimeout) {
  Begin();
  HostSocket client = HostSocket::ConnectTo(port_.bound);
  GuestFlow& flow = guest().Arrived();
  flow.Expect(kTcpSyn);
  for (int i = 0; i < 8; ++i) flow.ExpectWithin(1200ms, kTcpSyn);
  EXPECT_FALSE(client.WasReset());
  guest().Advance(2s);
  ExpectReset(client);
  EXPECT_EQ(counters().inbound_dial_timeout, 1u);
  ExpectNoFlowLeft();
}

// How often the SYN was sent again says nothing of the data: its timeouts begin anew.
TEST_P(InboundTest, TimeoutsOfDataDoNotGoOnFromTheSyns) {
  Begin();
  HostSocket client = HostSocket::ConnectTo(port_.bound);
  GuestFlow& flow = guest().Arrived();
  flow.Expect(kTcpSyn);
  for (int i = 0; i < 7; ++i) flow.ExpectWithin(1200ms, kTcpSyn);
  flow.Answer();
  WriteAll(client, "hello");
  guest().Until("the client's bytes", [&] { return flow.received() == "hello"; });
  flow.Forget();
  for (const Duration timeout : {1200ms, 2400ms, 4800ms}) {
    EXPECT_EQ(flow.ExpectWithin(timeout, kTcpAck).payload, "hello");
  }
}

// Before the guest was heard its MAC address is asked for; once it is known the SYN
// leaves within a tick.
TEST_P(InboundTest, GuestThatIsNotThereYetIsAskedForAndThenDialled) {
  Start();
  port_ = Publish();
  HostSocket client = HostSocket::ConnectTo(port_.bound);
  guest().Until("a question", [&] { return !guest().other_frames().empty(); });
  guest().Advance(3s);
  EXPECT_GE(counters().solicitations_sent, 3u);
  EXPECT_FALSE(client.WasReset());
  Introduce();
  guest().Advance(100ms);
  GuestFlow& flow = guest().Arrived();
  flow.Expect(kTcpSyn);
  flow.Answer();
  Connection connection{.flow = flow, .host = std::move(client)};
  ExpectAlive(connection);
}

// Its first frame comes in the very pass that dials it.
TEST_P(InboundTest, GuestThatSpeaksAsItIsDialledIsNotLeftWaiting) {
  Start();
  port_ = Publish();
  HostSocket client = HostSocket::ConnectTo(port_.bound);
  guest().UntilWoken();  // the client was handed over
  guest().Flow(9).Queue({.flags = kTcpRst});
  guest().Pass();
  guest().Advance(100ms);
  GuestFlow& flow = guest().Arrived();
  flow.Expect(kTcpSyn);
}

TEST_P(InboundTest, GuestThatNeverComesIsGivenUp) {
  Start();
  port_ = Publish();
  HostSocket client = HostSocket::ConnectTo(port_.bound);
  guest().Until("a question", [&] { return !guest().other_frames().empty(); });
  guest().Advance(11s);
  ExpectReset(client);
}

// A firewall's ICMP error about the SYN is a refusal too.
TEST_P(InboundTest, GuestsFirewallRefuses) {
  Begin();
  HostSocket client = HostSocket::ConnectTo(port_.bound);
  GuestFlow& flow = guest().Arrived();
  flow.Expect(kTcpSyn);
  const Bytes frame = EncodeFrame(guest().macs(), flow.AsSent(0)).bytes;
  const Bytes quote(frame.begin() + kIpAt, frame.end());
  Bytes body{
      static_cast<uint8_t>(v4() ? 3 : 1), static_cast<uint8_t>(v4() ? 3 : 4), 0, 0, 0, 0, 0, 0};
  body.insert(body.end(), quote.begin(), quote.end());
  const Transport icmp{.protocol = static_cast<uint8_t>(v4() ? 1 : 58), .bytes = body};
  Bytes error =
      IpPacket({.source = flow.guest().address, .destination = flow.destination().address}, icmp);
  guest().QueueFrame({.bytes = EthernetFrame(error, {.source = guest().macs().source})});
  guest().Pump();
  ExpectReset(client);
  EXPECT_EQ(counters().inbound_refused, 1u);
}

// The client goes away while the guest is dialled: the guest's late answer is reset.
TEST_P(InboundTest, ClientResetsWhileTheGuestIsDialled) {
  Begin();
  HostSocket client = HostSocket::ConnectTo(port_.bound);
  GuestFlow& flow = guest().Arrived();
  flow.Expect(kTcpSyn);
  client.Reset();
  guest().Until("a reset", [&] { return flow.reset(); });
  ExpectNoFlowLeft();
}

TEST_P(InboundTest, HookRefusesAndTheClientIsReset) {
  Config config;
  std::mutex mutex;  // the hook is the relay thread's
  std::vector<IngressRequest> asked;
  config.ingress_hook = [&](const IngressRequest& request) {
    const std::lock_guard lock(mutex);
    asked.push_back(request);
    return false;
  };
  Begin(config);
  HostSocket client = HostSocket::ConnectTo(port_.bound);
  ExpectReset(client);
  EXPECT_EQ(counters().inbound_denied, 1u);
  EXPECT_EQ(counters().inbound_opened, 0u);
  const std::lock_guard lock(mutex);
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0].client, client.own());
  EXPECT_EQ(asked[0].host, port_.bound);
  EXPECT_EQ(asked[0].guest_port, kGuestPort);
}

TEST_P(InboundTest, FlowLimitResetsTheClient) {
  Config config;
  config.flow_count_max = config.half_open_count_max = config.half_open_per_destination_max = 1;
  Begin(config);
  HostSocket first = HostSocket::ConnectTo(port_.bound);
  GuestFlow& flow = guest().Arrived();
  flow.Expect(kTcpSyn);
  flow.Answer();
  HostSocket second = HostSocket::ConnectTo(port_.bound);
  ExpectReset(second);
  EXPECT_EQ(counters().inbound_refused_limit, 1u);
  Connection connection{.flow = flow, .host = std::move(first)};
  ExpectAlive(connection);
}

TEST_P(InboundTest, StackThatGoesAwayResetsTheClient) {
  Connection connection = Open();
  HostSocket waiting = HostSocket::ConnectTo(port_.bound);
  guest().Arrived();
  guest().DestroyStack();
  EXPECT_TRUE(connection.host.WasReset());
  EXPECT_TRUE(waiting.WasReset());
}

TEST_P(InboundTest, GuestEndsFirstAndStillReads) {
  Connection connection = Open();
  connection.flow.Send({.flags = kTcpFin | kTcpAck, .payload = "bye"});
  ReadToEnd(connection.host);
  EXPECT_EQ(connection.host.received(), "bye");
  WriteAll(connection.host, "and you");
  connection.flow.ReceiveTo(7);
  connection.host.ShutdownWrite();
  guest().Until("the end", [&] { return connection.flow.finished(); });
  connection.flow.Send({});
  ExpectNoFlowLeft();
  EXPECT_EQ(counters().flows_closed, 1u);
}

TEST_P(InboundTest, ResetsGoThroughInBothDirections) {
  Connection by_guest = Open();
  by_guest.flow.Send({.flags = kTcpRst | kTcpAck});
  ExpectReset(by_guest.host);
  Connection by_client = Open();
  by_client.host.Reset();
  guest().Until("a reset", [&] { return by_client.flow.reset(); });
  ExpectNoFlowLeft();
}

// The guest's MSS and window scale count, whoever opened the connection.
TEST_P(InboundTest, SmallSegmentsAndScaledWindows) {
  Connection connection = Open({.mss = 536, .window_scale = 4, .window = 2'000});
  const std::string text = Pattern(60'000);
  WriteAll(connection.host, text);
  connection.flow.ReceiveTo(text.size());
  EXPECT_EQ(connection.flow.received(), text);
  const std::string back = Pattern(300'000, 2);
  connection.flow.SendAll(back);
  ReadTo(connection.host, back.size());
  EXPECT_EQ(connection.host.received(), back);
}

// Where many flows share the buffers, a new one starts with a window of 16 KiB or less,
// whether or not the guest's SYN-ACK has a window scale.
TEST_P(InboundTest, SmallWindowsWhereManyShareTheBuffers) {
  Config config;
  config.buffer_bytes_max = 1 << 20;
  Begin(config);
  std::vector<Connection> connections;
  for (int i = 0; i < 20; ++i) {
    connections.push_back(
        Open({.window_scale = i % 2 == 0 ? std::optional<uint8_t>(4) : std::nullopt}));
  }
  for (Connection& connection : connections) ExpectAlive(connection);
  EXPECT_LE(connections.back().flow.window_left(), 16'384u);
}

TEST_P(InboundTest, NoLiveTupleIsUsedTwice) {
  Begin();
  std::set<uint16_t> ports;
  std::vector<HostSocket> clients;
  for (int i = 0; i < 50; ++i) {
    clients.push_back(HostSocket::ConnectTo(port_.bound));
    GuestFlow& flow = guest().Arrived();
    flow.Expect(kTcpSyn);
    EXPECT_TRUE(ports.insert(flow.destination().port).second);
    EXPECT_GE(flow.destination().port, 32'768);
  }
}

// From loopback the guest could not answer the client's own address.
TEST_P(InboundTest, LoopbackClientNeverShowsItsAddress) {
  Begin({}, ClientIdentity::kPreserveSource);
  HostSocket client = HostSocket::ConnectTo(port_.bound);
  GuestFlow& flow = guest().Arrived();
  EXPECT_EQ(flow.destination().address,
            v4() ? guest().config().ipv4.gateway : guest().config().ipv6.gateway);
  flow.Expect(kTcpSyn);
  flow.Answer();
  Connection connection{.flow = flow, .host = std::move(client)};
  ExpectAlive(connection);
}

TEST_P(InboundTest, ProxyHeaderComesBeforeTheClientsBytes) {
  Begin({}, ClientIdentity::kProxyProtocol);
  HostSocket client = HostSocket::ConnectTo(port_.bound);
  client.Write("hello");
  GuestFlow& flow = guest().Arrived();
  flow.Expect(kTcpSyn);
  flow.Answer();
  const size_t header_bytes = v4() ? 28 : 52;
  flow.ReceiveTo(header_bytes + 5);
  const std::string& got = flow.received();
  ASSERT_EQ(got.size(), header_bytes + 5);
  EXPECT_EQ(got.substr(0, 12), std::string("\r\n\r\n\0\r\nQUIT\n", 12));
  EXPECT_EQ(static_cast<uint8_t>(got[12]), 0x21);
  EXPECT_EQ(static_cast<uint8_t>(got[13]), v4() ? 0x11 : 0x21);
  const size_t ports = header_bytes - 4;
  const auto port_at = [&](size_t at) {
    return static_cast<uint8_t>(got[at]) << 8 | static_cast<uint8_t>(got[at + 1]);
  };
  EXPECT_EQ(port_at(ports), client.own().port);
  EXPECT_EQ(port_at(ports + 2), port_.bound.port);
  EXPECT_EQ(got.substr(header_bytes), "hello");
}

TEST_P(InboundTest, PortsAreGoneThroughOneByOne) {
  const Connection connection = Open();
  const PublishedPort second = Publish(ClientIdentity::kGateway);
  const std::optional<PublishedPort> row = guest().stack().NextPublishedPort(0);
  ASSERT_TRUE(row);
  EXPECT_EQ(row->bound, port_.bound);
  EXPECT_EQ(row->flows_total, 1u);
  ASSERT_TRUE(guest().stack().Unpublish(std::span(&port_.id, 1), LiveFlows::kKeep).ok());
  const std::optional<PublishedPort> next = guest().stack().NextPublishedPort(port_.id);
  ASSERT_TRUE(next) << "behind one that is gone";
  EXPECT_EQ(next->id, second.id);
  EXPECT_FALSE(guest().stack().NextPublishedPort(second.id));
}

TEST_P(InboundTest, RemovedPortRefusesAndKeepsOrCutsItsFlows) {
  Connection kept = Open();
  const uint32_t id = port_.id;
  ASSERT_TRUE(guest().stack().Unpublish(std::span(&id, 1), LiveFlows::kKeep).ok());
  EXPECT_TRUE(guest().stack().PublishedPorts().empty());
  EXPECT_THROW((void)HostSocket::ConnectTo(port_.bound).WasReset(), std::system_error);
  ExpectAlive(kept);
  EXPECT_EQ(guest().stack().Unpublish(std::span(&id, 1), LiveFlows::kKeep).code(),
            absl::StatusCode::kNotFound);

  port_ = Publish();
  Connection cut = Open();
  const uint32_t second = port_.id;
  EXPECT_NE(second, id);
  ASSERT_TRUE(guest().stack().Unpublish(std::span(&second, 1), LiveFlows::kReset).ok());
  ExpectReset(cut.host);
  EXPECT_TRUE(cut.flow.reset());
  ExpectAlive(kept);
  EXPECT_EQ(counters().inbound_cut, 1u);
}

TEST_P(InboundTest, PortsAreRemovedBySelector) {
  Begin();
  const PortSelector all{.host = {1, 65535}};
  const PortSelector none{
      .host = {1, 65535}, .guest = PortRange{1, 65535}, .protocol = PortProtocol::kUdp};
  EXPECT_TRUE(absl::IsNotFound(guest().stack().Unpublish(none, LiveFlows::kKeep)));
  EXPECT_FALSE(guest().stack().PublishedPorts().empty());
  EXPECT_TRUE(guest().stack().Unpublish(all, LiveFlows::kKeep).ok());
  EXPECT_TRUE(guest().stack().PublishedPorts().empty());
}

// A guest that is slow to answer: the burst waits in the kernel's backlog, and nobody is
// refused.
TEST_P(InboundTest, BurstWaitsWhileTheGuestOwesAnswers) {
  Config config;
  config.half_open_per_destination_max = 2;
  Begin(config);
  constexpr size_t kClients = 5;
  std::vector<HostSocket> clients;
  for (size_t i = 0; i < kClients; ++i) clients.push_back(HostSocket::ConnectTo(port_.bound));
  std::vector<GuestFlow*> flows;
  for (size_t i = 0; i < 2; ++i) {
    flows.push_back(&guest().Arrived());
    flows.back()->Expect(kTcpSyn);
  }
  // Whatever the relay does meanwhile, it hands nobody over.
  (void)guest().StaysQuiet();
  guest().Pump();
  EXPECT_EQ(counters().inbound_opened, 2u);
  for (size_t i = 0; i < kClients; ++i) {
    flows[i]->Answer();
    if (flows.size() == kClients) continue;
    flows.push_back(&guest().Arrived());
    flows.back()->Expect(kTcpSyn);
  }
  for (HostSocket& client : clients) EXPECT_FALSE(client.WasReset());
  EXPECT_EQ(counters().flows_established, kClients);
}

// One port of a range is taken: the error names it, and the others are free again.
TEST_P(InboundTest, RangeIsPublishedAsAWholeOrNotAtAll) {
  Begin();
  const HostListener taken(GetParam());
  const uint16_t first = taken.port() - 1;
  const auto publish = [&](uint16_t from, uint16_t to) {
    return guest().stack().Publish({.place = {.address = Loopback()},
                                    .host = {from, to},
                                    .guest = {100, static_cast<uint16_t>(100 + to - from)}});
  };
  const auto refused = publish(first, taken.port());
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kAlreadyExists);
  const Endpoint conflict{Loopback(), taken.port()};
  EXPECT_NE(std::string(refused.status().message()).find(conflict.ToString()), std::string::npos)
      << refused.status().message();
  EXPECT_EQ(guest().stack().PublishedPorts().size(), 1u);
  EXPECT_TRUE(publish(first, first).ok());
}

TEST_P(InboundTest, WrongPlacesAreNamed) {
  Begin();
  const PortRange port{kGuestPort, kGuestPort};
  const IpAddress nobodys = v4() ? IpAddress::V4(192, 0, 2, 1) : *IpAddress::Parse("2001:db8::1");
  EXPECT_EQ(guest().stack().Publish({.place = {.address = nobodys}, .guest = port}).status().code(),
            absl::StatusCode::kNotFound);
  const BindPlace nowhere{.kind = BindPlace::Kind::kInterface, .interface = "no-such"};
  const auto status = guest().stack().Publish({.place = nowhere, .guest = port}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_NE(std::string(status.message()).find("no-such"), std::string::npos) << status.message();
}

// Everywhere: one socket of each family, with one port that the system chose.
TEST_P(InboundTest, EverywhereIsBothFamiliesAndOnePort) {
  Begin();
  const auto rows = guest().stack().Publish(
      {.place = {.kind = BindPlace::Kind::kEverywhere}, .guest = {kGuestPort, kGuestPort}});
  ASSERT_TRUE(rows.ok()) << rows.status().message();
  ASSERT_EQ(rows->size(), 2u);
  EXPECT_EQ((*rows)[0].bound.port, (*rows)[1].bound.port);
  EXPECT_EQ((*rows)[0].exposure, Exposure::kEverywhere);
  HostSocket client = HostSocket::ConnectTo({Loopback(), (*rows)[0].bound.port});
  GuestFlow& flow = guest().Arrived();
  EXPECT_EQ(flow.guest().address.family, GetParam());
  flow.Expect(kTcpSyn);
  flow.Answer();
  Connection connection{.flow = flow, .host = std::move(client)};
  ExpectAlive(connection);
}

// The address is free when Unpublish returns.
TEST_P(InboundTest, PortComesBackAtTheSameAddress) {
  Begin();
  for (int i = 0; i < 20; ++i) {
    const uint32_t id = port_.id;
    ASSERT_TRUE(guest().stack().Unpublish(std::span(&id, 1), LiveFlows::kReset).ok());
    auto rows = guest().stack().Publish({.place = {.address = Loopback()},
                                         .host = {port_.bound.port, port_.bound.port},
                                         .guest = {kGuestPort, kGuestPort}});
    ASSERT_TRUE(rows.ok()) << rows.status().message();
    port_ = rows->front();
    EXPECT_EQ(port_.bound.port, rows->front().bound.port);
  }
}

}  // namespace
}  // namespace penstock
