#include "tests/stack/policy/policy_question.h"

#include <gtest/gtest.h>

#include <sstream>

namespace penstock {

IpAddress Address(std::string_view text) {
  const auto address = IpAddress::Parse(text);
  EXPECT_TRUE(address.has_value()) << text;
  return address.value_or(IpAddress());
}

std::shared_ptr<const Policy> PolicyOf(std::string_view text) {
  auto policy = Policy::Parse(text);
  EXPECT_TRUE(policy.ok()) << policy.status().message();
  return policy.ok() ? *std::move(policy) : Policy::Profile("none");
}

PolicyContext Context(bool host_named) {
  return {.gateway4 = Address("10.0.2.2"),
          .gateway6 = Address("fd00::2"),
          .gateway6_link_local = Address("fe80::2"),
          .host_named = host_named};
}

void Pin(NamePins& pins, std::string_view list) {
  std::istringstream items{std::string(list)};
  for (std::string item; std::getline(items, item, ',');) {
    std::istringstream words(item);
    std::string name, address;
    words >> name >> address;
    pins.Add(name, Address(address), std::chrono::seconds(60), kNow);
  }
}

AskedQuestion::AskedQuestion(std::string_view line) {
  std::istringstream words{std::string(line)};
  std::string word, address;
  words >> word;
  if (word == "in") {
    question.direction = Direction::kIngress;
    words >> word;
  }
  EXPECT_TRUE(word == "tcp" || word == "udp" || word == "icmp") << line;
  question.protocol = word == "tcp"   ? PolicyProtocol::kTcp
                      : word == "udp" ? PolicyProtocol::kUdp
                                      : PolicyProtocol::kIcmp;
  question.looked = question.protocol != PolicyProtocol::kTcp;
  words >> address >> question.port;
  EXPECT_TRUE(words) << line;
  question.address = Address(address);
  while (words >> word) {
    EXPECT_TRUE(word == "shows" || word == "looked") << line;
    if (word == "shows") words >> name;
    question.looked = true;
  }
  question.name = name;
}

std::string ToString(const Decision& decision) {
  const std::string verdict = decision.verdict == Verdict::kAllow  ? "allow"
                              : decision.verdict == Verdict::kDeny ? "deny"
                                                                   : "look";
  return decision.rule ? verdict + " " + std::to_string(decision.rule->line) : verdict;
}

}  // namespace penstock
