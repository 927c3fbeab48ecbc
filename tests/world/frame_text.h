// One line of text for any frame, for traces that a person reads:
//
//   10.0.2.15:40001 > 10.0.2.2:80 SA 0x1234:0x1235(0) ack 0x99 win 65535 <mss 1460,sackOK>
//   10.0.2.2:80 > 10.0.2.15:40001 . 0x100:0x1218(4376) ack 0x7 win 512 gso 1460x3
//   arp who has 10.0.2.2? tell 10.0.2.15
//   10.0.2.2 > 10.0.2.15 icmp host unreachable (10.0.2.15:40001 > 192.0.2.1:80 S …)
//
// The frame may hold anything: nothing outside of it is read, nothing throws. What is
// cut short or unknown is named as far as it goes, followed by its first bytes in hex.
#ifndef PENSTOCK_TESTS_WORLD_FRAME_TEXT_H_
#define PENSTOCK_TESTS_WORLD_FRAME_TEXT_H_

#include <cstdint>
#include <span>
#include <string>

#include "stack/link/frame.h"

namespace penstock {

// `frame` starts with an Ethernet header.
[[nodiscard]] std::string DescribeFrame(std::span<const uint8_t> frame, const Offload& offload);

}  // namespace penstock

#endif  // PENSTOCK_TESTS_WORLD_FRAME_TEXT_H_
