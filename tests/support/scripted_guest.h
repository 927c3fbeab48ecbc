// A guest that follows a script: it writes its TCP segments by hand and looks at
// every segment that the stack sends.
//
//   ScriptedGuest guest({.family = Family::kIpv6});
//   GuestFlow& flow = guest.Flow(listener.port());
//   flow.Send({.flags = kTcpSyn, .mss = 1440});
//   GuestSegment answer = flow.Expect(kTcpSyn | kTcpAck);
//   flow.Send({.payload = "hello"});               // ACKs what came so far, too
//   flow.Expect(kTcpAck);
//
// Time is virtual: it stands still but for Advance and ExpectWithin, which go from
// deadline to deadline, so that a script of two hours runs in milliseconds. The
// host's end is real sockets on loopback behind a relay thread: Until and Expect
// wait for it on Stack::descriptor(), with a hard limit on real time.
//
// Sequence numbers in scripts are relative: 0 is the SYN's, the guest's or the
// stack's, and the first byte is 1. On the wire every guest starts shortly below
// 2^32, so that every script of some length wraps.
//
// Every segment from the stack is held against what no TCP may ever do (see
// GuestFlow::Check), in every script. What is wrong throws ScriptError with the
// trace of all segments. One thread at a time.
#ifndef PENSTOCK_TESTS_SUPPORT_SCRIPTED_GUEST_H_
#define PENSTOCK_TESTS_SUPPORT_SCRIPTED_GUEST_H_

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "relay/time.h"
#include "stack/stack.h"
#include "tests/support/guest_segment.h"
#include "tests/support/memory_link.h"

namespace penstock {

class ScriptedGuest;

// What the guest sends. What is unset is what a well-behaved guest would say.
struct GuestSend {
  uint8_t flags = kTcpAck;
  std::optional<uint32_t> sequence{};         // unset: behind what was sent
  std::optional<uint32_t> acknowledgement{};  // unset: all that came in order
  std::optional<uint16_t> window{};           // unset: as last time
  std::optional<uint16_t> mss{};
  std::optional<uint8_t> window_scale{};
  bool sack_permitted = false;
  std::string payload{};
  // Set: one frame of many segments of this size, as a guest with TSO sends it.
  uint16_t gso_segment_bytes = 0;
  // Set: the segment leaves in IP fragments of so many bytes, a multiple of 8.
  uint32_t fragment_bytes = 0;
};

// The options of a whole handshake. The scale is 0 so that windows are bytes.
struct HandshakeOptions {
  std::optional<uint16_t> mss{};  // unset: what fits 1500 bytes
  std::optional<uint8_t> window_scale = 0;
  bool sack_permitted = true;
  uint16_t window = 65535;
};

// One flow as the guest sees it, from its SYN, or the stack's, to the end. Segments from
// the stack wait in order until Expect takes them.
class GuestFlow {
 public:
  GuestFlow(ScriptedGuest& world, const Endpoint& guest, const Endpoint& destination,
            uint32_t guest_isn);

  // Puts a segment on the link; the stack sees it with the next pass.
  void Queue(const GuestSend& segment);
  // Queue and a pass.
  void Send(const GuestSend& segment);

  // The next segment that is no mere window update. Waits for the host's end, but
  // no virtual time goes by. Its flags must be `flags`; PSH does not count.
  GuestSegment Expect(uint8_t flags);
  // The same, and virtual time goes by, at most `limit`.
  GuestSegment ExpectWithin(Duration limit, uint8_t flags);
  // None waits after a pass.
  void ExpectNothing();
  // Segments that wait, window updates with them.
  [[nodiscard]] const std::deque<GuestSegment>& waiting() const { return inbox_; }
  // Throws away what waits.
  void Forget() { inbox_.clear(); }

