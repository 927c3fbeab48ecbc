// The ingress phase of a pass: what becomes of a frame, from the link to the service, flow,
// port or mapping that it is for, or to the name of a drop. The part of Stack::Impl that
// looks at packets; see stack_impl.h.
#include <algorithm>
#include <utility>
#include <variant>

#include "stack/stack_impl.h"
#include "stack/wire/addresses.h"
#include "stack/wire/claim.h"
#include "stack/wire/icmp.h"
#include "stack/wire/ip_frames.h"
#include "stack/wire/protocols.h"

namespace penstock {

void Stack::Impl::ReceiveFrames() {
  // The first frame after a silence goes on alone: a request does not wait until the link
  // was asked whether it has more. It hardly ever has.
  bool alone = std::exchange(link_drained_, false);
  size_t pass_bytes = 0;
  for (size_t total = 0; total < kFramesPerPass && pass_bytes < kBytesPerPass;) {
    const auto room = std::span(frames_).first(alone ? 1 : frames_.size());
    const size_t count = link_->Receive(now_, room);
    if (count > 0 && now_ - last_frame_ > std::chrono::seconds(1)) flows_->OnGuestAwake();
    if (count > 0) last_frame_ = now_;
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; ++i) {
      bytes += frames_[i].length;
      HandleFrame(frames_[i], i);
    }
    counters_.frames_to_host.Add(count);
    counters_.link_bytes_to_host.Add(bytes);
    pass_bytes += bytes;
    total += count;
    if (count < room.size()) {
      link_drained_ = true;
      return;
    }
    if (std::exchange(alone, false)) PassOn();
  }
}

void Stack::Impl::HandleFrame(const FrameToHost& frame, size_t slot) {
  ParseResult parsed = Parse(frame, parse_options_);
  if (MayHaveNewMac(parsed)) parsed = Parse(frame, parse_options_);
  if (const auto* cause = std::get_if<DropCause>(&parsed)) {
    counters_.Drop(*cause);
    if (gate_.events().on()) TellRefused(frame, *cause);
    return;
  }
  if (const auto* fragment = std::get_if<Fragment>(&parsed)) return HandleFragment(*fragment);
  auto& packet = std::get<Packet>(parsed);
  if (!parse_options_.guest_mac.has_value()) LearnGuestMac(packet);
  HandlePacket(packet, slots_[slot]);
  if (slots_[slot] == nullptr) {
    GuestBuffer* fresh = flows_->buffers().TakeReserved(kFrameBytesMax);
    fresh->is_slot = true;
    slots_[slot] = fresh;
    frames_[slot].room = fresh->room();
  }
}

void Stack::Impl::TellRefused(const FrameToHost& frame, DropCause cause) {
  EventLayer layer;
  switch (cause) {
    case DropCause::kFalseSourceMac:
    case DropCause::kFalseSourceAddress:
      layer = EventLayer::kLink;
      break;
    case DropCause::kMartianAddress:
    case DropCause::kFamilyOff:
    case DropCause::kIpv4SourceRoute:
    case DropCause::kIpv6RoutingTypeZero:
      layer = EventLayer::kAddress;
      break;
    default:
      return;  // malformed, or what every guest says to nobody in particular
  }
  const size_t link_bytes = capabilities_.ethernet ? kEthernetHeaderBytes : 0;
  const auto claim = ReadClaim(frame.bytes().subspan(std::min(link_bytes, frame.bytes().size())));
  if (!claim) return;
  PolicyProtocol protocol = PolicyProtocol::kIcmp;
  if (claim->ip_protocol == kIpProtocolTcp) protocol = PolicyProtocol::kTcp;
  if (claim->ip_protocol == kIpProtocolUdp) protocol = PolicyProtocol::kUdp;
  gate_.TellDenied({.protocol = protocol, .guest = claim->source, .peer = claim->destination},
                   layer, Name(cause));
}

