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

// Runs `io` until it is stopped. A conversation in small pieces (a question, its answer, the
// next question) would send this thread to sleep for some microseconds each time, and being
// woken takes longer than that: so after short sleeps it looks for work a while before it
// sleeps again. Where that was in vain it is tried less and less often, so that what comes at
// its leisure costs next to nothing (KVM's halt polling does the same).
void RunAwake(boost::asio::io_context& io) {
  // About what it takes to wake a thread on an idle core of a virtual machine; and what a
  // sleep lasts, with that, between two pieces of a conversation.
  constexpr Duration kLook = std::chrono::microseconds(50), kShort = 4 * kLook;
  constexpr int kBackoffMax = 128;
  int backoff = 1, skip = 0;
  bool conversing = false;
  while (!io.stopped()) {
    const Time begin = Clock::now();
    if (conversing && skip > 0) {
      --skip;
    } else if (conversing) {
      bool found = false;
      while (!found && Clock::now() - begin < kLook) found = io.poll() > 0;
      backoff = found ? 1 : std::min(2 * backoff, kBackoffMax);
      if (found) continue;
      skip = backoff;
    }
    const Time asleep = Clock::now();
    io.run_one();
    conversing = Clock::now() - asleep < kShort;
    io.poll();
  }
}

absl::Status DriveByAsio(Config config, std::unique_ptr<Link> link, Supervisor& supervisor) {
  boost::asio::io_context io(1);
  if (absl::Status timers = CheckTimers(io); !timers.ok()) return timers;
  auto driver = AsioDriver::Create(io, std::move(config), std::move(link));
  if (!driver.ok()) return driver.status();
  AsioSupervision supervision(io, **driver, supervisor);
  if (absl::Status watched = supervision.Watch(); !watched.ok()) return watched;
  if (absl::Status started = supervisor.OnStart((*driver)->stack()); !started.ok()) return started;
  supervision.Begin();
  OrEndWithoutMemory([&] { RunAwake(io); });
  const Stack& stack = (*driver)->stack();
  return stack.link_ended() ? supervisor.OnLinkEnd(stack) : absl::OkStatus();
}

}  // namespace

absl::Status Supervisor::OnLinkEnd(const Stack& /*stack*/) {
  return absl::UnavailableError("the tap is gone: somebody has deleted it in the sandbox");
}

absl::Status Drive(Config config, std::unique_ptr<Link> link, Supervisor& supervisor) {
  return config.relay_threads == 0 ? DriveByAsio(std::move(config), std::move(link), supervisor)
                                   : DriveByPoll(std::move(config), std::move(link), supervisor);
}

}  // namespace penstock::tool
