// Messages of DNS as clients and servers write them, byte by byte, apart from the code under
// test. A test names what matters to it and spoils single bytes afterwards.
//
//   Bytes question = DnsAsk({.name = "a.test"});
//   Bytes answer = DnsAnswerTo(question, {DnsRecordA("a.test", "192.0.2.1", 60)});
#ifndef PENSTOCK_TESTS_SUPPORT_DNS_BUILDER_H_
#define PENSTOCK_TESTS_SUPPORT_DNS_BUILDER_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/packet_builder.h"

namespace penstock {

// Labels behind their lengths; "" is the root. A label is what stands between two dots.
[[nodiscard]] Bytes DnsWireName(std::string_view name);

struct DnsAskSpec {
  std::string name = "a.test";
  uint16_t type = 1;
  uint16_t id = 0x1234;
  uint16_t flags = 0x0100;
  std::optional<uint16_t> edns_bytes = std::nullopt;  // an OPT that says so
};
[[nodiscard]] Bytes DnsAsk(const DnsAskSpec& spec = {});

struct DnsRecordSpec {
  Bytes owner;  // as it stands in the message
  uint16_t type = 1;
  uint32_t ttl = 60;
  Bytes data;
  uint16_t record_class = 1;
};
[[nodiscard]] DnsRecordSpec DnsRecordOf(std::string_view owner, std::string_view address,
                                        uint32_t ttl = 60);
[[nodiscard]] DnsRecordSpec DnsAlias(std::string_view owner, std::string_view target,
                                     uint32_t ttl = 60);

// The question's header and question, as an answer with these in its answer section.
[[nodiscard]] Bytes DnsAnswerTo(std::span<const uint8_t> question,
                                const std::vector<DnsRecordSpec>& records = {}, uint16_t rcode = 0);
void AddDnsRecord(Bytes& message, const DnsRecordSpec& record);

// What a message says, read the simple way: without pointers but to the question.
struct DnsSeen {
  uint16_t id = 0;
  uint16_t flags = 0;
  uint16_t questions = 0;
  Bytes question;                      // the first one, with type and class
  std::vector<std::string> addresses;  // of A and AAAA in the answer section
  std::vector<uint32_t> ttls;
  std::vector<Bytes> others;  // data of other records there
  bool edns = false;

  [[nodiscard]] int rcode() const { return flags & 0xf; }
  [[nodiscard]] bool truncated() const { return (flags & 0x0200) != 0; }
};
[[nodiscard]] DnsSeen SeeDns(std::span<const uint8_t> message);

}  // namespace penstock

#endif  // PENSTOCK_TESTS_SUPPORT_DNS_BUILDER_H_
