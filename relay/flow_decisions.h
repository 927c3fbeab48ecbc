// What a relay task decides: what to read, write, shut, reset and say, and when.
// No descriptor, thread, clock or Asio in here: the task (tcp_task.h) reports
// facts and performs what the questions below answer, and so does a test or a
// simulation.
//
// Life of a flow:  dialing → open → ended.
// Within `open` the two directions are latches that only ever close:
//   to host:  guest_fin → (all bytes written) → write side shut
//   to guest: host_eof
// `ended` comes by the stack's kClose (after the last byte is written) or kAbort,
// or by an error of the host socket; kClosed follows when the stack has closed too.
#ifndef PENSTOCK_RELAY_FLOW_DECISIONS_H_
#define PENSTOCK_RELAY_FLOW_DECISIONS_H_

#include <cstdint>

#include "relay/flow_pipe.h"

namespace penstock {

class FlowDecisions {
 public:
  // ---- Facts: from the host socket.
  void OnConnected() { connected_ = true; }
  // `error`: an errno. The dial failed and no other destination is left.
  void OnDialFailed(int error);
  // A block of this capacity is on its way to the guest.
  void OnBlockRead(uint32_t bytes = kBigBlockBytes) {
    ++blocks_out_;
    block_bytes_out_ += bytes;
  }
  void OnHostEof() { host_eof_ = true; }
  // The connection broke (ECONNRESET, EPIPE, ETIMEDOUT, …).
  void OnHostError(int error);
  void OnWrote(uint64_t bytes) { unwritten_bytes_ -= bytes; }
  void OnWriteBlocked() { write_blocked_ = true; }
  void OnWritable() { write_blocked_ = false; }
  void OnWriteShut() { write_shut_ = true; }

  // ---- Facts: from the stack.
  void OnGuestData(uint64_t bytes) { unwritten_bytes_ += bytes; }
  void OnGuestFin() { guest_fin_ = true; }
  void OnClose() { stack_closed_ = guest_fin_ = true; }
  void OnAbort() { stack_closed_ = aborted_ = true; }
  void OnBlockReturned(uint32_t bytes = kBigBlockBytes) {
    --blocks_out_;
    block_bytes_out_ -= bytes;
  }
  // So many blocks may be out from now on.
  void OnCredit(uint32_t blocks) { block_credit_ = blocks; }

  // ---- Decisions.
  // The host socket may be read: fewer blocks are out than there is credit for and fewer than
  // `limit_bytes` (one block is always allowed). Stops there and goes on at half, so
  // that a slow guest costs one wake per half window.
  [[nodiscard]] bool MayRead(uint64_t limit_bytes = uint64_t{kBlockCreditMax} * kBigBlockBytes);
  // The next block may be a big one.
  [[nodiscard]] bool BigBlockFits(uint64_t limit_bytes) const {
    return block_bytes_out_ + kBigBlockBytes <= limit_bytes;
  }
  // Not reading, but an error of the socket must still be noticed.
  [[nodiscard]] bool MustWatchErrors() const { return connected_ && !broken_ && !stack_closed_; }
  [[nodiscard]] bool MayWrite() const {
    return connected_ && !broken_ && !aborted_ && !write_blocked_ && unwritten_bytes_ > 0;
  }
  [[nodiscard]] bool MustShutWrite() const {
    return connected_ && !broken_ && !stack_closed_ && guest_fin_ && !write_shut_ &&
           unwritten_bytes_ == 0;
  }
  // Guest bytes that nobody will take any more: give them back.
  [[nodiscard]] bool MustDiscard() const { return broken_ || aborted_; }
  // The socket is of no more use: close it (with a reset if MustReset), say
  // kClosed, end the task.
  [[nodiscard]] bool done() const {
    return stack_closed_ && (aborted_ || broken_ || unwritten_bytes_ == 0);
  }
  // Close with zero linger, so that the peer does not take a broken transfer for a
  // whole one. (kClose comes only after both ends said FIN; but a write may fail behind that,
  // and not every error means that the peer knows.)
  [[nodiscard]] bool MustReset() const { return aborted_ || broken_; }

  // What the stack is owed; each is true once.
  [[nodiscard]] bool TakeFailure(int& error);
  [[nodiscard]] bool TakeReset(int& error);

  [[nodiscard]] bool connected() const { return connected_; }
  [[nodiscard]] bool broken() const { return broken_; }
  [[nodiscard]] uint64_t unwritten_bytes() const { return unwritten_bytes_; }
  [[nodiscard]] uint32_t blocks_out() const { return blocks_out_; }

 private:
  uint64_t unwritten_bytes_ = 0;
  uint64_t block_bytes_out_ = 0;
  uint32_t blocks_out_ = 0;
  uint32_t block_credit_ = kBlockCredit;
  int error_ = 0;
  bool connected_ = false;
  bool host_eof_ = false;
  bool broken_ = false;  // dial failed or connection broke
  bool failure_untold_ = false;
  bool reset_untold_ = false;
  bool guest_fin_ = false;
  bool write_blocked_ = false;
  bool write_shut_ = false;
  bool read_paused_ = false;
  bool stack_closed_ = false;
  bool aborted_ = false;
};

}  // namespace penstock

#endif  // PENSTOCK_RELAY_FLOW_DECISIONS_H_