void Stack::Impl::HandleFragment(const Fragment& fragment) {
  const std::optional<Reassembly::Datagram> datagram = reassembly_->Add(fragment, now_);
  if (!datagram) return;
  GuestBuffer* buffer = datagram->buffer;
  ParseResult parsed = ParseDatagram(datagram->bytes, fragment.source_mac, parse_options_);
  if (auto* packet = std::get_if<Packet>(&parsed)) {
    if (!parse_options_.guest_mac.has_value()) LearnGuestMac(*packet);
    const CounterSnapshot before = counters_.Snapshot();
    buffer->is_slot = true;  // until it is known whether a flow keeps it
    HandlePacket(*packet, buffer);
    counters_.CountAgain(before, datagram->fragments - 1);
  } else {
    counters_.Drop(std::get<DropCause>(parsed), datagram->fragments);
  }
  if (buffer != nullptr) flows_->buffers().Give(buffer);
}

void Stack::Impl::HandlePacket(Packet& packet, GuestBuffer*& buffer) {
  if (HopLimitExceeded(packet)) return;
  services_.See(packet, now_);
  switch (packet.protocol) {
    case Protocol::kTcp:
      if (flows_->Segment(packet, *buffer)) buffer = nullptr;
      return;
    case Protocol::kUdp:
      if (!HandleService(packet) && !udp_ports_->FromGuest(packet)) HandleUdp(packet);
      return;
    case Protocol::kIcmpv4:
    case Protocol::kIcmpv6:
      return HandleIcmp(packet);
    case Protocol::kArp:
      return AskGateway(packet);
  }
}

void Stack::Impl::HandleIcmp(const Packet& packet) {
  if (HandleService(packet)) return;
  if (const auto report = ParsePathMtu(packet); report && flows_->OnPathMtu(*report)) {
    counters_.frames_consumed.Add(1);
    return;
  }
  if (const auto quoted = ParseUnreachable(packet); quoted && flows_->OnUnreachable(*quoted)) {
    counters_.frames_consumed.Add(1);
    return;
  }
  if (!IsEchoRequest(packet)) return AskGateway(packet);
  if (gateway_.IsOurs(packet.destination)) {
    if (!EchoDenied(packet)) AskGateway(packet);
    return;
  }
  if (!RefusedBehindGuest(packet)) guest_echo_->FromGuest(packet);
}

void Stack::Impl::AskGateway(const Packet& packet) {
  const Gateway::Answer answer =
      gateway_.Handle(packet, addresses_, {reply_.get(), kFrameBytesMax});
  if (answer.drop.has_value()) return counters_.Drop(*answer.drop);
  counters_.frames_consumed.Add(1);
  Reply(answer.length);
}

bool Stack::Impl::HandleService(const Packet& packet) {
  const auto answer = services_.Handle(packet, now_, {reply_.get(), kFrameBytesMax});
  if (!answer) return false;
  if (parse_options_.leased4 != services_.leased()) {
    parse_options_.leased4 = services_.leased();
    const bool leased = services_.leased().has_value();
    gate_.Tell({.kind = EventKind::kLease,
                .guest = {services_.leased().value_or(IpAddress()), 0},
                .reason = leased ? "leased" : "released"});
  }
  if (answer->drop.has_value()) {
    counters_.Drop(*answer->drop);
    return true;
  }
  counters_.frames_consumed.Add(1);
  Reply(answer->length);
  return true;
}

void Stack::Impl::RunServices() {
  Reply(services_.Tick(now_, {reply_.get(), kFrameBytesMax}));
  if (services_.TakeGuestMoved()) udp_ports_->OnGuestMoved();
}

bool Stack::Impl::IsForDns(const Endpoint& destination) const {
  if (!dns_ || destination.port != kDnsPort) return false;
  const IpAddress& address = destination.address;
  const bool to_one_host = !IsNeverAHost(address) && !IsMulticast(address);
  return gateway_.IsOurs(address) || (config_.dns.intercept && to_one_host);
}

void Stack::Impl::HandleUdp(const Packet& packet) {
  if (IsForDns({packet.destination, packet.destination_port})) {
    return dns_datagrams_->FromGuest(packet, now_);
  }
  const IpAddress& destination = packet.destination;
  const bool to_one_host = !IsNeverAHost(destination) && !IsMulticast(destination);
  if (to_one_host && (!gateway_.IsOurs(destination) || destination == OwnAddress(destination))) {
    if (!RefusedBehindGuest(packet)) guest_udp_->FromGuest(packet);
    return;
  }
  // Nobody listens: the guest is told, rather than left to wait (but not of a broadcast).
  counters_.Drop(DropCause::kUdpRefused);
  datagrams_to_guest_.SendError({FaultKind::kPort, packet.destination}, packet.ip);
}

