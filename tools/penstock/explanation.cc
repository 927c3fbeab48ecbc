#include "tools/penstock/explanation.h"

#include "relay/time.h"
#include "stack/config.h"
#include "stack/policy/policy_engine.h"

namespace penstock::tool {

std::string_view Name(Verdict verdict) {
  switch (verdict) {
    case Verdict::kAllow:
      return "allow";
    case Verdict::kDeny:
      return "deny";
    case Verdict::kLook:
      return "look";
  }
  return "?";
}

Explanation ExplainAlone(const std::shared_ptr<const Policy>& policy,
                         const PolicyQuestion& question) {
  const Config defaults;
  PolicyEngine engine(
      {.gateway4 = defaults.ipv4.gateway, .gateway6 = defaults.ipv6.gateway, .host_named = false});
  engine.SetPolicy(PolicyLayer::kTenant, policy);
  const Time now{};  // no matter which: nothing comes before or after it
  if (!question.name.empty()) {
    engine.pins().Add(question.name, question.address, NamePins::kTtlMin, now);
  }
  const PolicyEngine::Answer answer = engine.Decide(question, now);
  return {.decision = {.verdict = answer.verdict, .rule = answer.rule, .group = answer.group},
          .text = engine.Explain(question, now)};
}

PolicyQuestion QuestionOf(Direction direction, PolicyProtocol protocol, const Endpoint& peer,
                          std::string_view name) {
  return {.direction = direction,
          .protocol = protocol,
          .address = peer.address,
          .port = peer.port,
          .name = name,
          .looked = !name.empty()};
}

}  // namespace penstock::tool
