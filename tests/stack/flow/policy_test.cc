// Connections and the policy, segment by segment: what the guest sees of a denial, what the
// first bytes of a connection decide and when, what a new policy does to live flows, and
// that each of it is told as an event. The host is named in all of these, or nothing could
// be reached from here.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "tests/stack/flow/flow_fixture.h"

namespace penstock {
namespace {

std::shared_ptr<const Policy> PolicyOf(std::string_view text) {
  auto policy = Policy::Parse(text);
  EXPECT_TRUE(policy.ok()) << policy.status().message();
  return policy.ok() ? *policy : nullptr;
}

// A ClientHello that asks for `name` (RFC 8446 4.1.2, RFC 6066 3).
std::string ClientHello(std::string_view name) {
  const auto u16 = [](size_t n) {
    return std::string{static_cast<char>(n >> 8), static_cast<char>(n & 0xff)};
  };
  const std::string entry = std::string(1, '\0') + u16(name.size()) + std::string(name);
  const std::string list = u16(entry.size()) + entry;
  const std::string extensions = u16(0) + u16(list.size()) + list;
  const std::string body = "\x03\x03" + std::string(32, 'r') + std::string(1, '\0') + u16(2) +
                           "\x13\x01" + "\x01" + std::string(1, '\0') + u16(extensions.size()) +
                           extensions;
  const std::string handshake =
      std::string("\x01", 1) + std::string(1, '\0') + u16(body.size()) + body;
  return "\x16\x03\x01" + u16(handshake.size()) + handshake;
}

class PolicyFlowTest : public FlowTest {
 protected:
  void StartWith(std::string_view tenant, Config config = LoopbackConfig()) {
    config.tenant_policy = PolicyOf(tenant);
    config.event_count_max = 256;
    Start(config);
  }
  // Every event since the last call.
  std::vector<Event> Events() {
    std::vector<Event> events;
    for (Event event; guest().stack().TakeEvent(event);) events.push_back(event);
    return events;
  }
  std::vector<Event> EventsOf(EventKind kind) {
    std::vector<Event> events = Events();
    std::erase_if(events, [&](const Event& event) { return event.kind != kind; });
    return events;
  }
  [[nodiscard]] Endpoint Gateway(uint16_t port) const {
    return {v4() ? guest().config().ipv4.gateway : guest().config().ipv6.gateway, port};
  }
  [[nodiscard]] const ScriptedGuest& guest() const {
    return const_cast<PolicyFlowTest*>(this)->FlowTest::guest();
  }
  [[nodiscard]] ScriptedGuest& guest() { return FlowTest::guest(); }
};
PENSTOCK_BOTH_FAMILIES(PolicyFlowTest);

constexpr std::string_view kDenyByName =
    "deny egress ads.test\n"
    "default egress allow\n";

// ---------------------------------------------------------------- denied at the SYN

TEST_P(PolicyFlowTest, ADeniedConnectIsRefused) {
  StartWith("deny egress @host:1-65535/tcp\ndefault egress allow\n");
  GuestFlow& flow = guest().Flow(listener().port());
  flow.SendSyn();
  flow.Expect(kTcpRst | kTcpAck);
  EXPECT_EQ(counters().drops_of(DropCause::kPolicyDenied), 1u);
  EXPECT_EQ(counters().denied_to_host, 1u);
  EXPECT_FALSE(listener().TryAccept().has_value());
  const std::vector<Event> denied = EventsOf(EventKind::kDenied);
  ASSERT_EQ(denied.size(), 1u);
  EXPECT_EQ(denied[0].layer, EventLayer::kTenant);
  EXPECT_EQ(denied[0].guest, flow.guest());
  EXPECT_EQ(denied[0].peer, Gateway(listener().port()));
  EXPECT_EQ(denied[0].reason, "host");
  ASSERT_NE(denied[0].rule, nullptr);
  EXPECT_EQ(denied[0].rule->text, "deny egress @host:1-65535/tcp");
}

TEST_P(PolicyFlowTest, OrMeetsSilence) {
  Config config = LoopbackConfig();
  config.denial_answer = DenialAnswer::kSilence;
  StartWith("default egress deny\ndeny egress any\n", config);
  GuestFlow& flow = guest().Flow(listener().port());
  flow.SendSyn();
  flow.ExpectNothing();
  EXPECT_EQ(counters().drops_of(DropCause::kPolicyDenied), 1u);
}

TEST_P(PolicyFlowTest, ThePlatformHasItsSayToo) {
  Config config = LoopbackConfig();
  config.platform_policy = PolicyOf("deny egress @host\ndefault egress allow\n");
  StartWith("allow egress any\nallow egress @host\n", config);
  guest().Flow(listener().port()).SendSyn();
  const std::vector<Event> denied = EventsOf(EventKind::kDenied);
  ASSERT_EQ(denied.size(), 1u);
  EXPECT_EQ(denied[0].layer, EventLayer::kPlatform);
}

// Without host_loopback a rule that names the host opens it, and only as far as it says.
TEST_P(PolicyFlowTest, ARuleNamesTheHost) {
  const std::string port = std::to_string(listener().port());
  StartWith("allow egress @host:" + port + "/tcp\ndefault egress allow\n", {});
  Connection connection = Establish();
  ExpectAlive(connection);
  GuestFlow& other = guest().Flow(static_cast<uint16_t>(listener().port() ^ 1));
  other.SendSyn();
  other.Expect(kTcpRst | kTcpAck);
}

TEST_P(PolicyFlowTest, UnnamedItIsShutWhateverTheDefault) {
  StartWith("allow egress any\ndefault egress allow\n", {});
  GuestFlow& flow = guest().Flow(listener().port());
  flow.SendSyn();
  flow.Expect(kTcpRst | kTcpAck);
  const std::vector<Event> denied = EventsOf(EventKind::kDenied);
  ASSERT_EQ(denied.size(), 1u);
  EXPECT_EQ(denied[0].rule, nullptr);
}

// ---------------------------------------------------------------- the first bytes

TEST_P(PolicyFlowTest, ADeniedNameIsResetBeforeTheHostHasAByte) {
  StartWith(kDenyByName);
  Connection connection = Establish();
  connection.flow.Send({.payload = ClientHello("ads.test")});
  connection.flow.Expect(kTcpRst | kTcpAck);
  ExpectReset(connection.host);
  EXPECT_EQ(connection.host.received(), "");
  EXPECT_EQ(counters().flows_denied, 1u);
  const std::vector<Event> denied = EventsOf(EventKind::kDenied);
  ASSERT_EQ(denied.size(), 1u);
  EXPECT_EQ(denied[0].name.view(), "ads.test");
  EXPECT_EQ(denied[0].rule->text, "deny egress ads.test");
  ExpectNoFlowLeft();
}

TEST_P(PolicyFlowTest, AnyOtherNameGoesThroughWhole) {
  StartWith(kDenyByName);
  Connection connection = Establish();
  const std::string hello = ClientHello("www.test");
  connection.flow.Send({.payload = hello});
  connection.flow.Expect(kTcpAck);
  ReadTo(connection.host, hello.size());
  EXPECT_EQ(connection.host.received(), hello);
  EXPECT_EQ(counters().first_bytes_looked_at, 1u);
  // Nothing is looked at after that.
  connection.flow.Send({.payload = ClientHello("ads.test")});
  ReadTo(connection.host, hello.size() * 2);
  EXPECT_EQ(EventsOf(EventKind::kDenied).size(), 0u);
}

TEST_P(PolicyFlowTest, TheNameMayComeInPieces) {
  StartWith(kDenyByName);
  const std::string hello = ClientHello("ads.test");
  Connection connection = Establish();
  for (size_t i = 0; i + 1 < hello.size(); ++i) {
    connection.flow.Send({.payload = hello.substr(i, 1)});
    guest().Pump();
  }
  EXPECT_EQ(counters().flows_denied, 0u);
  connection.host.Read();
  EXPECT_EQ(connection.host.received(), "") << "nothing passes before the name is known";
  connection.flow.Forget();
  connection.flow.Send({.payload = hello.substr(hello.size() - 1)});
  connection.flow.Expect(kTcpRst | kTcpAck);
  ExpectReset(connection.host);
}

TEST_P(PolicyFlowTest, HttpIsReadAsWell) {
  StartWith(kDenyByName);
  Connection connection = Establish();
  connection.flow.Send({.payload = "GET / HTTP/1.1\r\nHost: ADS.test:80\r\n\r\n"});
  connection.flow.Expect(kTcpRst | kTcpAck);
  ExpectReset(connection.host);
}

TEST_P(PolicyFlowTest, OtherProtocolsAreNotHeldUp) {
  StartWith(kDenyByName);
  Connection connection = Establish();
  connection.flow.Send({.payload = std::string("\0\1\2", 3)});
  connection.flow.Expect(kTcpAck);
  ReadTo(connection.host, 3);
}

// Who speaks first is heard at once, and then the guest is, whatever it says.
TEST_P(PolicyFlowTest, AServerThatSpeaksFirstIsHeard) {
  StartWith(kDenyByName);
  Connection connection = Establish();
  WriteAll(connection.host, "220 mail\r\n");
  connection.flow.ReceiveTo(10);
  connection.flow.Send({.payload = "E"});
  ReadTo(connection.host, 1);
}

TEST_P(PolicyFlowTest, ASilentGuestLosesNothing) {
  StartWith(kDenyByName);
  Connection connection = Establish();
  guest().Advance(60s);
  EXPECT_EQ(counters().first_bytes_looked_at, 0u);
  const std::string request = "GET / HTTP/1.1\r\nHost: www.test\r\n\r\n";
  connection.flow.Send({.payload = request});
  ReadTo(connection.host, request.size());
}

// Five seconds after its first byte a guest has shown its name, or is denied.
TEST_P(PolicyFlowTest, HalfANameIsNotWaitedForLong) {
  StartWith(kDenyByName);
  Connection connection = Establish();
  connection.flow.Send({.payload = ClientHello("ads.test").substr(0, 40)});
  connection.flow.Expect(kTcpAck);
  guest().Advance(4900ms);
  connection.flow.ExpectNothing();
  connection.flow.ExpectWithin(200ms, kTcpRst | kTcpAck);
  ExpectReset(connection.host);
  EXPECT_EQ(connection.host.received(), "");
  const std::vector<Event> denied = EventsOf(EventKind::kDenied);
  ASSERT_EQ(denied.size(), 1u);
  EXPECT_EQ(denied[0].reason, "unreadable name");
}

// What comes in the same pass as the end of its time still counts.
TEST_P(PolicyFlowTest, ANameAtTheLastMomentIsSeen) {
  StartWith(kDenyByName);
  const std::string hello = ClientHello("www.test");
  Connection connection = Establish();
  connection.flow.Send({.payload = hello.substr(0, 40)});
  connection.flow.Queue({.payload = hello.substr(40)});
  guest().Oversleep(5s);
  ReadTo(connection.host, hello.size());
  EXPECT_EQ(connection.host.received(), hello);
}

// And if it is not enough, it goes the way of the rest.
TEST_P(PolicyFlowTest, NothingPassesAtTheLastMoment) {
  StartWith(kDenyByName);
  const std::string hello = ClientHello("www.test");
  Connection connection = Establish();
  connection.flow.Send({.payload = hello.substr(0, 40)});
  connection.flow.Queue({.payload = hello.substr(40, 10)});
  guest().Oversleep(5s);
  EXPECT_TRUE(connection.flow.reset());
  ExpectReset(connection.host);
  EXPECT_EQ(connection.host.received(), "");
}

// Nobody says anything: then nothing is waited for, and a keepalive asks in its time.
TEST_P(PolicyFlowTest, ASilentConnectionIsIdle) {
  StartWith(kDenyByName);
  Connection connection = Establish();
  connection.flow.Send({});
  connection.flow.Forget();
  connection.flow.ExpectWithin(2h + 10s, kTcpAck);
  EXPECT_EQ(counters().keepalives_sent, 1u);
  connection.flow.Send({.payload = std::string("\0\1\2", 3)});
  ReadTo(connection.host, 3);
}

TEST_P(PolicyFlowTest, ANameThatNeverEndsIsDenied) {
  StartWith(kDenyByName);
  Connection connection = Establish();
  connection.flow.SendAll("GET /" + std::string(17'000, 'a'));
  guest().Until("the reset", [&] { return connection.flow.reset(); });
  ExpectReset(connection.host);
  EXPECT_EQ(connection.host.received(), "");
}

// The end of a guest that said half a name is not an end that the host hears of.
TEST_P(PolicyFlowTest, AnEndInTheMiddleOfANameIsDenied) {
  StartWith(kDenyByName);
  Connection connection = Establish();
  connection.flow.Send({.flags = kTcpFin | kTcpAck, .payload = "GET / HT"});
  guest().Until("the reset", [&] { return connection.flow.reset(); });
  ExpectReset(connection.host);
}

TEST_P(PolicyFlowTest, AGuestThatSaysNothingMayEnd) {
  StartWith(kDenyByName);
  Connection connection = Establish();
  connection.flow.Send({.flags = kTcpFin | kTcpAck});
  ReadToEnd(connection.host);
  WriteAll(connection.host, "the rest");
  connection.flow.ReceiveTo(8);
  connection.host.Close();
  guest().Until("the end", [&] { return connection.flow.finished(); });
}

// All of it, the end, and the guest's ACK of everything come before the look is over.
TEST_P(PolicyFlowTest, ARequestWithItsEndGoesThrough) {
  StartWith(kDenyByName);
  Connection connection = Establish();
  const std::string request = "GET / HTTP/1.1\r\nHost: www.test\r\n\r\n";
  connection.flow.Send({.flags = kTcpFin | kTcpAck, .payload = request});
  ReadToEnd(connection.host);
  EXPECT_EQ(connection.host.received(), request);
}

TEST_P(PolicyFlowTest, AGuestsResetWhileItIsLookedAtResetsTheHost) {
  StartWith(kDenyByName);
  Connection connection = Establish();
  connection.flow.Send({.payload = ClientHello("www.test").substr(0, 40)});
  connection.flow.Send({.flags = kTcpRst});
  ExpectReset(connection.host);
  EXPECT_EQ(connection.host.received(), "") << "its name was not known";
}

// ---------------------------------------------------------------- the page

class PageTest : public PolicyFlowTest {
 protected:
  Connection Ask(std::string_view request) {
    Config config = LoopbackConfig();
    config.denial_answer = DenialAnswer::kPage;
    StartWith(kDenyByName, config);
    Connection connection = Establish();
    connection.flow.Send({.payload = std::string(request)});
    return connection;
  }
};
PENSTOCK_BOTH_FAMILIES(PageTest);

constexpr std::string_view kRequest = "GET / HTTP/1.1\r\nHost: ads.test\r\n\r\n";

TEST_P(PageTest, ADeniedRequestGetsAReadableAnswer) {
  Connection connection = Ask(kRequest);
  guest().Until("the page and its end", [&] {
    connection.flow.ReceiveTo(connection.flow.received().size());
    return connection.flow.finished();
  });
  const std::string& page = connection.flow.received();
  EXPECT_TRUE(page.starts_with("HTTP/1.1 403 Forbidden\r\n")) << page;
  const size_t body = page.find("\r\n\r\n") + 4;
  EXPECT_NE(page.find("Content-Length: " + std::to_string(page.size() - body)), std::string::npos);
  connection.flow.Send({.flags = kTcpFin | kTcpAck});
  ExpectReset(connection.host);
  EXPECT_EQ(connection.host.received(), "");
  EXPECT_EQ(counters().pages_to_guest, 1u);
  ExpectNoFlowLeft();
}

// What else the guest has to say is taken, and comes nowhere.
TEST_P(PageTest, TheRestOfALongRequestIsTaken) {
  Connection connection =
      Ask("POST / HTTP/1.1\r\nHost: ads.test\r\nContent-Length: 200000\r\n\r\n");
  guest().Until("the page", [&] {
    connection.flow.ReceiveTo(connection.flow.received().size());
    return connection.flow.finished();
  });
  connection.flow.SendAll(Pattern(200'000));
  connection.flow.Send({.flags = kTcpFin | kTcpAck});
  ExpectReset(connection.host);
  EXPECT_EQ(connection.host.received(), "");
  ExpectNoFlowLeft();
}

TEST_P(PageTest, WhoDoesNotReadItIsResetInTime) {
  Connection connection = Ask(kRequest);
  connection.flow.Forget();
  guest().Advance(40s);
  EXPECT_TRUE(connection.flow.reset());
  ExpectReset(connection.host);
  ExpectNoFlowLeft();
}

// The host knows nothing of it: what it does meanwhile changes nothing.
TEST_P(PageTest, TheHostsEndDoesNotMatter) {
  Connection connection = Ask(kRequest);
  connection.host.Write("surprise");
  connection.host.Close();
  guest().Until("the page and its end", [&] {
    connection.flow.ReceiveTo(connection.flow.received().size());
    return connection.flow.finished();
  });
  EXPECT_EQ(connection.flow.received().find("surprise"), std::string::npos);
  connection.flow.Send({.flags = kTcpFin | kTcpAck});
  ExpectNoFlowLeft();
}

// A page behind what the host has said would be no answer.
TEST_P(PageTest, WhoHasHeardTheHostIsReset) {
  Connection connection = Ask(kRequest.substr(0, 20));
  WriteAll(connection.host, "220 mail\r\n");
  connection.flow.ReceiveTo(10);
  connection.flow.Send({.payload = std::string(kRequest.substr(20))});
  EXPECT_TRUE(connection.flow.reset());
  EXPECT_EQ(connection.flow.received(), "220 mail\r\n");
  ExpectReset(connection.host);
  EXPECT_EQ(counters().pages_to_guest, 0u);
}

TEST_P(PageTest, TlsIsReset) {
  Connection connection = Ask(ClientHello("ads.test"));
  connection.flow.Expect(kTcpRst | kTcpAck);
}

// What the policy denies at its SYN gets the page too, on port 80, without a host.
class DeniedPageTest : public PolicyFlowTest {
 protected:
  GuestFlow& Connect(uint16_t port = 80) {
    Config config = LoopbackConfig();
    config.denial_answer = DenialAnswer::kPage;
    StartWith("deny egress any\n", config);
    GuestFlow& flow = guest().Flow(port);
    if (port == 80) flow.Handshake();
    return flow;
  }
};
PENSTOCK_BOTH_FAMILIES(DeniedPageTest);

TEST_P(DeniedPageTest, ARequestGetsAReadableAnswer) {
  GuestFlow& flow = Connect();
  flow.Send({.payload = "GET / HTTP/1.1\r\nHost: any.test\r\n\r\n"});
  guest().Until("the page and its end", [&] {
    flow.ReceiveTo(flow.received().size());
    return flow.finished();
  });
  EXPECT_TRUE(flow.received().starts_with("HTTP/1.1 403 ")) << flow.received();
  flow.Send({.flags = kTcpFin | kTcpAck});
  ExpectNoFlowLeft();
  const std::vector<Event> events = Events();
  ASSERT_EQ(events.size(), 1u) << "denied once, and never a flow";
  EXPECT_EQ(events[0].kind, EventKind::kDenied);
}

TEST_P(DeniedPageTest, WhatIsNoHttpIsReset) {
  GuestFlow& flow = Connect();
  flow.Send({.payload = ClientHello("any.test")});
  flow.Expect(kTcpRst | kTcpAck);
  ExpectNoFlowLeft();
}

TEST_P(DeniedPageTest, WhoSaysNothingIsReset) {
  GuestFlow& flow = Connect();
  guest().Advance(4900ms);
  EXPECT_FALSE(flow.reset());
  guest().Advance(200ms);
  EXPECT_TRUE(flow.reset());
  ExpectNoFlowLeft();
}

TEST_P(DeniedPageTest, AnotherPortIsRefusedAtOnce) {
  GuestFlow& flow = Connect(443);
  flow.SendSyn();
  flow.Expect(kTcpRst | kTcpAck);
}

// ---------------------------------------------------------------- another policy

TEST_P(PolicyFlowTest, ANewPolicyCutsWhatItDeniesAndNothingElse) {
  StartWith("default egress allow\n");
  Connection first = Establish();
  HostListener other(GetParam());
  GuestFlow& kept = guest().Flow(other.port());
  kept.Handshake();
  HostSocket kept_host = Accept(other);
  const std::string rule =
      "deny egress @host:" + std::to_string(listener().port()) + "/tcp\ndefault egress allow\n";
  guest().stack().SetPolicy(PolicyLayer::kTenant, PolicyOf(rule), LiveFlows::kKeep);
  ExpectAlive(first);
  GuestFlow& fresh = guest().Flow(listener().port());
  fresh.SendSyn();
  fresh.Expect(kTcpRst | kTcpAck);

  guest().stack().SetPolicy(PolicyLayer::kTenant, PolicyOf(rule), LiveFlows::kReset);
  guest().Pump();
  EXPECT_TRUE(first.flow.reset());
  ExpectReset(first.host);
  EXPECT_EQ(counters().flows_cut, 1u);
  Connection untouched{.flow = kept, .host = std::move(kept_host)};
  ExpectAlive(untouched);
}

TEST_P(PolicyFlowTest, AFlowIsCutByTheNameThatItShowed) {
  StartWith("deny egress other.test\ndefault egress allow\n");
  Connection connection = Establish();
  const std::string request = "GET / HTTP/1.1\r\nHost: ads.test\r\n\r\n";
  connection.flow.Send({.payload = request});
  ReadTo(connection.host, request.size());
  connection.flow.Forget();
  guest().stack().SetPolicy(PolicyLayer::kTenant, PolicyOf(kDenyByName), LiveFlows::kReset);
  guest().Pump();
  EXPECT_TRUE(connection.flow.reset());
}

TEST_P(PolicyFlowTest, ADialIsCut) {
  StartWith("default egress allow\n");
  GuestFlow& flow = DialBlackHole();
  guest().stack().SetPolicy(PolicyLayer::kPlatform,
                            PolicyOf("default egress deny\ndeny egress any\n"), LiveFlows::kReset);
  guest().Pump();
  flow.Expect(kTcpRst | kTcpAck);
  EXPECT_EQ(counters().flows_cut, 1u);
}

// ---------------------------------------------------------------- events

TEST_P(PolicyFlowTest, AFlowIsToldFromItsBeginningToItsEnd) {
  StartWith("default egress allow\n");
  Connection connection = Establish();
  ExpectAlive(connection);
  connection.flow.Send({.flags = kTcpRst});
  ExpectReset(connection.host);
  const std::vector<Event> events = Events();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].kind, EventKind::kFlowOpened);
  EXPECT_EQ(events[1].kind, EventKind::kFlowClosed);
  EXPECT_EQ(events[0].flow, events[1].flow);
  EXPECT_NE(events[0].flow, 0u);
  EXPECT_EQ(events[1].peer, Gateway(listener().port()));
  EXPECT_EQ(events[1].reason, "reset by guest");
  EXPECT_EQ(events[1].bytes_to_host, 7u);
  EXPECT_EQ(events[1].bytes_to_guest, 8u);
}

TEST_P(PolicyFlowTest, WhatNobodyTakesIsLostAndCounted) {
  StartWith("deny egress any\n");
  for (int i = 0; i < 300; ++i) guest().Flow(listener().port()).SendSyn();
  EXPECT_EQ(Events().size(), 256u);
  EXPECT_EQ(counters().events_lost, 44u);
}

}  // namespace
}  // namespace penstock
