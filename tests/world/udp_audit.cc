// The audit's part for published UDP ports: every datagram is in one place, and the bytes
// that limits are held against are the bytes; peers and their lists agree; and when both
// sides sleep, nothing waits for somebody who was not told.

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

void FlowAudit::AuditDatagrams() {
  UdpPorts& udp = *inside_.udp_ports_;
  DatagramEnds& ends = *inside_.datagram_ends_;
  uint64_t of_relay = 0, of_stack = 0;
  size_t peers = 0;
  const auto port = [&](const UdpPorts::Port& each) {
    const DatagramPipe& pipe = *each.pipe;
    const SimUdpTask* task = TaskOfPipe(pipe);
    uint64_t relays = CostOf(pipe.to_guest) + CostOf(pipe.delivered) + CostOf(each.waiting_head);
    for (const auto& [owner, datagram] : ends.in_batch_) {
      if (owner == &each) relays += DatagramPool::Cost(*datagram);
    }
    uint64_t stacks = CostOf(pipe.to_host) + CostOf(pipe.sent);
    if (task != nullptr) stacks += CostOf(task->unsent_head_);
    const std::string name = absl::StrCat("UDP port ", each.id, ": ");
    Require(task == nullptr ? relays == 0 : relays == task->bytes_out_,
            absl::StrCat(name, "the relay counts other datagrams than there are"));
    Require(stacks == each.bytes_out,
            absl::StrCat(name, "the stack counts other datagrams than there are"));
    Require(relays <= DatagramPool::kPipeBytesMax && stacks <= DatagramPool::kPipeBytesMax,
            absl::StrCat(name, "more is under way than allowed"));
    Require(task != nullptr || pipe.relay_done.load(), absl::StrCat(name, "nobody serves it"));
    Require(each.count <= inside_.config_.udp_peer_count_max,
            absl::StrCat(name, "more peers than allowed"));
    of_relay += relays;
    of_stack += stacks;
    peers += each.count;
    uint32_t listed = 0;
    for (const UdpPeer* peer = each.order.oldest(); peer != nullptr; peer = peer->in_set.newer) {
      ++listed;
      Require(peer->in_set.newer == nullptr || peer->heard <= peer->in_set.newer->heard,
              absl::StrCat(name, "a peer stands behind one that was heard of later"));
    }
    Require(listed == each.count, absl::StrCat(name, "peers are on no list"));
  };
  for (const auto& [id, each] : udp.ports_) port(*each);
  for (const auto& each : udp.leaving_) port(*each);
  Require(peers == udp.peers_.count(), "UDP peers and their count differ");
  Require(of_relay == relay_.datagrams().bytes_out(), "datagrams of the relay are lost");
  Require(of_stack == ends.pool_.bytes_out(), "datagrams of the stack are lost");
}

void FlowAudit::AsleepDatagrams() {
  UdpPorts& udp = *inside_.udp_ports_;
  DatagramEnds& ends = *inside_.datagram_ends_;
  Require(ends.ready_.empty(), "a UDP port is ready, and the stack sleeps");
  if (!ends.batch_.link_full()) {
    Require(ends.in_batch_.empty(), "datagrams that left are not given back");
    Require(udp.leaving_.empty(), "a UDP port was removed and does not end");
  }
  Require(udp.NextDeadline() > inside_.now_, "a UDP peer was to be forgotten");
  for (const auto& [id, port] : udp.ports_) {
    const DatagramPipe& pipe = *port->pipe;
    const SimUdpTask* task = TaskOfPipe(pipe);
    const std::string name = absl::StrCat("UDP port ", id, ": ");
    Require(pipe.to_guest.empty() && port->waiting_head == nullptr,
            absl::StrCat(name, "datagrams wait for the stack, which sleeps"));
    Require(pipe.to_host.empty() || (task != nullptr && task->waiting_writable_),
            absl::StrCat(name, "datagrams wait for the relay, which sleeps"));
    if (task == nullptr) continue;
    const world::SimDatagrams& kernel = task->socket().kernel();
    Require(task->unsent_head_ == nullptr || (task->waiting_writable_ && kernel.room == 0),
            absl::StrCat(name, "the socket takes datagrams, and the relay waits"));
    Require(kernel.waiting.empty() && kernel.readable != nullptr,
            absl::StrCat(name, "the relay does not read its socket"));
  }
}

}  // namespace penstock
