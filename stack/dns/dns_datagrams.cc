#include "stack/dns/dns_datagrams.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace penstock {

void DnsDatagrams::FromGuest(const Packet& packet, Time now) {
  const Ends ends{.guest = {packet.source, packet.source_port},
                  .asked = {packet.destination, packet.destination_port}};
  std::span<const uint8_t> rest = packet.payload;
  const size_t each = packet.segment_bytes != 0 ? packet.segment_bytes : rest.size();
  do {
    const auto part = rest.first(std::min(each, rest.size()));
    rest = rest.subspan(part.size());
    AskOne(ends, part, now);
  } while (!rest.empty());
  counters_.frames_consumed.Add(1);
}

void DnsDatagrams::AskOne(const Ends& ends, std::span<const uint8_t> message, Time now) {
  const uint64_t token = TokenOf(ends, message);
  if (!asked_.try_emplace(token, ends).second) return counters_.dns_repeated.Add(1);
  service_.Ask({.message = message,
                .transport = DnsTransport::kUdp,
                .guest = ends.guest,
                .asked = ends.asked,
                .asker = this,
                .token = token},
               now);
}

uint64_t DnsDatagrams::TokenOf(const Ends& ends, std::span<const uint8_t> message) const {
  std::array<uint8_t, 44> bytes{};
  const uint64_t hash = SipHash(key_, message);
  std::ranges::copy(ends.guest.address.bytes, bytes.begin());
  std::ranges::copy(ends.asked.address.bytes, bytes.begin() + 16);
  std::memcpy(bytes.data() + 32, &ends.guest.port, 2);
  std::memcpy(bytes.data() + 34, &ends.asked.port, 2);
  std::memcpy(bytes.data() + 36, &hash, 8);
  return SipHash(key_, bytes);
}

void DnsDatagrams::Answer(uint64_t token, std::span<const uint8_t> message) {
  const auto asked = asked_.find(token);
  const Ends ends = asked->second;
  asked_.erase(asked);
  if (message.empty()) return;
  to_guest_.SendUdpCopy({.source = ends.asked, .destination = ends.guest, .payload = message});
}

}  // namespace penstock
