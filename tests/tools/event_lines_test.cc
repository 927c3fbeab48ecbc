// Events on their way to people: as JSON (event_json.h), as text (event_text.h), out of the
// stack and to whoever watches (event_feed.h).
#include <gmock/gmock.h>

#include <deque>
#include <limits>
#include <nlohmann/json.hpp>

#include "tests/tools/control_clients.h"
#include "tools/penstock/event_feed.h"
#include "tools/penstock/event_json.h"
#include "tools/penstock/event_text.h"

namespace penstock::tool {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::MatchesRegex;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;

using namespace std::chrono_literals;

constexpr Time kSteady{100h};
// 2026-01-31T23:59:59.5Z.
const auto kWall =
    std::chrono::system_clock::time_point(std::chrono::seconds(1'769'903'999)) + 500ms;
const ClockPair kClocks{.steady = kSteady, .wall = kWall};

Event Denied() {
  Event event;
  event.time = kSteady;
  event.kind = EventKind::kDenied;
  event.layer = EventLayer::kTenant;
  event.guest = {IpAddress::V4(10, 0, 2, 15), 40'112};
  event.peer = {IpAddress::V4(10, 1, 2, 3), 5'432};
  event.reason = "private";
  event.rule =
      std::make_shared<const PolicyRule>(PolicyRule{.text = "deny egress @private", .line = 3});
  return event;
}

std::string WithoutTime(const std::string& line) {
  json event = json::parse(line, nullptr, false);
  event.erase("time");
  event.erase("event");
  return event.dump();
}

// ---------------------------------------------------------------- JSON

TEST(EventJson, TellsTheTimeOfTheEvent) {
  EXPECT_EQ(UtcText(kWall), "2026-01-31T23:59:59.500000Z");
  EXPECT_EQ(UtcText(kClocks.WallAt(kSteady + 500'001us)), "2026-02-01T00:00:00.000001Z");
  EXPECT_EQ(UtcText(kClocks.WallAt(kSteady - 1ns)), "2026-01-31T23:59:59.499999Z");
  EXPECT_EQ(UtcText(std::chrono::system_clock::time_point(-1us)), "1969-12-31T23:59:59.999999Z");
}

TEST(EventJson, ADenialHasLayerRuleAddressNameAndTime) {
  Event event = Denied();
  event.name = EventName("db.test");
  EXPECT_EQ(EventLine(event, kClocks),
            R"({"event":"denied","time":"2026-01-31T23:59:59.500000Z","direction":"egress",)"
            R"("protocol":"tcp","guest":"10.0.2.15:40112","peer":"10.1.2.3:5432",)"
            R"("name":"db.test","layer":"tenant","rule":"deny egress @private","rule_line":3,)"
            R"("reason":"private"})"
            "\n");
}

TEST(EventJson, OthersHaveWhatTheyHave) {
  Event closed = Denied();
  closed.kind = EventKind::kFlowClosed;
  closed.layer = EventLayer::kNone;
  closed.rule = nullptr;
  closed.flow = std::numeric_limits<uint64_t>::max();
  closed.direction = Direction::kIngress;
  closed.bytes_to_host = 5;
  closed.bytes_to_guest = 6;
  closed.age = 1'500us;
  closed.reason = "closed";
  EXPECT_EQ(WithoutTime(EventLine(closed, kClocks)),
            R"({"age_us":1500,"bytes_to_guest":6,"bytes_to_host":5,"direction":"ingress",)"
            R"("flow":18446744073709551615,"guest":"10.0.2.15:40112","peer":"10.1.2.3:5432",)"
            R"("protocol":"tcp","reason":"closed"})");
  Event lease;
  lease.kind = EventKind::kLease;
  lease.guest = {IpAddress::V4(10, 0, 2, 15), 0};
  lease.reason = "leased";
  EXPECT_EQ(WithoutTime(EventLine(lease, kClocks)), R"({"guest":"10.0.2.15","reason":"leased"})");
  Event ping = Denied();
  ping.protocol = PolicyProtocol::kIcmp;
  EXPECT_THAT(EventLine(ping, kClocks), HasSubstr(R"("guest":"10.0.2.15","peer":"10.1.2.3")"));
  Event replaced;
  replaced.kind = EventKind::kPolicyReplaced;
  replaced.layer = EventLayer::kPlatform;
  EXPECT_EQ(WithoutTime(EventLine(replaced, kClocks)), R"({"layer":"platform"})");
}

// Names are the sandbox's bytes.
TEST(EventJson, AnyNameIsOneLineOfJson) {
  std::string bytes;
  for (int c = 0; c < 253; ++c) bytes += static_cast<char>(c);
  for (const std::string& name :
       {bytes, std::string("\xff\xfe\"\\\n\x1b[2J"), std::string(1, '\0')}) {
    Event event = Denied();
    event.name = EventName(name);
    const std::string line = EventLine(event, kClocks);
    EXPECT_EQ(line.find('\n'), line.size() - 1);
    EXPECT_TRUE(json::parse(line, nullptr, false).is_object()) << line;
    EXPECT_THAT(EventText(line), Not(HasSubstr("\x1b")));
    EXPECT_THAT(EventText(line), Not(HasSubstr("\n")));
  }
}

// ---------------------------------------------------------------- text

TEST(EventText, IsReadable) {
  Event event = Denied();
  EXPECT_EQ(EventText(EventLine(event, kClocks)),
            "23:59:59.500000  denied           tcp   10.0.2.15:40112 -> 10.1.2.3:5432            "
            "  tenant: private: deny egress @private (line 3)");
  event.kind = EventKind::kFlowClosed;
  event.direction = Direction::kIngress;
  event.layer = EventLayer::kNone;
  event.rule = nullptr;
  event.name = EventName("db.test");
  event.reason = "reset by guest";
  event.bytes_to_guest = 2'048;
  event.age = 90s;
  EXPECT_THAT(EventText(EventLine(event, kClocks)),
              MatchesRegex("23:59:59.500000  flow-closed      tcp   10.1.2.3:5432 .db.test. -> "
                           "10.0.2.15:40112 +reset by guest, to host 0 B, to guest 2.0 KiB, 1:30"));
  Event name;
  name.time = kSteady;
  name.kind = EventKind::kName;
  name.name = EventName("example.test");
  name.reason = "answered";
  EXPECT_THAT(EventText(EventLine(name, kClocks)),
              MatchesRegex("23:59:59.500000  name +example.test +answered"));
}

TEST(EventText, TellsWhatIsMissing) {
  EXPECT_THAT(EventText(LostLine(7)), HasSubstr("7 events were left out here"));
}

TEST(EventText, TakesWhateverComes) {
  EXPECT_EQ(EventText("no json\x1b"), "no json?");
  EXPECT_EQ(EventText("[1]"), "[1]");
  EXPECT_EQ(EventText("{}"), "{}");
  EXPECT_THAT(EventText(R"({"event":7,"time":{},"bytes_to_host":"x"})"), HasSubstr("?"));
}

// ---------------------------------------------------------------- the way

// Events of a stack that is played, and a subscriber.
class EventFeedOf : public ControlClients {
 protected:
  void SetUp() override {
    ControlClients::SetUp();
    subscriber_ = Connect();
    Send(subscriber_, kSubscribe);
    Serve();
    (void)Receive(subscriber_);
  }
  void PassOn(DenialTeller* denials = nullptr) {
    feed_.PassOn(server_.get(), denials,
                 [this](const std::string& said) { said_.push_back(said); });
  }
  std::deque<Event> events_;
  uint64_t lost_ = 0;
  EventFeed feed_{{.take =
                       [this](Event& event) {
                         if (events_.empty()) return false;
                         event = events_.front();
                         events_.pop_front();
                         return true;
                       },
                   .lost = [this] { return lost_; },
                   .policy = [] { return nullptr; }}};
  Descriptor subscriber_;
  std::vector<std::string> said_;
};

TEST_F(EventFeedOf, PassesAllOfThemOn) {
  PassOn();
  EXPECT_EQ(Receive(subscriber_).text, "");
  events_.assign(3, Denied());
  PassOn();
  const std::string text = Receive(subscriber_).text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);
  EXPECT_THAT(text, StartsWith("{\"event\":\"denied\",\"time\":\""));
  EXPECT_THAT(events_, IsEmpty());
}

TEST_F(EventFeedOf, TellsTheFirstDenialsWhoeverElseWatches) {
  DenialTeller denials(0, "--allow");
  events_.assign(3, Denied());
  PassOn(&denials);
  EXPECT_THAT(said_, SizeIs(1));
  events_.assign(3, Denied());
  feed_.PassOn(nullptr, &denials, [](const std::string&) {});
  EXPECT_EQ(denials.untold(), 5U);
  EXPECT_THAT(events_, IsEmpty());
}

TEST_F(EventFeedOf, LetsNoRuleLiveOn) {
  Event event = Denied();
  const std::weak_ptr<const PolicyRule> rule = event.rule;
  events_.push_back(std::move(event));
  event = {};
  PassOn();
  EXPECT_TRUE(rule.expired());
}

TEST_F(EventFeedOf, TellsHowManyTheStackHadNoRoomFor) {
  events_.assign(kEventCountMax, Denied());
  lost_ = 5;
  std::string text;
  PassOn();
  for (std::string more; !(more = Receive(subscriber_).text).empty(); Serve()) text += more;
  // With what was lost on the way to it, a slow one.
  EXPECT_THAT(text, HasSubstr("\"event\":\"lost\""));
  events_.assign(1, Denied());
  PassOn();
  EXPECT_THAT(Receive(subscriber_).text, Not(HasSubstr("lost")));
}

}  // namespace
}  // namespace penstock::tool
