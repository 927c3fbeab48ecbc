// Any thread.
#include "stack/dns/dns_message.h"

#include <arpa/nameser.h>

#include <algorithm>
#include <array>
#include <utility>

#include "stack/wire/reader.h"
#include "stack/wire/writer.h"

namespace penstock {
namespace {

// Records of an answer that are looked at: more than any name has. An answer with more
// cannot be judged, and is taken for malformed.
constexpr uint32_t kAnswerRecordsMax = 1'024;
// A question has an OPT, perhaps a signature, a key.
constexpr uint32_t kQueryRecordsMax = 16;
// Questions that are given back to whoever asked several at once; nobody does.
constexpr uint16_t kQuestionsMax = 16;
// Aliases of an answer, and how long a chain of them is followed (resolvers give up sooner).
constexpr size_t kAliasesMax = 32;
constexpr size_t kChainMax = 16;
// RFC 2181 8: a TTL with the highest bit is 0.
constexpr uint32_t kTtlMax = 0x7fff'ffff;
// Our own size by UDP: what passes every path unfragmented (RFC 9715).
constexpr uint16_t kOwnUdpBytes = 1'232;
constexpr uint16_t kDnssecOk = 0x8000;

struct Record {
  size_t owner_at = 0;
  uint16_t type = 0;
  uint16_t record_class = 0;
  uint32_t ttl = 0;  // as it stands there: of an OPT, other things
  size_t data_at = 0;
  std::span<const uint8_t> data;
};

// Walks a message's questions and records, in order.
class Walk {
 public:
  explicit Walk(std::span<const uint8_t> message) : message_(message) {}

  [[nodiscard]] std::optional<DnsQuestion> NextQuestion() {
    const auto name = DnsName::Read(message_, at_);
    if (!name || !SkipName()) return std::nullopt;
    const auto fields = Header<4>::At(message_, at_);
    if (!fields) return std::nullopt;
    at_ += 4;
    return DnsQuestion{*name, fields->U16<0>(), fields->U16<2>()};
  }
  [[nodiscard]] std::optional<Record> NextRecord() {
    Record record{.owner_at = at_};
    if (!SkipName()) return std::nullopt;
    const auto fields = Header<10>::At(message_, at_);
    if (!fields) return std::nullopt;
    record.type = fields->U16<0>();
    record.record_class = fields->U16<2>();
    record.ttl = fields->U32<4>();
    const size_t length = fields->U16<8>();
    record.data_at = at_ + 10;
    if (length > message_.size() - record.data_at) return std::nullopt;
    record.data = message_.subspan(record.data_at, length);
    at_ = record.data_at + length;
    return record;
  }
  [[nodiscard]] size_t at() const { return at_; }

 private:
  // Over the bytes of it that are here; what its pointer leads to is not looked at.
  [[nodiscard]] bool SkipName() {
    const u_char* next = message_.data() + at_;
    if (ns_name_skip(&next, message_.data() + message_.size()) != 0) return false;
    at_ = static_cast<size_t>(next - message_.data());
    return true;
  }

  const std::span<const uint8_t> message_;
  size_t at_ = kDnsHeaderBytes;
};

// The records behind the questions: a query's well-formedness, and its OPT.
bool ReadQueryRecords(Walk& walk, uint32_t count, DnsQueryView& query) {
  if (count > kQueryRecordsMax) return false;
  for (; count > 0; --count) {
    const auto record = walk.NextRecord();
    if (!record) return false;
    if (record->type != kDnsTypeOpt) continue;
    if (std::exchange(query.edns, true)) return false;  // RFC 6891 6.1.1: one at most
    query.udp_bytes_max = std::max<uint16_t>(record->record_class, query.udp_bytes_max);
    query.dnssec_ok = (record->ttl & kDnssecOk) != 0;
  }
  return true;
}

// ---------------------------------------------------------------- addresses of an answer

struct Alias {
  DnsName owner;
  size_t target_at = 0;
  uint32_t ttl = 0;
};

// The asked name, and what it is an alias of, one behind the other.
class Chain {
 public:
  explicit Chain(const DnsName& asked) { links_.push_back({asked, kTtlMax}); }

  // False: a target is no name.
  [[nodiscard]] bool Follow(std::span<const uint8_t> message, std::span<const Alias> aliases) {
    for (size_t i = 0; i < links_.size() && links_.size() < kChainMax; ++i) {
      const auto alias = std::ranges::find(aliases, links_[i].name, &Alias::owner);
      if (alias == aliases.end()) break;
      const auto target = DnsName::Read(message, alias->target_at);
      if (!target) return false;
      if (Find(*target) != nullptr) break;  // a circle
      links_.push_back({*target, std::min(links_[i].ttl, alias->ttl)});
    }
    return true;
  }
  // The least TTL on the way to `name`; nullptr: it is not on it.
  [[nodiscard]] const uint32_t* Find(const DnsName& name) const {
    const auto link = std::ranges::find(links_, name, &Link::name);
    return link == links_.end() ? nullptr : &link->ttl;
  }

