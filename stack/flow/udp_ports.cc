#include "stack/flow/udp_ports.h"

#include <sys/uio.h>

#include <algorithm>
#include <cstring>

#include "publisher/proxy_header.h"
#include "relay/check.h"
#include "stack/wire/addresses.h"
#include "stack/wire/udp_frames.h"

namespace penstock {

UdpPorts::UdpPorts(const Config& config, const LinkCapabilities& capabilities,
                   const LinkAddresses& link, FrameBatch& batch, Counters& counters,
                   std::vector<Relay*> relays, std::function<void(const IpAddress& guest)> solicit)
    : config_(config),
      capabilities_(capabilities),
      link_(link),
      batch_(batch),
      counters_(counters),
      relays_(std::move(relays)),
      solicit_(std::move(solicit)),
      relay_to_ring_(relays_.size()),
      peers_(config.udp_peer_count_max, config.udp_peer_timeout, counters) {}

UdpPorts::~UdpPorts() = default;

// ---------------------------------------------------------------- ports

void UdpPorts::Add(const PublishedPort& info, std::shared_ptr<DatagramPipe> pipe, Relay& relay) {
  const auto [place, is_new] = ports_.emplace(info.id, std::make_unique<Port>());
  PENSTOCK_CHECK(is_new);
  Port& port = *place->second;
  port.info = info;
  port.id = info.id;
  port.guest = {info.guest.address.is_v4() ? link_.guest4 : link_.guest6, info.guest.port};
  port.gateway = info.guest.address.is_v4() ? config_.ipv4.gateway : config_.ipv6.gateway;
  port.pipe = std::move(pipe);
  port.pipe->stack_port = &port;
  port.relay = &relay;
  port.relay_index =
      static_cast<size_t>(std::find(relays_.begin(), relays_.end(), &relay) - relays_.begin());
  peers_.Open(port);
  // What came before was marked when nobody knew whose it was.
  Take(port);
}

bool UdpPorts::Remove(uint32_t id) {
  const auto found = ports_.find(id);
  if (found == ports_.end()) return false;
  std::unique_ptr<Port> port = std::move(found->second);
  ports_.erase(found);
  peers_.Close(*port);
  port->leaving = true;
  leaving_.push_back(std::move(port));
  return true;
}

void UdpPorts::OnGuestMoved() {
  for (const auto& [id, port] : ports_) {
    const IpAddress& now = port->guest.address.is_v4() ? link_.guest4 : link_.guest6;
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

void UdpPorts::TakeFromRelays() {
  for (Relay* relay : relays_) {
    relay->pipes_to_stack().Serve([this](DatagramPipe& pipe) {
      auto* port = static_cast<Port*>(pipe.stack_port);
      if (port != nullptr) Take(*port);  // else a late mark
    });
  }
}

void UdpPorts::Take(Port& port) {
  // Before anything is taken: what the relay did before its last word is seen below.
  const bool last = port.pipe->relay_done.load(std::memory_order_seq_cst);
  TakeHome(port);
  if (last) return Forget(port);
  if (port.done_told) return;  // what comes now is the relay's to take home
  Datagram* taken = port.pipe->to_guest.TakeInOrder();
  if (taken == nullptr) return;
  (port.waiting_tail == nullptr ? port.waiting_head : port.waiting_tail->next) = taken;
  while (taken->next != nullptr) taken = taken->next;
  port.waiting_tail = taken;
  if (port.leaving || std::exchange(port.ready, true)) return;
  ready_.push_back(&port);
}

void UdpPorts::TakeHome(Port& port) {
  datagrams_.GiveAll(port.pipe->sent.TakeAll(), port.bytes_out);
}

bool UdpPorts::ServeReady(size_t datagrams_max) {
  while (datagrams_max > 0 && !ready_.empty()) {
    std::swap(ready_, serving_);
    for (Port* port : serving_) {
      const size_t turn = std::min(datagrams_max, kTurnDatagrams);
      datagrams_max -= port->leaving ? 0 : Serve(*port, turn);
      port->ready = !port->leaving && port->waiting_head != nullptr;
      if (port->ready) ready_.push_back(port);
    }
    serving_.clear();
  }
  return ready_.empty();
}

size_t UdpPorts::Serve(Port& port, size_t datagrams_max) {
  size_t served = 0;
  for (; served < datagrams_max && port.waiting_head != nullptr; ++served) {
    Datagram* datagram = port.waiting_head;
    port.waiting_head = datagram->next;
    if (port.waiting_head == nullptr) port.waiting_tail = nullptr;
    if (ToGuest(port, *datagram)) {
      in_batch_.emplace_back(&port, datagram);
    } else {
      GiveBack(port, datagram);
    }
  }
  return served;
}

void UdpPorts::AfterFlush() {
  if (!batch_.empty()) return;
  for (const auto& [port, datagram] : in_batch_) GiveBack(*port, datagram);
  in_batch_.clear();
  for (const auto& port : leaving_) {
    if (!port->done_told && !port->ready) SayLastWord(*port);
  }
}

void UdpPorts::GiveBack(Port& port, Datagram* datagram) {
  port.pipe->delivered.Push(datagram);
  port.relay->pipes_to_relay().Mark(port.pipe->for_relay, *port.pipe);
}

void UdpPorts::SayLastWord(Port& port) {
  Take(port);
  while (port.waiting_head != nullptr) {
    Datagram* next = port.waiting_head->next;
    GiveBack(port, port.waiting_head);
    port.waiting_head = next;
  }
  port.waiting_tail = nullptr;
  port.done_told = true;
  port.pipe->stack_done.store(true, std::memory_order_seq_cst);
  port.relay->pipes_to_relay().Mark(port.pipe->for_relay, *port.pipe);
  relay_to_ring_[port.relay_index] = true;
}

// The relay's last word came.
void UdpPorts::Forget(Port& port) {
  PENSTOCK_CHECK(port.bytes_out == 0);
  port.pipe->stack_port = nullptr;
  std::erase_if(leaving_, [&port](const auto& leaving) { return leaving.get() == &port; });
}

void UdpPorts::RingRelays() {
  for (size_t i = 0; i < relays_.size(); ++i) {
    if (!relay_to_ring_[i]) continue;
    relay_to_ring_[i] = false;
    if (relays_[i]->doorbell().RingIfArmed()) counters_.wakes_to_relay.Add(1);
  }
}

void UdpPorts::Shutdown() {
  const auto end = [this](Port& port) {
    TakeHome(port);
    datagrams_.GiveAll(port.pipe->to_host.TakeAll(), port.bytes_out);
    PENSTOCK_CHECK(port.bytes_out == 0);
    DatagramPool& pool = port.relay->datagrams();
    pool.GiveAll(port.pipe->to_guest.TakeAll());
    pool.GiveAll(port.pipe->delivered.TakeAll());
    pool.GiveAll(port.waiting_head);
    port.pipe->stack_port = nullptr;
  };
  for (const auto& [port, datagram] : in_batch_) GiveBack(*port, datagram);
  in_batch_.clear();
  for (const auto& [id, port] : ports_) {
    peers_.Close(*port);
    end(*port);
  }
  for (const auto& port : leaving_) end(*port);
  ports_.clear();
  leaving_.clear();
  ready_.clear();
}

// ---------------------------------------------------------------- to guest

bool UdpPorts::ToGuest(Port& port, Datagram& datagram) {
  if (capabilities_.ethernet && link_.guest_mac == MacAddress{}) {
    counters_.udp_lost_no_guest.Add(1);
    solicit_(port.guest.address);
    return false;
  }
  UdpPeer* peer = PeerOf(port, datagram.path);
  if (peer == nullptr) return false;
  std::span<const uint8_t> payload(datagram.data, datagram.length);
  if (port.info.identity == ClientIdentity::kProxyProtocol) PutProxyHeader(port, datagram, payload);
  const size_t payload_bytes_max =
      port.info.guest.address.is_v4() ? kUdpPayloadBytesMaxIpv4 : kUdpPayloadBytesMaxIpv6;
  if (payload.size() > payload_bytes_max) {
    counters_.udp_lost_oversize.Add(1);
    return false;
  }
  bool referred = false;
  if (!Send(*peer, payload, referred)) {
    counters_.udp_lost_link_full.Add(1);
    return referred;
  }
  counters_.udp_datagrams_to_guest.Add(1);
  counters_.udp_bytes_to_guest.Add(datagram.length);
  port.info.bytes_to_guest += datagram.length;
  return true;
}

// The peer, heard of now; nullptr, counted, if there is none and none may be.
UdpPeer* UdpPorts::PeerOf(Port& port, const DatagramPath& path) {
  if (UdpPeer* peer = peers_.Find(port, path, now_); peer != nullptr) {
    peers_.Refresh(*peer, now_);
    return peer;
  }
  const Endpoint client{path.peer.address.Unmapped(), path.peer.port};
  if (config_.ingress_hook && !config_.ingress_hook({.protocol = PortProtocol::kUdp,
                                                     .client = client,
                                                     .host = HostEndpoint(port, path),
                                                     .guest_port = port.info.guest.port})) {
    counters_.udp_denied.Add(1);
    return nullptr;
  }
  UdpPeer* peer = peers_.Add(port, path, Identity(port, client), now_);
  if (peer == nullptr) counters_.udp_lost_no_port.Add(1);
  return peer;
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

// False: the link is full. `referred`: the batch refers to the payload now, or a part.
bool UdpPorts::Send(const UdpPeer& peer, std::span<const uint8_t> payload, bool& referred) {
  UdpFrames frames({.limits = {.link = link_, .mtu = config_.mtu},
                    .partial_checksum = capabilities_.partial_checksum_to_guest},
                   {.source = peer.seen.destination,
                    .destination = peer.seen.guest,
                    .payload = payload,
                    .identification = identification_++});
  while (const auto frame = frames.Next()) {
    const iovec part{const_cast<uint8_t*>(frame->payload.data()), frame->payload.size()};
    const size_t parts = part.iov_len > 0 ? 1 : 0;
    if (!batch_.Append(frame->header, {}, {&part, parts}, frame->offload)) return false;
    referred = true;
  }
  return true;
}

// ---------------------------------------------------------------- to host

bool UdpPorts::FromGuest(const Packet& packet) {
  UdpPeer* peer = peers_.FindSeen({.guest = {packet.source, packet.source_port},
                                   .destination = {packet.destination, packet.destination_port}},
                                  now_);
  if (peer == nullptr) return false;
  peers_.Refresh(*peer, now_);
  Port& port = static_cast<Port&>(*peer->set);
  Datagram* datagram =
      datagrams_.Take(static_cast<uint32_t>(packet.payload.size()), port.bytes_out);
  if (datagram == nullptr) {
    counters_.Drop(DropCause::kUdpQueueFull);
    return true;
  }
  std::copy(packet.payload.begin(), packet.payload.end(), datagram->data);
  datagram->path = peer->path;
  port.pipe->to_host.Push(datagram);
  port.relay->pipes_to_relay().Mark(port.pipe->for_relay, *port.pipe);
  relay_to_ring_[port.relay_index] = true;
  counters_.frames_consumed.Add(1);
  counters_.udp_datagrams_to_host.Add(1);
  counters_.udp_bytes_to_host.Add(packet.payload.size());
  port.info.bytes_to_host += packet.payload.size();
  return true;
}

}  // namespace penstock
