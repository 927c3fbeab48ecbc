// What a configuration of DNS may not be, and the sentence about it.
#include "stack/dns/dns_config.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "stack/config.h"

namespace penstock {
namespace {

struct Case {
  std::function<void(DnsConfig&)> change;
  std::string sentence;  // a part of it; empty: the configuration is right
};

Endpoint At(const char* address, uint16_t port = 53) { return {*IpAddress::Parse(address), port}; }

TEST(DnsConfigTest, Sentences) {
  const std::vector<Case> cases = {
      {[](DnsConfig&) {}, ""},
      {[](DnsConfig& c) {
         c.upstreams = {At("127.0.0.53"), At("2001:db8::1", 5'353)};
       },
       ""},
      {[](DnsConfig& c) { c.upstreams.resize(17, At("192.0.2.1")); },
       "dns.upstreams are 17: there may be at most 16"},
      {[](DnsConfig& c) { c.upstreams = {At("192.0.2.1", 0)}; },
       "dns.upstreams has 192.0.2.1 with port 0"},
      {[](DnsConfig& c) { c.upstreams = {At("::")}; }, "no host's address"},
      {[](DnsConfig& c) { c.upstreams = {At("ff02::fb")}; }, "no host's address"},
      {[](DnsConfig& c) { c.upstreams = {At("fe80::1")}; }, "link-local"},
      {[](DnsConfig& c) {
         c.domains = {{"corp.test", {At("192.0.2.1")}}};
       },
       ""},
      {[](DnsConfig& c) {
         c.domains = {{"corp..test", {At("192.0.2.1")}}};
       },
       "dns.domains has \"corp..test\", which is no domain name"},
      {[](DnsConfig& c) {
         c.domains = {{"corp.test", {}}};
       },
       "dns.domains \"corp.test\": its upstreams are missing"},
      {[](DnsConfig& c) {
         c.domains = {{"corp.test", {At("0.0.0.0")}}};
       },
       "dns.domains \"corp.test\": its upstreams has 0.0.0.0:53"},
      {[](DnsConfig& c) {
         c.hosts = {{"db.test.", {At("10.1.2.3").address}}};
       },
       ""},
      {[](DnsConfig& c) {
         c.hosts = {{"", {At("10.1.2.3").address}}};
       },
       "dns.hosts has \"\", which is no domain name"},
      {[](DnsConfig& c) {
         c.hosts = {{"db.test", {}}};
       },
       "dns.hosts has \"db.test\" with 0 addr"},
      {[](DnsConfig& c) {
         c.hosts = {{"db.test", {17, At("10.1.2.3").address}}};
       },
       "give it 1 to 16"},
      {[](DnsConfig& c) {
         c.hosts = {{"db.test", {At("10.1.2.3").address}, std::chrono::seconds(-1)}};
       },
       "with a ttl that is not"},
      {[](DnsConfig& c) {
         c.zones = {"corp.test", "a b"};
       },
       "dns.zones has \"a b\""},
      {[](DnsConfig& c) { c.resolv_conf.clear(); }, "dns.resolv_conf is empty"},
      {[](DnsConfig& c) { c.timeout = {}; }, "dns.timeout is not positive"},
      {[](DnsConfig& c) { c.dead_time = {}; }, "dns.dead_time is not positive"},
      {[](DnsConfig& c) { c.outstanding_max = 0; }, "dns.outstanding_max is 0"},
      {[](DnsConfig& c) { c.outstanding_max = 16'385; }, "it must be 1 to 16384"},
  };
  for (const Case& one : cases) {
    Config config;
    one.change(config.dns);
    const absl::Status status = Validate(config, {});
    EXPECT_EQ(status.ok(), one.sentence.empty()) << status;
    EXPECT_NE(std::string(status.message()).find(one.sentence), std::string::npos)
        << status << " lacks '" << one.sentence << "'";
  }
}

}  // namespace
}  // namespace penstock
