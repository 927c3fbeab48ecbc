// Any thread.
#include "stack/dns/local_names.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace penstock {
namespace {

constexpr std::string_view kOwnZone = "penstock.internal";
constexpr uint32_t kOwnTtl = 60;

bool IsOfType(const IpAddress& address, uint16_t type) {
  return type == (address.is_v4() ? kDnsTypeA : kDnsTypeAaaa);
}

}  // namespace

LocalNames::LocalNames(const Config& config) {
  std::vector<IpAddress> gateways;
  if (config.ipv4.enabled) gateways.push_back(config.ipv4.gateway);
  if (config.ipv6.enabled) gateways.push_back(config.ipv6.gateway);
  // The one that was there first is what a PTR leads to.
  for (const std::string_view name : {"gateway.penstock.internal", "host.penstock.internal"}) {
    Add(DnsName::Of(name), gateways, kOwnTtl);
  }
  for (const DnsHost& host : config.dns.hosts) {
    const auto ttl = std::chrono::duration_cast<std::chrono::seconds>(host.ttl).count();
    Add(DnsName::Of(host.name), host.addresses, static_cast<uint32_t>(ttl));
  }
  std::vector<std::string> zones = config.dns.zones;
  zones.emplace_back(kOwnZone);
  for (const std::string& zone : zones) {
    const DnsName name = DnsName::Of(zone);
    zones_.insert(name);
    empty_.insert(name);
    AddAbove(name);
  }
}

void LocalNames::Add(const DnsName& name, std::vector<IpAddress> addresses, uint32_t ttl) {
  AddAbove(name);
  for (const IpAddress& address : addresses) {
    pointers_.try_emplace(DnsName::OfAddress(address), Pointer{name, ttl});
  }
  // A name that is there twice has the addresses of both.
  const auto [place, is_new] = hosts_.try_emplace(name, Host{{}, ttl});
  std::vector<IpAddress>& all = place->second.addresses;
  for (const IpAddress& address : addresses) {
    if (all.size() < kDnsHostAddressesMax && std::ranges::find(all, address) == all.end()) {
      all.push_back(address);
    }
  }
  place->second.ttl = std::min(place->second.ttl, ttl);
}

void LocalNames::AddAbove(const DnsName& name) {
  for (DnsName above = name.Parent(); above != DnsName(); above = above.Parent()) {
    empty_.insert(above);
  }
}

bool LocalNames::IsInZone(const DnsName& name) const {
  for (DnsName above = name; above != DnsName(); above = above.Parent()) {
    if (zones_.contains(above)) return true;
  }
  return false;
}

std::vector<IpAddress> LocalNames::AddressesOf(const DnsName& name) const {
  const auto host = hosts_.find(name);
  return host == hosts_.end() ? std::vector<IpAddress>() : host->second.addresses;
}

std::optional<LocalNames::Answer> LocalNames::Find(const DnsQuestion& question) const {
  if (question.record_class != kDnsClassIn) return std::nullopt;
  Answer answer;
  const auto pointer = pointers_.find(question.name);
  if (pointer != pointers_.end()) {
    answer.ttl = pointer->second.ttl;
    if (question.type == kDnsTypePtr || question.type == kDnsTypeAny) {
      answer.pointer = &pointer->second.name;
    }
    return answer;
  }
  const auto host = hosts_.find(question.name);
  if (host == hosts_.end()) {
    if (!IsInZone(question.name)) return std::nullopt;
    answer.exists = empty_.contains(question.name);
    return answer;
  }
  answer.ttl = host->second.ttl;
  std::ranges::copy_if(host->second.addresses, std::back_inserter(answer.addresses),
                       [&](const IpAddress& address) {
                         return IsOfType(address, question.type) || question.type == kDnsTypeAny;
                       });
  return answer;
}

}  // namespace penstock
