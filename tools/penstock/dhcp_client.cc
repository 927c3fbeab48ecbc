#include "tools/penstock/dhcp_client.h"

#include <algorithm>
#include <bit>

#include "stack/service/domain_names.h"

namespace penstock::tool {
namespace {

const IpAddress kEverybody = IpAddress::V4(255, 255, 255, 255);

constexpr std::array kWanted{
    static_cast<uint8_t>(DhcpOption::kSubnetMask),
    static_cast<uint8_t>(DhcpOption::kRouter),
    static_cast<uint8_t>(DhcpOption::kDnsServer),
    static_cast<uint8_t>(DhcpOption::kMtu),
    static_cast<uint8_t>(DhcpOption::kRenewalTime),
    static_cast<uint8_t>(DhcpOption::kSearchDomains),
};

std::array<uint8_t, 4> Bytes(uint32_t number) {
  return {static_cast<uint8_t>(number >> 24), static_cast<uint8_t>(number >> 16),
          static_cast<uint8_t>(number >> 8), static_cast<uint8_t>(number)};
}

// nullopt if the message lacks what a lease must have.
std::optional<DhcpLease> LeaseOf(const DhcpMessage& message) {
  const auto server = message.FindAddress(DhcpOption::kServerId);
  const auto mask = message.FindSeconds(DhcpOption::kSubnetMask);  // any 32 bits
  const auto seconds = message.FindSeconds(DhcpOption::kLeaseTime);
  if (!server || !mask || !seconds || *seconds == 0) return std::nullopt;
  DhcpLease lease{.address = message.offered(),
                  .prefix_length = std::popcount(*mask),
                  .server = *server,
                  .router = message.FindAddress(DhcpOption::kRouter),
                  .nameservers = {},
                  .search = {},
                  .mtu = {},
                  .seconds = *seconds};
  auto servers = message.Find(DhcpOption::kDnsServer).value_or(std::span<const uint8_t>{});
  for (; servers.size() >= 4; servers = servers.subspan(4)) {
    lease.nameservers.push_back(IpAddress::From(servers.first(4)));
  }
  if (const auto search = message.Find(DhcpOption::kSearchDomains)) {
    lease.search = DecodeDomainNames(*search);
  }
  const auto mtu = message.Find(DhcpOption::kMtu);
  if (mtu && mtu->size() == 2) lease.mtu = static_cast<uint16_t>((*mtu)[0] << 8 | (*mtu)[1]);
  return lease;
}

}  // namespace

DhcpClient::DhcpClient(const MacAddress& hardware, uint32_t seed)
    : hardware_(hardware), transaction_(seed) {}

void DhcpClient::Enter(State state, Time now) {
  state_ = state;
  sent_ = 0;
  next_ = now;
}

void DhcpClient::Select(Time now) {
  lease_.reset();
  lease_ends_ = kNever;
  ++transaction_;
  Enter(State::kSelecting, now);
}

std::optional<DhcpClient::Outgoing> DhcpClient::Tick(Time now) {
  if (now < next_) return std::nullopt;
  if (now >= lease_ends_ || (state_ == State::kRequesting && sent_ == kRequestsMax)) {
    Select(now);
  } else if (state_ == State::kBound) {
    ++transaction_;
    Enter(State::kRenewing, now);
  }
  next_ = std::min(now + kFirstWait * (1 << std::min(sent_, kDoublingsMax)), lease_ends_);
  ++sent_;
  return Write();
}

bool DhcpClient::Receive(std::span<const uint8_t> payload, Time now) {
  const std::optional<DhcpMessage> message = DhcpMessage::Read(payload);
  if (!message || message->operation() != kBootReply ||
      !std::ranges::equal(message->transaction(), Bytes(transaction_)) ||
      !std::ranges::equal(message->hardware_address(), hardware_)) {
    return false;
  }
  const std::optional<DhcpType> type = message->type();
  if (state_ == State::kSelecting) {
    if (type != DhcpType::kOffer || !LeaseOf(*message)) return false;
    offered_ = message->offered();
    server_ = *message->FindAddress(DhcpOption::kServerId);
    Enter(State::kRequesting, now);
    return false;
  }
  if (state_ == State::kBound) return false;
  if (type == DhcpType::kNak) {
    const bool had = lease_.has_value();
    Select(now);
    // Not at once: a server that refuses what it offers would be asked for ever.
    next_ = now + kFirstWait;
    return had;
  }
  return type == DhcpType::kAck && Accept(*message, now);
}

bool DhcpClient::Accept(const DhcpMessage& message, Time now) {
  std::optional<DhcpLease> lease = LeaseOf(message);
  if (!lease) return false;
  lease_ = *std::move(lease);
  state_ = State::kBound;
  if (lease_->seconds == DhcpLease::kForever) {
    lease_ends_ = next_ = kNever;
    return true;
  }
  const uint32_t half = lease_->seconds / 2;
  const uint32_t renewal = message.FindSeconds(DhcpOption::kRenewalTime).value_or(half);
  lease_ends_ = now + std::chrono::seconds(lease_->seconds);
  next_ = now + std::chrono::seconds(std::clamp(renewal, 1U, lease_->seconds));
  return true;
}

DhcpClient::Outgoing DhcpClient::Write() const {
  const std::array<uint8_t, 4> transaction = Bytes(transaction_);
  const bool renews = state_ == State::kRenewing;
  DhcpWriter writer({.operation = kBootRequest,
                     .transaction = transaction,
                     .broadcast = !renews,  // without an address there is no other way back
                     .client = renews ? lease_->address : IpAddress{},
                     .offered = {},
                     .hardware_address = hardware_},
                    state_ == State::kSelecting ? DhcpType::kDiscover : DhcpType::kRequest);
  if (state_ == State::kRequesting) {
    writer.Put(DhcpOption::kRequestedAddress, offered_);
    writer.Put(DhcpOption::kServerId, server_);
  }
  writer.Put(DhcpOption::kParameterList, kWanted);
  const std::span<const uint8_t> bytes = writer.Finish();
  return {.destination = renews ? lease_->server : kEverybody,
          .bytes = {bytes.begin(), bytes.end()}};
}

}  // namespace penstock::tool
