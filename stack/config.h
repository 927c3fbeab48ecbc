// What an embedder chooses for one stack. Plain values; Validate() names the
// first field that cannot work, what it is and what to write instead.
#ifndef PENSTOCK_STACK_CONFIG_H_
#define PENSTOCK_STACK_CONFIG_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "publisher/published_port.h"
#include "relay/endpoint.h"
#include "relay/socket_factory.h"
#include "relay/time.h"
#include "stack/dns/dns_config.h"
#include "stack/link/link.h"
#include "stack/policy/policy.h"

namespace penstock {

using MacAddress = std::array<uint8_t, 6>;

// A network: the first `length` bits of `address`; the others are 0.
struct IpPrefix {
  IpAddress address;
  int length = 0;

  friend bool operator==(const IpPrefix&, const IpPrefix&) = default;
};

// One family on the link. The guest configures itself with these (by DHCP, router
// advertisements or by hand); the stack answers for `gateway` and `dns` only. An IPv6
// guest that chooses its own address inside the prefix is found by it: `guest` is where
// published ports lead until then (stack/service/guest_addresses.h).
struct FamilyConfig {
  bool enabled = true;
  IpAddress gateway;
  IpAddress dns;
  IpAddress guest;
  int prefix_length = 0;
  // Networks that the guest routes for (containers of its own): it may send from their
  // addresses too. At most kGuestPrefixesMax, none of which meets the link's own prefix.
  // Nothing is forwarded into them but answers.
  std::vector<IpPrefix> guest_prefixes{};
};

inline constexpr size_t kGuestPrefixesMax = 64;  // looked through for such a frame

// From whom a UDP port of the guest's takes datagrams (RFC 4787 5): whom it has sent to, any
// port of an address that it has sent to, everybody ("full cone").
enum class UdpFiltering : uint8_t { kAddressAndPort, kAddress, kNone };

// What the guest hears of what a policy denies: a refusal (RST for TCP, else ICMP's
// "administratively prohibited"), nothing, or for requests by HTTP a page that says so and
// a refusal for the rest. Of a connection that was open when the name in its first bytes
// was denied, always a reset or the page.
enum class DenialAnswer : uint8_t { kReject, kSilence, kPage };

struct Config {
  FamilyConfig ipv4{.gateway = IpAddress::V4(10, 0, 2, 2),
                    .dns = IpAddress::V4(10, 0, 2, 3),
                    .guest = IpAddress::V4(10, 0, 2, 15),
                    .prefix_length = 24};
  FamilyConfig ipv6{.gateway = *IpAddress::Parse("fd00::2"),
                    .dns = *IpAddress::Parse("fd00::3"),
                    .guest = *IpAddress::Parse("fd00::15"),
                    .prefix_length = 64};
  // 1280 (576 with IPv6 off) to the link's mtu_max; bytes of an IP packet.
  uint32_t mtu = 1500;
  // Locally administered; the guest sees it as the gateway's and the DNS address's.
  MacAddress gateway_mac{0x52, 0x55, 0x0a, 0x00, 0x02, 0x02};
  // Unset: learned from the first valid frame, then fixed until the link is reset.
  std::optional<MacAddress> guest_mac;

  // How the guest configures itself. DHCP: IPv4, and what IPv6 has besides addresses.
  bool dhcp = true;
  bool router_advertisements = true;
  // What a DHCP client may have; unset: from ipv4.guest to the end of the prefix. The
  // first client gets ipv4.guest, whether that lies inside or not.
  std::optional<IpAddress> dhcp_pool_first;
  std::optional<IpAddress> dhcp_pool_last;
  // Renewed at the half of it, which is a second at least. Two seconds to a year: a guest that was
  // paused for long keeps its address anyway, for nobody else is on the link to get it.
  Duration dhcp_lease_time = std::chrono::hours(24);
  // Told by DHCP (the first one also as the guest's domain) and router advertisements;
  // encoded at most 255 bytes, what one DHCP option can hold.
  std::vector<std::string> search_domains;
  // Told by DHCP; empty: the guest keeps what it has. At most 63 bytes.
  std::string guest_host_name;

  // Connections to a gateway address reach the host's loopback, the guest's
  // family first, the other one if that is refused.
  bool host_loopback = false;

  // Whether the host has routes of each family is followed, and the guest is told: what
  // the services offer, they offer only for a family that leads somewhere. Costs one
  // descriptor. Off: both families are taken to have routes.
  bool follow_host_routes = true;

