// What must hold inside a stack between any two steps, checked flow by flow:
//
//   - every byte of the guest's that was taken is pending, at the relay or given back,
//     and what is held and what the window still promises is the window;
//   - every block of the host's is in one place, and the credits say so;
//   - the sums that limits are held against are the sums;
//   - every flow has a PCB, a dial or a relay task, and a deadline that will end it;
//   - no byte of the guest's goes on before the name is known that it may have to show;
//   - every datagram is in one place; peers, mappings and their lists agree;
//   - every frame was consumed or dropped by a named cause, or is a fragment that waits.
//
// And when both sides sleep: nothing waits anywhere for somebody who was not told.
#ifndef PENSTOCK_TESTS_WORLD_AUDIT_H_
#define PENSTOCK_TESTS_WORLD_AUDIT_H_

#include <cstdint>
#include <string>

#include "absl/container/inlined_vector.h"
#include "relay/framed_task.h"
#include "relay/tcp_task.h"
#include "stack/stack_impl.h"
#include "tests/world/sim_host.h"

namespace penstock {

// In penstock's own namespace because the classes that it looks into name it as friend.
class FlowAudit final {
 public:
  FlowAudit(Stack::Impl& inside, Relay& relay, const world::SimHost& host)
      : inside_(inside), flows_(*inside.flows_), relay_(relay), host_(host) {}

  // Empty, or the first thing that is wrong.
  [[nodiscard]] std::string BetweenSteps();
  [[nodiscard]] std::string Asleep();
  // Everything has ended: no flow, no socket, no buffer.
  [[nodiscard]] std::string NothingLeft();

 private:
  using Task = TcpTask<world::SimSocket>;
  // A published port's clients: those whom the guest has not answered, and all that live.
  struct PortSum {
    const PortGauge* gauge = nullptr;
    uint64_t dialing = 0, live = 0;
  };
  struct Sums {
    PortSum& Of(const PortGauge* gauge);

    absl::InlinedVector<PortSum, 8> ports;
    uint64_t blocks_bytes = 0;  // capacity of the blocks that are out
    uint64_t held_to_host = 0, windows = 0, held_to_guest = 0;
    uint32_t own_ends = 0;  // of pairs, for flows without a host
    uint32_t in_use = 0, dialing = 0, handshake = 0, open = 0, closing = 0;
  };
  struct Holding {
    uint32_t blocks = 0;
    uint64_t block_capacity = 0, block_bytes = 0;
    uint64_t at_relay = 0, pending = 0;
    uint64_t unwritten = 0;  // of those at the relay
  };

  [[nodiscard]] static Task* TaskOf(const Flow& flow);
  [[nodiscard]] bool IsEmpty(const Flow& flow) const;
  [[nodiscard]] Holding Count(const Flow& flow);
  void AuditSlot(Flow& flow, Sums& sums);
  void AuditBytes(const Flow& flow, const Holding& holding);
  void AuditLife(const Flow& flow);
  void AuditDenial(const Flow& flow);
  void AuditSums(const Sums& sums);
  void AuditPorts(Sums& sums);
  // udp_audit.cc
  struct DatagramBytes {
    uint64_t of_relay = 0, of_stack = 0;
  };
  void AuditDatagrams();
  // What the relay's task says of its datagrams, and the stack's that it has.
  struct TaskBytes {
    uint64_t counted = 0;  // its own, as it counts them
    uint64_t partial = 0;  // of those: what is still being read
    uint64_t unsent = 0;
  };
  [[nodiscard]] static TaskBytes BytesOf(const DatagramPipe& pipe);
  // What an end is called in a finding. Made a string only there: an audit follows each step,
  // and finds nothing in all but one run of thousands.
  struct EndName {
    const char* kind;
    const Endpoint* guest = nullptr;  // of what has one
    uint32_t id = 0;                  // of what has none

    [[nodiscard]] std::string ToString() const;
  };
  void AuditEnd(const DatagramEnd& end, const EndName& name, DatagramBytes& sum);
  void AuditPeers(const UdpPeerSet& set);
  void AuditMappings(const GuestDatagrams& guest);
  // Adds to `count`; `last`: when the mapping before it was used, then this one.
  void AuditConversations(const Mappings& mappings, const Mapping& mapping, size_t& count,
                          Time& last);
  void AsleepDatagrams();
  void AsleepEnd(const DatagramEnd& end, const EndName& name);
  // stream_audit.cc
  using StreamTask = FramedTask<world::SimSocket>;
  [[nodiscard]] static StreamTask* StreamTaskOf(const DatagramPipe& pipe);
  [[nodiscard]] size_t StreamCount() const;
  void AuditStreams(DatagramBytes& sum);
  void AsleepStreams();
  void AsleepStream(const DnsStreams::Connection& connection);
  void NoDatagramsLeft();
  void AuditFrames();
  void AsleepFlow(const Flow& flow);
  void AsleepTask(const Flow& flow, Task& task);
  // Take note of the first thing that is wrong.
  void Require(bool holds, const char* what) {
    if (!holds) Note(what);
  }
  void Require(bool holds, const char* name, const char* what) {
    if (!holds) Note(std::string(name) + what);
  }
  void Require(bool holds, const Flow& flow, const char* what) {
    if (!holds) Note(flow, what);
  }
  void Require(bool holds, const EndName& name, const char* what) {
    if (!holds) Note(name, what);
  }
  void Note(const std::string& what);
  void Note(const Flow& flow, const char* what);
  void Note(const EndName& name, const char* what);
  [[nodiscard]] static std::string NameOf(const Flow& flow);

  Stack::Impl& inside_;
  TcpFlows& flows_;
  Relay& relay_;
  const world::SimHost& host_;
  std::string wrong_;
};

}  // namespace penstock

#endif  // PENSTOCK_TESTS_WORLD_AUDIT_H_
