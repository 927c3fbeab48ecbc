// TCP segments as a scripted guest writes and reads them, bytes and text. The code
// is apart from the stack's own parser and emitter on purpose: it is the other
// opinion about what stands on the wire.
#ifndef PENSTOCK_TESTS_SUPPORT_GUEST_SEGMENT_H_
#define PENSTOCK_TESTS_SUPPORT_GUEST_SEGMENT_H_

#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "relay/endpoint.h"
#include "stack/config.h"
#include "stack/link/frame.h"
#include "stack/wire/packet.h"

namespace penstock {

// A script met something else than it asked for; the text says what, and what was
// on the wire until then. GoogleTest reports it as the test's failure.
class ScriptError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct SackBlock {
  uint32_t begin = 0;
  uint32_t end = 0;

  friend bool operator==(const SackBlock&, const SackBlock&) = default;
};

struct GuestSegment {
  Endpoint source;
  Endpoint destination;
  uint8_t flags = 0;  // kTcpSyn, …
  uint32_t sequence = 0;
  uint32_t acknowledgement = 0;
  uint16_t window = 0;  // as on the wire, not scaled
  std::optional<uint16_t> mss{};
  std::optional<uint8_t> window_scale{};
  bool sack_permitted = false;
  std::vector<SackBlock> sack{};
  std::string payload{};

  // Read: as the link got it. Written: with gso set, one frame of many segments
  // whose checksum is left partial; the rest of the offload fields follows from it.
  Offload offload{};
  // Of segments that were read.
  uint32_t ip_bytes = 0;
  bool window_update = false;  // says nothing but that the window opened

  [[nodiscard]] bool Has(uint8_t flag) const { return (flags & flag) != 0; }
  // What the segment takes of the sequence space.
  [[nodiscard]] uint32_t SequenceLength() const;
  // "SA 0:0(0) ack 1 win 65535 <mss 1460,wscale 7>"
  [[nodiscard]] std::string ToString() const;
};

// "SA", "F", "." for a bare ACK; PSH is left out.
[[nodiscard]] std::string FlagsText(uint8_t flags);

struct MacPair {
  MacAddress source{};
  MacAddress destination{};
};

struct EncodedFrame {
  std::vector<uint8_t> bytes;  // from the Ethernet header on
  Offload offload{};
};

// With complete checksums, but for segment.offload.gso.
[[nodiscard]] EncodedFrame EncodeFrame(const MacPair& macs, const GuestSegment& segment);

// The segment in an Ethernet frame that the stack sent, or nothing if it carries
// something else than TCP. Throws ScriptError for lengths or checksums that are wrong.
[[nodiscard]] std::optional<GuestSegment> DecodeFrame(std::span<const uint8_t> frame,
                                                      const Offload& offload);

// An ICMP error: `original`, of which the headers are quoted, is too big, `mtu`
// would fit. Goes to whoever sent it.
struct TooBig {
  GuestSegment original;
  uint32_t mtu = 0;
};
[[nodiscard]] EncodedFrame EncodeTooBig(const MacPair& macs, const TooBig& report);

}  // namespace penstock

#endif  // PENSTOCK_TESTS_SUPPORT_GUEST_SEGMENT_H_
