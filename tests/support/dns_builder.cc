#include "tests/support/dns_builder.h"

#include <algorithm>
#include <stdexcept>

namespace penstock {
namespace {

void Add16(Bytes& bytes, uint16_t value) {
  bytes.push_back(static_cast<uint8_t>(value >> 8));
  bytes.push_back(static_cast<uint8_t>(value));
}
void Add32(Bytes& bytes, uint32_t value) {
  Add16(bytes, static_cast<uint16_t>(value >> 16));
  Add16(bytes, static_cast<uint16_t>(value));
}
void AddAll(Bytes& bytes, std::span<const uint8_t> more) {
  bytes.insert(bytes.end(), more.begin(), more.end());
}
// Behind the name at `at`.
size_t SkipName(std::span<const uint8_t> message, size_t at) {
  while (message[at] != 0) {
    if (message[at] >= 0xc0) return at + 2;
    at += size_t{message[at]} + 1;
  }
  return at + 1;
}

}  // namespace

Bytes DnsWireName(std::string_view name) {
  Bytes wire;
  while (!name.empty()) {
    const std::string_view label = name.substr(0, name.find('.'));
    name.remove_prefix(std::min(label.size() + 1, name.size()));
    wire.push_back(static_cast<uint8_t>(label.size()));
    wire.insert(wire.end(), label.begin(), label.end());
  }
  wire.push_back(0);
  return wire;
}

Bytes DnsAsk(const DnsAskSpec& spec) {
  Bytes message;
  Add16(message, spec.id);
  Add16(message, spec.flags);
  Add16(message, 1);
  Add16(message, 0);
  Add16(message, 0);
  Add16(message, 0);
  AddAll(message, DnsWireName(spec.name));
  Add16(message, spec.type);
  Add16(message, 1);
  if (spec.edns_bytes) {
    AddDnsRecord(message, {.owner = {0}, .type = 41, .ttl = 0, .record_class = *spec.edns_bytes});
    Put16(message, 10, 1);
  }
  return message;
}

DnsRecordSpec DnsRecordOf(std::string_view owner, std::string_view address, uint32_t ttl) {
  const IpAddress parsed = *IpAddress::Parse(address);
  const auto wire = parsed.wire();
  return {.owner = DnsWireName(owner),
          .type = static_cast<uint16_t>(parsed.is_v4() ? 1 : 28),
          .ttl = ttl,
          .data = {wire.begin(), wire.end()}};
}

DnsRecordSpec DnsAlias(std::string_view owner, std::string_view target, uint32_t ttl) {
  return {.owner = DnsWireName(owner), .type = 5, .ttl = ttl, .data = DnsWireName(target)};
}

void AddDnsRecord(Bytes& message, const DnsRecordSpec& record) {
  AddAll(message, record.owner);
  Add16(message, record.type);
  Add16(message, record.record_class);
  Add32(message, record.ttl);
  Add16(message, static_cast<uint16_t>(record.data.size()));
  AddAll(message, record.data);
}

Bytes DnsAnswerTo(std::span<const uint8_t> question, const std::vector<DnsRecordSpec>& records,
                  uint16_t rcode) {
  const size_t end = SkipName(question, 12) + 4;
  Bytes answer(question.begin(), question.begin() + static_cast<ptrdiff_t>(end));
  Put16(answer, 2, static_cast<uint16_t>(0x8080 | (Get16(question, 2) & 0x0100) | rcode));
  Put16(answer, 6, static_cast<uint16_t>(records.size()));
  Put16(answer, 8, 0);
  Put16(answer, 10, 0);
  for (const DnsRecordSpec& record : records) AddDnsRecord(answer, record);
  return answer;
}

DnsSeen SeeDns(std::span<const uint8_t> message) {
  if (message.size() < 12) throw std::runtime_error("no DNS header");
  DnsSeen seen{.id = Get16(message, 0), .flags = Get16(message, 2), .questions = Get16(message, 4)};
  size_t at = 12;
  for (uint16_t i = 0; i < seen.questions; ++i) {
    const size_t end = SkipName(message, at) + 4;
    if (i == 0) {
      seen.question.assign(message.begin() + 12, message.begin() + static_cast<ptrdiff_t>(end));
    }
    at = end;
  }
  const int answers = Get16(message, 6);
  const int all = answers + Get16(message, 8) + Get16(message, 10);
  for (int i = 0; i < all; ++i) {
    at = SkipName(message, at);
    const uint16_t type = Get16(message, at);
    const uint32_t ttl = uint32_t{Get16(message, at + 4)} << 16 | Get16(message, at + 6);
    const auto data = message.subspan(at + 10, Get16(message, at + 8));
    at += 10 + data.size();
    if (type == 41) seen.edns = true;
    if (i >= answers) continue;
    if (type == 1 || type == 28) {
      seen.addresses.push_back(IpAddress::From(data).ToString());
    } else {
      seen.others.emplace_back(data.begin(), data.end());
    }
    seen.ttls.push_back(ttl);
  }
  if (at != message.size()) throw std::runtime_error("bytes behind a DNS message");
  return seen;
}

}  // namespace penstock
