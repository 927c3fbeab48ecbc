// A sandbox runtime in miniature, in C++: the network of one guest, on a loop of its own.
//
//   mini-runtime [--io-context] FD
//
// FD is a seqpacket socket that whoever starts it has passed. Each message on it is what a
// queue of virtio-net carries, a header of 12 bytes and a frame:
//
//   guest ── FD ── Vmm, a thread ── frame rings ── Runtime: the stack, main thread ── host
//
// Orders are lines on stdin, answers and events are lines on stdout:
//
//   publish 8080:80       published 127.0.0.1:8080 -> 10.0.2.15:80
//   unpublish 8080        unpublished
//   policy all            policy replaced: a profile, or one line of a policy's text
//
// It ends with the end of stdin, with the guest's end of FD, or with SIGINT or SIGTERM.
//
// The main thread sleeps on three descriptors and one deadline: by poll(2), or with
// --io-context on a boost::asio::io_context, which here is the runtime's own and knows of
// penstock only these. (stack/asio_driver.h would bring the relay onto it as well.)
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "publisher/port_selector.h"
#include "publisher/port_spec.h"
#include "stack/link/frame_ring.h"
#include "stack/link/virtio_header.h"
#include "stack/stack.h"

using penstock::Clock, penstock::CounterSnapshot, penstock::DecodeVirtioHeader, penstock::Endpoint,
    penstock::Event, penstock::FrameRings, penstock::FrameRingsGuestEnd, penstock::kFrameBytesMax,
    penstock::kNever, penstock::kVirtioHeaderBytes, penstock::LiveFlows, penstock::Offload,
    penstock::ParsePortSelector, penstock::ParsePortSpec, penstock::Policy, penstock::PolicyLayer,
    penstock::PollTimeout, penstock::Stack, penstock::Time;
namespace asio = boost::asio;

namespace {

// ---------------------------------------------------------------- the VMM's thread

// Moves frames between the guest's queue and the rings, until either ends. What is in a
// header goes into the ring beside the frame, and back: nobody looks into frames here.
class Vmm {
 public:
  Vmm(std::unique_ptr<FrameRingsGuestEnd> rings, int queue)
      : rings_(std::move(rings)), queue_(queue) {}

  void Run() {
    while (!queue_ended_) {
      const bool full = !ToGuest();
      if (rings_->ended()) return;
      // While the queue is full there is nothing to be done for the rings.
      pollfd ready[] = {{.fd = queue_,
                         .events = static_cast<short>(full ? POLLIN | POLLOUT : POLLIN),
                         .revents = 0},
                        {.fd = full ? -1 : rings_->descriptor(), .events = POLLIN, .revents = 0}};
      poll(ready, 2, -1);
      ToHost();
    }
  }

 private:
  // False: the queue is full, and the frame stays where it is.
  bool ToGuest() {
    while (const auto frame = rings_->FrontToGuest()) {
      EncodeVirtioHeader(frame->offload, header_);
      iovec parts[] = {{header_.data(), header_.size()},
                       {const_cast<uint8_t*>(frame->bytes.data()), frame->bytes.size()}};
      const msghdr message{.msg_iov = parts, .msg_iovlen = 2};
      if (sendmsg(queue_, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        if (errno == EAGAIN) return false;
        // Of any other error the frame is lost, as on a wire.
        queue_ended_ = queue_ended_ || errno == EPIPE || errno == ECONNRESET;
      }
      rings_->PopToGuest();
    }
    return true;
  }

  void ToHost() {
    constexpr int kFramesMax = 64;  // then the other direction has its turn
    for (int i = 0; i < kFramesMax; ++i) {
      iovec parts[] = {{header_.data(), header_.size()}, {frame_.data(), frame_.size()}};
      msghdr message{.msg_iov = parts, .msg_iovlen = 2};
      const ssize_t got = recvmsg(queue_, &message, MSG_DONTWAIT);
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
      if (got <= 0) {
        queue_ended_ = true;
        return;
      }
      const std::optional<Offload> offload = DecodeVirtioHeader(header_);
      if (static_cast<size_t>(got) <= header_.size() || !offload) continue;
      if ((message.msg_flags & MSG_TRUNC) != 0) continue;
      // Where the ring is full the frame is dropped and counted: TCP slows down.
      rings_->SendToHost(std::span(frame_).first(static_cast<size_t>(got) - header_.size()),
                         *offload);
    }
  }

  const std::unique_ptr<FrameRingsGuestEnd> rings_;  // closed with the Vmm: the link's end
  const int queue_;
  bool queue_ended_ = false;
  std::array<uint8_t, kVirtioHeaderBytes> header_;
  std::array<uint8_t, kFrameBytesMax> frame_;
};

// ---------------------------------------------------------------- the runtime

std::string Text(const Endpoint& endpoint) {
  if (endpoint == Endpoint{}) return "";
  return endpoint.port == 0 ? endpoint.address.ToString() : endpoint.ToString();
}

// What the runtime does, whoever calls it.
class Runtime {
 public:
  explicit Runtime(Stack& stack) : stack_(stack) {}

