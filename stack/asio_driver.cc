#include "stack/asio_driver.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "relay/out_of_memory.h"
#include "relay/relay.h"
#include "stack/stack_impl.h"

namespace penstock {
namespace asio = boost::asio;
using boost::system::error_code;

// One pass is: Poll, which runs the relay's ready flows, again until neither has anything
// for the other. It is run when the link is readable, when a relay task has something
// for the stack (the doorbell's hook, no system call), when Wake or Post rings the
// doorbell from elsewhere, and at the deadline.
class AsioDriver::Impl : public std::enable_shared_from_this<AsioDriver::Impl> {
 public:
  explicit Impl(asio::io_context& io)
      : io_(io),
        link_watch_(io),
        bell_watch_(io),
        routes_watch_(io),
        names_watch_(io),
        timer_(io) {}

  absl::Status Open(Config config, std::unique_ptr<Link> link) {
    auto inside = std::make_unique<Stack::Impl>(std::move(config), std::move(link));
    relay_ = std::make_shared<Relay>(io_, inside->MakeRelayOptions(), inside->doorbell());
    // Who rings for the relay runs it, in the middle of a pass.
    relay_->doorbell().SetHook([](void* relay) { static_cast<Relay*>(relay)->RunReady(); },
                               relay_.get());
    relay_->RunReady();
    if (absl::Status status = inside->Open(relay_); !status.ok()) return status;
    inside->doorbell().SetHook([](void* self) { static_cast<Impl*>(self)->SchedulePass(); }, this);
    if (absl::Status status = Watch(link_watch_, inside->link().descriptor()); !status.ok()) {
      return status;
    }
    if (absl::Status status = Watch(bell_watch_, inside->doorbell().descriptor()); !status.ok()) {
      return status;
    }
    if (absl::Status status = Watch(routes_watch_, inside->routes_descriptor()); !status.ok()) {
      return status;
    }
    if (absl::Status status = Watch(names_watch_, inside->names_descriptor()); !status.ok()) {
      return status;
    }
    stack_.reset(new Stack(std::move(inside)));
    return absl::OkStatus();
  }

  void Start() {
    SchedulePass();
    WaitReadable();
    WaitBell();
    WaitHost(routes_watch_);
    WaitHost(names_watch_);
  }

  void Stop() {
    if (std::exchange(stopped_, true)) return;
    error_code ignored;
    link_watch_.close(ignored);
    bell_watch_.close(ignored);
    routes_watch_.close(ignored);
    names_watch_.close(ignored);
    timer_.cancel();
    relay_->Shutdown();
  }

  void Run(Duration busy_poll) {
    constexpr int kSkipMax = 127;
    int in_vain = 0, skip = 0;  // looks that will be left out after the next failure, and now
    bool conversing = false;
    while (!io_.stopped()) {
      const Duration span = SpanOf(busy_poll);
      if (conversing && skip > 0) {
        --skip;
      } else if (conversing) {
        const bool found = LookFor(span);
        skip = found ? 0 : in_vain;
        in_vain = found ? 0 : std::min(2 * in_vain + 1, kSkipMax);
        if (found) continue;
      }
      ReleaseAcknowledgements();
      const Time asleep = Clock::now();
      io_.run_one();
      conversing = Clock::now() - asleep < 4 * span;
      HoldAcknowledgements(conversing && skip == 0);
      io_.poll();
    }
    // Whoever runs the io_context next may not know of any.
    HoldAcknowledgements(false);
    ReleaseAcknowledgements();
  }

  Stack& stack() { return *stack_; }
  void OnLinkEnd(std::function<void()> callback) {
    on_link_end_ = std::move(callback);
    if (link_end_seen_) asio::post(io_, on_link_end_);
  }
  void OnPass(std::function<void()> callback) { on_pass_ = std::move(callback); }

 private:
  // Passes in a row before other handlers of the io_context have their turn.
  static constexpr int kPassesMax = 8;
  // Above it nobody waits for single pieces; small ones in turn stay far below: 10,000 of 200
  // bytes in a second are 2 MB. Measured over at least so long.
  static constexpr double kBulkBytesPerSecond = 20e6;
  static constexpr Duration kMeasureInterval = std::chrono::milliseconds(2);

