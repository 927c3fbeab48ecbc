// The virtio-net header (virtio 1.x, 12 bytes, little-endian) in front of each
// frame on a tap or in a virtqueue, to and from an Offload. Format: VIRTIO 1.2,
// 5.1.6 "Device Operation". Pure functions.
#ifndef PENSTOCK_STACK_LINK_VIRTIO_HEADER_H_
#define PENSTOCK_STACK_LINK_VIRTIO_HEADER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "stack/link/frame.h"

namespace penstock {

inline constexpr size_t kVirtioHeaderBytes = 12;

// num_buffers is 1: a frame lies in one piece.
void EncodeVirtioHeader(const Offload& offload, std::span<uint8_t, kVirtioHeaderBytes> out);

// Nothing if the segmentation type is unknown (or IPv4 UDP fragmentation, which
// is never offered). Offsets and sizes are only carried over: whoever follows
// them checks them against the frame first.
[[nodiscard]] std::optional<Offload> DecodeVirtioHeader(
    std::span<const uint8_t, kVirtioHeaderBytes> header);

}  // namespace penstock

#endif  // PENSTOCK_STACK_LINK_VIRTIO_HEADER_H_
