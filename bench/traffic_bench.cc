// The traffic of the system benchmarks: one program for both ends of a connection,
// started by bench/run in the host's or the guest's namespace. It is not a Google
// Benchmark; the stacks that it measures are other processes.
//
//   traffic_bench sink   [--connect A:P] --streams N --warmup S --seconds S [--watch PID,…]
//   traffic_bench source [--connect A:P] --streams N
//   traffic_bench echo [--close]
//   traffic_bench talk   --connect A:P
//   traffic_bench crr    --connect A:P --parallel N --seconds S [--watch PID,…]
//
// Without --connect it listens, on a port chosen by the system or on that of --port, and
// prints "port N". Every result is one line of JSON on standard output.
//
// `sink` counts what arrives: bytes that its recv() returned between the end of the
// warm-up and the end of the window; whatever the sender, the stack or a kernel
// still holds is not counted. With --watch it takes the CPU time of those processes
// over the same window, and their resident memory at its end. `source` sends until its
// peer is gone.
//
// `echo` answers each read with the same bytes; with --close it then closes, as an
// HTTP server does without keep-alive, so that TIME_WAIT is on its side. `crr` makes
// connect-request-close rounds against it, `--parallel` at once, from one thread; with
// --watch it takes the CPU time of those processes meanwhile.
//
// `talk` obeys lines on standard input: "open N" (have N connections, each proven by
// one byte there and back), "ping one S" and "ping random S" (round trips of one byte for
// S seconds on the first connection, or each on one that chance chooses). It ends with
// its input.
//
// Threads: `sink` and `source` have one per stream, that blocks in recv() or send();
// the others have only the main thread.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "bench/program.h"

namespace penstock {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr int kSetupTimeoutMs = 20'000;
constexpr size_t kBulkBytes = 256 * 1024;  // of each recv() and send()
// Connects in flight while `talk` opens many: well under the limits on half-open
// connections of every stack that is measured.
constexpr size_t kOpeningMax = 64;
// A connect-request-close round that takes longer than this has failed.
constexpr Seconds kRoundTimeout{3.0};

struct Options {
  std::string mode;
  std::optional<sockaddr_in> connect_to;
  uint16_t port = 0;  // to listen on; 0: the system's choice
  size_t streams = 1;
  size_t parallel = 1;
  Seconds warmup{0.5};
  Seconds window{2.0};
  bool close_after_reply = false;
  std::vector<std::string> watched_pids;
};

Options ParseOptions(int argc, char** argv) {
  if (argc < 2) Fail("usage: traffic_bench sink|source|echo|talk|crr [options]");
  Options options;
  options.mode = argv[1];
  for (int i = 2; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--close") {
      options.close_after_reply = true;
      continue;
    }
    if (i + 1 == argc) Fail(name + " wants a value");
    const std::string value = argv[++i];
    if (name == "--connect") {
      options.connect_to = ParseEndpoint(value);
    } else if (name == "--port") {
      options.port = static_cast<uint16_t>(std::stoul(value));
    } else if (name == "--streams") {
      options.streams = std::stoul(value);
    } else if (name == "--parallel") {
      options.parallel = std::stoul(value);
    } else if (name == "--warmup") {
      options.warmup = Seconds(std::stod(value));
    } else if (name == "--seconds") {
      options.window = Seconds(std::stod(value));
    } else if (name == "--watch") {
      options.watched_pids = Split(value, ',');
    } else {
      Fail("unknown option " + name);
    }
  }
  return options;
}

// ---- Sockets -------------------------------------------------------------------

void SetNoDelay(int socket) {
  const int on = 1;
  if (setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) FailErrno("TCP_NODELAY");
}

// Listens on any address and tells the port on standard output.
int Listen(uint16_t port, int flags) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
  if (listener < 0) FailErrno("socket");
  const int on = 1;  // the port of an earlier listener may have connections in TIME_WAIT
  if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) {
    FailErrno("SO_REUSEADDR");
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  socklen_t length = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (bind(listener, generic, length) != 0) FailErrno("bind");
  if (listen(listener, 4096) != 0) FailErrno("listen");
  if (getsockname(listener, generic, &length) != 0) FailErrno("getsockname");
  std::cout << "port " << ntohs(address.sin_port) << std::endl;
  return listener;
}

// A non-blocking socket whose connect has started; -1 and errno if it cannot.
int StartConnect(const sockaddr_in& to) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (socket < 0) return -1;
  SetNoDelay(socket);
  if (connect(socket, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0) return socket;
  if (errno == EINPROGRESS) return socket;
  const int error = errno;
  close(socket);
  errno = error;
  return -1;
}

