// lwIP as a TCP engine: one Engine per stack, one Pcb per flow. The only header
// through which the rest of the stack uses lwIP, and it shows nothing of it.
//
// How: our own table finds the flow of a segment, and its PCB stands on no lwIP
// list. For the time of one call the engine puts that PCB alone on the list that
// lwIP would search (the *singleton list*), and takes it off again; so a call costs
// the same however many flows there are, and nothing but lwIP's tick count lives
// between calls. lwIP's globals are thread-local scratch (third_party/lwip): any
// number of stacks share a thread, and a stack may move between threads.
//
// lwIP's callbacks only record in the Pcb what happened; the flow looks at the
// record afterwards. Nothing is freed inside a callback.
//
// RFC 9293 is the protocol; RFC 6528 the initial sequence numbers; RFC 5961 the
// acceptance of resets, which lwIP follows.
#ifndef PENSTOCK_STACK_TCPIP_ENGINE_H_
#define PENSTOCK_STACK_TCPIP_ENGINE_H_

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "relay/endpoint.h"
#include "relay/time.h"
#include "stack/tcpip/guest_buffer.h"
#include "stack/tcpip/siphash.h"

struct tcp_pcb;
struct pbuf;

namespace penstock {

class Engine;

// lwIP's slow timer, and with it the unit of retransmission timeouts: three ticks
// are the floor.
inline constexpr Duration kTick = std::chrono::milliseconds(100);

// The payload of the largest super-segment: what fits lwIP's 16-bit pbuf length
// with an IPv4 header of 20 or an IPv6 header of 40 bytes and a TCP header of 20.
inline constexpr uint32_t kSuperSegmentBytesIpv4 = 65'495;
inline constexpr uint32_t kSuperSegmentBytesIpv6 = 65'475;

// The window a flow starts with: the largest that a SYN-ACK can say.
inline constexpr uint32_t kInitialWindowBytes = 65'535;
// What a flow's window may grow to (lwIP's TCP_WND).
inline constexpr uint32_t kWindowBytesMax = 4u << 20;

// Why a PCB is gone.
enum class PcbEnd : uint8_t {
  kNone,      // it is alive
  kClosed,    // both sides finished and acknowledged
  kTimeWait,  // the same, and the tuple must rest; see Pcb::time_wait()
  kReset,     // the guest reset it
  kFailed,    // lwIP gave it up (out of memory)
};

struct TcpTuple {
  Endpoint guest;
  Endpoint destination;
};

// The acknowledgement that the guest has not had yet. kSoon: of bytes that came as they should;
// it may wait a moment for data to ride on. kNow: of anything else.
enum class Owed : uint8_t { kNothing, kSoon, kNow };

struct TimeWaitState {
  uint32_t send_next = 0;
  uint32_t receive_next = 0;
};

class Pcb final {
 public:
  Pcb() = default;
  ~Pcb();
  Pcb(const Pcb&) = delete;
  Pcb& operator=(const Pcb&) = delete;

  [[nodiscard]] bool alive() const { return pcb_ != nullptr; }

  // ---- The record: what happened since the flow last looked and cleared it.
  Chunk* received_head = nullptr;  // the guest's bytes, in order
  Chunk* received_tail = nullptr;
  uint32_t received_bytes = 0;
  uint32_t acknowledged_bytes = 0;  // of what was written, whole segments
  bool established = false;
  bool guest_fin = false;
  Owed owed = Owed::kNothing;
  // lwIP had no memory for a segment: to be tried again after the next tick.
  bool short_of_memory = false;
  PcbEnd end = PcbEnd::kNone;
  // Totals.
  uint32_t retransmits_by_dupack = 0;
  uint32_t retransmits_by_timer = 0;
  uint32_t zero_window_probes = 0;

