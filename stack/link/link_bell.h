// A link's doorbell: a descriptor that one side rings to wake the other, readable
// from a Ring until the sleeper's next Quiet, and never writable.
//
// Underneath is an eventfd. An eventfd alone is always writable, so a poll loop
// that waits for "the link takes frames again" would spin on it; therefore the
// descriptor that others see is an epoll instance over the eventfd, which can only
// be readable.
//
// It counts Rings and does not merge them: `rings_` says how many were announced,
// `taken_` how many were read back. So Quiet makes no system call unless something
// was rung, and a Ring that is announced but not yet written is neither lost nor
// leaves the descriptor readable for good. A link's ring may carry a fact (room,
// the end) that no index shows, so it must not be swallowed by an earlier one.
//
// Ring: any thread. Quiet: the one thread that sleeps on it.
#ifndef PENSTOCK_STACK_LINK_LINK_BELL_H_
#define PENSTOCK_STACK_LINK_LINK_BELL_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"

namespace penstock {

class LinkBell final {
 public:
  // ResourceExhausted if there are no descriptors left (it takes two).
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<LinkBell>> Create();
  ~LinkBell();
  LinkBell(const LinkBell&) = delete;
  LinkBell& operator=(const LinkBell&) = delete;

  void Ring() noexcept;
  // After it the descriptor is quiet, unless it was rung meanwhile.
  void Quiet() noexcept;

  // Level-triggered; owned by the doorbell.
  [[nodiscard]] int descriptor() const { return epoll_; }

 private:
  LinkBell() = default;

  int event_ = -1;
  int epoll_ = -1;
  std::atomic<uint64_t> rings_{0};  // pairs with the load in Quiet
  uint64_t taken_ = 0;              // the sleeper's
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_LINK_LINK_BELL_H_