  // What the guest may reach and who may reach it (stack/policy/README.md): of whoever runs
  // the platform, and of whoever runs the sandbox. Both must allow. Unset: all but the host's
  // loopback (host_loopback) and cloud metadata, which are shut unless named. Can be replaced
  // at run time (Stack::SetPolicy).
  std::shared_ptr<const Policy> platform_policy, tenant_policy;
  DenialAnswer denial_answer = DenialAnswer::kReject;
  // Asked for each client of a published port, before the policy; unset: everybody may.
  IngressHook ingress_hook;

  // Events that wait to be taken (Stack::TakeEvent), some 600 bytes each; beyond it the
  // newest are lost. 0: there are none.
  uint32_t event_count_max = 0;

  // 0: no threads; only for stacks that an AsioDriver drives, which runs the
  // relay tasks on its io_context. 1–64: that many relay threads of our own.
  int relay_threads = 1;

  // Where host sockets come from; unset: DefaultSocketFactory(). Called on relay
  // threads, must outlive the stack and be thread-safe.
  std::shared_ptr<SocketFactory> socket_factory;

  // The secret behind initial sequence numbers (RFC 6528). Unset: from the kernel's
  // random generator. Set it only to make a run repeat exactly.
  std::optional<std::array<uint64_t, 2>> isn_key;

  // Limits. Sixteen thousand flows is what a busy build farm's guest was seen to
  // open; the half-open ones are limited apart so that a SYN scan cannot starve
  // established flows. Half-open: dialing or in handshake.
  uint32_t flow_count_max = 16'384;
  uint32_t half_open_count_max = 1'024;
  uint32_t half_open_per_destination_max = 256;
  // Bytes of guest data and out-of-order data that all flows may hold, and of
  // host data the same again.
  uint64_t buffer_bytes_max = uint64_t{256} << 20;

  // Timeouts.
  Duration dial_timeout = std::chrono::seconds(30);
  Duration handshake_timeout = std::chrono::seconds(30);
  // A guest that does not answer the connection of a published port's client.
  Duration inbound_dial_timeout = std::chrono::seconds(10);
  // Nothing heard from the guest while it owes an acknowledgement.
  Duration silent_timeout = std::chrono::minutes(15);
  // The guest answers, but takes no byte.
  Duration stall_timeout = std::chrono::minutes(30);
  Duration keepalive_idle = std::chrono::hours(2);
  Duration keepalive_interval = std::chrono::seconds(75);
  int keepalive_probes = 9;
  Duration time_wait = std::chrono::seconds(60);

  // The guest's own UDP: sockets of the host's, one for each address and port that the
  // guest sends from (RFC 4787 4.1; the one used least recently gives way), and how long one
  // is kept after the last datagram either way: before an answer came, after one, and for
  // names, of which each wants one answer.
  uint32_t udp_mapping_count_max = 4'096;
  Duration udp_timeout = std::chrono::seconds(120);
  Duration udp_answered_timeout = std::chrono::seconds(300);
  Duration udp_name_timeout = std::chrono::seconds(30);
  // Who may answer the guest's port.
  UdpFiltering udp_filtering = UdpFiltering::kAddressAndPort;
  // Echo requests of the guest's to other hosts than the gateway: identifiers at once, each
  // a socket, and how long one is kept.
  uint32_t echo_count_max = 64;
  Duration echo_timeout = std::chrono::seconds(120);

  // Names (stack/dns): answered at the DNS addresses and the gateway's.
  DnsConfig dns;

  // A sentence for whoever operates the host, such as a system setting that keeps the guest
  // from something; each at most once. Poll thread; must not block. Unset: nobody hears.
  std::function<void(std::string_view)> warn;

  // Published UDP ports: clients of one port at once (the one heard of least recently
  // gives way), and how long one is remembered after the last datagram either way.
  uint32_t udp_peer_count_max = 16'384;
  Duration udp_peer_timeout = std::chrono::seconds(120);
};

// OK, or InvalidArgument with a sentence such as
// "mtu is 900: with IPv6 on it must be 1280 to 65521 (this link's maximum)".
[[nodiscard]] absl::Status Validate(const Config& config, const LinkCapabilities& link);

}  // namespace penstock

#endif  // PENSTOCK_STACK_CONFIG_H_
