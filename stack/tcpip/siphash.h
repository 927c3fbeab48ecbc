// SipHash-2-4 (Aumasson and Bernstein, 2012): a keyed hash that a guest which does
// not know the key can neither predict nor collide. Used for initial sequence
// numbers (RFC 6528) and for the flow table.
#ifndef PENSTOCK_STACK_TCPIP_SIPHASH_H_
#define PENSTOCK_STACK_TCPIP_SIPHASH_H_

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <span>

namespace penstock {

using SipKey = std::array<uint64_t, 2>;

// 128 bits from the kernel.
[[nodiscard]] SipKey RandomSipKey();

[[nodiscard]] inline uint64_t SipHash(const SipKey& key, std::span<const uint8_t> bytes) {
  uint64_t a = key[0] ^ 0x736f6d6570736575, b = key[1] ^ 0x646f72616e646f6d,
           c = key[0] ^ 0x6c7967656e657261, d = key[1] ^ 0x7465646279746573;
  const auto round = [&] {
    a += b, b = std::rotl(b, 13), b ^= a, a = std::rotl(a, 32);
    c += d, d = std::rotl(d, 16), d ^= c;
    a += d, d = std::rotl(d, 21), d ^= a;
    c += b, b = std::rotl(b, 17), b ^= c, c = std::rotl(c, 32);
  };
  const auto absorb = [&](uint64_t word) {
    d ^= word;
    round(), round();
    a ^= word;
  };
  size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, bytes.data() + i, 8);
    absorb(word);
  }
  uint64_t last = uint64_t{bytes.size()} << 56;
  for (size_t j = 0; i + j < bytes.size(); ++j) last |= uint64_t{bytes[i + j]} << (8 * j);
  absorb(last);
  c ^= 0xff;
  round(), round(), round(), round();
  return a ^ b ^ c ^ d;
}

}  // namespace penstock

#endif  // PENSTOCK_STACK_TCPIP_SIPHASH_H_
