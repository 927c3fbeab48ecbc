#include "relay/flow_decisions.h"

namespace penstock {

void FlowDecisions::OnDialFailed(int error) {
  if (stack_closed_) return;
  broken_ = failure_untold_ = true;
  error_ = error;
}

void FlowDecisions::OnHostError(int error) {
  if (broken_) return;
  broken_ = true;
  // After both ends said their last word there is nobody left to tell.
  reset_untold_ = !stack_closed_;
  error_ = error;
}

bool FlowDecisions::MayRead(uint64_t limit_bytes) {
  if (!connected_ || broken_ || host_eof_ || stack_closed_) return false;
  if (blocks_out_ == 0) {
    read_paused_ = false;
    return true;
  }
  if (read_paused_) {
    if (blocks_out_ > block_credit_ / 2 || block_bytes_out_ > limit_bytes / 2) return false;
    read_paused_ = false;
  }
  if (blocks_out_ < block_credit_ && block_bytes_out_ < limit_bytes) return true;
  read_paused_ = true;
  return false;
}

bool FlowDecisions::TakeFailure(int& error) {
  if (!failure_untold_) return false;
  failure_untold_ = false;
  error = error_;
  return true;
}

bool FlowDecisions::TakeReset(int& error) {
  if (!reset_untold_) return false;
  reset_untold_ = false;
  error = error_;
  return true;
}

}  // namespace penstock
