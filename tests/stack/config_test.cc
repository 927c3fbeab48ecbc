#include "stack/config.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace penstock {
namespace {

struct Case {
  std::string what;
  std::function<void(Config&)> change;
  // Parts of the sentence; none: the configuration is right.
  std::vector<std::string> sentence = {};
};

std::string SentenceAbout(const Config& config, const LinkCapabilities& link = {}) {
  const absl::Status status = Validate(config, link);
  EXPECT_TRUE(status.ok() || absl::IsInvalidArgument(status)) << status;
  return std::string(status.message());
}

void Check(const std::vector<Case>& cases) {
  for (const Case& one : cases) {
    SCOPED_TRACE(one.what);
    Config config;
    one.change(config);
    const std::string said = SentenceAbout(config);
    if (one.sentence.empty()) {
      EXPECT_EQ(said, "");
      continue;
    }
    for (const std::string& part : one.sentence) {
      EXPECT_NE(said.find(part), std::string::npos) << "'" << said << "' lacks '" << part << "'";
    }
  }
}

IpAddress Address(const char* text) { return *IpAddress::Parse(text); }

TEST(ConfigTest, TheDefaultsAreRight) { EXPECT_EQ(SentenceAbout({}), ""); }

TEST(ConfigTest, Families) {
  Check({
      {"both off",
       [](Config& c) { c.ipv4.enabled = c.ipv6.enabled = false; },
       {"ipv4 and ipv6 are both off", "leave one on"}},
      {"IPv4 only", [](Config& c) { c.ipv6.enabled = false; }},
      {"IPv6 only", [](Config& c) { c.ipv4.enabled = false; }},
      {"what is off is not looked at", [](Config& c) { c.ipv6 = {.enabled = false}; }},
  });
}

TEST(ConfigTest, NetworksBehindTheGuest) {
  const auto has4 = [](const char* address, int length) {
    return [=](Config& c) { c.ipv4.guest_prefixes = {{Address(address), length}}; };
  };
  const auto has6 = [](const char* address, int length) {
    return [=](Config& c) { c.ipv6.guest_prefixes = {{Address(address), length}}; };
  };
  Check({
      {"one of each",
       [](Config& c) {
         c.ipv4.guest_prefixes = {{Address("172.20.0.0"), 16}, {Address("192.0.2.7"), 32}};
         c.ipv6.guest_prefixes = {{Address("fd20::"), 48}, {Address("2001:db8::7"), 128}};
       }},
      {"other family",
       has4("fd20::", 48),
       {"ipv4.guest_prefixes has fd20::/48", "no ipv4 network"}},
      {"other family 6", has6("172.20.0.0", 16), {"no ipv6 network"}},
      {"everything", has4("0.0.0.0", 0), {"0.0.0.0/0", "must be 1 to 32"}},
      {"long", has4("172.20.0.0", 33), {"172.20.0.0/33", "must be 1 to 32"}},
      {"long 6", has6("fd20::", 129), {"must be 1 to 128"}},
      {"bits behind", has4("172.20.1.7", 12), {"172.20.1.7/12", "write 172.16.0.0/12"}},
      {"bits behind 6", has6("fd20::1", 65), {"write fd20::/65"}},
      {"inside the link", has4("10.0.2.128", 25), {"the link's own prefix 10.0.2.2/24"}},
      {"around the link", has4("10.0.0.0", 8), {"the link's own prefix"}},
      {"around the link 6", has6("fd00::", 8), {"the link's own prefix fd00::2/64"}},
      {"around loopback", has4("64.0.0.0", 2), {"meets 127.0.0.0/8", "no host can be"}},
      {"inside multicast", has4("239.0.0.0", 8), {"meets 224.0.0.0/3"}},
      {"link-local", has4("169.254.7.0", 24), {"meets 169.254.0.0/16"}},
      {"link-local 6", has6("fe80::", 64), {"meets fe80::/10"}},
      {"mapped", has6("::ffff:0:0", 96), {"no host can be"}},
      {"too many",
       [](Config& c) {
         c.ipv4.guest_prefixes.assign(kGuestPrefixesMax + 1, {Address("172.20.0.0"), 16});
       },
       {"are 65", "at most 64"}},
  });
}

TEST(ConfigTest, AddressesOfIpv4) {
  Check({
      {"gateway of the other family",
       [](Config& c) { c.ipv4.gateway = Address("fd00::2"); },
       {"ipv4.gateway is fd00::2", "must be an ipv4 address"}},
      {"DNS of the other family",
       [](Config& c) { c.ipv4.dns = Address("fd00::3"); },
       {"ipv4.dns is fd00::3", "must be an ipv4 address"}},
      {"guest of the other family",
       [](Config& c) { c.ipv4.guest = Address("fd00::15"); },
       {"ipv4.guest is fd00::15", "must be an ipv4 address"}},
      {"DNS outside",
       [](Config& c) { c.ipv4.dns = Address("10.0.3.3"); },
       {"ipv4.dns 10.0.3.3 lies outside", "10.0.2.2/24", "choose one inside"}},
      {"guest outside",
       [](Config& c) { c.ipv4.guest = Address("10.0.3.15"); },
       {"ipv4.guest 10.0.3.15 lies outside", "10.0.2.2/24"}},
      {"guest is the gateway",
       [](Config& c) { c.ipv4.guest = c.ipv4.gateway; },
       {"ipv4.guest 10.0.2.2", "also the gateway's or the DNS address", "its own"}},
      {"guest is the DNS server",
       [](Config& c) { c.ipv4.guest = c.ipv4.dns; },
       {"ipv4.guest 10.0.2.3", "also the gateway's or the DNS address"}},
      {"gateway and DNS may be one", [](Config& c) { c.ipv4.dns = c.ipv4.gateway; }},
      {"prefix 0",
       [](Config& c) { c.ipv4.prefix_length = 0; },
       {"ipv4.prefix_length is 0", "1 to 30"}},
      {"prefix 31",
       [](Config& c) { c.ipv4.prefix_length = 31; },
       {"ipv4.prefix_length is 31", "1 to 30"}},
      {"negative prefix",
       [](Config& c) { c.ipv4.prefix_length = -1; },
       {"ipv4.prefix_length is -1"}},
      {"prefix 1", [](Config& c) { c.ipv4.prefix_length = 1; }},
      {"prefix 30",
       [](Config& c) {
         c.ipv4 = {.gateway = Address("10.0.2.1"),
                   .dns = Address("10.0.2.1"),
                   .guest = Address("10.0.2.2"),
                   .prefix_length = 30};
       }},
  });
}

TEST(ConfigTest, AddressesOfIpv6) {
  Check({
      {"gateway of the other family",
       [](Config& c) { c.ipv6.gateway = Address("10.0.2.2"); },
       {"ipv6.gateway is 10.0.2.2", "must be an ipv6 address"}},
      {"DNS outside",
       [](Config& c) { c.ipv6.dns = Address("fd01::3"); },
       {"ipv6.dns fd01::3 lies outside", "fd00::2/64"}},
      {"guest outside",
       [](Config& c) { c.ipv6.guest = Address("fd00:0:0:1::15"); },
       {"ipv6.guest fd00:0:0:1::15 lies outside"}},
      {"guest is the gateway",
       [](Config& c) { c.ipv6.guest = c.ipv6.gateway; },
       {"ipv6.guest fd00::2", "also the gateway's or the DNS address"}},
      {"prefix 0", [](Config& c) { c.ipv6.prefix_length = 0; }, {"ipv6.prefix_length is 0"}},
      {"prefix 127",
       [](Config& c) { c.ipv6.prefix_length = 127; },
       {"ipv6.prefix_length is 127", "1 to 126"}},
      {"prefix 126",
       [](Config& c) {
         c.ipv6 = {.gateway = Address("fd00::1"),
                   .dns = Address("fd00::1"),
                   .guest = Address("fd00::2"),
                   .prefix_length = 126};
       }},
  });
}

TEST(ConfigTest, WhatTheGuestIsTold) {
  const auto pool = [](const char* first, const char* last) {
    return [first, last](Config& c) {
      c.dhcp_pool_first = Address(first);
      c.dhcp_pool_last = Address(last);
    };
  };
  Check({
      {"a pool", pool("10.0.2.20", "10.0.2.99")},
      {"a pool elsewhere",
       pool("10.0.3.20", "10.0.3.99"),
       {"dhcp_pool_first 10.0.3.20", "outside the link's prefix"}},
      {"a pool that is too long",
       pool("10.0.2.20", "10.0.3.99"),
       {"dhcp_pool_last 10.0.3.99", "outside the link's prefix"}},
      {"a pool of another family",
       pool("fd00::20", "fd00::99"),
       {"dhcp_pool_first fd00::20", "outside the link's prefix"}},
      {"a pool backwards",
       pool("10.0.2.99", "10.0.2.20"),
       {"dhcp_pool_last 10.0.2.20", "lower address first"}},
      {"search domains",
       [](Config& c) {
         c.search_domains = {"corp.example", "a.b.c."};
       }},
      {"no domain",
       [](Config& c) { c.search_domains = {"corp..example"}; },
       {"\"corp..example\" is no domain name"}},
      {"too many domains",
       [](Config& c) { c.search_domains.assign(30, "corp.example"); },
       {"search_domains take 420 bytes", "leave some out"}},
      {"a host name", [](Config& c) { c.guest_host_name = "blue"; }},
      {"no host name",
       [](Config& c) { c.guest_host_name = "b l u e"; },
       {"guest_host_name is \"b l u e\"", "at most 63"}},
      {"a short lease",
       [](Config& c) { c.dhcp_lease_time = std::chrono::milliseconds(1999); },
       {"dhcp_lease_time must be two seconds to a year"}},
  });
}

TEST(ConfigTest, MtuAtItsBounds) {
  Check({
      {"1279", [](Config& c) { c.mtu = 1'279; }, {"mtu is 1279", "IPv6 on", "1280 to 65521"}},
      {"1280", [](Config& c) { c.mtu = 1'280; }},
      {"the link's maximum", [](Config& c) { c.mtu = 65'521; }},
      {"over it",
       [](Config& c) { c.mtu = 65'522; },
       {"mtu is 65522", "65521 (this link's maximum)"}},
      {"575 without IPv6",
       [](Config& c) { c.mtu = 575, c.ipv6.enabled = false; },
       {"mtu is 575", "IPv6 off", "576 to"}},
      {"576 without IPv6", [](Config& c) { c.mtu = 576, c.ipv6.enabled = false; }},
  });
  // The bound is the link's.
  EXPECT_EQ(SentenceAbout({.mtu = 65'535}, {.ethernet = false, .mtu_max = 65'535}), "");
  EXPECT_NE(SentenceAbout({.mtu = 1'500}, {.mtu_max = 1'400}).find("1280 to 1400"),
            std::string::npos);
}

TEST(ConfigTest, GatewayMac) {
  Check({
      {"multicast",
       [](Config& c) { c.gateway_mac = {0x01, 0, 0x5e, 0, 0, 1}; },
       {"gateway_mac is a multicast address", "lowest bit"}},
      {"broadcast", [](Config& c) { c.gateway_mac.fill(0xff); }, {"gateway_mac"}},
      {"unicast", [](Config& c) { c.gateway_mac = {0x02, 0, 0, 0, 0, 1}; }},
  });
}

TEST(ConfigTest, CountsAtTheirBounds) {
  Check({
      {"relay_threads -1",
       [](Config& c) { c.relay_threads = -1; },
       {"relay_threads is -1", "0 to 64"}},
      {"relay_threads 65", [](Config& c) { c.relay_threads = 65; }, {"relay_threads is 65"}},
      {"relay_threads 0", [](Config& c) { c.relay_threads = 0; }},
      {"relay_threads 64", [](Config& c) { c.relay_threads = 64; }},
      {"flow_count_max 0",
       [](Config& c) { c.flow_count_max = 0; },
       {"flow_count_max is 0", "1 to 1048576"}},
      {"flow_count_max too large",
       [](Config& c) { c.flow_count_max = 1'048'577; },
       {"flow_count_max is 1048577"}},
      {"flow_count_max largest", [](Config& c) { c.flow_count_max = 1'048'576; }},
      {"half_open_count_max 0",
       [](Config& c) { c.half_open_count_max = 0; },
       {"half_open_count_max is 0"}},
      {"more half-open flows than flows",
       [](Config& c) { c.flow_count_max = 1'000; },
       {"half_open_count_max is 1024", "1 to 1000"}},
      {"half_open_per_destination_max 0",
       [](Config& c) { c.half_open_per_destination_max = 0; },
       {"half_open_per_destination_max is 0"}},
      {"more per destination than in all",
       [](Config& c) { c.half_open_per_destination_max = 1'025; },
       {"half_open_per_destination_max is 1025", "1 to 1024"}},
      {"one of each",
       [](Config& c) {
         c.flow_count_max = c.half_open_count_max = c.half_open_per_destination_max = 1;
       }},
      {"buffers too small",
       [](Config& c) { c.buffer_bytes_max = (1 << 20) - 1; },
       {"buffer_bytes_max is 1048575", "1048576 to 1099511627776"}},
      {"buffers smallest", [](Config& c) { c.buffer_bytes_max = 1 << 20; }},
      {"buffers largest", [](Config& c) { c.buffer_bytes_max = uint64_t{1} << 40; }},
      {"buffers too large",
       [](Config& c) { c.buffer_bytes_max = std::numeric_limits<uint64_t>::max(); },
       {"buffer_bytes_max is 18446744073709551615"}},
      {"no probe",
       [](Config& c) { c.keepalive_probes = 0; },
       {"keepalive_probes is 0", "1 to 127"}},
      {"too many probes", [](Config& c) { c.keepalive_probes = 128; }, {"keepalive_probes is 128"}},
      {"one probe", [](Config& c) { c.keepalive_probes = 1; }},
      {"127 probes", [](Config& c) { c.keepalive_probes = 127; }},
  });
}

TEST(ConfigTest, EveryTimeoutMustBePositive) {
  const std::vector<std::pair<std::string, Duration Config::*>> timeouts = {
      {"dial_timeout", &Config::dial_timeout},
      {"handshake_timeout", &Config::handshake_timeout},
      {"silent_timeout", &Config::silent_timeout},
      {"stall_timeout", &Config::stall_timeout},
      {"keepalive_idle", &Config::keepalive_idle},
      {"keepalive_interval", &Config::keepalive_interval},
      {"time_wait", &Config::time_wait}};
  for (const auto& [name, field] : timeouts) {
    for (const Duration wrong : {Duration::zero(), Duration(-1)}) {
      Config config;
      config.*field = wrong;
      EXPECT_NE(SentenceAbout(config).find(name + " is not positive"), std::string::npos) << name;
    }
    // "Never" is as good as any.
    for (const Duration right : {Duration(std::chrono::milliseconds(1)), Duration::max()}) {
      Config config;
      config.*field = right;
      EXPECT_EQ(SentenceAbout(config), "") << name;
    }
  }
}

}  // namespace
}  // namespace penstock
