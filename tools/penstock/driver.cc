#include "tools/penstock/driver.h"

#include <poll.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <utility>

#include "relay/out_of_memory.h"
#include "relay/reactor_check.h"
#include "stack/asio_driver.h"
#include "tools/penstock/descriptor.h"

namespace penstock::tool {
namespace {

timespec Until(Time now, Time deadline) {
  const Duration left = std::max(deadline - now, Duration::zero());
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
  return {.tv_sec = seconds.count(),
          .tv_nsec = std::chrono::duration_cast<std::chrono::nanoseconds>(left - seconds).count()};
}

absl::Status DriveByPoll(Config config, std::unique_ptr<Link> link, Supervisor& supervisor) {
  auto stack = Stack::Create(std::move(config), std::move(link));
  if (!stack.ok()) return stack.status();
  if (absl::Status started = supervisor.OnStart(**stack); !started.ok()) return started;
  for (;;) {
    const Time now = Clock::now();
    const Time due = (*stack)->Poll(now);
    supervisor.OnPass();
    if ((*stack)->link_ended()) return supervisor.OnLinkEnd(**stack);

    pollfd watched[] = {{.fd = (*stack)->descriptor(), .events = POLLIN, .revents = 0},
                        {.fd = supervisor.descriptor(), .events = POLLIN, .revents = 0}};
    const Time deadline = std::min(due, supervisor.deadline());
    const timespec left = Until(now, deadline);
    const int ready = ppoll(watched, 2, deadline == kNever ? nullptr : &left, nullptr);
    if (ready < 0 && errno != EINTR) return ErrnoStatus("cannot wait for events", errno);
    const bool late = supervisor.deadline() != kNever && Clock::now() >= supervisor.deadline();
    if ((watched[1].revents != 0 || late) && !supervisor.OnEvent(Clock::now(), **stack)) {
      return absl::OkStatus();
    }
  }
}

// Calls the supervisor from an io_context that the AsioDriver keeps busy.
class AsioSupervision final {
 public:
  AsioSupervision(boost::asio::io_context& io, AsioDriver& driver, Supervisor& supervisor)
      : driver_(driver), supervisor_(supervisor), descriptor_(io), timer_(io) {}
  AsioSupervision(const AsioSupervision&) = delete;
  AsioSupervision& operator=(const AsioSupervision&) = delete;
  ~AsioSupervision() {
    if (descriptor_.is_open()) descriptor_.release();  // the supervisor owns it
  }

  absl::Status Watch() {
    boost::system::error_code error;
    descriptor_.assign(supervisor_.descriptor(), error);
    if (!error) return absl::OkStatus();
    return ErrnoStatus("cannot watch a descriptor", error.value());
  }

  // Once the supervisor has started.
  void Begin() {
    driver_.OnLinkEnd([this] { End(); });
    driver_.OnPass([this] {
      supervisor_.OnPass();
      WaitDeadline();
    });
    Attend();
  }

 private:
  // Arms first and asks the supervisor then: arming looks at the descriptor, and what
  // is behind it may be seen only once (the mount table tells of a change to the first
  // who looks).
  void Attend() {
    descriptor_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                           [this](const boost::system::error_code& error) {
                             if (!error) Attend();
                           });
    Step();
  }

  void Step() {
    deadline_ = kNever;
    if (supervisor_.OnEvent(Clock::now(), driver_.stack())) {
      WaitDeadline();
    } else {
      End();
    }
  }

  void WaitDeadline() {
    const Time deadline = supervisor_.deadline();
    if (deadline == deadline_ || ended_) return;
    deadline_ = deadline;
    timer_.cancel();
    if (deadline == kNever) return;
    timer_.expires_at(deadline);
    timer_.async_wait([this](const boost::system::error_code& error) {
      if (!error) Step();
    });
  }

  void End() {
    ended_ = true;
    descriptor_.cancel();
    timer_.cancel();
    driver_.Stop();
  }

  AsioDriver& driver_;
  Supervisor& supervisor_;
  boost::asio::posix::stream_descriptor descriptor_;
  boost::asio::steady_timer timer_;
  Time deadline_ = kNever;  // the timer's
  bool ended_ = false;
};

absl::Status DriveByAsio(Config config, std::unique_ptr<Link> link, Duration busy_poll,
                         Supervisor& supervisor) {
  boost::asio::io_context io(1);
  if (absl::Status timers = CheckTimers(io); !timers.ok()) return timers;
  auto driver = AsioDriver::Create(io, std::move(config), std::move(link));
  if (!driver.ok()) return driver.status();
  AsioSupervision supervision(io, **driver, supervisor);
  if (absl::Status watched = supervision.Watch(); !watched.ok()) return watched;
  if (absl::Status started = supervisor.OnStart((*driver)->stack()); !started.ok()) return started;
  supervision.Begin();
  OrEndWithoutMemory([&] { (*driver)->Run(busy_poll); });
  const Stack& stack = (*driver)->stack();
  return stack.link_ended() ? supervisor.OnLinkEnd(stack) : absl::OkStatus();
}

}  // namespace

absl::Status Supervisor::OnLinkEnd(const Stack& /*stack*/) {
  return absl::UnavailableError("the tap is gone: somebody has deleted it in the sandbox");
}

absl::Status Drive(Config config, std::unique_ptr<Link> link, Duration busy_poll,
                   Supervisor& supervisor) {
  return config.relay_threads == 0
             ? DriveByAsio(std::move(config), std::move(link), busy_poll, supervisor)
             : DriveByPoll(std::move(config), std::move(link), supervisor);
}

}  // namespace penstock::tool
