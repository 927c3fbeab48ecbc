// What the two sides of one UDP socket of the host's share: datagrams, and nothing else.
// The socket has any number of peers; who they are is written on each datagram.
// A stream that carries messages is behind such a pipe, too (framed_task.h): each message
// is a datagram, there is one peer, and none is lost.
//
// The *stack end* belongs to the poll thread, the *relay end* to the relay's thread.
//
//   to_guest   relay → stack   datagrams that arrived at the socket
//   delivered  stack → relay   the same ones, given back once no frame refers to them
//   to_host    stack → relay   datagrams to send
//   sent       relay → stack   the same ones, given back
//
// A datagram belongs to the side that made it: it comes out of that side's DatagramPool
// and goes back there. The lists have no capacity; what bounds a queue is that its maker
// counts the bytes that are out and, beyond its limit, drops (datagram_pool.h). That is
// what UDP promises, and it is counted where it happens.
//
// Who puts something into to_guest or to_host marks the pipe for the other side (class
// ReadyPipes) and rings the other side's doorbell, once for a batch. What is given back
// is marked, but nobody is woken for it, unless a task of the relay's waits for datagrams
// (Relay::wants_datagrams) or the stack may wait to hear that all was sent (framed_task.h).
//
// The end, for which the stack decides:
//
//   1. The stack gives back every datagram of the relay's that it has, puts nothing into
//      to_host any more, and says `stack_done`: its last word. From then on it only
//      reads `sent` and `relay_done`.
//   2. The relay sees it. to_guest has no other reader now, so what is still there comes
//      home, too. It gives back every datagram of the stack's, closes the socket, says
//      `relay_done`: its last word.
//   3. The stack takes the last of its datagrams home and lets go of the pipe.
//
// Late marks do no harm: a pipe on a list of ReadyPipes keeps itself alive, and a side
// that is done has cleared its own pointer (`relay_task`, `stack_end`).
#ifndef PENSTOCK_RELAY_DATAGRAM_PIPE_H_
#define PENSTOCK_RELAY_DATAGRAM_PIPE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "relay/endpoint.h"
#include "relay/fault.h"
#include "relay/inbound.h"
#include "relay/socket_factory.h"
#include "relay/spsc_queue.h"

namespace penstock {

class DatagramTask;
struct DatagramPipe;

// A socket's peer, and what of the host's side belongs to it. All of it together says
// who a peer is: who asks two addresses of the host's is two peers, or an answer would
// come from an address that was not asked.
struct DatagramPath {
  Endpoint peer;
  // The address of the host's that the peer talks to, where the socket is bound to all of
  // them; else unspecified.
  IpAddress local;
  // The interface of a link-local peer; else 0.
  uint32_t interface = 0;

  friend bool operator==(const DatagramPath&, const DatagramPath&) = default;
};

// In front of a datagram's data, for a header that the stack puts before it. A PROXY
// protocol header takes up to 52 bytes.
inline constexpr uint32_t kDatagramHeadroomBytes = 64;

// What a datagram to host met. The ICMP errors are those that the host was sent.
struct DatagramFault {
  FaultKind kind = FaultKind::kNone;
  uint32_t mtu = 0;    // kTooBig: of the path, 0 if nobody said
  int error = 0;       // kNoSocket, kStreamBroken: errno
  IpAddress offender;  // who sent the ICMP error; unspecified: the host itself
};

// From or to a peer.
struct Datagram {
  Datagram* next = nullptr;
  uint8_t* data = nullptr;  // the payload, behind kDatagramHeadroomBytes
  uint32_t length = 0;
  uint32_t capacity = 0;
  DatagramPath path;
  // Not 0: `data` is several datagrams of so many bytes each, the last one perhaps
  // shorter, between the same two ends.
  uint16_t segment_bytes = 0;
  // Of the packet; to host of a socket that the stack asked for, else without meaning.
  uint8_t hop_limit = 0;
  uint8_t traffic_class = 0;  // DSCP in the upper six bits; the others are 0
  bool dont_fragment = false;
  // To guest: set, this is no datagram. `path.peer` is where one was sent, `data` what is
  // known of its payload, from the front.
  DatagramFault fault;

  // Datagrams in it.
  [[nodiscard]] uint32_t count() const {
    return segment_bytes == 0 || length == 0 ? 1 : (length - 1) / segment_bytes + 1;
  }
};

// The largest payload of a UDP datagram: 65,527 bytes in IPv6; rounded up.
inline constexpr uint32_t kDatagramBytesMax = 65'536;

// What a stack may wait for that it has given to a stream of messages: that no more than so much
// of it, in DatagramPool's cost, is left out. It is woken at the latest when so much was sent.
inline constexpr uint64_t kStreamUnsentBytesMax = 256 << 10;

// A pipe's place on one list of ReadyPipes.
struct PipeMark {
  PipeMark* next = nullptr;
  std::atomic<bool> set{false};
  std::shared_ptr<DatagramPipe> pipe;  // while set
};

struct DatagramPipe : std::enable_shared_from_this<DatagramPipe> {
  // Set: the relay opens the socket when it first serves the pipe; else it was there before.
  std::optional<DatagramRequest> request;
  // With kFramedStream: the relay takes this one instead of connecting. Written by the stack
  // before the relay first hears of the pipe.
  std::unique_ptr<AcceptedSocket> accepted;
  // Datagrams to guest of one peer may share a buffer.
  bool may_join = true;

  ReturnList<Datagram> to_guest;
  ReturnList<Datagram> delivered;
  ReturnList<Datagram> to_host;
  ReturnList<Datagram> sent;
  std::atomic<bool> stack_done{false};
  std::atomic<bool> relay_done{false};
  PipeMark for_relay;
  PipeMark for_stack;

  DatagramTask* relay_task = nullptr;  // the relay's own
  void* stack_end = nullptr;           // the stack's own
};

// The pipes that have something for one side, each at most once: one thread marks, one
// thread serves. Intrusive, so that it cannot overflow however many ports there are.
class ReadyPipes final {
 public:
  ReadyPipes() = default;
  ~ReadyPipes() {
    Serve([](DatagramPipe&) {});
  }
  ReadyPipes(const ReadyPipes&) = delete;
  ReadyPipes& operator=(const ReadyPipes&) = delete;

  // `mark` is the one of `pipe` for this list. The exchange is the partner of Serve's:
  // what was put into the pipe before it is seen after that.
  void Mark(PipeMark& mark, DatagramPipe& pipe) noexcept {
    if (mark.set.exchange(true, std::memory_order_seq_cst)) return;
    mark.pipe = pipe.shared_from_this();
    marks_.Push(&mark);
  }
  template <typename Visitor>
  void Serve(Visitor&& visit) {
    for (PipeMark* mark = marks_.TakeAll(); mark != nullptr;) {
      PipeMark* next = mark->next;
      const std::shared_ptr<DatagramPipe> pipe = std::move(mark->pipe);
      // From here on it may be marked again.
      mark->set.exchange(false, std::memory_order_seq_cst);
      visit(*pipe);
      mark = next;
    }
  }
  [[nodiscard]] bool empty() const noexcept { return marks_.empty(); }

 private:
  ReturnList<PipeMark> marks_;
};

}  // namespace penstock

#endif  // PENSTOCK_RELAY_DATAGRAM_PIPE_H_
