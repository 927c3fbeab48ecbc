#include "tools/penstock/control_policy.h"

#include <memory>
#include <optional>
#include <string>

#include "stack/policy/canonical_name.h"
#include "tools/penstock/control_arguments.h"
#include "tools/penstock/explanation.h"

namespace penstock::tool {
namespace {

using nlohmann::json;

json PolicyRow(const std::shared_ptr<const Policy>& policy) {
  if (policy == nullptr) return nullptr;
  return {{"text", policy->text()}, {"rules", policy->rule_count()}};
}

PolicyProtocol ProtocolNamed(const std::string& name) {
  return name == "tcp"   ? PolicyProtocol::kTcp
         : name == "udp" ? PolicyProtocol::kUdp
                         : PolicyProtocol::kIcmp;
}

json ExplanationRow(const Explanation& explanation) {
  const Decision& decision = explanation.decision;
  json row = {{"verdict", Name(decision.verdict)},
              {"group", Name(decision.group)},
              {"text", explanation.text}};
  if (decision.rule != nullptr) {
    row["rule"] = decision.rule->text;
    row["rule_line"] = decision.rule->line;
  }
  return row;
}

// What is asked; `name` is the question's, and so outlives it.
absl::StatusOr<PolicyQuestion> ReadQuestion(const json& arguments, std::string& name) {
  const absl::StatusOr<std::string> protocol =
      ChoiceOf(arguments, "protocol", {"tcp", "udp", "icmp"});
  if (!protocol.ok()) return protocol.status();
  const absl::StatusOr<std::string> direction =
      ChoiceOf(arguments, "direction", {"egress", "ingress"});
  if (!direction.ok()) return direction.status();
  const absl::StatusOr<std::string> text = StringOf(arguments, "address");
  if (!text.ok()) return text.status();
  const std::optional<IpAddress> address = IpAddress::Parse(*text);
  if (!address) return WrongRequest("\"address\" must be an IP address such as \"10.1.2.3\"");
  const absl::StatusOr<std::optional<uint16_t>> port = PortOf(arguments, "port");
  if (!port.ok()) return port.status();
  if (port->has_value() == (*protocol == "icmp")) {
    return WrongRequest("\"port\" must be there for tcp and udp, and only for those");
  }
  const absl::StatusOr<std::string> shown = StringOf(arguments, "name");
  if (!shown.ok()) return shown.status();
  if (!shown->empty()) {
    const std::optional<std::string> canonical = CanonicalName(*shown);
    if (!canonical) return WrongRequest("\"name\" must be a domain name such as \"example.test\"");
    name = *canonical;
  }
  return QuestionOf(*direction == "egress" ? Direction::kEgress : Direction::kIngress,
                    ProtocolNamed(*protocol), {*address, port->value_or(0)}, name);
}

}  // namespace

absl::StatusOr<json> ShowPolicy(const json& arguments, Stack& stack) {
  if (absl::Status s = CheckMembers(arguments, "arguments of policy-show", {}); !s.ok()) return s;
  return json{{"tenant", PolicyRow(stack.policy(PolicyLayer::kTenant))},
              {"platform", PolicyRow(stack.policy(PolicyLayer::kPlatform))}};
}

absl::StatusOr<json> SetPolicy(const json& arguments, Stack& stack) {
  absl::Status members = CheckMembers(arguments, "arguments of policy-set",
                                      {"text", "source", "layer", "flows", "dry_run"});
  if (!members.ok()) return members;
  const absl::StatusOr<std::string> text = StringOf(arguments, "text");
  if (!text.ok()) return text.status();
  if (!arguments.contains("text")) return WrongRequest("\"text\" must be the text of a policy");
  const absl::StatusOr<std::string> source = StringOf(arguments, "source");
  if (!source.ok()) return source.status();
  const absl::StatusOr<std::string> layer = ChoiceOf(arguments, "layer", {"tenant", "platform"});
  if (!layer.ok()) return layer.status();
  const absl::StatusOr<std::string> flows = ChoiceOf(arguments, "flows", {"keep", "reset"});
  if (!flows.ok()) return flows.status();
  const absl::StatusOr<bool> dry_run = FlagOf(arguments, "dry_run");
  if (!dry_run.ok()) return dry_run.status();

  const auto policy = Policy::Parse(*text, source->empty() ? "policy" : *source);
  if (!policy.ok()) return policy.status();
  if (!*dry_run) {
    stack.SetPolicy(*layer == "tenant" ? PolicyLayer::kTenant : PolicyLayer::kPlatform, *policy,
                    *flows == "reset" ? LiveFlows::kReset : LiveFlows::kKeep);
  }
  return json{{"layer", *layer}, {"rules", (*policy)->rule_count()}, {"set", !*dry_run}};
}

absl::StatusOr<json> ExplainPolicy(const json& arguments, Stack& stack) {
  absl::Status members = CheckMembers(arguments, "arguments of policy-explain",
                                      {"protocol", "address", "port", "name", "direction"});
  if (!members.ok()) return members;
  std::string name;
  const absl::StatusOr<PolicyQuestion> question = ReadQuestion(arguments, name);
  if (!question.ok()) return question.status();
  return ExplanationRow(
      Explanation{.decision = stack.Decide(*question), .text = stack.Explain(*question)});
}

}  // namespace penstock::tool
