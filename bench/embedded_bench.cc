// The traffic of `bench/run embedded`: both ends of what goes through a runtime, which is
// another process, started here. The guest is an lwIP (tests/world/guest_tcp.h), so all that
// passes between it and the runtime is memory; the host's end is a socket on loopback.
//
//   embedded_bench [--bare] PROGRAM [OPTION...]
//
//   lwIP, main thread ── seqpacket pair ── PROGRAM OPTION... FD ── 127.0.0.1 ── host's thread
//
// A message of the pair is a virtio-net header and a frame; with --bare, a frame alone. With
// the header the guest does what a driver that negotiated offloads does: it takes segments
// above the MTU and completes the checksums that were left open, which lwIP looks at.
//
// It obeys lines on stdin, "up BYTES" and "down BYTES": one connection to the gateway's address,
// of which every byte is compared with what it should be. Each answer is a line of JSON:
// seconds from the connect to the receiver's end of file, the runtime's CPU time in them, frames
// both ways. At the end of stdin the runtime's stdin ends, and its exit status must be 0.
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <deque>
#include <iostream>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "bench/program.h"
#include "stack/config.h"
#include "stack/link/virtio_header.h"
#include "stack/stack.h"
#include "tests/world/guest_tcp.h"

namespace penstock {
namespace {

constexpr size_t kChunkBytes = 256 << 10;  // of each send, receive and write

// What every connection carries: a random text over and over. Its length is a prime, so that
// no segments or buffers that were lost, doubled or swapped leave the rest where it was.
class Pattern final {
 public:
  Pattern() : bytes_(kPeriod + kChunkBytes) {
    std::mt19937 random(1);
    for (size_t i = 0; i < kPeriod; ++i) bytes_[i] = static_cast<uint8_t>(random());
    for (size_t i = kPeriod; i < bytes_.size(); ++i) bytes_[i] = bytes_[i - kPeriod];
  }
  [[nodiscard]] std::span<const uint8_t> At(uint64_t offset, uint64_t count) const {
    return std::span(bytes_).subspan(offset % kPeriod, std::min<uint64_t>(count, kChunkBytes));
  }
  // Ends the program if they are others.
  void Check(uint64_t offset, std::span<const uint8_t> bytes) const {
    if (std::memcmp(At(offset, bytes.size()).data(), bytes.data(), bytes.size()) != 0) {
      Fail("wrong bytes behind " + std::to_string(offset));
    }
  }

 private:
  static constexpr size_t kPeriod = 65'521;
  std::vector<uint8_t> bytes_;
};

const Pattern& ThePattern() {
  static const Pattern pattern;
  return pattern;
}

// ---------------------------------------------------------------- the guest's driver

// Puts the whole sum where only the pseudo-header's stands.
void CompleteChecksum(std::span<uint8_t> frame, const Offload& offload) {
  const std::span<uint8_t> segment = frame.subspan(offload.checksum_start);
  uint64_t sum = 0;
  size_t at = 0;
  for (; at + 4 <= segment.size(); at += 4) {
    uint32_t word;
    std::memcpy(&word, segment.data() + at, sizeof word);
    sum += word;
  }
  uint32_t last = 0;
  std::memcpy(&last, segment.data() + at, segment.size() - at);
  sum += last;
  while ((sum >> 16) != 0) sum = (sum & 0xffff) + (sum >> 16);
  const auto checksum = static_cast<uint16_t>(~sum);  // in the order of the bytes, as the sum
  std::memcpy(segment.data() + offload.checksum_offset, &checksum, sizeof checksum);
}

class Driver final {
 public:
  Driver(int queue, bool bare) : queue_(queue), header_bytes_(bare ? 0 : kVirtioHeaderBytes) {}

