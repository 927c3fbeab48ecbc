#include "stack/dns/dns_streams.h"

#include <algorithm>
#include <utility>

namespace penstock {

DnsStreams::DnsStreams(DatagramEnds& ends, Counters& counters, DnsStreamsService service)
    : ends_(ends), counters_(counters), service_(std::move(service)) {}

DnsStreams::~DnsStreams() = default;

bool DnsStreams::Serves(const Endpoint& destination) const { return service_.serves(destination); }

// ---------------------------------------------------------------- connections

void DnsStreams::Open(const TcpTuple& tuple, std::unique_ptr<AcceptedSocket> end) {
  if (leaving_.size() >= kLeavingMax) {
    counters_.dns_streams_refused.Add(1);
    return;  // `end` closes: the guest sees the end
  }
  if (connections_.size() == kConnectionsMax) {
    counters_.dns_streams_evicted.Add(1);
    Close(*order_.oldest());
  }
  auto made = std::make_unique<Connection>();
  Connection& connection = *made;
  connection.id = next_id_++;
  connection.guest = tuple.guest;
  connection.asked = tuple.destination;
  connection.used = now_;
  connections_.emplace(connection.id, std::move(made));
  order_.AddNewest(connection);
  auto pipe = std::make_shared<DatagramPipe>();
  pipe->request = DatagramRequest{.kind = DatagramKind::kFramedStream};
  pipe->accepted = std::move(end);
  ends_.Open(connection, *this, std::move(pipe), *ends_.relays()[next_relay_]);
  ends_.Begin(connection);
  next_relay_ = (next_relay_ + 1) % ends_.relays().size();
  counters_.dns_streams_opened.Add(1);
  SetLevel();
}

void DnsStreams::Close(Connection& connection) {
  ends_.Close(connection);
  order_.Remove(connection);
  const auto found = connections_.find(connection.id);
  leaving_.emplace(&connection, std::move(found->second));
  connections_.erase(found);
  SetLevel();
  for (size_t i = 0; i < kQuestionsMax; ++i) {
    if (connection.questions[i]) service_.forget(*this, connection.id * kQuestionsMax + i);
  }
}

void DnsStreams::Forget(DatagramEnd& end) { leaving_.erase(&end); }

void DnsStreams::SetLevel() { counters_.dns_streams.Set(connections_.size()); }

void DnsStreams::Use(Connection& connection) {
  connection.used = now_;
  connection.rounds = 0;
  order_.MakeNewest(connection);
}

void DnsStreams::BeginPass(Time now) {
  now_ = now;
  for (const uint64_t id : std::exchange(ending_, {})) {
    const auto found = connections_.find(id);
    if (found != connections_.end()) Close(*found->second);
  }
  for (Connection* oldest; (oldest = order_.oldest()) != nullptr;) {
    if (After(oldest->used, kIdleTimeout) > now_) return;
    const int rounds = oldest->rounds + 1;
    if (oldest->questions.any() && rounds < kAnswerRounds) {
      Use(*oldest);
      oldest->rounds = rounds;
      continue;
    }
    counters_.dns_streams_expired.Add(1);
    Close(*oldest);
  }
}

Time DnsStreams::NextDeadline() const {
  if (!ending_.empty()) return now_;
  return order_.oldest() == nullptr ? kNever : After(order_.oldest()->used, kIdleTimeout);
}

void DnsStreams::Shutdown() {
  for (const auto& [id, connection] : connections_) ends_.Shutdown(*connection);
  for (const auto& [end, connection] : leaving_) ends_.Shutdown(*connection);
  connections_.clear();
  leaving_.clear();
  order_ = {};
  SetLevel();
}

// ---------------------------------------------------------------- questions and answers

bool DnsStreams::ToGuest(DatagramEnd& end, Datagram& datagram) {
  auto& connection = static_cast<Connection&>(end);
  if (datagram.fault.kind == FaultKind::kStreamEnd) {
    connection.guest_finished = true;
    Settle(connection, true);
  } else if (datagram.fault.kind != FaultKind::kNone) {
    Close(connection);
  } else {
    AskOne(connection, {datagram.data, datagram.length});
  }
  return false;
}

void DnsStreams::AskOne(Connection& connection, std::span<const uint8_t> message) {
  size_t slot = 0;
  while (connection.questions[slot]) ++slot;  // one is free, or the end were held
  connection.questions.set(slot);
  Use(connection);
  Settle(connection, true);
  // May answer at once.
  service_.ask({.message = message,
                .transport = DnsTransport::kTcp,
                .guest = connection.guest,
                .asked = connection.asked,
                .asker = this,
                .token = connection.id * kQuestionsMax + slot},
               now_);
}

void DnsStreams::Answer(uint64_t token, std::span<const uint8_t> message) {
  const auto found = connections_.find(token / kQuestionsMax);
  if (found == connections_.end()) return;  // gone, and the service was told so
  Connection& connection = *found->second;
  connection.questions.reset(token % kQuestionsMax);
  if (!message.empty() && !connection.ending) {
    Datagram* datagram = ends_.NewDatagram(connection, message.size());
    if (datagram == nullptr) {
      counters_.dns_streams_overrun.Add(1);
      return CloseSoon(connection);
    }
    std::ranges::copy(message, datagram->data);
    ends_.Send(connection, datagram);
    Use(connection);
  }
  Settle(connection, false);
}

void DnsStreams::OnHome(DatagramEnd& end) { Settle(static_cast<Connection&>(end), true); }

void DnsStreams::Settle(Connection& connection, bool may_close) {
  if (connection.ending) return;
  const bool answered = connection.questions.none() && connection.bytes_out == 0;
  if (connection.guest_finished && answered) {
    return may_close ? Close(connection) : CloseSoon(connection);
  }
  if (connection.questions.all() || connection.bytes_out > kUnsentBytesMax) {
    ends_.Hold(connection);
  } else {
    ends_.Resume(connection);
  }
}

void DnsStreams::CloseSoon(Connection& connection) {
  connection.ending = true;
  ends_.Hold(connection);
  ending_.push_back(connection.id);
}

}  // namespace penstock