bool Stack::Impl::EchoDenied(const Packet& packet) {
  const GateQuestion question{.protocol = PolicyProtocol::kIcmp,
                              .guest = {packet.source, 0},
                              .peer = {packet.destination, 0}};
  if (gate_.Ask(question) != Verdict::kDeny) return false;
  counters_.Drop(DropCause::kPolicyDenied);
  if (config_.denial_answer != DenialAnswer::kSilence) {
    datagrams_to_guest_.SendError({FaultKind::kProhibited, OwnAddress(packet.destination)},
                                  packet.ip);
  }
  return true;
}

bool Stack::Impl::RefusedBehindGuest(const Packet& packet) {
  const IpAddress& destination = packet.destination;
  if (!IsBehindGuest(destination, destination.is_v4() ? config_.ipv4 : config_.ipv6)) return false;
  counters_.Drop(DropCause::kForbiddenDestination);
  gate_.TellDenied(
      {.protocol = packet.protocol == Protocol::kUdp ? PolicyProtocol::kUdp : PolicyProtocol::kIcmp,
       .guest = {packet.source, packet.source_port},
       .peer = {packet.destination, packet.destination_port}},
      EventLayer::kAddress, Name(DropCause::kForbiddenDestination));
  datagrams_to_guest_.SendError({FaultKind::kHost, OwnAddress(destination)}, packet.ip);
  return true;
}

bool Stack::Impl::HopLimitExceeded(const Packet& packet) {
  if (packet.hop_limit > 1 || packet.protocol == Protocol::kArp ||
      gateway_.IsOurs(packet.destination) || IsMulticast(packet.destination) ||
      IsNeverAHost(packet.destination)) {  // such as DHCP's broadcast
    return false;
  }
  counters_.Drop(DropCause::kHopLimit);
  datagrams_to_guest_.SendError({FaultKind::kHopLimit, OwnAddress(packet.destination)}, packet.ip);
  return true;
}

const IpAddress& Stack::Impl::OwnAddress(const IpAddress& destination) const {
  return destination.is_v4() ? config_.ipv4.gateway : config_.ipv6.gateway;
}

void Stack::Impl::Reply(size_t length) {
  if (length == 0) return;
  const size_t link_bytes = capabilities_.ethernet ? kEthernetHeaderBytes : 0;
  if (length > link_bytes + config_.mtu) {
    return ReplyInFragments({reply_.get() + link_bytes, length - link_bytes});
  }
  if (!batch_.AppendCopy({reply_.get(), length})) counters_.replies_lost.Add(1);
}

// The answer to what came in fragments.
void Stack::Impl::ReplyInFragments(std::span<const uint8_t> packet) {
  IpFrames frames = IpFrames::Of({.link = addresses_, .mtu = config_.mtu}, packet,
                                 datagrams_to_guest_.NextIdentification());
  while (const auto frame = frames.Next()) {
    // Copied: the next answer is written to the same place.
    if (!batch_.Append(frame->header, frame->payload, {}, frame->offload)) {
      counters_.replies_lost.Add(1);
      return;
    }
  }
}

// True if `parsed` was refused for its MAC, but the link was reset since that was learned:
// the next valid frame tells the new one. Until then the old one is spoken to.
bool Stack::Impl::MayHaveNewMac(const ParseResult& parsed) {
  const auto* cause = std::get_if<DropCause>(&parsed);
  if (cause == nullptr || *cause != DropCause::kFalseSourceMac || config_.guest_mac) return false;
  if (std::exchange(link_resets_, link_->resets()) == link_->resets()) return false;
  counters_.link_resets.Add(1);
  parse_options_.guest_mac.reset();
  return true;
}

// From the first valid frame on the guest's MAC is fixed.
void Stack::Impl::LearnGuestMac(const Packet& packet) {
  if (!capabilities_.ethernet) return;
  parse_options_.guest_mac = packet.source_mac;
  addresses_.guest_mac = packet.source_mac;
  flows_->OnGuestKnown();
}

}  // namespace penstock
