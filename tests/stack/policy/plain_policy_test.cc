// A million decisions of random policies about random questions, compared with those of a
// plain list of rules. Addresses, names and ports come from few, close to each other and to
// the edges of groups, so that rules match, nest and hide each other.
//
// The seed is printed; PENSTOCK_POLICY_SEED replays one.
#include "tests/stack/policy/plain_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <random>
#include <string>

#include "stack/policy/name_pins.h"
#include "tests/stack/policy/policy_question.h"

namespace penstock {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kPolicies = 60;
#else
constexpr int kPolicies = 1'000;
#endif
constexpr int kQuestions = 1'000;  // of each policy

constexpr std::array kAddresses{"0.0.0.0",
                                "0.0.0.1",
                                "9.255.255.255",
                                "10.0.0.0",
                                "10.0.2.2",
                                "10.0.2.3",
                                "10.1.1.1",
                                "10.255.255.255",
                                "127.0.0.1",
                                "169.254.169.253",
                                "169.254.169.254",
                                "192.0.2.1",
                                "192.0.2.2",
                                "192.0.2.129",
                                "192.0.3.1",
                                "224.0.0.1",
                                "255.255.255.255",
                                "::",
                                "::1",
                                "::ffff:10.0.2.2",
                                "::ffff:192.0.2.1",
                                "2001:db8::1",
                                "2001:db8::2",
                                "2001:db8:8000::1",
                                "fd00::1",
                                "fd00::2",
                                "fd00:ec2::254",
                                "fe80::1",
                                "fe80::2",
                                "ff02::1",
                                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"};
constexpr std::array kNames{"a.test",     "b.test",   "x.a.test",   "y.a.test",
                            "z.x.a.test", "xa.test",  "a.example",  "test",
                            "example",    "b.a.test", "x.b.a.test", "c.example"};
constexpr std::array<uint16_t, 12> kPorts{1, 2, 22, 79, 80, 81, 442, 443, 444, 8000, 65534, 65535};

class RandomPolicies final {
 public:
  // `many`: a thousand rules, most of them for some port of any address or a group, so that
  // their tables are long.
  explicit RandomPolicies(uint64_t seed, bool many = false) : random_(seed), many_(many) {}

  uint32_t Below(uint32_t bound) {
    return std::uniform_int_distribution<uint32_t>(0, bound - 1)(random_);
  }
  bool OneIn(uint32_t count) { return Below(count) == 0; }
  template <typename Array>
  auto Of(const Array& array) {
    return array[Below(static_cast<uint32_t>(array.size()))];
  }
  uint16_t APort() {
    return many_ && !OneIn(4) ? static_cast<uint16_t>(1 + Below(65'535)) : Of(kPorts);
  }
  IpAddress AnAddress() { return Address(Of(kAddresses)); }

  PlainRule Rule() {
    PlainRule rule;
    rule.direction = OneIn(6) ? Direction::kIngress : Direction::kEgress;
    rule.allow = OneIn(2);
    const uint32_t kind =
        many_ && !OneIn(3) ? Below(2) * 5 : Below(rule.direction == Direction::kEgress ? 12 : 7);
    if (kind == 0) {
      rule.kind = PlainRule::Kind::kAny;
    } else if (kind < 5) {
      Network(rule);
    } else if (kind < 7) {
      rule.kind = PlainRule::Kind::kGroup;
      rule.group = static_cast<AddressGroup>(Below(7));
    } else {
      rule.kind = kind < 10 ? PlainRule::Kind::kName : PlainRule::Kind::kNameBelow;
      rule.name = Of(kNames);
    }
    Ports(rule);
    return rule;
  }

  PlainPolicy APolicy() {
    PlainPolicy policy;
    // Mostly few, for a long list has little that is not hidden.
    const uint32_t count = many_ ? 1'000 : OneIn(50) ? 200 : Below(OneIn(4) ? 40 : 9);
    for (uint32_t i = 0; i < count; ++i) policy.rules.push_back(Rule());
    policy.allow_egress = OneIn(2);
    policy.allow_ingress = OneIn(2);
    return policy;
  }

  std::vector<PlainPin> Pins() {
    std::vector<PlainPin> pins;
    for (uint32_t i = Below(20); i > 0; --i) {
      pins.push_back({.name = Of(kNames),
                      .address = AnAddress(),
                      .end = kNow + std::chrono::seconds(1 + Below(3))});
    }
    return pins;
  }

  PolicyQuestion Question() {
    PolicyQuestion question;
    question.direction = OneIn(6) ? Direction::kIngress : Direction::kEgress;
    question.protocol = static_cast<PolicyProtocol>(OneIn(2) ? 0 : Below(3));
    question.address = AnAddress();
    if (question.protocol != PolicyProtocol::kIcmp) question.port = APort();
    question.looked = OneIn(3) || question.protocol != PolicyProtocol::kTcp;
    if (question.direction == Direction::kEgress && OneIn(2)) question.name = Of(kNames);
    return question;
  }

  Policy::Reach AReach() {
    Policy::Reach reach;
    if (!OneIn(3)) reach.address = AnAddress();
    if (!reach.address || OneIn(2)) reach.name = Of(kNames);
    return reach;
  }

 private:
  void Network(PlainRule& rule) {
    rule.kind = PlainRule::Kind::kNetwork;
    IpAddress address = AnAddress().Unmapped();
    const auto bits = static_cast<uint32_t>(address.wire().size() * 8);
    rule.prefix_length = static_cast<int>(OneIn(3) ? bits : Below(bits + 1));
    for (uint32_t bit = static_cast<uint32_t>(rule.prefix_length); bit < bits; ++bit) {
      address.bytes[bit / 8] &= static_cast<uint8_t>(~(0x80 >> bit % 8));
    }
    // What a mask has made of ::ffff:0:0 is no other address.
    rule.address = address;
  }

  void Ports(PlainRule& rule) {
    if (OneIn(2) || many_) {
      for (uint32_t i = many_ ? 1 : Below(4); i > 0; --i) {
        const uint16_t a = APort();
        const uint16_t b = OneIn(2) ? a
                           : many_  ? static_cast<uint16_t>(std::min(65'535u, a + Below(200)))
                                    : APort();
        rule.ports.emplace_back(std::min(a, b), std::max(a, b));
      }
    }
    if (!rule.ports.empty()) rule.icmp = false;
    if (!OneIn(3)) return;
    rule.tcp = OneIn(2);
    rule.udp = OneIn(2);
    rule.icmp = rule.ports.empty() && OneIn(2);
    if (!rule.tcp && !rule.udp && !rule.icmp) rule.tcp = true;
  }

  std::mt19937_64 random_;
  const bool many_;
};

std::string ToString(const PolicyQuestion& question) {
  std::string text = std::string(Name(question.direction)) + " " +
                     std::string(Name(question.protocol)) + " " + question.address.ToString() +
                     " " + std::to_string(question.port);
  if (question.looked) text += " looked";
  return question.name.empty() ? text : text + " shows " + std::string(question.name);
}

PlainPolicy::Answer AnswerOf(const Decision& decision) {
  return {.verdict = decision.verdict,
          .line = decision.rule ? static_cast<int>(decision.rule->line) : 0};
}

uint64_t Seed() {
  const char* given = std::getenv("PENSTOCK_POLICY_SEED");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
}

struct Tally {
  std::array<int, 3> verdicts{};  // by Verdict
  int by_rule = 0;
};

// One policy, asked many times. False: it has answered something wrong.
bool AskMany(RandomPolicies& random, Tally& tally) {
  const PlainPolicy plain = random.APolicy();
  const auto policy = PolicyOf(plain.ToString());
  const std::vector<PlainPin> plain_pins = random.Pins();
  NamePins pins;
  for (const PlainPin& pin : plain_pins) {
    pins.Add(pin.name, pin.address,
             std::chrono::duration_cast<std::chrono::seconds>(pin.end - kNow), kNow);
  }
  const PolicyContext context = Context(random.OneIn(2));
  for (int i = 0; i < kQuestions; ++i) {
    const PolicyQuestion question = random.Question();
    const Time now = kNow + std::chrono::seconds(random.Below(3));
    const PlainPolicy::Answer expected = plain.Decide(question, context, plain_pins, now);
    const Decision decision = policy->Decide(question, context, pins, now);
    EXPECT_EQ(decision.group, PlainGroup(question.address, context));
    ++tally.verdicts[static_cast<size_t>(decision.verdict)];
    tally.by_rule += decision.rule ? 1 : 0;
    if (AnswerOf(decision) != expected) {
      ADD_FAILURE() << ToString(question) << ": " << ToString(decision) << ", expected line "
                    << expected.line << "\n"
                    << policy->Explain(question, context, pins, now) << "\n"
                    << plain.ToString();
      return false;
    }
    // Whatever is allowed, or may turn out to be, may be reached under the pinned name.
    const bool is_egress = question.direction == Direction::kEgress;
    if (is_egress && decision.verdict != Verdict::kDeny && !question.name.empty() &&
        policy->MayReach({.name = question.name, .address = question.address}, context).verdict !=
            Verdict::kAllow) {
      ADD_FAILURE() << ToString(question) << " may not be reached\n" << plain.ToString();
      return false;
    }
  }
  for (int i = 0; i < kQuestions / 10; ++i) {
    const Policy::Reach reach = random.AReach();
    const PlainPolicy::Answer expected = plain.MayReach(reach, context);
    const Decision decision = policy->MayReach(reach, context);
    if (AnswerOf(decision) == expected) continue;
    ADD_FAILURE() << reach.name << " at "
                  << (reach.address ? reach.address->ToString() : "no address") << ": "
                  << ToString(decision) << ", expected line " << expected.line << "\n"
                  << plain.ToString();
    return false;
  }
  return true;
}

TEST(PlainPolicy, AMillionDecisionsAreThoseOfAPlainList) {
  const uint64_t seed = Seed();
  std::printf("PENSTOCK_POLICY_SEED=%llu\n", static_cast<unsigned long long>(seed));
  RandomPolicies random(seed);
  Tally tally;
  for (int i = 0; i < kPolicies; ++i) ASSERT_TRUE(AskMany(random, tally)) << "seed " << seed;
  // It would show little if hardly anything happened.
  const int total = kPolicies * kQuestions;
  for (const int count : tally.verdicts) EXPECT_GT(count, total / 100);
  EXPECT_GT(tally.by_rule, total / 4);
}

TEST(PlainPolicy, SoAreThoseOfAThousandRules) {
  const uint64_t seed = Seed();
  std::printf("PENSTOCK_POLICY_SEED=%llu\n", static_cast<unsigned long long>(seed));
  RandomPolicies random(seed, true);
  Tally tally;
  for (int i = 0; i < kPolicies / 40; ++i) ASSERT_TRUE(AskMany(random, tally)) << "seed " << seed;
  EXPECT_GT(tally.by_rule, kPolicies / 40 * kQuestions / 4);
}

}  // namespace
}  // namespace penstock
