#include "tools/penstock/dns_options.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "stack/dns/dns_message.h"

namespace penstock::tool {
namespace {

// "192.0.2.1", "192.0.2.1:5353", "2001:db8::1" or "[2001:db8::1]:5353".
std::optional<Endpoint> ParseServer(std::string_view text) {
  Endpoint server{.address = {}, .port = kDnsPort};
  std::string_view address = text;
  std::string_view port;
  if (text.starts_with('[')) {
    const size_t end = text.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    address = text.substr(1, end - 1);
    port = text.substr(end + 1);
    if (!port.empty() && !port.starts_with(':')) return std::nullopt;
  } else if (std::ranges::count(text, ':') == 1) {
    address = text.substr(0, text.find(':'));
    port = text.substr(address.size());
  }
  const std::optional<IpAddress> parsed = IpAddress::Parse(address);
  if (!parsed) return std::nullopt;
  server.address = *parsed;
  if (port.empty()) return server;
  int number = 0;
  if (!absl::SimpleAtoi(std::string(port.substr(1)), &number) || number < 1 || number > 65'535) {
    return std::nullopt;
  }
  server.port = static_cast<uint16_t>(number);
  return server;
}

absl::Status SetServer(const std::string& text, DnsConfig& config) {
  const size_t equals = text.find('=');
  const std::string address = equals == std::string::npos ? text : text.substr(equals + 1);
  const std::optional<Endpoint> server = ParseServer(address);
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

absl::Status SetDns(const DnsTexts& texts, DnsConfig& config) {
  config.enabled = !texts.off;
  config.intercept = texts.intercept;
  config.zones = texts.zones;
  if (!texts.resolv_conf.empty()) config.resolv_conf = texts.resolv_conf;
  for (const std::string& text : texts.servers) {
    if (absl::Status status = SetServer(text, config); !status.ok()) return status;
  }
  for (const std::string& text : texts.hosts) {
    if (absl::Status status = SetHost(text, config); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace penstock::tool
