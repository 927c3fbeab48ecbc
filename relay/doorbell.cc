#include "relay/doorbell.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"

namespace penstock {

Doorbell::~Doorbell() {
  if (descriptor_ >= 0) close(descriptor_);
}

absl::Status Doorbell::Open() {
  descriptor_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (descriptor_ < 0) {
    return absl::ResourceExhaustedError(absl::StrCat("cannot open an eventfd: ", strerror(errno)));
  }
  return absl::OkStatus();
}

void Doorbell::Silence() noexcept {
  armed_.store(false, std::memory_order_seq_cst);
  if (!rung_.load(std::memory_order_relaxed)) return;
  // Read first, then clear: whoever rings in between sees rung_ still set and
  // writes nothing, but what it published is seen by the pass that now begins. If
  // there is nothing to read yet, the ringer stands between its flag and its
  // write; the flag stays, and the next Silence empties the eventfd.
  uint64_t count;
  if (read(descriptor_, &count, sizeof count) == sizeof count) {
    rung_.store(false, std::memory_order_seq_cst);
  }
}

void Doorbell::Ring() noexcept {
  if (rung_.exchange(true, std::memory_order_seq_cst)) return;
  const int saved_errno = errno;
  const uint64_t one = 1;
  (void)!write(descriptor_, &one, sizeof one);
  errno = saved_errno;
}

}  // namespace penstock
