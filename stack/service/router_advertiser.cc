#include "stack/service/router_advertiser.h"

#include <algorithm>
#include <array>

#include "stack/service/domain_names.h"
#include "stack/wire/addresses.h"
#include "stack/wire/protocols.h"
#include "stack/wire/reader.h"
#include "stack/wire/writer.h"

namespace penstock {
namespace {

// Options of neighbour discovery.
constexpr uint8_t kPrefixInformation = 3, kMtu = 5, kRecursiveDnsServers = 25, kDnsSearchList = 31;
constexpr uint8_t kOtherConfiguration = 0x40;          // flag of the advertisement
constexpr uint8_t kOnLink = 0x80, kAutonomous = 0x40;  // flags of the prefix
constexpr uint8_t kHopLimit = 64;
constexpr size_t kOptionUnitBytes = 8;
// All options there are, with 255 bytes of names.
constexpr size_t kMessageBytesMax = 384;

const IpAddress kAllNodes = *IpAddress::Parse("ff02::1");

std::vector<uint8_t> Padded(std::vector<uint8_t> bytes) {
  bytes.resize((bytes.size() + kOptionUnitBytes - 1) / kOptionUnitBytes * kOptionUnitBytes);
  return bytes;
}

void WritePrefix(const FamilyConfig& family, Writer& writer) {
  IpAddress prefix = family.gateway;
  for (int bit = family.prefix_length; bit < 128; ++bit) {
    prefix.bytes[static_cast<size_t>(bit / 8)] &= static_cast<uint8_t>(~(0x80 >> bit % 8));
  }
  writer.U8(kPrefixInformation);
  writer.U8(4);
  writer.U8(static_cast<uint8_t>(family.prefix_length));
  writer.U8(static_cast<uint8_t>(kOnLink | (family.prefix_length == 64 ? kAutonomous : 0)));
  writer.U32(RouterAdvertiser::kValidSeconds);
  writer.U32(RouterAdvertiser::kPreferredSeconds);
  writer.U32(0);  // reserved
  writer.Bytes(prefix.wire());
}

}  // namespace

RouterAdvertiser::RouterAdvertiser(const Config& config, const HostRoutes& routes,
                                   const LinkAddresses& link, Counters& counters)
    : enabled_(config.ipv6.enabled && config.router_advertisements),
      other_by_dhcp_(config.dhcp),
      ipv6_(config.ipv6),
      mtu_(config.mtu),
      search_(Padded(EncodeDomainNames(config.search_domains))),
      routes_(routes),
      link_(link),
      counters_(counters) {}

bool RouterAdvertiser::IsFor(const Packet& packet) const {
  if (!enabled_ || packet.protocol != Protocol::kIcmpv6) return false;
  const auto header = Header<kIcmpHeaderBytes>::At(packet.transport);
  return header && header->U8<0>() == kRouterSolicitation;
}

ServiceAnswer RouterAdvertiser::Handle(const Packet& packet, Time now, std::span<uint8_t> out) {
  if (!MayAnswer(now)) return {.drop = DropCause::kRouterSolicitationLimit};
  const bool nobody = IsUnspecified(packet.source);
  const size_t length = nobody ? Emit(kAllNodesMacAddress, kAllNodes, out)
                               : Emit(packet.source_mac, packet.source, out);
  if (length == 0) return {.drop = DropCause::kNoBuffer};
  // It has all that an unasked one would tell; a change of routes is told all the same.
  if (next_ == kNever || next_ > now + kDelayMin) next_ = now + kInterval;
  return {.length = length};
}

bool RouterAdvertiser::MayAnswer(Time now) {
  const auto earned = (now - answers_counted_) / kAnswerInterval;
  if (earned > 0) {
    answers_ = static_cast<int>(std::min<int64_t>(answers_ + int64_t{earned}, kAnswersMax));
    answers_counted_ = now;
  }
  if (answers_ == 0) return false;
  --answers_;
  return true;
}

void RouterAdvertiser::OnGuestHeard(Time now) {
  if (enabled_ && next_ == kNever) next_ = now + kFirstInterval;
}

void RouterAdvertiser::OnRoutesChanged(Time now) {
  if (next_ == kNever) return;  // nobody is there; who comes will ask
  next_ = std::min(next_, std::max(now, last_ + kDelayMin));
}

size_t RouterAdvertiser::Advertise(Time now, std::span<uint8_t> out) {
  if (now < next_) return 0;
  next_ = now + kInterval;
  last_ = now;
  return Emit(kAllNodesMacAddress, kAllNodes, out);
}

size_t RouterAdvertiser::Emit(const MacAddress& to, const IpAddress& destination,
                              std::span<uint8_t> out) {
  std::array<uint8_t, kMessageBytesMax> bytes;
  Writer writer(bytes);
  writer.U8(kRouterAdvertisement);
  writer.U8(0);
  writer.U16(0);  // the checksum, later
  writer.U8(kHopLimit);
  writer.U8(other_by_dhcp_ ? kOtherConfiguration : 0);
  writer.U16(static_cast<uint16_t>(routes_.ipv6 ? kRouterLifetimeSeconds : 0));
  writer.U32(0);  // reachable time: not said
  writer.U32(0);  // retransmission timer: not said
  if (link_.ethernet) {
    writer.U8(kSourceLinkLayerAddress);
    writer.U8(1);
    writer.Bytes(link_.gateway_mac);
  }
  writer.U8(kMtu);
  writer.U8(1);
  writer.U16(0);
  writer.U32(mtu_);
  WritePrefix(ipv6_, writer);
  writer.U8(kRecursiveDnsServers);
  writer.U8(3);
  writer.U16(0);
  writer.U32(kRouterLifetimeSeconds);
  writer.Bytes(ipv6_.dns.wire());
  if (!search_.empty()) {
    writer.U8(kDnsSearchList);
    writer.U8(static_cast<uint8_t>(1 + search_.size() / kOptionUnitBytes));
    writer.U16(0);
    writer.U32(kRouterLifetimeSeconds);
    writer.Bytes(search_);
  }
  const size_t length = EmitIcmpv6Frame(link_, to,
                                        {.source = LinkLocalOf(link_.gateway_mac),
                                         .destination = destination,
                                         .bytes = std::span(bytes).first(writer.length())},
                                        out);
  if (length > 0) counters_.router_advertisements_sent.Add(1);
  return length;
}

}  // namespace penstock
