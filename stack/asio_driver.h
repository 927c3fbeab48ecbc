// One thread for everything: the stack and its relay tasks on the embedder's
// io_context. Best for round trips and small machines (no hop between threads).
//
//   boost::asio::io_context io;
//   auto driver = AsioDriver::Create(io, {.relay_threads = 0}, std::move(link));
//   driver->Run();  // or io.run(), if the io_context has other things to do
//
// The driver keeps the io_context busy until Stop() or its destruction. All of it
// belongs to the one thread that runs the io_context, but for Stack::Wake, Post
// and Snapshot. A std::bad_alloc that leaves io_context::run() has to end the process: what
// it left in the middle cannot go on.
#ifndef PENSTOCK_STACK_ASIO_DRIVER_H_
#define PENSTOCK_STACK_ASIO_DRIVER_H_

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "stack/stack.h"

namespace penstock {

class AsioDriver {
 public:
  // `config.relay_threads` must be 0. The io_context outlives the driver and is
  // run by one thread only. The first pass happens when the io_context runs.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<AsioDriver>> Create(
      boost::asio::io_context& io, Config config, std::unique_ptr<Link> link);
  ~AsioDriver();
  AsioDriver(const AsioDriver&) = delete;
  AsioDriver& operator=(const AsioDriver&) = delete;

  [[nodiscard]] Stack& stack();

  // `callback` is called once on the io_context when the link is gone for good.
  void OnLinkEnd(std::function<void()> callback);

  // `callback` is called after each pass, on the io_context: the time for Stack::TakeEvent.
  void OnPass(std::function<void()> callback);

  // Instead of io_context::run(): runs until the io_context is stopped or has nothing left. In
  // a conversation in small pieces (a question, its answer, the next question) being woken takes
  // longer than what it is for. So after a wait of less than four times `busy_poll`, the next
  // one begins with looking for events, for as long as `busy_poll`, while whoever else wants
  // the core gets it. Where that was in vain it is done less and less often: what comes at its
  // leisure costs next to nothing. While more than 20 MB a second move, nobody waits for single
  // pieces, and it is done for no longer than kBusyPoll. And where a frame to the guest wakes
  // somebody, its acknowledgements wait for the answer to take them along, for 100 us of it at
  // most. 0: sleeps at once. Time on a core is the price: a conversation with somebody who takes
  // as long as `busy_poll` to answer has a core look for it all that time, if no other needs it.
  void Run(Duration busy_poll = kBusyPoll);
  // About what it takes to wake a thread on an idle core of a virtual machine.
  static constexpr Duration kBusyPoll = std::chrono::microseconds(50);

  // Stops polling and lets io_context::run() return once nothing else keeps it.
  // Live flows are reset. Idempotent.
  void Stop();

 private:
  class Impl;
  explicit AsioDriver(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;  // pending handlers hold it too
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_ASIO_DRIVER_H_
