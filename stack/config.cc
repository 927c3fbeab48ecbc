#include "stack/config.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "stack/service/domain_names.h"

namespace penstock {
namespace {

absl::Status Wrong(std::string_view what) {
  return absl::InvalidArgumentError({what.data(), what.size()});
}

// The first address of `prefix`.
IpAddress NetworkOf(const IpPrefix& prefix) {
  IpAddress network = prefix.address;
  for (int bit = prefix.length; bit < static_cast<int>(network.wire().size() * 8); ++bit) {
    const auto byte = static_cast<size_t>(bit / 8);
    network.bytes[byte] = static_cast<uint8_t>(network.bytes[byte] & ~(0x80 >> bit % 8));
  }
  return network;
}

bool Overlap(const IpPrefix& prefix, const IpAddress& other, int other_length) {
  return InPrefix(prefix.address, other, std::min(prefix.length, other_length));
}

// Where no host of a guest's can be: a prefix that meets one of these would let it send
// from there.
absl::Status CheckSpecial(const IpPrefix& prefix, const std::string& what) {
  static constexpr std::pair<const char*, int> kSpecial[] = {
      {"0.0.0.0", 8}, {"127.0.0.0", 8},   {"169.254.0.0", 16}, {"224.0.0.0", 3},
      {"::", 96},     {"::ffff:0:0", 96}, {"fe80::", 10},      {"ff00::", 8}};
  for (const auto& [address, length] : kSpecial) {
    if (!Overlap(prefix, *IpAddress::Parse(address), length)) continue;
    return Wrong(absl::StrCat(what, " meets ", address, "/", length,
                              ", where no host can be: choose another network"));
  }
  return absl::OkStatus();
}

absl::Status CheckGuestPrefixes(const FamilyConfig& family, Family kind, const std::string& name) {
  if (family.guest_prefixes.size() > kGuestPrefixesMax) {
    return Wrong(absl::StrCat(name, ".guest_prefixes are ", family.guest_prefixes.size(),
                              ": there may be at most ", kGuestPrefixesMax));
  }
  const int bits = kind == Family::kIpv4 ? 32 : 128;
  for (const IpPrefix& prefix : family.guest_prefixes) {
    const std::string what = absl::StrCat(name, ".guest_prefixes has ", prefix.address.ToString(),
                                          "/", prefix.length, ", which");
    if (prefix.address.family != kind) {
      return Wrong(absl::StrCat(what, " is no ", name, " network"));
    }
    if (prefix.length < 1 || prefix.length > bits) {
      return Wrong(absl::StrCat(what, " has a wrong length: it must be 1 to ", bits));
    }
    if (const IpAddress network = NetworkOf(prefix); network != prefix.address) {
      return Wrong(absl::StrCat(what, " has bits behind its length: write ", network.ToString(),
                                "/", prefix.length));
    }
    if (Overlap(prefix, family.gateway, family.prefix_length)) {
      return Wrong(absl::StrCat(what, " meets the link's own prefix ", family.gateway.ToString(),
                                "/", family.prefix_length, ": choose another network"));
    }
    if (absl::Status status = CheckSpecial(prefix, what); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status CheckFamily(const FamilyConfig& family, Family kind) {
  if (!family.enabled) return absl::OkStatus();
  const std::string name = kind == Family::kIpv4 ? "ipv4" : "ipv6";
  const int bits = kind == Family::kIpv4 ? 32 : 128;
  const auto check = [&](const char* field, const IpAddress& address) -> absl::Status {
    if (address.family != kind) {
      return Wrong(absl::StrCat(name, ".", field, " is ", address.ToString(), ": it must be an ",
                                name, " address"));
    }
    if (!InPrefix(address, family.gateway, family.prefix_length)) {
      return Wrong(absl::StrCat(name, ".", field, " ", address.ToString(),
                                " lies outside the link's prefix ", family.gateway.ToString(), "/",
                                family.prefix_length, ": choose one inside it"));
    }
    return absl::OkStatus();
  };
  if (family.prefix_length < 1 || family.prefix_length > bits - 2) {
    return Wrong(absl::StrCat(name, ".prefix_length is ", family.prefix_length,
                              ": it must be 1 to ", bits - 2,
                              ", with room for guest, gateway and DNS address"));
  }
  for (const auto& [field, address] :
       {std::pair{"gateway", &family.gateway}, {"dns", &family.dns}, {"guest", &family.guest}}) {
    if (absl::Status status = check(field, *address); !status.ok()) return status;
  }
  if (family.gateway == family.guest || family.dns == family.guest) {
    return Wrong(absl::StrCat(name, ".guest ", family.guest.ToString(),
                              " is also the gateway's or the DNS address: give it its own"));
  }
  return CheckGuestPrefixes(family, kind, name);
}

absl::Status CheckRange(std::string_view name, uint64_t value, uint64_t low, uint64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return Wrong(absl::StrCat(absl::string_view(name.data(), name.size()), " is ", value,
                            ": it must be ", low, " to ", high));
}

absl::Status CheckPositive(std::string_view name, Duration value) {
  if (value > Duration::zero()) return absl::OkStatus();
  return Wrong(absl::StrCat(absl::string_view(name.data(), name.size()),
                            " is not positive: give it at least a millisecond"));
}

absl::Status CheckPool(const Config& config) {
  const IpAddress& first = config.dhcp_pool_first.value_or(config.ipv4.guest);
  const IpAddress& last = config.dhcp_pool_last.value_or(first);
  for (const auto& [field, address] :
       {std::pair{"dhcp_pool_first", &first}, {"dhcp_pool_last", &last}}) {
    if (!InPrefix(*address, config.ipv4.gateway, config.ipv4.prefix_length)) {
      return Wrong(absl::StrCat(field, " ", address->ToString(), " lies outside the link's prefix ",
                                config.ipv4.gateway.ToString(), "/", config.ipv4.prefix_length,
                                ": choose one inside it"));
    }
  }
  if (last < first) {
    return Wrong(absl::StrCat("dhcp_pool_last ", last.ToString(), " comes before dhcp_pool_first ",
                              first.ToString(), ": give the lower address first"));
  }
  return absl::OkStatus();
}

absl::Status CheckNames(const Config& config) {
  constexpr size_t kOptionBytesMax = 255, kLabelBytesMax = 63;
  for (const std::string& domain : config.search_domains) {
    if (!IsDomainName(domain)) {
      return Wrong(absl::StrCat("search domain \"", domain,
                                "\" is no domain name: write it as in corp.example"));
    }
  }
  const size_t bytes = EncodeDomainNames(config.search_domains).size();
  if (bytes > kOptionBytesMax) {
    return Wrong(absl::StrCat("search_domains take ", bytes,
                              " bytes: leave some out, 255 are what DHCP can tell"));
  }
  const std::string& name = config.guest_host_name;
  if (!name.empty() && (name.size() > kLabelBytesMax || !IsDomainName(name))) {
    return Wrong(absl::StrCat("guest_host_name is \"", name,
                              "\": it must be letters, digits and hyphens, at most 63"));
  }
  return absl::OkStatus();
}

absl::Status CheckConfiguration(const Config& config) {
  if (config.ipv4.enabled && config.dhcp) {
    if (absl::Status status = CheckPool(config); !status.ok()) return status;
  }
  if (absl::Status status = CheckNames(config); !status.ok()) return status;
  if (config.dhcp_lease_time < std::chrono::seconds(2) ||
      config.dhcp_lease_time > std::chrono::hours(24 * 366)) {
    return Wrong("dhcp_lease_time must be two seconds to a year");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Validate(const Config& config, const LinkCapabilities& link) {
  if (!config.ipv4.enabled && !config.ipv6.enabled) {
    return Wrong("ipv4 and ipv6 are both off: leave one on");
  }
  if (absl::Status status = CheckFamily(config.ipv4, Family::kIpv4); !status.ok()) return status;
  if (absl::Status status = CheckFamily(config.ipv6, Family::kIpv6); !status.ok()) return status;
  if (absl::Status status = CheckConfiguration(config); !status.ok()) return status;
  if (absl::Status status = ValidateDns(config.dns); !status.ok()) return status;
  const uint32_t mtu_min = config.ipv6.enabled ? 1'280 : 576;
  if (config.mtu < mtu_min || config.mtu > link.mtu_max) {
    return Wrong(absl::StrCat("mtu is ", config.mtu, ": with IPv6 ",
                              config.ipv6.enabled ? "on" : "off", " it must be ", mtu_min, " to ",
                              link.mtu_max, " (this link's maximum)"));
  }
  if ((config.gateway_mac[0] & 1) != 0) {
    return Wrong("gateway_mac is a multicast address: clear the lowest bit of its first byte");
  }
  if (config.relay_threads < 0 || config.relay_threads > 64) {
    return Wrong(absl::StrCat("relay_threads is ", config.relay_threads, ": it must be 0 to 64"));
  }
  for (const absl::Status& status :
       {CheckRange("flow_count_max", config.flow_count_max, 1, 1'048'576),
        CheckRange("half_open_count_max", config.half_open_count_max, 1, config.flow_count_max),
        CheckRange("half_open_per_destination_max", config.half_open_per_destination_max, 1,
                   config.half_open_count_max),
        // A window for each of the last flows (TcpFlows::InitialWindow) must fit.
        CheckRange("buffer_bytes_max", config.buffer_bytes_max, uint64_t{1} << 20,
                   uint64_t{1} << 40),
        CheckPositive("dial_timeout", config.dial_timeout),
        CheckPositive("handshake_timeout", config.handshake_timeout),
        CheckPositive("inbound_dial_timeout", config.inbound_dial_timeout),
        CheckRange("udp_peer_count_max", config.udp_peer_count_max, 1, 28'232),
        CheckPositive("udp_peer_timeout", config.udp_peer_timeout),
        CheckRange("udp_mapping_count_max", config.udp_mapping_count_max, 1, 65'535),
        CheckPositive("udp_timeout", config.udp_timeout),
        CheckPositive("udp_answered_timeout", config.udp_answered_timeout),
        CheckPositive("udp_name_timeout", config.udp_name_timeout),
        CheckRange("echo_count_max", config.echo_count_max, 1, 4'096),
        CheckPositive("echo_timeout", config.echo_timeout),
        CheckPositive("silent_timeout", config.silent_timeout),
        CheckPositive("stall_timeout", config.stall_timeout),
        CheckPositive("keepalive_idle", config.keepalive_idle),
        CheckPositive("keepalive_interval", config.keepalive_interval),
        CheckPositive("time_wait", config.time_wait)}) {
    if (!status.ok()) return status;
  }
  if (config.keepalive_probes < 1 || config.keepalive_probes > 127) {
    return Wrong(
        absl::StrCat("keepalive_probes is ", config.keepalive_probes, ": it must be 1 to 127"));
  }
  return absl::OkStatus();
}

}  // namespace penstock
