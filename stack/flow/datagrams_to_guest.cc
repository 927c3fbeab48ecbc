#include "stack/flow/datagrams_to_guest.h"

#include <sys/uio.h>

#include <algorithm>
#include <array>

#include "stack/wire/protocols.h"

namespace penstock {
namespace {

// Of one frame that the link cuts: as many as any Linux takes (UDP_MAX_SEGMENTS was 64), and
// what fits an IP packet with its headers.
constexpr size_t kSegmentCountMax = 64;
constexpr size_t kSegmentedBytesMax = 65'000;

size_t PayloadBytesMax(const IpAddress& address) {
  return address.is_v4() ? kUdpPayloadBytesMaxIpv4 : kUdpPayloadBytesMaxIpv6;
}

}  // namespace

template <typename Appender>
bool DatagramsToGuest::SendOne(const UdpToGuest& datagram, Appender&& append) {
  UdpFrames frames(
      {.limits = limits(), .partial_checksum = capabilities_.partial_checksum_to_guest}, datagram);
  while (const auto frame = frames.Next()) {
    if (!append(*frame)) return false;
  }
  return true;
}

DatagramsToGuest::Sent DatagramsToGuest::SendUdp(UdpToGuest datagram, uint16_t segment_bytes) {
  Sent sent;
  std::span<const uint8_t> rest = datagram.payload;
  const bool several = segment_bytes != 0 && segment_bytes < rest.size();
  size_t each = several ? segment_bytes : rest.size();
  const bool link_cuts =
      several && capabilities_.udp_gso_to_guest &&
      IpFrames::FitWhole(limits(), datagram.source.address.family, kUdpHeaderBytes + each);
  if (link_cuts) each *= std::clamp<size_t>(kSegmentedBytesMax / each, 1, kSegmentCountMax);
  do {
    datagram.payload = rest.first(std::min(each, rest.size()));
    datagram.identification = NextIdentification();
    datagram.segment_bytes =
        link_cuts && datagram.payload.size() > segment_bytes ? segment_bytes : uint16_t{0};
    rest = rest.subspan(datagram.payload.size());
    const size_t count =
        several ? (datagram.payload.size() + segment_bytes - 1) / segment_bytes : 1;
    if (datagram.payload.size() > PayloadBytesMax(datagram.source.address)) {
      counters_.udp_lost_oversize.Add(1);
    } else if (SendOne(datagram, [&](const IpFrame& frame) { return Append(frame, sent); })) {
      counters_.udp_datagrams_to_guest.Add(count);
      counters_.udp_bytes_to_guest.Add(datagram.payload.size());
      sent.bytes += datagram.payload.size();
    } else {
      counters_.udp_lost_link_full.Add(count);
    }
  } while (!rest.empty());
  return sent;
}

void DatagramsToGuest::SendUdpCopy(UdpToGuest datagram) {
  datagram.identification = NextIdentification();
  if (datagram.payload.size() > PayloadBytesMax(datagram.source.address)) {
    return counters_.udp_lost_oversize.Add(1);
  }
  const bool sent = SendOne(datagram, [this](const IpFrame& frame) {
    return batch_.Append(frame.header, frame.payload, {}, frame.offload);
  });
  if (!sent) return counters_.udp_lost_link_full.Add(1);
  counters_.udp_datagrams_to_guest.Add(1);
  counters_.udp_bytes_to_guest.Add(datagram.payload.size());
}

bool DatagramsToGuest::Append(const IpFrame& frame, Sent& sent) {
  const iovec part{const_cast<uint8_t*>(frame.payload.data()), frame.payload.size()};
  const size_t parts = part.iov_len > 0 ? 1 : 0;
  if (!batch_.Append(frame.header, {}, {&part, parts}, frame.offload)) return false;
  sent.referred = true;
  return true;
}

DatagramsToGuest::Sent DatagramsToGuest::SendEcho(const Echo& echo) {
  Sent sent;
  const bool v4 = echo.source.is_v4();
  const uint8_t protocol = v4 ? kIpProtocolIcmpv4 : kIpProtocolIcmpv6;
  const auto length = static_cast<uint32_t>(echo.message.size());
  const std::span<uint8_t> field = echo.message.subspan(kIcmpChecksumOffset, 2);
  std::ranges::fill(field, uint8_t{0});
  const uint64_t pseudo = v4 ? 0 : PseudoHeaderSum(echo.source, echo.destination, protocol, length);
  const uint16_t checksum = ChecksumFinish(ChecksumAdd(echo.message, pseudo));
  field[0] = static_cast<uint8_t>(checksum >> 8);
  field[1] = static_cast<uint8_t>(checksum & 0xff);
  IpFrames frames(limits(),
                  {.source = echo.source,
                   .destination = echo.destination,
                   .protocol = protocol,
                   .identification = NextIdentification()},
                  echo.message.first(kIcmpHeaderBytes), echo.message.subspan(kIcmpHeaderBytes));
  while (const auto frame = frames.Next()) {
    if (Append(*frame, sent)) continue;
    counters_.replies_lost.Add(1);
    return sent;
  }
  counters_.echo_replies_to_guest.Add(1);
  sent.bytes = echo.message.size();
  return sent;
}

void DatagramsToGuest::SendError(const IcmpError& error, std::span<const uint8_t> original) {
  std::array<uint8_t, kEmittedFrameBytesMax> frame;
  const size_t length = EmitIcmpError(link_, error, original, frame);
  if (length > 0 && !batch_.AppendCopy(std::span(frame).first(length))) {
    counters_.replies_lost.Add(1);
  }
}

}  // namespace penstock
