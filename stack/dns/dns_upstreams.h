// Which name servers are asked for which names, in which order: those of the longest domain
// that fits, else the host's own. One that did not answer is passed over for a while, which
// is to say that it is asked last. No sockets, no clock. Poll thread.
#ifndef PENSTOCK_STACK_DNS_DNS_UPSTREAMS_H_
#define PENSTOCK_STACK_DNS_DNS_UPSTREAMS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "relay/endpoint.h"
#include "relay/time.h"
#include "stack/dns/dns_config.h"
#include "stack/dns/dns_name.h"

namespace penstock {

struct DnsUpstream {
  Endpoint endpoint;
  uint32_t interface = 0;  // of a link-local address

  friend bool operator==(const DnsUpstream&, const DnsUpstream&) = default;
};

class DnsUpstreams final {
 public:
  explicit DnsUpstreams(const DnsConfig& config);

  // Those for names of no domain, from now on.
  void SetDefault(std::vector<DnsUpstream> upstreams);

  // The next one for `name`: the first that is alive and not in `tried`, or else the first
  // that is not in `tried`; nullopt: all were.
  [[nodiscard]] std::optional<DnsUpstream> Choose(const DnsName& name,
                                                  std::span<const DnsUpstream> tried,
                                                  Time now) const;
  void Failed(const DnsUpstream& upstream, Time now);
  void Answered(const DnsUpstream& upstream);

  [[nodiscard]] bool IsDead(const DnsUpstream& upstream, Time now) const;

 private:
  // The dead ones: no more than there are upstreams in one configuration of an ordinary
  // size. The one that is alive first gives way.
  static constexpr size_t kDeadMax = 256;
  struct Dead {
    DnsUpstream upstream;
    Time until{};
  };
  [[nodiscard]] const std::vector<DnsUpstream>& Of(const DnsName& name) const;

  const Duration dead_time_;
  std::vector<DnsUpstream> default_;
  absl::flat_hash_map<DnsName, std::vector<DnsUpstream>> domains_;
  std::vector<Dead> dead_;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_DNS_DNS_UPSTREAMS_H_
