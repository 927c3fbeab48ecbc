#include "tests/conformance/guest_end.h"

#include <algorithm>

#include "stack/wire/protocols.h"
#include "tests/support/packet_builder.h"

namespace penstock::conformance {
namespace {

constexpr uint16_t kGuestPort = 40'001, kHostPort = 80;

// a < b in sequence space.
bool Before(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) < 0; }

uint32_t SequenceLength(const ScriptSegment& segment) {
  return segment.payload_bytes + ((segment.flags & kTcpSyn) != 0 ? 1 : 0) +
         ((segment.flags & kTcpFin) != 0 ? 1 : 0);
}

struct IcmpNumbers {
  IcmpError error;
  uint8_t type4, code4, type6, code6;
};
// RFC 792, RFC 1122 3.2.2.1, RFC 4443 3.1 and 3.2.
constexpr IcmpNumbers kIcmpNumbers[] = {
    {IcmpError::kTooBig, kUnreachable4, kFragmentationNeeded4, kPacketTooBig6, 0},
    {IcmpError::kPort, kUnreachable4, 3, kUnreachable6, 4},
    {IcmpError::kHost, kUnreachable4, 1, kUnreachable6, 3},
    {IcmpError::kNetwork, kUnreachable4, 0, kUnreachable6, 0},
    {IcmpError::kProhibited, kUnreachable4, 13, kUnreachable6, 1}};

// The options that EncodeFrame would write, and the script's own behind them.
Bytes OptionBytes(const ScriptSegment& segment) {
  Bytes options;
  const auto add = [&](std::initializer_list<uint32_t> bytes) {
    for (const uint32_t byte : bytes) options.push_back(static_cast<uint8_t>(byte));
  };
  if (segment.mss) add({2, 4, uint32_t{*segment.mss} >> 8, *segment.mss});
  if (segment.window_scale) add({1, 3, 3, *segment.window_scale});
  if (segment.sack_permitted) add({1, 1, 4, 2});
  options.insert(options.end(), segment.raw_options.begin(), segment.raw_options.end());
  return options;
}

}  // namespace

uint8_t StreamByte(Stream stream, uint64_t index) {
  uint64_t mixed = (index + 1) * 0x9e37'79b9'7f4a'7c15 + (stream == Stream::kToHost ? 1 : 2);
  mixed = (mixed ^ mixed >> 29) * 0xbf58'476d'1ce4'e5b9;
  return static_cast<uint8_t>(mixed >> 56);
}

GuestEnd::GuestEnd(const Script& script)
    : family_(script.family),
      mtu_(script.config.mtu),
      default_window_(script.window),
      macs_{.source = kGuestMac, .destination = script.config.gateway_mac},
      guest_{.address = Guest(script.family), .port = kGuestPort},
      destination_{.address = Peer(script.family), .port = kHostPort},
      guest_isn_(script.guest_isn) {}

void GuestEnd::Again(uint32_t sequence_step) {
  guest_isn_ += sequence_step;
  stack_isn_ = 0;
  has_stack_isn_ = false;
  sent_edge_ = 0;
  window_edge_.reset();
  guest_scales_ = false;
  stack_scale_ = 0;
}

// ---------------------------------------------------------------- to the stack

EncodedFrame GuestEnd::Encode(const ScriptSegment& script) {
  NoteSent(script);
  GuestSegment segment{.source = guest_,
                       .destination = destination_,
                       .flags = script.flags,
                       .sequence = script.sequence + guest_isn_,
                       .window = script.window.value_or(default_window_),
                       .mss = script.mss,
                       .window_scale = script.window_scale,
                       .sack_permitted = script.sack_permitted,
                       .sack = script.sack,
                       .payload = Payload(script)};
  if (segment.Has(kTcpAck)) segment.acknowledgement = script.acknowledgement + stack_isn_;
  for (SackBlock& block : segment.sack) {
    block = {.begin = block.begin + stack_isn_, .end = block.end + stack_isn_};
  }
  if (!script.raw_options.empty() || segment.Has(kTcpUrg)) return EncodeByHand(segment, script);
  if (script.gso_segment_bytes != 0) {
    segment.offload.gso = family_ == Family::kIpv4 ? Gso::kTcp4 : Gso::kTcp6;
    segment.offload.segment_bytes = script.gso_segment_bytes;
  }
  return EncodeFrame(macs_, segment);
}