bool WaitFor(int socket, short events) {
  pollfd waiting{.fd = socket, .events = events, .revents = 0};
  return poll(&waiting, 1, kSetupTimeoutMs) == 1;
}

int SocketError(int socket) {
  int error = 0;
  socklen_t length = sizeof error;
  if (getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &length) != 0) return errno;
  return error;
}

// Waits for the connect to succeed and makes the socket blocking.
void FinishConnect(int socket) {
  if (!WaitFor(socket, POLLOUT)) Fail("connect: no answer in 20 s");
  if (const int error = SocketError(socket); error != 0) {
    Fail(std::string("connect: ") + std::strerror(error));
  }
  if (fcntl(socket, F_SETFL, 0) != 0) FailErrno("F_SETFL");
}

// `options.streams` connections, made or accepted.
std::vector<int> OpenStreams(const Options& options) {
  std::vector<int> sockets;
  if (!options.connect_to) {
    const int listener = Listen(options.port, 0);
    while (sockets.size() < options.streams) {
      if (!WaitFor(listener, POLLIN)) Fail("accept: a stream did not come in 20 s");
      sockets.push_back(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
      if (sockets.back() < 0) FailErrno("accept");
    }
    return sockets;
  }
  while (sockets.size() < options.streams) {
    sockets.push_back(StartConnect(*options.connect_to));
    if (sockets.back() < 0) FailErrno("connect");
    FinishConnect(sockets.back());
  }
  return sockets;
}

// ---- Bulk ----------------------------------------------------------------------

// Written by one stream's thread, read by the main thread.
struct alignas(64) StreamCount {
  std::atomic<uint64_t> bytes{0};
  std::atomic<bool> ended{false};
};

struct BulkSample {
  Clock::time_point time;
  uint64_t bytes = 0;
  ProcessUsage usage;
  size_t streams_ended = 0;
};

BulkSample TakeSample(const Options& options, const StreamCount* counts) {
  BulkSample sample;
  sample.usage = UsageOf(options.watched_pids);
  sample.time = Clock::now();
  for (size_t i = 0; i < options.streams; ++i) {
    sample.bytes += counts[i].bytes.load(std::memory_order_relaxed);
    sample.streams_ended += counts[i].ended.load(std::memory_order_relaxed) ? 1 : 0;
  }
  return sample;
}

void Drain(int socket, StreamCount& count) {
  const auto buffer = std::make_unique<char[]>(kBulkBytes);
  for (;;) {
    const ssize_t length = recv(socket, buffer.get(), kBulkBytes, 0);
    if (length <= 0) break;
    count.bytes.fetch_add(static_cast<uint64_t>(length), std::memory_order_relaxed);
  }
  count.ended.store(true, std::memory_order_relaxed);
}

void RunSink(const Options& options) {
  const std::vector<int> sockets = OpenStreams(options);
  const auto counts = std::make_unique<StreamCount[]>(options.streams);
  for (size_t i = 0; i < options.streams; ++i) {
    std::thread([socket = sockets[i], &count = counts[i]] { Drain(socket, count); }).detach();
  }
  std::this_thread::sleep_for(options.warmup);
  const BulkSample begin = TakeSample(options, counts.get());
  std::this_thread::sleep_for(options.window);
  const BulkSample end = TakeSample(options, counts.get());
  std::printf(
      "{\"bytes\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.3f, \"resident_bytes\": %llu, "
      "\"streams_ended\": %zu}\n",
      static_cast<unsigned long long>(end.bytes - begin.bytes),
      Seconds(end.time - begin.time).count(), end.usage.cpu_seconds - begin.usage.cpu_seconds,
      static_cast<unsigned long long>(end.usage.resident_bytes), end.streams_ended);
  std::fflush(stdout);
  std::_Exit(0);  // the streams' threads still run
}

void Fill(int socket) {
  const auto buffer = std::make_unique<char[]>(kBulkBytes);
  std::memset(buffer.get(), 'p', kBulkBytes);
  while (send(socket, buffer.get(), kBulkBytes, MSG_NOSIGNAL) > 0) {
  }
}

void RunSource(const Options& options) {
  std::vector<std::thread> threads;
  for (const int socket : OpenStreams(options)) threads.emplace_back(Fill, socket);
  for (std::thread& thread : threads) thread.join();
}

// ---- Echo ----------------------------------------------------------------------

void AcceptAll(int listener, int epoll) {
  for (;;) {
    const int socket = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (socket < 0) {
      if (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR) return;
      FailErrno("accept");
    }
    SetNoDelay(socket);
    epoll_event event{.events = EPOLLIN, .data = {.fd = socket}};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, socket, &event) != 0) FailErrno("epoll_ctl");
  }
}

