// The VMM's end of a socket, for tests of the links that adopt the other: frames to host go in
// by hand, frames to guest come out.
#ifndef PENSTOCK_TESTS_STACK_LINK_VMM_END_H_
#define PENSTOCK_TESTS_STACK_LINK_VMM_END_H_

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <numeric>
#include <span>
#include <vector>

#include "stack/link/vmm_link.h"

namespace penstock {

using Bytes = std::vector<uint8_t>;

// Bytes that can be told from any other frame's.
inline Bytes Pattern(uint32_t seed, size_t length) {
  Bytes bytes(length);
  std::iota(bytes.begin(), bytes.end(), static_cast<uint8_t>(seed * 31));
  return bytes;
}

// Room for a batch of frames.
struct FrameRooms {
  explicit FrameRooms(size_t count) : rooms(count, Bytes(kFrameBytesMax)), frames(count) {
    for (size_t i = 0; i < count; ++i) frames[i].room = rooms[i];
  }
  std::vector<Bytes> rooms;
  std::vector<FrameToHost> frames;
};

// A link on one end of a pair; the test has the other.
class VmmEnd final {
 public:
  explicit VmmEnd(int type, const VmmLinkOptions& options = {}) {
    std::array<int, 2> ends;
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends.data()) != 0) return;
    socket_ = ends[0];
    auto adopted = AdoptVmmSocket(ends[1], options);
    EXPECT_TRUE(adopted.ok()) << adopted.status();
    if (adopted.ok()) link_ = *std::move(adopted);
  }
  VmmEnd(const VmmEnd&) = delete;
  VmmEnd& operator=(const VmmEnd&) = delete;
  ~VmmEnd() { Close(); }

  [[nodiscard]] int socket() const { return socket_; }
  [[nodiscard]] Link& link() { return *link_; }
  void Close() {
    if (socket_ >= 0) close(socket_);
    socket_ = -1;
  }

  // One write; as much as the socket takes.
  size_t Write(std::span<const uint8_t> bytes) const {
    const ssize_t sent = send(socket_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent < 0 ? 0 : static_cast<size_t>(sent);
  }
  // One read; empty if nothing waits.
  [[nodiscard]] Bytes Read(size_t bytes_max = 1 << 20) const {
    Bytes bytes(bytes_max);
    const ssize_t got = recv(socket_, bytes.data(), bytes.size(), MSG_DONTWAIT);
    bytes.resize(got < 0 ? 0 : static_cast<size_t>(got));
    return bytes;
  }

  // All that waits, up to `most` frames.
  std::vector<Bytes> Receive(size_t most = 8) {
    FrameRooms rooms(most);
    const size_t count = link_->Receive(Time{}, rooms.frames);
    std::vector<Bytes> received;
    for (const FrameToHost& frame : std::span(rooms.frames).first(count)) {
      received.emplace_back(frame.bytes().begin(), frame.bytes().end());
    }
    return received;
  }
  // As one batch, each frame in two parts; how many were taken.
  size_t Send(const std::vector<Bytes>& frames, const Offload& offload = {}) {
    std::vector<std::array<iovec, 2>> parts(frames.size());
    std::vector<FrameToGuest> batch(frames.size());
    for (size_t i = 0; i < frames.size(); ++i) {
      auto* bytes = const_cast<uint8_t*>(frames[i].data());
      const size_t head = frames[i].size() / 3;
      parts[i] = {{{bytes, head}, {bytes + head, frames[i].size() - head}}};
      batch[i] = {
          .parts = parts[i], .length = static_cast<uint32_t>(frames[i].size()), .offload = offload};
    }
    return link_->Send(Time{}, batch);
  }
  // What a stack that sleeps would see: it waits for reading, and after a refusal for writing.
  [[nodiscard]] bool Ready(short events) const {
    pollfd watched{.fd = link_->descriptor(), .events = events, .revents = 0};
    return poll(&watched, 1, 0) == 1;
  }

 private:
  int socket_ = -1;
  std::unique_ptr<Link> link_;
};

}  // namespace penstock

#endif  // PENSTOCK_TESTS_STACK_LINK_VMM_END_H_
