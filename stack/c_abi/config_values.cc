#include "stack/c_abi/config_values.h"

#include <algorithm>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "stack/c_abi/boundary.h"

namespace penstock::c_abi {
namespace {

constexpr uint16_t kDnsPort = 53;

absl::Status Wrong(const char* field, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("penstock_config.", field, " ", what));
}

std::vector<std::string> Words(const char* text, char between = ' ') {
  std::vector<std::string> words;
  const std::string_view all = text == nullptr ? "" : text;
  for (size_t at = 0; (at = all.find_first_not_of(between, at)) != all.npos;) {
    const size_t end = std::min(all.find(between, at), all.size());
    words.emplace_back(all.substr(at, end - at));
    at = end;
  }
  return words;
}

// "a=b": what stands before the sign, which is taken off; empty if there is none.
std::string TakeBefore(char sign, std::string& text) {
  const size_t at = text.find(sign);
  if (at == text.npos) return "";
  std::string before = text.substr(0, at);
  text.erase(0, at + 1);
  return before;
}

absl::Status ReadAddress(const char* field, const char* text, IpAddress& address) {
  if (text == nullptr) return absl::OkStatus();
  const std::optional<IpAddress> parsed = IpAddress::Parse(text);
  if (!parsed || parsed->family != address.family) {
    return Wrong(field,
                 absl::StrCat("is \"", text, "\": write an address such as ", address.ToString()));
  }
  address = *parsed;
  return absl::OkStatus();
}

absl::Status ReadFamilies(const penstock_config& from, Config& config) {
  const struct {
    const char* field;
    const char* text;
    IpAddress* address;
  } addresses[] = {{"ipv4_gateway", from.ipv4_gateway, &config.ipv4.gateway},
                   {"ipv4_dns", from.ipv4_dns, &config.ipv4.dns},
                   {"ipv4_guest", from.ipv4_guest, &config.ipv4.guest},
                   {"ipv6_gateway", from.ipv6_gateway, &config.ipv6.gateway},
                   {"ipv6_dns", from.ipv6_dns, &config.ipv6.dns},
                   {"ipv6_guest", from.ipv6_guest, &config.ipv6.guest}};
  for (const auto& [field, text, address] : addresses) {
    if (absl::Status status = ReadAddress(field, text, *address); !status.ok()) return status;
  }
  if (from.ipv4_prefix_length != 0) config.ipv4.prefix_length = from.ipv4_prefix_length;
  if (from.ipv6_prefix_length != 0) config.ipv6.prefix_length = from.ipv6_prefix_length;
  config.ipv4.enabled = from.ipv4_off == 0;
  config.ipv6.enabled = from.ipv6_off == 0;
  return absl::OkStatus();
}

// All 0: not set.
std::optional<MacAddress> MacOf(const uint8_t (&bytes)[6]) {
  MacAddress mac;
  std::copy(std::begin(bytes), std::end(bytes), mac.begin());
  return mac == MacAddress{} ? std::nullopt : std::optional(mac);
}

absl::Status ReadSwitches(const penstock_config& from, Config& config) {
  const struct {
    const char* field;
    uint8_t value;
    uint8_t last;
  } choices[] = {{"ipv4_off", from.ipv4_off, 1},
                 {"ipv6_off", from.ipv6_off, 1},
                 {"host_loopback", from.host_loopback, 1},
                 {"dhcp_off", from.dhcp_off, 1},
                 {"router_advertisements_off", from.router_advertisements_off, 1},
                 {"dns_off", from.dns_off, 1},
                 {"host_routes_off", from.host_routes_off, 1},
                 {"denial", from.denial, PENSTOCK_DENIAL_PAGE},
                 {"udp_filtering", from.udp_filtering, PENSTOCK_UDP_NONE},
                 {"dns_intercept", from.dns_intercept, 1},
                 {"dns_rebinding_protection_off", from.dns_rebinding_protection_off, 1}};
  for (const auto& [field, value, last] : choices) {
    if (value > last) {
      return Wrong(field, absl::StrCat("is ", int{value}, ": it must be 0 to ", int{last}));
    }
  }
  const bool reserved = std::any_of(std::begin(from.reserved), std::end(from.reserved),
                                    [](uint8_t byte) { return byte != 0; });
  if (reserved || from.reserved_too != 0) return Wrong("reserved", "must be 0");
  config.host_loopback = from.host_loopback != 0;
  config.dhcp = from.dhcp_off == 0;
  config.router_advertisements = from.router_advertisements_off == 0;
  config.dns.enabled = from.dns_off == 0;
  config.dns.intercept = from.dns_intercept != 0;
  config.dns.rebinding_protection = from.dns_rebinding_protection_off == 0;
  config.follow_host_routes = from.host_routes_off == 0;
  config.denial_answer = static_cast<DenialAnswer>(from.denial);
  config.udp_filtering = static_cast<UdpFiltering>(from.udp_filtering);
  return absl::OkStatus();
}

static_assert(static_cast<int>(DenialAnswer::kPage) == PENSTOCK_DENIAL_PAGE);
static_assert(static_cast<int>(UdpFiltering::kNone) == PENSTOCK_UDP_NONE);

absl::Status ReadNameServer(const std::string& word, DnsConfig& dns) {
  std::string text = word;
  const std::string domain = TakeBefore('=', text);
  const std::optional<IpAddress> address = IpAddress::Parse(text);
  if (!address) {
    return Wrong("name_servers",
                 absl::StrCat("has \"", word, "\": write addresses with spaces between"));
  }
  if (domain.empty()) {
    dns.upstreams.push_back({*address, kDnsPort});
    return absl::OkStatus();
  }
  auto place = std::ranges::find(dns.domains, domain, &DnsDomain::domain);
  if (place == dns.domains.end()) {
    place = dns.domains.insert(place, {.domain = domain, .upstreams = {}});
  }
  place->upstreams.push_back({*address, kDnsPort});
  return absl::OkStatus();
}

absl::Status ReadDnsHost(const std::string& word, DnsConfig& dns) {
  std::string text = word;
  DnsHost host{.name = TakeBefore('=', text), .addresses = {}};
  for (const std::string& part : Words(text.c_str(), ',')) {
    const std::optional<IpAddress> address = IpAddress::Parse(part);
    if (!address || host.name.empty()) {
      return Wrong("dns_hosts", absl::StrCat("has \"", word, "\": write it as db.test=10.1.2.3"));
    }
    host.addresses.push_back(*address);
  }
  dns.hosts.push_back(std::move(host));
  return absl::OkStatus();
}

absl::Status ReadNames(const penstock_config& from, Config& config) {
  if (from.guest_host_name != nullptr) config.guest_host_name = from.guest_host_name;
  if (from.resolv_conf != nullptr) config.dns.resolv_conf = from.resolv_conf;
  config.search_domains = Words(from.search_domains);
  config.dns.zones = Words(from.dns_zones);
  for (const std::string& word : Words(from.name_servers)) {
    if (absl::Status status = ReadNameServer(word, config.dns); !status.ok()) return status;
  }
  for (const std::string& word : Words(from.dns_hosts)) {
    if (absl::Status status = ReadDnsHost(word, config.dns); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status ReadGuestPrefixes(const penstock_config& from, Config& config) {
  for (const std::string& word : Words(from.guest_prefixes)) {
    std::string length = word;
    const std::optional<IpAddress> address = IpAddress::Parse(TakeBefore('/', length));
    IpPrefix prefix;
    if (!address || !absl::SimpleAtoi(length, &prefix.length)) {
      return Wrong("guest_prefixes",
                   absl::StrCat("has \"", word, "\": write networks such as 172.20.0.0/16"));
    }
    prefix.address = *address;
    (address->is_v4() ? config.ipv4 : config.ipv6).guest_prefixes.push_back(prefix);
  }
  return absl::OkStatus();
}

absl::Status ReadDhcpPool(const penstock_config& from, Config& config) {
  if (from.dhcp_pool == nullptr) return absl::OkStatus();
  std::string last = from.dhcp_pool;
  config.dhcp_pool_first = IpAddress::Parse(TakeBefore('-', last));
  config.dhcp_pool_last = IpAddress::Parse(last);
  if (config.dhcp_pool_first && config.dhcp_pool_last) return absl::OkStatus();
  return Wrong("dhcp_pool", absl::StrCat("is \"", from.dhcp_pool,
                                         "\": write two addresses, as in 10.0.2.15-10.0.2.99"));
}

absl::Status ReadPolicies(const penstock_config& from, Config& config) {
  auto platform = PolicyOf(from.platform_policy, "platform_policy");
  if (!platform.ok()) return platform.status();
  auto tenant = PolicyOf(from.tenant_policy, "tenant_policy");
  if (!tenant.ok()) return tenant.status();
  config.platform_policy = *std::move(platform);
  config.tenant_policy = *std::move(tenant);
  return absl::OkStatus();
}

template <typename Number>
void ReadNumber(Number from, Number& to) {
  if (from != 0) to = from;
}

void ReadInt(uint32_t from, int& to) {
  constexpr uint32_t kMax = std::numeric_limits<int>::max();
  if (from != 0) to = static_cast<int>(std::min(from, kMax));
}

void ReadLimits(const penstock_config& from, Config& config) {
  ReadNumber(from.mtu, config.mtu);
  ReadNumber(from.flow_count_max, config.flow_count_max);
  // Those in the handshake are among them.
  config.half_open_count_max = std::min(config.half_open_count_max, config.flow_count_max);
  ReadNumber(from.half_open_count_max, config.half_open_count_max);
  config.half_open_per_destination_max =
      std::min(config.half_open_per_destination_max, config.half_open_count_max);
  ReadNumber(from.half_open_per_destination_max, config.half_open_per_destination_max);
  ReadNumber(from.udp_mapping_count_max, config.udp_mapping_count_max);
  ReadNumber(from.udp_peer_count_max, config.udp_peer_count_max);
  ReadNumber(from.echo_count_max, config.echo_count_max);
  ReadNumber(from.dns_outstanding_max, config.dns.outstanding_max);
  ReadNumber(from.buffer_bytes_max, config.buffer_bytes_max);
  config.event_count_max = from.event_count_max;
  ReadInt(from.relay_threads, config.relay_threads);
}

void ReadTimeouts(const penstock_config& from, Config& config) {
  const struct {
    uint64_t nanoseconds;
    Duration* timeout;
  } timeouts[] = {{from.dial_timeout, &config.dial_timeout},
                  {from.inbound_dial_timeout, &config.inbound_dial_timeout},
                  {from.handshake_timeout, &config.handshake_timeout},
                  {from.silent_timeout, &config.silent_timeout},
                  {from.stall_timeout, &config.stall_timeout},
                  {from.keepalive_idle, &config.keepalive_idle},
                  {from.keepalive_interval, &config.keepalive_interval},
                  {from.time_wait, &config.time_wait},
                  {from.udp_timeout, &config.udp_timeout},
                  {from.udp_answered_timeout, &config.udp_answered_timeout},
                  {from.udp_name_timeout, &config.udp_name_timeout},
                  {from.udp_peer_timeout, &config.udp_peer_timeout},
                  {from.echo_timeout, &config.echo_timeout},
                  {from.dns_timeout, &config.dns.timeout},
                  {from.dns_dead_time, &config.dns.dead_time},
                  {from.dhcp_lease_time, &config.dhcp_lease_time}};
  constexpr uint64_t kMax = std::numeric_limits<int64_t>::max();
  for (const auto& [nanoseconds, timeout] : timeouts) {
    if (nanoseconds != 0) *timeout = Duration(static_cast<int64_t>(std::min(nanoseconds, kMax)));
  }
  ReadInt(from.keepalive_probes, config.keepalive_probes);
}

void ReadCallbacks(const penstock_config& from, Config& config) {
  if (from.warn != nullptr) {
    config.warn = [warn = from.warn, context = from.warn_context](std::string_view sentence) {
      warn(context, std::string(sentence).c_str());
    };
  }
  if (from.admit != nullptr) {
    config.ingress_hook = [admit = from.admit,
                           context = from.admit_context](const IngressRequest& request) {
      const penstock_client client{.struct_size = sizeof client,
                                   .protocol = static_cast<uint8_t>(request.protocol),
                                   .reserved = 0,
                                   .guest_port = request.guest_port,
                                   .client = EndpointOf(request.client),
                                   .host = EndpointOf(request.host)};
      return admit(context, &client) != 0;
    };
  }
}

}  // namespace

absl::StatusOr<Config> ConfigFrom(const penstock_config& from) {
  Config config;
  for (const auto read :
       {ReadFamilies, ReadSwitches, ReadNames, ReadGuestPrefixes, ReadDhcpPool, ReadPolicies}) {
    if (absl::Status status = read(from, config); !status.ok()) return status;
  }
  ReadLimits(from, config);
  ReadTimeouts(from, config);
  ReadCallbacks(from, config);
  if (const auto mac = MacOf(from.gateway_mac)) config.gateway_mac = *mac;
  config.guest_mac = MacOf(from.guest_mac);
  return config;
}

}  // namespace penstock::c_abi
