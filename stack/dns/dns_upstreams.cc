#include "stack/dns/dns_upstreams.h"

#include <algorithm>
#include <utility>

namespace penstock {
namespace {

std::vector<DnsUpstream> UpstreamsOf(std::span<const Endpoint> endpoints) {
  std::vector<DnsUpstream> upstreams;
  // As sockets and what they say of a sender have it.
  for (const Endpoint& endpoint : endpoints) {
    upstreams.push_back({.endpoint = {endpoint.address.Unmapped(), endpoint.port}});
  }
  return upstreams;
}

}  // namespace

DnsUpstreams::DnsUpstreams(const DnsConfig& config)
    : dead_time_(config.dead_time), default_(UpstreamsOf(config.upstreams)) {
  for (const DnsDomain& domain : config.domains) {
    const DnsName name = DnsName::Of(domain.domain);
    domains_.try_emplace(name, UpstreamsOf(domain.upstreams));
  }
}

void DnsUpstreams::SetDefault(std::vector<DnsUpstream> upstreams) {
  default_ = std::move(upstreams);
}

const std::vector<DnsUpstream>& DnsUpstreams::Of(const DnsName& name) const {
  if (domains_.empty()) return default_;
  for (DnsName above = name; above != DnsName(); above = above.Parent()) {
    const auto domain = domains_.find(above);
    if (domain != domains_.end()) return domain->second;
  }
  return default_;
}

std::optional<DnsUpstream> DnsUpstreams::Choose(const DnsName& name,
                                                std::span<const DnsUpstream> tried,
                                                Time now) const {
  std::optional<DnsUpstream> last;
  for (const DnsUpstream& upstream : Of(name)) {
    if (std::ranges::find(tried, upstream) != tried.end()) continue;
    if (!IsDead(upstream, now)) return upstream;
    if (!last) last = upstream;
  }
  return last;
}

bool DnsUpstreams::IsDead(const DnsUpstream& upstream, Time now) const {
  const auto dead = std::ranges::find(dead_, upstream, &Dead::upstream);
  return dead != dead_.end() && dead->until > now;
}

void DnsUpstreams::Failed(const DnsUpstream& upstream, Time now) {
  Answered(upstream);
  std::erase_if(dead_, [&](const Dead& dead) { return dead.until <= now; });
  // In the order of their times: the same is added to each.
  if (dead_.size() >= kDeadMax) dead_.erase(dead_.begin());
  dead_.push_back({upstream, After(now, dead_time_)});
}

void DnsUpstreams::Answered(const DnsUpstream& upstream) {
  std::erase_if(dead_, [&](const Dead& dead) { return dead.upstream == upstream; });
}

}  // namespace penstock
