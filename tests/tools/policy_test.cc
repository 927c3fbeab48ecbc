// Policy as a user has it: the options of `penstock run`, and `penstock policy` on one that
// runs, or on files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/places.h"
#include "tests/tools/policed_run.h"

namespace penstock::tool {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ContainsRegex;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// Both ways to drive the stack.
class Policies : public PolicedRun {};
INSTANTIATE_TEST_SUITE_P(All, Policies, testing::Values("0", "1"),
                         [](const auto& test) { return std::string("Threads") + test.param; });

// ---------------------------------------------------------------- run

TEST_P(Policies, TheFirstDenialOfEachKindIsToldWithTheOptionThatHelps) {
  InOwnNetwork([] {
    const std::string script =
        "for where in 10.1.2.3/5432 10.1.2.3/80 10.9.9.9/80 10.0.2.2/8080; do"
        " (exec 3<>/dev/tcp/$where) 2>/dev/null; done; true";
    const Outcome told = RunProgram(RunWords({"--stats"}, script));
    EXPECT_EQ(told.status, 0);
    EXPECT_THAT(told.errors,
                HasSubstr("penstock: denied tcp 10.1.2.3:5432 (private); --profile public --allow "
                          "10.1.2.3:5432/tcp lets it through\n"));
    EXPECT_THAT(told.errors, HasSubstr("penstock: denied tcp 10.0.2.2:8080 (host); --profile "
                                       "public --allow 10.0.2.2:8080/tcp lets it through\n"));
    EXPECT_EQ(CountOf(told.errors, "lets it through"), 2U) << told.errors;
    EXPECT_THAT(told.errors, ContainsRegex("penstock: denied [0-9]+ more of the same kinds\n"));

    const Outcome quiet = RunProgram(RunWords({"--no-denials"}, script));
    EXPECT_EQ(quiet.errors, "");
    const Outcome no_more = RunProgram(RunWords({}, script));
    EXPECT_THAT(no_more.errors, Not(HasSubstr(" more of the same kinds")));
  });
}

TEST_P(Policies, TheOptionThatIsToldLetsItThrough) {
  InOwnNetwork([] {
    Program echo({"net-echo", "--tcp", "0"});
    const std::string port = std::to_string(PortOf(echo));
    for (const std::string host : {kPrivate, "10.0.2.2"}) {
      const std::string script = "exec 3<>/dev/tcp/" + host + "/" + port +
                                 " && echo hello >&3 && read -r line <&3 && echo got $line";
      const Outcome denied = RunProgram(RunWords({}, script));
      EXPECT_EQ(denied.status, 1);
      EXPECT_THAT(denied.errors, HasSubstr("Connection refused"));
      const std::string target = host + ":" + port + "/tcp";
      EXPECT_THAT(denied.errors,
                  HasSubstr("; --profile public --allow " + target + " lets it through"));
      const Outcome allowed =
          RunProgram(RunWords({"--profile", "public", "--allow", target}, script));
      EXPECT_EQ(allowed.output, "got hello\n") << allowed.errors;
      EXPECT_EQ(allowed.errors, "");
    }
  });
}

TEST_P(Policies, AllowAloneMeansNothingElse) {
  InOwnNetwork([this] {
    Program echo({"net-echo", "--tcp", "0"});
    const uint16_t port = PortOf(echo);
    const auto penstock =
        Start({"--allow", std::string(kPrivate) + ":" + std::to_string(port)}, kTry);
    (void)penstock->AwaitLine("ready");
    EXPECT_EQ(Try(*penstock, kPrivate, port), "open");
    EXPECT_EQ(Try(*penstock, kPublic, port), "shut");
    EXPECT_THAT(penstock->AwaitErrorLine("penstock: denied tcp 198.18.0.1:"),
                HasSubstr("(public); --allow 198.18.0.1:"));
    End(*penstock);
  });
}

TEST_P(Policies, OfStandardInputAreReadBeforeAnythingStarts) {
  InOwnNetwork([this] {
    const std::string good = File("good", "allow egress 198.18.0.1\n");
    const std::string wrong = File("wrong", "allow\n");
    const auto shell = [](const std::string& file) {
      return RunProgram({"sh", "-c",
                         ProgramPath("penstock") +
                             " run --static --policy - "
                             "-- echo started < " +
                             file});
    };
    EXPECT_EQ(shell(good).output, "started\n");
    const Outcome refused = shell(wrong);
    EXPECT_EQ(refused.status, 2);
    EXPECT_EQ(refused.output, "");
    EXPECT_THAT(refused.errors, StartsWith("penstock: standard input:1:"));
  });
}

// Names that the penstock itself answers for, so that nobody else has to be asked.
TEST_P(Policies, OfANameLetThatNameThrough) {
  InOwnNetwork([this] {
    Program echo({"net-echo", "--tcp", "0"});
    const uint16_t port = PortOf(echo);
    const auto penstock = Start({"--allow", "good.test", "--dns-zone", "test", "--dns-host",
                                 "good.test=198.18.0.1", "--dns-host", "other.test=198.18.0.1"},
                                kTry);
    (void)penstock->AwaitLine("ready");
    EXPECT_EQ(Try(*penstock, kPublic, port), "shut") << "nobody has asked for its name yet";
    EXPECT_EQ(Try(*penstock, "good.test", port), "open");
    EXPECT_EQ(Try(*penstock, "other.test", port), "shut");
    EXPECT_EQ(penstock->AwaitErrorLine("penstock: denied the name other.test; "),
              "--allow other.test lets it through");
    End(*penstock);
  });
}

TEST_P(Policies, KeepNamesFromLeadingToWhatTheyDeny) {
  InOwnNetwork([this] {
    const auto penstock = Start({"--dns-zone", "test", "--dns-host", "near.test=10.1.2.3"}, kTry);
    (void)penstock->AwaitLine("ready");
    const Descriptor watcher = Subscribe();
    EXPECT_EQ(Try(*penstock, "near.test", 80), "shut");
    EXPECT_EQ(NextLine(watcher, "\"denied\"")["name"], "near.test");
    EXPECT_THAT(penstock->AwaitErrorLine("penstock: denied "), HasSubstr("--allow near.test lets"));
    End(*penstock);
  });
}

// ---------------------------------------------------------------- policy

TEST_P(Policies, AreShownReplacedAndExplainedWhileItRuns) {
  InOwnNetwork([this] {
    Program echo({"net-echo", "--tcp", "0"});
    const uint16_t port = PortOf(echo);
    const std::string where = std::string(kPrivate) + ":" + std::to_string(port);
    const auto penstock = Start({"--deny", "198.18.0.9"}, kTry);
    (void)penstock->AwaitLine("ready");
    EXPECT_EQ(Try(*penstock, kPublic, port), "open");
    EXPECT_EQ(Try(*penstock, kPrivate, port), "shut");

    const Outcome shown = Order({"policy", "show"});
    EXPECT_EQ(shown.status, 0) << shown.errors;
    EXPECT_THAT(shown.output, StartsWith("deny egress 198.18.0.9\n# --profile public\n"));
    EXPECT_EQ(Order({"policy", "show", "--platform"}).status, 1);
    const Outcome denied = Order({"policy", "explain", "tcp", where});
    EXPECT_EQ(denied.status, 3);
    EXPECT_THAT(denied.output, HasSubstr("deny egress @private"));
    EXPECT_EQ(Order({"policy", "explain", "tcp", "198.18.0.1:80"}).status, 0);

    const std::string file = File("rules", "allow egress @private\ndefault egress deny\n");
    const Outcome dry = Order({"policy", "set", "--dry-run", file});
    EXPECT_EQ(dry.output, "would set 1 rule\n") << dry.errors;
    EXPECT_EQ(Try(*penstock, kPrivate, port), "shut");
    EXPECT_EQ(Order({"policy", "set", file}).output, "set 1 rule\n");
    EXPECT_EQ(Try(*penstock, kPrivate, port), "open");
    EXPECT_EQ(Try(*penstock, kPublic, port), "shut");
    EXPECT_EQ(Order({"policy", "show"}).output, "allow egress @private\ndefault egress deny\n");
    EXPECT_EQ(Order({"policy", "explain", "tcp", where}).status, 0);
    EXPECT_EQ(Order({"policy", "explain", "--ingress", "tcp", "192.0.2.7:80"}).status, 0);

    const std::string platform = File("platform", "deny egress 10.1.2.3\ndefault egress allow\n");
    EXPECT_EQ(Order({"policy", "set", "--platform", platform}).status, 0);
    EXPECT_EQ(Try(*penstock, kPrivate, port), "shut");
    EXPECT_THAT(Order({"policy", "explain", "tcp", where}).output, HasSubstr("platform"));
    EXPECT_THAT(Order({"policy", "show", "--platform"}).output, StartsWith("deny egress 10.1.2.3"));
    End(*penstock);
  });
}

TEST_P(Policies, CutLiveConnectionsOnlyOnRequest) {
  InOwnNetwork([this] {
    Program echo({"net-echo", "--tcp", "0"});
    const std::string port = std::to_string(PortOf(echo));
    const std::string deny = File("deny", "default egress deny\n");
    {
      const auto kept = Start({}, kHold, {kPublic, port});
      (void)kept->AwaitLine("got one");
      EXPECT_EQ(Order({"policy", "set", deny}).status, 0);
      Say("go");
      EXPECT_EQ(kept->AwaitLine("then "), "two");
      (void)kept->Wait();
    }
    ASSERT_EQ(unlink(input().c_str()), 0);
    const auto cut = Start({}, kHold, {kPublic, port});
    (void)cut->AwaitLine("got one");
    EXPECT_EQ(Order({"policy", "set", "--reset", deny}).status, 0);
    Say("go");
    EXPECT_EQ(cut->AwaitLine("then "), "nothing");
    (void)cut->Wait();
  });
}

TEST_P(Policies, RequestsAreCheckedToTheLastName) {
  InOwnNetwork([this] {
    const auto penstock = Start({}, kTry);
    (void)penstock->AwaitLine("ready");
    const std::pair<const char*, const char*> cases[] = {
        {R"({"execute":"policy-show","arguments":{"layer":"tenant"}})", "it may hold nothing"},
        {R"({"execute":"policy-set"})", "\"text\" must be"},
        {R"({"execute":"policy-set","arguments":{"text":1}})", "must be a string"},
        {R"({"execute":"policy-set","arguments":{"text":"","layer":"mine"}})",
         "\"layer\" must be tenant or platform"},
        {R"({"execute":"policy-set","arguments":{"text":"","flows":"cut"}})", "keep or reset"},
        {R"({"execute":"policy-set","arguments":{"text":"","dry_run":"yes"}})", "true or false"},
        {R"({"execute":"policy-set","arguments":{"text":"","when":1}})", "\"when\""},
        {R"({"execute":"policy-set","arguments":{"text":"allow"}})", "policy:1:"},
        {R"({"execute":"policy-set","arguments":{"text":"x","source":"mine"}})", "mine:1:1: "},
        {R"({"execute":"policy-explain"})", "\"address\" must be"},
        {R"({"execute":"policy-explain","arguments":{"address":"10.1.2"}})", "\"address\" must be"},
        {R"({"execute":"policy-explain","arguments":{"address":"10.1.2.3"}})", "\"port\" must be"},
        {R"({"execute":"policy-explain","arguments":{"address":"10.1.2.3","port":0}})",
         "1 to 65535"},
        {R"({"execute":"policy-explain","arguments":{"address":"10.1.2.3","port":65536}})",
         "1 to 65535"},
        {R"({"execute":"policy-explain","arguments":{"address":"10.1.2.3","port":"80"}})",
         "1 to 65535"},
        {R"({"execute":"policy-explain","arguments":{"address":"10.1.2.3","port":7,)"
         R"("protocol":"icmp"}})",
         "only for those"},
        {R"({"execute":"policy-explain","arguments":{"address":"10.1.2.3","port":7,)"
         R"("protocol":"sctp"}})",
         "tcp, udp or icmp"},
        {R"({"execute":"policy-explain","arguments":{"address":"10.1.2.3","port":7,)"
         R"("direction":"up"}})",
         "egress or ingress"},
        {R"({"execute":"policy-explain","arguments":{"address":"10.1.2.3","port":7,"name":"a b"}})",
         "domain name"},
        {R"({"execute":"flows-list","arguments":{"all":true}})", "it may hold nothing"},
        {R"({"execute":"events","arguments":{"kind":"denied"}})", "it may hold nothing"},
        {R"({"execute":"event"})", "policy-explain or events"}};
    for (const auto& [request, says] : cases) {
      EXPECT_THAT(ErrorOf(request), HasSubstr(says)) << request;
    }
    EXPECT_THAT(Order({"policy", "show"}).output, StartsWith("# --profile public"))
        << "nothing has changed";
    const Descriptor explained =
        Send(R"({"execute":"policy-explain","arguments":{"address":"10.1.2.3","port":7}})");
    const json answer = NextLine(explained, "return")["return"];
    EXPECT_EQ(answer["verdict"], "deny");
    EXPECT_EQ(answer["group"], "private");
    EXPECT_EQ(answer["rule"], "deny egress @private");
    End(*penstock);
  });
}

TEST_P(Policies, OfTenThousandRulesFitARequest) {
  InOwnNetwork([this] {
    const auto penstock = Start({}, kTry);
    (void)penstock->AwaitLine("ready");
    std::string text;
    for (int i = 0; i < 10'000; ++i) {
      text += "deny egress 10." + std::to_string(i / 250) + "." + std::to_string(i % 250) +
              ".0/24  # one of many\n";
    }
    EXPECT_EQ(Order({"policy", "set", File("many", text)}).output, "set 10000 rules\n");
    EXPECT_EQ(Order({"policy", "show"}).output, text);
    End(*penstock);
  });
}

// ---------------------------------------------------------------- without a penstock

std::string Said(const Outcome& outcome) {
  return outcome.output + outcome.errors + std::to_string(outcome.status);
}

TEST(PolicyCheck, IsSilentAboutWhatIsRight) {
  const TemporaryFolder folder;
  std::ofstream(folder / "right") << "allow egress example.test:443/tcp\n";
  std::ofstream(folder / "wrong") << "\nallow egress 10.0.0.1/8\n";
  EXPECT_EQ(Said(RunProgram({"penstock", "policy", "check", folder / "right", "/dev/null"})), "0");
  const Outcome wrong =
      RunProgram({"penstock", "policy", "check", folder / "right", folder / "wrong"});
  EXPECT_EQ(wrong.status, 2);
  EXPECT_THAT(wrong.errors, StartsWith("penstock: " + (folder / "wrong") + ":2:14: "));
  EXPECT_THAT(wrong.errors, EndsWith("^\n"));
  const std::string long_file = folder / "long";
  std::ofstream(long_file) << std::string((4 << 20) + 1, '#');
  EXPECT_THAT(RunProgram({"penstock", "policy", "check", long_file}).errors,
              HasSubstr("longer than 4194304 bytes"));
}

TEST(PolicyExplain, SaysWhichRuleDecidesAndWhy) {
  const TemporaryFolder folder;
  const std::string rules = folder / "rules";
  std::ofstream(rules) << "deny egress bad.test\n"
                          "allow egress example.test:443/tcp\n"
                          "allow egress @private\n"
                          "default egress deny\n";
  const auto explain = [&](const std::vector<std::string>& words) {
    std::vector<std::string> all{"penstock", "policy", "explain"};
    all.insert(all.end(), words.begin(), words.end());
    return RunProgram(all);
  };
  const Outcome denied = explain({"--profile", "public", "tcp", "[fd01::1]:443"});
  EXPECT_EQ(denied.status, 3) << denied.errors;
  EXPECT_THAT(denied.output, AllOf(HasSubstr("fd01::1"), HasSubstr("deny egress @private")));
  EXPECT_EQ(explain({"--profile", "all", "icmp", "fd01::1"}).status, 0);
  EXPECT_EQ(explain({"--profile", "all", "udp", "169.254.169.254:80"}).status, 3);
  EXPECT_EQ(explain({"--policy", rules, "tcp", "198.51.100.7:443"}).status, 3);
  const Outcome named =
      explain({"--policy", rules, "tcp", "198.51.100.7:443", "--name", "Example.test."});
  EXPECT_EQ(named.status, 0) << named.output;
  EXPECT_THAT(named.output, HasSubstr("line 2, \"allow egress example.test:443/tcp\""));
  EXPECT_EQ(explain({"--policy", rules, "tcp", "198.51.100.7:80", "--name", "example.test"}).status,
            3);
  // Allowed, unless the first bytes name what is denied.
  const Outcome look = explain({"--policy", rules, "tcp", "10.1.2.3:443"});
  EXPECT_EQ(look.status, 4) << look.output;
  EXPECT_THAT(look.output, HasSubstr("bad.test"));
  EXPECT_EQ(explain({"--policy", rules, "tcp", "10.1.2.3:443", "--name", "bad.test"}).status, 3);
  EXPECT_EQ(explain({"--policy", rules, "--ingress", "tcp", "192.0.2.7:80"}).status, 0);
}

}  // namespace
}  // namespace penstock::tool
