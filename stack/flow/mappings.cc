#include "stack/flow/mappings.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "relay/check.h"

namespace penstock {

namespace {
constexpr uint16_t kNamePort = 53;
}

size_t Mappings::EndpointHash::operator()(const Endpoint& endpoint) const {
  std::array<uint8_t, 18> bytes;
  std::memcpy(bytes.data(), endpoint.address.bytes.data(), 16);
  std::memcpy(bytes.data() + 16, &endpoint.port, 2);
  return SipHash(key, bytes);
}

Mappings::Mappings(const MappingLimits& limits, OnEnd on_end)
    : limits_(limits),
      on_end_(std::move(on_end)),
      by_guest_(0, EndpointHash{RandomSipKey()}),
      conversations_(0, TupleHash{RandomSipKey()}) {}

Mappings::~Mappings() = default;

Mapping* Mappings::Find(const Endpoint& guest) {
  const auto found = by_guest_.find(guest);
  return found == by_guest_.end() ? nullptr : found->second.get();
}

Mapping& Mappings::Add(const Endpoint& guest, Time now) {
  const auto [place, is_new] = by_guest_.emplace(guest, std::make_unique<Mapping>());
  PENSTOCK_CHECK(is_new);
  Mapping& mapping = *place->second;
  mapping.guest = guest;
  mapping.ordered = now;
  order_.AddNewest(mapping);
  return mapping;
}

// ---------------------------------------------------------------- conversations

TcpTuple Mappings::KeyOf(const Mapping& mapping, const Endpoint& host) const {
  const bool any_port = limits_.filtering == UdpFiltering::kAddress;
  return {.guest = mapping.guest,
          .destination = {host.address, any_port ? uint16_t{0} : host.port}};
}

Conversation* Mappings::FindConversation(const Mapping& mapping, const Endpoint& host) const {
  Conversation* newest = mapping.conversations.newest();
  if (newest != nullptr && newest->host == host) return newest;  // most are alone
  const auto found = conversations_.find(KeyOf(mapping, host));
  return found == conversations_.end() ? nullptr : found->second.get();
}

Duration Mappings::TimeoutOf(const Endpoint& host, bool answered) const {
  if (host.port == kNamePort) return limits_.name_timeout;
  return answered ? limits_.answered_timeout : limits_.timeout;
}

void Mappings::Use(Mapping& mapping, Time now, Duration timeout) {
  if (now - mapping.ordered >= kGrain) {
    mapping.ordered = now;
    order_.MakeNewest(mapping);
  }
  mapping.used_until = std::max(mapping.used_until, After(now, timeout));
  if (mapping.deadline != kNever && mapping.deadline >= mapping.used_until) return;
  mapping.deadline = After(mapping.used_until, kGrain);
  // A later one needs no telling.
  if (mapping.deadline_slot == kNoDeadlineSlot) deadlines_.Schedule(mapping);
}

void Mappings::Use(Conversation& conversation, Time now) {
  const Duration timeout = TimeoutOf(conversation.host, conversation.answered);
  conversation.deadline = After(now, timeout);
  if (now - conversation.ordered >= kGrain) {
    conversation.ordered = now;
    all_conversations_.MakeNewest(conversation);
    conversation.mapping->conversations.MakeNewest(conversation);
  }
  Use(*conversation.mapping, now, timeout);
}

Conversation* Mappings::Live(const Mapping& mapping, const Endpoint& host, Time now) const {
  Conversation* conversation = FindConversation(mapping, host);
  if (conversation == nullptr || conversation->deadline <= now) return nullptr;
  return conversation->host == host ? conversation : nullptr;
}

Mappings::Sent Mappings::Sends(Mapping& mapping, const Endpoint& host, Time now) {
  Conversation* conversation = FindConversation(mapping, host);
  if (conversation != nullptr && conversation->deadline <= now) conversation->answered = false;
  const bool is_new = conversation == nullptr;
  const bool displaces = is_new && conversations_.size() >= limits_.conversation_count_max;
  if (is_new) {
    if (displaces) {
      Forget(*all_conversations_.oldest());
    }
    auto& place = conversations_[KeyOf(mapping, host)];
    place = std::make_unique<Conversation>();
    conversation = place.get();
    conversation->mapping = &mapping;
    conversation->host = host;
    conversation->ordered = conversation->opened_at = now;
    all_conversations_.AddNewest(*conversation);
    mapping.conversations.AddNewest(*conversation);
  }
  Use(*conversation, now);
  return {conversation, is_new, displaces};
}

bool Mappings::Hears(Mapping& mapping, const Endpoint& host, Time now) {
  Conversation* conversation = FindConversation(mapping, host);
  if (conversation == nullptr || conversation->deadline <= now) {
    if (limits_.filtering != UdpFiltering::kNone || mapping.used_until <= now) return false;
    Use(mapping, now, TimeoutOf(host, true));
    return true;
  }
  conversation->answered = true;
  Use(*conversation, now);
  return true;
}

void Mappings::Forget(Conversation& conversation) {
  if (on_end_) on_end_(conversation);
  all_conversations_.Remove(conversation);
  conversation.mapping->conversations.Remove(conversation);
  conversations_.erase(KeyOf(*conversation.mapping, conversation.host));
}

// ---------------------------------------------------------------- the end

Mapping* Mappings::TakeExpired(Time now) { return deadlines_.TakeDue(now); }

std::unique_ptr<Mapping> Mappings::Remove(Mapping& mapping) {
  while (Conversation* conversation = mapping.conversations.oldest()) Forget(*conversation);
  order_.Remove(mapping);
  if (mapping.deadline_slot != kNoDeadlineSlot) {
    mapping.deadline = Time::min();  // so that it is the first
    deadlines_.Schedule(mapping);
    PENSTOCK_CHECK(deadlines_.TakeDue(Time::min()) == &mapping);
  }
  const auto found = by_guest_.find(mapping.guest);
  std::unique_ptr<Mapping> removed = std::move(found->second);
  by_guest_.erase(found);
  return removed;
}

}  // namespace penstock