  [[nodiscard]] bool running() const { return running_; }
  [[nodiscard]] int descriptor() const { return stack_.descriptor(); }
  void Stop() { running_ = false; }

  // One pass, and what it brought. Returns when the next is due at the latest.
  Time Pass(Time now) {
    const Time deadline = stack_.Poll(now);
    for (Event event; stack_.TakeEvent(event);) {
      std::printf("event %s %s %s %s%s\n", std::string(Name(event.kind)).c_str(),
                  Text(event.guest).c_str(), Text(event.peer).c_str(),
                  std::string(event.reason).c_str(),
                  event.rule == nullptr ? "" : event.rule->text.c_str());
    }
    std::fflush(stdout);
    if (stack_.link_ended()) Stop();
    return deadline;
  }

  // Obeys the whole lines that have come.
  void ReadOrders() {
    std::array<char, 1024> some;
    const ssize_t got = read(STDIN_FILENO, some.data(), some.size());
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) return Stop();
    orders_.append(some.data(), static_cast<size_t>(got));
    for (size_t end; (end = orders_.find('\n')) != orders_.npos; orders_.erase(0, end + 1)) {
      Obey(std::string_view(orders_).substr(0, end));
    }
    if (orders_.size() >= some.size()) Stop();  // a line that is longer is no order
  }

 private:
  void Obey(std::string_view order) {
    const size_t end = std::min(order.find(' '), order.size());
    const std::string_view what = order.substr(0, end);
    order.remove_prefix(std::min(end + 1, order.size()));
    if (what == "publish") {
      Publish(order);
    } else if (what == "unpublish") {
      Answer(Unpublish(order), "unpublished");
    } else if (what == "policy") {
      Answer(SetPolicy(order), "policy replaced");
    } else {
      std::printf("error orders are publish, unpublish and policy\n");
    }
  }

  void Publish(std::string_view text) {
    const auto spec = ParsePortSpec(text);
    if (!spec.ok()) return Answer(spec.status(), "");
    const auto ports = stack_.Publish(*spec);
    if (!ports.ok()) return Answer(ports.status(), "");
    std::printf("published %s -> %s\n", Text(ports->front().bound).c_str(),
                Text(ports->front().guest).c_str());
  }

  absl::Status Unpublish(std::string_view text) {
    const auto selector = ParsePortSelector(text);
    if (!selector.ok()) return selector.status();
    return stack_.Unpublish(*selector, LiveFlows::kReset);
  }

  absl::Status SetPolicy(std::string_view text) {
    std::shared_ptr<const Policy> policy = Policy::Profile(text);
    if (policy == nullptr) {
      auto parsed = Policy::Parse(text);
      if (!parsed.ok()) return parsed.status();
      policy = *std::move(parsed);
    }
    stack_.SetPolicy(PolicyLayer::kTenant, std::move(policy), LiveFlows::kReset);
    return absl::OkStatus();
  }

  static void Answer(const absl::Status& status, const char* done) {
    if (status.ok()) {
      std::printf("%s\n", done);
    } else {
      std::printf("error %s\n", std::string(status.message()).c_str());
    }
  }

  Stack& stack_;
  bool running_ = true;
  std::string orders_;
};

// ---------------------------------------------------------------- two loops, one runtime

// [loop]
void RunByPoll(Runtime& runtime, int signals) {
  while (runtime.running()) {
    const Time now = Clock::now();
    const Time deadline = runtime.Pass(now);
    pollfd ready[] = {{.fd = runtime.descriptor(), .events = POLLIN, .revents = 0},
                      {.fd = STDIN_FILENO, .events = POLLIN, .revents = 0},
                      {.fd = signals, .events = POLLIN, .revents = 0}};
    poll(ready, 3, PollTimeout(now, deadline));
    if (ready[1].revents != 0) runtime.ReadOrders();
    if (ready[2].revents != 0) runtime.Stop();
  }
}
// [/loop]

// The same by Asio: a pass after whatever was waited for.
class IoContextLoop {
 public:
  IoContextLoop(Runtime& runtime, int signals)
      : runtime_(runtime),
        stack_(io_, runtime.descriptor()),
        orders_(io_, STDIN_FILENO),
        signals_(io_, signals) {}
  ~IoContextLoop() {
    for (auto* watched : {&stack_, &orders_, &signals_}) watched->release();  // others' own
  }

