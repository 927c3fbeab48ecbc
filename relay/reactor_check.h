// Whether an io_context's timers can work at all.
//
// Asio gives epoll two descriptors of its own when the first object of an io_context is made,
// and does not look whether epoll took them. The kernel may refuse each (fs.epoll.max_user_watches,
// memory): then timers never end, or nobody can wake the thread, without a word. Whoever runs an
// io_context of ours asks once, before it runs; threads of ours are woken by their Doorbell.
#ifndef PENSTOCK_RELAY_REACTOR_CHECK_H_
#define PENSTOCK_RELAY_REACTOR_CHECK_H_

#include "absl/status/status.h"

namespace boost::asio {
class io_context;
}

namespace penstock {

// Before anything was posted to `io`, by the thread that sets it up. Takes some microseconds,
// and a second where they do not work.
[[nodiscard]] absl::Status CheckTimers(boost::asio::io_context& io);

}  // namespace penstock

#endif  // PENSTOCK_RELAY_REACTOR_CHECK_H_
