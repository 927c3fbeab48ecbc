// The options that say who answers the sandbox's questions of DNS, and what. Not installed.
#ifndef PENSTOCK_TOOLS_PENSTOCK_DNS_OPTIONS_H_
#define PENSTOCK_TOOLS_PENSTOCK_DNS_OPTIONS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "stack/dns/dns_config.h"
#include "tools/penstock/command_line.h"

namespace penstock::tool {

// As the user wrote them.
struct DnsTexts {
  std::vector<std::string> servers;
  std::vector<std::string> hosts;
  std::vector<std::string> zones;
  std::string resolv_conf;
  bool intercept = false;
  bool off = false;
};

// `texts` outlives the parsing.
void AddDns(CLI::App& app, DnsTexts& texts);
// What `app` has read. An error names the option, what it is and what it must be.
[[nodiscard]] absl::Status SetDns(const CLI::App& app, const DnsTexts& texts, DnsConfig& config);

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_DNS_OPTIONS_H_
