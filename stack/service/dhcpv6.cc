#include "stack/service/dhcpv6.h"

#include <algorithm>
#include <optional>

#include "stack/service/domain_names.h"
#include "stack/wire/addresses.h"
#include "stack/wire/reader.h"
#include "stack/wire/writer.h"

namespace penstock {
namespace {

// RFC 8415 7.3
constexpr uint8_t kSolicit = 1, kAdvertise = 2, kRequest = 3, kRenew = 5, kReply = 7, kRelease = 8,
                  kDecline = 9, kInformationRequest = 11;
// RFC 8415 21, RFC 3646
constexpr uint16_t kClientId = 1, kServerId = 2, kNonTemporary = 3, kTemporary = 4, kStatus = 13,
                   kDnsServers = 23, kDomainList = 24, kPrefixDelegation = 25, kRefreshTime = 32;
// RFC 8415 21.13
constexpr uint16_t kNoAddrsAvail = 2, kNoBinding = 3, kNoPrefixAvail = 6;
// RFC 8415 11.1: a type and 1 to 128 bytes.
constexpr size_t kDuidBytesMin = 3, kDuidBytesMax = 130;
// Settings, identifiers and as many associations as are answered fit well.
constexpr size_t kReplyBytesMax = 1'024;

const IpAddress kAllServers = *IpAddress::Parse("ff02::1:2");

}  // namespace

struct Dhcpv6Server::Message {
  struct Association {
    uint16_t kind = 0;
    uint32_t id = 0;
  };
  uint8_t type = 0;
  std::span<const uint8_t> transaction;
  std::span<const uint8_t> client;  // empty: none
  std::span<const uint8_t> server;
  std::array<Association, kAssociationCountMax> associations{};
  size_t association_count = 0;

  // nullopt if an option does not end inside the message, or is not what it says.
  static std::optional<Message> Read(std::span<const uint8_t> bytes) {
    const auto header = Header<4>::At(bytes);
    if (!header) return std::nullopt;
    Message message{.type = header->U8<0>(), .transaction = bytes.subspan(1, 3)};
    bytes = bytes.subspan(4);
    while (!bytes.empty()) {
      const auto option = Header<4>::At(bytes);
      if (!option || option->U16<2>() > bytes.size() - 4) return std::nullopt;
      const auto data = bytes.subspan(4, option->U16<2>());
      if (!message.Take(option->U16<0>(), data)) return std::nullopt;
      bytes = bytes.subspan(4 + data.size());
    }
    return message;
  }

  // What is inside an association is not looked at: nothing there is granted.
  bool Take(uint16_t code, std::span<const uint8_t> data) {
    switch (code) {
      case kClientId:
      case kServerId: {
        auto& id = code == kClientId ? client : server;
        if (!id.empty() || data.size() < kDuidBytesMin || data.size() > kDuidBytesMax) return false;
        id = data;
        return true;
      }
      case kNonTemporary:
      case kPrefixDelegation:
      case kTemporary:
        if (data.size() < (code == kTemporary ? 4u : 12u)) return false;
        if (association_count < associations.size()) {
          associations[association_count++] = {code, Header<4>::At(data)->U32<0>()};
        }
        return true;
      default:
        return true;
    }
  }

  void WriteAssociations(Writer& writer) const {
    const bool had = type == kRenew || type == kRelease || type == kDecline;
    for (const Association& association : std::span(associations).first(association_count)) {
      const bool times = association.kind != kTemporary;
      writer.U16(association.kind);
      writer.U16(times ? 18 : 10);
      writer.U32(association.id);
      if (times) {
        writer.U32(0);  // T1 and T2: the client's choice
        writer.U32(0);
      }
      writer.U16(kStatus);
      writer.U16(2);
      writer.U16(had                                     ? kNoBinding
                 : association.kind == kPrefixDelegation ? kNoPrefixAvail
                                                         : kNoAddrsAvail);
    }
  }
};

Dhcpv6Server::Dhcpv6Server(const Config& config, const LinkAddresses& link, Counters& counters)
    : enabled_(config.ipv6.enabled && config.dhcp),
      dns_(config.ipv6.dns),
      search_(EncodeDomainNames(config.search_domains)),
      link_(link),
      counters_(counters) {
  Writer writer(duid_);
  writer.U16(3);  // by link-layer address (RFC 8415 11.4)
  writer.U16(1);  // Ethernet
  writer.Bytes(config.gateway_mac);
}

bool Dhcpv6Server::IsFor(const Packet& packet) const {
  return enabled_ && packet.protocol == Protocol::kUdp && packet.destination == kAllServers &&
         packet.destination_port == kDhcpv6ServerPort;
}

ServiceAnswer Dhcpv6Server::Handle(const Packet& packet, std::span<uint8_t> out) const {
  const std::optional<Message> message = Message::Read(packet.payload);
  if (!message) return {.drop = DropCause::kDhcpv6Malformed};
  if (!MayAnswer(*message)) return {.drop = DropCause::kDhcpv6Ignored};
  return Answer(*message, packet, out);
}

// RFC 8415 16: what must be discarded.
bool Dhcpv6Server::MayAnswer(const Message& message) const {
  const bool for_us = std::ranges::equal(message.server, duid_);
  switch (message.type) {
    case kSolicit:
      return !message.client.empty() && message.server.empty();
    case kRequest:
    case kRenew:
    case kRelease:
    case kDecline:
      return !message.client.empty() && for_us;
    case kInformationRequest:
      return message.association_count == 0 && (message.server.empty() || for_us);
    default:
      return false;
  }
}

ServiceAnswer Dhcpv6Server::Answer(const Message& message, const Packet& packet,
                                   std::span<uint8_t> out) const {
  std::array<uint8_t, kReplyBytesMax> bytes;
  Writer writer(bytes);
  const auto option = [&writer](uint16_t code, std::span<const uint8_t> data) {
    if (data.empty()) return;
    writer.U16(code);
    writer.U16(static_cast<uint16_t>(data.size()));
    writer.Bytes(data);
  };
  writer.U8(message.type == kSolicit ? kAdvertise : kReply);
  writer.Bytes(message.transaction);
  option(kClientId, message.client);
  option(kServerId, duid_);
  message.WriteAssociations(writer);
  if (message.type == kSolicit || message.type == kRequest || message.type == kInformationRequest) {
    option(kDnsServers, dns_.wire());
    option(kDomainList, search_);
  }
  if (message.type == kInformationRequest) {
    writer.U16(kRefreshTime);
    writer.U16(4);
    writer.U32(kRefreshSeconds);
  }
  const size_t length = EmitUdpFrame(link_, packet.source_mac,
                                     {.source = {LinkLocalOf(link_.gateway_mac), kDhcpv6ServerPort},
                                      .destination = {packet.source, kDhcpv6ClientPort},
                                      .payload = std::span(bytes).first(writer.length())},
                                     out);
  if (length == 0) return {.drop = DropCause::kNoBuffer};
  counters_.dhcpv6_replies_sent.Add(1);
  return {.length = length};
}

}  // namespace penstock