  void Send(std::span<const uint8_t> frame) {
    ++sent_;
    if (!backlog_.empty() || !TrySend(frame)) backlog_.emplace_back(frame.begin(), frame.end());
  }
  // False: the queue is full.
  bool Flush() {
    for (; !backlog_.empty(); backlog_.pop_front()) {
      if (!TrySend(backlog_.front())) return false;
    }
    return true;
  }
  // The next frame, valid until the next call; none: there is none now.
  std::optional<std::span<const uint8_t>> Receive() {
    const ssize_t got = recv(queue_, room_.data(), room_.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return std::nullopt;
    if (got <= static_cast<ssize_t>(header_bytes_)) Fail("the runtime has closed the queue");
    ++received_;
    const std::span<uint8_t> frame =
        std::span(room_).first(static_cast<size_t>(got)).subspan(header_bytes_);
    if (header_bytes_ != 0) {
      const auto offload = DecodeVirtioHeader(std::span(room_).first<kVirtioHeaderBytes>());
      if (!offload) Fail("a header says nothing that is known");
      if (offload->checksum == ChecksumState::kPartial) CompleteChecksum(frame, *offload);
    }
    return frame;
  }
  void Wait(int timeout) const {
    const short wanted = backlog_.empty() ? POLLIN : POLLIN | POLLOUT;
    pollfd ready{.fd = queue_, .events = wanted, .revents = 0};
    (void)poll(&ready, 1, timeout);
  }
  [[nodiscard]] uint64_t sent() const { return sent_; }
  [[nodiscard]] uint64_t received() const { return received_; }

 private:
  bool TrySend(std::span<const uint8_t> frame) const {
    std::array<uint8_t, kVirtioHeaderBytes> header{};
    iovec parts[] = {{header.data(), header_bytes_},
                     {const_cast<uint8_t*>(frame.data()), frame.size()}};
    const msghdr message{.msg_iov = parts, .msg_iovlen = 2};
    if (sendmsg(queue_, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return true;
    if (errno != EAGAIN) FailErrno("send a frame");
    return false;
  }

  const int queue_;
  const size_t header_bytes_;
  std::deque<std::vector<uint8_t>> backlog_;
  std::array<uint8_t, kVirtioHeaderBytes + kFrameBytesMax> room_;
  uint64_t sent_ = 0, received_ = 0;
};

// ---------------------------------------------------------------- the host's end

struct Transfer {
  uint64_t up_bytes = 0;
  uint64_t down_bytes = 0;
};

// One connection of a server's, to its end. Returns when all that goes up had come.
Time Serve(int listener, Transfer transfer) {
  const int socket = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  if (socket < 0) FailErrno("accept");
  for (uint64_t sent = 0; sent < transfer.down_bytes;) {
    const auto bytes = ThePattern().At(sent, transfer.down_bytes - sent);
    const ssize_t count = send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count < 0) FailErrno("send to the guest");
    sent += static_cast<uint64_t>(count);
  }
  std::vector<uint8_t> room(kChunkBytes);
  uint64_t received = 0;
  for (;;) {
    const ssize_t count = recv(socket, room.data(), room.size(), 0);
    if (count < 0) FailErrno("receive from the guest");
    if (count == 0) break;
    ThePattern().Check(received, std::span(room).first(static_cast<size_t>(count)));
    received += static_cast<uint64_t>(count);
  }
  if (received != transfer.up_bytes) Fail("the host got " + std::to_string(received) + " bytes");
  const Time end = Clock::now();
  close(socket);
  return end;
}

class Host final {
 public:
  Host() : listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in own{.sin_family = AF_INET};
    own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof own;
    if (bind(listener_, reinterpret_cast<sockaddr*>(&own), sizeof own) != 0 ||
        listen(listener_, 1) != 0 ||
        getsockname(listener_, reinterpret_cast<sockaddr*>(&own), &length) != 0) {
      FailErrno("listen on loopback");
    }
    port = ntohs(own.sin_port);
  }
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  void Begin(Transfer transfer) {
    thread_ = std::thread([this, transfer] { end_ = Serve(listener_, transfer); });
  }
  Time Join() {
    thread_.join();
    return end_;
  }

  uint16_t port = 0;

 private:
  const int listener_;
  std::thread thread_;
  Time end_{};
};

// ---------------------------------------------------------------- the guest

class Guest final {
 public:
  Guest(int queue, bool bare) : driver_(queue, bare), tcp_(Options(bare)) {}

  // One connection to the gateway's address. Returns when the last byte had come.
  Time Move(uint16_t port, Transfer transfer) {
    world::GuestConnection* connection = tcp_.Connect(Clock::now(), {gateway_, port}, 0);
    if (connection == nullptr) Fail("the guest does not connect");
    uint64_t written = 0, read = 0;
    bool shut = false;
    for (;; TakeFrames()) {
      if (connection->error() != 0) {
        Fail(std::string("the guest's connection: ") + std::strerror(connection->error()));
      }
      while (driver_.Flush() && written < transfer.up_bytes) {
        const size_t count =
            connection->Write(ThePattern().At(written, transfer.up_bytes - written));
        if (count == 0) break;
        written += count;
      }
      if (connection->connected() && written == transfer.up_bytes && !std::exchange(shut, true)) {
        connection->ShutdownWrite();
      }
      while (const size_t count = connection->Read(room_)) {
        ThePattern().Check(read, std::span(room_).first(count));
        read += count;
      }
      if (connection->finished_reading()) break;
    }
    if (read != transfer.down_bytes) Fail("the guest got " + std::to_string(read) + " bytes");
    if (tcp_.malformed_frames() != 0) Fail("lwIP refuses frames");
    return Clock::now();
  }