  // SYN, SYN-ACK, ACK. Returns the SYN-ACK.
  GuestSegment Handshake(const HandshakeOptions& options = {});
  // Answers the SYN of a flow that Arrived: SYN-ACK, and the stack's ACK.
  void Answer(const HandshakeOptions& options = {});
  void SendSyn(const HandshakeOptions& options = {});
  // Sends `bytes` in segments of the MSS as the stack's window allows, waiting for
  // it to open; no virtual time goes by.
  void SendAll(std::string_view bytes);
  // Acknowledges everything until `count` bytes have come, or FIN; no virtual time
  // goes by. ReceiveWithin lets it.
  void ReceiveTo(size_t count);
  void ReceiveWithin(Duration limit, size_t count);

  [[nodiscard]] const Endpoint& guest() const { return guest_; }
  [[nodiscard]] const Endpoint& destination() const { return destination_; }
  // What came in order so far.
  [[nodiscard]] const std::string& received() const { return received_; }
  // The stack's FIN came, and all before it.
  [[nodiscard]] bool finished() const { return finished_; }
  [[nodiscard]] bool reset() const { return reset_; }
  // Relative sequence numbers: where the guest's next byte goes, and the stack's.
  [[nodiscard]] uint32_t next() const { return next_; }
  [[nodiscard]] uint32_t expected() const { return expected_; }
  // Bytes that the stack's window lets the guest send now.
  [[nodiscard]] uint32_t window_left() const { return window_edge_ - next_; }
  [[nodiscard]] uint16_t segment_bytes_max() const { return segment_bytes_max_; }
  [[nodiscard]] uint32_t stack_isn() const { return stack_isn_; }
  // As the stack sent it, with its absolute number: what an ICMP error quotes.
  [[nodiscard]] GuestSegment AsSent(uint32_t sequence) const;

 private:
  friend class ScriptedGuest;

  // A segment from the stack, numbers absolute. Makes them relative, checks it and
  // takes note of it.
  void Take(GuestSegment segment);
  void Check(const GuestSegment& segment);
  void CheckWindow(const GuestSegment& segment);
  void CheckPayload(const GuestSegment& segment);
  void Note(const GuestSegment& segment);
  GuestSegment PopExpected(uint8_t flags);
  bool HasSegment();
  [[nodiscard]] uint32_t WindowEdge(const GuestSegment& segment) const;
  void AcknowledgeWaiting();

  ScriptedGuest& world_;
  const Endpoint guest_;
  const Endpoint destination_;
  const uint32_t guest_isn_;
  uint32_t stack_isn_ = 0;
  bool has_stack_isn_ = false;
  bool syn_sent_ = false;
  std::deque<GuestSegment> inbox_;

  // The guest as sender.
  uint32_t next_ = 0;
  uint32_t sent_edge_ = 0;  // behind the highest that was sent
  bool fin_sent_ = false;
  uint32_t acked_ = 0;        // the highest acknowledgement from the stack
  uint32_t window_edge_ = 0;  // right edge of the stack's window
  uint8_t stack_scale_ = 0;
  bool stack_offered_scale_ = false;
  bool scales_ = false;  // both SYNs had the option

  // The guest as receiver.
  uint16_t window_ = 65535;  // of the next segment
  uint8_t guest_scale_ = 0;
  bool offered_scale_ = false;
  uint32_t guest_edge_ = 0;  // right edge of the widest window that was advertised
  uint16_t segment_bytes_max_ = 0;
  uint32_t expected_ = 0;
  std::string received_;
  std::string seen_;  // byte i is sequence number i + 1, in order or not
  std::vector<bool> is_seen_;
  bool finished_ = false;
  bool reset_ = false;
};

// The default but for host_loopback.
[[nodiscard]] Config LoopbackConfig();

struct ScriptOptions {
  Family family = Family::kIpv4;
  Config config = LoopbackConfig();
  // The default is a link without offloads: every frame stands on the wire.
  LinkCapabilities link{};
};

// Offloads as a tap with a virtio-net header has them.
[[nodiscard]] LinkCapabilities OffloadingLink();

class ScriptedGuest {
 public:
  explicit ScriptedGuest(ScriptOptions options);

