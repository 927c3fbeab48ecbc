// Published UDP ports on the stack's side, with the relay's end of the pipes played by the
// test: contents and peers both ways, identities, refusals, full links and queues, the end
// of a port.
#include "stack/flow/udp_ports.h"

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "publisher/proxy_header.h"
#include "tests/support/memory_link.h"
#include "tests/support/udp_guest.h"

namespace penstock {
namespace {

using namespace std::chrono_literals;

Bytes Text(std::string_view text) { return {text.begin(), text.end()}; }
Bytes Pattern(size_t count) {
  Bytes bytes(count);
  uint32_t state = 12'345;
  for (uint8_t& byte : bytes)
    byte = static_cast<uint8_t>((state = state * 1'664'525 + 1'013'904'223) >> 24);
  return bytes;
}

DatagramPath From(const char* address, uint16_t port) { return {.peer = {Address(address), port}}; }

// The relay's end of one port.
struct PlayedTask {
  std::shared_ptr<DatagramPipe> pipe = std::make_shared<DatagramPipe>();
  uint64_t bytes_out = 0;
};

class UdpPortsTest : public testing::Test {
 protected:
  void SetUp() override { Make(); }
  void Make() {
    ports_.reset();
    ports_.emplace(config_, to_guest_, ends_, counters_, gate_,
                   [this](const IpAddress& guest) { solicited_.push_back(guest); });
    now_ += 1h;
  }
  void TearDown() override {
    relay_->Shutdown();
    ends_.ShutdownBatch();
    ports_->Shutdown();
    EXPECT_EQ(relay_->datagrams().bytes_out(), 0u);
    EXPECT_EQ(guest_.malformed(), 0u);
    EXPECT_LE(guest_.largest_packet(), config_.mtu);
  }

  PlayedTask& Publish(uint32_t id, PublishedPort info = {}) {
    info.id = id;
    info.protocol = PortProtocol::kUdp;
    if (info.guest == Endpoint{}) info.guest = {kGuest4, 53};
    if (info.bound == Endpoint{}) info.bound = {Address("127.0.0.1"), 5'353};
    PlayedTask& task = tasks_[id];
    ports_->Add(info, task.pipe, *relay_);
    return task;
  }
  // `segment_bytes` not 0: several datagrams in one.
  void Arrive(PlayedTask& task, const DatagramPath& from, const Bytes& bytes,
              uint16_t segment_bytes = 0) {
    Datagram* datagram =
        relay_->datagrams().Take(static_cast<uint32_t>(bytes.size()), task.bytes_out);
    ASSERT_NE(datagram, nullptr);
    std::copy(bytes.begin(), bytes.end(), datagram->data);
    datagram->path = from;
    datagram->segment_bytes = segment_bytes;
    task.pipe->to_guest.Push(datagram);
    relay_->TellStack(*task.pipe);
  }
  // One pass, with these frames of the guest's.
  void Pass(const std::vector<Bytes>& frames = {}) {
    batch_.SetTime(now_);
    ports_->BeginPass(now_);
    ends_.TakeFromRelays();
    taken_.clear();
    for (const Bytes& frame : frames) {
      const Parsed parsed = ParseFrame(frame);
      ASSERT_TRUE(parsed.ok()) << parsed.outcome();
      taken_.push_back(ports_->FromGuest(parsed.packet()));
    }
    served_ = ends_.ServeReady(512);
    (void)batch_.Flush();
    ends_.AfterFlush();
    ends_.RingRelays();
    while (const auto frame = link_->PopToGuest()) {
      if (auto datagram = guest_.Take(frame->bytes, frame->offload)) {
        received_.push_back(*std::move(datagram));
      }
    }
  }
  // What the guest got since the last call.
  std::vector<GuestDatagram> Received() { return std::exchange(received_, {}); }
  // The guest sends, in one pass. True if it was for a peer.
  bool GuestSends(const GuestDatagram& datagram) {
    Pass(guest_.Frames(datagram, 65'535));
    return taken_.front();
  }
  bool GuestAnswers(const GuestDatagram& question, const Bytes& bytes) {
    return GuestSends(
        {.source = question.destination, .destination = question.source, .payload = bytes});
  }
  // What the relay would send; given back.
  std::vector<std::pair<DatagramPath, Bytes>> Sent(PlayedTask& task) {
    std::vector<std::pair<DatagramPath, Bytes>> sent;
    for (Datagram* datagram = task.pipe->to_host.TakeInOrder(); datagram != nullptr;) {
      sent.emplace_back(datagram->path, Bytes(datagram->data, datagram->data + datagram->length));
      Datagram* next = datagram->next;
      task.pipe->sent.Push(datagram);
      datagram = next;
    }
    relay_->TellStackLater(*task.pipe);
    return sent;
  }
  void TakeHome(PlayedTask& task) {
    relay_->datagrams().GiveAll(task.pipe->delivered.TakeAll(), task.bytes_out);
  }
  // The one datagram that the guest gets for this.
  GuestDatagram Through(PlayedTask& task, const DatagramPath& from, const Bytes& bytes) {
    Arrive(task, from, bytes);
    Pass();
    const auto received = Received();
    EXPECT_EQ(received.size(), 1u);
    return received.empty() ? GuestDatagram{} : received.front();
  }
  uint64_t Live(uint32_t id) {
    PublishedPort row{.id = id};
    EXPECT_TRUE(ports_->Describe(row));
    return row.flows_live;
  }

  Config config_;
  LinkCapabilities capabilities_;
  LinkAddresses addresses_{
      .gateway_mac = kGatewayMac, .guest_mac = kGuestMac, .guest4 = kGuest4, .guest6 = kGuest6};
  std::unique_ptr<MemoryLink> link_ = std::make_unique<MemoryLink>();
  Counters counters_;
  FrameBatch batch_{*link_, counters_};
  boost::asio::io_context io_;
  Doorbell stack_bell_;
  std::shared_ptr<Relay> relay_ = std::make_shared<Relay>(io_, RelayOptions{}, stack_bell_);
  std::map<uint32_t, PlayedTask> tasks_;
  DatagramsToGuest to_guest_{config_, capabilities_, addresses_, batch_, counters_};
  DatagramEnds ends_{batch_, counters_, {relay_.get()}};
  Gate gate_{config_, counters_};
  std::optional<UdpPorts> ports_;
  UdpGuest guest_;
  Time now_{1h};
  std::vector<bool> taken_;
  bool served_ = true;
  std::vector<IpAddress> solicited_;
  std::vector<GuestDatagram> received_;
};

TEST_F(UdpPortsTest, AQuestionAndItsAnswer) {
  PlayedTask& task = Publish(1);
  const DatagramPath client = From("127.0.0.1", 40'000);
  const GuestDatagram question = Through(task, client, Text("a question"));
  EXPECT_EQ(question.payload, Text("a question"));
  EXPECT_EQ(question.destination, (Endpoint{kGuest4, 53}));
  EXPECT_EQ(question.source.address, kGateway4);
  EXPECT_GE(question.source.port, kLeaseFirst);
  TakeHome(task);
  EXPECT_EQ(task.bytes_out, 0u) << "the relay's buffer came back with the pass";

  EXPECT_TRUE(GuestAnswers(question, Text("an answer")));
  const auto sent = Sent(task);
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].first, client);
  EXPECT_EQ(sent[0].second, Text("an answer"));

  PublishedPort row{.id = 1};
  ASSERT_TRUE(ports_->Describe(row));
  EXPECT_EQ(row.flows_live, 1u);
  EXPECT_EQ(row.flows_total, 1u);
  EXPECT_EQ(row.bytes_to_guest, 10u);
  EXPECT_EQ(row.bytes_to_host, 9u);
  EXPECT_EQ(counters_.udp_datagrams_to_guest.value(), 1u);
  EXPECT_EQ(counters_.udp_bytes_to_guest.value(), 10u);
  EXPECT_EQ(counters_.udp_datagrams_to_host.value(), 1u);
  EXPECT_EQ(counters_.udp_bytes_to_host.value(), 9u);
  EXPECT_EQ(counters_.frames_consumed.value(), 1u);
  row.id = 2;
  EXPECT_FALSE(ports_->Describe(row));
}

TEST_F(UdpPortsTest, EmptyDatagramsAreDatagrams) {
  PlayedTask& task = Publish(1);
  const GuestDatagram question = Through(task, From("127.0.0.1", 40'000), {});
  EXPECT_TRUE(question.payload.empty());
  EXPECT_TRUE(GuestAnswers(question, {}));
  const auto sent = Sent(task);
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_TRUE(sent[0].second.empty());
}

TEST_F(UdpPortsTest, AnswersGoToThePeerThatAskedAndNobodyElse) {
  PlayedTask& task = Publish(1);
  std::vector<GuestDatagram> questions;
  for (uint16_t i = 0; i < 100; ++i) {
    questions.push_back(Through(task, From("127.0.0.1", 40'000 + i), Text(std::to_string(i))));
  }
  for (size_t i = 100; i-- > 0;) EXPECT_TRUE(GuestAnswers(questions[i], questions[i].payload));
  const auto sent = Sent(task);
  ASSERT_EQ(sent.size(), 100u);
  for (const auto& [path, bytes] : sent) {
    EXPECT_EQ(Text(std::to_string(path.peer.port - 40'000)), bytes);
  }
}

TEST_F(UdpPortsTest, WhatAnswersNobodyIsNotTaken) {
  PlayedTask& task = Publish(1);
  const GuestDatagram question = Through(task, From("127.0.0.1", 40'000), Text("?"));
  GuestDatagram answer{.source = question.destination, .destination = question.source};
  GuestDatagram wrong = answer;
  ++wrong.source.port;
  EXPECT_FALSE(GuestSends(wrong)) << "from another port of the guest's";
  wrong = answer;
  ++wrong.destination.port;
  EXPECT_FALSE(GuestSends(wrong)) << "to a gateway port that is nobody's";
  wrong = answer;
  wrong.destination.address = kPeer4;
  EXPECT_FALSE(GuestSends(wrong)) << "to another address";
  EXPECT_TRUE(Sent(task).empty());
  EXPECT_EQ(counters_.frames_consumed.value(), 0u);
  EXPECT_TRUE(GuestSends(answer));
}

TEST_F(UdpPortsTest, APeerExpiresAndBothDirectionsRefreshIt) {
  PlayedTask& task = Publish(1);
  const DatagramPath client = From("127.0.0.1", 40'000);
  EXPECT_EQ(ports_->NextDeadline(), kNever);
  const GuestDatagram question = Through(task, client, Text("?"));
  EXPECT_EQ(ports_->NextDeadline(), now_ + 120s);
  now_ += 119s;
  EXPECT_TRUE(GuestAnswers(question, Text("late"))) << "the guest's traffic refreshes";
  EXPECT_EQ(ports_->NextDeadline(), now_ + 120s);
  now_ += 119s;
  EXPECT_TRUE(GuestAnswers(question, Text("again")));
  now_ += 119s;
  EXPECT_EQ(Through(task, client, Text("?")).source, question.source) << "and so does the peer's";
  now_ += 119s;
  EXPECT_TRUE(GuestAnswers(question, Text("still")));
  EXPECT_EQ(Sent(task).size(), 3u);
  now_ += 120s;
  EXPECT_FALSE(GuestAnswers(question, Text("too late")));
  EXPECT_TRUE(Sent(task).empty());
  EXPECT_EQ(Live(1), 0u);
  EXPECT_EQ(counters_.udp_peers_expired.value(), 1u);
  EXPECT_EQ(ports_->NextDeadline(), kNever);
  EXPECT_NE(Through(task, client, Text("?")).source, question.source) << "a new peer";
}

TEST_F(UdpPortsTest, AnEvictedPeersAnswersGoToNobody) {
  config_.udp_peer_count_max = 2;
  Make();
  PlayedTask& task = Publish(1);
  const GuestDatagram first = Through(task, From("127.0.0.1", 40'001), Text("1"));
  const GuestDatagram second = Through(task, From("127.0.0.1", 40'002), Text("2"));
  const GuestDatagram third = Through(task, From("127.0.0.1", 40'003), Text("3"));
  EXPECT_EQ(Live(1), 2u);
  EXPECT_FALSE(GuestAnswers(first, Text("1")));
  EXPECT_TRUE(GuestAnswers(third, Text("3")));
  EXPECT_TRUE(GuestAnswers(second, Text("2")));
  const auto sent = Sent(task);
  ASSERT_EQ(sent.size(), 2u);
  EXPECT_EQ(sent[0].first.peer.port, 40'003);
  EXPECT_EQ(sent[1].first.peer.port, 40'002);
}

TEST_F(UdpPortsTest, LongDatagramsAreFragmentedToTheMtu) {
  PlayedTask& task = Publish(1);
  PlayedTask& task6 = Publish(2, {.bound = {Address("::1"), 53}, .guest = {kGuest6, 53}});
  for (const size_t count : {1'452, 1'453, 1'472, 1'473, 9'000, 60'000, 65'507}) {
    const Bytes bytes = Pattern(count);
    EXPECT_EQ(Through(task, From("127.0.0.1", 40'000), bytes).payload, bytes) << count;
    EXPECT_EQ(Through(task6, From("::1", 40'000), bytes).payload, bytes) << count;
  }
  EXPECT_EQ(Through(task6, From("::1", 40'000), Pattern(65'527)).payload, Pattern(65'527));
  EXPECT_EQ(guest_.largest_packet(), 1'500u);
  TakeHome(task), TakeHome(task6);
  EXPECT_EQ(task.bytes_out + task6.bytes_out, 0u);
}

TEST_F(UdpPortsTest, LongDatagramsOfTheGuest) {
  PlayedTask& task = Publish(1);
  const GuestDatagram question = Through(task, From("127.0.0.1", 40'000), Text("?"));
  const Bytes bytes = Pattern(1'400);
  EXPECT_TRUE(GuestAnswers(question, bytes));
  const auto sent = Sent(task);
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].second, bytes);
}

// A datagram of a v6 client may be longer than IPv4 can carry.
TEST_F(UdpPortsTest, TooLongForTheGuestsFamilyIsDroppedAndCounted) {
  PlayedTask& task = Publish(1, {.bound = {Address("::1"), 53}, .guest = {kGuest4, 53}});
  Arrive(task, From("2001:db8::1", 40'000), Pattern(65'520));
  Pass();
  EXPECT_TRUE(Received().empty());
  EXPECT_EQ(counters_.udp_lost_oversize.value(), 1u);
  TakeHome(task);
  EXPECT_EQ(task.bytes_out, 0u);
  const GuestDatagram seen = Through(task, From("2001:db8::1", 40'000), Text("short"));
  EXPECT_EQ(seen.source.address, kGateway4);
}

TEST_F(UdpPortsTest, PartialChecksumsWhereTheLinkTakesThem) {
  capabilities_.partial_checksum_to_guest = true;
  Make();
  PlayedTask& task = Publish(1);
  Arrive(task, From("127.0.0.1", 40'000), Text("short"));
  batch_.SetTime(now_);
  ends_.TakeFromRelays();
  EXPECT_TRUE(ends_.ServeReady(512));
  (void)batch_.Flush();
  ends_.AfterFlush();
  const auto frame = link_->PopToGuest();
  ASSERT_TRUE(frame.has_value());
  EXPECT_EQ(frame->offload.checksum, ChecksumState::kPartial);
  EXPECT_EQ(guest_.Take(frame->bytes, frame->offload)->payload, Text("short"));
  EXPECT_EQ(Through(task, From("127.0.0.1", 40'000), Pattern(5'000)).payload, Pattern(5'000));
}

struct IdentityCase {
  const char* name;
  const char* client;
  bool itself;
};
class UdpIdentityTest : public UdpPortsTest, public testing::WithParamInterface<IdentityCase> {};
INSTANTIATE_TEST_SUITE_P(Clients, UdpIdentityTest,
                         testing::Values(IdentityCase{"Global", "198.51.100.7", true},
                                         IdentityCase{"Private", "192.168.1.7", true},
                                         IdentityCase{"Loopback", "127.0.0.1", false},
                                         IdentityCase{"OtherLoopback", "127.1.2.3", false},
                                         IdentityCase{"LinkLocal", "169.254.1.1", false},
                                         IdentityCase{"GuestsLink", "10.0.2.77", false},
                                         IdentityCase{"GuestsOwn", "10.0.2.15", false},
                                         IdentityCase{"Gateway", "10.0.2.2", false},
                                         IdentityCase{"Unspecified", "0.0.0.0", false},
                                         IdentityCase{"Multicast", "224.0.0.251", false},
                                         IdentityCase{"Broadcast", "255.255.255.255", false},
                                         IdentityCase{"Global6", "2001:db8::7", true},
                                         IdentityCase{"UniqueLocal6", "fd77::7", true},
                                         IdentityCase{"Loopback6", "::1", false},
                                         IdentityCase{"LinkLocal6", "fe80::7", false},
                                         IdentityCase{"GuestsLink6", "fd00::77", false},
                                         IdentityCase{"Unspecified6", "::", false},
                                         IdentityCase{"Mapped6", "::ffff:127.0.0.1", false},
                                         IdentityCase{"Multicast6", "ff02::1", false}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_P(UdpIdentityTest, TheGuestSeesTheClientWhereItCanAnswerIt) {
  const DatagramPath client = From(GetParam().client, 40'000);
  const bool v4 = client.peer.address.is_v4();
  PlayedTask& task = Publish(1, {.bound = {v4 ? Address("0.0.0.0") : Address("::"), 53},
                                 .guest = {v4 ? kGuest4 : kGuest6, 53},
                                 .identity = ClientIdentity::kPreserveSource});
  const GuestDatagram question = Through(task, client, Text("?"));
  if (GetParam().itself) {
    EXPECT_EQ(question.source, client.peer);
  } else {
    EXPECT_EQ(question.source.address, v4 ? kGateway4 : kGateway6);
    EXPECT_GE(question.source.port, kLeaseFirst);
  }
  EXPECT_TRUE(GuestAnswers(question, Text("!")));
  const auto sent = Sent(task);
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].first, client);
}

TEST_P(UdpIdentityTest, TheGatewayUnlessAskedOtherwise) {
  const DatagramPath client = From(GetParam().client, 40'000);
  const bool v4 = client.peer.address.is_v4();
  PlayedTask& task = Publish(1, {.guest = {v4 ? kGuest4 : kGuest6, 53}});
  EXPECT_EQ(Through(task, client, Text("?")).source.address, v4 ? kGateway4 : kGateway6);
}

TEST_F(UdpPortsTest, AClientOfTheOtherFamilyIsSeenAsTheGateway) {
  PlayedTask& task = Publish(1, {.bound = {Address("::"), 53},
                                 .guest = {kGuest4, 53},
                                 .identity = ClientIdentity::kPreserveSource});
  EXPECT_EQ(Through(task, From("2001:db8::7", 40'000), Text("?")).source.address, kGateway4);
}

TEST_F(UdpPortsTest, AMappedClientIsSeenAsItsIpv4Self) {
  PlayedTask& task = Publish(1, {.bound = {Address("::"), 53},
                                 .guest = {kGuest4, 53},
                                 .identity = ClientIdentity::kPreserveSource});
  EXPECT_EQ(Through(task, From("::ffff:198.51.100.7", 40'000), Text("?")).source,
            (Endpoint{Address("198.51.100.7"), 40'000}));
}

TEST_F(UdpPortsTest, AProxyHeaderPrecedesEachDatagram) {
  PlayedTask& task =
      Publish(1, {.bound = {Address("0.0.0.0"), 53}, .identity = ClientIdentity::kProxyProtocol});
  DatagramPath client = From("198.51.100.7", 40'000);
  client.local = Address("192.0.2.1");
  const std::vector<uint8_t> header =
      ProxyHeader(PortProtocol::kUdp, client.peer, {client.local, 53});
  for (const Bytes& bytes : {Text("first"), Text(""), Pattern(60'000)}) {
    const GuestDatagram seen = Through(task, client, bytes);
    EXPECT_EQ(seen.source.address, kGateway4);
    EXPECT_EQ(seen.payload, Concat(header, bytes));
  }
  const GuestDatagram question = Through(task, client, Text("?"));
  EXPECT_TRUE(GuestAnswers(question, Text("!")));
  EXPECT_EQ(Sent(task).front().second, Text("!")) << "none on the way back";
  Arrive(task, client, Pattern(65'507));
  Pass();
  EXPECT_EQ(counters_.udp_lost_oversize.value(), 1u) << "no room for a header";
}

TEST_F(UdpPortsTest, TheHookIsAskedOncePerPeer) {
  std::vector<IngressRequest> asked;
  config_.ingress_hook = [&](const IngressRequest& request) {
    asked.push_back(request);
    return request.client.port != 666;
  };
  Make();
  PlayedTask& task = Publish(1, {.bound = {Address("0.0.0.0"), 5'353}});
  DatagramPath client = From("127.0.0.1", 40'000);
  client.local = Address("127.0.0.2");
  const GuestDatagram question = Through(task, client, Text("?"));
  (void)Through(task, client, Text("again"));
  (void)GuestAnswers(question, Text("!"));
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0].protocol, PortProtocol::kUdp);
  EXPECT_EQ(asked[0].client, client.peer);
  EXPECT_EQ(asked[0].host, (Endpoint{Address("127.0.0.2"), 5'353}));
  EXPECT_EQ(asked[0].guest_port, 53);

  Arrive(task, From("127.0.0.1", 666), Text("let me in"));
  Pass();
  EXPECT_TRUE(Received().empty());
  EXPECT_EQ(counters_.udp_denied.value(), 1u);
  EXPECT_EQ(Live(1), 1u);
}

TEST_F(UdpPortsTest, OfJoinedDatagramsEachIsCounted) {
  config_.ingress_hook = [](const IngressRequest& request) { return request.client.port != 666; };
  Make();
  PlayedTask& task = Publish(1);
  Arrive(task, From("127.0.0.1", 666), Pattern(2'500), 1'000);
  Pass();
  EXPECT_EQ(counters_.udp_denied.value(), 3u);
  addresses_.guest_mac = {};
  Arrive(task, From("127.0.0.1", 40'000), Pattern(2'001), 1'000);
  Pass();
  EXPECT_EQ(counters_.udp_lost_no_guest.value(), 3u);
}

TEST_F(UdpPortsTest, WithoutTheGuestsMacNothingCanBeSent) {
  addresses_.guest_mac = {};
  PlayedTask& task = Publish(1);
  Arrive(task, From("127.0.0.1", 40'000), Text("?"));
  Pass();
  EXPECT_EQ(link_->waiting_to_guest(), 0u);
  EXPECT_EQ(counters_.udp_lost_no_guest.value(), 1u);
  EXPECT_EQ(solicited_, std::vector{kGuest4}) << "but asked for";
  EXPECT_EQ(Live(1), 0u);
  addresses_.guest_mac = kGuestMac;
  EXPECT_EQ(Through(task, From("127.0.0.1", 40'000), Text("?")).payload, Text("?"));
}

TEST_F(UdpPortsTest, AFullLinkLosesDatagramsAndKeepsTheirBuffersWhileFramesWait) {
  PlayedTask& task = Publish(1);
  link_->SetRoom(10);
  for (int i = 0; i < 100; ++i) Arrive(task, From("127.0.0.1", 40'000), Pattern(1'000));
  Pass();
  // 64 frames wait at most; 10 of the first went out.
  EXPECT_EQ(Received().size(), 10u);
  const uint64_t lost = counters_.udp_lost_link_full.value();
  EXPECT_GE(lost, 20u);
  EXPECT_EQ(counters_.udp_datagrams_to_guest.value() + lost, 100u);
  TakeHome(task);
  EXPECT_GT(task.bytes_out, 0u) << "frames that wait refer to them";
  link_->SetRoom(MemoryLink::kUnlimited);
  Pass();
  EXPECT_EQ(Received().size() + 10 + lost, 100u);
  TakeHome(task);
  EXPECT_EQ(task.bytes_out, 0u);
}

TEST_F(UdpPortsTest, AHostThatTakesNothingFillsItsOwnQueueOnly) {
  PlayedTask& task = Publish(1);
  PlayedTask& other = Publish(2, {.guest = {kGuest4, 54}});
  const GuestDatagram question = Through(task, From("127.0.0.1", 40'000), Text("?"));
  const GuestDatagram other_question = Through(other, From("127.0.0.1", 40'000), Text("?"));
  const Bytes bytes = Pattern(1'400);
  for (int i = 0; i < 2'000; ++i) ASSERT_TRUE(GuestAnswers(question, bytes));
  const CounterSnapshot full = counters_.Snapshot();
  EXPECT_GT(full.drops_of(DropCause::kUdpQueueFull), 500u);
  EXPECT_EQ(full.drops_of(DropCause::kUdpQueueFull) + full.frames_consumed, 2'000u);
  EXPECT_TRUE(GuestAnswers(other_question, bytes));
  EXPECT_EQ(Sent(other).size(), 1u);
  EXPECT_EQ(Sent(task).size(), full.udp_datagrams_to_host);
  Pass();
  ASSERT_TRUE(GuestAnswers(question, bytes));
  EXPECT_EQ(counters_.Snapshot().drops_of(DropCause::kUdpQueueFull),
            full.drops_of(DropCause::kUdpQueueFull));
}

TEST_F(UdpPortsTest, ABusyPortStarvesNoOther) {
  PlayedTask& busy = Publish(1);
  PlayedTask& quiet = Publish(2, {.guest = {kGuest4, 54}});
  for (int i = 0; i < 1'000; ++i) Arrive(busy, From("127.0.0.1", 40'000), Text("busy"));
  Arrive(quiet, From("127.0.0.1", 40'000), Text("quiet"));
  Pass();
  EXPECT_FALSE(served_) << "the budget of a pass";
  const auto received = Received();
  EXPECT_EQ(received.size(), 512u);
  EXPECT_TRUE(std::any_of(received.begin(), received.end(), [](const GuestDatagram& datagram) {
    return datagram.payload == Text("quiet");
  }));
  Pass();
  EXPECT_TRUE(served_);
  EXPECT_EQ(Received().size(), 489u);
}

// ---------------------------------------------------------------- the end

TEST_F(UdpPortsTest, RemovedWithDatagramsEverywhere) {
  PlayedTask& task = Publish(1);
  const GuestDatagram question = Through(task, From("127.0.0.1", 40'000), Text("?"));
  ASSERT_TRUE(GuestAnswers(question, Text("at the relay")));
  link_->SetRoom(0);
  Arrive(task, From("127.0.0.1", 40'000), Text("in the batch"));
  Pass();
  Arrive(task, From("127.0.0.1", 40'000), Text("in the pipe"));
  EXPECT_TRUE(ports_->Remove(1));
  EXPECT_FALSE(ports_->Remove(1));
  PublishedPort row{.id = 1};
  EXPECT_FALSE(ports_->Describe(row));
  EXPECT_EQ(ports_->NextDeadline(), kNever);
  Pass();
  EXPECT_FALSE(task.pipe->stack_done.load()) << "a frame refers to the relay's buffer";
  EXPECT_FALSE(GuestAnswers(question, Text("to nobody")));

  link_->SetRoom(MemoryLink::kUnlimited);
  Pass();
  EXPECT_TRUE(task.pipe->stack_done.load());
  Arrive(task, From("127.0.0.1", 40'000), Text("behind the last word"));
  Pass();
  // The relay's last word.
  TakeHome(task);
  relay_->datagrams().GiveAll(task.pipe->to_guest.TakeAll(), task.bytes_out);
  EXPECT_EQ(task.bytes_out, 0u);
  EXPECT_EQ(Sent(task).size(), 1u);
  task.pipe->relay_done.store(true);
  relay_->TellStack(*task.pipe);
  Pass();
  EXPECT_EQ(task.pipe->stack_end, nullptr);
  relay_->TellStack(*task.pipe);  // a late mark
  Pass();
  std::vector<std::string> texts;
  for (const GuestDatagram& datagram : Received()) {
    texts.emplace_back(datagram.payload.begin(), datagram.payload.end());
  }
  EXPECT_EQ(texts, (std::vector<std::string>{"in the batch"}));
}

TEST_F(UdpPortsTest, WhatCameBeforeAddIsServed) {
  PlayedTask& task = tasks_[1];
  Arrive(task, From("127.0.0.1", 40'000), Text("early"));
  Pass();
  EXPECT_TRUE(Received().empty());
  (void)Publish(1);
  Pass();
  EXPECT_EQ(Received().size(), 1u);
}

TEST_F(UdpPortsTest, SixteenThousandPeersAndOneMore) {
  PlayedTask& task = Publish(1);
  std::vector<GuestDatagram> questions;
  for (uint32_t i = 0; i <= 16'384; ++i) {
    DatagramPath client = From("198.51.100.0", static_cast<uint16_t>(1'024 + i % 50'000));
    questions.push_back(Through(task, client, Text("?")));
    TakeHome(task);
  }
  EXPECT_EQ(Live(1), 16'384u);
  EXPECT_FALSE(GuestAnswers(questions.front(), Text("!")));
  for (const size_t i : {size_t{1}, size_t{8'000}, size_t{16'384}}) {
    EXPECT_TRUE(GuestAnswers(questions[i], Text("!")));
    EXPECT_EQ(Sent(task).front().first.peer.port, 1'024 + i);
  }
}

}  // namespace
}  // namespace penstock
