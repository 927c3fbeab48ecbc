// The Internet checksum (RFC 1071), which is what an emulated link without
// offloads spends its time on.
//
// One's-complement addition does not care about byte order or word size: four
// independent 64-bit lanes add the two 32-bit halves of each 64-bit load in native
// order (in parallel, or as vector code where the compiler sees it), and only the
// folded 16 bits are swapped to network order. A lane gains less than 2^33 for each
// 32 bytes, so it cannot overflow below 2^36 bytes. Any thread.
#include <endian.h>

#include <cstring>

#include "stack/wire/emit.h"

namespace penstock {
namespace {

uint16_t Fold(uint64_t sum) {
  sum = (sum >> 32) + (sum & 0xffff'ffff);
  sum = (sum >> 32) + (sum & 0xffff'ffff);
  sum = (sum >> 16) + (sum & 0xffff);
  sum = (sum >> 16) + (sum & 0xffff);
  return static_cast<uint16_t>(sum);
}

uint64_t Halves(uint64_t word) { return (word >> 32) + (word & 0xffff'ffff); }

}  // namespace

uint64_t ChecksumAdd(std::span<const uint8_t> bytes, uint64_t sum) {
  const uint8_t* at = bytes.data();
  size_t left = bytes.size();
  uint64_t lane[4] = {};
  while (left >= 32) {
    uint64_t word[4];
    std::memcpy(word, at, sizeof word);
    for (int i = 0; i < 4; ++i) lane[i] += Halves(word[i]);
    at += 32;
    left -= 32;
  }
  while (left >= 8) {
    uint64_t word;
    std::memcpy(&word, at, sizeof word);
    lane[0] += Halves(word);
    at += 8;
    left -= 8;
  }
  if (left > 0) {
    uint64_t word = 0;  // what is missing counts as zero
    std::memcpy(&word, at, left);
    lane[1] += Halves(word);
  }
  const uint16_t native =
      Fold(Halves(lane[0]) + Halves(lane[1]) + Halves(lane[2]) + Halves(lane[3]));
  return Halves(sum) + be16toh(native);
}

uint16_t ChecksumFinish(uint64_t sum) { return static_cast<uint16_t>(~Fold(sum)); }

uint16_t PseudoHeaderSum(const IpAddress& source, const IpAddress& destination, uint8_t protocol,
                         uint32_t length) {
  uint64_t sum = uint64_t{protocol} + length;
  sum = ChecksumAdd(source.wire(), sum);
  sum = ChecksumAdd(destination.wire(), sum);
  return Fold(sum);
}

}  // namespace penstock
