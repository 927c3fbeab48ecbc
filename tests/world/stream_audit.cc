// The audit's part for connections of the guest's that end in the stack: every message is in
// one place, bounds hold, and when both sides sleep, no end of a pair waits for the other's
// task, nor the stack for the relay.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/world/audit.h"

namespace penstock {

FlowAudit::StreamTask* FlowAudit::StreamTaskOf(const DatagramPipe& pipe) {
  return static_cast<StreamTask*>(pipe.relay_task);
}

size_t FlowAudit::StreamCount() const {
  const auto& streams = inside_.dns_streams_;
  return streams == nullptr ? 0 : streams->connections_.size() + streams->leaving_.size();
}

void FlowAudit::AuditStreams(DatagramBytes& sum) {
  if (inside_.dns_streams_ == nullptr) return;
  const DnsStreams& streams = *inside_.dns_streams_;
  for (const auto& [id, each] : streams.connections_) {
    AuditEnd(*each, {.kind = "stream", .guest = &each->guest}, sum);
  }
  for (const auto& [end, each] : streams.leaving_) {
    AuditEnd(*each, {.kind = "a stream that is over,", .guest = &each->guest}, sum);
  }
  Require(streams.connections_.size() <= DnsStreams::kConnectionsMax &&
              streams.leaving_.size() <= DnsStreams::kLeavingMax + 1,
          "more connections to DNS than allowed");
  Require(streams.connections_.size() == inside_.counters_.dns_streams.value(),
          "connections to DNS and their level differ");
  size_t listed = 0;
  Time last = Time::min();
  for (const auto* each = streams.order_.oldest(); each != nullptr; each = each->in_order.newer) {
    ++listed;
    Require(each->used >= last, "a connection to DNS stands behind one that was used later");
    last = each->used;
  }
  Require(listed == streams.connections_.size(), "connections to DNS are on no list");
}

void FlowAudit::AsleepStreams() {
  if (inside_.dns_streams_ == nullptr) return;
  const DnsStreams& streams = *inside_.dns_streams_;
  Require(streams.NextDeadline() > inside_.now_, "a connection to DNS was to be closed");
  Require(inside_.datagram_ends_->batch_.link_full() || streams.leaving_.empty(),
          "a connection to DNS is over and stays");
  for (const auto& [id, each] : streams.connections_) AsleepStream(*each);
}

void FlowAudit::AsleepStream(const DnsStreams::Connection& connection) {
  const EndName name{.kind = "stream", .guest = &connection.guest};
  const DatagramPipe& pipe = *connection.pipe;
  Require(pipe.to_guest.empty(), name, "messages wait for the stack, which sleeps");
  // What the stack waits for; the rest it takes home when it next wakes.
  const bool waits_for_home = (connection.guest_finished && connection.questions.none()) ||
                              connection.bytes_out > DnsStreams::kUnsentBytesMax;
  Require(connection.held || connection.waiting_head == nullptr, name,
          "questions wait for their turn, and the stack sleeps");
  Require(!connection.held || connection.questions.all() ||
              connection.bytes_out > DnsStreams::kUnsentBytesMax,
          name, "is held for no reason");
  Require(!connection.guest_finished || connection.questions.any() || connection.bytes_out > 0,
          name, "everything is said both ways, and it does not end");
  const StreamTask* task = StreamTaskOf(pipe);
  if (task == nullptr) return Require(false, name, "nobody serves it");
  // It is told when all have left that a full stream kept back.
  Require(pipe.sent.empty() || !waits_for_home || task->unsent_head_ != nullptr, name,
          "messages were sent, and the stack, which waits for that, sleeps");
  const auto& waiting = relay_.waiting_for_datagrams_;
  const bool waits = std::find(waiting.begin(), waiting.end(), task) != waiting.end();
  Require(waits == (task->stalled_ || task->end_.has_value()), name,
          "waits for datagrams, and the relay does not know");
  Require(!task->end_.has_value(), name, "its end is not told");
  if (task->state_ != StreamTask::State::kOpen) {
    return Require(task->unsent_head_ == nullptr, name, "has no socket and holds messages");
  }
  const world::HostPeer& peer = *task->socket_.peer();
  Require((pipe.to_host.empty() && task->unsent_head_ == nullptr) ||
              (task->waiting_writable_ && !peer.takes_bytes()),
          name, "the stream takes messages, and the relay waits");
  // What makes a task stall here is that the stack holds its messages.
  Require(!task->stalled_ || connection.held, name, "the stack took everything; it is not read");
  Require(task->reading_over_ || task->stalled_ || peer.being_read(), name,
          "the relay does not read it");
}

}  // namespace penstock
