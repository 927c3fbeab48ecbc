#include "stack/service/dhcp.h"

#include <algorithm>

#include "stack/service/domain_names.h"
#include "stack/wire/addresses.h"
#include "stack/wire/reader.h"

namespace penstock {
namespace {

uint32_t Number(const IpAddress& address) { return Header<4>::At(address.wire())->U32<0>(); }

IpAddress FromNumber(uint32_t number) {
  return IpAddress::V4(static_cast<uint8_t>(number >> 24), static_cast<uint8_t>(number >> 16),
                       static_cast<uint8_t>(number >> 8), static_cast<uint8_t>(number));
}

const IpAddress kEverybody = IpAddress::V4(255, 255, 255, 255);

// FNV-1a. A guest that makes two of its names collide shares a lease with itself.
uint64_t Hash(std::span<const uint8_t> bytes, uint64_t hash) {
  for (const uint8_t byte : bytes) hash = (hash ^ byte) * 0x100'0000'01b3;
  return hash;
}

// nullopt: nobody.
std::optional<uint64_t> ClientOf(const DhcpMessage& message) {
  constexpr uint64_t kBasis = 0xcbf2'9ce4'8422'2325;
  if (const auto id = message.Find(DhcpOption::kClientId)) return Hash(*id, kBasis);
  if (message.hardware_address().empty()) return std::nullopt;
  return Hash(message.hardware_address(), Hash(std::array{message.hardware_type()}, kBasis));
}

uint32_t HostMask(int prefix_length) {
  return static_cast<uint32_t>(uint64_t{0xffff'ffff} >> prefix_length);
}

std::string WithoutDot(std::string name) {
  if (name.ends_with('.')) name.pop_back();
  return name;
}

std::span<const uint8_t> BytesOf(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

ServiceAnswer Ignored() { return {.drop = DropCause::kDhcpIgnored}; }

}  // namespace

DhcpServer::DhcpServer(const Config& config, const HostRoutes& routes, const LinkAddresses& link,
                       Counters& counters)
    : enabled_(config.ipv4.enabled && config.dhcp),
      ipv4_(config.ipv4),
      mtu_(static_cast<uint16_t>(std::min(config.mtu, 0xffffu))),
      lease_seconds_(static_cast<uint32_t>(
          std::chrono::duration_cast<std::chrono::seconds>(config.dhcp_lease_time).count())),
      host_name_(WithoutDot(config.guest_host_name)),
      domain_(config.search_domains.empty() ? "" : WithoutDot(config.search_domains.front())),
      search_(EncodeDomainNames(config.search_domains)),
      routes_(routes),
      link_(link),
      counters_(counters) {
  if (!enabled_) return;
  const uint32_t hosts = HostMask(ipv4_.prefix_length);
  network_ = Number(ipv4_.gateway) & ~hosts;
  broadcast_ = network_ | hosts;
  pool_first_ = Number(config.dhcp_pool_first.value_or(ipv4_.guest));
  pool_last_ = config.dhcp_pool_last ? Number(*config.dhcp_pool_last)
                                     : std::max(broadcast_ - 1, pool_first_);
  next_ = pool_first_;
}

bool DhcpServer::IsFor(const Packet& packet) const {
  return enabled_ && packet.protocol == Protocol::kUdp && packet.source.is_v4() &&
         packet.destination_port == kDhcpServerPort && packet.source_port == kDhcpClientPort &&
         (packet.destination == kEverybody || packet.destination == ipv4_.gateway);
}

ServiceAnswer DhcpServer::Handle(const Packet& packet, Time now, std::span<uint8_t> out) {
  const std::optional<DhcpMessage> message = DhcpMessage::Read(packet.payload);
  if (!message) return {.drop = DropCause::kDhcpMalformed};
  const std::optional<DhcpType> type = message->type();
  // BOOTP, a server's message, a relay's, or nobody's.
  if (message->operation() != kBootRequest || !type || !IsUnspecified(message->relay()) ||
      !ClientOf(*message)) {
    return Ignored();
  }
  now_ = now;
  to_ = packet.source_mac;
  out_ = out;
  switch (*type) {
    case DhcpType::kDiscover:
      return Discover(*message);
    case DhcpType::kRequest:
      return Request(*message);
    case DhcpType::kInform:
      return Inform(*message);
    case DhcpType::kRelease:
    case DhcpType::kDecline:
      return GiveBack(*message, *type);
    case DhcpType::kOffer:
    case DhcpType::kAck:
    case DhcpType::kNak:
      break;
  }
  return Ignored();
}

// ---------------------------------------------------------------- leases

bool DhcpServer::IsOurs(uint32_t address) const {
  const bool in_pool = address >= pool_first_ && address <= pool_last_;
  return (in_pool || address == Number(ipv4_.guest)) && address != Number(ipv4_.gateway) &&
         address != Number(ipv4_.dns) && address != network_ && address != broadcast_;
}

bool DhcpServer::IsFreeFor(uint64_t client, uint32_t address) const {
  return IsOurs(address) && std::ranges::none_of(leases_, [&](const Lease& lease) {
           const bool own = lease.client == client && lease.state != State::kDeclined;
           return lease.address == address && lease.until > now_ && !own;
         });
}

DhcpServer::Lease* DhcpServer::FindClient(uint64_t client) {
  const auto found = std::ranges::find_if(leases_, [client](const Lease& lease) {
    return lease.client == client && lease.state != State::kDeclined;
  });
  return found == leases_.end() ? nullptr : &*found;
}

std::optional<uint32_t> DhcpServer::Choose(const DhcpMessage& message, uint64_t client) {
  const Lease* had = FindClient(client);
  if (had != nullptr && IsFreeFor(client, had->address)) return had->address;
  if (const auto wish = message.FindAddress(DhcpOption::kRequestedAddress)) {
    if (IsFreeFor(client, Number(*wish))) return Number(*wish);
  }
  const uint32_t guest = Number(ipv4_.guest);
  if (IsFreeFor(client, guest)) return guest;
  // One address more than can be taken, and the stack's own two.
  const uint64_t pool = uint64_t{pool_last_} - pool_first_ + 1;
  for (uint64_t i = 0; i < std::min<uint64_t>(pool, kLeaseCountMax + 3); ++i) {
    const uint32_t address = next_;
    next_ = next_ >= pool_last_ ? pool_first_ : next_ + 1;
    if (IsFreeFor(client, address)) return address;
  }
  return std::nullopt;
}

DhcpServer::Lease* DhcpServer::Take(uint64_t client, uint32_t address) {
  // An expired one of somebody else's is over for good.
  std::erase_if(leases_, [&](const Lease& other) {
    return other.address == address && other.client != client;
  });
  Lease* lease = FindClient(client);
  if (lease == nullptr) {
    if (leases_.size() >= kLeaseCountMax) {
      const auto oldest = std::ranges::min_element(
          leases_, [](const Lease& a, const Lease& b) { return a.until < b.until; });
      if (oldest->until > now_ && oldest->state != State::kOffered) return nullptr;
      leases_.erase(oldest);
    }
    lease = &leases_.emplace_back();
  }
  if (lease->address != address) *lease = {.client = client, .address = address};
  return lease;
}

// ---------------------------------------------------------------- messages

ServiceAnswer DhcpServer::Discover(const DhcpMessage& message) {
  const uint64_t client = *ClientOf(message);
  const std::optional<uint32_t> address = Choose(message, client);
  Lease* lease = address ? Take(client, *address) : nullptr;
  if (lease == nullptr) return {.drop = DropCause::kDhcpNoAddress};
  if (lease->state != State::kLeased || lease->until <= now_) {
    lease->state = State::kOffered;
    lease->until = now_ + kOfferTime;
  }
  DhcpFields fields = Reply(message);
  fields.offered = FromNumber(lease->address);
  DhcpWriter writer(fields, DhcpType::kOffer);
  PutLeaseTimes(writer);
  PutSettings(writer);
  const ServiceAnswer answer = Send(message, writer, fields.offered, message.wants_broadcast());
  if (answer.length > 0) counters_.dhcp_offers_sent.Add(1);
  return answer;
}

ServiceAnswer DhcpServer::Request(const DhcpMessage& message) {
  const uint64_t client = *ClientOf(message);
  const auto server = message.FindAddress(DhcpOption::kServerId);
  if (server && *server != ipv4_.gateway) return Ignored();  // another server was chosen
  const auto requested = message.FindAddress(DhcpOption::kRequestedAddress);
  const IpAddress wish = requested.value_or(message.client());
  if (IsUnspecified(wish)) return Ignored();
  Lease* lease = nullptr;
  if (IsFreeFor(client, Number(wish))) lease = Take(client, Number(wish));
  if (lease == nullptr) {
    DhcpWriter writer(Reply(message), DhcpType::kNak);
    writer.Put(DhcpOption::kServerId, ipv4_.gateway);
    const ServiceAnswer answer = Send(message, writer, kEverybody, true);
    if (answer.length > 0) counters_.dhcp_naks_sent.Add(1);
    return answer;
  }
  lease->state = State::kLeased;
  lease->until = now_ + std::chrono::seconds(lease_seconds_);
  leased_ = wish;
  DhcpFields fields = Reply(message);
  fields.client = message.client();
  fields.offered = wish;
  DhcpWriter writer(fields, DhcpType::kAck);
  PutLeaseTimes(writer);
  PutSettings(writer);
  const bool has_address = !IsUnspecified(message.client());
  const ServiceAnswer answer =
      Send(message, writer, wish, message.wants_broadcast() && !has_address);
  if (answer.length > 0) counters_.dhcp_leases_given.Add(1);
  return answer;
}

// A guest that has an address, and wants to know the rest.
ServiceAnswer DhcpServer::Inform(const DhcpMessage& message) {
  if (!InPrefix(message.client(), ipv4_.gateway, ipv4_.prefix_length)) return Ignored();
  DhcpFields fields = Reply(message);
  fields.client = message.client();
  DhcpWriter writer(fields, DhcpType::kAck);
  PutSettings(writer);
  const ServiceAnswer answer = Send(message, writer, message.client(), false);
  if (answer.length > 0) counters_.dhcp_informs_answered.Add(1);
  return answer;
}

// Neither is answered.
ServiceAnswer DhcpServer::GiveBack(const DhcpMessage& message, DhcpType type) {
  const auto server = message.FindAddress(DhcpOption::kServerId);
  const bool release = type == DhcpType::kRelease;
  const std::optional<IpAddress> address = release
                                               ? std::optional(message.client())
                                               : message.FindAddress(DhcpOption::kRequestedAddress);
  Lease* lease = FindClient(*ClientOf(message));
  if ((server && *server != ipv4_.gateway) || !address || lease == nullptr ||
      lease->address != Number(*address)) {
    return Ignored();
  }
  // A released one is kept for who had it until somebody needs it.
  lease->until = release ? now_ : now_ + kDeclinedTime;
  lease->state = release ? State::kOffered : State::kDeclined;
  (release ? counters_.dhcp_leases_released : counters_.dhcp_leases_declined).Add(1);
  if (leased_ == address) leased_.reset();
  return {};
}

// ---------------------------------------------------------------- replies

DhcpFields DhcpServer::Reply(const DhcpMessage& message) const {
  return {.operation = kBootReply,
          .hardware_type = message.hardware_type(),
          .transaction = message.transaction(),
          .broadcast = message.wants_broadcast(),
          .client = {},
          .offered = {},
          .hardware_address = message.hardware_address()};
}

void DhcpServer::PutLeaseTimes(DhcpWriter& writer) const {
  writer.PutU32(DhcpOption::kLeaseTime, lease_seconds_);
  writer.PutU32(DhcpOption::kRenewalTime, lease_seconds_ / 2);
  writer.PutU32(DhcpOption::kRebindingTime,
                static_cast<uint32_t>(uint64_t{lease_seconds_} * 7 / 8));
}

// In the order of what is missed most, should there be no room.
void DhcpServer::PutSettings(DhcpWriter& writer) const {
  writer.Put(DhcpOption::kServerId, ipv4_.gateway);
  writer.PutU32(DhcpOption::kSubnetMask, ~HostMask(ipv4_.prefix_length));
  if (routes_.ipv4) writer.Put(DhcpOption::kRouter, ipv4_.gateway);
  writer.Put(DhcpOption::kDnsServer, ipv4_.dns);
  writer.PutU16(DhcpOption::kMtu, mtu_);
  writer.Put(DhcpOption::kHostName, BytesOf(host_name_));
  writer.Put(DhcpOption::kSearchDomains, search_);
  writer.Put(DhcpOption::kDomainName, BytesOf(domain_));
}

// The client's identifier comes last: it may be as long as it likes.
ServiceAnswer DhcpServer::Send(const DhcpMessage& message, DhcpWriter& writer,
                               const IpAddress& client_address, bool broadcast) {
  if (const auto id = message.Find(DhcpOption::kClientId)) writer.Put(DhcpOption::kClientId, *id);
  const size_t length =
      EmitUdpFrame(link_, broadcast ? kBroadcastMacAddress : to_,
                   {.source = {ipv4_.gateway, kDhcpServerPort},
                    .destination = {broadcast ? kEverybody : client_address, kDhcpClientPort},
                    .payload = writer.Finish()},
                   out_);
  if (length == 0) return {.drop = DropCause::kNoBuffer};
  return {.length = length};
}

}  // namespace penstock