  // A flow to `port` of the gateway from a fresh port of the guest's.
  GuestFlow& Flow(uint16_t port);
  GuestFlow& Flow(uint16_t port, Family family);
  // From the same port, with a later initial sequence number; the script of
  // `again` is over.
  GuestFlow& FlowAgain(const GuestFlow& again);

  // The next flow that the stack opened: its SYN waits to be expected.
  GuestFlow& Arrived();

  // One pass.
  void Pass();
  // Passes until nothing is due at the present virtual time.
  void Pump();
  // Virtual time goes by, from deadline to deadline.
  void Advance(Duration duration);
  // Time goes by and the stack does not look: what was queued before and what has become due
  // meet in one pass.
  void Oversleep(Duration duration);
  // The same until `done`; throws if `limit` was not enough. Returns the time taken.
  Duration AdvanceUntil(std::string_view what, Duration limit, const std::function<bool()>& done);
  // Passes until `done`, as relay thread and host sockets go on; the limit is real.
  void Until(std::string_view what, const std::function<bool()>& done);
  // Waits, without a pass, until the stack asks for one.
  void UntilWoken();
  // True if the stack asks for no pass for a while of real time.
  [[nodiscard]] bool StaysQuiet();

  // The guest's ICMP error about a segment of the stack's, then a pass.
  void SendTooBig(const TooBig& report);
  // Any other frames of the guest's, then a pass.
  void SendFrames(const std::vector<std::vector<uint8_t>>& frames);
  // Nothing may be sent or waited for afterwards.
  void DestroyStack();

  [[nodiscard]] Stack& stack() { return *stack_; }
  [[nodiscard]] bool has_stack() const { return stack_ != nullptr; }
  [[nodiscard]] MemoryLink& link() { return *link_; }
  [[nodiscard]] CounterSnapshot counters() const { return stack_->Snapshot(); }
  [[nodiscard]] Time now() const { return now_; }
  // A frame of any kind, for the next pass.
  void QueueFrame(const EncodedFrame& frame) { Queue(frame); }
  [[nodiscard]] const MacPair& macs() const { return macs_; }
  // What the last pass returned.
  [[nodiscard]] Time deadline() const { return deadline_; }
  [[nodiscard]] Family family() const { return options_.family; }
  [[nodiscard]] const Config& config() const { return options_.config; }
  [[nodiscard]] uint64_t frames_sent() const { return frames_sent_; }
  // Frames from the stack that carried no TCP.
  [[nodiscard]] const std::vector<std::vector<uint8_t>>& other_frames() const {
    return other_frames_;
  }
  // All segments so far, one per line.
  [[nodiscard]] std::string Trace() const;
  [[noreturn]] void Fail(const std::string& what) const;

 private:
  friend class GuestFlow;

  [[nodiscard]] const FamilyConfig& Addresses(Family family) const;
  void Queue(const EncodedFrame& frame);
  void Collect();
  [[nodiscard]] bool WaitForWake() const;
  void Log(std::string_view direction, const GuestFlow& flow, const GuestSegment& relative);

  ScriptOptions options_;
  MacPair macs_;
  MemoryLink* link_ = nullptr;  // the stack's
  std::unique_ptr<Stack> stack_;
  std::deque<std::unique_ptr<GuestFlow>> flows_;
  std::deque<GuestFlow*> arrived_;
  Time now_;
  Time deadline_ = kNever;
  uint16_t next_port_ = 40000;
  uint64_t frames_sent_ = 0;
  std::vector<std::vector<uint8_t>> other_frames_;
  std::vector<std::string> trace_;
};

}  // namespace penstock

#endif  // PENSTOCK_TESTS_SUPPORT_SCRIPTED_GUEST_H_
