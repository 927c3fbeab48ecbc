// Events and flows as a user has them: the control socket's subscribers, `penstock events`
// and `penstock flows`.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <ctime>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "tests/tools/policed_run.h"

namespace penstock::tool {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::StartsWith;

// Both ways to drive the stack.
class Events : public PolicedRun {};
INSTANTIATE_TEST_SUITE_P(All, Events, testing::Values("0", "1"),
                         [](const auto& test) { return std::string("Threads") + test.param; });

// ---------------------------------------------------------------- events

TEST_P(Events, ReachAllWhoWatch) {
  InOwnNetwork([this] {
    Program echo({"net-echo", "--tcp", "0"});
    const uint16_t port = PortOf(echo);
    const auto penstock = Start({}, kTry);
    (void)penstock->AwaitLine("ready");
    const auto before = std::chrono::system_clock::now();
    const Descriptor one = Subscribe();
    const Descriptor two = Subscribe();
    { const Descriptor gone = Subscribe(); }
    EXPECT_EQ(Try(*penstock, kPrivate, 5'432), "shut");
    EXPECT_EQ(Try(*penstock, kPublic, port), "open");
    for (const Descriptor* client : {&one, &two}) {
      const json denied = NextLine(*client, "\"denied\"");
      EXPECT_EQ(denied["peer"], "10.1.2.3:5432");
      EXPECT_EQ(denied["protocol"], "tcp");
      EXPECT_EQ(denied["direction"], "egress");
      EXPECT_EQ(denied["layer"], "tenant");
      EXPECT_EQ(denied["rule"], "deny egress @private");
      EXPECT_EQ(denied["reason"], "private");
      EXPECT_THAT(denied["guest"].get<std::string>(), StartsWith("10.0.2.15:"));
      EXPECT_THAT(denied["time"].get<std::string>(),
                  ContainsRegex("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}"
                                "\\.[0-9]{6}Z$"));
      const json opened = NextLine(*client, "\"flow-opened\"");
      EXPECT_EQ(opened["peer"], "198.18.0.1:" + std::to_string(port));
      const json closed = NextLine(*client, "\"flow-closed\"");
      EXPECT_EQ(closed["flow"], opened["flow"]);
      EXPECT_EQ(closed["bytes_to_host"], 0);
      EXPECT_TRUE(closed.contains("reason")) << closed;
      // Of this moment, by the wall clock.
      std::tm parts{};
      std::istringstream(closed["time"].get<std::string>()) >>
          std::get_time(&parts, "%Y-%m-%dT%H:%M:%S");
      const auto told = std::chrono::system_clock::from_time_t(timegm(&parts));
      EXPECT_GE(told, before - std::chrono::seconds(2));
      EXPECT_LE(told, std::chrono::system_clock::now() + std::chrono::seconds(1));
    }
    EXPECT_EQ(Order({"ports", "add", "8080:7"}).status, 0);
    EXPECT_EQ(NextLine(one, "\"published\"")["peer"], "127.0.0.1:8080");
    const std::string file = File("rules", "default egress deny\n");
    EXPECT_EQ(Order({"policy", "set", file}).status, 0);
    EXPECT_EQ(NextLine(one, "\"policy-replaced\"")["layer"], "tenant");
    End(*penstock);
  });
}

TEST_P(Events, AreLinesForPeopleOrPrograms) {
  InOwnNetwork([this] {
    const auto penstock = Start({}, kTry);
    (void)penstock->AwaitLine("ready");
    Program text({"penstock", "events", "--count", "2", "--control", control()});
    Program lines({"penstock", "events", "--json", "--count", "2", "--control", control()});
    // Denied until both have seen it: nothing says when they have begun to watch.
    std::atomic<bool> seen = false;
    std::jthread tries([&] {
      while (!seen) EXPECT_EQ(Try(*penstock, kPrivate, 5'432), "shut");
    });
    const Outcome shown = text.Wait();
    const Outcome told = lines.Wait();
    seen = true;
    tries.join();
    EXPECT_EQ(shown.status, 0) << shown.errors;
    EXPECT_THAT(shown.output,
                ContainsRegex("^[0-9:]{8}\\.[0-9]{6}  denied +tcp +10.0.2.15:[0-9]+ -> "
                              "10.1.2.3:5432 +tenant: private: deny egress @private \\(line "
                              "[0-9]+\\)\n"));
    EXPECT_EQ(CountOf(shown.output, "\n"), 2U);
    EXPECT_EQ(told.status, 0) << told.errors;
    EXPECT_EQ(CountOf(told.output, "\n"), 2U);
    EXPECT_TRUE(
        json::parse(told.output.substr(0, told.output.find('\n')), nullptr, false).is_object());
    End(*penstock);
  });
}

TEST_P(Events, EndWithThePenstock) {
  InOwnNetwork([this] {
    const auto penstock = Start({}, kTry);
    (void)penstock->AwaitLine("ready");
    Program events({"penstock", "events", "--control", control()});
    std::atomic<bool> seen = false;
    std::jthread tries([&] {
      while (!seen) (void)Try(*penstock, kPrivate, 5'432);
    });
    (void)events.AwaitLine("");  // it watches
    seen = true;
    tries.join();
    End(*penstock);
    EXPECT_EQ(events.Wait().status, 0);
    EXPECT_EQ(Order({"events"}).status, 1);
  });
}

// More happens than anybody holds for one who watches and does not read.
TEST_P(Events, AWatcherThatDoesNotReadHoldsNobodyUp) {
  InOwnNetwork([this] {
    // Several times, with pauses: of one flood a slow penstock's link drops the most.
    const std::string flood =
        "for i in {1..8}; do for p in {1..4000}; do echo x > /dev/udp/10.1.2.3/$p; done; "
        "sleep 0.1; done 2> /dev/null;";
    const auto penstock = Start({"--no-denials"}, "echo started; read -r go;" + flood + kTry);
    (void)penstock->AwaitLine("started");
    const Descriptor watcher = Subscribe();
    Say("go");
    (void)penstock->AwaitLine("ready");
    EXPECT_EQ(Try(*penstock, kPrivate, 5'432), "shut");
    EXPECT_EQ(Order({"policy", "show"}).status, 0);
    EXPECT_EQ(NextLine(watcher, "\"denied\"")["protocol"], "udp");
    EXPECT_GT(NextLine(watcher, "\"lost\"")["count"], 0);
    End(*penstock);
  });
}

// ---------------------------------------------------------------- flows

TEST_P(Events, FlowsSayWhoTalksToWhom) {
  InOwnNetwork([this] {
    Program echo({"net-echo", "--tcp", "0"});
    const std::string port = std::to_string(PortOf(echo));
    const auto penstock = Start({}, kHold, {kPublic, port});
    (void)penstock->AwaitLine("got one");
    const Outcome shown = Order({"flows"});
    EXPECT_EQ(shown.status, 0) << shown.errors;
    EXPECT_THAT(shown.output,
                AllOf(StartsWith("PROTOCOL  FROM "),
                      ContainsRegex("\ntcp +10.0.2.15:[0-9]+ +198.18.0.1:" + port +
                                    " +established +[0-9.]+ m?s +4 B +[0-9.]+ [KM]?i?B/s +4 B ")));
    const json rows = json::parse(Order({"flows", "--json"}).output, nullptr, false)["return"];
    ASSERT_FALSE(rows.empty());
    EXPECT_EQ(rows[0]["protocol"], "tcp");
    EXPECT_EQ(rows[0]["direction"], "egress");
    EXPECT_EQ(rows[0]["peer"], std::string(kPublic) + ":" + port);
    EXPECT_EQ(rows[0]["state"], "established");
    EXPECT_EQ(rows[0]["bytes_to_host"], 4);
    const Outcome watched = Order({"flows", "--watch", "0.01", "--count", "3"});
    EXPECT_EQ(CountOf(watched.output, "PROTOCOL"), 3U);
    // Nothing has moved between two looks.
    EXPECT_THAT(watched.output, HasSubstr(" 0 B/s "));
    Say("go");
    (void)penstock->Wait();
  });
}

// Their time is that of the order, however long nothing has happened in the stack.
TEST_P(Events, FlowsGrowOlder) {
  InOwnNetwork([this] {
    Program echo({"net-echo", "--tcp", "0"});
    const auto penstock = Start({}, kHold, {kPublic, std::to_string(PortOf(echo))});
    (void)penstock->AwaitLine("got one");
    const auto age = [this] {
      const json rows = json::parse(Order({"flows", "--json"}).output, nullptr, false)["return"];
      return rows.at(0).at("age_us").get<int64_t>();
    };
    const int64_t before = age();
    const auto start = std::chrono::steady_clock::now();
    int64_t after = 0;
    do {
      after = age();
    } while (std::chrono::steady_clock::now() - start < std::chrono::milliseconds(20));
    EXPECT_GE(after - before, 10'000);
    Say("go");
    (void)penstock->Wait();
  });
}

}  // namespace
}  // namespace penstock::tool
