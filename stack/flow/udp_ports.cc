#include "stack/flow/udp_ports.h"

#include <algorithm>
#include <cstring>

#include "publisher/proxy_header.h"
#include "relay/check.h"
#include "stack/wire/addresses.h"

namespace penstock {

UdpPorts::UdpPorts(const Config& config, DatagramsToGuest& to_guest, DatagramEnds& ends,
                   Counters& counters, Gate& gate,
                   std::function<void(const IpAddress& guest)> solicit)
    : config_(config),
      to_guest_(to_guest),
      ends_(ends),
      counters_(counters),
      gate_(gate),
      solicit_(std::move(solicit)),
      peers_(config.udp_peer_count_max, config.udp_peer_timeout, counters,
             [this](const UdpPeer& peer) {
               gate_.Close(QuestionOf(static_cast<const Port&>(*peer.set), peer.path),
                           {.flow = peer.number,
                            .reason = "ended",
                            .bytes_to_host = peer.bytes_to_host,
                            .bytes_to_guest = peer.bytes_to_guest,
                            .age = now_ - peer.opened_at});
             }) {}

UdpPorts::~UdpPorts() = default;

// ---------------------------------------------------------------- ports

void UdpPorts::Add(const PublishedPort& info, std::shared_ptr<DatagramPipe> pipe, Relay& relay) {
  const auto [place, is_new] = ports_.emplace(info.id, std::make_unique<Port>());
  PENSTOCK_CHECK(is_new);
  Port& port = *place->second;
  port.info = info;
  port.id = info.id;
  port.guest = {info.guest.address.is_v4() ? to_guest_.link().guest4 : to_guest_.link().guest6,
                info.guest.port};
  port.gateway = info.guest.address.is_v4() ? config_.ipv4.gateway : config_.ipv6.gateway;
  peers_.Open(port);
  ends_.Open(port, *this, std::move(pipe), relay);
}

bool UdpPorts::Remove(uint32_t id) {
  const auto found = ports_.find(id);
  if (found == ports_.end()) return false;
  std::unique_ptr<Port> port = std::move(found->second);
  ports_.erase(found);
  peers_.Close(*port);
  ends_.Close(*port);
  leaving_.push_back(std::move(port));
  return true;
}

void UdpPorts::OnGuestMoved() {
  for (const auto& [id, port] : ports_) {
    const IpAddress& now =
        port->guest.address.is_v4() ? to_guest_.link().guest4 : to_guest_.link().guest6;
    if (port->guest.address == now) continue;
    peers_.Close(*port);
    port->guest.address = now;
    peers_.Open(*port);
  }
}

bool UdpPorts::Describe(PublishedPort& row) const {
  const auto found = ports_.find(row.id);
  if (found == ports_.end()) return false;
  const Port& port = *found->second;
  row.flows_live = port.count;
  row.flows_total = port.total;
  row.bytes_to_guest = port.info.bytes_to_guest;
  row.bytes_to_host = port.info.bytes_to_host;
  return true;
}

// ---------------------------------------------------------------- a pass

void UdpPorts::BeginPass(Time now) {
  now_ = now;
  peers_.Expire(now, kExpiriesPerPass);
}

void UdpPorts::Forget(DatagramEnd& end) {
  std::erase_if(leaving_, [&end](const auto& leaving) { return leaving.get() == &end; });
}

void UdpPorts::Shutdown() {
  for (const auto& [id, port] : ports_) {
    peers_.Close(*port);
    ends_.Shutdown(*port);
  }
  for (const auto& port : leaving_) ends_.Shutdown(*port);
  ports_.clear();
  leaving_.clear();
}

// ---------------------------------------------------------------- to guest

bool UdpPorts::ToGuest(DatagramEnd& end, Datagram& datagram) {
  auto& port = static_cast<Port&>(end);
  if (!to_guest_.guest_known()) {
    counters_.udp_lost_no_guest.Add(datagram.count());
    solicit_(port.guest.address);
    return false;
  }
  UdpPeer* peer = PeerOf(port, datagram);
  if (peer == nullptr) return false;
  std::span<const uint8_t> payload(datagram.data, datagram.length);
  if (port.info.identity == ClientIdentity::kProxyProtocol) PutProxyHeader(port, datagram, payload);
  const DatagramsToGuest::Sent sent = to_guest_.SendUdp(
      {.source = peer->seen.destination, .destination = peer->seen.guest, .payload = payload},
      datagram.segment_bytes);
  port.info.bytes_to_guest += sent.bytes;
  peer->bytes_to_guest += sent.bytes;
  return sent.referred;
}

// The peer, heard of now; nullptr, counted, if there is none and none may be.
UdpPeer* UdpPorts::PeerOf(Port& port, const Datagram& datagram) {
  const DatagramPath& path = datagram.path;
  if (UdpPeer* peer = peers_.Find(port, path, now_); peer != nullptr) {
    peers_.Refresh(*peer, now_);
    return peer;
  }
  const Endpoint client{path.peer.address.Unmapped(), path.peer.port};
  if (config_.ingress_hook && !config_.ingress_hook({.protocol = PortProtocol::kUdp,
                                                     .client = client,
                                                     .host = HostEndpoint(port, path),
                                                     .guest_port = port.info.guest.port})) {
    counters_.udp_denied.Add(datagram.count());
    return nullptr;
  }
  if (gate_.Ask(QuestionOf(port, path)) == Verdict::kDeny) {
    counters_.udp_denied.Add(datagram.count());
    return nullptr;
  }
  UdpPeer* peer = peers_.Add(port, path, Identity(port, client), now_);
  if (peer == nullptr) {
    counters_.udp_lost_no_port.Add(datagram.count());
    return nullptr;
  }
  peer->number = gate_.Open(QuestionOf(port, path));
  return peer;
}

GateQuestion UdpPorts::QuestionOf(const Port& port, const DatagramPath& path) {
  return {.direction = Direction::kIngress,
          .protocol = PolicyProtocol::kUdp,
          .guest = port.guest,
          .peer = {path.peer.address.Unmapped(), path.peer.port}};
}

void UdpPorts::AddTo(std::vector<FlowInfo>& rows) const {
  peers_.ForEach([&](const UdpPeer& peer) {
    const GateQuestion question = QuestionOf(static_cast<const Port&>(*peer.set), peer.path);
    rows.push_back({.protocol = PolicyProtocol::kUdp,
                    .guest = question.guest,
                    .destination = peer.seen.destination,
                    .client = question.peer,
                    .state = peer.bytes_to_host > 0 ? "answered" : "unanswered",
                    .bytes_to_host = peer.bytes_to_host,
                    .bytes_to_guest = peer.bytes_to_guest,
                    .age = now_ - peer.opened_at});
  });
}

void UdpPorts::CutDenied() {
  std::vector<UdpPeer*> denied;
  peers_.ForEach([&](UdpPeer& peer) {
    if (!gate_.StillAllows(QuestionOf(static_cast<Port&>(*peer.set), peer.path))) {
      denied.push_back(&peer);
    }
  });
  for (UdpPeer* peer : denied) peers_.Remove(*peer);
  counters_.flows_cut.Add(denied.size());
}

Endpoint UdpPorts::HostEndpoint(const Port& port, const DatagramPath& path) {
  const bool asked = path.local != IpAddress();
  return {(asked ? path.local : port.info.bound.address).Unmapped(), port.info.bound.port};
}

std::optional<Endpoint> UdpPorts::Identity(const Port& port, const Endpoint& client) const {
  if (port.info.identity != ClientIdentity::kPreserveSource) return std::nullopt;
  const FamilyConfig& family = port.guest.address.is_v4() ? config_.ipv4 : config_.ipv6;
  return GuestCanAnswer(client.address, family) ? std::optional(client) : std::nullopt;
}

// In front of the datagram, where the relay left room for it.
void UdpPorts::PutProxyHeader(const Port& port, Datagram& datagram,
                              std::span<const uint8_t>& payload) {
  const Endpoint client{datagram.path.peer.address.Unmapped(), datagram.path.peer.port};
  const std::vector<uint8_t> header =
      ProxyHeader(PortProtocol::kUdp, client, HostEndpoint(port, datagram.path));
  PENSTOCK_CHECK(header.size() <= kDatagramHeadroomBytes);
  uint8_t* begin = datagram.data - header.size();
  std::memcpy(begin, header.data(), header.size());
  payload = {begin, header.size() + payload.size()};
}

// ---------------------------------------------------------------- to host

bool UdpPorts::FromGuest(const Packet& packet) {
  UdpPeer* peer = peers_.FindSeen({.guest = {packet.source, packet.source_port},
                                   .destination = {packet.destination, packet.destination_port}},
                                  now_);
  if (peer == nullptr) return false;
  peers_.Refresh(*peer, now_);
  Port& port = static_cast<Port&>(*peer->set);
  bool sent = false;
  std::span<const uint8_t> rest = packet.payload;
  const size_t each = packet.segment_bytes != 0 ? packet.segment_bytes : rest.size();
  do {
    const auto part = rest.first(std::min(each, rest.size()));
    rest = rest.subspan(part.size());
    sent |= SendOne(port, *peer, part, packet.segment_bytes != 0);
  } while (!rest.empty());
  if (sent) {
    counters_.frames_consumed.Add(1);
  } else {
    counters_.Drop(DropCause::kUdpQueueFull);
  }
  return true;
}

bool UdpPorts::SendOne(Port& port, UdpPeer& peer, std::span<const uint8_t> payload, bool several) {
  Datagram* datagram = ends_.NewDatagram(port, payload.size());
  if (datagram == nullptr) {
    // Of several in one frame some may find room; the others are lost without a frame.
    if (several) counters_.udp_lost_at_socket.Add(1);
    return false;
  }
  std::copy(payload.begin(), payload.end(), datagram->data);
  datagram->path = peer.path;
  ends_.Send(port, datagram);
  counters_.udp_datagrams_to_host.Add(1);
  counters_.udp_bytes_to_host.Add(payload.size());
  port.info.bytes_to_host += payload.size();
  peer.bytes_to_host += payload.size();
  return true;
}

}  // namespace penstock
