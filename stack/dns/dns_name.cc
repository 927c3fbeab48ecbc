// Any thread.
#include "stack/dns/dns_name.h"

#include <arpa/nameser.h>

#include "absl/strings/str_cat.h"
#include "relay/check.h"
#include "stack/service/domain_names.h"

namespace penstock {
namespace {

// As many as a name can have labels: each may be followed by a pointer to the next.
constexpr int kPointersMax = 127;
constexpr uint8_t kPointerBits = 0xc0;

uint8_t Lower(uint8_t byte) {
  return byte >= 'A' && byte <= 'Z' ? static_cast<uint8_t>(byte + ('a' - 'A')) : byte;
}

// True if the name ends after few steps. ns_name_unpack finds circles as well, but only
// after as many steps as the message has bytes: thousands of names in one answer, each
// with as many pointers, would keep the poll thread for long.
bool EndsSoon(std::span<const uint8_t> message, size_t at) {
  size_t length = 0;
  for (int pointers = 0; at < message.size() && length <= DnsName::kWireBytesMax;) {
    const uint8_t first = message[at];
    if (first == 0) return true;
    if ((first & kPointerBits) == kPointerBits) {
      if (at + 1 >= message.size() || ++pointers > kPointersMax) return false;
      at = static_cast<size_t>((first & 0x3f) << 8 | message[at + 1]);
    } else {
      length += size_t{first} + 1;
      at += size_t{first} + 1;
    }
  }
  return false;
}

}  // namespace

std::optional<DnsName> DnsName::Read(std::span<const uint8_t> message, size_t at) {
  if (!EndsSoon(message, at)) return std::nullopt;
  DnsName name;
  const uint8_t* begin = message.data();
  if (ns_name_unpack(begin, begin + message.size(), begin + at, name.wire_.data(),
                     name.wire_.size()) < 0) {
    return std::nullopt;
  }
  // A length is at most 63, which is no letter.
  size_t length = 0;
  for (; name.wire_[length] != 0; length += size_t{name.wire_[length]} + 1) {
  }
  name.length_ = static_cast<uint8_t>(length + 1);
  std::ranges::transform(name.wire_, name.wire_.begin(), Lower);
  return name;
}

DnsName DnsName::Of(std::string_view text) {
  DnsName name;
  const std::string plain(text.ends_with('.') ? text.substr(0, text.size() - 1) : text);
  if (plain.empty()) return name;
  const std::vector<uint8_t> wire = EncodeDomainNames({&plain, 1});
  PENSTOCK_CHECK(wire.size() <= kWireBytesMax);
  std::ranges::transform(wire, name.wire_.begin(), Lower);
  name.length_ = static_cast<uint8_t>(wire.size());
  return name;
}

DnsName DnsName::OfAddress(const IpAddress& address) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  const std::span<const uint8_t> bytes = address.wire();
  for (size_t i = bytes.size(); i-- > 0;) {
    if (address.is_v4()) {
      absl::StrAppend(&text, bytes[i], ".");
    } else {
      text += {kDigits[bytes[i] & 0xf], '.', kDigits[bytes[i] >> 4], '.'};
    }
  }
  return Of(text + (address.is_v4() ? "in-addr.arpa" : "ip6.arpa"));
}

bool DnsName::IsWithin(const DnsName& domain) const {
  if (domain.length_ > length_) return false;
  const size_t front = length_ - domain.length_;
  size_t at = 0;
  while (at < front) at += size_t{wire_[at]} + 1;
  return at == front && std::ranges::equal(wire().subspan(front), domain.wire());
}

DnsName DnsName::Parent() const {
  if (length_ == 1) return {};
  DnsName parent;
  const std::span<const uint8_t> rest = wire().subspan(size_t{wire_[0]} + 1);
  std::ranges::copy(rest, parent.wire_.begin());
  parent.length_ = static_cast<uint8_t>(rest.size());
  return parent;
}

size_t DnsName::label_count() const {
  size_t count = 0;
  for (size_t at = 0; wire_[at] != 0; at += size_t{wire_[at]} + 1) ++count;
  return count;
}

std::string DnsName::ToString() const {
  std::string text;
  for (size_t at = 0; wire_[at] != 0; at += size_t{wire_[at]} + 1) {
    if (at > 0) text += '.';
    for (const uint8_t byte : wire().subspan(at + 1, wire_[at])) {
      const bool plain = byte > ' ' && byte < 0x7f && byte != '.' && byte != '\\';
      if (plain) {
        text += static_cast<char>(byte);
      } else {
        absl::StrAppend(&text, "\\", absl::Dec(byte, absl::kZeroPad3));
      }
    }
  }
  return text;
}

}  // namespace penstock