  // Forgets the record; for the next flow of a slot.
  void Clear() {
    received_head = received_tail = nullptr;
    received_bytes = acknowledged_bytes = 0;
    established = guest_fin = short_of_memory = false;
    owed = Owed::kNothing;
    handshake_retransmitted_ = must_cut_ = false;
    end = PcbEnd::kNone;
    retransmits_by_dupack = retransmits_by_timer = zero_window_probes = 0;
  }

  // ---- State, while alive.
  [[nodiscard]] uint32_t send_next() const;
  [[nodiscard]] uint32_t receive_next() const;
  [[nodiscard]] uint32_t send_unacknowledged() const;
  // What the guest may send beyond receive_next(), and of that what it was told.
  [[nodiscard]] uint32_t receive_window() const;
  [[nodiscard]] uint32_t announced_window() const;
  [[nodiscard]] uint32_t negotiated_mss() const { return negotiated_mss_; }
  [[nodiscard]] bool in_handshake() const;
  // The SYN is ours and not answered yet.
  [[nodiscard]] bool connecting() const;
  // Everything written was acknowledged.
  [[nodiscard]] bool drained() const;
  // Something must happen by time alone: retransmission, probe, reassembly.
  [[nodiscard]] bool NeedsTick() const;
  [[nodiscard]] TimeWaitState time_wait() const { return time_wait_; }

 private:
  friend class Engine;
  friend struct LwipCallbacks;
  struct tcp_pcb* pcb_ = nullptr;
  uint32_t window_bytes_ = 0;    // the flow's whole receive window
  uint32_t negotiated_mss_ = 0;  // payload bytes of one segment on the wire
  uint32_t opened_tick_ = 0;
  bool handshake_retransmitted_ = false;
  bool must_cut_ = false;  // what is in flight may be larger than the segment size is now
  TimeWaitState time_wait_;
  TcpTuple tuple_;
  void* owner_ = nullptr;
};

// A segment that lwIP wants to leave. Valid during the call.
struct SegmentToGuest {
  void* owner;  // as given to Accept or Connect
  const TcpTuple& tuple;
  std::span<const uint8_t> header;  // the TCP header with options; checksum 0
  // Payload in lwIP's own memory (the byte of a window probe, the rest of a segment
  // that was split): to be copied, lwIP may free it before the frame has left.
  std::span<const uint8_t> own_payload;
  std::span<const iovec> payload;  // behind it: what Write() was given
  uint32_t payload_bytes;          // of both
  uint32_t negotiated_mss;
};

class SegmentSink {
 public:
  // False: there is no room now; lwIP keeps the segment and the flow tries again.
  virtual bool SendSegment(const SegmentToGuest& segment) noexcept = 0;

 protected:
  ~SegmentSink() = default;
};

struct EngineOptions {
  uint32_t mtu = 1500;
  // Segments to the guest may be larger than the MTU (the link segments them).
  bool super_segments_ipv4 = false;
  bool super_segments_ipv6 = false;
  SipKey isn_key = RandomSipKey();
};

// What follows bytes to the guest.
enum class Behind {
  kMore,
  kNothing,  // for now: the guest is to pass on what it has
  kFin,      // in the same segment
};

struct OpenOptions {
  // Payload of a segment that the guest takes. Connect: what it will probably offer,
  // until SetNegotiatedMss.
  uint32_t negotiated_mss = 536;
  uint32_t window_bytes = kInitialWindowBytes;
  // The initial sequence number lies beyond this one: what the last connection of the
  // tuple, in TIME_WAIT, used.
  std::optional<uint32_t> isn_after = std::nullopt;
};

class Engine final {
 public:
  Engine(const EngineOptions& options, SegmentSink& sink);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // At the start of each pass.
  void SetTime(Time now);