// What EncodeFrame has no field for.
EncodedFrame GuestEnd::EncodeByHand(const GuestSegment& segment,
                                    const ScriptSegment& script) const {
  const Transport tcp = TcpSegment({.source_port = segment.source.port,
                                    .destination_port = segment.destination.port,
                                    .sequence = segment.sequence,
                                    .acknowledgement = segment.acknowledgement,
                                    .flags = segment.flags,
                                    .window = segment.window,
                                    .urgent_pointer = script.urgent_pointer,
                                    .options = OptionBytes(script),
                                    .payload = {segment.payload.begin(), segment.payload.end()}});
  const IpSpec ip{.source = segment.source.address, .destination = segment.destination.address};
  return {.bytes = EthernetFrame(IpPacket(ip, tcp),
                                 {.destination = macs_.destination, .source = macs_.source})};
}

void GuestEnd::NoteSent(const ScriptSegment& segment) {
  const uint32_t end = segment.sequence + SequenceLength(segment);
  if (Before(sent_edge_, end)) sent_edge_ = end;
  if ((segment.flags & kTcpSyn) != 0 && !has_stack_isn_) {
    guest_scales_ = segment.window_scale.has_value();
  }
}

std::string GuestEnd::Payload(const ScriptSegment& segment) const {
  const uint32_t first = segment.sequence + ((segment.flags & kTcpSyn) != 0 ? 1 : 0) - 1;
  std::string bytes(segment.payload_bytes, '\0');
  for (uint32_t i = 0; i < segment.payload_bytes; ++i) {
    const uint8_t byte = StreamByte(Stream::kToHost, first + i);
    bytes[i] = static_cast<char>(segment.junk ? ~byte : byte);
  }
  return bytes;
}

EncodedFrame GuestEnd::Encode(const SendIcmp& icmp) const {
  const GuestSegment original{.source = destination_,
                              .destination = guest_,
                              .flags = kTcpAck,
                              .sequence = icmp.sequence + stack_isn_};
  EncodedFrame frame = EncodeTooBig(macs_, {.original = original, .mtu = icmp.mtu});
  if (icmp.error == IcmpError::kTooBig) return frame;
  const bool v4 = family_ == Family::kIpv4;
  const auto* numbers = std::ranges::find(kIcmpNumbers, icmp.error, &IcmpNumbers::error);
  const size_t at = TransportAt(family_);
  Put8(frame.bytes, at, v4 ? numbers->type4 : numbers->type6);
  Put8(frame.bytes, at + 1, v4 ? numbers->code4 : numbers->code6);
  Put16(frame.bytes, at + kIcmpChecksumOffset, 0);
  const std::span<const uint8_t> body = std::span(frame.bytes).subspan(at);
  const uint16_t sum = v4 ? SlowSum(body)
                          : SlowTransportSum(original.destination.address, original.source.address,
                                             kIpProtocolIcmpv6, body);
  Put16(frame.bytes, at + kIcmpChecksumOffset, static_cast<uint16_t>(~sum));
  return frame;
}

// ---------------------------------------------------------------- from the stack

std::optional<ScriptSegment> GuestEnd::Decode(std::span<const uint8_t> frame,
                                              const Offload& offload) {
  const std::optional<GuestSegment> segment = DecodeFrame(frame, offload);
  if (!segment) return std::nullopt;
  if (segment->source != destination_ || segment->destination != guest_) {
    throw ScriptError("a segment from " + segment->source.ToString() + " to " +
                      segment->destination.ToString());
  }
  if (segment->Has(kTcpSyn) && !has_stack_isn_) {
    has_stack_isn_ = true;
    stack_isn_ = segment->sequence;
    stack_scale_ = segment->window_scale.value_or(0);
  }
  const ScriptSegment relative = Relative(*segment);
  Check(*segment, relative);
  return relative;
}

