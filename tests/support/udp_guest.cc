#include "tests/support/udp_guest.h"

#include <algorithm>

namespace penstock {
namespace {

constexpr uint8_t kUdp = 17, kFragmentHeader = 44;
constexpr size_t kUdpHeader = 8;

IpAddress AddressAt(std::span<const uint8_t> bytes, size_t at, size_t length) {
  return IpAddress::From(bytes.subspan(at, length));
}

void Append16(Bytes& bytes, size_t value) {
  bytes.push_back(static_cast<uint8_t>(value >> 8));
  bytes.push_back(static_cast<uint8_t>(value));
}
void Append32(Bytes& bytes, uint32_t value) {
  Append16(bytes, value >> 16);
  Append16(bytes, value & 0xffff);
}

struct Piece {
  uint32_t identification = 0;
  size_t offset = 0;
  bool more = false;
  bool whole = true;
};

Bytes FrameOf(const GuestDatagram& datagram, const Piece& piece, std::span<const uint8_t> body) {
  const bool v4 = datagram.source.address.is_v4();
  Bytes packet;
  const size_t offset_field = piece.offset / 8;
  if (v4) {
    packet = {0x45, 0};
    Append16(packet, 20 + body.size());
    Append16(packet, piece.identification & 0xffff);
    Append16(packet, piece.whole ? 0x4000 : (piece.more ? 0x2000 : 0) | offset_field);
    packet.insert(packet.end(), {64, kUdp, 0, 0});
  } else {
    packet = {0x60, 0, 0, 0};
    Append16(packet, body.size() + (piece.whole ? 0 : 8));
    packet.insert(packet.end(), {piece.whole ? kUdp : kFragmentHeader, 64});
  }
  for (const IpAddress* address : {&datagram.source.address, &datagram.destination.address}) {
    packet.insert(packet.end(), address->wire().begin(), address->wire().end());
  }
  if (v4) {
    FixIpv4Checksum(packet, 0);
  } else if (!piece.whole) {
    packet.insert(packet.end(), {kUdp, 0});
    Append16(packet, offset_field << 3 | (piece.more ? 1 : 0));
    Append32(packet, piece.identification);
  }
  packet.insert(packet.end(), body.begin(), body.end());
  return EthernetFrame(packet);
}

}  // namespace

// ---------------------------------------------------------------- from the stack

std::optional<GuestDatagram> UdpGuest::Take(std::span<const uint8_t> frame,
                                            const Offload& offload) {
  if (frame.size() < kIpAt + 20) return std::nullopt;
  const std::span<const uint8_t> packet = frame.subspan(kIpAt);
  const bool partial = offload.checksum == ChecksumState::kPartial;
  if (packet[0] >> 4 == 4) {
    if (packet[9] != kUdp) return std::nullopt;
    if (Get16(packet, 2) != packet.size() || packet[0] != 0x45 ||
        SlowSum(packet.first(20)) != 0xffff) {
      return Malformed();
    }
    largest_packet_ = std::max(largest_packet_, packet.size());
    const IpAddress source = AddressAt(packet, 12, 4), destination = AddressAt(packet, 16, 4);
    const uint16_t field = Get16(packet, 6);
    const bool more = (field & 0x2000) != 0;
    const size_t offset = size_t{field & 0x1fffu} * 8;
    if (!more && offset == 0) return TakeWhole(source, destination, packet.subspan(20), partial);
    return TakeFragment({source, destination, Get16(packet, 4)}, offset, more, packet.subspan(20));
  }
  if (packet.size() < 48) return std::nullopt;
  const uint8_t next = packet[6];
  const bool fragment = next == kFragmentHeader && packet[40] == kUdp;
  if (next != kUdp && !fragment) return std::nullopt;
  if (size_t{40} + Get16(packet, 4) != packet.size() || packet[0] >> 4 != 6) return Malformed();
  largest_packet_ = std::max(largest_packet_, packet.size());
  const IpAddress source = AddressAt(packet, 8, 16), destination = AddressAt(packet, 24, 16);
  if (!fragment) return TakeWhole(source, destination, packet.subspan(40), partial);
  const uint16_t field = Get16(packet, 42);
  return TakeFragment({source, destination, Get32(packet, 44)}, field & 0xfff8u, (field & 1) != 0,
                      packet.subspan(48));
}

std::optional<GuestDatagram> UdpGuest::TakeFragment(const SetKey& key, size_t offset, bool more,
                                                    std::span<const uint8_t> piece) {
  if (more && piece.size() % 8 != 0) return Malformed();
  if (!sets_.contains(key)) by_age_.push_back(key);
  Set& set = sets_[key];
  set.pieces[offset] = {piece.begin(), piece.end()};
  if (!more) set.total = offset + piece.size();
  Bytes whole;
  for (const auto& [at, bytes] : set.pieces) {
    if (at != whole.size()) break;  // one is missing still
    whole.insert(whole.end(), bytes.begin(), bytes.end());
  }
  if (by_age_.size() > kSetsMax) {
    sets_.erase(by_age_.front());
    by_age_.pop_front();
  }
  if (!set.total || whole.size() != *set.total) return std::nullopt;
  sets_.erase(key);
  std::erase(by_age_, key);
  return TakeWhole(key.source, key.destination, whole, false);
}

std::optional<GuestDatagram> UdpGuest::TakeWhole(const IpAddress& source,
                                                 const IpAddress& destination,
                                                 std::span<const uint8_t> udp, bool partial) {
  if (udp.size() < kUdpHeader || Get16(udp, 4) != udp.size()) return Malformed();
  // A partial checksum is the sum of the pseudo-header, which SlowTransportSum adds, too.
  Bytes checked(udp.begin(), udp.end());
  if (partial) {
    const uint16_t pseudo = SlowTransportSum(source, destination, kUdp, Bytes(udp.size(), 0));
    if (Get16(udp, 6) != pseudo) return Malformed();
  } else if (Get16(udp, 6) == 0 || SlowTransportSum(source, destination, kUdp, checked) != 0xffff) {
    return Malformed();
  }
  return GuestDatagram{.source = {source, Get16(udp, 0)},
                       .destination = {destination, Get16(udp, 2)},
                       .payload = {udp.begin() + kUdpHeader, udp.end()}};
}

// ---------------------------------------------------------------- to the stack

std::vector<Bytes> UdpGuest::Frames(const GuestDatagram& datagram, size_t mtu) {
  const bool v4 = datagram.source.address.is_v4();
  const size_t ip_header = v4 ? 20 : 40;
  Bytes udp;
  Append16(udp, datagram.source.port);
  Append16(udp, datagram.destination.port);
  Append16(udp, kUdpHeader + datagram.payload.size());
  Append16(udp, 0);
  udp.insert(udp.end(), datagram.payload.begin(), datagram.payload.end());
  const auto sum = static_cast<uint16_t>(
      ~SlowTransportSum(datagram.source.address, datagram.destination.address, kUdp, udp));
  Put16(udp, 6, sum == 0 ? 0xffff : sum);
  if (udp.size() + ip_header <= mtu) return {FrameOf(datagram, {}, udp)};
  const size_t step = (mtu - ip_header - (v4 ? 0 : 8)) / 8 * 8;
  std::vector<Bytes> frames;
  const uint32_t identification = identification_++;
  for (size_t at = 0; at < udp.size(); at += step) {
    const size_t bytes = std::min(step, udp.size() - at);
    frames.push_back(FrameOf(datagram,
                             {.identification = identification,
                              .offset = at,
                              .more = at + bytes < udp.size(),
                              .whole = false},
                             std::span(udp).subspan(at, bytes)));
  }
  return frames;
}

}  // namespace penstock