// Requests are a few bytes, so a reply always fits in the socket's buffer.
void Reply(int socket, bool close_after_reply) {
  char bytes[512];
  const ssize_t length = recv(socket, bytes, sizeof bytes, 0);
  if (length < 0 && errno == EAGAIN) return;
  const bool replied =
      length > 0 && send(socket, bytes, static_cast<size_t>(length), MSG_NOSIGNAL) == length;
  if (!replied || close_after_reply) close(socket);
}

void RunEcho(const Options& options) {
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) FailErrno("epoll_create1");
  const int listener = Listen(options.port, SOCK_NONBLOCK);
  epoll_event event{.events = EPOLLIN, .data = {.fd = listener}};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) != 0) FailErrno("epoll_ctl");
  std::array<epoll_event, 256> events;
  for (;;) {
    const int count = epoll_wait(epoll, events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < count; ++i) {
      const int socket = events[static_cast<size_t>(i)].data.fd;
      if (socket == listener) {
        AcceptAll(listener, epoll);
      } else {
        Reply(socket, options.close_after_reply);
      }
    }
  }
}

// ---- Talk ----------------------------------------------------------------------

void RoundTrip(int socket) {
  char byte = 'p';
  if (send(socket, &byte, 1, MSG_NOSIGNAL) != 1) FailErrno("send");
  const ssize_t length = recv(socket, &byte, 1, 0);
  if (length < 0) FailErrno("recv");
  if (length == 0) Fail("the connection was closed by the other end");
}

void OpenTo(const sockaddr_in& to, size_t count, std::vector<int>& sockets) {
  const auto begin = Clock::now();
  const size_t before = sockets.size();
  while (sockets.size() < count) {
    const size_t batch_begin = sockets.size();
    const size_t batch_end = std::min(count, batch_begin + kOpeningMax);
    while (sockets.size() < batch_end) {
      sockets.push_back(StartConnect(to));
      if (sockets.back() < 0) FailErrno("connect");
    }
    for (size_t i = batch_begin; i < batch_end; ++i) {
      FinishConnect(sockets[i]);
      const timeval limit{.tv_sec = kSetupTimeoutMs / 1000, .tv_usec = 0};
      if (setsockopt(sockets[i], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0) {
        FailErrno("SO_RCVTIMEO");
      }
    }
    for (size_t i = batch_begin; i < batch_end; ++i) RoundTrip(sockets[i]);
  }
  std::printf("{\"open\": %zu, \"opened_per_second\": %.1f}\n", sockets.size(),
              static_cast<double>(sockets.size() - before) /
                  std::max(Seconds(Clock::now() - begin).count(), 1e-6));
}

// The value below which `share` of the samples lie; sorts no more than it must.
double Percentile(std::vector<double>& samples, double share) {
  const auto rank = static_cast<ptrdiff_t>(share * static_cast<double>(samples.size() - 1));
  std::nth_element(samples.begin(), samples.begin() + rank, samples.end());
  return samples[static_cast<size_t>(rank)];
}

void Ping(const std::vector<int>& sockets, bool random, Seconds window) {
  if (sockets.empty()) Fail("ping: no connection is open");
  std::vector<double> microseconds;
  std::minstd_rand chance;  // the same choices in every run
  std::uniform_int_distribution<size_t> choice(0, sockets.size() - 1);
  const auto begin = Clock::now();
  auto now = begin;
  while (now - begin < window) {
    const int socket = sockets[random ? choice(chance) : 0];
    now = Clock::now();
    RoundTrip(socket);
    const auto after = Clock::now();
    microseconds.push_back(std::chrono::duration<double, std::micro>(after - now).count());
    now = after;
  }
  std::printf(
      "{\"round_trips\": %zu, \"per_second\": %.1f, \"median_us\": %.2f, \"p99_us\": %.2f}\n",
      microseconds.size(), static_cast<double>(microseconds.size()) / Seconds(now - begin).count(),
      Percentile(microseconds, 0.5), Percentile(microseconds, 0.99));
}

void RunTalk(const Options& options) {
  if (!options.connect_to) Fail("talk wants --connect");
  std::vector<int> sockets;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string verb;
    words >> verb;
    if (verb == "open") {
      size_t count = 0;
      words >> count;
      OpenTo(*options.connect_to, count, sockets);
    } else if (verb == "ping") {
      std::string which;
      double seconds = 0;
      words >> which >> seconds;
      Ping(sockets, which == "random", Seconds(seconds));
    } else {
      Fail("talk: unknown command: " + line);
    }
    std::fflush(stdout);
  }
}

// ---- Connect, request, close -----------------------------------------------------

