#include "relay/reactor_check.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/system/error_code.hpp>
#include <chrono>
#include <exception>

#include "absl/strings/str_cat.h"

namespace penstock {
namespace {

bool TimerEnds(boost::asio::io_context& io) {
  bool ended = false;
  {
    boost::asio::steady_timer timer(io, std::chrono::steady_clock::duration::zero());
    timer.async_wait([&ended](boost::system::error_code error) { ended = !error; });
    (void)io.run_one_for(std::chrono::seconds(1));
  }
  io.restart();
  (void)io.poll();  // a handler that was cancelled knows of `ended`
  io.restart();
  return ended;
}

}  // namespace

absl::Status CheckTimers(boost::asio::io_context& io) {
  try {
    if (TimerEnds(io)) return absl::OkStatus();
  } catch (const std::exception& error) {
    // Asio throws where it finds no descriptors for its reactor.
    return absl::ResourceExhaustedError(absl::StrCat("cannot wait for events: ", error.what()));
  }
  return absl::ResourceExhaustedError(
      "cannot watch a timer: the system has no memory, or no watches left (raise "
      "fs.epoll.max_user_watches with sysctl)");
}

}  // namespace penstock
