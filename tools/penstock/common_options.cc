#include "tools/penstock/common_options.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tools/penstock/control_socket.h"

namespace penstock::tool {
namespace {

// The stack's own bounds, under the names of the options.
constexpr int kFlowLimitMax = 1'048'576;
constexpr double kBufferLimitMin = 1'048'576;
constexpr double kBufferLimitMax = 1'099'511'627'776;

void AddFamily(CLI::App& app, const std::string& name, const std::string& digit, FamilyTexts& texts,
               const std::string& defaults) {
  const std::string group = name + " (default: " + defaults + ")";
  app.add_flag("--no-ipv" + digit, texts.off, "Without " + name + ", end to end")->group(group);
  app.add_option("--guest-ip" + digit, texts.guest, "The sandbox's address and prefix length")
      ->type_name("ADDRESS/LENGTH")
      ->group(group);
  app.add_option("--gateway-ip" + digit, texts.gateway, "Its gateway")
      ->type_name("ADDRESS")
      ->group(group);
  app.add_option("--dns-ip" + digit, texts.dns, "Its name server")
      ->type_name("ADDRESS")
      ->group(group);
}

void AddPublish(CLI::App& app, CommonOptions& common, CommonTexts& texts) {
  constexpr const char* kGroup = "Published ports";
  app.add_option("-p,--publish", texts.publish,
                 "Lead host ports to the sandbox's; again for more. 8080:80,\n"
                 "0.0.0.0:8080:80, 53:53/udp, 0:80 (a free one, which is told),\n"
                 "8000-8010:9000-9010; `penstock ports add --help` has the rest")
      ->allow_extra_args(false)
      ->option_text("SPEC")
      ->group(kGroup);
  AddClientIdentity(app, texts.client_identity);
  app.add_option("--control", common.control,
                 "A socket made here that takes orders of `penstock ports`, `events`,\n"
                 "`flows` and `policy`")
      ->type_name("PATH")
      ->group(kGroup);
}

void AddConfiguration(CLI::App& app, Config& config, CommonTexts& texts) {
  constexpr const char* kGroup = "What clients inside are told";
  app.add_flag("--no-dhcp", texts.no_dhcp, "No answers to DHCP and DHCPv6")->group(kGroup);
  app.add_flag("--no-ra", texts.no_router_advertisements, "No router advertisements")
      ->group(kGroup);
  app.add_option("--search", config.search_domains, "A search domain; again for more")
      ->allow_extra_args(false)
      ->option_text("DOMAIN")
      ->group(kGroup);
  app.add_option("--guest-hostname", config.guest_host_name, "The sandbox's name, by DHCP")
      ->type_name("NAME")
      ->group(kGroup);
  app.add_option("--dhcp-pool", texts.dhcp_pool,
                 "What DHCP leases (from the sandbox's address to the prefix's end)")
      ->type_name("FIRST-LAST")
      ->group(kGroup);
  app.add_option("--lease-time", texts.dhcp_lease_seconds, "Of a DHCP lease (86400)")
      ->type_name("SECONDS")
      ->group(kGroup);
}

void AddStatistics(CLI::App& app, CommonOptions& common) {
  app.add_flag("--stats", common.stats, "At the end, flows and counters to stderr")
      ->group("Statistics");
  app.add_option("--stats-file", common.stats_file,
                 "The same to a file, at the end and on SIGUSR1:\n"
                 "lines \"NAME VALUE\", \"flow ...\" and \"port ...\"")
      ->type_name("PATH")
      ->group("Statistics");
}

void AddLimits(CLI::App& app, Config& config, CommonTexts& texts) {
  app.add_option("--flow-limit", config.flow_count_max, "Connections at once (16384)")
      ->check(CLI::Range(1, kFlowLimitMax))
      ->option_text("N")
      ->group("Limits");
  app.add_option("--buffer-limit", config.buffer_bytes_max,
                 "Held for all connections, in each direction (256MiB)")
      ->transform(CLI::AsSizeValue(false) & CLI::Range(kBufferLimitMin, kBufferLimitMax))
      ->option_text("BYTES")
      ->group("Limits");
  app.add_option("--dial-timeout", texts.dial_timeout_seconds,
                 "Give up a connect to a silent host (30)")
      ->type_name("SECONDS")
      ->group("Limits");
  app.add_option("--keepalive-idle", texts.keepalive_idle_seconds,
                 "Probe both ends of an idle connection after (7200)")
      ->type_name("SECONDS")
      ->group("Limits");
}

absl::Status SetAddress(const std::string& option, const std::string& text, IpAddress& address) {
  if (text.empty()) return absl::OkStatus();
  const std::optional<IpAddress> parsed = IpAddress::Parse(text);
  if (!parsed || parsed->family != address.family) {
    return Wrong(
        option, " is \"", text, "\": it must be an ",
        address.is_v4() ? "IPv4 address such as 10.0.2.2" : "IPv6 address such as fd00::2");
  }
  address = *parsed;
  return absl::OkStatus();
}

absl::Status SetFamily(const std::string& digit, const FamilyTexts& texts, FamilyConfig& family) {
  family.enabled = !texts.off;
  if (!texts.guest.empty()) {
    const size_t slash = texts.guest.find('/');
    int length = 0;
    if (slash == std::string::npos || !absl::SimpleAtoi(texts.guest.substr(slash + 1), &length)) {
      return Wrong("--guest-ip", digit, " is \"", texts.guest,
                   "\": it must be an address and a prefix length such as ",
                   digit == "4" ? "10.0.2.15/24" : "fd00::15/64");
    }
    if (absl::Status s =
            SetAddress("--guest-ip" + digit, texts.guest.substr(0, slash), family.guest);
        !s.ok()) {
      return s;
    }
    family.prefix_length = length;
  }
  if (absl::Status s = SetAddress("--gateway-ip" + digit, texts.gateway, family.gateway); !s.ok()) {
    return s;
  }
  return SetAddress("--dns-ip" + digit, texts.dns, family.dns);
}

absl::Status SetGuestPrefixes(const std::vector<std::string>& texts, Config& config) {
  for (const std::string& text : texts) {
    const size_t slash = text.find('/');
    const std::optional<IpAddress> address = IpAddress::Parse(text.substr(0, slash));
    IpPrefix prefix;
    if (slash == std::string::npos || !address ||
        !absl::SimpleAtoi(text.substr(slash + 1), &prefix.length)) {
      return Wrong("--guest-prefix is \"", text,
                   "\": it must be a network such as 172.20.0.0/16 or fd20::/64");
    }
    prefix.address = *address;
    FamilyConfig& family = address->is_v4() ? config.ipv4 : config.ipv6;
    if (!family.enabled) {
      return Wrong("--guest-prefix is \"", text, "\", and --no-ipv", address->is_v4() ? "4" : "6",
                   " switches its family off: leave one of them out");
    }
    family.guest_prefixes.push_back(prefix);
  }
  return absl::OkStatus();
}

absl::Status SetSeconds(const CLI::App& app, const std::string& option, double seconds,
                        Duration& duration) {
  if (app.count(option) == 0) return absl::OkStatus();
  constexpr double kYear = 366.0 * 24 * 3600;
  if (!(seconds >= 0.001 && seconds <= kYear)) {
    return Wrong(option, " must be 0.001 to ", static_cast<int64_t>(kYear), " seconds");
  }
  duration = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
  return absl::OkStatus();
}

// The file is made beside its name and moved there, so its folder must be writable.
absl::Status CheckFolderOf(const std::string& option, const std::string& file) {
  const size_t slash = file.rfind('/');
  const std::string folder =
      slash == std::string::npos ? "." : file.substr(0, std::max<size_t>(slash, 1));
  if (file.empty() || access(folder.c_str(), W_OK | X_OK) == 0) return absl::OkStatus();
  return Wrong(option, " is \"", file, "\": its folder is not there or not writable");
}

absl::Status SetPublish(const CLI::App& app, const CommonTexts& texts, CommonOptions& common) {
  const absl::StatusOr<ClientIdentity> identity = IdentityOf(texts.client_identity);
  if (!identity.ok()) return identity.status();
  if (!texts.client_identity.empty() && texts.publish.empty()) {
    return Wrong("--client-identity is for --publish, and there is none");
  }
  for (const std::string& text : texts.publish) {
    absl::StatusOr<PortSpec> spec = ParsePortSpec(text);
    if (!spec.ok()) return Wrong("--publish: ", spec.status().message());
    spec->identity = *identity;
    common.publish.push_back(*std::move(spec));
  }
  if (app.count("--control") == 0) return absl::OkStatus();
  if (absl::Status s = CheckControlPath(common.control); !s.ok()) return s;
  return CheckFolderOf("--control", common.control);
}

absl::Status SetConfiguration(const CLI::App& app, const CommonTexts& texts, Config& config) {
  config.dhcp = !texts.no_dhcp;
  config.router_advertisements = !texts.no_router_advertisements;
  if (!texts.dhcp_pool.empty()) {
    const size_t dash = texts.dhcp_pool.find('-');
    const std::string first = texts.dhcp_pool.substr(0, dash);
    config.dhcp_pool_first = IpAddress::Parse(first);
    config.dhcp_pool_last = dash == std::string::npos
                                ? std::nullopt
                                : IpAddress::Parse(texts.dhcp_pool.substr(dash + 1));
    if (!config.dhcp_pool_first || !config.dhcp_pool_last) {
      return Wrong("--dhcp-pool is \"", texts.dhcp_pool,
                   "\": it must be two addresses such as 10.0.2.15-10.0.2.99");
    }
  }
  return SetSeconds(app, "--lease-time", texts.dhcp_lease_seconds, config.dhcp_lease_time);
}

absl::Status SetPolicies(const CLI::App& app, const CommonTexts& texts, const std::string& profile,
                         CommonOptions& common) {
  Config& config = common.config;
  absl::StatusOr<PolicyChoice> choice =
      ChoosePolicy(app, texts.policy, profile, config.host_loopback);
  if (!choice.ok()) return choice.status();
  config.platform_policy = std::move(choice->platform);
  config.tenant_policy = std::move(choice->tenant);
  config.denial_answer = choice->denial_answer;
  common.policy_option_lines = choice->option_lines;
  common.allow_option = choice->allow_option;
  return absl::OkStatus();
}

}  // namespace

void AddCommon(CLI::App& app, CommonOptions& common, CommonTexts& texts,
               const std::string& profile) {
  Config& config = common.config;
  app.add_option("--mtu", config.mtu, "Bytes of an IP packet, 1280 (576 with --no-ipv6) to 65521")
      ->type_name("N")
      ->capture_default_str();
  app.add_flag("--host-loopback", config.host_loopback,
               "The gateway's address reaches the host's 127.0.0.1 and ::1");
  app.add_option("--relay-threads", texts.relay_threads,
                 "Threads for host sockets; 0: one thread for everything;\n"
                 "auto: 0 on up to two cores, else a quarter of them, at most 4")
      ->type_name("N|auto")
      ->capture_default_str();
  app.add_option("--busy-poll", texts.busy_poll_microseconds,
                 "With one thread for everything: in a conversation, look so long for\n"
                 "the next piece before sleeping, while nobody else wants the core.\n"
                 "More answers somebody slow sooner, for more time of a core; 0: sleep\n"
                 "at once")
      ->type_name("MICROSECONDS")
      ->capture_default_str();
  app.add_option("--udp-filtering", texts.udp_filtering,
                 "Who may send to a UDP port of the sandbox's: whom it has sent to\n"
                 "(address-and-port, the default), any port of an address that it has\n"
                 "sent to (address), everybody (none: a \"full cone\")")
      ->type_name("WHOM");
  app.add_option("--impair", texts.impair,
                 "Make the link bad: delay=10ms,jitter=1ms,drop=1%,reorder=1%,\n"
                 "duplicate=0.1%,corrupt=0.1%,seed=7; to_guest.drop=2%: one way")
      ->type_name("SPEC");
  app.add_option("--pcap", common.pcap,
                 "Write what the sandbox sends and gets to this capture file (pcapng,\n"
                 "for Wireshark); with --impair, what it really gets")
      ->type_name("FILE");
  app.add_flag("--no-sandbox", texts.no_sandbox,
               "Do not confine penstock itself (no files, no privileges, few system\n"
               "calls): for debugging");
  AddFamily(app, "IPv4", "4", texts.ipv4, "10.0.2.15/24, 10.0.2.2, 10.0.2.3");
  AddFamily(app, "IPv6", "6", texts.ipv6, "fd00::15/64, fd00::2, fd00::3");
  app.add_option("--guest-prefix", texts.guest_prefixes,
                 "A network that the sandbox routes for, of either family: it may\n"
                 "send from there, too; again for more")
      ->allow_extra_args(false)
      ->option_text("ADDRESS/LENGTH");
  AddConfiguration(app, config, texts);
  AddDns(app, texts.dns);
  AddPolicyOptions(app, texts.policy, profile);
  AddPublish(app, common, texts);
  AddStatistics(app, common);
  AddLimits(app, config, texts);
}

absl::Status SetCommon(const CLI::App& app, const CommonTexts& texts, const std::string& profile,
                       CommonOptions& common) {
  Config& config = common.config;
  if (absl::Status s = CheckFolderOf("--stats-file", common.stats_file); !s.ok()) return s;
  if (absl::Status s = SetPublish(app, texts, common); !s.ok()) return s;
  if (absl::Status s = SetFamily("4", texts.ipv4, config.ipv4); !s.ok()) return s;
  if (absl::Status s = SetFamily("6", texts.ipv6, config.ipv6); !s.ok()) return s;
  if (absl::Status s = SetGuestPrefixes(texts.guest_prefixes, config); !s.ok()) return s;
  if (absl::Status s = SetConfiguration(app, texts, config); !s.ok()) return s;
  if (absl::Status s = SetDns(app, texts.dns, config.dns); !s.ok()) return s;
  if (absl::Status s = SetChoice("--udp-filtering", texts.udp_filtering,
                                 {std::pair{"address-and-port", UdpFiltering::kAddressAndPort},
                                  {"address", UdpFiltering::kAddress},
                                  {"none", UdpFiltering::kNone}},
                                 config.udp_filtering);
      !s.ok()) {
    return s;
  }
  if (absl::Status s = SetPolicies(app, texts, profile, common); !s.ok()) return s;
  common.offload = !texts.no_offload;
  common.confined = !texts.no_sandbox;
  // A limit below the half-open ones lowers those with it.
  config.half_open_count_max = std::min(config.half_open_count_max, config.flow_count_max);
  config.half_open_per_destination_max =
      std::min(config.half_open_per_destination_max, config.half_open_count_max);
  if (texts.relay_threads == "auto") {
    config.relay_threads = RelayThreadsFor(std::thread::hardware_concurrency());
  } else if (!absl::SimpleAtoi(texts.relay_threads, &config.relay_threads) ||
             config.relay_threads < 0 || config.relay_threads > 64) {
    return Wrong("--relay-threads is \"", texts.relay_threads, "\": it must be 0 to 64 or auto");
  }
  if (texts.busy_poll_microseconds < 0 || texts.busy_poll_microseconds > 10'000) {
    return Wrong("--busy-poll is ", texts.busy_poll_microseconds,
                 ": it must be 0 to 10000 microseconds");
  }
  if (app.count("--busy-poll") > 0 && texts.relay_threads != "auto" && config.relay_threads > 0) {
    return Wrong("--busy-poll is for one thread that does everything: it needs --relay-threads 0");
  }
  common.busy_poll = std::chrono::microseconds(texts.busy_poll_microseconds);
  if (absl::Status s =
          SetSeconds(app, "--dial-timeout", texts.dial_timeout_seconds, config.dial_timeout);
      !s.ok()) {
    return s;
  }
  if (absl::Status s =
          SetSeconds(app, "--keepalive-idle", texts.keepalive_idle_seconds, config.keepalive_idle);
      !s.ok()) {
    return s;
  }
  if (app.count("--pcap") > 0 && common.pcap.empty()) {
    return Wrong("--pcap is empty: it must be the path of a file");
  }
  if (app.count("--impair") > 0) {
    absl::StatusOr<ImpairOptions> impair = ParseImpairOptions(texts.impair);
    if (!impair.ok()) return Wrong("--impair: ", impair.status().message());
    common.impair = *std::move(impair);
  }
  return Validate(config, LinkCapabilities{});
}

}  // namespace penstock::tool
