// A name of DNS in one form, so that two are the same if their bytes are: labels behind
// their lengths as on the wire, lower case, not compressed. Values; any thread.
//
// Names are read from messages by the C library's ns_name_unpack (arpa/nameser.h).
//
// Read first: RFC 1035 3.1 and 4.1.4, RFC 4343 (case).
#ifndef PENSTOCK_STACK_DNS_DNS_NAME_H_
#define PENSTOCK_STACK_DNS_DNS_NAME_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "relay/endpoint.h"

namespace penstock {

class DnsName final {
 public:
  static constexpr size_t kWireBytesMax = 255;  // RFC 1035 2.3.4

  DnsName() = default;  // the root

  // The one at `at` of `message`, which may be compressed; nullopt: it is not whole, longer
  // than a name may be, or its pointers lead nowhere, in a circle, or over too many steps.
  [[nodiscard]] static std::optional<DnsName> Read(std::span<const uint8_t> message, size_t at);
  // "host.example", with a dot at the end or without; IsDomainName (domain_names.h), or empty:
  // the root.
  [[nodiscard]] static DnsName Of(std::string_view text);
  // Under which the name of `address` is asked for: "3.2.0.10.in-addr.arpa".
  [[nodiscard]] static DnsName OfAddress(const IpAddress& address);

  // With the root's empty label; as long as *this.
  [[nodiscard]] std::span<const uint8_t> wire() const { return {wire_.data(), length_}; }
  // `domain` itself or below it.
  [[nodiscard]] bool IsWithin(const DnsName& domain) const;
  // Without its first label; of the root, the root.
  [[nodiscard]] DnsName Parent() const;
  [[nodiscard]] size_t label_count() const;

  // For people and rules: "host.example", the root "". What is not printable, a dot within a
  // label and a backslash are three digits behind a backslash, so that every dot divides
  // two labels: a label "a.b" can pass for no two.
  [[nodiscard]] std::string ToString() const;

  friend bool operator==(const DnsName& a, const DnsName& b) {
    return std::ranges::equal(a.wire(), b.wire());
  }
  template <typename H>
  friend H AbslHashValue(H hash, const DnsName& name) {
    return H::combine_contiguous(std::move(hash), name.wire_.data(), name.length_);
  }

 private:
  std::array<uint8_t, kWireBytesMax> wire_{};
  uint8_t length_ = 1;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_DNS_DNS_NAME_H_
