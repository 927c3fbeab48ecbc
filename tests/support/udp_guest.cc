#include "tests/support/udp_guest.h"

#include <algorithm>

namespace penstock {
namespace {

constexpr uint8_t kUdpProtocol = 17, kFragmentHeader = 44;
constexpr size_t kUdpHeader = 8;

IpAddress AddressAt(std::span<const uint8_t> bytes, size_t at, size_t length) {
  return IpAddress::From(bytes.subspan(at, length));
}

}  // namespace

// ---------------------------------------------------------------- from the stack

std::optional<GuestDatagram> UdpGuest::Take(std::span<const uint8_t> frame,
                                            const Offload& offload) {
  if (frame.size() < kIpAt + 20) return std::nullopt;
  const std::span<const uint8_t> packet = frame.subspan(kIpAt);
  const bool partial = offload.checksum == ChecksumState::kPartial;
  if (packet[0] >> 4 == 4) {
    if (packet[9] != kUdpProtocol) return std::nullopt;
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
  const bool fragment = next == kFragmentHeader && packet[40] == kUdpProtocol;
  if (next != kUdpProtocol && !fragment) return std::nullopt;
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
    const uint16_t pseudo =
        SlowTransportSum(source, destination, kUdpProtocol, Bytes(udp.size(), 0));
    if (Get16(udp, 6) != pseudo) return Malformed();
  } else if (Get16(udp, 6) == 0 ||
             SlowTransportSum(source, destination, kUdpProtocol, checked) != 0xffff) {
    return Malformed();
  }
  return GuestDatagram{.source = {source, Get16(udp, 0)},
                       .destination = {destination, Get16(udp, 2)},
                       .payload = {udp.begin() + kUdpHeader, udp.end()}};
}

// ---------------------------------------------------------------- to the stack

std::vector<Bytes> UdpGuest::Frames(const GuestDatagram& datagram, size_t mtu) {
  const IpSpec ip{.source = datagram.source.address, .destination = datagram.destination.address};
  const Transport udp = UdpDatagram({.source_port = datagram.source.port,
                                     .destination_port = datagram.destination.port,
                                     .payload = datagram.payload});
  const size_t headers = ip.source.is_v4() ? 20 : 40;
  if (udp.bytes.size() + headers <= mtu)
    return {EthernetFrame(IpPacket(ip, udp), {.source = mac_})};
  const size_t fragment_header = ip.source.is_v4() ? 0 : 8;
  const size_t bytes = (mtu - headers - fragment_header) / 8 * 8;
  std::vector<Bytes> frames;
  for (const Bytes& packet : FragmentPackets(ip, udp, bytes, identification_++)) {
    frames.push_back(EthernetFrame(packet, {.source = mac_}));
  }
  return frames;
}

}  // namespace penstock
