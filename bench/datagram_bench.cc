// The UDP traffic of the system benchmarks: one program for both ends, started by
// bench/run in the host's or the guest's namespace. The stacks that it measures are other
// processes.
//
//   datagram_bench sink   [--connect A:P] --bytes N --warmup S --seconds S [--watch PID,…]
//   datagram_bench source [--connect A:P] --bytes N --rate R [--sockets N]
//   datagram_bench echo
//   datagram_bench trips  --connect A:P --bytes N --seconds S
//
// Without --connect it binds a port that the system chooses and prints "port N". Results
// are one line of JSON on standard output. The connecting end speaks first: a sink that
// connects says "here I am" until something comes, and a source that waits answers the
// last one who said so.
//
// `source` sends one datagram with each send(2), R in a second, or as fast as it can
// (--rate 0), each with a number that is one more than the last one's; what its own kernel
// refuses has none. With --sockets it uses so many in turn, each from a port of its own.
// `sink` counts what arrives within its window; what is missing between the lowest and the
// highest number there was lost. `trips` sends one datagram, waits for it to come back and
// sends the next; one that does not come within 200 ms was lost. Who hears nothing for two
// seconds at the beginning says "no answer" and fails.
//
// One thread.
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <limits>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "bench/program.h"

namespace penstock {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr Seconds kNoAnswer{2.0};
constexpr Seconds kTripTimeout{0.2};
constexpr int kHelloIntervalMs = 100;
constexpr uint64_t kHello = std::numeric_limits<uint64_t>::max();
constexpr int kBufferBytes = 4 << 20;  // SO_RCVBUF, as far as the system allows
constexpr size_t kDatagramBytesMax = 65'507;

struct Options {
  std::string mode;
  std::optional<sockaddr_in> connect_to;
  size_t bytes = 1'400;
  double rate = 0;
  size_t sockets = 1;
  Seconds warmup{0.5};
  Seconds window{2.0};
  std::vector<std::string> watched_pids;
};

Options ParseOptions(int argc, char** argv) {
  if (argc < 2 || argc % 2 != 0) {
    Fail("usage: datagram_bench sink|source|echo|trips [--option value]...");
  }
  Options options;
  options.mode = argv[1];
  for (int i = 2; i < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    if (name == "--connect") {
      options.connect_to = ParseEndpoint(value);
    } else if (name == "--bytes") {
      options.bytes = std::clamp<size_t>(std::stoul(value), sizeof(uint64_t), kDatagramBytesMax);
    } else if (name == "--rate") {
      options.rate = std::stod(value);
    } else if (name == "--sockets") {
      options.sockets = std::max<size_t>(std::stoul(value), 1);
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

int Open(const Options& options) {
  const int socket = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (socket < 0) FailErrno("socket");
  (void)setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &kBufferBytes, sizeof kBufferBytes);
  if (options.connect_to) {
    const auto* to = reinterpret_cast<const sockaddr*>(&*options.connect_to);
    if (connect(socket, to, sizeof *options.connect_to) != 0) FailErrno("connect");
    return socket;
  }
  sockaddr_in own{};
  own.sin_family = AF_INET;
  socklen_t length = sizeof own;
  if (bind(socket, reinterpret_cast<const sockaddr*>(&own), sizeof own) != 0 ||
      getsockname(socket, reinterpret_cast<sockaddr*>(&own), &length) != 0) {
    FailErrno("bind");
  }
  std::cout << "port " << ntohs(own.sin_port) << std::endl;
  return socket;
}

bool Readable(int socket, int milliseconds) {
  pollfd watched{.fd = socket, .events = POLLIN, .revents = 0};
  return poll(&watched, 1, milliseconds) > 0;
}

// The number of the next datagram; nothing after an error of ICMP's or a signal.
std::optional<uint64_t> Receive(int socket, std::vector<uint8_t>& room, int flags = 0) {
  const ssize_t length = recv(socket, room.data(), room.size(), flags);
  if (length < static_cast<ssize_t>(sizeof(uint64_t))) return std::nullopt;
  uint64_t number = 0;
  std::memcpy(&number, room.data(), sizeof number);
  return number;
}

bool Send(int socket, std::vector<uint8_t>& datagram, uint64_t number, size_t bytes) {
  std::memcpy(datagram.data(), &number, sizeof number);
  return send(socket, datagram.data(), bytes, MSG_NOSIGNAL) >= 0;
}

// Until something comes.
void AwaitTraffic(int socket, const Options& options) {
  std::vector<uint8_t> hello(sizeof kHello);
  const Clock::time_point begin = Clock::now();
  while (Clock::now() - begin < kNoAnswer) {
    if (options.connect_to) (void)Send(socket, hello, kHello, hello.size());
    std::vector<uint8_t> room(kDatagramBytesMax);
    if (Readable(socket, kHelloIntervalMs) && Receive(socket, room, MSG_PEEK)) return;
  }
  Fail("no answer");
}

void RunSink(const Options& options) {
  const int socket = Open(options);
  AwaitTraffic(socket, options);
  std::vector<uint8_t> room(kDatagramBytesMax);
  const Clock::time_point begin =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(options.warmup);
  const Clock::time_point end = begin + std::chrono::duration_cast<Clock::duration>(options.window);
  uint64_t lowest = kHello, highest = 0, count = 0;
  double cpu_before = 0;
  bool measuring = false;
  for (Clock::time_point now = Clock::now(); now < end; now = Clock::now()) {
    if (!measuring && now >= begin) {
      measuring = true;
      cpu_before = UsageOf(options.watched_pids).cpu_seconds;
    }
    if (!Readable(socket, 10)) continue;
    const std::optional<uint64_t> number = Receive(socket, room, MSG_DONTWAIT);
    if (!number || !measuring || *number == kHello) continue;
    ++count;
    lowest = std::min(lowest, *number);
    highest = std::max(highest, *number);
  }
  const double cpu_seconds = UsageOf(options.watched_pids).cpu_seconds - cpu_before;
  const uint64_t sent = count == 0 ? 0 : highest - lowest + 1;
  std::printf("{\"datagrams\": %llu, \"lost\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.6f}\n",
              static_cast<unsigned long long>(count),
              static_cast<unsigned long long>(sent - std::min(sent, count)), options.window.count(),
              cpu_seconds);
}

// A waiting source learns whom to send to.
void ConnectToCaller(int socket) {
  sockaddr_in caller{};
  socklen_t length = sizeof caller;
  uint64_t number = 0;
  if (recvfrom(socket, &number, sizeof number, 0, reinterpret_cast<sockaddr*>(&caller), &length) <
          0 ||
      connect(socket, reinterpret_cast<const sockaddr*>(&caller), length) != 0) {
    FailErrno("recvfrom");
  }
}

[[noreturn]] void RunSource(const Options& options) {
  std::vector<int> sockets{Open(options)};
  if (!options.connect_to) ConnectToCaller(sockets[0]);
  while (sockets.size() < options.sockets && options.connect_to) sockets.push_back(Open(options));
  std::vector<uint8_t> datagram(std::max(options.bytes, sizeof kHello));
  const Clock::time_point begin = Clock::now();
  for (uint64_t number = 0;;) {
    uint64_t due = number + 1;
    if (options.rate > 0) {
      due = static_cast<uint64_t>(Seconds(Clock::now() - begin).count() * options.rate);
      if (due <= number) std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    // What it refuses (an ICMP error, a full queue) leaves no hole in the numbers.
    for (; number < due; ++number) {
      if (!Send(sockets[number % sockets.size()], datagram, number, options.bytes)) break;
    }
  }
}

[[noreturn]] void RunEcho(const Options& options) {
  const int socket = Open(options);
  std::vector<uint8_t> room(kDatagramBytesMax);
  for (;;) {
    sockaddr_in caller{};
    socklen_t size = sizeof caller;
    auto* address = reinterpret_cast<sockaddr*>(&caller);
    const ssize_t length = recvfrom(socket, room.data(), room.size(), 0, address, &size);
    if (length > 0) {
      (void)sendto(socket, room.data(), static_cast<size_t>(length), 0, address, size);
    }
  }
}

// The answer to `number`, not to an earlier one that was given up.
bool AwaitAnswer(int socket, std::vector<uint8_t>& room, uint64_t number) {
  const Clock::time_point begin = Clock::now();
  while (Clock::now() - begin < kTripTimeout) {
    if (Readable(socket, 10) && Receive(socket, room, MSG_DONTWAIT) == number) return true;
  }
  return false;
}

void RunTrips(const Options& options) {
  if (!options.connect_to) Fail("trips wants --connect");
  const int socket = Open(options);
  std::vector<uint8_t> datagram(std::max(options.bytes, sizeof kHello)), room(kDatagramBytesMax);
  std::vector<double> microseconds;
  uint64_t lost = 0, number = 0;
  Clock::time_point begin = Clock::now();
  while (Clock::now() - begin < options.window) {
    const Clock::time_point sent = Clock::now();
    (void)Send(socket, datagram, number, options.bytes);
    if (AwaitAnswer(socket, room, number++)) {
      microseconds.push_back(Seconds(Clock::now() - sent).count() * 1e6);
    } else if (++lost; microseconds.empty() && Clock::now() - begin > kNoAnswer / 2) {
      Fail("no answer");
    }
  }
  if (microseconds.empty()) Fail("no answer");
  std::sort(microseconds.begin(), microseconds.end());
  const size_t count = microseconds.size();
  std::printf("{\"per_second\": %.3f, \"median_us\": %.3f, \"p99_us\": %.3f, \"lost\": %llu}\n",
              static_cast<double>(count) / options.window.count(), microseconds[count / 2],
              microseconds[count * 99 / 100], static_cast<unsigned long long>(lost));
}

int Main(int argc, char** argv) {
  const Options options = ParseOptions(argc, argv);
  RaiseDescriptorLimit();
  if (options.mode == "sink") {
    RunSink(options);
  } else if (options.mode == "source") {
    RunSource(options);
  } else if (options.mode == "echo") {
    RunEcho(options);
  } else if (options.mode == "trips") {
    RunTrips(options);
  } else {
    Fail("unknown mode " + options.mode);
  }
  return 0;
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) { return penstock::Main(argc, argv); }
