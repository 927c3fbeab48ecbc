// Messages of DNS as bytes: what a guest's question says, what an answer says of
// addresses, and the replies that the stack makes itself. Bytes of any kind are refused or
// read, never trusted. Pure functions; any thread.
//
// Read first: RFC 1035 4, RFC 6891 (EDNS), RFC 9460 2 (SVCB and HTTPS).
#ifndef PENSTOCK_STACK_DNS_DNS_MESSAGE_H_
#define PENSTOCK_STACK_DNS_DNS_MESSAGE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "relay/endpoint.h"
#include "stack/dns/dns_name.h"

namespace penstock {

inline constexpr size_t kDnsHeaderBytes = 12;
inline constexpr uint16_t kDnsPort = 53;

inline constexpr uint16_t kDnsTypeA = 1, kDnsTypeCname = 5, kDnsTypePtr = 12, kDnsTypeAaaa = 28,
                          kDnsTypeOpt = 41, kDnsTypeSvcb = 64, kDnsTypeHttps = 65,
                          kDnsTypeIxfr = 251, kDnsTypeAxfr = 252, kDnsTypeAny = 255;
inline constexpr uint16_t kDnsClassIn = 1;

enum class DnsRcode : uint8_t {
  kNoError = 0,
  kFormErr = 1,
  kServFail = 2,
  kNxDomain = 3,
  kNotImp = 4,
};

// In the header, behind the id.
inline constexpr uint16_t kDnsResponse = 0x8000, kDnsOpcode = 0x7800, kDnsAuthoritative = 0x0400,
                          kDnsTruncated = 0x0200, kDnsRecursionDesired = 0x0100,
                          kDnsRecursionAvailable = 0x0080, kDnsCheckingDisabled = 0x0010,
                          kDnsRcode = 0x000f;

struct DnsQuestion {
  DnsName name;
  uint16_t type = 0;
  uint16_t record_class = 0;

  friend bool operator==(const DnsQuestion&, const DnsQuestion&) = default;
};

[[nodiscard]] uint16_t DnsIdOf(std::span<const uint8_t> message);  // of two bytes at least
void PutDnsId(uint16_t id, std::span<uint8_t> message);

enum class DnsQueryKind : uint8_t {
  kQuestion,   // well-formed, with one question
  kNoMessage,  // shorter than a header
  kAnswer,     // has the response bit
  kOpcode,     // another opcode than QUERY
  kMalformed,  // or no question, or several
};

// What a guest asks.
struct DnsQueryView {
  DnsQueryKind kind = DnsQueryKind::kNoMessage;
  uint16_t id = 0;
  uint16_t flags = 0;
  uint16_t question_count = 0;   // those that are whole, if all are; else 0
  size_t question_end = 0;       // where they end
  DnsQuestion question;          // of kQuestion
  bool edns = false;             // it has an OPT record
  bool dnssec_ok = false;        // which says that
  uint16_t udp_bytes_max = 512;  // what the client takes by UDP: 512 or more
};
[[nodiscard]] DnsQueryView ReadDnsQuery(std::span<const uint8_t> message);

// A reply of the stack's own.
struct DnsReply {
  DnsRcode rcode = DnsRcode::kNoError;
  bool authoritative = false;
  bool truncated = false;
  // Records for the asked name: addresses, of one family, or the name that a PTR leads to.
  std::span<const IpAddress> addresses{};
  const DnsName* pointer = nullptr;
  uint32_t ttl = 0;
};

// A reply to `query`, whose message `message` is, with its id, opcode, RD and CD bits and
// questions (none, if they are not whole), and an OPT if it had one. If records do not fit
// `out` or what the client takes by UDP, where `by_udp`, there are none, and it is truncated.
// `out` is 1,024 bytes or more, and enough for the questions; how many were written.
inline constexpr size_t kDnsReplyBytesMax = 8'192;
[[nodiscard]] size_t WriteDnsReply(std::span<const uint8_t> message, const DnsQueryView& query,
                                   const DnsReply& reply, bool by_udp, std::span<uint8_t> out);

// An address in an answer.
struct DnsAnswerAddress {
  IpAddress address;
  // It is what was asked for: its owner is the asked name, or what that is an alias of. Of
  // HTTPS and SVCB hints, too.
  bool of_asked = false;
  uint32_t ttl = 0;  // seconds, the least on the way from the asked name
};

enum class DnsAnswerFault : uint8_t {
  kNone,
  kNotThis,    // no answer, or to another question
  kMalformed,  // to this one, but its records cannot be read
};

// Is `message` an answer to `question`? If so, what addresses are in its answer section.
// A name server that does not understand a question may leave it out.
struct DnsAnswerView {
  DnsAnswerFault fault = DnsAnswerFault::kNotThis;
  DnsRcode rcode = DnsRcode::kNoError;  // or another number up to 15
  std::vector<DnsAnswerAddress> addresses;
};
[[nodiscard]] DnsAnswerView ReadDnsAnswer(std::span<const uint8_t> message,
                                          const DnsQuestion& question);

}  // namespace penstock

#endif  // PENSTOCK_STACK_DNS_DNS_MESSAGE_H_
