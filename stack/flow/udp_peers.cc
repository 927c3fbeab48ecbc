#include "stack/flow/udp_peers.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "relay/check.h"

namespace penstock {
namespace {

// Other ports that are tried where a client's own is in use: several clients behind one
// address that chose the same port by way of different published ports are rare.
constexpr int kAlternativesMax = 64;

}  // namespace

size_t UdpPeers::PathHash::operator()(const PathKey& path) const {
  std::array<uint8_t, 42> bytes;
  std::memcpy(bytes.data(), path.path.peer.address.bytes.data(), 16);
  std::memcpy(bytes.data() + 16, path.path.local.bytes.data(), 16);
  std::memcpy(bytes.data() + 32, &path.path.peer.port, 2);
  std::memcpy(bytes.data() + 34, &path.path.interface, 4);
  std::memcpy(bytes.data() + 38, &path.set_id, 4);
  return SipHash(key, bytes);
}

UdpPeers::UdpPeers(uint32_t count_max, Duration timeout, Counters& counters, OnEnd on_end)
    : count_max_(count_max),
      timeout_(timeout),
      counters_(counters),
      on_end_(std::move(on_end)),
      by_path_(0, PathHash{RandomSipKey()}),
      by_seen_(0, TupleHash{RandomSipKey()}),
      leases_(0, TupleHash{RandomSipKey()}) {}

void UdpPeers::Open(UdpPeerSet& set) {
  Leases& leases = leases_[{.guest = set.guest, .destination = {set.gateway, 0}}];
  if (leases.sets++ == 0) leases.first = next_first_;
}

void UdpPeers::Close(UdpPeerSet& set) {
  while (UdpPeer* peer = set.order.oldest()) Remove(*peer);
  const auto found = leases_.find({.guest = set.guest, .destination = {set.gateway, 0}});
  PENSTOCK_CHECK(found != leases_.end());
  if (--found->second.sets > 0) return;
  next_first_ = (found->second.first + found->second.taken) % kLeaseCount;
  leases_.erase(found);
}

UdpPeer* UdpPeers::Fresh(UdpPeer* peer, Time now) {
  if (!TimeIsUp(*peer, now)) return peer;
  counters_.udp_peers_expired.Add(1);
  Remove(*peer);
  return nullptr;
}

UdpPeer* UdpPeers::Find(const UdpPeerSet& set, const DatagramPath& path, Time now) {
  const auto found = by_path_.find({.set_id = set.id, .path = path});
  return found == by_path_.end() ? nullptr : Fresh(found->second.get(), now);
}

UdpPeer* UdpPeers::FindSeen(const TcpTuple& seen, Time now) {
  const auto found = by_seen_.find(seen);
  return found == by_seen_.end() ? nullptr : Fresh(found->second, now);
}

UdpPeer* UdpPeers::Add(UdpPeerSet& set, const DatagramPath& path, const std::optional<Endpoint>& as,
                       Time now) {
  if (set.count >= count_max_) {
    counters_.udp_peers_evicted.Add(1);
    Remove(*set.order.oldest());
  }
  uint16_t leased_port = 0;
  std::optional<Endpoint> seen;
  if (as.has_value()) seen = Unused(set, *as);
  if (!seen.has_value()) {
    leased_port = Lease(set);
    if (leased_port == 0 && set.count > 0) {
      counters_.udp_peers_evicted.Add(1);
      Remove(*set.order.oldest());
      leased_port = Lease(set);
    }
    if (leased_port == 0) return nullptr;
    seen = Endpoint{set.gateway, leased_port};
  }
  auto peer = std::make_unique<UdpPeer>();
  peer->path = path;
  peer->seen = {.guest = set.guest, .destination = *seen};
  peer->set = &set;
  peer->leased_port = leased_port;
  peer->heard = peer->opened_at = now;
  UdpPeer* added = peer.get();
  const bool is_new =
      by_path_.emplace(PathKey{.set_id = set.id, .path = path}, std::move(peer)).second;
  PENSTOCK_CHECK(is_new);
  by_seen_[added->seen] = added;
  order_.AddNewest(*added);
  set.order.AddNewest(*added);
  ++set.count;
  ++set.total;
  counters_.udp_peers_opened.Add(1);
  counters_.udp_peers.Set(by_path_.size());
  return added;
}

std::optional<Endpoint> UdpPeers::Unused(const UdpPeerSet& set, const Endpoint& as) {
  TcpTuple seen{.guest = set.guest, .destination = as};
  for (int i = 0; i < kAlternativesMax; ++i) {
    if (!by_seen_.contains(seen)) return seen.destination;
    seen.destination.port = static_cast<uint16_t>(kLeaseFirst + next_alternative_);
    next_alternative_ = (next_alternative_ + 1) % kLeaseCount;
  }
  return std::nullopt;
}

uint16_t UdpPeers::Lease(const UdpPeerSet& set) {
  Leases& leases = leases_.find({.guest = set.guest, .destination = {set.gateway, 0}})->second;
  if (leases.taken < kLeaseCount) {
    return static_cast<uint16_t>(kLeaseFirst + (leases.first + leases.taken++) % kLeaseCount);
  }
  if (leases.freed.empty()) return 0;
  const uint16_t port = leases.freed.front();
  leases.freed.pop_front();
  return port;
}

void UdpPeers::Refresh(UdpPeer& peer, Time now) {
  peer.heard = now;
  order_.Remove(peer);
  order_.AddNewest(peer);
  peer.set->order.Remove(peer);
  peer.set->order.AddNewest(peer);
}

void UdpPeers::Remove(UdpPeer& peer) {
  if (on_end_) on_end_(peer);
  UdpPeerSet& set = *peer.set;
  if (peer.leased_port != 0) {
    leases_.find({.guest = set.guest, .destination = {set.gateway, 0}})
        ->second.freed.push_back(peer.leased_port);
  }
  order_.Remove(peer);
  set.order.Remove(peer);
  --set.count;
  by_seen_.erase(peer.seen);
  by_path_.erase(PathKey{.set_id = set.id, .path = peer.path});  // the end of `peer`
  counters_.udp_peers.Set(by_path_.size());
}

void UdpPeers::Expire(Time now, uint32_t count_max) {
  for (; count_max > 0; --count_max) {
    UdpPeer* peer = order_.oldest();
    if (peer == nullptr || !TimeIsUp(*peer, now)) return;
    counters_.udp_peers_expired.Add(1);
    Remove(*peer);
  }
}

Time UdpPeers::next_expiry() const {
  return order_.oldest() == nullptr ? kNever : After(order_.oldest()->heard, timeout_);
}

}  // namespace penstock
