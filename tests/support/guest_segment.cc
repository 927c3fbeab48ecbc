#include "tests/support/guest_segment.h"

#include <algorithm>
#include <array>

namespace penstock {
namespace {

constexpr uint8_t kProtocolTcp = 6, kProtocolIcmpv4 = 1, kProtocolIcmpv6 = 58;
constexpr size_t kTcpChecksumOffset = 16;

using Bytes = std::vector<uint8_t>;

void Put8(Bytes& out, uint32_t value) { out.push_back(static_cast<uint8_t>(value)); }
void PutWord16(Bytes& out, uint32_t value) {
  Put8(out, value >> 8);
  Put8(out, value);
}
void PutWord32(Bytes& out, uint32_t value) {
  PutWord16(out, value >> 16);
  PutWord16(out, value);
}
void PutAll(Bytes& out, std::span<const uint8_t> bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}
void Set16(Bytes& out, size_t at, uint16_t value) {
  out[at] = static_cast<uint8_t>(value >> 8);
  out[at + 1] = static_cast<uint8_t>(value);
}

// RFC 1071, word by word.
uint32_t Sum(std::span<const uint8_t> bytes, uint32_t sum = 0) {
  for (size_t i = 0; i < bytes.size(); ++i) {
    sum += i % 2 == 0 ? uint32_t{bytes[i]} << 8 : uint32_t{bytes[i]};
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return sum;
}
uint16_t Complement(uint32_t sum) { return static_cast<uint16_t>(~sum); }

struct PseudoHeader {
  IpAddress source;
  IpAddress destination;
  uint8_t protocol = 0;
  size_t length = 0;
};
uint32_t Sum(const PseudoHeader& pseudo) {
  Bytes bytes;
  PutAll(bytes, pseudo.source.wire());
  PutAll(bytes, pseudo.destination.wire());
  PutWord32(bytes, static_cast<uint32_t>(pseudo.length));
  PutWord32(bytes, pseudo.protocol);
  return Sum(bytes);
}

Bytes TcpHeaderAndPayload(const GuestSegment& segment) {
  Bytes options;
  if (segment.mss) {
    PutWord16(options, 0x0204);
    PutWord16(options, *segment.mss);
  }
  if (segment.window_scale) {
    PutWord32(options, 0x01030300u | *segment.window_scale);
  }
  if (segment.sack_permitted) PutWord32(options, 0x01010402);
  if (!segment.sack.empty()) {
    PutWord32(options, 0x01010500u | static_cast<uint32_t>(2 + 8 * segment.sack.size()));
    for (const SackBlock& block : segment.sack) {
      PutWord32(options, block.begin);
      PutWord32(options, block.end);
    }
  }
  Bytes out;
  PutWord16(out, segment.source.port);
  PutWord16(out, segment.destination.port);
  PutWord32(out, segment.sequence);
  PutWord32(out, segment.acknowledgement);
  Put8(out, static_cast<uint32_t>((20 + options.size()) / 4) << 4);
  Put8(out, segment.flags);
  PutWord16(out, segment.window);
  PutWord32(out, 0);  // checksum, urgent pointer
  PutAll(out, options);
  out.insert(out.end(), segment.payload.begin(), segment.payload.end());
  return out;
}

struct IpFields {
  IpAddress source;
  IpAddress destination;
  uint8_t protocol = 0;
  size_t payload_bytes = 0;
};
Bytes IpHeader(const IpFields& fields) {
  Bytes out;
  if (fields.source.is_v4()) {
    PutWord16(out, 0x4500);
    PutWord16(out, static_cast<uint32_t>(20 + fields.payload_bytes));
    PutWord32(out, 0x00004000);  // identification 0, don't fragment
    PutWord16(out, 0x4000u | fields.protocol);
    PutWord16(out, 0);
  } else {
    PutWord32(out, 0x60000000);
    PutWord16(out, static_cast<uint32_t>(fields.payload_bytes));
    Put8(out, fields.protocol);
    Put8(out, 64);
  }
  PutAll(out, fields.source.wire());
  PutAll(out, fields.destination.wire());
  if (fields.source.is_v4()) Set16(out, 10, Complement(Sum(out)));
  return out;
}

Bytes Frame(const MacPair& macs, Family family, std::span<const uint8_t> ip_header,
            std::span<const uint8_t> body) {
  Bytes out;
  PutAll(out, macs.destination);
  PutAll(out, macs.source);
  PutWord16(out, family == Family::kIpv4 ? 0x0800 : 0x86dd);
  PutAll(out, ip_header);
  PutAll(out, body);
  return out;
}

// Reads big-endian numbers and fails by name where the frame ends too soon.
class View {
 public:
  explicit View(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  [[nodiscard]] uint8_t At8(size_t at) const { return Part(at, 1)[0]; }
  [[nodiscard]] uint16_t At16(size_t at) const {
    return static_cast<uint16_t>(At8(at) << 8 | At8(at + 1));
  }
  [[nodiscard]] uint32_t At32(size_t at) const { return uint32_t{At16(at)} << 16 | At16(at + 2); }
  [[nodiscard]] std::span<const uint8_t> Part(size_t at, size_t count) const {
    if (at + count > bytes_.size()) throw ScriptError("the stack sent a truncated frame");
    return bytes_.subspan(at, count);
  }
  [[nodiscard]] size_t size() const { return bytes_.size(); }

 private:
  std::span<const uint8_t> bytes_;
};

void DecodeOptions(const View& options, GuestSegment& segment) {
  for (size_t at = 0; at < options.size();) {
    const uint8_t kind = options.At8(at);
    if (kind == 0) break;
    if (kind == 1) {
      ++at;
      continue;
    }
    const uint8_t length = options.At8(at + 1);
    if (length < 2) throw ScriptError("the stack sent a TCP option of length under 2");
    if (kind == 2) segment.mss = options.At16(at + 2);
    if (kind == 3) segment.window_scale = options.At8(at + 2);
    if (kind == 4) segment.sack_permitted = true;
    for (size_t block = at + 2; kind == 5 && block < at + length; block += 8) {
      segment.sack.push_back({.begin = options.At32(block), .end = options.At32(block + 4)});
    }
    at += length;
  }
}

// A complete checksum sums up to nothing; a partial one holds the pseudo-header's.
void CheckTcpChecksum(const View& tcp, const PseudoHeader& pseudo, const Offload& offload,
                      size_t tcp_at) {
  if (offload.checksum == ChecksumState::kPartial) {
    if (offload.checksum_start != tcp_at || offload.checksum_offset != kTcpChecksumOffset) {
      throw ScriptError("the stack sent a partial checksum at the wrong place");
    }
    if (tcp.At16(kTcpChecksumOffset) != static_cast<uint16_t>(Sum(pseudo))) {
      throw ScriptError("the stack sent a partial checksum that is not the pseudo-header's sum");
    }
    return;
  }
  if (Complement(Sum(tcp.Part(0, tcp.size()), Sum(pseudo))) != 0) {
    throw ScriptError("the stack sent a wrong TCP checksum");
  }
}

void CheckGso(const GuestSegment& segment, size_t header_bytes) {
  const Offload& offload = segment.offload;
  if (offload.gso == Gso::kNone) return;
  const Gso wanted = segment.source.address.is_v4() ? Gso::kTcp4 : Gso::kTcp6;
  if (offload.gso != wanted) throw ScriptError("the stack sent a GSO frame of the wrong kind");
  if (offload.checksum != ChecksumState::kPartial) {
    throw ScriptError("the stack sent a GSO frame without a partial checksum");
  }
  if (offload.header_bytes != header_bytes) {
    throw ScriptError("the stack sent a GSO frame with wrong header_bytes");
  }
}

}  // namespace

uint32_t GuestSegment::SequenceLength() const {
  return static_cast<uint32_t>(payload.size()) + (Has(kTcpSyn) ? 1 : 0) + (Has(kTcpFin) ? 1 : 0);
}

std::string FlagsText(uint8_t flags) {
  std::string text;
  if ((flags & kTcpSyn) != 0) text += 'S';
  if ((flags & kTcpFin) != 0) text += 'F';
  if ((flags & kTcpRst) != 0) text += 'R';
  if ((flags & kTcpUrg) != 0) text += 'U';
  if ((flags & kTcpEce) != 0) text += 'E';
  if ((flags & kTcpCwr) != 0) text += 'W';
  if ((flags & kTcpAck) != 0) text += text.empty() ? '.' : 'A';
  return text.empty() ? "none" : text;
}

std::string GuestSegment::ToString() const {
  std::string text = FlagsText(flags) + " " + std::to_string(sequence) + ":" +
                     std::to_string(sequence + SequenceLength()) + "(" +
                     std::to_string(payload.size()) + ")";
  if (Has(kTcpAck)) text += " ack " + std::to_string(acknowledgement);
  text += " win " + std::to_string(window);
  if (mss) text += " mss " + std::to_string(*mss);
  if (window_scale) text += " wscale " + std::to_string(*window_scale);
  if (sack_permitted) text += " sackOK";
  for (const SackBlock& block : sack) {
    text += " sack " + std::to_string(block.begin) + ":" + std::to_string(block.end);
  }
  if (offload.gso != Gso::kNone) text += " gso " + std::to_string(offload.segment_bytes);
  return text;
}

EncodedFrame EncodeFrame(const MacPair& macs, const GuestSegment& segment) {
  Bytes tcp = TcpHeaderAndPayload(segment);
  const PseudoHeader pseudo{.source = segment.source.address,
                            .destination = segment.destination.address,
                            .protocol = kProtocolTcp,
                            .length = tcp.size()};
  Offload offload = segment.offload;
  if (offload.gso == Gso::kNone) {
    Set16(tcp, kTcpChecksumOffset, Complement(Sum(tcp, Sum(pseudo))));
  } else {
    Set16(tcp, kTcpChecksumOffset, static_cast<uint16_t>(Sum(pseudo)));
  }
  const Bytes ip = IpHeader({.source = segment.source.address,
                             .destination = segment.destination.address,
                             .protocol = kProtocolTcp,
                             .payload_bytes = tcp.size()});
  if (offload.gso != Gso::kNone) {
    offload.checksum = ChecksumState::kPartial;
    offload.checksum_start = static_cast<uint16_t>(kEthernetHeaderBytes + ip.size());
    offload.checksum_offset = kTcpChecksumOffset;
    offload.header_bytes = static_cast<uint16_t>(kEthernetHeaderBytes + ip.size() + tcp.size() -
                                                 segment.payload.size());
  }
  return {.bytes = Frame(macs, segment.source.address.family, ip, tcp), .offload = offload};
}

std::optional<GuestSegment> DecodeFrame(std::span<const uint8_t> frame, const Offload& offload) {
  const View all(frame);
  const uint16_t ether_type = all.At16(12);
  if (ether_type != 0x0800 && ether_type != 0x86dd) return std::nullopt;
  const bool v4 = ether_type == 0x0800;
  const View ip(all.Part(kEthernetHeaderBytes, frame.size() - kEthernetHeaderBytes));
  if (ip.At8(v4 ? 9 : 6) != kProtocolTcp) return std::nullopt;

  const size_t ip_header_bytes = v4 ? 20 : 40;
  const size_t ip_bytes = v4 ? ip.At16(2) : ip.At16(4) + size_t{40};
  if (v4 && ip.At8(0) != 0x45) throw ScriptError("the stack sent an odd IPv4 header");
  if (!v4 && ip.At8(0) >> 4 != 6) throw ScriptError("the stack sent an odd IPv6 header");
  if (v4 && Complement(Sum(ip.Part(0, 20))) != 0) {
    throw ScriptError("the stack sent a wrong IPv4 header checksum");
  }
  if (ip_bytes != ip.size()) throw ScriptError("the stack sent a frame longer than its packet");
  const size_t traffic_class = v4 ? ip.At8(1) : ip.At16(0) >> 4 & 0xff;
  if ((traffic_class & 3) != 0) throw ScriptError("the stack sent an ECN codepoint");

  GuestSegment segment;
  segment.offload = offload;
  segment.ip_bytes = static_cast<uint32_t>(ip_bytes);
  const size_t address_bytes = v4 ? 4 : 16;
  const size_t source_at = v4 ? 12 : 8;
  segment.source.address = IpAddress::From(ip.Part(source_at, address_bytes));
  segment.destination.address = IpAddress::From(ip.Part(source_at + address_bytes, address_bytes));

  const View tcp(ip.Part(ip_header_bytes, ip_bytes - ip_header_bytes));
  CheckTcpChecksum(tcp,
                   {.source = segment.source.address,
                    .destination = segment.destination.address,
                    .protocol = kProtocolTcp,
                    .length = tcp.size()},
                   offload, kEthernetHeaderBytes + ip_header_bytes);
  segment.source.port = tcp.At16(0);
  segment.destination.port = tcp.At16(2);
  segment.sequence = tcp.At32(4);
  segment.acknowledgement = tcp.At32(8);
  segment.flags = tcp.At8(13);
  segment.window = tcp.At16(14);
  const size_t tcp_header_bytes = size_t{4} * (tcp.At8(12) >> 4);
  if (tcp_header_bytes < 20) throw ScriptError("the stack sent a short TCP header");
  DecodeOptions(View(tcp.Part(20, tcp_header_bytes - 20)), segment);
  const auto payload = tcp.Part(tcp_header_bytes, tcp.size() - tcp_header_bytes);
  segment.payload.assign(payload.begin(), payload.end());
  CheckGso(segment, kEthernetHeaderBytes + ip_header_bytes + tcp_header_bytes);
  return segment;
}

EncodedFrame EncodeTooBig(const MacPair& macs, const TooBig& report) {
  const GuestSegment& original = report.original;
  const bool v4 = original.source.address.is_v4();
  Bytes icmp;
  if (v4) {
    PutWord32(icmp, 0x03040000);  // destination unreachable, fragmentation needed
    PutWord32(icmp, report.mtu);
  } else {
    PutWord32(icmp, 0x02000000);  // packet too big
    PutWord32(icmp, report.mtu);
  }
  const Bytes quoted = TcpHeaderAndPayload(original);
  PutAll(icmp, IpHeader({.source = original.source.address,
                         .destination = original.destination.address,
                         .protocol = kProtocolTcp,
                         .payload_bytes = quoted.size()}));
  PutAll(icmp, std::span(quoted).first(std::min<size_t>(quoted.size(), 20)));

  const IpAddress& from = original.destination.address;
  const IpAddress& to = original.source.address;
  const uint8_t protocol = v4 ? kProtocolIcmpv4 : kProtocolIcmpv6;
  uint32_t sum = 0;
  if (!v4) {
    sum = Sum(PseudoHeader{
        .source = from, .destination = to, .protocol = protocol, .length = icmp.size()});
  }
  Set16(icmp, 2, Complement(Sum(icmp, sum)));
  const Bytes ip = IpHeader(
      {.source = from, .destination = to, .protocol = protocol, .payload_bytes = icmp.size()});
  return {.bytes = Frame(macs, from.family, ip, icmp)};
}

}  // namespace penstock
