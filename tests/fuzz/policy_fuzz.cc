// Any text as a policy. What is understood must be understood the same from its rules as
// they are shown (PolicyRule::text), and both must decide alike about every address, name
// and port that the rules have, and those beside them; whatever is allowed may be reached,
// and what is allowed without a look no name makes a denial. What is refused must be told
// in three lines of printable ASCII.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "stack/policy/name_pins.h"
#include "stack/policy/policy.h"
#include "stack/policy/policy_text.h"

namespace {

using namespace penstock;

constexpr Time kNow = Time() + std::chrono::hours(1);
constexpr size_t kEachMax = 12;  // addresses, names and ports that are asked about

void Require(bool holds) {
  if (!holds) std::abort();
}

void CheckRefusal(const absl::Status& status) {
  const std::string message(status.message());
  Require(status.code() == absl::StatusCode::kInvalidArgument);
  Require(std::all_of(message.begin(), message.end(),
                      [](char c) { return c == '\n' || (c >= ' ' && c < 127); }));
  Require(std::count(message.begin(), message.end(), '\n') <= 2);
  Require(message.size() <= 4 * kPolicyLineBytesMax + 200);
}

// What to ask about.
struct Questions {
  std::vector<IpAddress> addresses{*IpAddress::Parse("10.0.2.2"), *IpAddress::Parse("fd00::2"),
                                   *IpAddress::Parse("169.254.169.254"),
                                   *IpAddress::Parse("::ffff:192.0.2.1")};
  std::vector<std::string> names{"", "other.test"};
  std::vector<uint16_t> ports{0, 443};
};

IpAddress Beside(IpAddress address, int step) {
  for (size_t i = address.wire().size(); i-- > 0;) {
    address.bytes[i] = static_cast<uint8_t>(address.bytes[i] + step);
    if (address.bytes[i] != (step > 0 ? 0 : 0xff)) break;
  }
  return address;
}

Questions QuestionsOf(const ParsedPolicy& parsed) {
  Questions ask;
  for (const ParsedRule& rule : parsed.rules) {
    const PolicyTarget& target = rule.target;
    if (target.kind == PolicyTarget::Kind::kNetwork && ask.addresses.size() < kEachMax) {
      ask.addresses.push_back(target.address);
      ask.addresses.push_back(Beside(target.address, 1));
      ask.addresses.push_back(Beside(target.address, -1));
    }
    if (target.is_name() && ask.names.size() < kEachMax) {
      ask.names.push_back(target.name);
      ask.names.push_back("x." + target.name);
    }
    for (const PortRange& range : target.ports) {
      if (ask.ports.size() >= kEachMax) break;
      ask.ports.push_back(range.first);
      ask.ports.push_back(static_cast<uint16_t>(range.last + 1));
    }
  }
  return ask;
}

// The rules as they are shown, one a line.
std::string Shown(const ParsedPolicy& parsed) {
  std::string text;
  for (const ParsedRule& rule : parsed.rules) text += rule.written.text + "\n";
  text += parsed.allow_by_default[0] ? "default egress allow\n" : "default egress deny\n";
  return text + (parsed.allow_by_default[1] ? "default ingress allow\n" : "default ingress deny\n");
}

void CheckQuestion(const Policy& policy, const Policy& again, PolicyQuestion question,
                   const NamePins& pins) {
  const PolicyContext context{.gateway4 = *IpAddress::Parse("10.0.2.2"),
                              .gateway6 = *IpAddress::Parse("fd00::2")};
  const Decision decision = policy.Decide(question, context, pins, kNow);
  const Decision other = again.Decide(question, context, pins, kNow);
  Require(decision.verdict == other.verdict && decision.group == other.group);
  Require((decision.rule == nullptr) == (other.rule == nullptr));
  if (decision.rule != nullptr) Require(decision.rule->text == other.rule->text);
  Require(!policy.Explain(question, context, pins, kNow).empty());
  if (question.direction == Direction::kIngress || decision.verdict == Verdict::kDeny) return;
  if (!question.name.empty()) {
    const Policy::Reach reach{.name = question.name, .address = question.address};
    Require(policy.MayReach(reach, context).verdict == Verdict::kAllow);
  } else if (!question.looked && decision.verdict == Verdict::kAllow) {
    for (const char* name : {"other.test", "x.test", "test"}) {
      question.name = name;
      Require(policy.Decide(question, context, pins, kNow).verdict == Verdict::kAllow);
    }
  }
}

void CheckPolicy(const Policy& policy, const ParsedPolicy& parsed) {
  const auto again = Policy::Parse(Shown(parsed));
  Require(again.ok());
  Require((*again)->rule_count() == policy.rule_count());
  Require((*again)->has_names() == policy.has_names());
  const Questions ask = QuestionsOf(parsed);
  NamePins pins;
  for (size_t i = 0; i < ask.addresses.size(); ++i) {
    pins.Add(ask.names[i % ask.names.size()], ask.addresses[i], std::chrono::seconds(9), kNow);
  }
  for (const IpAddress& address : ask.addresses) {
    for (const std::string& name : ask.names) {
      for (const uint16_t port : ask.ports) {
        PolicyQuestion question{.address = address, .port = port, .name = name};
        CheckQuestion(policy, **again, question, pins);
        question.looked = true;
        CheckQuestion(policy, **again, question, pins);
        question.protocol = port == 0 ? PolicyProtocol::kIcmp : PolicyProtocol::kUdp;
        CheckQuestion(policy, **again, question, pins);
        question.name = {};
        question.direction = Direction::kIngress;
        CheckQuestion(policy, **again, question, pins);
      }
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto policy = Policy::Parse(text);
  if (policy.ok()) {
    Require((*policy)->text() == text);
    const auto parsed = ParsePolicyText(text, "again");
    Require(parsed.ok());
    CheckPolicy(**policy, *parsed);
  } else {
    CheckRefusal(policy.status());
  }
  const auto target = ParsePolicyTarget(text, "--allow");
  if (!target.ok()) CheckRefusal(target.status());
  // A target alone is one in a rule, too.
  const auto rule = Policy::Parse("deny egress " + std::string(text));
  if (target.ok()) Require(rule.ok() && (*rule)->rule_count() == 1);
  return 0;
}
