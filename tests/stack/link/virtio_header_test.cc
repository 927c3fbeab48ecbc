#include "stack/link/virtio_header.h"

#include <gtest/gtest.h>

#include <array>

namespace penstock {
namespace {

using Header = std::array<uint8_t, kVirtioHeaderBytes>;

// Layout by VIRTIO 1.2, 5.1.6: flags, gso_type, hdr_len, gso_size, csum_start,
// csum_offset, num_buffers; 16-bit fields little-endian.
TEST(VirtioHeaderTest, SuperSegmentHasTheStandardLayout) {
  Header header;
  EncodeVirtioHeader({.checksum = ChecksumState::kPartial,
                      .gso = Gso::kTcp6,
                      .checksum_start = 0x0136,
                      .checksum_offset = 16,
                      .segment_bytes = 0x05a0,
                      .header_bytes = 0x014a},
                     header);
  EXPECT_EQ(header, (Header{1, 4, 0x4a, 0x01, 0xa0, 0x05, 0x36, 0x01, 16, 0, 1, 0}));
}

TEST(VirtioHeaderTest, EveryKindSurvivesTheRoundTrip) {
  for (const Gso gso : {Gso::kNone, Gso::kTcp4, Gso::kTcp6, Gso::kUdp}) {
    for (const ChecksumState checksum :
         {ChecksumState::kUnknown, ChecksumState::kComplete, ChecksumState::kPartial}) {
      Offload offload{.checksum = checksum, .gso = gso};
      if (checksum == ChecksumState::kPartial) {
        offload.checksum_start = 34;
        offload.checksum_offset = 6;
      }
      if (gso != Gso::kNone) {
        offload.segment_bytes = 65'535;
        offload.header_bytes = 54;
      }
      Header header;
      EncodeVirtioHeader(offload, header);
      const std::optional<Offload> decoded = DecodeVirtioHeader(header);
      ASSERT_TRUE(decoded);
      EXPECT_EQ(decoded->checksum, offload.checksum);
      EXPECT_EQ(decoded->gso, offload.gso);
      EXPECT_EQ(decoded->checksum_start, offload.checksum_start);
      EXPECT_EQ(decoded->checksum_offset, offload.checksum_offset);
      EXPECT_EQ(decoded->segment_bytes, offload.segment_bytes);
      EXPECT_EQ(decoded->header_bytes, offload.header_bytes);
    }
  }
}

TEST(VirtioHeaderTest, EcnBitIsNoKindOfItsOwn) {
  const std::optional<Offload> decoded = DecodeVirtioHeader(Header{1, 0x81, 54, 0, 100});
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->gso, Gso::kTcp4);
  EXPECT_EQ(decoded->segment_bytes, 100);
}

TEST(VirtioHeaderTest, AnOpenChecksumIsPartialEvenIfDeclaredValid) {
  EXPECT_EQ(DecodeVirtioHeader(Header{3})->checksum, ChecksumState::kPartial);
  EXPECT_EQ(DecodeVirtioHeader(Header{2})->checksum, ChecksumState::kComplete);
  EXPECT_EQ(DecodeVirtioHeader(Header{4})->checksum, ChecksumState::kUnknown);
}

TEST(VirtioHeaderTest, UnknownSegmentationIsRefused) {
  for (int type = 0; type < 256; ++type) {
    const int plain = type & 0x7f;
    const bool known = plain == 0 || plain == 1 || plain == 4 || plain == 5;
    EXPECT_EQ(DecodeVirtioHeader(Header{0, static_cast<uint8_t>(type)}).has_value(), known) << type;
  }
}

}  // namespace
}  // namespace penstock