ScriptSegment GuestEnd::Relative(const GuestSegment& segment) const {
  ScriptSegment relative{.flags = segment.flags,
                         .sequence = segment.sequence - stack_isn_,
                         .payload_bytes = static_cast<uint32_t>(segment.payload.size()),
                         .window = segment.window,
                         .mss = segment.mss,
                         .window_scale = segment.window_scale,
                         .sack_permitted = segment.sack_permitted,
                         .sack = segment.sack};
  if (segment.Has(kTcpAck)) relative.acknowledgement = segment.acknowledgement - guest_isn_;
  for (SackBlock& block : relative.sack) {
    block = {.begin = block.begin - guest_isn_, .end = block.end - guest_isn_};
  }
  if (segment.offload.gso != Gso::kNone) relative.gso_segment_bytes = segment.offload.segment_bytes;
  return relative;
}

void GuestEnd::Check(const GuestSegment& absolute, const ScriptSegment& segment) {
  const auto fail = [&](const char* what) {
    throw ScriptError(std::string(what) + ": " + ToString(segment));
  };
  const uint32_t headers = absolute.ip_bytes - segment.payload_bytes;
  const uint32_t each =
      segment.gso_segment_bytes != 0 ? segment.gso_segment_bytes : segment.payload_bytes;
  if (headers + each > mtu_) fail("a segment over the MTU");
  const uint32_t first = segment.sequence - 1;
  for (uint32_t i = 0; i < segment.payload_bytes; ++i) {
    if (static_cast<uint8_t>(absolute.payload[i]) != StreamByte(Stream::kToGuest, first + i)) {
      fail("bytes that are not the host's at this place");
    }
  }
  if ((segment.flags & kTcpAck) == 0) return;
  if (Before(sent_edge_, segment.acknowledgement)) fail("an ACK of what was not sent");
  if ((segment.flags & kTcpRst) == 0) CheckWindow(segment);
}

// RFC 9293 3.8.6 SHLD-14. A scaled window is rounded down, so that its edge may seem to
// move back by less than one unit (RFC 7323 2.4).
void GuestEnd::CheckWindow(const ScriptSegment& segment) {
  const bool scaled = guest_scales_ && (segment.flags & kTcpSyn) == 0;
  const uint8_t scale = scaled ? stack_scale_ : 0;
  const uint32_t edge = segment.acknowledgement + (uint32_t{*segment.window} << scale);
  const uint32_t unit = uint32_t{1} << (guest_scales_ ? stack_scale_ : 0);
  if (window_edge_ && Before(edge + unit - 1, *window_edge_)) {
    throw ScriptError("a window that shrinks: " + ToString(segment));
  }
  if (!window_edge_ || Before(*window_edge_, edge)) window_edge_ = edge;
}

std::optional<IcmpError> GuestEnd::DecodeIcmp(std::span<const uint8_t> frame) const {
  const bool v4 = family_ == Family::kIpv4;
  const size_t at = TransportAt(family_);
  if (frame.size() < at + kIcmpHeaderBytes) return std::nullopt;
  if (frame[kIpAt + (v4 ? 9 : 6)] != (v4 ? kIpProtocolIcmpv4 : kIpProtocolIcmpv6)) {
    return std::nullopt;
  }
  for (const IcmpNumbers& numbers : kIcmpNumbers) {
    if (frame[at] == (v4 ? numbers.type4 : numbers.type6) &&
        frame[at + 1] == (v4 ? numbers.code4 : numbers.code6)) {
      return numbers.error;
    }
  }
  return std::nullopt;
}

std::string GuestEnd::Difference(const ScriptSegment& wanted, const ScriptSegment& got) {
  // PSH counts only where the script names it.
  const auto compared = static_cast<uint8_t>((wanted.flags & kTcpPsh) != 0 ? 0xff : ~kTcpPsh);
  if ((got.flags & compared) != wanted.flags) return "the flags differ";
  if (got.sequence != wanted.sequence) return "the sequence number differs";
  if (got.payload_bytes != wanted.payload_bytes) return "the length differs";
  if (got.acknowledgement != wanted.acknowledgement) return "the acknowledgement differs";
  if (wanted.window && got.window != wanted.window) return "the window differs";
  if (got.mss != wanted.mss || got.window_scale != wanted.window_scale ||
      got.sack_permitted != wanted.sack_permitted || got.sack != wanted.sack) {
    return "the options differ";
  }
  if (got.gso_segment_bytes != wanted.gso_segment_bytes) return "the segmentation differs";
  return "";
}

}  // namespace penstock::conformance
