// From the options about policy to the policy: its text, and what that means.
#include "tools/penstock/policy_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "stack/policy/policy_engine.h"
#include "tests/tools/program.h"
#include "tools/penstock/options.h"

namespace penstock::tool {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

using Words = std::vector<std::string>;

class PolicyChoiceOf : public testing::Test {
 protected:
  // The options of `penstock run WORDS -- true`, or of attach.
  static CommonOptions Run(Words words) {
    words.insert(words.begin(), "run");
    words.insert(words.end(), {"--", "true"});
    const auto options = ParseOptions(words);
    if (!options.ok()) throw std::runtime_error(options.status().ToString());
    return std::get<RunOptions>(*options).common;
  }
  static CommonOptions Attach(Words words) {
    words.insert(words.begin(), {"attach", "--pid", "1"});
    const auto options = ParseOptions(words);
    if (!options.ok()) throw std::runtime_error(options.status().ToString());
    return std::get<AttachOptions>(*options).common;
  }
  static std::string TextOf(const CommonOptions& options) {
    return options.config.tenant_policy->text();
  }
  static std::string ProfileText(const char* name) {
    return std::string("# --profile ") + name + "\n" + std::string(Policy::ProfileText(name));
  }
  // May the guest speak TCP to it, with the stack's own defaults?
  static bool Allows(const CommonOptions& options, const char* address, uint16_t port = 80) {
    const Config& config = options.config;
    PolicyEngine engine({.gateway4 = config.ipv4.gateway,
                         .gateway6 = config.ipv6.gateway,
                         .host_named = config.host_loopback});
    engine.SetPolicy(PolicyLayer::kPlatform, config.platform_policy);
    engine.SetPolicy(PolicyLayer::kTenant, config.tenant_policy);
    return engine
        .Decide({.address = *IpAddress::Parse(address), .port = port, .looked = true}, Time{})
        .allowed();
  }
  [[nodiscard]] std::string File(const std::string& text) const {
    const std::string path = folder_ / "rules";
    std::ofstream(path) << text;
    return path;
  }