  [[nodiscard]] const Driver& driver() const { return driver_; }

 private:
  world::GuestTcpOptions Options(bool bare) {
    Config config;
    config.ipv6.enabled = false;
    gateway_ = config.ipv4.gateway;
    world::GuestTcpOptions options = world::GuestOptionsFor(config);
    // With a header: what it takes, as one frame. What it sends is of the runtime's MSS.
    if (!bare) options.mtu = 65'520;
    options.receive_buffer = 500'000;
    options.send = [this](std::span<const uint8_t> frame) { driver_.Send(frame); };
    return options;
  }

  void TakeFrames() {
    constexpr int kFramesMax = 64;  // then the application has its turn
    for (int i = 0; i < kFramesMax; ++i) {
      const auto frame = driver_.Receive();
      if (!frame && i == 0) {
        const Time now = Clock::now();
        driver_.Wait(PollTimeout(now, tcp_.deadline()));
        tcp_.RunTimers(Clock::now());
      }
      if (!frame) return;
      tcp_.OnFrame(Clock::now(), *frame);
    }
  }

  IpAddress gateway_;
  Driver driver_;
  world::GuestTcp tcp_;
  std::array<uint8_t, kChunkBytes> room_;
};

// ---------------------------------------------------------------- the runtime

class Runtime final {
 public:
  // `command` and the number of a descriptor, which is `queue`.
  Runtime(std::vector<std::string> command, int queue) {
    command.push_back(std::to_string(queue));
    std::vector<char*> arguments;
    for (std::string& word : command) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    std::array<int, 2> orders;
    if (pipe2(orders.data(), O_CLOEXEC) != 0) FailErrno("pipe2");
    pid_ = fork();
    if (pid_ < 0) FailErrno("fork");
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      dup2(orders[0], STDIN_FILENO);
      dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDOUT_FILENO);
      fcntl(queue, F_SETFD, 0);
      execvp(arguments[0], arguments.data());
      FailErrno("run " + command[0]);
    }
    close(orders[0]);
    close(queue);
    orders_ = orders[1];
  }
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  [[nodiscard]] double cpu_seconds() const { return UsageOf({std::to_string(pid_)}).cpu_seconds; }
  // 0, or what it ended with.
  int End() const {
    close(orders_);
    int status = 0;
    if (waitpid(pid_, &status, 0) != pid_) FailErrno("waitpid");
    return status;
  }

 private:
  pid_t pid_ = -1;
  int orders_ = -1;
};

struct Measured {
  const Runtime& runtime;
  Guest& guest;
  Host& host;
};

void Measure(const Measured& all, const std::string& direction, uint64_t bytes) {
  const bool up = direction == "up";
  if (!up && direction != "down") Fail("orders are up BYTES and down BYTES");
  const Transfer transfer = up ? Transfer{.up_bytes = bytes} : Transfer{.down_bytes = bytes};
  const double cpu_before = all.runtime.cpu_seconds();
  const uint64_t sent = all.guest.driver().sent(), received = all.guest.driver().received();
  const Time begin = Clock::now();
  all.host.Begin(transfer);
  const Time guest_end = all.guest.Move(all.host.port, transfer);
  const Time host_end = all.host.Join();
  const std::chrono::duration<double> took = (up ? host_end : guest_end) - begin;
  std::printf(
      "{\"seconds\": %.6f, \"cpu_seconds\": %.3f, \"frames_up\": %zu, "
      "\"frames_down\": %zu}\n",
      took.count(), all.runtime.cpu_seconds() - cpu_before, all.guest.driver().sent() - sent,
      all.guest.driver().received() - received);
  std::fflush(stdout);
}

int Main(std::vector<std::string> command) {
  const bool bare = !command.empty() && command[0] == "--bare";
  if (bare) command.erase(command.begin());
  if (command.empty()) Fail("usage: embedded_bench [--bare] PROGRAM [OPTION...]");
  std::array<int, 2> ends;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    FailErrno("socketpair");
  }
  const Runtime runtime(command, ends[1]);
  Host host;
  const auto guest = std::make_unique<Guest>(ends[0], bare);
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string direction;
    uint64_t bytes = 0;
    words >> direction >> bytes;
    Measure({.runtime = runtime, .guest = *guest, .host = host}, direction, bytes);
  }
  const int status = runtime.End();
  if (status != 0) Fail("the runtime ended with status " + std::to_string(status));
  return 0;
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) { return penstock::Main({argv + 1, argv + argc}); }
