#include "tools/penstock/policy_client.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "tools/penstock/control_client.h"
#include "tools/penstock/explanation.h"
#include "tools/penstock/policy_file.h"

namespace penstock::tool {
namespace {

using nlohmann::json;
using Result = absl::StatusOr<PolicyOrderResult>;

// The text of a file that holds a policy without mistakes.
absl::StatusOr<std::string> ReadRight(const std::string& path) {
  absl::StatusOr<std::string> text = ReadPolicyFile(path);
  if (!text.ok()) return absl::InvalidArgumentError(text.status().message());
  if (const auto policy = Policy::Parse(*text, PolicySource(path)); !policy.ok()) {
    return absl::InvalidArgumentError(policy.status().message());
  }
  return text;
}

Result Check(const PolicyOptions& options) {
  for (const std::string& path : options.files) {
    if (const auto text = ReadRight(path); !text.ok()) return text.status();
  }
  return PolicyOrderResult{};
}

Result Show(const PolicyOptions& options) {
  const char* layer = options.platform ? "platform" : "tenant";
  const auto result = GiveOrder(options.control, {{"execute", "policy-show"}});
  if (!result.ok()) return result.status();
  const auto found = result->value.find(layer);
  if (found == result->value.end() || !found->is_object()) {
    return absl::NotFoundError(absl::StrCat("the ", layer, " has no policy there"));
  }
  return PolicyOrderResult{.text = TextOf(*found, "text")};
}

// Looked at here first: a mistake is told as `check` does, whatever penstock runs there.
Result Set(const PolicyOptions& options) {
  const std::string& path = options.files.front();
  const absl::StatusOr<std::string> text = ReadRight(path);
  if (!text.ok()) return text.status();
  const json arguments = {{"text", *text},
                          {"source", PolicySource(path)},
                          {"layer", options.platform ? "platform" : "tenant"},
                          {"flows", options.reset ? "reset" : "keep"},
                          {"dry_run", options.dry_run}};
  const auto result =
      GiveOrder(options.control, {{"execute", "policy-set"}, {"arguments", arguments}});
  if (!result.ok()) return result.status();
  const uint64_t rules = NumberOf(result->value, "rules");
  return PolicyOrderResult{.text = absl::StrCat(options.dry_run ? "would set " : "set ", rules,
                                                rules == 1 ? " rule\n" : " rules\n")};
}

int ExitStatusOf(std::string_view verdict) {
  if (verdict == Name(Verdict::kAllow)) return 0;
  return verdict == Name(Verdict::kLook) ? kNameDecidesExitStatus : kDeniedExitStatus;
}

Result Explain(const PolicyOptions& options) {
  if (options.policy != nullptr) {
    const Explanation explanation =
        ExplainAlone(options.policy,
                     QuestionOf(options.direction, options.protocol, options.peer, options.name));
    return PolicyOrderResult{.text = explanation.text,
                             .exit_status = ExitStatusOf(Name(explanation.decision.verdict))};
  }
  json arguments = {{"protocol", Name(options.protocol)},
                    {"direction", Name(options.direction)},
                    {"address", options.peer.address.ToString()}};
  if (options.peer.port != 0) arguments["port"] = options.peer.port;
  if (!options.name.empty()) arguments["name"] = options.name;
  const auto result =
      GiveOrder(options.control, {{"execute", "policy-explain"}, {"arguments", arguments}});
  if (!result.ok()) return result.status();
  return PolicyOrderResult{.text = TextOf(result->value, "text"),
                           .exit_status = ExitStatusOf(TextOf(result->value, "verdict"))};
}

}  // namespace

Result OrderPolicy(const PolicyOptions& options) {
  switch (options.order) {
    case PolicyOptions::Order::kShow:
      return Show(options);
    case PolicyOptions::Order::kSet:
      return Set(options);
    case PolicyOptions::Order::kCheck:
      return Check(options);
    case PolicyOptions::Order::kExplain:
      break;
  }
  return Explain(options);
}

}  // namespace penstock::tool
