// What the stack answers itself: refusals, own names, hosts, zones, families, policy. And
// what of an answer is passed on: rebinding, pins, sizes.
#include "stack/dns/dns_service.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/stack/dns/dns_rig.h"

namespace penstock {
namespace {

using namespace std::chrono_literals;

using Strings = std::vector<std::string>;

constexpr int kFormErr = 1, kServFail = 2, kNxDomain = 3, kNotImp = 4;

DnsSeen AskOne(DnsRig& rig, const DnsAskSpec& spec) {
  rig.Ask(DnsAsk(spec));
  EXPECT_TRUE(rig.Questions().empty()) << "nobody else is asked";
  return SeeDns(rig.Answer());
}

TEST(DnsServiceTest, AsItCameAndBackFromTheAddressThatWasAsked) {
  for (const IpAddress& asked :
       {kTestConfig.ipv4.dns, kTestConfig.ipv6.dns, kGateway4, kGateway6}) {
    DnsRig rig;
    const Bytes ask = DnsAsk({.name = "Www.Example.Test", .flags = 0x0120, .edns_bytes = 1'400});
    rig.Ask(ask, 5'353, Endpoint{asked, 53});
    const DnsRig::Sent sent = rig.Question();
    EXPECT_EQ(sent.upstream, DnsRig::kFirst);
    EXPECT_EQ(Bytes(sent.message.begin() + 2, sent.message.end()),
              Bytes(ask.begin() + 2, ask.end()));
    Bytes answer = DnsAnswerTo(sent.message, {DnsRecordOf("x.test", "192.0.2.9")});
    answer.push_back(0x77);  // whatever is behind what we read
    rig.AnswerTo(sent, answer);
    const auto received = rig.Received();
    ASSERT_EQ(received.size(), 1u);
    EXPECT_EQ(received[0].source, (Endpoint{asked, 53}));
    EXPECT_EQ(received[0].destination, (Endpoint{Guest(asked.family), 5'353}));
    Put16(answer, 0, 0x1234);
    EXPECT_EQ(received[0].payload, answer);
    EXPECT_EQ(rig.service.outstanding(), 0u);
    EXPECT_EQ(rig.counters.dns_answered.value(), 1u);
    EXPECT_EQ(rig.policy.outcomes, Strings{"www.example.test answered"});
  }
}

TEST(DnsServiceTest, WhatIsNoQuestion) {
  DnsRig rig;
  rig.Ask(Bytes(11));
  rig.Ask({});
  rig.Ask(DnsAsk({.flags = 0x8100}));
  EXPECT_TRUE(rig.Received().empty());
  EXPECT_EQ(rig.counters.dns_ignored.value(), 3u);
  EXPECT_EQ(AskOne(rig, {.flags = 0x2900}).flags, 0xa984) << "an update: not implemented";
  EXPECT_EQ(AskOne(rig, {.type = 252}).rcode(), kNotImp) << "a zone transfer";
  EXPECT_EQ(rig.counters.dns_not_implemented.value(), 2u);
  Bytes two = DnsAsk();
  two.insert(two.end(), two.begin() + 12, two.begin() + 24);
  Put16(two, 4, 2);
  rig.Ask(two);
  EXPECT_EQ(SeeDns(rig.Answer()).rcode(), kFormErr);
  Bytes none = DnsAsk();
  none.resize(12);
  Put16(none, 4, 0);
  rig.Ask(none);
  EXPECT_EQ(SeeDns(rig.Answer()).rcode(), kFormErr);
  Bytes huge = DnsAsk();
  huge.resize(5'000);
  rig.Ask(huge);
  EXPECT_EQ(SeeDns(rig.Answer()).flags, 0x8181);
  EXPECT_EQ(rig.counters.dns_malformed.value(), 3u);
  EXPECT_TRUE(rig.Questions().empty());
}

// ---------------------------------------------------------------- own names

TEST(DnsServiceTest, TheGatewaysOwnNames) {
  DnsRig rig;
  for (const char* name : {"gateway.penstock.internal", "HOST.penstock.internal"}) {
    EXPECT_EQ(AskOne(rig, {.name = name}).addresses, Strings{"10.0.2.2"});
    EXPECT_EQ(AskOne(rig, {.name = name, .type = 28}).addresses, Strings{"fd00::2"});
    const DnsSeen other = AskOne(rig, {.name = name, .type = 16});
    EXPECT_EQ(other.rcode(), 0) << "there is the name, but no text";
    EXPECT_TRUE(other.addresses.empty());
  }
  EXPECT_EQ(AskOne(rig, {.name = "other.penstock.internal"}).rcode(), kNxDomain);
  EXPECT_EQ(AskOne(rig, {.name = "penstock.internal"}).rcode(), 0);
  EXPECT_EQ(AskOne(rig, {.name = "2.2.0.10.in-addr.arpa", .type = 12}).others,
            std::vector<Bytes>{DnsWireName("gateway.penstock.internal")});
  const std::string v6 = DnsName::OfAddress(kGateway6).ToString();
  EXPECT_EQ(AskOne(rig, {.name = v6, .type = 12}).others,
            std::vector<Bytes>{DnsWireName("gateway.penstock.internal")});
}

TEST(DnsServiceTest, HostsAndZonesOfTheConfiguration) {
  Config config;
  config.dns.hosts = {
      {"db.corp.test", {Address("10.1.2.3"), Address("10.1.2.4"), Address("fd99::3")}, 5s},
      {"lone.test", {Address("192.0.2.7")}}};
  config.dns.zones = {"corp.test"};
  DnsRig rig(config);
  const DnsSeen db = AskOne(rig, {.name = "DB.corp.test"});
  EXPECT_EQ(db.addresses, (Strings{"10.1.2.3", "10.1.2.4"}));
  EXPECT_EQ(db.ttls, (std::vector<uint32_t>{5, 5}));
  EXPECT_NE(db.flags & 0x0400, 0) << "authoritative";
  EXPECT_EQ(AskOne(rig, {.name = "db.corp.test", .type = 28}).addresses, Strings{"fd99::3"});
  EXPECT_EQ(AskOne(rig, {.name = "db.corp.test", .type = 255}).addresses.size(), 3u);
  EXPECT_EQ(AskOne(rig, {.name = "3.2.1.10.in-addr.arpa", .type = 12}).others,
            std::vector<Bytes>{DnsWireName("db.corp.test")});
  EXPECT_EQ(AskOne(rig, {.name = "no.corp.test"}).rcode(), kNxDomain);
  EXPECT_EQ(AskOne(rig, {.name = "a.db.corp.test"}).rcode(), kNxDomain);
  EXPECT_EQ(AskOne(rig, {.name = "lone.test"}).addresses, Strings{"192.0.2.7"});
  rig.Ask(DnsAsk({.name = "other.test"}));  // in no zone
  EXPECT_EQ(rig.Questions().size(), 1u);
  EXPECT_EQ(rig.policy.pins.front(), "db.corp.test 10.1.2.3 5");
}

TEST(DnsServiceTest, ATypeThatTheLinkHasNot) {
  Config config;
  config.ipv6.enabled = false;
  config.dns.hosts = {{"db.test", {Address("10.1.2.3"), Address("fd99::3")}}};
  DnsRig rig(config);
  EXPECT_TRUE(AskOne(rig, {.name = "db.test", .type = 28}).addresses.empty());
  EXPECT_TRUE(AskOne(rig, {.name = "gateway.penstock.internal", .type = 28}).addresses.empty());
  EXPECT_EQ(AskOne(rig, {.name = "gateway.penstock.internal"}).addresses, Strings{"10.0.2.2"});
  const DnsSeen seen = AskOne(rig, {.type = 28, .edns_bytes = 512});
  EXPECT_EQ(seen.rcode(), 0);
  EXPECT_TRUE(seen.edns);
  EXPECT_EQ(rig.counters.dns_no_family.value(), 1u);
}

TEST(DnsServiceTest, AFamilyThatTheHostHasNoRouteOf) {
  DnsRig rig;
  rig.service.SetHostRoutes({.ipv4 = true, .ipv6 = false});
  EXPECT_EQ(AskOne(rig, {.type = 28}).rcode(), 0);
  EXPECT_EQ(AskOne(rig, {.name = "gateway.penstock.internal", .type = 28}).addresses,
            Strings{"fd00::2"})
      << "the link has it all the same";
  rig.service.SetHostRoutes({.ipv4 = false, .ipv6 = true});
  EXPECT_EQ(AskOne(rig, {.type = 1}).rcode(), 0);
  rig.Ask(DnsAsk({.type = 28}));
  EXPECT_EQ(rig.Questions().size(), 1u);
  EXPECT_EQ(rig.policy.outcomes[0], "a.test no family");
}

// ---------------------------------------------------------------- policy

TEST(DnsServiceTest, ADeniedNameDoesNotExist) {
  DnsRig rig;
  rig.policy.may_ask = [](const std::string& name) { return name == "allowed.test"; };
  rig.policy.may_answer = [](const std::string&, const std::string&) { return false; };
  EXPECT_EQ(AskOne(rig, {.name = "denied.test"}).rcode(), kNxDomain);
  EXPECT_EQ(AskOne(rig, {.name = "gateway.penstock.internal"}).rcode(), kNxDomain);
  EXPECT_EQ(AskOne(rig, {.name = "2.2.0.10.in-addr.arpa", .type = 12}).rcode(), kNxDomain);
  EXPECT_EQ(rig.policy.outcomes[0], "denied.test denied");
  EXPECT_EQ(rig.counters.dns_denied.value(), 3u);
  rig.Ask(DnsAsk({.name = "Allowed.test"}));
  EXPECT_EQ(rig.Questions().size(), 1u);
}

TEST(DnsServiceTest, AnOwnNameMayBeAskedWhereItsAddressMayBeReached) {
  Config config;
  config.dns.hosts = {{"db.test", {Address("10.1.2.3")}}, {"no.test", {Address("10.1.2.4")}}};
  DnsRig rig(config);
  rig.policy.may_ask = [](const std::string&) { return false; };
  rig.policy.may_answer = [](const std::string&, const std::string& address) {
    return address == "10.1.2.3";
  };
  EXPECT_EQ(AskOne(rig, {.name = "db.test"}).addresses, Strings{"10.1.2.3"});
  EXPECT_EQ(AskOne(rig, {.name = "3.2.1.10.in-addr.arpa", .type = 12}).others.size(), 1u);
  EXPECT_EQ(AskOne(rig, {.name = "no.test"}).rcode(), kNxDomain);
}

TEST(DnsServiceTest, RebindingIsRefused) {
  const Strings refused = {"10.0.0.1",
                           "172.31.0.1",
                           "192.168.1.1",
                           "100.64.0.1",
                           "127.0.0.1",
                           "0.0.0.0",
                           "169.254.169.254",
                           "224.0.0.1",
                           "255.255.255.255",
                           "10.0.2.2",
                           "::",
                           "::1",
                           "fe80::1",
                           "fd00:ec2::254",
                           "ff02::1",
                           "::ffff:10.0.0.1",
                           "64:ff9b::10.0.0.1"};
  for (const std::string& address : refused) {
    DnsRig rig;
    rig.policy.may_answer = [](const std::string&, const std::string&) { return false; };
    const DnsSeen seen =
        SeeDns(rig.Resolve(DnsAsk({.edns_bytes = 512}), {DnsRecordOf("a.test", "192.0.2.1"),
                                                         DnsRecordOf("other.test", address)}));
    EXPECT_EQ(seen.rcode(), 0) << address;
    EXPECT_TRUE(seen.addresses.empty()) << address << ": all of the answer is refused";
    EXPECT_TRUE(rig.policy.pins.empty());
    EXPECT_EQ(rig.counters.dns_rebinding_refused.value(), 1u);
    ASSERT_EQ(rig.policy.outcomes.size(), 1u);
    EXPECT_EQ(rig.policy.outcomes[0],
              "a.test rebinding " + Address(address.c_str()).Unmapped().ToString());
  }
}

TEST(DnsServiceTest, WhatThePolicyAllowsAndWhatIsPublicPasses) {
  DnsRig rig;
  rig.policy.may_answer = [](const std::string& name, const std::string& address) {
    return name == "a.test" && address == "10.0.0.1";
  };
  const std::vector<DnsRecordSpec> records = {
      DnsRecordOf("a.test", "10.0.0.1"), DnsRecordOf("a.test", "172.32.0.1"),
      DnsRecordOf("a.test", "100.128.0.1"), DnsRecordOf("a.test", "2001:db8::1")};
  EXPECT_EQ(SeeDns(rig.Resolve(DnsAsk(), records)).addresses.size(), 4u);
  EXPECT_TRUE(SeeDns(rig.Resolve(DnsAsk({.name = "b.test"}), {DnsRecordOf("b.test", "10.0.0.1")}))
                  .addresses.empty());
  Config config;
  config.dns.rebinding_protection = false;
  DnsRig open(config);
  open.policy.may_answer = rig.policy.may_answer;
  EXPECT_EQ(SeeDns(open.Resolve(DnsAsk(), {DnsRecordOf("a.test", "10.0.0.9")})).addresses,
            Strings{"10.0.0.9"});
}

TEST(DnsServiceTest, PinsAreOfTheAskedNameOnly) {
  DnsRig rig;
  (void)rig.Resolve(DnsAsk({.name = "A.test"}),
                    {DnsAlias("a.test", "b.test", 7), DnsRecordOf("b.test", "192.0.2.1", 60),
                     DnsRecordOf("b.test", "192.0.2.2", 0), DnsRecordOf("c.test", "192.0.2.3")});
  EXPECT_EQ(rig.policy.pins, (Strings{"a.test 192.0.2.1 7", "a.test 192.0.2.2 1"}));
}

// ---------------------------------------------------------------- sizes

TEST(DnsServiceTest, LongerThanTheClientTakesIsCut) {
  const std::vector<DnsRecordSpec> many(60, DnsRecordOf("a.test", "192.0.2.1"));
  DnsRig rig;
  const Bytes cut = rig.Resolve(DnsAsk(), many);
  EXPECT_TRUE(SeeDns(cut).truncated());
  const Bytes ask = DnsAsk();
  EXPECT_EQ(SeeDns(cut).question, Bytes(ask.begin() + 12, ask.end()));
  EXPECT_EQ(SeeDns(cut).id, 0x1234);
  EXPECT_EQ(rig.counters.dns_truncated.value(), 1u);
  EXPECT_EQ(SeeDns(rig.Resolve(DnsAsk({.edns_bytes = 4'096}), many)).addresses.size(), 60u);
  // In fragments, where it is longer than the MTU.
  const std::vector<DnsRecordSpec> more(200, DnsRecordOf("a.test", "192.0.2.1"));
  EXPECT_EQ(SeeDns(rig.Resolve(DnsAsk({.edns_bytes = 8'000}), more)).addresses.size(), 200u);
  EXPECT_TRUE(SeeDns(rig.Resolve(DnsAsk({.edns_bytes = 4'000}), more)).truncated());
}

TEST(DnsServiceTest, AnUpstreamsOwnTruncationAndErrorsPass) {
  DnsRig rig;
  rig.Ask(DnsAsk());
  DnsRig::Sent sent = rig.Question();
  Bytes answer = DnsAnswerTo(sent.message);
  Put16(answer, 2, 0x8380);
  rig.AnswerTo(sent, answer);
  EXPECT_TRUE(SeeDns(rig.Answer()).truncated());
  for (const int rcode : {kServFail, kNxDomain, 5}) {
    rig.Ask(DnsAsk());
    sent = rig.Question();
    rig.AnswerTo(sent, DnsAnswerTo(sent.message, {}, static_cast<uint16_t>(rcode)));
    EXPECT_EQ(SeeDns(rig.Answer()).rcode(), rcode);
    EXPECT_TRUE(rig.Questions().empty()) << "never another one on an answer";
  }
}

}  // namespace
}  // namespace penstock
