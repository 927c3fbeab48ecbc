#include "tests/world/stepped_stack.h"

#include <boost/asio/post.hpp>
#include <stdexcept>
#include <utility>

namespace penstock {

using world::SimHost;

SteppedStack::Makers SteppedStack::Makers::OfKernel() {
  return {.make_task = &MakeTcpTask,
          .make_guest_socket = &MakeGuestSocket,
          .make_listener = &MakeTcpListener,
          .make_udp_task = &MakeUdpTask,
          .make_pair = &MakeStreamPair,
          .socket_factory = DefaultSocketFactory()};
}

SteppedStack::SteppedStack(Form form, Config config, std::unique_ptr<Link> link, uint64_t seed,
                           const Makers& makers)
    : form_(form), work_(io_.get_executor()), host_(std::make_shared<SimHost>(io_)) {
  config.relay_threads = 0;
  config.follow_host_routes = false;
  config.socket_factory = makers.socket_factory != nullptr ? makers.socket_factory : host_;
  config.isn_key = {seed, ~seed};
  if (absl::Status valid = Validate(config, link->capabilities()); !valid.ok()) {
    throw std::invalid_argument(valid.ToString());
  }
  auto inside = std::make_unique<Stack::Impl>(std::move(config), std::move(link));
  inside_ = inside.get();
  inside->make_listener_ = makers.make_listener;
  inside->make_udp_task_ = makers.make_udp_task;
  inside->make_pair_ = makers.make_pair;
  RelayOptions options = inside->MakeRelayOptions();
  options.make_task = makers.make_task;
  options.make_guest_socket = makers.make_guest_socket;
  relay_ = std::make_shared<Relay>(io_, std::move(options), inside->doorbell());
  if (absl::Status opened = inside->Open(relay_); !opened.ok()) {
    throw std::runtime_error(opened.ToString());
  }
  if (form_ == Form::kRelayThread) {
    // As RelayThread::Impl::Listen does it.
    relay_->doorbell().SetHook(
        [](void* context) {
          auto* self = static_cast<SteppedStack*>(context);
          boost::asio::post(self->io_, [self] {
            self->relay_->doorbell().Silenced();
            self->relay_->RunReady();
          });
        },
        this);
    inside->doorbell().SetHook(
        [](void* context) { static_cast<SteppedStack*>(context)->woken_ = true; }, this);
    relay_->RunReady();
  } else {
    // As AsioDriver::Impl does it.
    relay_->doorbell().SetHook([](void* relay) { static_cast<Relay*>(relay)->RunReady(); },
                               relay_.get());
    relay_->RunReady();
    inside->doorbell().SetHook(
        [](void* context) {
          auto* self = static_cast<SteppedStack*>(context);
          if (std::exchange(self->pass_posted_, true)) return;
          boost::asio::post(self->io_, [self] { self->RunOneThread(); });
        },
        this);
  }
  inside->HoldAcknowledgements(form_ == Form::kOneThreadBusy);
  stack_.reset(new Stack(std::move(inside)));
}

SteppedStack::~SteppedStack() {
  stack_.reset();  // shuts the relay down
  io_.poll();
}

void SteppedStack::ServeDnsStreams(DnsStreamsService service) {
  inside_->ServeDnsStreams(std::move(service));
}

Time SteppedStack::RunPass(Time now) {
  now_ = now;
  has_run_ = true;
  in_pass_ = true;
  if (form_ == Form::kRelayThread) {
    woken_ = false;
    deadline_ = inside_->Poll(*stack_, now);
  } else {
    RunOneThread();
  }
  in_pass_ = false;
  return deadline_;
}

// Whatever an embedder has changed wakes the stack by itself.
Time SteppedStack::deadline() const {
  return woken_ || inside_->woken_.load() ? Time::min() : deadline_;
}

void SteppedStack::RunOneThread() {
  if (stack_ == nullptr) return;  // posted before the end
  constexpr int kPassesMax = 8;
  woken_ = false;
  for (int i = 0; i < kPassesMax; ++i) {
    pass_posted_ = true;
    deadline_ = inside_->Poll(*stack_, now_);
    if (deadline_ > now_ && relay_->StackIsServed()) break;
  }
  pass_posted_ = false;
  if (!relay_->StackIsServed()) woken_ = true;
  if (form_ == Form::kOneThreadBusy) ReleaseLater();
}

// The end of looking, wherever the world puts it between other handlers; not before an answer
// that is there already.
void SteppedStack::ReleaseLater() {
  constexpr int kHandlersMin = 4;
  if (std::exchange(release_in_, kHandlersMin) == 0) PostRelease();
}

void SteppedStack::PostRelease() {
  boost::asio::post(io_, [this] {
    if (--release_in_ > 0) return PostRelease();
    if (stack_ != nullptr && inside_->ReleaseAcknowledgements()) RunOneThread();
  });
}

}  // namespace penstock
