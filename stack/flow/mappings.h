// The guest's own sockets for datagrams as the host knows them. A *mapping* is one of them
// (RFC 4787): an address and port of the guest's, or an address and an echo identifier, with
// one socket of the host's, whomever it talks to. A *conversation* is a mapping and one
// endpoint on the host's side that it has sent to: only those may answer (section 5 there), and
// each says how long it is remembered.
//
//   guest 10.0.2.15:5000 ── mapping ─┬─ conversation ── 203.0.113.1:3478
//                                    └─ conversation ── 198.51.100.7:3478
//
// A mapping lives as long as the last of its conversations, which live from datagram to
// datagram, either way; its socket may stay open for a second more. Beyond the limits the one
// used least recently gives way, to within a second. For with many mappings little of one is
// in a cache: its neighbours in lists and heaps are touched once a second at most.
//
// Every operation is O(1), but for the order of deadlines (deadlines.h), which traffic
// hardly touches. Poll thread.
#ifndef PENSTOCK_STACK_FLOW_MAPPINGS_H_
#define PENSTOCK_STACK_FLOW_MAPPINGS_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/container/flat_hash_map.h"
#include "relay/endpoint.h"
#include "relay/time.h"
#include "stack/config.h"
#include "stack/flow/datagram_ends.h"
#include "stack/flow/deadlines.h"
#include "stack/flow/flow_table.h"
#include "stack/flow/recency.h"

namespace penstock {

struct Mapping;

struct Conversation {
  Mapping* mapping = nullptr;
  Endpoint host;
  bool answered = false;
  Time deadline{};
  Time ordered{};  // when it was made the newest
  RecencyLinks<Conversation> in_all, in_mapping;
  // Its owner's.
  uint64_t number = 0;
  uint64_t bytes_to_host = 0, bytes_to_guest = 0;
  Time opened_at{};
};

struct Mapping final : DatagramEnd {
  Endpoint guest;          // of echo: the identifier is the port
  bool answered = false;   // something came from the host's side
  bool no_socket = false;  // the relay said that the system gave none
  Time used_until{};       // its time is up then
  Time deadline = kNever;  // as of Deadlines: within a second behind that
  uint32_t deadline_slot = kNoDeadlineSlot;
  Time ordered{};  // when it was made the newest
  RecencyLinks<Mapping> in_order;
  Recency<Conversation, &Conversation::in_mapping> conversations;
};

struct MappingLimits {
  uint32_t count_max = 4'096;
  // Of all mappings together.
  uint32_t conversation_count_max = 65'536;
  UdpFiltering filtering = UdpFiltering::kAddressAndPort;
  // Since the last datagram: before the host's side answered, after that, and to port 53.
  Duration timeout{};
  Duration answered_timeout{};
  Duration name_timeout{};
};

class Mappings final {
 public:
  // `on_end` is told of each conversation that is forgotten.
  using OnEnd = std::function<void(const Conversation&)>;
  explicit Mappings(const MappingLimits& limits, OnEnd on_end = {});
  ~Mappings();
  Mappings(const Mappings&) = delete;
  Mappings& operator=(const Mappings&) = delete;

  // nullptr: there is none.
  [[nodiscard]] Mapping* Find(const Endpoint& guest);
  // One that is not there; the limit was seen to.
  Mapping& Add(const Endpoint& guest, Time now);
  [[nodiscard]] bool full() const { return by_guest_.size() >= limits_.count_max; }
  // Who gives way if it is full.
  [[nodiscard]] Mapping* oldest() const { return order_.oldest(); }

  // The conversation with just this host that goes on; nullptr: there is none.
  [[nodiscard]] Conversation* Live(const Mapping& mapping, const Endpoint& host, Time now) const;
  // The guest sends to `host`, which may answer from now on. With the filtering kAddress
  // the conversation may have begun with another port of the same address.
  struct Sent {
    Conversation* conversation;
    bool is_new;
    bool displaces;  // another one gave way to it, at the limit
  };
  Sent Sends(Mapping& mapping, const Endpoint& host, Time now);
  // Something came from `host`. False: it may not, or no longer.
  [[nodiscard]] bool Hears(Mapping& mapping, const Endpoint& host, Time now);
  // Ends it; the mapping stays.
  void Forget(Conversation& conversation);

  // One whose time is up, still listed; nullptr: there is none.
  [[nodiscard]] Mapping* TakeExpired(Time now);
  [[nodiscard]] Time next_expiry() { return deadlines_.next(); }

  // Takes it off every list, with its conversations; the caller's from here on.
  [[nodiscard]] std::unique_ptr<Mapping> Remove(Mapping& mapping);

  [[nodiscard]] size_t count() const { return by_guest_.size(); }
  [[nodiscard]] size_t conversation_count() const { return conversations_.size(); }
  template <typename Visitor>
  void ForEach(Visitor&& visit) const {
    for (const auto& [guest, mapping] : by_guest_) visit(*mapping);
  }
  template <typename Visitor>
  void ForEachConversation(Visitor&& visit) const {
    for (const auto& [tuple, conversation] : conversations_) visit(*conversation);
  }

 private:
  friend class FlowAudit;  // tests/world
  struct EndpointHash {
    SipKey key;
    size_t operator()(const Endpoint& endpoint) const;
  };
  // What conversations are told apart by, as far as the filtering wants.
  [[nodiscard]] TcpTuple KeyOf(const Mapping& mapping, const Endpoint& host) const;
  [[nodiscard]] Conversation* FindConversation(const Mapping& mapping, const Endpoint& host) const;
  [[nodiscard]] Duration TimeoutOf(const Endpoint& host, bool answered) const;
  // How exact the orders and the ends of sockets are.
  static constexpr Duration kGrain = std::chrono::seconds(1);

  // Used at `now`: lives until then plus `timeout` at least.
  void Use(Mapping& mapping, Time now, Duration timeout);
  void Use(Conversation& conversation, Time now);

  const MappingLimits limits_;
  const OnEnd on_end_;
  absl::flat_hash_map<Endpoint, std::unique_ptr<Mapping>, EndpointHash> by_guest_;
  absl::flat_hash_map<TcpTuple, std::unique_ptr<Conversation>, TupleHash, TupleEqual>
      conversations_;
  Recency<Mapping, &Mapping::in_order> order_;
  Recency<Conversation, &Conversation::in_all> all_conversations_;
  Deadlines<Mapping> deadlines_;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_FLOW_MAPPINGS_H_
