// Who talks to the guest through published UDP ports: for each peer of a port, whom the
// guest sees in its place. Found by hash both ways: by the host's side for what comes, by
// the guest's side for what the guest answers.
//
// A peer lives until nothing was heard of it, from either side, for the timeout, which is
// the same for all: so the one heard of least recently is the next to expire, and a list
// in that order is all the timers there are. A second list in the same order, one for each
// port, says who gives way when the port is full.
//
// Whom the guest sees is unique among the live peers of one guest port, of whatever
// published ports lead to it. The gateway's ports are leased from a queue: the one that
// has been free for longest comes first (RFC 6056 2.3 tells what reuse leads to).
//
// Every operation is O(1). Poll thread.
#ifndef PENSTOCK_STACK_FLOW_UDP_PEERS_H_
#define PENSTOCK_STACK_FLOW_UDP_PEERS_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "relay/datagram_pipe.h"
#include "relay/time.h"
#include "stack/counters.h"
#include "stack/flow/flow_table.h"

namespace penstock {

struct UdpPeerSet;

struct UdpPeer {
  struct Links {
    UdpPeer* older = nullptr;
    UdpPeer* newer = nullptr;
  };

  DatagramPath path;
  TcpTuple seen;  // by the guest: its own end, and whom it takes the peer for
  UdpPeerSet* set = nullptr;
  uint16_t leased_port = 0;  // of the gateway; 0: none
  Time heard;
  Links in_all, in_set;
  // Its owner's.
  uint64_t number = 0;
  uint64_t bytes_to_host = 0, bytes_to_guest = 0;
  Time opened_at{};
};

// Peers in the order in which they were heard of last.
template <UdpPeer::Links UdpPeer::*kLinks>
class UdpPeerOrder final {
 public:
  void AddNewest(UdpPeer& peer) {
    (peer.*kLinks) = {.older = newest_, .newer = nullptr};
    (newest_ == nullptr ? oldest_ : (newest_->*kLinks).newer) = &peer;
    newest_ = &peer;
  }
  void Remove(UdpPeer& peer) {
    const UdpPeer::Links links = peer.*kLinks;
    (links.older == nullptr ? oldest_ : (links.older->*kLinks).newer) = links.newer;
    (links.newer == nullptr ? newest_ : (links.newer->*kLinks).older) = links.older;
  }
  [[nodiscard]] UdpPeer* oldest() const { return oldest_; }

 private:
  UdpPeer* oldest_ = nullptr;
  UdpPeer* newest_ = nullptr;
};

// The peers of one published port.
struct UdpPeerSet {
  uint32_t id = 0;
  Endpoint guest;      // where the port leads
  IpAddress gateway;   // of the same family
  uint32_t count = 0;  // live
  uint64_t total = 0;  // ever
  UdpPeerOrder<&UdpPeer::in_set> order;
};

// The first and the last of the gateway's ports that peers are seen as: those that Linux
// chooses for itself.
inline constexpr uint16_t kLeaseFirst = 32'768, kLeaseLast = 60'999;

class UdpPeers final {
 public:
  // `count_max` of each set, at most as many as there are ports to lease.
  // `on_end` is told of each that is forgotten.
  using OnEnd = std::function<void(const UdpPeer&)>;
  UdpPeers(uint32_t count_max, Duration timeout, Counters& counters, OnEnd on_end = {});
  UdpPeers(const UdpPeers&) = delete;
  UdpPeers& operator=(const UdpPeers&) = delete;

  // `set` stays where it is until Close, which forgets its peers.
  void Open(UdpPeerSet& set);
  void Close(UdpPeerSet& set);

  // nullptr if there is none; one whose time is up is none. Neither call refreshes.
  [[nodiscard]] UdpPeer* Find(const UdpPeerSet& set, const DatagramPath& path, Time now);
  [[nodiscard]] UdpPeer* FindSeen(const TcpTuple& seen, Time now);

  // A peer that is not there. `as`: whom the guest should see if nobody else is seen as
  // that; else the same address with another port, or else, as without `as`, the gateway
  // with a leased port. In a full set the one heard of least recently gives way. nullptr
  // if no port can be leased.
  [[nodiscard]] UdpPeer* Add(UdpPeerSet& set, const DatagramPath& path,
                             const std::optional<Endpoint>& as, Time now);
  void Remove(UdpPeer& peer);
  // Heard of again.
  void Refresh(UdpPeer& peer, Time now);

  // Forgets those whose time is up, at most `count_max` of them.
  void Expire(Time now, uint32_t count_max);
  // When the next one's time is up.
  [[nodiscard]] Time next_expiry() const;

  [[nodiscard]] size_t count() const { return by_path_.size(); }
  template <typename Visitor>
  void ForEach(Visitor&& visit) const {
    for (const auto& [path, peer] : by_path_) visit(*peer);
  }

 private:
  struct PathKey {
    uint32_t set_id = 0;
    DatagramPath path;
    friend bool operator==(const PathKey&, const PathKey&) = default;
  };
  struct PathHash {
    SipKey key;
    size_t operator()(const PathKey& path) const;
  };
  // The gateway's ports towards one guest port.
  struct Leases {
    uint32_t sets = 0;   // that lead there
    uint32_t first = 0;  // of the never used ones, and how many were taken
    uint32_t taken = 0;
    std::deque<uint16_t> freed;
  };
  static constexpr uint32_t kLeaseCount = kLeaseLast - kLeaseFirst + 1;

  [[nodiscard]] bool TimeIsUp(const UdpPeer& peer, Time now) const {
    return After(peer.heard, timeout_) <= now;
  }
  [[nodiscard]] UdpPeer* Fresh(UdpPeer* peer, Time now);
  [[nodiscard]] std::optional<Endpoint> Unused(const UdpPeerSet& set, const Endpoint& as);
  // 0: all are in use.
  [[nodiscard]] uint16_t Lease(const UdpPeerSet& set);

  const uint32_t count_max_;
  const Duration timeout_;
  Counters& counters_;
  const OnEnd on_end_;
  absl::flat_hash_map<PathKey, std::unique_ptr<UdpPeer>, PathHash> by_path_;
  absl::flat_hash_map<TcpTuple, UdpPeer*, TupleHash, TupleEqual> by_seen_;
  // By guest port, as {guest's endpoint, gateway with port 0}.
  absl::flat_hash_map<TcpTuple, Leases, TupleHash, TupleEqual> leases_;
  UdpPeerOrder<&UdpPeer::in_all> order_;
  uint32_t next_first_ = 0;  // so that a port published anew does not begin where the last one did
  uint32_t next_alternative_ = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_FLOW_UDP_PEERS_H_
