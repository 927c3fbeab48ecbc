// The one way to read header fields from bytes that a guest wrote.
//
// Header<N>::At checks once, at run time, that N bytes are there; after that every
// field's offset is a template argument that the compiler checks against N. So no
// read of a header can leave the frame, whatever a length field claims. OptionWalk
// does the same for "kind, length, data" lists. Any thread.
#ifndef PENSTOCK_STACK_WIRE_READER_H_
#define PENSTOCK_STACK_WIRE_READER_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "relay/endpoint.h"
#include "stack/config.h"

namespace penstock {

// A view of exactly kBytes bytes; lives as long as they do.
template <size_t kBytes>
class Header {
 public:
  static std::optional<Header> At(std::span<const uint8_t> bytes, size_t offset = 0) {
    if (offset > bytes.size() || bytes.size() - offset < kBytes) return std::nullopt;
    return Header(bytes.data() + offset);
  }

  template <size_t kOffset>
  [[nodiscard]] uint8_t U8() const {
    static_assert(kOffset + 1 <= kBytes);
    return begin_[kOffset];
  }
  template <size_t kOffset>
  [[nodiscard]] uint16_t U16() const {
    static_assert(kOffset + 2 <= kBytes);
    return static_cast<uint16_t>(begin_[kOffset] << 8 | begin_[kOffset + 1]);
  }
  template <size_t kOffset>
  [[nodiscard]] uint32_t U32() const {
    static_assert(kOffset + 4 <= kBytes);
    return uint32_t{U16<kOffset>()} << 16 | U16<kOffset + 2>();
  }
  template <size_t kOffset>
  [[nodiscard]] MacAddress Mac() const {
    static_assert(kOffset + 6 <= kBytes);
    MacAddress mac;
    std::memcpy(mac.data(), begin_ + kOffset, mac.size());
    return mac;
  }
  template <size_t kOffset>
  [[nodiscard]] IpAddress Ipv4() const {
    static_assert(kOffset + 4 <= kBytes);
    IpAddress address;
    std::memcpy(address.bytes.data(), begin_ + kOffset, 4);
    return address;
  }
  template <size_t kOffset>
  [[nodiscard]] IpAddress Ipv6() const {
    static_assert(kOffset + 16 <= kBytes);
    IpAddress address;
    address.family = Family::kIpv6;
    std::memcpy(address.bytes.data(), begin_ + kOffset, 16);
    return address;
  }

 private:
  explicit Header(const uint8_t* begin) : begin_(begin) {}
  const uint8_t* begin_;
};

// Walks options as IPv4 and TCP have them: kind 0 ends the list, kind 1 is one
// byte of padding, every other kind is followed by a length that counts the kind
// and itself. Stops at the first option that does not fit.
class OptionWalk {
 public:
  // `options` begins behind the fixed header and ends with the header.
  explicit OptionWalk(std::span<uint8_t> options) : rest_(options) {}

  // The next option, from its kind to its end (at least 2 bytes); nullopt at the
  // end of the list, and at one that is malformed().
  [[nodiscard]] std::optional<std::span<uint8_t>> Next() {
    while (!rest_.empty() && rest_[0] == kNop) rest_ = rest_.subspan(1);
    if (rest_.empty() || rest_[0] == kEnd) return std::nullopt;
    if (rest_.size() < 2 || rest_[1] < 2 || rest_[1] > rest_.size()) {
      malformed_ = true;
      return std::nullopt;
    }
    const std::span<uint8_t> option = rest_.first(rest_[1]);
    rest_ = rest_.subspan(option.size());
    return option;
  }
  [[nodiscard]] bool malformed() const { return malformed_; }

  static constexpr uint8_t kEnd = 0;
  static constexpr uint8_t kNop = 1;

 private:
  std::span<uint8_t> rest_;
  bool malformed_ = false;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_WIRE_READER_H_
