// The policies that a command line asks for: --profile, --policy, --platform-policy, --allow,
// --deny, --on-denial. They become texts, as whoever runs the sandbox could have written them into
// one file, so that there is one thing to show, to replace and to explain.
//
// The tenant's text is: the rules of --allow and --deny in their order; one for
// --host-loopback, which would be of little use where the rest denies everything; the rules
// and defaults of the file, or else of a profile. Which profile: the one that was asked for;
// "none" if something is allowed; else the command's own.
//
// Any thread.
#ifndef PENSTOCK_TOOLS_PENSTOCK_POLICY_CHOICE_H_
#define PENSTOCK_TOOLS_PENSTOCK_POLICY_CHOICE_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "stack/config.h"
#include "stack/policy/policy.h"

namespace penstock::tool {

// As they were written.
struct PolicyTexts {
  std::vector<std::string> allow;
  std::vector<std::string> deny;
  std::string profile;
  std::string policy;
  std::string platform_policy;
  std::string on_denial = "reject";
};

struct PolicyChoice {
  std::shared_ptr<const Policy> platform;  // null: none
  std::shared_ptr<const Policy> tenant;
  uint32_t option_lines = 0;  // at the head of the tenant's: of --allow and --deny
  DenialAnswer denial_answer = DenialAnswer::kReject;
  // What is to be written for one more thing to be allowed: --allow, with the profile that
  // applies by itself as long as there is none.
  std::string allow_option = "--allow";
};

// `profile` is what applies if nothing is said, for the help.
void AddPolicyOptions(CLI::App& app, PolicyTexts& texts, const std::string& profile);
// What `app` has read. Reads the files that it names. InvalidArgument with a sentence, and
// for texts the place, if something is wrong.
[[nodiscard]] absl::StatusOr<PolicyChoice> ChoosePolicy(const CLI::App& app,
                                                        const PolicyTexts& texts,
                                                        const std::string& default_profile,
                                                        bool host_loopback);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_POLICY_CHOICE_H_