 private:
  struct Link {
    DnsName name;
    uint32_t ttl;
  };
  std::vector<Link> links_;
};

uint32_t TtlOf(const Record& record) { return record.ttl > kTtlMax ? 0 : record.ttl; }

// RFC 9460 2.2: priority, target, then keys in rising order. False: malformed.
template <typename Visitor>
bool VisitHints(std::span<const uint8_t> message, const Record& record, Visitor&& visit) {
  constexpr uint16_t kIpv4Hint = 4, kIpv6Hint = 6;
  if (record.data.size() < 3) return false;
  const u_char* next = record.data.data() + 2;
  const u_char* end = record.data.data() + record.data.size();
  if (ns_name_skip(&next, end) != 0) return false;
  auto rest =
      message.subspan(static_cast<size_t>(next - message.data()), static_cast<size_t>(end - next));
  while (!rest.empty()) {
    const auto header = Header<4>::At(rest);
    if (!header || header->U16<2>() > rest.size() - 4) return false;
    auto value = rest.subspan(4, header->U16<2>());
    rest = rest.subspan(4 + value.size());
    const uint16_t key = header->U16<0>();
    if (key != kIpv4Hint && key != kIpv6Hint) continue;
    const size_t bytes = key == kIpv4Hint ? 4 : 16;
    if (value.size() % bytes != 0) return false;
    for (; !value.empty(); value = value.subspan(bytes)) {
      visit(IpAddress::From(value.first(bytes)));
    }
  }
  return true;
}

bool HasAddresses(uint16_t type) {
  return type == kDnsTypeA || type == kDnsTypeAaaa || type == kDnsTypeSvcb || type == kDnsTypeHttps;
}

// False: malformed.
bool AddAddresses(std::span<const uint8_t> message, const Record& record, const Chain& chain,
                  std::vector<DnsAnswerAddress>& addresses) {
  const auto owner = DnsName::Read(message, record.owner_at);
  if (!owner) return false;
  const uint32_t* ttl = chain.Find(*owner);
  const auto add = [&](const IpAddress& address) {
    addresses.push_back({.address = address.Unmapped(),
                         .of_asked = ttl != nullptr,
                         .ttl = ttl != nullptr ? std::min(*ttl, TtlOf(record)) : 0});
  };
  if (record.type == kDnsTypeA || record.type == kDnsTypeAaaa) {
    if (record.data.size() != (record.type == kDnsTypeA ? 4u : 16u)) return false;
    add(IpAddress::From(record.data));
    return true;
  }
  return VisitHints(message, record, add);
}

// What of the answer section matters. False: malformed.
bool ReadAnswerRecords(std::span<const uint8_t> message, Walk& walk, uint16_t count,
                       const DnsQuestion& question, std::vector<DnsAnswerAddress>& addresses) {
  if (count > kAnswerRecordsMax) return false;
  std::vector<Record> with_addresses;
  std::vector<Alias> aliases;
  for (; count > 0; --count) {
    const auto record = walk.NextRecord();
    if (!record) return false;
    if (record->record_class != kDnsClassIn) continue;
    if (HasAddresses(record->type)) with_addresses.push_back(*record);
    if (record->type != kDnsTypeCname || aliases.size() == kAliasesMax) continue;
    const auto owner = DnsName::Read(message, record->owner_at);
    if (!owner) return false;
    aliases.push_back({*owner, record->data_at, TtlOf(*record)});
  }
  Chain chain(question.name);
  if (!chain.Follow(message, aliases)) return false;
  return std::ranges::all_of(with_addresses, [&](const Record& record) {
    return AddAddresses(message, record, chain, addresses);
  });
}

// ---------------------------------------------------------------- replies

void WriteRecord(Writer& writer, uint16_t type, uint32_t ttl, std::span<const uint8_t> data) {
  writer.U16(uint16_t{0xc000} | kDnsHeaderBytes);  // the name of the question
  writer.U16(type);
  writer.U16(kDnsClassIn);
  writer.U32(ttl);
  writer.U16(static_cast<uint16_t>(data.size()));
  writer.Bytes(data);
}

size_t Write(std::span<const uint8_t> message, const DnsQueryView& query, const DnsReply& reply,
             std::span<uint8_t> out) {
  const bool records = !reply.truncated;
  const size_t count =
      records ? reply.addresses.size() + (reply.pointer != nullptr ? 1 : 0) : size_t{0};
  const auto kept = static_cast<uint16_t>(
      query.flags & (kDnsOpcode | kDnsRecursionDesired | kDnsCheckingDisabled));
  Writer writer(out);
  writer.U16(query.id);
  writer.U16(static_cast<uint16_t>(
      kDnsResponse | kept | kDnsRecursionAvailable | (reply.authoritative ? kDnsAuthoritative : 0) |
      (reply.truncated ? kDnsTruncated : 0) | static_cast<uint16_t>(reply.rcode)));
  writer.U16(query.question_count);
  writer.U16(static_cast<uint16_t>(count));
  writer.U16(0);
  writer.U16(query.edns ? 1 : 0);
  if (query.question_count > 0) {
    writer.Bytes(message.subspan(kDnsHeaderBytes, query.question_end - kDnsHeaderBytes));
  }
  for (const IpAddress& address : records ? reply.addresses : std::span<const IpAddress>()) {
    WriteRecord(writer, address.is_v4() ? kDnsTypeA : kDnsTypeAaaa, reply.ttl, address.wire());
  }
  if (records && reply.pointer != nullptr) {
    WriteRecord(writer, kDnsTypePtr, reply.ttl, reply.pointer->wire());
  }
  if (query.edns) {
    writer.U8(0);  // the root
    writer.U16(kDnsTypeOpt);
    writer.U16(kOwnUdpBytes);
    writer.U32(query.dnssec_ok ? kDnssecOk : 0);
    writer.U16(0);
  }
  return writer.length();
}

}  // namespace

uint16_t DnsIdOf(std::span<const uint8_t> message) {
  return static_cast<uint16_t>(message[0] << 8 | message[1]);
}

void PutDnsId(uint16_t id, std::span<uint8_t> message) {
  message[0] = static_cast<uint8_t>(id >> 8);
  message[1] = static_cast<uint8_t>(id & 0xff);
}

DnsQueryView ReadDnsQuery(std::span<const uint8_t> message) {
  DnsQueryView query;
  const auto header = Header<kDnsHeaderBytes>::At(message);
  if (!header) return query;
  query.id = header->U16<0>();
  query.flags = header->U16<2>();
  const uint16_t question_count = header->U16<4>();
  query.kind = (query.flags & kDnsResponse) != 0 ? DnsQueryKind::kAnswer
               : (query.flags & kDnsOpcode) != 0 ? DnsQueryKind::kOpcode
                                                 : DnsQueryKind::kMalformed;
  if (query.kind == DnsQueryKind::kAnswer) return query;
  if (question_count > kQuestionsMax) return query;
  Walk walk(message);
  for (uint16_t i = 0; i < question_count; ++i) {
    const auto question = walk.NextQuestion();
    if (!question) return query;
    if (i == 0) query.question = *question;
  }
  query.question_count = question_count;
  query.question_end = walk.at();
  // Another opcode's sections are its own business (RFC 2136 names them otherwise).
  if (query.kind == DnsQueryKind::kOpcode) return query;
  const uint32_t records =
      uint32_t{header->U16<6>()} + header->U16<8>() + uint32_t{header->U16<10>()};
  const bool whole = ReadQueryRecords(walk, records, query) && walk.at() == message.size();
  if (whole && question_count == 1) query.kind = DnsQueryKind::kQuestion;
  return query;
}

size_t WriteDnsReply(std::span<const uint8_t> message, const DnsQueryView& query,
                     const DnsReply& reply, bool by_udp, std::span<uint8_t> out) {
  const size_t room = by_udp ? std::min<size_t>(out.size(), query.udp_bytes_max) : out.size();
  const bool has_records = !reply.addresses.empty() || reply.pointer != nullptr;
  const size_t written = Write(message, query, reply, has_records ? out.first(room) : out);
  if (written != 0 || !has_records) return written;
  DnsReply without = reply;
  without.truncated = true;
  return Write(message, query, without, out);
}

DnsAnswerView ReadDnsAnswer(std::span<const uint8_t> message, const DnsQuestion& question) {
  DnsAnswerView answer;
  const auto header = Header<kDnsHeaderBytes>::At(message);
  if (!header) return answer;
  const uint16_t flags = header->U16<2>();
  if ((flags & kDnsResponse) == 0 || (flags & kDnsOpcode) != 0) return answer;
  answer.rcode = static_cast<DnsRcode>(flags & kDnsRcode);
  const uint16_t question_count = header->U16<4>();
  if (question_count == 0) {
    // Those that know no EDNS answer with a header only; it can do no more than say no.
    const bool says_no = answer.rcode == DnsRcode::kFormErr || answer.rcode == DnsRcode::kNotImp;
    if (says_no && header->U16<6>() == 0) answer.fault = DnsAnswerFault::kNone;
    return answer;
  }
  Walk walk(message);
  const auto asked = walk.NextQuestion();
  if (question_count != 1 || asked != question) return answer;
  const bool whole = ReadAnswerRecords(message, walk, header->U16<6>(), question, answer.addresses);
  answer.fault = whole ? DnsAnswerFault::kNone : DnsAnswerFault::kMalformed;
  return answer;
}

}  // namespace penstock