  absl::Status Watch(asio::posix::stream_descriptor& watch, int descriptor) {
    if (descriptor < 0) return absl::OkStatus();
    // A copy for Asio, which closes what it is given.
    const int copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    error_code error;
    if (copy >= 0) watch.assign(copy, error);
    if (copy >= 0 && !error) return absl::OkStatus();
    if (copy >= 0) close(copy);
    return absl::ResourceExhaustedError("cannot watch the link: no descriptors left");
  }

  // How long it is worth while to look.
  Duration SpanOf(Duration busy_poll) {
    if (busy_poll <= kBusyPoll) return busy_poll;
    const Time now = Clock::now();
    if (const Duration elapsed = now - measured_at_; elapsed >= kMeasureInterval) {
      const uint64_t bytes = stack_->impl_->link_bytes();
      const double rate = static_cast<double>(bytes - measured_bytes_) /
                          std::chrono::duration<double>(elapsed).count();
      bulk_ = rate >= kBulkBytesPerSecond;
      measured_at_ = now;
      measured_bytes_ = bytes;
    }
    return bulk_ ? kBusyPoll : busy_poll;
  }

  // Whether anything happened within `span`.
  bool LookFor(Duration span) {
    const Time begin = Clock::now();
    for (Duration looked{}; looked < span; looked = Clock::now() - begin) {
      if (io_.poll() > 0) return true;
      if (looked >= TcpFlows::kAcknowledgementWait) ReleaseAcknowledgements();
      sched_yield();
    }
    return false;
  }

  void HoldAcknowledgements(bool may_wait) {
    if (!stopped_) stack_->impl_->HoldAcknowledgements(may_wait);
  }

  void ReleaseAcknowledgements() {
    if (!stopped_ && stack_->impl_->ReleaseAcknowledgements()) RunPass();
  }

  // Behind whatever is ready now.
  void SchedulePass() {
    if (std::exchange(pass_scheduled_, true)) return;
    asio::post(io_, [self = shared_from_this()] { self->RunPass(); });
  }

  void RunPass() {
    if (!stopped_) OrEndWithoutMemory([this] { RunPasses(); });
  }

  void RunPasses() {
    Time deadline{};
    Time now{};
    for (int i = 0; i < kPassesMax; ++i) {
      pass_scheduled_ = true;                             // the hook need not post: we are looking
      if (!link_watch_.is_open()) link_readable_ = true;  // nothing else tells
      now = Clock::now();
      deadline = stack_->impl_->Poll(*stack_, now, std::exchange(link_readable_, false));
      if (stopped_) return;  // by a posted task: nothing may hold the io_context now
      if (deadline > now && relay_->StackIsServed()) break;
    }
    pass_scheduled_ = false;
    if (deadline <= now || !relay_->StackIsServed()) {
      SchedulePass();
    } else if (deadline < timer_deadline_) {
      WaitDeadline(deadline);
    }
    if (stack_->impl_->link_full()) WaitWritable();
    if (stack_->link_ended()) EndLink();
    if (on_pass_) on_pass_();
  }

  // A descriptor whose other end is gone stays readable for ever.
  void EndLink() {
    if (std::exchange(link_end_seen_, true)) return;
    error_code ignored;
    link_watch_.close(ignored);
    if (on_link_end_) asio::post(io_, on_link_end_);
  }

  // Only ever moved earlier: a timer that fires for nothing costs one pass, re-arming
  // it at each round trip would cost two system calls.
  void WaitDeadline(Time deadline) {
    timer_deadline_ = deadline;
    timer_.expires_at(deadline);
    timer_.async_wait([self = shared_from_this()](error_code error) {
      if (error || self->stopped_) return;
      self->timer_deadline_ = kNever;
      self->RunPass();
    });
  }

