#include "stack/flow/flow_table.h"

#include <array>
#include <cstring>
#include <new>

namespace penstock {

size_t TupleHash::operator()(const TcpTuple& tuple) const {
  std::array<uint8_t, 36> bytes;
  std::memcpy(bytes.data(), tuple.guest.address.bytes.data(), 16);
  std::memcpy(bytes.data() + 16, tuple.destination.address.bytes.data(), 16);
  std::memcpy(bytes.data() + 32, &tuple.guest.port, 2);
  std::memcpy(bytes.data() + 34, &tuple.destination.port, 2);
  return SipHash(key, bytes);
}

size_t AddressHash::operator()(const IpAddress& address) const {
  static const SipKey key = RandomSipKey();
  return SipHash(key, address.bytes);
}

FlowTable::FlowTable(uint32_t count_max, uint8_t relay_count)
    : count_max_(count_max), relay_count_(relay_count), by_tuple_(0, FlowHash{{RandomSipKey()}}) {}

FlowTable::~FlowTable() = default;

Flow* FlowTable::Find(const TcpTuple& tuple) {
  const auto found = by_tuple_.find(tuple);
  return found == by_tuple_.end() ? nullptr : *found;
}

Flow* FlowTable::Add(const TcpTuple& tuple) {
  if (in_use_ >= count_max_) return nullptr;
  if (free_.empty()) {
    std::unique_ptr<Flow[]> slab(new (std::nothrow) Flow[kSlabFlows]);
    if (slab == nullptr) return nullptr;
    for (size_t i = kSlabFlows; i-- > 0;) {
      slab[i].relay_index = static_cast<uint8_t>(i % relay_count_);
      slab[i].pipe.stack_flow = &slab[i];
      free_.push_back(&slab[i]);
    }
    slabs_.push_back(std::move(slab));
  }
  Flow* flow = free_.back();
  free_.pop_back();
  ++in_use_;
  flow->tuple = tuple;
  by_tuple_.insert(flow);
  return flow;
}

void FlowTable::Unlist(Flow& flow) {
  const auto found = by_tuple_.find(flow.tuple);
  if (found != by_tuple_.end() && *found == &flow) by_tuple_.erase(found);
}

void FlowTable::Release(Flow& flow) {
  Unlist(flow);
  --in_use_;
  free_.push_back(&flow);
}

TimeWaitTable::TimeWaitTable(uint32_t count_max, Duration rest)
    : count_max_(count_max), rest_(rest), entries_(0, TupleHash{RandomSipKey()}) {}

void TimeWaitTable::Add(const TcpTuple& tuple, const TimeWaitState& state, Time now) {
  while (!by_age_.empty() && (by_age_.front().first <= now || by_age_.size() >= count_max_)) {
    const auto& [expires, oldest] = by_age_.front();
    const auto found = entries_.find(oldest);
    // Another one under the same tuple may have come since.
    if (found != entries_.end() && found->second.expires == expires) entries_.erase(found);
    by_age_.pop_front();
  }
  const Time expires = After(now, rest_);
  entries_[tuple] = {.state = state, .expires = expires};
  by_age_.emplace_back(expires, tuple);
}

const TimeWaitState* TimeWaitTable::Find(const TcpTuple& tuple, Time now) {
  const auto found = entries_.find(tuple);
  if (found == entries_.end()) return nullptr;
  if (found->second.expires <= now) {
    entries_.erase(found);
    return nullptr;
  }
  return &found->second.state;
}

void TimeWaitTable::Remove(const TcpTuple& tuple) { entries_.erase(tuple); }

}  // namespace penstock
