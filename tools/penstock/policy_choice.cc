#include "tools/penstock/policy_choice.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "stack/policy/policy_text.h"
#include "tools/penstock/command_line.h"
#include "tools/penstock/policy_file.h"

namespace penstock::tool {
namespace {

constexpr const char* kGroup = "Policy";
constexpr const char* kAllow = "--allow";
constexpr const char* kDeny = "--deny";

struct Rule {
  bool allow = true;
  std::string target;
};
using Rules = std::vector<Rule>;

absl::StatusOr<std::shared_ptr<const Policy>> ParsePolicy(const std::string& text,
                                                          const std::string& source) {
  absl::StatusOr<std::shared_ptr<const Policy>> policy = Policy::Parse(text, source);
  // InvalidArgument whatever it was: the option is wrong.
  if (!policy.ok()) return Wrong(policy.status().message());
  return policy;
}

absl::StatusOr<std::shared_ptr<const Policy>> ReadPolicy(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadPolicyFile(path);
  if (!text.ok()) return Wrong(text.status().message());
  return ParsePolicy(*text, PolicySource(path));
}

// One line of policy text: what is a target holds neither spaces nor new lines.
absl::StatusOr<std::string> LineOf(const Rule& rule) {
  const auto target = ParsePolicyTarget(rule.target, rule.allow ? kAllow : kDeny);
  if (!target.ok()) return Wrong(target.status().message());
  return absl::StrCat(rule.allow ? "allow" : "deny", " egress ", rule.target, "\n");
}

absl::StatusOr<std::string> ProfileChosen(const PolicyTexts& texts, const Rules& rules,
                                          const std::string& default_profile) {
  if (!texts.profile.empty()) {
    const std::string_view text = Policy::ProfileText(texts.profile);
    if (!text.empty()) return texts.profile;
    return Wrong("--profile is \"", texts.profile, "\": it must be public, none or all");
  }
  const bool allows =
      std::any_of(rules.begin(), rules.end(), [](const Rule& rule) { return rule.allow; });
  return allows ? std::string("none") : default_profile;
}

// In the order of the command line.
Rules RulesOf(const CLI::App& app, const PolicyTexts& texts) {
  Rules rules;
  size_t allows = 0;
  size_t denies = 0;
  // An option stands in it once for each time that it was given.
  for (const CLI::Option* option : app.parse_order()) {
    if (option->check_name(kAllow)) {
      rules.push_back({.allow = true, .target = texts.allow.at(allows++)});
    } else if (option->check_name(kDeny)) {
      rules.push_back({.allow = false, .target = texts.deny.at(denies++)});
    }
  }
  return rules;
}

absl::Status CheckTexts(const CLI::App& app, const PolicyTexts& texts) {
  for (const auto& [option, text] : {std::pair{"--profile", &texts.profile},
                                     {"--policy", &texts.policy},
                                     {"--platform-policy", &texts.platform_policy}}) {
    if (app.count(option) == 0 || !text->empty()) continue;
    return Wrong(option, " is empty: leave it out, or say which");
  }
  if (!texts.profile.empty() && !texts.policy.empty()) {
    return Wrong("--profile and --policy are two policies: leave one of them out");
  }
  if (texts.policy == "-" && texts.platform_policy == "-") {
    return Wrong("--policy and --platform-policy cannot both be read from the standard input");
  }
  return absl::OkStatus();
}

}  // namespace

void AddPolicyOptions(CLI::App& app, PolicyTexts& texts, const std::string& profile) {
  app.add_option(kAllow, texts.allow,
                 "Let the sandbox reach this, and nothing else unless --profile or\n"
                 "--policy says so; again for more. example.test, *.example.test,\n"
                 "198.51.100.7, 10.0.0.0/8:5432/tcp, [fd01::1]:80, @private, @host:8080")
      ->allow_extra_args(false)
      ->option_text("TARGET")
      ->group(kGroup);
  app.add_option(kDeny, texts.deny,
                 "Keep it from reaching this; of --allow and --deny the first that\n"
                 "fits decides, before profile and policy")
      ->allow_extra_args(false)
      ->option_text("TARGET")
      ->group(kGroup);
  app.add_option(
         "--profile", texts.profile,
         absl::StrCat("What may be reached otherwise: public addresses, none, or all (", profile,
                      ").\nThe host's loopback and cloud metadata are shut in "
                      "every one,\nunless --host-loopback or --allow names them"))
      ->type_name("public|none|all")
      ->group(kGroup);
  app.add_option("--policy", texts.policy,
                 "Rules from a file instead; -: from standard input.\n"
                 "`penstock policy check --help` tells how they are written")
      ->type_name("FILE")
      ->group(kGroup);
  app.add_option("--platform-policy", texts.platform_policy,
                 "A second policy that must allow as well, of whoever runs the\n"
                 "platform")
      ->type_name("FILE")
      ->group(kGroup);
  app.add_option("--on-denial", texts.on_denial,
                 "What the sandbox hears of what is denied: a refusal (reject, the\n"
                 "default), nothing (silence), or by HTTP a page that says so (page)")
      ->type_name("ANSWER")
      ->group(kGroup);
}

absl::StatusOr<PolicyChoice> ChoosePolicy(const CLI::App& app, const PolicyTexts& texts,
                                          const std::string& default_profile, bool host_loopback) {
  if (absl::Status s = CheckTexts(app, texts); !s.ok()) return s;
  PolicyChoice choice;
  if (absl::Status s = SetChoice("--on-denial", texts.on_denial,
                                 {std::pair{"reject", DenialAnswer::kReject},
                                  {"silence", DenialAnswer::kSilence},
                                  {"page", DenialAnswer::kPage}},
                                 choice.denial_answer);
      !s.ok()) {
    return s;
  }
  if (!texts.platform_policy.empty()) {
    auto platform = ReadPolicy(texts.platform_policy);
    if (!platform.ok()) return platform.status();
    choice.platform = *std::move(platform);
  }
  std::string text;
  const Rules rules = RulesOf(app, texts);
  for (const Rule& rule : rules) {
    absl::StatusOr<std::string> line = LineOf(rule);
    if (!line.ok()) return line.status();
    text += *line;
  }
  choice.option_lines = static_cast<uint32_t>(rules.size());
  if (!texts.policy.empty()) {
    const auto file = ReadPolicy(texts.policy);
    if (!file.ok()) return file.status();
    text += (*file)->text();
  } else {
    const absl::StatusOr<std::string> profile = ProfileChosen(texts, rules, default_profile);
    if (!profile.ok()) return profile.status();
    if (texts.profile.empty() && *profile == default_profile) {
      choice.allow_option = absl::StrCat("--profile ", *profile, " ", kAllow);
    }
    if (host_loopback) text += "allow egress @host  # --host-loopback\n";
    absl::StrAppend(&text, "# --profile ", *profile, "\n",
                    std::string(Policy::ProfileText(*profile)));
  }
  auto tenant = ParsePolicy(text, "policy");
  if (!tenant.ok()) return tenant.status();
  choice.tenant = *std::move(tenant);
  return choice;
}

}  // namespace penstock::tool
