#include "stack/policy/policy_engine.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "tests/stack/policy/policy_question.h"

namespace penstock {
namespace {

using enum PolicyLayer;

std::string ToString(const PolicyEngine::Answer& answer) {
  const Decision decision{.verdict = answer.verdict, .rule = answer.rule, .group = answer.group};
  return std::string(answer.layer == EventLayer::kPlatform ? "platform "
                     : answer.layer == EventLayer::kTenant ? "tenant "
                                                           : "") +
         ToString(decision);
}

class PolicyEngineTest : public testing::Test {
 protected:
  std::string Ask(const char* line) {
    const AskedQuestion asked(line);
    return ToString(engine_.Decide(asked.question, kNow));
  }
  std::string Explain(const char* line) {
    const AskedQuestion asked(line);
    return engine_.Explain(asked.question, kNow);
  }

  PolicyEngine engine_{Context()};
};

TEST_F(PolicyEngineTest, WithoutAPolicyOnlyWhatIsShutEverywhereIsDenied) {
  EXPECT_EQ(Ask("tcp 192.0.2.1 80"), "allow");
  EXPECT_EQ(Ask("tcp 10.1.1.1 80"), "allow");
  EXPECT_EQ(Ask("tcp 10.0.2.2 80"), "deny");
  EXPECT_EQ(Ask("icmp fd00::2 0"), "allow");
  EXPECT_EQ(Ask("tcp 169.254.169.254 80"), "deny");
  EXPECT_EQ(Ask("in tcp 127.0.0.1 80"), "allow");
  EXPECT_FALSE(engine_.has_names());
  EXPECT_EQ(engine_.generation(), 0u);
}

TEST_F(PolicyEngineTest, BothLayersMustAllow) {
  engine_.SetPolicy(kPlatform, PolicyOf("deny egress 192.0.2.0/24\nallow egress any"));
  EXPECT_EQ(Ask("tcp 192.0.2.1 80"), "platform deny 1");
  EXPECT_EQ(Ask("tcp 198.51.100.1 80"), "platform allow 2");
  engine_.SetPolicy(kTenant, PolicyOf("allow egress any:80\n"));
  EXPECT_EQ(Ask("tcp 198.51.100.1 80"), "tenant allow 1");
  EXPECT_EQ(Ask("tcp 198.51.100.1 443"), "tenant deny");
  EXPECT_EQ(Ask("tcp 192.0.2.1 80"), "platform deny 1");
  EXPECT_EQ(Ask("tcp 192.0.2.1 443"), "platform deny 1");
  engine_.SetPolicy(kPlatform, nullptr);
  EXPECT_EQ(Ask("tcp 192.0.2.1 80"), "tenant allow 1");
  EXPECT_EQ(Ask("tcp 192.0.2.1 443"), "tenant deny");
  engine_.SetPolicy(kTenant, nullptr);
  EXPECT_EQ(Ask("tcp 192.0.2.1 443"), "allow");
  EXPECT_EQ(engine_.generation(), 4u);
}

TEST_F(PolicyEngineTest, ALookIsLessThanADenialAndMoreThanAPermission) {
  Pin(engine_.pins(), "example.test 192.0.2.1");
  engine_.SetPolicy(kPlatform, PolicyOf("deny egress bad.test\nallow egress any"));
  EXPECT_EQ(Ask("tcp 192.0.2.1 80"), "platform look 2");
  engine_.SetPolicy(kTenant, PolicyOf("allow egress any:80\nallow egress example.test"));
  EXPECT_EQ(Ask("tcp 192.0.2.1 80"), "platform look 2");
  EXPECT_EQ(Ask("tcp 192.0.2.1 443"), "platform look 2");
  EXPECT_EQ(Ask("tcp 192.0.2.2 443"), "tenant deny");
  EXPECT_EQ(Ask("tcp 192.0.2.1 443 shows example.test"), "tenant allow 2");
  EXPECT_EQ(Ask("tcp 192.0.2.1 443 shows other.test"), "tenant deny");
  EXPECT_EQ(Ask("tcp 192.0.2.1 80 shows bad.test"), "platform deny 1");
  engine_.SetPolicy(kPlatform, PolicyOf("allow egress any"));
  EXPECT_EQ(Ask("tcp 192.0.2.1 443"), "tenant look 2");
  EXPECT_EQ(Ask("tcp 192.0.2.1 80"), "tenant allow 1");
}

TEST_F(PolicyEngineTest, KnowsWhetherAnyLayerHasNames) {
  engine_.SetPolicy(kTenant, PolicyOf("allow egress example.test"));
  EXPECT_TRUE(engine_.has_names());
  engine_.SetPolicy(kPlatform, Policy::Profile("public"));
  EXPECT_TRUE(engine_.has_names());
  engine_.SetPolicy(kTenant, Policy::Profile("public"));
  EXPECT_FALSE(engine_.has_names());
  EXPECT_EQ(engine_.policy(kTenant), Policy::Profile("public"));
}

TEST_F(PolicyEngineTest, ReachAsksBothLayers) {
  const auto reach = [this](std::string_view name, const char* address) {
    Policy::Reach asked{.name = name};
    if (address != nullptr) asked.address = Address(address);
    return ToString(engine_.MayReach(asked));
  };
  EXPECT_EQ(reach("example.test", nullptr), "allow");
  EXPECT_EQ(reach("example.test", "169.254.169.254"), "deny");
  engine_.SetPolicy(kPlatform, Policy::Profile("public"));
  EXPECT_EQ(reach("example.test", nullptr), "platform allow");
  EXPECT_EQ(reach("example.test", "10.0.0.1"), "platform deny 3");
  engine_.SetPolicy(kTenant, PolicyOf("deny egress bad.test:80\n"
                                      "allow egress *.test:443\n"
                                      "deny egress *.example\n"
                                      "allow egress 192.0.2.0/24/icmp"));
  EXPECT_EQ(reach("bad.test", nullptr), "tenant allow 2");
  EXPECT_EQ(reach("bad.test", "192.0.2.1"), "tenant allow 2");
  EXPECT_EQ(reach("bad.test", "10.0.0.1"), "platform deny 3");
  EXPECT_EQ(reach("a.example", nullptr), "tenant deny 3");
  EXPECT_EQ(reach("example", nullptr), "tenant deny");
  EXPECT_EQ(reach("example", "192.0.2.1"), "tenant allow 4");
  EXPECT_EQ(reach("", "192.0.2.1"), "tenant allow 4");
  EXPECT_EQ(reach("", "198.51.100.1"), "tenant deny");
  engine_.SetPolicy(kPlatform, Policy::Profile("none"));
  EXPECT_EQ(reach("bad.test", nullptr), "platform deny");
}

TEST_F(PolicyEngineTest, NamesWithoutAnAddressAreTakenToBePublic) {
  const auto reach = [this](const char* policy) {
    engine_.SetPolicy(kTenant, PolicyOf(policy));
    return ToString(engine_.MayReach({.name = "example.test"}));
  };
  EXPECT_EQ(reach("allow egress @public:443"), "tenant allow 1");
  EXPECT_EQ(reach("deny egress @public\ndefault egress allow"), "tenant deny 1");
  EXPECT_EQ(reach("deny egress @public/tcp\ndefault egress allow"), "tenant allow");
  EXPECT_EQ(reach("deny egress @private\ndefault egress allow"), "tenant allow");
  EXPECT_EQ(reach("allow egress @private"), "tenant deny");
  EXPECT_EQ(reach("allow egress 192.0.2.0/24"), "tenant deny");
  EXPECT_EQ(reach("deny egress 0.0.0.0/0\ndefault egress allow"), "tenant allow");
  EXPECT_EQ(reach("allow egress 0.0.0.0/0:443"), "tenant allow 1");
  EXPECT_EQ(reach("deny egress any\nallow egress example.test"), "tenant deny 1");
  EXPECT_EQ(reach("allow ingress any\ndefault ingress allow"), "tenant deny");
}

TEST_F(PolicyEngineTest, ExplainsWhichRuleDecidesAndWhy) {
  Pin(engine_.pins(), "example.test 192.0.2.1, other.test 192.0.2.1");
  engine_.SetPolicy(kPlatform, Policy::Profile("public"));
  engine_.SetPolicy(kTenant, PolicyOf("allow egress example.test:443\n"
                                      "allow egress 203.0.113.0/24\n"
                                      "deny egress *.bad.test\n"
                                      "allow egress 198.51.100.0/24:80"));
  EXPECT_EQ(Explain("tcp 192.0.2.1 443"),
            "egress tcp 192.0.2.1:443, public\n"
            "pinned: other.test\n"
            "pinned: example.test\n"
            "platform: allowed by the default of egress: no rule is for it\n"
            "tenant: to be looked at: allowed by line 1, \"allow egress example.test:443\", as the "
            "name example.test is pinned to 192.0.2.1 for 60 s more; its first bytes may show a "
            "name that is denied\n");
  EXPECT_EQ(Explain("tcp 192.0.2.1 443 shows example.test"),
            "egress tcp 192.0.2.1:443, public, shows the name example.test\n"
            "pinned: other.test\n"
            "pinned: example.test\n"
            "platform: allowed by the default of egress: no rule is for it\n"
            "tenant: allowed by line 1, \"allow egress example.test:443\", as the name "
            "example.test is shown and is pinned to 192.0.2.1\n");
  EXPECT_EQ(Explain("tcp ::ffff:192.0.2.9 443 shows example.test"),
            "egress tcp 192.0.2.9:443, public, shows the name example.test\n"
            "platform: allowed by the default of egress: no rule is for it\n"
            "tenant: denied by the default of egress: no rule is for it; line 1, \"allow egress "
            "example.test:443\" is not for it, as example.test is not pinned to 192.0.2.9\n");
  EXPECT_EQ(Explain("icmp 10.0.0.1 0"),
            "egress icmp 10.0.0.1, private\n"
            "platform: denied by line 3, \"deny egress @private\", as 10.0.0.1 is private\n"
            "tenant: denied by the default of egress: no rule is for it\n");
  EXPECT_EQ(Explain("udp 203.0.113.1 53"),
            "egress udp 203.0.113.1:53, public\n"
            "platform: allowed by the default of egress: no rule is for it\n"
            "tenant: allowed by line 2, \"allow egress 203.0.113.0/24\", which has 203.0.113.1\n");
  EXPECT_EQ(Explain("tcp 198.51.100.1 80"),
            "egress tcp 198.51.100.1:80, public\n"
            "platform: allowed by the default of egress: no rule is for it\n"
            "tenant: to be looked at: allowed by line 4, \"allow egress 198.51.100.0/24:80\", "
            "which has 198.51.100.1; its first bytes may show a name that is denied by line 3, "
            "\"deny egress *.bad.test\", or by a later rule\n");
  engine_.SetPolicy(kPlatform, nullptr);
  engine_.SetPolicy(kTenant, nullptr);
  EXPECT_EQ(Explain("tcp fd00::2 80"),
            "egress tcp [fd00::2]:80, host\n"
            "no policy: denied by no rule, and fd00::2 is host, which is shut unless its group, a "
            "network or its address is allowed\n");
}

}  // namespace
}  // namespace penstock