  // Answers a SYN: `tcp_header` is the SYN's (20–60 bytes, network order, checked);
  // it is swapped in place. `owner` comes back in SegmentToGuest. False if lwIP
  // had no memory.
  [[nodiscard]] bool Accept(Pcb& pcb, const TcpTuple& tuple, std::span<uint8_t> tcp_header,
                            const OpenOptions& options, void* owner);
  // Sends a SYN to the tuple's guest from its destination: repeated each second until
  // it is answered (`established`), refused (kReset) or given up by the caller. False
  // if lwIP had no memory.
  [[nodiscard]] bool Connect(Pcb& pcb, const TcpTuple& tuple, const OpenOptions& options,
                             void* owner);
  // Before Receive of the guest's SYN-ACK: what it offers.
  void SetNegotiatedMss(Pcb& pcb, uint32_t mss) { pcb.negotiated_mss_ = mss; }

  // Feeds a segment: `segment` is the TCP header and its payload inside `buffer`,
  // which the engine owns from then on unless it is a receive slot.
  void Receive(Pcb& pcb, GuestBuffer& buffer, std::span<uint8_t> segment);

  // A segment that starts behind the window's right edge is not acceptable (RFC 9293
  // 3.10.7.4) and must not be fed: lwIP would believe the window that it states, and no
  // honest one after it. It is owed an acknowledgement.
  [[nodiscard]] bool BeyondWindow(const Pcb& pcb, uint32_t sequence) const;

  // How many of `wanted` bytes should be written now: what the guest's window and
  // the congestion window let leave at once, at most 65,535; 0 to wait. At a closed
  // window one byte, which lwIP then probes with.
  [[nodiscard]] uint32_t SendRoom(const Pcb& pcb, uint32_t wanted) const;
  // Sends `data`, which stays where it is until acknowledged. At most SendRoom().
  // False if lwIP had no memory: nothing was taken, and the next tick is the time to try again.
  [[nodiscard]] bool Write(Pcb& pcb, std::span<const uint8_t> data, Behind behind);
  // FIN after everything written.
  void ShutdownWrite(Pcb& pcb);
  // Sends what may leave now (after the sink had no room).
  void Output(Pcb& pcb);
  // `bytes` received were taken by the host: the window opens again.
  void Consume(Pcb& pcb, uint32_t bytes);
  void GrowWindow(Pcb& pcb, uint32_t window_bytes);
  // At the end of a pass: acknowledges what was received and tells a window that
  // moved far enough. An acknowledgement up to `may_stay` is left to be owed.
  void Acknowledge(Pcb& pcb, Owed may_stay);
  // Probes an idle guest (RFC 9293 3.8.4).
  void SendKeepalive(Pcb& pcb);
  // The path carries less than was negotiated; segments in flight are sent again: now, or, where
  // the link still holds some of them, at a later tick.
  void LowerMss(Pcb& pcb, uint32_t mss);
  // RST to the guest; the PCB is gone.
  void Abort(Pcb& pcb);
  // The PCB is gone without a word.
  void Drop(Pcb& pcb);

  // One tick for these PCBs, which must be those whose NeedsTick() is true.
  void Tick(std::span<Pcb* const> pcbs);
  // A guest that was silent is back: lets the timer of what was sent more than once
  // without an answer expire at the next tick.
  void HurryRetransmission(Pcb& pcb);
  // The same for a SYN, however often it was sent: it never reached the guest.
  void HurryConnect(Pcb& pcb);

 private:
  friend struct LwipCallbacks;
  class Scope;
  struct Lwip;

  void Prepare(Pcb& pcb, const TcpTuple& tuple, const OpenOptions& options, void* owner);
  void SetCallbacks(Pcb& pcb);
  [[nodiscard]] uint32_t SuperSegmentBytes(const Pcb& pcb) const;
  void Cut(Pcb& pcb);
  void NoteDupack(Pcb& pcb, bool was_recovering);
  void TakeHandshakeTime(Pcb& pcb);

  const EngineOptions options_;
  SegmentSink& sink_;
  Time now_{};
  std::optional<uint32_t> isn_after_;  // of the Accept or Connect under way
  uint32_t ticks_ = 1000;              // lwIP reads 0 as "no measurement"
  std::unique_ptr<Lwip> lwip_;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_TCPIP_ENGINE_H_