  void WaitReadable() {
    if (!link_watch_.is_open()) return;
    link_watch_.async_wait(asio::posix::stream_descriptor::wait_read,
                           [self = shared_from_this()](error_code error) {
                             if (error || self->stopped_) return;
                             self->link_readable_ = true;
                             self->RunPass();
                             self->WaitReadable();
                           });
  }

  void WaitWritable() {
    if (waiting_writable_ || !link_watch_.is_open()) return;
    waiting_writable_ = true;
    link_watch_.async_wait(asio::posix::stream_descriptor::wait_write,
                           [self = shared_from_this()](error_code error) {
                             self->waiting_writable_ = false;
                             if (!error && !self->stopped_) self->RunPass();
                           });
  }

  void WaitBell() {
    bell_watch_.async_read_some(asio::buffer(&rings_, sizeof rings_),
                                [self = shared_from_this()](error_code error, size_t) {
                                  if (error || self->stopped_) return;
                                  self->stack_->impl_->doorbell().Silenced();
                                  self->RunPass();
                                  self->WaitBell();
                                });
  }

  // `watch` is a member: something about the host changed.
  void WaitHost(asio::posix::stream_descriptor& watch) {
    if (!watch.is_open()) return;
    watch.async_wait(asio::posix::stream_descriptor::wait_read,
                     [self = shared_from_this(), &watch](error_code error) {
                       if (error || self->stopped_) return;
                       self->RunPass();
                       self->WaitHost(watch);
                     });
  }

  asio::io_context& io_;
  std::shared_ptr<Relay> relay_;
  std::unique_ptr<Stack> stack_;
  asio::posix::stream_descriptor link_watch_;
  asio::posix::stream_descriptor bell_watch_;
  asio::posix::stream_descriptor routes_watch_;
  asio::posix::stream_descriptor names_watch_;
  asio::steady_timer timer_;
  Time timer_deadline_ = kNever;
  uint64_t rings_ = 0;
  Time measured_at_{};
  uint64_t measured_bytes_ = 0;
  bool bulk_ = false;          // as it was measured last
  bool link_readable_ = true;  // the first pass looks
  bool pass_scheduled_ = false;
  bool waiting_writable_ = false;
  bool stopped_ = false;
  bool link_end_seen_ = false;
  std::function<void()> on_link_end_;
  std::function<void()> on_pass_;
};

AsioDriver::AsioDriver(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
AsioDriver::~AsioDriver() { impl_->Stop(); }

absl::StatusOr<std::unique_ptr<AsioDriver>> AsioDriver::Create(asio::io_context& io, Config config,
                                                               std::unique_ptr<Link> link) {
  if (link == nullptr) return absl::InvalidArgumentError("no link was given");
  if (absl::Status status = Validate(config, link->capabilities()); !status.ok()) return status;
  if (config.relay_threads != 0) {
    return absl::InvalidArgumentError(
        "relay_threads is not 0: an AsioDriver runs everything on one thread");
  }
  std::shared_ptr<Impl> impl;
  try {
    impl = std::make_shared<Impl>(io);
  } catch (const std::exception& error) {
    // Asio throws where it finds no descriptors for its reactor.
    return absl::ResourceExhaustedError(absl::StrCat("cannot use the io_context: ", error.what()));
  }
  if (absl::Status status = impl->Open(std::move(config), std::move(link)); !status.ok()) {
    return status;
  }
  impl->Start();
  return std::unique_ptr<AsioDriver>(new AsioDriver(std::move(impl)));
}

void AsioDriver::Run(Duration busy_poll) {
  const std::shared_ptr<Impl> impl = impl_;  // a handler may destroy this
  impl->Run(busy_poll);
}
Stack& AsioDriver::stack() { return impl_->stack(); }
void AsioDriver::OnLinkEnd(std::function<void()> callback) {
  impl_->OnLinkEnd(std::move(callback));
}
void AsioDriver::OnPass(std::function<void()> callback) { impl_->OnPass(std::move(callback)); }
void AsioDriver::Stop() { impl_->Stop(); }

}  // namespace penstock
