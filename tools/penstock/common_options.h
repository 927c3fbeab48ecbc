// The options that `run`, `attach` and `serve` have in common. Not installed.
#ifndef PENSTOCK_TOOLS_PENSTOCK_COMMON_OPTIONS_H_
#define PENSTOCK_TOOLS_PENSTOCK_COMMON_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "stack/asio_driver.h"
#include "tools/penstock/command_line.h"
#include "tools/penstock/dns_options.h"
#include "tools/penstock/options.h"
#include "tools/penstock/policy_choice.h"

namespace penstock::tool {

// Texts as the user wrote them, before they become a Config.
struct FamilyTexts {
  std::string guest;
  std::string gateway;
  std::string dns;
  bool off = false;
};

struct CommonTexts {
  FamilyTexts ipv4;
  FamilyTexts ipv6;
  DnsTexts dns;
  std::string relay_threads = "auto";
  int64_t busy_poll_microseconds = AsioDriver::kBusyPoll / std::chrono::microseconds(1);
  std::string impair;
  std::vector<std::string> guest_prefixes;
  std::vector<std::string> publish;
  std::string client_identity;
  PolicyTexts policy;
  std::string udp_filtering = "address-and-port";
  bool no_offload = false;
  bool no_sandbox = false;
  bool no_dhcp = false;
  bool no_router_advertisements = false;
  std::string dhcp_pool;
  double dhcp_lease_seconds = 0;
  double dial_timeout_seconds = 0;
  double keepalive_idle_seconds = 0;
};

// `texts` outlives the parsing. `profile`: what the sandbox may reach if nothing is said.
void AddCommon(CLI::App& app, CommonOptions& common, CommonTexts& texts,
               const std::string& profile);
// What `app` has read. An error names the option, what it is and what it must be.
[[nodiscard]] absl::Status SetCommon(const CLI::App& app, const CommonTexts& texts,
                                     const std::string& profile, CommonOptions& common);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_COMMON_OPTIONS_H_
