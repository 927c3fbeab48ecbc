// Messages and names as bytes: what is read, what is refused, what the stack writes.
#include "stack/dns/dns_message.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "tests/support/dns_builder.h"

namespace penstock {
namespace {

std::string TextAt(const Bytes& message, size_t at) {
  const auto name = DnsName::Read(message, at);
  return name ? name->ToString() : "none";
}

// An answer to a question for "a.test", type A.
DnsAnswerView View(const std::vector<DnsRecordSpec>& records, const DnsAskSpec& spec = {}) {
  const Bytes ask = DnsAsk(spec);
  return ReadDnsAnswer(DnsAnswerTo(ask, records), ReadDnsQuery(ask).question);
}

std::string Addresses(const DnsAnswerView& view) {
  std::string text;
  for (const DnsAnswerAddress& one : view.addresses) {
    text +=
        one.address.ToString() + (one.of_asked ? " " + std::to_string(one.ttl) : " other") + ";";
  }
  return text;
}

Bytes Reply(const Bytes& ask, const DnsReply& reply, bool by_udp = true) {
  Bytes out(kDnsReplyBytesMax);
  out.resize(WriteDnsReply(ask, ReadDnsQuery(ask), reply, by_udp, out));
  return out;
}

// ---------------------------------------------------------------- names

TEST(DnsNameTest, LowerCaseAndWithoutPointers) {
  Bytes message = DnsWireName("Example.TEST");
  const size_t at = message.size();
  const Bytes more = {3, 'W', 'w', 'w', 0xc0, 0};
  message.insert(message.end(), more.begin(), more.end());
  EXPECT_EQ(TextAt(message, 0), "example.test");
  EXPECT_EQ(TextAt(message, at), "www.example.test");
  EXPECT_EQ(DnsName::Read(message, at), DnsName::Of("WWW.example.test."));
  EXPECT_EQ(TextAt({0}, 0), "");
}

TEST(DnsNameTest, ADotWithinALabelDividesNone) {
  Bytes wire = DnsWireName("a-b.example.test");
  wire[2] = '.';
  EXPECT_EQ(TextAt(wire, 0), "a\\046b.example.test");
  wire[2] = '\\';
  EXPECT_EQ(TextAt(wire, 0), "a\\092b.example.test");
  wire[2] = 0;
  EXPECT_EQ(TextAt(wire, 0), "a\\000b.example.test");
  wire[2] = 0xff;
  EXPECT_EQ(TextAt(wire, 0), "a\\255b.example.test");
}

TEST(DnsNameTest, WhatIsNoName) {
  const std::string label(63, 'a');
  const std::string longest = label + "." + label + "." + label + "." + std::string(61, 'b');
  EXPECT_EQ(TextAt(DnsWireName(longest), 0), longest);
  EXPECT_EQ(TextAt(DnsWireName(longest + "c"), 0), "none");
  EXPECT_EQ(TextAt({}, 0), "none");
  EXPECT_EQ(TextAt({3, 'a', 'b'}, 0), "none") << "cut";
  EXPECT_EQ(TextAt({1, 'a'}, 0), "none") << "without an end";
  EXPECT_EQ(TextAt({0xc0}, 0), "none") << "half a pointer";
  EXPECT_EQ(TextAt({0xc0, 9}, 0), "none") << "to behind the end";
  EXPECT_EQ(TextAt({0xc0, 0}, 0), "none") << "to itself";
  EXPECT_EQ(TextAt({1, 'a', 0xc0, 0}, 0), "none") << "in a circle";
  EXPECT_EQ(TextAt({0x41, 'a', 0}, 0), "none") << "a kind of label that nobody uses";
  EXPECT_EQ(TextAt({0x81, 'a', 0}, 0), "none");
}

TEST(DnsNameTest, PointersToPointersAreFollowedFor127Steps) {
  Bytes message = {0, 0};  // the root at 0; pointers from 2 on, each to the one before
  for (uint16_t i = 0; i < 200; ++i) {
    const size_t to = i == 0 ? 0 : 2u * i;
    message.push_back(static_cast<uint8_t>(0xc0 | to >> 8));
    message.push_back(static_cast<uint8_t>(to));
  }
  EXPECT_EQ(TextAt(message, 2 * 127), "");
  EXPECT_EQ(TextAt(message, 2 * 128), "none");
}

TEST(DnsNameTest, WithinAndAbove) {
  const DnsName name = DnsName::Of("a.b.test");
  EXPECT_TRUE(name.IsWithin(name));
  EXPECT_TRUE(name.IsWithin(DnsName::Of("b.test")));
  EXPECT_TRUE(name.IsWithin(DnsName()));
  EXPECT_FALSE(DnsName::Of("b.test").IsWithin(name));
  EXPECT_FALSE(DnsName::Of("ab.test").IsWithin(DnsName::Of("b.test")));
  EXPECT_EQ(name.Parent(), DnsName::Of("b.test"));
  EXPECT_EQ(DnsName::Of("test").Parent(), DnsName());
  EXPECT_EQ(DnsName().Parent(), DnsName());
  EXPECT_EQ(DnsName::OfAddress(Address("10.0.2.3")).ToString(), "3.2.0.10.in-addr.arpa");
  EXPECT_EQ(DnsName::OfAddress(Address("fd00::2")).ToString(),
            "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa");
}

// ---------------------------------------------------------------- questions

TEST(DnsQueryTest, AQuestion) {
  const DnsQueryView view =
      ReadDnsQuery(DnsAsk({.name = "A.Test", .type = 28, .edns_bytes = 1'232}));
  EXPECT_EQ(view.kind, DnsQueryKind::kQuestion);
  EXPECT_EQ(view.id, 0x1234);
  EXPECT_EQ(view.question, (DnsQuestion{DnsName::Of("a.test"), 28, 1}));
  EXPECT_TRUE(view.edns);
  EXPECT_EQ(view.udp_bytes_max, 1'232);
  EXPECT_EQ(ReadDnsQuery(DnsAsk({.edns_bytes = 100})).udp_bytes_max, 512) << "512 at least";
  EXPECT_EQ(ReadDnsQuery(DnsAsk()).udp_bytes_max, 512);
}

TEST(DnsQueryTest, EveryCutIsNoQuestion) {
  const Bytes whole = DnsAsk({.edns_bytes = 4'096});
  for (size_t length = 0; length < whole.size(); ++length) {
    const DnsQueryKind kind = ReadDnsQuery(std::span(whole).first(length)).kind;
    EXPECT_EQ(kind, length < 12 ? DnsQueryKind::kNoMessage : DnsQueryKind::kMalformed) << length;
  }
  Bytes longer = whole;
  longer.push_back(0);
  EXPECT_EQ(ReadDnsQuery(longer).kind, DnsQueryKind::kMalformed);
}

TEST(DnsQueryTest, WhatIsNoQuestion) {
  const auto kind = [](size_t at, uint16_t value) {
    Bytes ask = DnsAsk({.edns_bytes = 4'096});
    Put16(ask, at, value);
    return ReadDnsQuery(ask).kind;
  };
  EXPECT_EQ(kind(2, 0x8100), DnsQueryKind::kAnswer);
  EXPECT_EQ(kind(2, 0x2900), DnsQueryKind::kOpcode) << "an update";
  EXPECT_EQ(kind(4, 0), DnsQueryKind::kMalformed) << "no question";
  EXPECT_EQ(kind(4, 2), DnsQueryKind::kMalformed) << "two";
  EXPECT_EQ(kind(6, 1), DnsQueryKind::kMalformed) << "a record that is not there";
  EXPECT_EQ(kind(10, 0xffff), DnsQueryKind::kMalformed);
  Bytes twice = DnsAsk({.edns_bytes = 512});
  AddDnsRecord(twice, {.owner = {0}, .type = 41, .record_class = 512});
  Put16(twice, 10, 2);
  EXPECT_EQ(ReadDnsQuery(twice).kind, DnsQueryKind::kMalformed) << "two OPT records";
}

// Whatever it is, it is read within its bytes (the address sanitizer says if not).
TEST(DnsQueryTest, AnyBytes) {
  std::mt19937 random(7);  // NOLINT: the same each time
  const Bytes ask = DnsAsk({.name = "www.example.test", .edns_bytes = 4'096});
  const Bytes answer =
      DnsAnswerTo(ask, {DnsAlias("www.example.test", "b.test"), DnsRecordOf("b.test", "192.0.2.1"),
                        DnsRecordOf("b.test", "2001:db8::1")});
  const DnsQuestion question = ReadDnsQuery(ask).question;
  for (int i = 0; i < 20'000; ++i) {
    for (Bytes bytes : {ask, answer}) {
      for (int k = 0; k < 3; ++k) bytes[random() % bytes.size()] = static_cast<uint8_t>(random());
      bytes.resize(random() % 2 == 0 ? bytes.size() : random() % bytes.size());
      (void)ReadDnsQuery(bytes);
      (void)ReadDnsAnswer(bytes, question);
    }
  }
}

// ---------------------------------------------------------------- replies

TEST(DnsReplyTest, KeepsIdQuestionAndRecursionDesired) {
  const Bytes ask = DnsAsk({.name = "A.test", .id = 0xbeef, .flags = 0x0110});
  const DnsSeen seen = SeeDns(Reply(ask, {.rcode = DnsRcode::kNxDomain}));
  EXPECT_EQ(seen.id, 0xbeef);
  EXPECT_EQ(seen.flags, 0x8193) << "response, RD, RA, CD, NXDOMAIN";
  EXPECT_EQ(seen.question, Bytes(ask.begin() + 12, ask.end())) << "as it was written";
  EXPECT_FALSE(seen.edns);
  EXPECT_TRUE(SeeDns(Reply(DnsAsk({.edns_bytes = 512}), {})).edns);
  EXPECT_EQ(SeeDns(Reply(DnsAsk({.flags = 0}), {})).flags, 0x8080);
}

TEST(DnsReplyTest, TheOpcodeIsKeptAndSoAreSeveralQuestions) {
  Bytes ask = DnsAsk();
  const Bytes second = DnsAsk({.name = "b.test"});
  ask.insert(ask.end(), second.begin() + 12, second.end());
  Put16(ask, 4, 2);
  EXPECT_EQ(SeeDns(Reply(ask, {.rcode = DnsRcode::kFormErr})).questions, 2);
  Put16(ask, 2, 0x2800);
  EXPECT_EQ(SeeDns(Reply(ask, {.rcode = DnsRcode::kNotImp})).flags, 0xa884);
  Put16(ask, 4, 3);  // one that is not there: none is given back
  EXPECT_EQ(Reply(ask, {.rcode = DnsRcode::kNotImp}).size(), 12u);
}

TEST(DnsReplyTest, Addresses) {
  const std::vector<IpAddress> addresses = {Address("10.0.2.2"), Address("10.0.2.9")};
  const DnsSeen seen = SeeDns(Reply(DnsAsk(), {.addresses = addresses, .ttl = 60}));
  EXPECT_EQ(seen.addresses, (std::vector<std::string>{"10.0.2.2", "10.0.2.9"}));
  EXPECT_EQ(seen.ttls, (std::vector<uint32_t>{60, 60}));
  const DnsName pointer = DnsName::Of("gateway.test");
  EXPECT_EQ(SeeDns(Reply(DnsAsk({.type = 12}), {.pointer = &pointer})).others,
            std::vector<Bytes>{DnsWireName("gateway.test")});
}

TEST(DnsReplyTest, WhatDoesNotFitIsCut) {
  const std::vector<IpAddress> many(16, Address("fd00::2"));
  const Bytes ask = DnsAsk({.name = std::string(60, 'a') + "." + std::string(60, 'b'), .type = 28});
  const Bytes cut = Reply(ask, {.addresses = many});
  EXPECT_TRUE(SeeDns(cut).truncated());
  EXPECT_TRUE(SeeDns(cut).addresses.empty());
  EXPECT_LE(cut.size(), 512u);
  EXPECT_EQ(SeeDns(Reply(ask, {.addresses = many}, false)).addresses.size(), 16u) << "by TCP";
}

// ---------------------------------------------------------------- answers

TEST(DnsAnswerTest, TheAskedNamesAddresses) {
  const DnsAnswerView view =
      View({DnsRecordOf("A.test", "192.0.2.1", 30), DnsRecordOf("a.test", "2001:db8::1", 40),
            DnsRecordOf("b.test", "192.0.2.2", 50)});
  EXPECT_EQ(view.fault, DnsAnswerFault::kNone);
  EXPECT_EQ(Addresses(view), "192.0.2.1 30;2001:db8::1 40;192.0.2.2 other;");
}

TEST(DnsAnswerTest, AliasesFromTheAskedNameInAnyOrderWithTheLeastTtl) {
  EXPECT_EQ(Addresses(View({DnsAlias("a.test", "b.test", 20), DnsAlias("b.test", "c.test", 90),
                            DnsRecordOf("c.test", "192.0.2.1", 60)})),
            "192.0.2.1 20;");
  EXPECT_EQ(Addresses(View({DnsRecordOf("c.test", "192.0.2.1", 10), DnsAlias("b.test", "c.test"),
                            DnsAlias("a.test", "b.test")})),
            "192.0.2.1 10;");
  EXPECT_EQ(Addresses(View({DnsAlias("x.test", "c.test"), DnsRecordOf("c.test", "192.0.2.1")})),
            "192.0.2.1 other;")
      << "an alias that nobody asked for";
  EXPECT_EQ(Addresses(View({DnsAlias("a.test", "b.test"), DnsAlias("b.test", "a.test"),
                            DnsRecordOf("b.test", "192.0.2.1")})),
            "192.0.2.1 60;")
      << "a circle";
}

TEST(DnsAnswerTest, ALongChainEndsSomewhere) {
  std::vector<DnsRecordSpec> records = {DnsAlias("a.test", "n0.test")};
  for (int i = 0; i < 40; ++i) {
    records.push_back(
        DnsAlias("n" + std::to_string(i) + ".test", "n" + std::to_string(i + 1) + ".test"));
  }
  records.push_back(DnsRecordOf("n10.test", "192.0.2.1"));
  records.push_back(DnsRecordOf("n20.test", "192.0.2.2"));
  EXPECT_EQ(Addresses(View(records)), "192.0.2.1 60;192.0.2.2 other;");
}

TEST(DnsAnswerTest, TimesToLive) {
  EXPECT_EQ(Addresses(View({DnsRecordOf("a.test", "192.0.2.1", 0x8000'0001)})), "192.0.2.1 0;");
  EXPECT_EQ(Addresses(View({DnsRecordOf("a.test", "192.0.2.1", 0)})), "192.0.2.1 0;");
}

TEST(DnsAnswerTest, MappedAddressesAreWhatTheyMean) {
  EXPECT_EQ(Addresses(View({DnsRecordOf("a.test", "::ffff:10.0.0.1")})), "10.0.0.1 60;");
}

TEST(DnsAnswerTest, Hints) {
  // Priority 1, target ".", alpn "h2", two IPv4 hints, an IPv6 hint.
  Bytes data = {0, 1,   0, 0, 1, 0,  3, 2, 'h', '2', 0, 4, 0,
                8, 192, 0, 2, 1, 10, 0, 0, 1,   0,   6, 0, 16};
  const IpAddress hint = Address("fd00::1");
  const auto wire = hint.wire();
  data.insert(data.end(), wire.begin(), wire.end());
  const DnsRecordSpec https{.owner = DnsWireName("a.test"), .type = 65, .data = data};
  EXPECT_EQ(Addresses(View({https}, {.type = 65})), "192.0.2.1 60;10.0.0.1 60;fd00::1 60;");
  for (size_t length = 0; length < data.size(); ++length) {
    DnsRecordSpec cut = https;
    cut.data.resize(length);
    // Whole parameters may be missing; a part of one may not.
    const bool whole = length == 3 || length == 10 || length == 22;
    EXPECT_EQ(View({cut}, {.type = 65}).fault,
              whole ? DnsAnswerFault::kNone : DnsAnswerFault::kMalformed)
        << length;
  }
}

TEST(DnsAnswerTest, NotTheAnswer) {
  const Bytes ask = DnsAsk();
  const DnsQuestion question = ReadDnsQuery(ask).question;
  const auto fault = [&](const Bytes& message) { return ReadDnsAnswer(message, question).fault; };
  EXPECT_EQ(fault(ask), DnsAnswerFault::kNotThis) << "a question";
  EXPECT_EQ(fault(DnsAnswerTo(DnsAsk({.name = "b.test"}))), DnsAnswerFault::kNotThis);
  EXPECT_EQ(fault(DnsAnswerTo(DnsAsk({.type = 28}))), DnsAnswerFault::kNotThis);
  Bytes other = DnsAnswerTo(ask);
  Put16(other, 12 + 8 + 2, 3);
  EXPECT_EQ(fault(other), DnsAnswerFault::kNotThis) << "another class";
  other = DnsAnswerTo(ask);
  Put16(other, 2, 0x8980);
  EXPECT_EQ(fault(other), DnsAnswerFault::kNotThis) << "another opcode";
  EXPECT_EQ(fault(DnsAnswerTo(DnsAsk({.name = "A.TEST"}))), DnsAnswerFault::kNone)
      << "case does not matter";
}

TEST(DnsAnswerTest, AHeaderAloneMayOnlySayNo) {
  const DnsQuestion question = ReadDnsQuery(DnsAsk()).question;
  const auto fault = [&](uint16_t flags) {
    Bytes header = DnsAnswerTo(DnsAsk());
    header.resize(12);
    Put16(header, 2, flags);
    Put16(header, 4, 0);
    return ReadDnsAnswer(header, question).fault;
  };
  EXPECT_EQ(fault(0x8181), DnsAnswerFault::kNone) << "format error";
  EXPECT_EQ(fault(0x8184), DnsAnswerFault::kNone) << "not implemented";
  EXPECT_EQ(fault(0x8180), DnsAnswerFault::kNotThis);
  EXPECT_EQ(fault(0x8183), DnsAnswerFault::kNotThis);
}

TEST(DnsAnswerTest, RecordsThatCannotBeRead) {
  const Bytes ask = DnsAsk();
  const DnsQuestion question = ReadDnsQuery(ask).question;
  const Bytes whole =
      DnsAnswerTo(ask, {DnsAlias("a.test", "b.test"), DnsRecordOf("b.test", "192.0.2.1")});
  for (size_t length = ask.size(); length < whole.size(); ++length) {
    EXPECT_EQ(ReadDnsAnswer(std::span(whole).first(length), question).fault,
              DnsAnswerFault::kMalformed)
        << length;
  }
  DnsRecordSpec wrong = DnsRecordOf("a.test", "192.0.2.1");
  wrong.data.push_back(0);
  EXPECT_EQ(View({wrong}).fault, DnsAnswerFault::kMalformed) << "an address of five bytes";
  DnsRecordSpec circle = DnsAlias("a.test", "b.test");
  circle.data = {0xc0, static_cast<uint8_t>(ask.size() + 8 + 10)};  // to itself
  EXPECT_EQ(View({circle}).fault, DnsAnswerFault::kMalformed);
}

TEST(DnsAnswerTest, MoreRecordsThanAnyNameHas) {
  const std::vector<DnsRecordSpec> few(1'024, DnsRecordOf("a.test", "192.0.2.1"));
  EXPECT_EQ(View(few).addresses.size(), 1'024u);
  const std::vector<DnsRecordSpec> many(1'025, DnsRecordOf("a.test", "192.0.2.1"));
  EXPECT_EQ(View(many).fault, DnsAnswerFault::kMalformed);
}

}  // namespace
}  // namespace penstock
