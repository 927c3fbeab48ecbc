// The audit's part for datagrams, those of published UDP ports and the guest's own: every
// datagram is in one place, and the bytes that limits are held against are the bytes;
// peers, mappings and conversations agree with their lists, and those are in the order of
// use; and when both sides sleep, nothing waits for somebody who was not told.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "relay/udp_task.h"
#include "tests/world/audit.h"
#include "tests/world/sim_datagrams.h"

namespace penstock {
namespace {

using SimUdpTask = UdpTask<world::SimDatagramSocket>;

SimUdpTask* TaskOfPipe(const DatagramPipe& pipe) {
  return static_cast<SimUdpTask*>(pipe.relay_task);
}

uint64_t CostOf(const Datagram* list) {
  uint64_t bytes = 0;
  for (; list != nullptr; list = list->next) bytes += DatagramPool::Cost(*list);
  return bytes;
}
uint64_t CostOf(const ReturnList<Datagram>& list) {
  uint64_t bytes = 0;
  list.ForEach([&](const Datagram& datagram) { bytes += DatagramPool::Cost(datagram); });
  return bytes;
}

}  // namespace

// ---------------------------------------------------------------- between steps

void FlowAudit::AuditDatagrams() {
  UdpPorts& udp = *inside_.udp_ports_;
  DatagramBytes sum;
  size_t peers = 0;
  const auto port = [&](const UdpPorts::Port& each) {
    AuditEnd(each, {.kind = "UDP port", .id = each.id}, sum);
    AuditPeers(each);
    peers += each.count;
  };
  for (const auto& [id, each] : udp.ports_) port(*each);
  for (const auto& each : udp.leaving_) port(*each);
  Require(peers == udp.peers_.count(), "UDP peers and their count differ");
  for (const GuestDatagrams* guest : {inside_.guest_udp_.get(), inside_.guest_echo_.get()}) {
    guest->mappings_.ForEach([&](const Mapping& each) {
      AuditEnd(each, {.kind = "mapping", .guest = &each.guest}, sum);
    });
    for (const auto& [end, each] : guest->leaving_) {
      AuditEnd(*each, {.kind = "a mapping that is over,", .guest = &each->guest}, sum);
    }
    AuditMappings(*guest);
  }
  AuditStreams(sum);
  Require(sum.of_relay == relay_.datagrams().bytes_out(), "datagrams of the relay are lost");
  Require(sum.of_stack == inside_.datagram_ends_->pool_.bytes_out(),
          "datagrams of the stack are lost");
}

FlowAudit::TaskBytes FlowAudit::BytesOf(const DatagramPipe& pipe) {
  if (pipe.relay_task == nullptr) return {};
  if (pipe.request && pipe.request->kind == DatagramKind::kFramedStream) {
    const StreamTask& task = *StreamTaskOf(pipe);
    return {.counted = task.bytes_out_,
            .partial = task.message_ == nullptr ? 0 : DatagramPool::Cost(*task.message_),
            .unsent = CostOf(task.unsent_head_)};
  }
  const SimUdpTask& task = *TaskOfPipe(pipe);
  return {.counted = task.bytes_out_, .unsent = CostOf(task.unsent_head_)};
}

void FlowAudit::AuditEnd(const DatagramEnd& end, const EndName& name, DatagramBytes& sum) {
  const DatagramPipe& pipe = *end.pipe;
  const TaskBytes task = BytesOf(pipe);
  uint64_t relays =
      task.partial + CostOf(pipe.to_guest) + CostOf(pipe.delivered) + CostOf(end.waiting_head);
  for (const auto& [owner, datagram] : inside_.datagram_ends_->in_batch_) {
    if (owner == &end) relays += DatagramPool::Cost(*datagram);
  }
  const uint64_t stacks = CostOf(pipe.to_host) + CostOf(pipe.sent) + task.unsent;
  Require(relays == task.counted, name, "the relay counts other datagrams than there are");
  Require(stacks == end.bytes_out, name, "the stack counts other datagrams than there are");
  Require(relays <= DatagramPool::kPipeBytesMax && stacks <= DatagramPool::kPipeBytesMax, name,
          "more is under way than allowed");
  // A socket that was asked for is opened when the relay first looks.
  Require(pipe.relay_task != nullptr || pipe.relay_done.load() || pipe.request.has_value(), name,
          "nobody serves it");
  sum.of_relay += relays;
  sum.of_stack += stacks;
}

void FlowAudit::AuditPeers(const UdpPeerSet& set) {
  Require(set.count <= inside_.config_.udp_peer_count_max, "a port has more peers than allowed");
  uint32_t listed = 0;
  for (const UdpPeer* peer = set.order.oldest(); peer != nullptr; peer = peer->in_set.newer) {
    ++listed;
    Require(peer->in_set.newer == nullptr || peer->heard <= peer->in_set.newer->heard,
            "a peer of a port stands behind one that was heard of later");
  }
  Require(listed == set.count, "peers of a port are on no list");
}

void FlowAudit::AuditMappings(const GuestDatagrams& guest) {
  const Mappings& mappings = guest.mappings_;
  const MappingLimits& limits = mappings.limits_;
  const bool udp = guest.kind_ == DatagramKind::kUdp;
  const char* name = udp ? "mappings: " : "echo mappings: ";
  Require(mappings.count() <= limits.count_max, name, "more than allowed");
  Require(mappings.conversation_count() <= limits.conversation_count_max, name,
          "more conversations than allowed");
  const Counters& counters = inside_.counters_;
  Require(mappings.count() == (udp ? counters.udp_mappings : counters.echo_mappings).value(), name,
          "their count and the level differ");
  Require(mappings.deadlines_.size() == mappings.count(), name, "not each has a deadline");
  size_t listed = 0, conversations = 0;
  Time last = Time::min();
  for (const Mapping* each = mappings.order_.oldest(); each != nullptr;
       each = each->in_order.newer) {
    ++listed;
    const auto found = mappings.by_guest_.find(each->guest);
    Require(found != mappings.by_guest_.end() && found->second.get() == each, name,
            "one is listed that nobody finds");
    AuditConversations(mappings, *each, conversations, last);
  }
  Require(listed == mappings.count(), name, "some are on no list");
  Require(conversations == mappings.conversation_count(), name, "some conversation is nobody's");
  size_t in_all = 0;
  Time used = Time::min();
  for (const Conversation* each = mappings.all_conversations_.oldest(); each != nullptr;
       each = each->in_all.newer) {
    ++in_all;
    const Time its = each->deadline - mappings.TimeoutOf(each->host, each->answered);
    Require(each->ordered >= used, name, "a conversation stands behind one that was used later");
    Require(its - each->ordered < Mappings::kGrain, name, "a conversation was not moved");
    used = each->ordered;
  }
  Require(in_all == conversations, name, "conversations are on no list");
}

void FlowAudit::AuditConversations(const Mappings& mappings, const Mapping& mapping, size_t& count,
                                   Time& last) {
  for (const Conversation* each = mapping.conversations.oldest(); each != nullptr;
       each = each->in_mapping.newer) {
    ++count;
    Require(each->mapping == &mapping && mappings.FindConversation(mapping, each->host) == each,
            "a conversation is not its mapping's");
    Require(each->deadline <= mapping.deadline, "a conversation outlives its mapping");
    Require(each->ordered - mapping.ordered < Mappings::kGrain, "a mapping was not moved");
  }
  Require(mapping.ordered >= last, "a mapping stands behind one that was used later");
  last = mapping.ordered;
}

// ---------------------------------------------------------------- asleep

void FlowAudit::AsleepDatagrams() {
  UdpPorts& udp = *inside_.udp_ports_;
  DatagramEnds& ends = *inside_.datagram_ends_;
  Require(ends.ready_.empty(), "datagrams wait for their turn, and the stack sleeps");
  if (!ends.batch_.link_full()) {
    Require(ends.in_batch_.empty(), "datagrams that left are not given back");
    Require(ends.closing_.empty(), "a pipe of datagrams was closed, and the relay was not told");
    Require(udp.leaving_.empty(), "a UDP port was removed and does not end");
  }
  AsleepStreams();
  Require(udp.NextDeadline() > inside_.now_, "a UDP peer was to be forgotten");
  for (const auto& [id, port] : udp.ports_) AsleepEnd(*port, {.kind = "UDP port", .id = id});
  for (GuestDatagrams* guest : {inside_.guest_udp_.get(), inside_.guest_echo_.get()}) {
    Require(guest->NextDeadline() > inside_.now_, "a mapping was to be closed");
    Require(ends.batch_.link_full() || guest->leaving_.empty(), "a mapping is over and stays");
    guest->mappings_.ForEach(
        [&](const Mapping& each) { AsleepEnd(each, {.kind = "mapping", .guest = &each.guest}); });
  }
}

void FlowAudit::AsleepEnd(const DatagramEnd& end, const EndName& name) {
  const DatagramPipe& pipe = *end.pipe;
  const SimUdpTask* task = TaskOfPipe(pipe);
  Require(pipe.to_guest.empty() && end.waiting_head == nullptr, name,
          "datagrams wait for the stack, which sleeps");
  Require(pipe.to_host.empty() || (task != nullptr && task->waiting_writable_), name,
          "datagrams wait for the relay, which sleeps");
  if (task == nullptr) return;
  if (!task->open_) {
    Require(task->unsent_head_ == nullptr, name, "has no socket and holds datagrams");
    return;
  }
  const world::SimDatagrams& kernel = task->socket().kernel();
  Require(task->unsent_head_ == nullptr || (task->waiting_writable_ && kernel.room == 0), name,
          "the socket takes datagrams, and the relay waits");
  Require(kernel.waiting.empty() && kernel.faults.empty() && kernel.readable != nullptr, name,
          "the relay does not read its socket");
}

// ---------------------------------------------------------------- the end

void FlowAudit::NoDatagramsLeft() {
  // Those that were given back wait for whoever comes next.
  relay_.ServePipes();
  inside_.datagram_ends_->TakeFromRelays();
  Require(relay_.datagrams().bytes_out() == 0, "the relay's datagrams are left");
  Require(inside_.datagram_ends_->pool_.bytes_out() == 0, "the stack's datagrams are left");
  for (const GuestDatagrams* guest : {inside_.guest_udp_.get(), inside_.guest_echo_.get()}) {
    Require(guest->mappings_.count() == 0 && guest->leaving_.empty(), "mappings are left");
    Require(guest->mappings_.conversation_count() == 0, "conversations are left");
  }
  Require(StreamCount() == 0, "connections to DNS are left");
  Require(host_.open_guest_sockets() == 0, "sockets of the guest's datagrams are left");
}

}  // namespace penstock
