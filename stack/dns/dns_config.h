// What an embedder chooses for DNS (Config::dns). Plain values; names are compared without
// regard to case, and may have a dot at the end.
#ifndef PENSTOCK_STACK_DNS_DNS_CONFIG_H_
#define PENSTOCK_STACK_DNS_DNS_CONFIG_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "relay/endpoint.h"
#include "relay/time.h"

namespace penstock {

// A name that the stack answers for: A, AAAA, and PTR for its addresses.
struct DnsHost {
  std::string name;
  std::vector<IpAddress> addresses;         // one to sixteen, of either family
  Duration ttl = std::chrono::seconds(60);  // of whole seconds, up to a week
};

// Whom names in and below `domain` are asked of; the longest domain that fits rules.
struct DnsDomain {
  std::string domain;
  std::vector<Endpoint> upstreams;
};

struct DnsConfig {
  // Off: nothing listens at the DNS addresses, and the gateway's port 53 is like any other.
  bool enabled = true;
  // Questions to port 53 of whatever address are answered here.
  bool intercept = false;

  // In the order in which they are asked; at most kDnsUpstreamsMax. Empty: those of
  // `resolv_conf`, which is followed as it changes.
  std::vector<Endpoint> upstreams;
  std::vector<DnsDomain> domains;
  // resolv.conf(5): its name servers, the first three. Without such, and where there is no
  // file, 127.0.0.1 is asked, as the C library does.
  std::string resolv_conf = "/etc/resolv.conf";

  std::vector<DnsHost> hosts;
  // Answered for altogether: a name in or below them that no host has does not exist, and is
  // never asked of an upstream. "penstock.internal" is always one, with the names "host" and
  // "gateway" in it, both the gateway's addresses.
  std::vector<std::string> zones;

  // An upstream that did not answer for so long is passed over (it is asked last) for
  // `dead_time`, and another is asked. A question is given up after twice as long: a guest's
  // resolver waits for five seconds, and is to hear of it before that.
  Duration timeout = std::chrono::seconds(2);
  Duration dead_time = std::chrono::seconds(30);
  // Questions that wait for an upstream. With the timeout it says how many may be asked of
  // dead ones, 256 in a second; a live one answers in 50 ms, or 20,000 in a second. Each may
  // hold 4 KiB, and has a sixteenth of a socket.
  uint32_t outstanding_max = 1'024;

  // An answer with an address that is not public is refused where the policy would deny
  // that address.
  bool rebinding_protection = true;
};

inline constexpr size_t kDnsUpstreamsMax = 16;
inline constexpr size_t kDnsHostAddressesMax = 16;

// OK, or InvalidArgument with a sentence that begins with the field.
[[nodiscard]] absl::Status ValidateDns(const DnsConfig& config);

}  // namespace penstock

#endif  // PENSTOCK_STACK_DNS_DNS_CONFIG_H_
