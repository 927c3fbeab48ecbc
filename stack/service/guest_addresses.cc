#include "stack/service/guest_addresses.h"

#include "stack/wire/addresses.h"
#include "stack/wire/protocols.h"
#include "stack/wire/reader.h"

namespace penstock {
namespace {

// The target of a solicitation for duplicates or of an advertisement.
std::optional<IpAddress> OwnTarget(const Packet& packet) {
  if (packet.protocol != Protocol::kIcmpv6) return std::nullopt;
  const auto message = Header<24>::At(packet.transport);
  if (!message) return std::nullopt;
  const bool probe = message->U8<0>() == kNeighbourSolicitation && IsUnspecified(packet.source);
  if (!probe && message->U8<0>() != kNeighbourAdvertisement) return std::nullopt;
  return message->Ipv6<8>();
}

}  // namespace

GuestAddresses::GuestAddresses(const Config& config, LinkAddresses& link)
    : ipv4_(config.ipv4), ipv6_(config.ipv6), link_(link) {
  link_.guest4 = ipv4_.guest;
  link_.guest6 = ipv6_.guest;
}

void GuestAddresses::See(const Packet& packet, Time now) {
  if (packet.source.is_v4()) return;
  if (packet.source == link_.guest6 && known_ && !newest_) return;  // as nearly always
  if (InPrefix(packet.source, ipv6_.gateway, ipv6_.prefix_length)) SeeAddress(packet.source, now);
  const std::optional<IpAddress> target = OwnTarget(packet);
  if (target && *target != ipv6_.gateway && *target != ipv6_.dns &&
      InPrefix(*target, ipv6_.gateway, ipv6_.prefix_length)) {
    SeeAddress(*target, now);
  }
}

void GuestAddresses::SeeAddress(const IpAddress& address, Time now) {
  if (!known_ || address == link_.guest6) {
    if (newest_) answered_until_ = now + kAnswerLasts;
    known_ = true;
    newest_.reset();
    next_ = kNever;
    return Move(address);
  }
  if (!link_.ethernet) return Move(address);
  if (now < answered_until_) return;
  if (!newest_) {
    questions_ = 0;
    next_ = now;
  }
  newest_ = address;
}

void GuestAddresses::SetLease(const std::optional<IpAddress>& address) {
  const IpAddress& now = address.value_or(ipv4_.guest);
  if (now == link_.guest4) return;
  link_.guest4 = now;
  changed_ = true;
}

void GuestAddresses::Move(const IpAddress& address) {
  if (address == link_.guest6) return;
  link_.guest6 = address;
  changed_ = true;
}

std::optional<IpAddress> GuestAddresses::Question(Time now) {
  if (now < next_) return std::nullopt;
  if (questions_ == kQuestionCount) {
    Move(*newest_);
    newest_.reset();
    next_ = kNever;
    return std::nullopt;
  }
  ++questions_;
  next_ = now + kQuestionInterval;
  return link_.guest6;
}

}  // namespace penstock
