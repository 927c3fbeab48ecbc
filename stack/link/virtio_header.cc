#include "stack/link/virtio_header.h"

#include <algorithm>

namespace penstock {
namespace {

// Byte offsets and values of the header.
constexpr size_t kFlags = 0, kGsoType = 1, kHeaderLength = 2, kGsoSize = 4, kChecksumStart = 6,
                 kChecksumOffset = 8, kBufferCount = 10;
constexpr uint8_t kNeedsChecksum = 1, kDataValid = 2;
constexpr uint8_t kGsoNone = 0, kGsoTcp4 = 1, kGsoTcp6 = 4, kGsoUdpL4 = 5, kGsoEcn = 0x80;

uint8_t GsoType(Gso gso) {
  switch (gso) {
    case Gso::kNone:
      return kGsoNone;
    case Gso::kTcp4:
      return kGsoTcp4;
    case Gso::kTcp6:
      return kGsoTcp6;
    case Gso::kUdp:
      return kGsoUdpL4;
  }
  return kGsoNone;
}

std::optional<Gso> GsoFrom(uint8_t type) {
  // The ECN bit says only that CWR stands in the first segment: the flags in the
  // TCP header say it too.
  switch (type & ~kGsoEcn) {
    case kGsoNone:
      return Gso::kNone;
    case kGsoTcp4:
      return Gso::kTcp4;
    case kGsoTcp6:
      return Gso::kTcp6;
    case kGsoUdpL4:
      return Gso::kUdp;
    default:
      return std::nullopt;
  }
}

void Put16(std::span<uint8_t, kVirtioHeaderBytes> out, size_t at, uint16_t value) {
  out[at] = static_cast<uint8_t>(value & 0xff);
  out[at + 1] = static_cast<uint8_t>(value >> 8);
}

uint16_t Get16(std::span<const uint8_t, kVirtioHeaderBytes> header, size_t at) {
  return static_cast<uint16_t>(header[at] | header[at + 1] << 8);
}

}  // namespace

void EncodeVirtioHeader(const Offload& offload, std::span<uint8_t, kVirtioHeaderBytes> out) {
  std::fill(out.begin(), out.end(), uint8_t{0});
  out[kGsoType] = GsoType(offload.gso);
  if (offload.checksum == ChecksumState::kPartial) {
    out[kFlags] = kNeedsChecksum;
    Put16(out, kChecksumStart, offload.checksum_start);
    Put16(out, kChecksumOffset, offload.checksum_offset);
  } else if (offload.checksum == ChecksumState::kComplete) {
    out[kFlags] = kDataValid;
  }
  if (offload.gso != Gso::kNone) {
    Put16(out, kHeaderLength, offload.header_bytes);
    Put16(out, kGsoSize, offload.segment_bytes);
  }
  Put16(out, kBufferCount, 1);
}

std::optional<Offload> DecodeVirtioHeader(std::span<const uint8_t, kVirtioHeaderBytes> header) {
  const std::optional<Gso> gso = GsoFrom(header[kGsoType]);
  if (!gso) return std::nullopt;
  Offload offload{.gso = *gso};
  if ((header[kFlags] & kNeedsChecksum) != 0) {
    offload.checksum = ChecksumState::kPartial;
    offload.checksum_start = Get16(header, kChecksumStart);
    offload.checksum_offset = Get16(header, kChecksumOffset);
  } else if ((header[kFlags] & kDataValid) != 0) {
    offload.checksum = ChecksumState::kComplete;
  }
  if (*gso != Gso::kNone) {
    offload.segment_bytes = Get16(header, kGsoSize);
    offload.header_bytes = Get16(header, kHeaderLength);
  }
  return offload;
}

}  // namespace penstock