  void Run() {
    Wait(stack_, [] {});
    Wait(orders_, [this] { runtime_.ReadOrders(); });
    Wait(signals_, [this] { runtime_.Stop(); });
    Pass();
    io_.run();
  }

 private:
  template <typename Act>
  void Wait(asio::posix::stream_descriptor& watched, Act act) {
    watched.async_wait(watched.wait_read,
                       [this, &watched, act](const boost::system::error_code& error) {
                         // Of a file, which cannot be waited for, any other error is told.
                         if (error == asio::error::operation_aborted) return;
                         act();
                         Pass();
                         if (runtime_.running()) Wait(watched, act);
                       });
  }

  void Pass() {
    const Time deadline = runtime_.Pass(Clock::now());
    if (!runtime_.running()) return io_.stop();
    // Only ever moved earlier: a pass for nothing costs less than setting a timer each time.
    if (deadline >= due_) return;
    due_ = deadline;
    timer_.expires_at(due_);
    timer_.async_wait([this](const boost::system::error_code& error) {
      if (error == asio::error::operation_aborted) return;
      due_ = kNever;
      Pass();
    });
  }

  Runtime& runtime_;
  asio::io_context io_{1};
  asio::posix::stream_descriptor stack_, orders_, signals_;
  asio::steady_timer timer_{io_};
  Time due_ = kNever;
};

int Fail(const char* what, const std::string& why) {
  std::fprintf(stderr, "mini-runtime: %s: %s\n", what, why.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  const bool on_io_context = argc == 3 && std::string_view(argv[1]) == "--io-context";
  if (argc != 2 && !on_io_context) {
    std::fprintf(stderr, "usage: mini-runtime [--io-context] FD\n");
    return 2;
  }
  const int queue = std::atoi(argv[argc - 1]);
  int type = 0;
  socklen_t length = sizeof type;
  if (getsockopt(queue, SOL_SOCKET, SO_TYPE, &type, &length) != 0 || type != SOCK_SEQPACKET) {
    return Fail("FD", "pass one end of a seqpacket socket");
  }
  // Before there are threads, which inherit it: signals come by a descriptor, to the loop.
  sigset_t ending;
  sigemptyset(&ending);
  sigaddset(&ending, SIGINT);
  sigaddset(&ending, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &ending, nullptr);
  const int signals = signalfd(-1, &ending, SFD_CLOEXEC | SFD_NONBLOCK);

  // What a guest's driver agrees to: checksums left open, TCP and UDP above the MTU.
  auto rings = FrameRings::Create({.capabilities = {.partial_checksum_to_guest = true,
                                                    .tcp4_gso_to_guest = true,
                                                    .tcp6_gso_to_guest = true,
                                                    .udp_gso_to_guest = true}});
  if (!rings.ok()) return Fail("rings", rings.status().ToString());
  // A sandbox that reaches the host's loopback by the gateway's address, and nothing else.
  auto policy = Policy::Parse("allow egress @host\ndefault egress deny");
  if (!policy.ok()) return Fail("policy", policy.status().ToString());
  auto stack =
      Stack::Create({.host_loopback = true, .tenant_policy = *policy, .event_count_max = 1024},
                    std::move(rings->stack_end));
  if (!stack.ok()) return Fail("stack", stack.status().ToString());
  std::thread vmm(
      [queue, end = std::move(rings->vmm_end)]() mutable { Vmm(std::move(end), queue).Run(); });

  std::printf("ready\n");
  Runtime runtime(**stack);
  if (on_io_context) {
    IoContextLoop(runtime, signals).Run();
  } else {
    RunByPoll(runtime, signals);
  }
  (void)runtime.Pass(Clock::now());  // what the last orders brought

  const CounterSnapshot counters = (*stack)->Snapshot();
  std::printf("frames_to_host %zu\nframes_to_guest %zu\nflows_opened %zu\n",
              counters.frames_to_host, counters.frames_to_guest, counters.flows_opened);
  stack->reset();
  shutdown(queue, SHUT_RDWR);  // the VMM's thread may be waiting for a guest that sleeps
  vmm.join();
  std::printf("stopped\n");
  return 0;
}