  const TemporaryFolder folder_;
};

constexpr const char* kPublicAddress = "198.51.100.7";
constexpr const char* kPrivateAddress = "10.1.2.3";
constexpr const char* kGateway = "10.0.2.2";
constexpr const char* kMetadata = "169.254.169.254";

TEST_F(PolicyChoiceOf, EachCommandHasAProfileOfItsOwn) {
  const CommonOptions run = Run({});
  EXPECT_EQ(TextOf(run), ProfileText("public"));
  EXPECT_EQ(run.policy_option_lines, 0U);
  EXPECT_EQ(run.config.platform_policy, nullptr);
  EXPECT_TRUE(Allows(run, kPublicAddress));
  EXPECT_FALSE(Allows(run, kPrivateAddress));
  const CommonOptions attach = Attach({});
  EXPECT_EQ(TextOf(attach), ProfileText("all"));
  EXPECT_TRUE(Allows(attach, kPrivateAddress));
  for (const CommonOptions& options : {run, attach}) {
    EXPECT_FALSE(Allows(options, kGateway));
    EXPECT_FALSE(Allows(options, kMetadata));
  }
  EXPECT_EQ(TextOf(Run({"--profile", "all"})), ProfileText("all"));
  EXPECT_EQ(TextOf(Attach({"--profile", "none"})), ProfileText("none"));
  EXPECT_FALSE(Allows(Attach({"--profile", "none"}), kPublicAddress));
}

TEST_F(PolicyChoiceOf, AllowAloneDeniesTheRest) {
  const CommonOptions options = Run({"--allow", "10.1.2.3:80/tcp"});
  EXPECT_EQ(TextOf(options), "allow egress 10.1.2.3:80/tcp\n" + ProfileText("none"));
  EXPECT_EQ(options.policy_option_lines, 1U);
  EXPECT_TRUE(Allows(options, kPrivateAddress));
  EXPECT_FALSE(Allows(options, kPrivateAddress, 81));
  EXPECT_FALSE(Allows(options, kPublicAddress));
  EXPECT_FALSE(Allows(Attach({"--allow", "10.1.2.3"}), kPublicAddress));
}

TEST_F(PolicyChoiceOf, AllowWithAProfileAddsToIt) {
  const CommonOptions options = Run({"--profile", "public", "--allow", "10.1.2.0/24"});
  EXPECT_TRUE(Allows(options, kPrivateAddress));
  EXPECT_TRUE(Allows(options, kPublicAddress));
  EXPECT_FALSE(Allows(options, "10.1.3.3"));
}

TEST_F(PolicyChoiceOf, DenyAloneTakesAwayFromTheProfile) {
  const CommonOptions options = Run({"--deny", "198.51.100.0/24"});
  EXPECT_EQ(TextOf(options), "deny egress 198.51.100.0/24\n" + ProfileText("public"));
  EXPECT_FALSE(Allows(options, kPublicAddress));
  EXPECT_TRUE(Allows(options, "203.0.113.1"));
}

TEST_F(PolicyChoiceOf, RulesAreInTheOrderOfTheCommandLine) {
  EXPECT_THAT(TextOf(Run({"--deny", "10.1.2.3", "--allow", "@private", "--deny", "any:25", "--mtu",
                          "1400", "--allow", "any"})),
              StartsWith("deny egress 10.1.2.3\nallow egress @private\ndeny egress any:25\n"
                         "allow egress any\n# --profile none\n"));
  EXPECT_FALSE(Allows(Run({"--deny", "10.1.2.3", "--allow", "@private"}), kPrivateAddress));
  EXPECT_TRUE(Allows(Run({"--allow", "@private", "--deny", "10.1.2.3"}), kPrivateAddress));
}

TEST_F(PolicyChoiceOf, AFileIsTheWholeRest) {
  const std::string text = "# mine\r\nallow egress 10.0.0.0/8\n\ndefault ingress deny";
  const CommonOptions options = Run({"--policy", File(text), "--deny", "10.1.2.4"});
  EXPECT_EQ(TextOf(options), "deny egress 10.1.2.4\n" + text);
  EXPECT_TRUE(Allows(options, kPrivateAddress));
  EXPECT_FALSE(Allows(options, "10.1.2.4"));
  EXPECT_FALSE(Allows(options, kPublicAddress));
  EXPECT_EQ(TextOf(Run({"--policy", File("")})), "");
  EXPECT_FALSE(Allows(Run({"--policy", File("")}), kPublicAddress)) << "no rule allows it";
}

TEST_F(PolicyChoiceOf, ThePlatformMustAllowAsWell) {
  const CommonOptions options = Run({"--profile", "all", "--platform-policy",
                                     File("deny egress 10.1.2.3\ndefault egress allow\n")});
  EXPECT_FALSE(Allows(options, kPrivateAddress));
  EXPECT_TRUE(Allows(options, "10.1.2.4"));
}

TEST_F(PolicyChoiceOf, HostLoopbackNamesTheHostInEveryProfile) {
  for (const char* profile : {"public", "none", "all"}) {
    const CommonOptions options = Run({"--profile", profile, "--host-loopback"});
    EXPECT_TRUE(Allows(options, kGateway)) << profile;
    EXPECT_TRUE(Allows(options, "fd00::2")) << profile;
    EXPECT_FALSE(Allows(options, kMetadata)) << profile;
    EXPECT_FALSE(Allows(Run({"--profile", profile}), kGateway)) << profile;
  }
  const CommonOptions allowed = Run({"--allow", "10.1.2.3", "--host-loopback"});
  EXPECT_TRUE(Allows(allowed, kGateway));
  EXPECT_FALSE(Allows(allowed, kPublicAddress));
  EXPECT_EQ(allowed.policy_option_lines, 1U);
  // What is denied in so many words stays so.
  const CommonOptions denied = Run({"--host-loopback", "--deny", "@host:22"});
  EXPECT_FALSE(Allows(denied, kGateway, 22));
  EXPECT_TRUE(Allows(denied, kGateway, 80));
  // A file says itself what may be reached.
  EXPECT_FALSE(Allows(Run({"--host-loopback", "--policy", File("default egress deny")}), kGateway));
}

TEST_F(PolicyChoiceOf, AllowNamesTheHostAndMetadata) {
  EXPECT_TRUE(Allows(Run({"--allow", "10.0.2.2:8080"}), kGateway, 8080));
  EXPECT_FALSE(Allows(Run({"--allow", "10.0.2.2:8080"}), kGateway, 8081));
  EXPECT_TRUE(Allows(Run({"--allow", "@host:8080"}), "fd00::2", 8080));
  EXPECT_TRUE(Allows(Run({"--allow", "@metadata"}), kMetadata));
  EXPECT_FALSE(Allows(Run({"--allow", "any"}), kMetadata));
}

TEST_F(PolicyChoiceOf, KnowsHowOneMoreThingWouldBeAllowed) {
  EXPECT_EQ(Run({}).allow_option, "--profile public --allow");
  EXPECT_EQ(Run({"--deny", "any:25"}).allow_option, "--profile public --allow");
  EXPECT_EQ(Attach({}).allow_option, "--profile all --allow");
  EXPECT_EQ(Run({"--profile", "public"}).allow_option, "--allow");
  EXPECT_EQ(Run({"--allow", "10.1.2.3"}).allow_option, "--allow");
  EXPECT_EQ(Run({"--policy", File("")}).allow_option, "--allow");
}

TEST_F(PolicyChoiceOf, TheWholeTextIsAPolicy) {
  for (const Words& words :
       {Words{}, Words{"--allow", "*.example.test:80,443/tcp", "--deny", "any"},
        Words{"--host-loopback", "--profile", "none"}}) {
    const std::string text = TextOf(Run(words));
    const auto again = Policy::Parse(text);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ((*again)->text(), text);
  }
}

}  // namespace
}  // namespace penstock::tool
