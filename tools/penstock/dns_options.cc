#include "tools/penstock/dns_options.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_split.h"
#include "stack/dns/dns_message.h"
#include "tools/penstock/endpoint_text.h"

namespace penstock::tool {
namespace {

absl::Status SetServer(const std::string& text, DnsConfig& config) {
  const size_t equals = text.find('=');
  const std::string address = equals == std::string::npos ? text : text.substr(equals + 1);
  const std::optional<Endpoint> server = ParseEndpoint(address, kDnsPort);
  if (!server) {
    return Wrong("--dns-server is \"", text,
                 "\": it must be an address such as 192.0.2.53 or [2001:db8::53]:5353, or that "
                 "behind a domain, as in corp.example=192.0.2.53");
  }
  if (equals == std::string::npos) {
    config.upstreams.push_back(*server);
    return absl::OkStatus();
  }
  const std::string domain = text.substr(0, equals);
  auto place = std::ranges::find(config.domains, domain, &DnsDomain::domain);
  if (place == config.domains.end()) {
    place = config.domains.insert(place, {.domain = domain, .upstreams = {}});
  }
  place->upstreams.push_back(*server);
  return absl::OkStatus();
}

absl::Status SetHost(const std::string& text, DnsConfig& config) {
  const size_t equals = text.find('=');
  DnsHost host{.name = text.substr(0, equals), .addresses = {}};
  if (equals != std::string::npos) {
    for (const auto& part : absl::StrSplit(text.substr(equals + 1), ',')) {
      const std::optional<IpAddress> address = IpAddress::Parse({part.data(), part.size()});
      if (!address) {
        host.addresses.clear();
        break;
      }
      host.addresses.push_back(*address);
    }
  }
  if (host.addresses.empty()) {
    return Wrong("--dns-host is \"", text,
                 "\": it must be a name and its addresses, as in db.corp.example=10.1.2.3,fd99::3");
  }
  config.hosts.push_back(std::move(host));
  return absl::OkStatus();
}

absl::Status CheckTogether(const CLI::App& app, const DnsTexts& texts) {
  for (const char* option :
       {"--dns-server", "--resolv-conf", "--dns-host", "--dns-zone", "--dns-intercept"}) {
    if (!texts.off || app.count(option) == 0) continue;
    return Wrong("--no-dns answers no names, and ", option, " says how: leave one of them out");
  }
  if (app.count("--resolv-conf") != 0 && texts.resolv_conf.empty()) {
    return Wrong("--resolv-conf is empty: it must be the path of a file");
  }
  return absl::OkStatus();
}

}  // namespace

void AddDns(CLI::App& app, DnsTexts& texts) {
  constexpr const char* kGroup = "Names";
  app.add_option("--dns-server", texts.servers,
                 "Whom names are asked of, in this order; again for more. With a\n"
                 "domain: names in and below it. Default: the host's resolv.conf")
      ->allow_extra_args(false)
      ->option_text("[DOMAIN=]ADDRESS[:PORT]")
      ->group(kGroup);
  app.add_option("--resolv-conf", texts.resolv_conf,
                 "Another file than /etc/resolv.conf; followed as it changes")
      ->option_text("PATH")
      ->group(kGroup);
  app.add_option("--dns-host", texts.hosts, "A name answered by penstock itself; again for more")
      ->allow_extra_args(false)
      ->option_text("NAME=ADDRESS[,ADDRESS...]")
      ->group(kGroup);
  app.add_option("--dns-zone", texts.zones,
                 "In this domain there are no other names than those of --dns-host;\n"
                 "again for more")
      ->allow_extra_args(false)
      ->option_text("DOMAIN")
      ->group(kGroup);
  app.add_flag("--dns-intercept", texts.intercept,
               "Answer what is asked of any name server, in its place")
      ->group(kGroup);
  app.add_flag("--no-dns", texts.off, "Answer no names at all")->group(kGroup);
}

absl::Status SetDns(const CLI::App& app, const DnsTexts& texts, DnsConfig& config) {
  if (absl::Status status = CheckTogether(app, texts); !status.ok()) return status;
  config.enabled = !texts.off;
  config.intercept = texts.intercept;
  config.zones = texts.zones;
  if (!texts.resolv_conf.empty()) config.resolv_conf = texts.resolv_conf;
  for (const std::string& text : texts.servers) {
    if (absl::Status status = SetServer(text, config); !status.ok()) return status;
  }
  if (!config.upstreams.empty() && !texts.resolv_conf.empty()) {
    return Wrong("--dns-server and --resolv-conf both say whom to ask: leave one of them out");
  }
  for (const std::string& text : texts.hosts) {
    if (absl::Status status = SetHost(text, config); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace penstock::tool
