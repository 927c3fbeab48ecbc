// Any thread.
#include "stack/dns/dns_config.h"

#include <span>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "stack/service/domain_names.h"
#include "stack/wire/addresses.h"

namespace penstock {
namespace {

constexpr uint32_t kOutstandingMax = 16'384;

absl::Status Wrong(const std::string& what) { return absl::InvalidArgumentError(what); }

absl::Status CheckName(const std::string& field, const std::string& name) {
  if (IsDomainName(name)) return absl::OkStatus();
  return Wrong(absl::StrCat(field, " has \"", name,
                            "\", which is no domain name: write it as in db.corp.example"));
}

absl::Status CheckUpstreams(const std::string& field, std::span<const Endpoint> upstreams) {
  if (upstreams.size() > kDnsUpstreamsMax) {
    return Wrong(absl::StrCat(field, " are ", upstreams.size(), ": there may be at most ",
                              kDnsUpstreamsMax));
  }
  for (const Endpoint& upstream : upstreams) {
    const IpAddress address = upstream.address.Unmapped();
    if (upstream.port == 0) {
      return Wrong(absl::StrCat(field, " has ", upstream.address.ToString(),
                                " with port 0: name servers have port 53"));
    }
    if (IsUnspecified(address) || IsMulticast(address)) {
      return Wrong(absl::StrCat(field, " has ", upstream.ToString(),
                                ", which is no host's address: give a name server's"));
    }
    if (address.is_v6() && IsLinkLocal(address)) {
      return Wrong(absl::StrCat(field, " has ", upstream.ToString(),
                                ", a link-local address: only resolv.conf can say of which "
                                "interface"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckHost(const DnsHost& host) {
  if (absl::Status status = CheckName("dns.hosts", host.name); !status.ok()) return status;
  const std::string what = absl::StrCat("dns.hosts has \"", host.name, "\"");
  if (host.addresses.empty() || host.addresses.size() > kDnsHostAddressesMax) {
    return Wrong(absl::StrCat(what, " with ", host.addresses.size(), " addresses: give it 1 to ",
                              kDnsHostAddressesMax));
  }
  if (host.ttl < Duration::zero() || host.ttl > std::chrono::hours(24 * 7)) {
    return Wrong(absl::StrCat(what, " with a ttl that is not 0 seconds to a week"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateDns(const DnsConfig& config) {
  if (absl::Status status = CheckUpstreams("dns.upstreams", config.upstreams); !status.ok()) {
    return status;
  }
  for (const DnsDomain& domain : config.domains) {
    if (absl::Status status = CheckName("dns.domains", domain.domain); !status.ok()) return status;
    const std::string what = absl::StrCat("dns.domains \"", domain.domain, "\": its upstreams");
    if (domain.upstreams.empty()) {
      return Wrong(absl::StrCat(what,
                                " are missing: to answer for it here, make it one of "
                                "dns.zones"));
    }
    if (absl::Status status = CheckUpstreams(what, domain.upstreams); !status.ok()) return status;
  }
  for (const DnsHost& host : config.hosts) {
    if (absl::Status status = CheckHost(host); !status.ok()) return status;
  }
  for (const std::string& zone : config.zones) {
    if (absl::Status status = CheckName("dns.zones", zone); !status.ok()) return status;
  }
  if (config.upstreams.empty() && config.resolv_conf.empty()) {
    return Wrong("dns.resolv_conf is empty, and so is dns.upstreams: name one of them");
  }
  for (const auto& [name, value] :
       {std::pair{"dns.timeout", config.timeout}, {"dns.dead_time", config.dead_time}}) {
    if (value <= Duration::zero()) {
      return Wrong(absl::StrCat(name, " is not positive: give it at least a millisecond"));
    }
  }
  if (config.outstanding_max < 1 || config.outstanding_max > kOutstandingMax) {
    return Wrong(absl::StrCat("dns.outstanding_max is ", config.outstanding_max,
                              ": it must be 1 to ", kOutstandingMax));
  }
  return absl::OkStatus();
}

}  // namespace penstock
