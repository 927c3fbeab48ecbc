// Where flows live and how a segment finds its flow: slabs of slots that are never
// given back while the stack lives (a late ready mark may still point to a slot), a
// free list, a keyed hash table, and the tuples that rest in TIME_WAIT. Poll thread.
#ifndef PENSTOCK_STACK_FLOW_FLOW_TABLE_H_
#define PENSTOCK_STACK_FLOW_FLOW_TABLE_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "stack/flow/flow.h"
#include "stack/tcpip/siphash.h"

namespace penstock {

struct TupleHash {
  SipKey key;
  size_t operator()(const TcpTuple& tuple) const;
};
struct AddressHash {
  size_t operator()(const IpAddress& address) const;
};
struct TupleEqual {
  bool operator()(const TcpTuple& a, const TcpTuple& b) const {
    return a.guest == b.guest && a.destination == b.destination;
  }
};

struct FlowHash {
  using is_transparent = void;
  TupleHash hash;
  size_t operator()(const TcpTuple& tuple) const { return hash(tuple); }
  size_t operator()(const Flow* flow) const { return hash(flow->tuple); }
};
struct FlowEqual {
  using is_transparent = void;
  static const TcpTuple& TupleOf(const TcpTuple& tuple) { return tuple; }
  static const TcpTuple& TupleOf(const Flow* flow) { return flow->tuple; }
  template <typename A, typename B>
  bool operator()(const A& a, const B& b) const {
    return TupleEqual()(TupleOf(a), TupleOf(b));
  }
};

class FlowTable final {
 public:
  // `relay_count`: slots are dealt to relays in turn, for good.
  FlowTable(uint32_t count_max, uint8_t relay_count);
  ~FlowTable();

  [[nodiscard]] Flow* Find(const TcpTuple& tuple);
  // A fresh flow under `tuple`, in state kFree; nullptr if there are count_max, or no memory
  // for more.
  [[nodiscard]] Flow* Add(const TcpTuple& tuple);
  // The tuple is free again; the slot stays in use until Release.
  void Unlist(Flow& flow);
  void Release(Flow& flow);

  [[nodiscard]] uint32_t in_use() const { return in_use_; }
  // Visits every slot, or every one that is in use.
  template <typename Visitor>
  void ForEachSlot(Visitor&& visit) const {
    for (const auto& slab : slabs_) {
      for (Flow& flow : std::span(slab.get(), kSlabFlows)) visit(flow);
    }
  }
  template <typename Visitor>
  void ForEach(Visitor&& visit) const {
    ForEachSlot([&](Flow& flow) {
      if (flow.state != FlowState::kFree) visit(flow);
    });
  }

 private:
  static constexpr size_t kSlabFlows = 64;

  const uint32_t count_max_;
  const uint8_t relay_count_;
  uint32_t in_use_ = 0;
  std::vector<std::unique_ptr<Flow[]>> slabs_;
  std::vector<Flow*> free_;
  // The tuple is the flow's own: a slot of the table is a pointer.
  absl::flat_hash_set<Flow*, FlowHash, FlowEqual> by_tuple_;
};

// Tuples in TIME_WAIT: what is needed to answer a stray segment and to judge a new
// SYN. At the limit the oldest goes first. No timer: entries expire when looked at.
class TimeWaitTable final {
 public:
  TimeWaitTable(uint32_t count_max, Duration rest);

  void Add(const TcpTuple& tuple, const TimeWaitState& state, Time now);
  [[nodiscard]] const TimeWaitState* Find(const TcpTuple& tuple, Time now);
  void Remove(const TcpTuple& tuple);

 private:
  struct Entry {
    TimeWaitState state;
    Time expires;
  };
  const uint32_t count_max_;
  const Duration rest_;
  absl::flat_hash_map<TcpTuple, Entry, TupleHash, TupleEqual> entries_;
  std::deque<std::pair<Time, TcpTuple>> by_age_;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_FLOW_FLOW_TABLE_H_
