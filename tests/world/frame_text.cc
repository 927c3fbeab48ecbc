// Every field is read through Header<N>::At, which knows how many bytes there are.
#include "tests/world/frame_text.h"

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <optional>

#include "stack/wire/protocols.h"
#include "stack/wire/reader.h"
#include "tests/support/guest_segment.h"

namespace penstock {
namespace {

using View = std::span<const uint8_t>;

constexpr size_t kHexBytesMax = 32;
// An ICMP error quotes a packet, which may be an ICMP error.
constexpr int kQuoteDepthMax = 1;

template <typename... Values>
std::string Format(const char* format, Values... values) {
  char text[64];
  std::snprintf(text, sizeof(text), format, values...);
  return text;
}

std::string Hex(View bytes) {
  std::string text = std::to_string(bytes.size()) + " bytes";
  for (size_t i = 0; i < std::min(bytes.size(), kHexBytesMax); ++i) {
    text += Format(i == 0 ? ": %02x" : " %02x", unsigned{bytes[i]});
  }
  return bytes.size() > kHexBytesMax ? text + " ..." : text;
}

std::string CutShort(std::string_view what, View bytes) {
  return std::string(what) + " cut short, " + Hex(bytes);
}

std::string MacText(const MacAddress& mac) {
  return Format("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

// ---------------------------------------------------------------- TCP

std::string TcpOptionText(View option) {
  const auto number = [&](size_t at) { return uint32_t{option[at]} << 8 | option[at + 1]; };
  const auto number32 = [&](size_t at) { return number(at) << 16 | number(at + 2); };
  switch (option[0]) {
    case 2:
      if (option.size() == 4) return "mss " + std::to_string(number(2));
      break;
    case 3:
      if (option.size() == 3) return "wscale " + std::to_string(option[2]);
      break;
    case 4:
      if (option.size() == 2) return "sackOK";
      break;
    case 5:
      if (option.size() % 8 == 2) {
        std::string text = "sack";
        for (size_t at = 2; at < option.size(); at += 8) {
          text += Format(" 0x%x:0x%x", number32(at), number32(at + 4));
        }
        return text;
      }
      break;
    case 8:
      if (option.size() == 10) {
        return Format("ts %u %u", number32(2), number32(6));
      }
      break;
    default:
      break;
  }
  return Format("option %u/%zu", unsigned{option[0]}, option.size());
}

std::string TcpOptionsText(View options) {
  std::string text;
  for (size_t at = 0; at < options.size() && options[at] != 0;) {
    if (options[at] == 1) {
      ++at;
      continue;
    }
    if (!text.empty()) text += ',';
    const size_t length = at + 1 < options.size() ? options[at + 1] : 0;
    if (length < 2 || at + length > options.size()) return text + "malformed";
    text += TcpOptionText(options.subspan(at, length));
    at += length;
  }
  return text;
}

struct ReadPacket {
  IpAddress source;
  IpAddress destination;
  uint8_t protocol = 0;
  View body;           // what is there of it
  size_t claimed = 0;  // what the IP header says
  int quote_depth = 0;
  Offload offload{};
};

std::string Addresses(const ReadPacket& packet) {
  return packet.source.ToString() + " > " + packet.destination.ToString() + " ";
}

std::string Ports(const ReadPacket& packet, uint16_t source, uint16_t destination) {
  return Endpoint{packet.source, source}.ToString() + " > " +
         Endpoint{packet.destination, destination}.ToString() + " ";
}

std::string GsoText(const Offload& offload, size_t payload_bytes) {
  if (offload.gso == Gso::kNone) return "";
  const size_t each = offload.segment_bytes;
  const size_t count = each == 0 ? 0 : (payload_bytes + each - 1) / each;
  return Format(" gso %zux%zu", each, count);
}

std::string TcpText(const ReadPacket& packet) {
  const auto header = Header<kTcpHeaderBytes>::At(packet.body);
  const auto ports = Header<8>::At(packet.body);
  if (!header) {
    // As much of it as an ICMP error must quote.
    if (!ports) return Addresses(packet) + CutShort("tcp", packet.body);
    return Ports(packet, ports->U16<0>(), ports->U16<2>()) + Format("tcp 0x%x ", ports->U32<4>()) +
           CutShort("", packet.body).substr(1);
  }
  const size_t header_bytes = size_t{header->U8<12>()} / 16 * 4;
  std::string text = Ports(packet, header->U16<0>(), header->U16<2>());
  if (header_bytes < kTcpHeaderBytes || header_bytes > packet.claimed) {
    return text + Format("tcp with a header of %zu bytes, ", header_bytes) + Hex(packet.body);
  }
  const uint8_t flags = header->U8<13>();
  const size_t payload = packet.claimed - header_bytes;
  const size_t length = payload + ((flags & kTcpSyn) != 0) + ((flags & kTcpFin) != 0);
  text += FlagsText(flags) + Format(" 0x%x:0x%x(%zu)", header->U32<4>(),
                                    header->U32<4>() + static_cast<uint32_t>(length), payload);
  if ((flags & kTcpAck) != 0) text += Format(" ack 0x%x", header->U32<8>());
  text += Format(" win %u", unsigned{header->U16<14>()});
  if ((flags & kTcpUrg) != 0) text += Format(" urg %u", unsigned{header->U16<18>()});
  if (header_bytes > packet.body.size()) return text + " cut short";
  const std::string options =
      TcpOptionsText(packet.body.subspan(kTcpHeaderBytes, header_bytes - kTcpHeaderBytes));
  if (!options.empty()) text += " <" + options + ">";
  text += GsoText(packet.offload, payload);
  return packet.claimed > packet.body.size() ? text + " cut short" : text;
}

std::string UdpText(const ReadPacket& packet) {
  const auto header = Header<kUdpHeaderBytes>::At(packet.body);
  if (!header) return Addresses(packet) + CutShort("udp", packet.body);
  const std::string text = Ports(packet, header->U16<0>(), header->U16<2>()) + "udp ";
  const size_t udp_bytes = header->U16<4>();
  if (udp_bytes < kUdpHeaderBytes) return text + "of wrong length, " + Hex(packet.body);
  return text + std::to_string(udp_bytes - kUdpHeaderBytes) +
         (udp_bytes > packet.body.size() ? " cut short" : "");
}

// ---------------------------------------------------------------- ICMP

std::string PacketText(View ip, int quote_depth, const Offload& offload);

std::string Quote(const ReadPacket& packet) {
  const View quoted = packet.body.subspan(kIcmpHeaderBytes);
  if (packet.quote_depth >= kQuoteDepthMax) return " (" + Hex(quoted) + ")";
  return " (" + PacketText(quoted, packet.quote_depth + 1, {}) + ")";
}

const char* UnreachableName(bool v4, uint8_t code) {
  static constexpr const char* kNames4[] = {"network", "host", "protocol", "port"};
  static constexpr const char* kNames6[] = {"route", "prohibited", "scope", "address", "port"};
  if (v4 && code < std::size(kNames4)) return kNames4[code];
  if (v4 && code == 13) return "prohibited";
  if (!v4 && code < std::size(kNames6)) return kNames6[code];
  return nullptr;
}

std::string EchoText(const char* kind, const Header<kIcmpHeaderBytes>& header, size_t bytes) {
  return Format("icmp echo %s id %u seq %u (%zu)", kind, unsigned{header.U16<4>()},
                unsigned{header.U16<6>()}, bytes - kIcmpHeaderBytes);
}

std::string NeighbourText(const ReadPacket& packet, uint8_t type) {
  const char* kind = type == kNeighbourSolicitation ? "nd who has " : "nd here is ";
  const auto message = Header<24>::At(packet.body);
  if (!message) return CutShort(kind, packet.body);
  std::string text = kind + message->Ipv6<8>().ToString();
  const auto option = Header<8>::At(packet.body, 24);
  if (option && option->U8<1>() == 1 && (option->U8<0>() == 1 || option->U8<0>() == 2)) {
    text += (option->U8<0>() == 1 ? " from " : " at ") + MacText(option->Mac<2>());
  }
  return text;
}

std::string IcmpText(const ReadPacket& packet) {
  const bool v4 = packet.protocol == kIpProtocolIcmpv4;
  std::string text = Addresses(packet);
  const auto header = Header<kIcmpHeaderBytes>::At(packet.body);
  if (!header) return text + CutShort("icmp", packet.body);
  const uint8_t type = header->U8<0>(), code = header->U8<1>();
  if (type == (v4 ? kEchoRequest4 : kEchoRequest6)) {
    return text + EchoText("request", *header, packet.claimed);
  }
  if (type == (v4 ? kEchoReply4 : kEchoReply6)) {
    return text + EchoText("reply", *header, packet.claimed);
  }
  if (v4 && type == kUnreachable4 && code == kFragmentationNeeded4) {
    return text + Format("icmp too big, mtu %u", unsigned{header->U16<6>()}) + Quote(packet);
  }
  if (!v4 && type == kPacketTooBig6) {
    return text + Format("icmp too big, mtu %u", header->U32<4>()) + Quote(packet);
  }
  if (type == (v4 ? kUnreachable4 : kUnreachable6)) {
    const char* name = UnreachableName(v4, code);
    text += name != nullptr ? Format("icmp %s unreachable", name)
                            : Format("icmp unreachable, code %u", unsigned{code});
    return text + Quote(packet);
  }
  if (!v4 && (type == kNeighbourSolicitation || type == kNeighbourAdvertisement)) {
    return text + NeighbourText(packet, type);
  }
  return text + Format("icmp type %u code %u, ", unsigned{type}, unsigned{code}) + Hex(packet.body);
}

// ---------------------------------------------------------------- IP and below

std::string BodyText(const ReadPacket& packet) {
  switch (packet.protocol) {
    case kIpProtocolTcp:
      return TcpText(packet);
    case kIpProtocolUdp:
      return UdpText(packet);
    case kIpProtocolIcmpv4:
      if (packet.source.is_v4()) return IcmpText(packet);
      break;
    case kIpProtocolIcmpv6:
      if (packet.source.is_v6()) return IcmpText(packet);
      break;
    default:
      break;
  }
  return Addresses(packet) + Format("protocol %u, ", unsigned{packet.protocol}) + Hex(packet.body);
}

std::string FragmentText(const ReadPacket& packet, uint32_t offset, bool more) {
  return Addresses(packet) + Format("protocol %u fragment %u+%zu%s", unsigned{packet.protocol},
                                    offset, packet.claimed, more ? ", more" : "");
}

std::string Ipv4Text(View ip, int quote_depth, const Offload& offload) {
  const auto header = Header<kIpv4HeaderBytes>::At(ip);
  if (!header) return CutShort("ipv4", ip);
  const size_t header_bytes = size_t{header->U8<0>()} % 16 * 4;
  const size_t total = header->U16<2>();
  if (header_bytes < kIpv4HeaderBytes || header_bytes > ip.size() || total < header_bytes) {
    return "ipv4 with wrong lengths, " + Hex(ip);
  }
  const View body = ip.first(std::min(total, ip.size())).subspan(header_bytes);
  const ReadPacket packet{.source = header->Ipv4<12>(),
                          .destination = header->Ipv4<16>(),
                          .protocol = header->U8<9>(),
                          .body = body,
                          .claimed = total - header_bytes,
                          .quote_depth = quote_depth,
                          .offload = offload};
  const uint32_t offset = (header->U16<6>() & 0x1fffu) * 8;
  const bool more = (header->U16<6>() & 0x2000) != 0;
  if (offset == 0 && !more) return BodyText(packet);
  return FragmentText(packet, offset, more);
}

std::string Ipv6Text(View ip, int quote_depth, const Offload& offload) {
  const auto header = Header<kIpv6HeaderBytes>::At(ip);
  if (!header) return CutShort("ipv6", ip);
  const size_t claimed = header->U16<4>();
  const View rest = ip.subspan(kIpv6HeaderBytes);
  if (const auto fragment = Header<8>::At(rest);
      fragment && header->U8<6>() == kIpv6FragmentHeader && claimed >= 8) {
    const uint16_t field = fragment->U16<2>();
    return FragmentText({.source = header->Ipv6<8>(),
                         .destination = header->Ipv6<24>(),
                         .protocol = fragment->U8<0>(),
                         .claimed = claimed - 8},
                        field & 0xfff8u, (field & 1) != 0);
  }
  return BodyText({.source = header->Ipv6<8>(),
                   .destination = header->Ipv6<24>(),
                   .protocol = header->U8<6>(),
                   .body = rest.first(std::min(claimed, rest.size())),
                   .claimed = claimed,
                   .quote_depth = quote_depth,
                   .offload = offload});
}

std::string PacketText(View ip, int quote_depth, const Offload& offload) {
  if (ip.empty()) return "nothing";
  switch (ip[0] >> 4) {
    case 4:
      return Ipv4Text(ip, quote_depth, offload);
    case 6:
      return Ipv6Text(ip, quote_depth, offload);
    default:
      return "no IP header, " + Hex(ip);
  }
}

std::string ArpText(View arp) {
  const auto header = Header<kArpBytes>::At(arp);
  if (!header) return CutShort("arp", arp);
  const std::string sender = header->Ipv4<14>().ToString();
  switch (header->U16<6>()) {
    case kArpRequest:
      return "arp who has " + header->Ipv4<24>().ToString() + "? tell " + sender;
    case kArpReply:
      return "arp " + sender + " is at " + MacText(header->Mac<8>());
    default:
      return Format("arp operation %u, ", unsigned{header->U16<6>()}) + Hex(arp);
  }
}

}  // namespace

std::string DescribeFrame(std::span<const uint8_t> frame, const Offload& offload) {
  const auto header = Header<kEthernetHeaderBytes>::At(frame);
  if (!header) return CutShort("ethernet", frame);
  const View body = frame.subspan(kEthernetHeaderBytes);
  switch (header->U16<12>()) {
    case kEtherTypeArp:
      return ArpText(body);
    case kEtherTypeIpv4:
      return Ipv4Text(body, 0, offload);
    case kEtherTypeIpv6:
      return Ipv6Text(body, 0, offload);
    default:
      return Format("ethernet type 0x%04x, ", unsigned{header->U16<12>()}) + Hex(body);
  }
}

}  // namespace penstock