// `parallel` slots, each with one round under way. A round is: connect, send a byte,
// read it back, read the end of the stream, close.
class CloseRounds {
 public:
  explicit CloseRounds(const Options& options)
      : to_(*options.connect_to),
        window_(options.window),
        watched_pids_(options.watched_pids),
        slots_(options.parallel) {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ < 0) FailErrno("epoll_create1");
  }

  void Run() {
    const double cpu_before = UsageOf(watched_pids_).cpu_seconds;
    const auto begin = Clock::now();
    auto now = begin;
    auto next_sweep = begin;
    std::array<epoll_event, 256> events;
    while (now - begin < window_) {
      if (now >= next_sweep) {
        Sweep(now);
        next_sweep = now + std::chrono::milliseconds(100);
      }
      const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 50);
      now = Clock::now();
      for (int i = 0; i < count; ++i) {
        const epoll_event& event = events[static_cast<size_t>(i)];
        Advance(slots_[event.data.u64], event.events, now);
      }
    }
    const double cpu_seconds = UsageOf(watched_pids_).cpu_seconds - cpu_before;
    std::printf(
        "{\"rounds\": %zu, \"per_second\": %.1f, \"failed\": %zu, \"unanswered\": %zu, "
        "\"cpu_seconds\": %.3f, \"median_us\": %.2f, \"p99_us\": %.2f}\n",
        microseconds_.size(),
        static_cast<double>(microseconds_.size()) / Seconds(now - begin).count(), failed_,
        Unanswered(now), cpu_seconds, microseconds_.empty() ? 0 : Percentile(microseconds_, 0.5),
        microseconds_.empty() ? 0 : Percentile(microseconds_, 0.99));
  }

 private:
  struct Slot {
    int socket = -1;
    bool requested = false;
    bool answered = false;
    Clock::time_point begin;
  };

  void Start(Slot& slot, Clock::time_point now) {
    slot = Slot{};
    slot.begin = now;
    slot.socket = StartConnect(to_);
    if (slot.socket < 0) {  // the next sweep tries again
      ++failed_;
      return;
    }
    epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLET,
                      .data = {.u64 = static_cast<uint64_t>(&slot - slots_.data())}};
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, slot.socket, &event) != 0) FailErrno("epoll_ctl");
  }

  void Finish(Slot& slot, bool good, Clock::time_point now) {
    if (good) {
      microseconds_.push_back(std::chrono::duration<double, std::micro>(now - slot.begin).count());
    } else {
      ++failed_;
    }
    close(slot.socket);
    Start(slot, Clock::now());
  }

  void Advance(Slot& slot, uint32_t events, Clock::time_point now) {
    char byte = 'p';
    if (!slot.requested) {
      if (SocketError(slot.socket) != 0) return Finish(slot, false, now);
      if ((events & EPOLLOUT) == 0) return;
      if (send(slot.socket, &byte, 1, MSG_NOSIGNAL) != 1) return Finish(slot, false, now);
      slot.requested = true;
    }
    for (;;) {
      const ssize_t length = recv(slot.socket, &byte, 1, 0);
      if (length < 0 && errno == EAGAIN) return;
      if (length <= 0) return Finish(slot, length == 0 && slot.answered, now);
      slot.answered = true;
    }
  }

  // Starts the slots that stand still and gives up rounds that take too long.
  void Sweep(Clock::time_point now) {
    for (Slot& slot : slots_) {
      if (slot.socket < 0) {
        Start(slot, now);
      } else if (now - slot.begin > kRoundTimeout) {
        Finish(slot, false, now);
      }
    }
  }

  // Rounds that stand at the end for longer than half a second.
  [[nodiscard]] size_t Unanswered(Clock::time_point now) const {
    return static_cast<size_t>(std::count_if(slots_.begin(), slots_.end(), [now](const Slot& slot) {
      return now - slot.begin > std::chrono::milliseconds(500);
    }));
  }

  const sockaddr_in to_;
  const Seconds window_;
  const std::vector<std::string> watched_pids_;
  int epoll_ = -1;
  std::vector<Slot> slots_;
  std::vector<double> microseconds_;
  size_t failed_ = 0;
};

// ---- Main ----------------------------------------------------------------------

int Main(int argc, char** argv) {
  const Options options = ParseOptions(argc, argv);
  RaiseDescriptorLimit();
  if (options.mode == "sink") {
    RunSink(options);
  } else if (options.mode == "source") {
    RunSource(options);
  } else if (options.mode == "echo") {
    RunEcho(options);
  } else if (options.mode == "talk") {
    RunTalk(options);
  } else if (options.mode == "crr") {
    if (!options.connect_to) Fail("crr wants --connect");
    CloseRounds(options).Run();
  } else {
    Fail("unknown mode " + options.mode);
  }
  return 0;
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) { return penstock::Main(argc, argv); }
