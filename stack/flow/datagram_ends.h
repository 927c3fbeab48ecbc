// The stack's ends of the pipes of datagrams (relay/datagram_pipe.h), of whatever owner:
// taking what the relays bring, turns, giving back, the end of a pipe.
//
// A pass calls, in this order: TakeFromRelays, ServeReady, then the batch's Flush,
// AfterFlush, RingRelays. Work is in proportion to the datagrams that came.
//
// An owner that can take no more for now holds its end: what comes waits, and a relay that
// must not drop anything (relay/framed_task.h) stops reading.
//
// An end that is closed is `leaving` until the relay has said its last word; its owner
// keeps it until then. Poll thread only.
#ifndef PENSTOCK_STACK_FLOW_DATAGRAM_ENDS_H_
#define PENSTOCK_STACK_FLOW_DATAGRAM_ENDS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "relay/datagram_pool.h"
#include "relay/relay.h"
#include "stack/counters.h"
#include "stack/flow/frame_batch.h"

namespace penstock {

struct DatagramEnd;

class DatagramOwner {
 public:
  // A datagram for the guest, or a fault. True if the batch refers to its bytes now.
  [[nodiscard]] virtual bool ToGuest(DatagramEnd& end, Datagram& datagram) = 0;
  // The relay has let go of the pipe; `end` may be destroyed.
  virtual void Forget(DatagramEnd& end) = 0;
  // Some of our datagrams came home: `end.bytes_out` is less. Not of an end that was closed.
  virtual void OnHome(DatagramEnd&) {}

 protected:
  ~DatagramOwner() = default;
};

// One pipe's. The owner's to make; the rest is DatagramEnds'.
struct DatagramEnd {
  DatagramOwner* owner = nullptr;
  std::shared_ptr<DatagramPipe> pipe;
  Relay* relay = nullptr;
  size_t relay_index = 0;
  // The relay's, in order, that wait for a turn.
  Datagram* waiting_head = nullptr;
  Datagram* waiting_tail = nullptr;
  uint64_t bytes_out = 0;  // of our datagrams at the relay
  bool ready = false;
  bool held = false;
  bool leaving = false;
  bool done_told = false;
};

class DatagramEnds final {
 public:
  // References outlive this, `relays` until Shutdown of every end.
  DatagramEnds(FrameBatch& batch, Counters& counters, std::vector<Relay*> relays);
  DatagramEnds(const DatagramEnds&) = delete;
  DatagramEnds& operator=(const DatagramEnds&) = delete;

  // `end` stays where it is until its owner is told to forget it.
  void Open(DatagramEnd& end, DatagramOwner& owner, std::shared_ptr<DatagramPipe> pipe,
            Relay& relay);
  // The relay makes the socket of pipe->request now, not when there is something to send.
  void Begin(DatagramEnd& end) { MarkForRelay(end); }
  // Nothing is served until Resume.
  void Hold(DatagramEnd& end) { end.held = true; }
  void Resume(DatagramEnd& end);
  // Nothing more goes either way.
  void Close(DatagramEnd& end);

  void TakeFromRelays();
  // Serves at most `datagrams_max`; false if more wait.
  [[nodiscard]] bool ServeReady(size_t datagrams_max);
  // With an empty batch: gives datagrams back and says last words.
  void AfterFlush();
  void RingRelays();

  // A datagram of ours with room for `length` bytes, to be filled and sent; nullptr: the
  // end is at its limit.
  [[nodiscard]] Datagram* NewDatagram(DatagramEnd& end, size_t length);
  void Send(DatagramEnd& end, Datagram* datagram);

  [[nodiscard]] const std::vector<Relay*>& relays() const { return relays_; }

  // After the relays were shut down, in this order: what the batch refers to; each end,
  // whose datagrams go home.
  void ShutdownBatch();
  void Shutdown(DatagramEnd& end);

 private:
  friend class FlowAudit;  // tests/world
  // Datagrams of one end in a row before the next ready one has its turn.
  static constexpr size_t kTurnDatagrams = 32;

  void Take(DatagramEnd& end);
  void TakeHome(DatagramEnd& end);
  void MakeReady(DatagramEnd& end);
  size_t Serve(DatagramEnd& end, size_t datagrams_max);  // how many
  void GiveBack(DatagramEnd& end, Datagram* datagram);
  void SayLastWord(DatagramEnd& end);
  void MarkForRelay(DatagramEnd& end);

  FrameBatch& batch_;
  Counters& counters_;
  const std::vector<Relay*> relays_;
  std::vector<bool> relay_to_ring_;
  std::vector<bool> gave_back_;  // to that relay, in this pass
  DatagramPool pool_;
  std::vector<DatagramEnd*> ready_, serving_;
  std::vector<DatagramEnd*> closing_, parting_;  // whose last word is not said yet
  // Datagrams to which frames in the batch refer.
  std::vector<std::pair<DatagramEnd*, Datagram*>> in_batch_;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_FLOW_DATAGRAM_ENDS_H_
