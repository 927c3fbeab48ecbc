#include "stack/flow/guest_datagrams.h"

#include <errno.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "relay/check.h"
#include "stack/wire/addresses.h"
#include "stack/wire/protocols.h"

namespace penstock {
namespace {

constexpr size_t kEchoIdentifierAt = 4;  // in the ICMP header, two bytes

MappingLimits LimitsOf(DatagramKind kind, const Config& config) {
  if (kind == DatagramKind::kEcho) {
    return {.count_max = config.echo_count_max,
            .conversation_count_max = 16 * config.echo_count_max,
            .timeout = config.echo_timeout,
            .answered_timeout = config.echo_timeout,
            .name_timeout = config.echo_timeout};
  }
  return {.count_max = config.udp_mapping_count_max,
          .conversation_count_max = 16 * config.udp_mapping_count_max,
          .filtering = config.udp_filtering,
          .timeout = config.udp_timeout,
          .answered_timeout = config.udp_answered_timeout,
          .name_timeout = config.udp_name_timeout};
}

bool IsLoopback(const IpAddress& address) {
  if (address.is_v4()) return address.bytes[0] == 127;
  return address == *IpAddress::Parse("::1");
}

uint16_t EchoIdentifier(std::span<const uint8_t> message) {
  return static_cast<uint16_t>(message[kEchoIdentifierAt] << 8 | message[kEchoIdentifierAt + 1]);
}

void PutEchoIdentifier(uint16_t identifier, std::span<uint8_t> message) {
  message[kEchoIdentifierAt] = static_cast<uint8_t>(identifier >> 8);
  message[kEchoIdentifierAt + 1] = static_cast<uint8_t>(identifier & 0xff);
}

}  // namespace

GuestDatagrams::GuestDatagrams(DatagramKind kind, const Config& config, DatagramsToGuest& to_guest,
                               DatagramEnds& ends, Counters& counters, Gate& gate)
    : kind_(kind),
      config_(config),
      to_guest_(to_guest),
      ends_(ends),
      counters_(counters),
      gate_(gate),
      mappings_(LimitsOf(kind, config), [this](const Conversation& conversation) {
        gate_.Close(QuestionOf(conversation.mapping->guest, conversation.host),
                    {.flow = conversation.number,
                     .reason = conversation.deadline <= now_ ? "idle" : "ended",
                     .bytes_to_host = conversation.bytes_to_host,
                     .bytes_to_guest = conversation.bytes_to_guest,
                     .age = now_ - conversation.opened_at});
      }) {}

GuestDatagrams::~GuestDatagrams() = default;

void GuestDatagrams::BeginPass(Time now) {
  now_ = now;
  for (int i = 0; i < kExpiriesPerPass; ++i) {
    Mapping* mapping = mappings_.TakeExpired(now);
    if (mapping == nullptr) return;
    if (kind_ == DatagramKind::kUdp) counters_.udp_mappings_expired.Add(1);
    Close(*mapping);
  }
}

const FamilyConfig& GuestDatagrams::FamilyOf(const IpAddress& address) const {
  return address.is_v4() ? config_.ipv4 : config_.ipv6;
}

IpAddress GuestDatagrams::HostOf(const IpAddress& destination) const {
  if (destination != FamilyOf(destination).gateway) return destination;
  return destination.is_v4() ? IpAddress::V4(127, 0, 0, 1) : *IpAddress::Parse("::1");
}

IpAddress GuestDatagrams::SeenAs(const IpAddress& host) const {
  return IsLoopback(host) ? FamilyOf(host).gateway : host;
}

GateQuestion GuestDatagrams::QuestionOf(const Endpoint& guest, const Endpoint& host) const {
  const bool udp = kind_ == DatagramKind::kUdp;
  return {.protocol = udp ? PolicyProtocol::kUdp : PolicyProtocol::kIcmp,
          .guest = guest,
          .peer = {SeenAs(host.address), host.port}};
}

void GuestDatagrams::Deny(const Packet& packet) {
  // At the gateway it is as if nobody listened there.
  const IpAddress& gateway = FamilyOf(packet.destination).gateway;
  const bool nobody = packet.destination == gateway && kind_ == DatagramKind::kUdp;
  counters_.Drop(nobody ? DropCause::kUdpRefused : DropCause::kPolicyDenied);
  if (config_.denial_answer == DenialAnswer::kSilence) return;
  to_guest_.SendError({nobody ? FaultKind::kPort : FaultKind::kProhibited, gateway}, packet.ip);
}

void GuestDatagrams::AddTo(std::vector<FlowInfo>& rows) const {
  mappings_.ForEachConversation([&](const Conversation& conversation) {
    const GateQuestion question = QuestionOf(conversation.mapping->guest, conversation.host);
    rows.push_back({.protocol = question.protocol,
                    .guest = question.guest,
                    .destination = question.peer,
                    .state = conversation.answered ? "answered" : "unanswered",
                    .bytes_to_host = conversation.bytes_to_host,
                    .bytes_to_guest = conversation.bytes_to_guest,
                    .age = now_ - conversation.opened_at});
  });
}

void GuestDatagrams::CutDenied() {
  std::vector<Conversation*> denied;
  mappings_.ForEachConversation([&](Conversation& conversation) {
    if (!gate_.StillAllows(QuestionOf(conversation.mapping->guest, conversation.host))) {
      denied.push_back(&conversation);
    }
  });
  for (Conversation* conversation : denied) {
    Mapping& mapping = *conversation->mapping;
    mappings_.Forget(*conversation);
    counters_.flows_cut.Add(1);
    if (mapping.conversations.oldest() == nullptr) Close(mapping);
  }
}

// ---------------------------------------------------------------- mappings

Mapping* GuestDatagrams::MappingFor(const Endpoint& guest) {
  Mapping* mapping = mappings_.Find(guest);
  if (mapping != nullptr && !mapping->no_socket) return mapping;
  if (mapping != nullptr) Close(*mapping);  // another attempt
  if (leaving_.size() >= kLeavingMax) return nullptr;
  if (mappings_.full()) {
    if (kind_ == DatagramKind::kUdp) counters_.udp_mappings_evicted.Add(1);
    Close(*mappings_.oldest());
  }
  mapping = &mappings_.Add(guest, now_);
  auto pipe = std::make_shared<DatagramPipe>();
  pipe->request = DatagramRequest{.kind = kind_, .family = guest.address.family};
  pipe->may_join = kind_ == DatagramKind::kUdp;
  ends_.Open(*mapping, *this, std::move(pipe), *ends_.relays()[next_relay_]);
  next_relay_ = (next_relay_ + 1) % ends_.relays().size();
  if (kind_ == DatagramKind::kUdp) counters_.udp_mappings_opened.Add(1);
  SetLevel();
  return mapping;
}

void GuestDatagrams::Close(Mapping& mapping) {
  ends_.Close(mapping);
  std::unique_ptr<Mapping> removed = mappings_.Remove(mapping);
  leaving_.emplace(removed.get(), std::move(removed));
  SetLevel();
}

void GuestDatagrams::Forget(DatagramEnd& end) { leaving_.erase(&end); }

void GuestDatagrams::SetLevel() {
  const auto count = static_cast<uint32_t>(mappings_.count());
  (kind_ == DatagramKind::kUdp ? counters_.udp_mappings : counters_.echo_mappings).Set(count);
}

void GuestDatagrams::Shutdown() {
  std::vector<Mapping*> all;
  mappings_.ForEach([&](Mapping& mapping) { all.push_back(&mapping); });
  for (Mapping* mapping : all) ends_.Shutdown(*mappings_.Remove(*mapping));
  for (const auto& [end, mapping] : leaving_) ends_.Shutdown(*mapping);
  leaving_.clear();
  SetLevel();
}

// ---------------------------------------------------------------- to host

void GuestDatagrams::FromGuest(const Packet& packet) {
  const bool udp = kind_ == DatagramKind::kUdp;
  const std::span<const uint8_t> payload = udp ? packet.payload : packet.transport;
  const Endpoint guest{packet.source, udp ? packet.source_port : EchoIdentifier(payload)};
  const Endpoint host{HostOf(packet.destination), udp ? packet.destination_port : uint16_t{0}};
  Mapping* mapping = mappings_.Find(guest);
  // Asked once for each conversation; what is denied costs no socket.
  const GateQuestion question = QuestionOf(guest, host);
  if ((mapping == nullptr || mappings_.Live(*mapping, host, now_) == nullptr) &&
      gate_.Ask(question) == Verdict::kDeny) {
    return Deny(packet);
  }
  mapping = MappingFor(guest);
  if (mapping == nullptr) {
    return counters_.Drop(udp ? DropCause::kUdpMappingLimit : DropCause::kEchoLimit);
  }
  const auto [conversation, is_new, displaces] = mappings_.Sends(*mapping, host, now_);
  if (displaces) counters_.conversations_evicted.Add(1);
  if (is_new) conversation->number = gate_.Open(question);
  conversation->bytes_to_host += payload.size();
  bool sent = false;
  std::span<const uint8_t> rest = payload;
  const size_t each = packet.segment_bytes != 0 ? packet.segment_bytes : payload.size();
  do {
    const auto part = rest.first(std::min(each, rest.size()));
    rest = rest.subspan(part.size());
    sent |= SendOne(*mapping, packet, host, part);
  } while (!rest.empty());
  if (!sent) return counters_.Drop(udp ? DropCause::kUdpQueueFull : DropCause::kEchoQueueFull);
  counters_.frames_consumed.Add(1);
}

bool GuestDatagrams::SendOne(Mapping& mapping, const Packet& packet, const Endpoint& host,
                             std::span<const uint8_t> payload) {
  Datagram* datagram = ends_.NewDatagram(mapping, payload.size());
  if (datagram == nullptr) {
    // Of several in one frame some may find room; the others are lost without a frame.
    if (packet.segment_bytes != 0) counters_.udp_lost_at_socket.Add(1);
    return false;
  }
  // Not ranges::copy: where the source is const, that of g++ 12 copies byte by byte.
  std::copy(payload.begin(), payload.end(), datagram->data);
  datagram->path.peer = host;
  // Who is behind the gateway's own address is no hop away from it.
  const bool alias = host.address != packet.destination;
  datagram->hop_limit = static_cast<uint8_t>(packet.hop_limit - (alias ? 0 : 1));
  datagram->traffic_class = packet.traffic_class & 0xfc;
  datagram->dont_fragment = packet.dont_fragment;
  ends_.Send(mapping, datagram);
  if (kind_ == DatagramKind::kEcho) {
    counters_.echo_requests_to_host.Add(1);
  } else {
    counters_.udp_datagrams_to_host.Add(1);
    counters_.udp_bytes_to_host.Add(payload.size());
  }
  return true;
}

// ---------------------------------------------------------------- to guest

bool GuestDatagrams::ToGuest(DatagramEnd& end, Datagram& datagram) {
  auto& mapping = static_cast<Mapping&>(end);
  if (datagram.fault.kind != FaultKind::kNone) {
    FaultToGuest(mapping, datagram);
    return false;
  }
  // Whom the guest did not speak to, and who gets through all the same, must be one that it
  // may speak to.
  const Endpoint& peer = datagram.path.peer;
  Conversation* conversation = mappings_.Live(mapping, peer, now_);
  const bool may = conversation != nullptr ||
                   config_.udp_filtering == UdpFiltering::kAddressAndPort ||
                   gate_.StillAllows(QuestionOf(mapping.guest, peer));
  if (!may || !mappings_.Hears(mapping, peer, now_)) {
    counters_.udp_filtered.Add(datagram.count());
    return false;
  }
  if (conversation != nullptr) conversation->bytes_to_guest += datagram.length;
  return ReplyToGuest(mapping, datagram);
}

bool GuestDatagrams::ReplyToGuest(const Mapping& mapping, Datagram& datagram) {
  const Endpoint& peer = datagram.path.peer;
  const std::span<uint8_t> payload(datagram.data, datagram.length);
  if (kind_ == DatagramKind::kUdp) {
    return to_guest_
        .SendUdp({.source = {SeenAs(peer.address), peer.port},
                  .destination = mapping.guest,
                  .payload = payload},
                 datagram.segment_bytes)
        .referred;
  }
  if (payload.size() < kIcmpHeaderBytes) return false;
  PutEchoIdentifier(mapping.guest.port, payload);
  return to_guest_
      .SendEcho({.source = SeenAs(peer.address),
                 .destination = mapping.guest.address,
                 .message = payload})
      .referred;
}

FaultKind GuestDatagrams::OnNoSocket(Mapping& mapping, int error) {
  mapping.no_socket = true;
  const bool forbidden = error == EACCES || error == EPERM;
  if (error == EAFNOSUPPORT) return FaultKind::kNetwork;
  if (kind_ == DatagramKind::kUdp || !forbidden) {
    counters_.udp_lost_no_socket.Add(1);
    return FaultKind::kNone;
  }
  counters_.echo_forbidden.Add(1);
  if (config_.warn && !std::exchange(warned_, true)) {
    config_.warn(
        "the guest cannot ping other hosts: this system lets no group of ours open ICMP sockets; "
        "set net.ipv4.ping_group_range to include it, such as \"0 2147483647\"");
  }
  return FaultKind::kProhibited;
}

void GuestDatagrams::FaultToGuest(Mapping& mapping, const Datagram& datagram) {
  const DatagramFault& fault = datagram.fault;
  const FaultKind kind =
      fault.kind == FaultKind::kNoSocket ? OnNoSocket(mapping, fault.error) : fault.kind;
  const bool udp = kind_ == DatagramKind::kUdp;
  if (kind == FaultKind::kNone || (!udp && datagram.length < kIcmpHeaderBytes)) return;

  // The guest's packet once more, as far as it is known.
  constexpr size_t kPayloadBytesMax = 1'280;
  std::array<uint8_t, kIpv6HeaderBytes + kUdpHeaderBytes + kPayloadBytesMax> packet;
  const std::span<uint8_t> payload(datagram.data,
                                   std::min<size_t>(datagram.length, kPayloadBytesMax));
  const Endpoint peer{SeenAs(datagram.path.peer.address), datagram.path.peer.port};
  const bool v4 = peer.address.is_v4();
  const size_t head_bytes = udp ? kUdpHeaderBytes : 0;
  const uint8_t echo_protocol = v4 ? kIpProtocolIcmpv4 : kIpProtocolIcmpv6;
  size_t used = EmitIpHeader({.source = mapping.guest.address,
                              .destination = peer.address,
                              .protocol = udp ? kIpProtocolUdp : echo_protocol,
                              .payload_bytes = static_cast<uint32_t>(head_bytes + payload.size())},
                             packet);
  if (udp) {
    used += EmitUdpHeader({.source = mapping.guest, .destination = peer, .payload = payload},
                          ChecksumState::kComplete, std::span(packet).subspan(used));
  } else {
    PutEchoIdentifier(mapping.guest.port, payload);
  }
  std::copy(payload.begin(), payload.end(), packet.begin() + static_cast<ptrdiff_t>(used));
  used += payload.size();

  // Errors come from who the guest could have asked.
  IpAddress from = SeenAs(fault.offender);
  if (from.is_v4() != v4 || IsNeverAHost(from) || IsLinkLocal(from)) {
    from = FamilyOf(peer.address).gateway;
  }
  to_guest_.SendError({kind, from, fault.mtu}, std::span(packet).first(used));
  counters_.host_errors_to_guest.Add(1);
}

}  // namespace penstock
