#include "stack/link/link_bell.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "absl/status/status.h"

namespace penstock {

absl::StatusOr<std::unique_ptr<LinkBell>> LinkBell::Create() {
  std::unique_ptr<LinkBell> bell(new LinkBell);
  bell->event_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  bell->epoll_ = bell->event_ < 0 ? -1 : epoll_create1(EPOLL_CLOEXEC);
  epoll_event interest{};
  interest.events = EPOLLIN;
  if (bell->epoll_ < 0 || epoll_ctl(bell->epoll_, EPOLL_CTL_ADD, bell->event_, &interest) != 0) {
    return absl::ResourceExhaustedError("cannot make the descriptors of a doorbell: " +
                                        std::generic_category().message(errno));
  }
  return bell;
}

LinkBell::~LinkBell() {
  if (epoll_ >= 0) close(epoll_);
  if (event_ >= 0) close(event_);
}

void LinkBell::Ring() noexcept {
  rings_.fetch_add(1, std::memory_order_release);
  const uint64_t one = 1;
  // Fails only when 2^64 - 2 rings are unread, and then it is readable already.
  [[maybe_unused]] const ssize_t written = write(event_, &one, sizeof one);
}

void LinkBell::Quiet() noexcept {
  if (rings_.load(std::memory_order_acquire) == taken_) return;
  uint64_t count = 0;
  // EAGAIN: the Ring is announced but not yet written; it will wake us again.
  if (read(event_, &count, sizeof count) == sizeof count) taken_ += count;
}

}  // namespace penstock
