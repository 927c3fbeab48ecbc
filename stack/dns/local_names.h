// What the stack knows of names itself: static hosts and zones of the configuration, and
// its own zone, penstock.internal, with
//
//   host.penstock.internal      the gateway's addresses, as the host's loopback is reached
//   gateway.penstock.internal   likewise
//
// and the names of all those addresses. Immutable; any thread.
#ifndef PENSTOCK_STACK_DNS_LOCAL_NAMES_H_
#define PENSTOCK_STACK_DNS_LOCAL_NAMES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "relay/endpoint.h"
#include "stack/config.h"
#include "stack/dns/dns_message.h"

namespace penstock {

class LocalNames final {
 public:
  explicit LocalNames(const Config& config);

  struct Answer {
    bool exists = true;                // false: there is no such name
    std::vector<IpAddress> addresses;  // of the asked family; empty: none of that type
    const DnsName* pointer = nullptr;  // of a PTR; lives as long as this
    uint32_t ttl = 0;
  };
  // nullopt: others know.
  [[nodiscard]] std::optional<Answer> Find(const DnsQuestion& question) const;
  // All of a host's addresses, of both families; empty: the name is no host's.
  [[nodiscard]] std::vector<IpAddress> AddressesOf(const DnsName& name) const;

 private:
  struct Host {
    std::vector<IpAddress> addresses;
    uint32_t ttl = 0;
  };
  struct Pointer {
    DnsName name;
    uint32_t ttl = 0;
  };
  void Add(const DnsName& name, std::vector<IpAddress> addresses, uint32_t ttl);
  void AddAbove(const DnsName& name);
  [[nodiscard]] bool IsInZone(const DnsName& name) const;

  absl::flat_hash_map<DnsName, Host> hosts_;
  absl::flat_hash_map<DnsName, Pointer> pointers_;
  absl::flat_hash_set<DnsName> zones_;
  // Zones, and what is above them and the hosts: these names exist, if with nothing in them.
  absl::flat_hash_set<DnsName> empty_;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_DNS_LOCAL_NAMES_H_
