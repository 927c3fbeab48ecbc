#include "tests/world/strays.h"

#include <algorithm>
#include <utility>

#include "tests/support/packet_builder.h"

namespace penstock::world {
namespace {

// Beyond any window, before or behind.
constexpr int64_t kFar = int64_t{1} << 24;
constexpr int64_t kFarthest = int64_t{1} << 30;
// Above those that a guest's own fragments have (world_link.cc).
constexpr uint64_t kFragmentsOfStrays = 0x8000;

}  // namespace

Strays::Strays(const Config& config, const MacAddress& guest_mac, uint64_t seed, int64_t fragments)
    : config_(config),
      macs_{.source = guest_mac, .destination = config.gateway_mac},
      fragments_(fragments),
      dice_(seed ^ 0x737472617973),
      fragment_dice_(seed ^ 0x667261676d656e74),
      question_dice_(seed ^ 0x7175657374696f6e) {}

void Strays::Observe(std::span<const uint8_t> frame) {
  std::optional<GuestSegment> segment = DecodeFrame(frame, {});
  if (!segment || segment->Has(kTcpSyn) || segment->Has(kTcpRst)) return;
  segment->payload.clear();
  segment->sack.clear();
  segment->flags = kTcpAck;
  const auto known = std::find_if(live_.begin(), live_.end(), [&](const GuestSegment& other) {
    return other.source == segment->source && other.destination == segment->destination;
  });
  if (known != live_.end()) {
    *known = *std::move(segment);
  } else {
    live_.push_back(*std::move(segment));
  }
}

GuestSegment Strays::IntoLiveFlow() {
  GuestSegment segment = live_[dice_.Below(live_.size())];
  const uint64_t kind = dice_.Below(6);
  const int64_t distance = dice_.From(kFar, kFarthest);
  segment.sequence += static_cast<uint32_t>(dice_.From(0, 1) == 1 ? -distance : distance);
  switch (kind) {
    case 0:
      segment.flags = kTcpRst;
      break;
    case 1:
      segment.flags = kTcpRst | kTcpAck;
      break;
    case 2:
      segment.flags = kTcpFin | kTcpAck;
      break;
    default:  // a bare ACK. No SYN: where the flow is over it would rightly begin another
      break;
    case 4:
      segment.payload = std::string(dice_.Below(200) + 1, 'x');
      break;
    case 5:
      segment.flags = kTcpFin | kTcpAck | kTcpPsh;
      segment.payload = std::string(dice_.Below(1000) + 1, 'y');
      break;
  }
  return segment;
}

GuestSegment Strays::OfNoFlow() {
  const bool v6 = config_.ipv6.enabled && dice_.From(0, 1) == 1;
  GuestSegment segment;
  segment.source = {.address = v6 ? config_.ipv6.guest : config_.ipv4.guest,
                    .port = static_cast<uint16_t>(dice_.From(1, 1023))};
  segment.destination = {
      .address = v6 ? *IpAddress::Parse("2001:db8::99") : IpAddress::V4(192, 0, 2, 99),
      .port = static_cast<uint16_t>(dice_.From(1, 99))};
  segment.flags = dice_.OneOf<uint8_t>({kTcpSyn, kTcpSyn, kTcpAck, kTcpRst, kTcpFin | kTcpAck,
                                        kTcpSyn | kTcpAck, kTcpRst | kTcpAck});
  segment.sequence = static_cast<uint32_t>(dice_.Next());
  if (segment.Has(kTcpAck)) segment.acknowledgement = static_cast<uint32_t>(dice_.Next());
  segment.window = static_cast<uint16_t>(dice_.Next());
  if (segment.Has(kTcpSyn)) segment.mss = static_cast<uint16_t>(dice_.Next());
  if (dice_.PerMille(300)) segment.payload = std::string(dice_.Below(500), 'z');
  return segment;
}

std::vector<uint8_t> Strays::Garbage() {
  std::vector<uint8_t> frame(dice_.Below(200));
  for (uint8_t& byte : frame) byte = static_cast<uint8_t>(dice_.Next());
  if (frame.size() >= 14 && dice_.PerMille(800)) {
    std::copy(macs_.destination.begin(), macs_.destination.end(), frame.begin());
    std::copy(macs_.source.begin(), macs_.source.end(), frame.begin() + 6);
    const uint16_t type = dice_.OneOf<uint16_t>({0x0800, 0x86dd, 0x0806, 0x8100});
    frame[12] = static_cast<uint8_t>(type >> 8);
    frame[13] = static_cast<uint8_t>(type);
    if (frame.size() > 14 && type == 0x0800) frame[14] = 0x45;
    if (frame.size() > 14 && type == 0x86dd) frame[14] = 0x60;
  }
  return frame;
}

// Few identifications and few places, so that they meet.
std::vector<uint8_t> Strays::Fragment() {
  Dice& dice = fragment_dice_;
  const bool v6 = config_.ipv6.enabled && dice.From(0, 1) == 1;
  IpSpec ip{.source = v6 ? config_.ipv6.guest : config_.ipv4.guest,
            .destination = v6 ? *IpAddress::Parse("2001:db8::99") : IpAddress::V4(192, 0, 2, 99)};
  if (dice.PerMille(50)) ip.source = ip.destination;
  if (v6 && dice.PerMille(100)) ip.extensions = {{60, {0}}};
  FragmentSpec fragment{
      .offset = static_cast<uint32_t>(dice.Below(6)) * 16,
      .more = dice.PerMille(700),
      .data = Bytes(dice.Below(3) * 16, static_cast<uint8_t>(dice.From(0, 1))),
      .protocol = dice.OneOf<uint8_t>({6, 17, 200, 44}),
      .identification = static_cast<uint32_t>(kFragmentsOfStrays + dice.Below(8))};
  if (dice.PerMille(50)) fragment.offset = 65'528 - static_cast<uint32_t>(dice.Below(8)) * 8;
  if (dice.PerMille(50)) fragment.data.resize(dice.Below(1200));
  return EthernetFrame(FragmentPacket(ip, fragment),
                       {.destination = macs_.destination, .source = macs_.source});
}

void Strays::QueueFragments() {
  Dice& dice = fragment_dice_;
  Bytes frame;
  if (live_.empty() || dice.PerMille(500)) {
    const bool v6 = config_.ipv6.enabled && dice.From(0, 1) == 1;
    const IpSpec ip{.source = v6 ? config_.ipv6.guest : config_.ipv4.guest,
                    .destination = v6 ? config_.ipv6.gateway : config_.ipv4.gateway};
    frame = EthernetFrame(
        IpPacket(ip, EchoRequest(v6 ? Family::kIpv6 : Family::kIpv4, Bytes(dice.Below(9'000)))),
        {.destination = macs_.destination, .source = macs_.source});
  } else {
    frame = EncodeFrame(macs_, IntoLiveFlow()).bytes;
  }
  const auto identification = static_cast<uint32_t>(kFragmentsOfStrays + 0x100 + dice.Below(8));
  for (Bytes& fragment : CutFrame(frame, dice.From(3, 150) * 8, identification)) {
    if (!dice.PerMille(50)) queued_.push_back(std::move(fragment));
  }
}

std::vector<uint8_t> Strays::RouterSolicitation() {
  const IpSpec ip{.source = Address(question_dice_.PerMille(500) ? "::" : "fe80::5"),
                  .destination = Address("ff02::2"),
                  .hop_limit = 255};
  return EthernetFrame(IpPacket(ip, Icmpv6Message({.type = 133})),
                       {.destination = {0x33, 0x33, 0, 0, 0, 2}, .source = macs_.source});
}

std::vector<uint8_t> Strays::Next() {
  if (fragment_dice_.PerMille(fragments_)) {
    if (queued_.empty() && fragment_dice_.PerMille(300)) QueueFragments();
    if (queued_.empty()) return Fragment();
    std::vector<uint8_t> fragment = std::move(queued_.front());
    queued_.pop_front();
    return fragment;
  }
  if (config_.ipv6.enabled && question_dice_.PerMille(30)) return RouterSolicitation();
  const uint64_t kind = dice_.Below(10);
  if (kind == 0) return Garbage();
  if (kind <= 3 || live_.empty()) return EncodeFrame(macs_, OfNoFlow()).bytes;
  return EncodeFrame(macs_, IntoLiveFlow()).bytes;
}

}  // namespace penstock::world
