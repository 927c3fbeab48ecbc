#include "stack/link/frame_datagrams.h"

#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "absl/status/status.h"

namespace penstock {
namespace {

constexpr std::string_view kHello = "VFKT";

// Of one system call.
constexpr size_t kDatagramsPerCall = 64;

// Asked for; the system's net.core.wmem_max may allow less. A frame that is longer than what
// there is cannot be sent at all.
constexpr int kDatagramSendBufferBytes = 1 << 20;
constexpr int kReceiveBufferBytes = 4 << 20;

// A read that fails is tried again with the next pass; so often at once.
constexpr int kDatagramReadErrorsMax = 16;

class FrameDatagrams final : public Link {
 public:
  FrameDatagrams(int descriptor, const VmmLinkOptions& options)
      : socket_(descriptor), capabilities_(CapabilitiesOf(options)) {}
  ~FrameDatagrams() override { close(socket_); }
  FrameDatagrams(const FrameDatagrams&) = delete;
  FrameDatagrams& operator=(const FrameDatagrams&) = delete;

  absl::Status Open();

  [[nodiscard]] const LinkCapabilities& capabilities() const override { return capabilities_; }
  [[nodiscard]] int descriptor() const override { return socket_; }
  [[nodiscard]] size_t Receive(Time now, std::span<FrameToHost> frames) override;
  [[nodiscard]] size_t Send(Time now, std::span<const FrameToGuest> frames) override;
  [[nodiscard]] bool ended() const override { return ended_; }
  [[nodiscard]] uint64_t frames_lost() const override { return frames_lost_; }

 private:
  struct Taken {
    size_t frames = 0;  // at the front of the rooms
    bool more = false;  // perhaps
  };
  // One system call.
  Taken Take(std::span<FrameToHost> frames);
  // Closes the gaps that datagrams leave which are no frames.
  size_t Sort(std::span<FrameToHost> frames);
  Taken OnReceiveError(int error);

  enum class Room { kMore, kFull };
  // One system call: adds how many frames are done with.
  Room Offer(std::span<const FrameToGuest> frames, size_t& taken);
  Room OnSendError(int error, size_t& taken);

  const int socket_;
  const LinkCapabilities capabilities_;
  bool has_end_ = false;  // seqpacket: an empty datagram is the end
  bool ended_ = false;
  bool takes_nothing_more_ = false;  // the other end reads no longer
  int read_errors_ = 0;
  uint64_t frames_lost_ = 0;
  std::array<mmsghdr, kDatagramsPerCall> messages_;
  std::array<iovec, kDatagramsPerCall> rooms_;
};

absl::Status FrameDatagrams::Open() {
  int type = 0;
  socklen_t length = sizeof type;
  sockaddr_storage peer;
  socklen_t peer_length = sizeof peer;
  if (getsockopt(socket_, SOL_SOCKET, SO_TYPE, &type, &length) != 0 ||
      getpeername(socket_, reinterpret_cast<sockaddr*>(&peer), &peer_length) != 0) {
    return absl::InvalidArgumentError(
        "descriptor " + std::to_string(socket_) + " is no connected datagram socket (" +
        std::generic_category().message(errno) + "): connect it to the VMM's");
  }
  has_end_ = type == SOCK_SEQPACKET;
  (void)setsockopt(socket_, SOL_SOCKET, SO_SNDBUF, &kDatagramSendBufferBytes,
                   sizeof kDatagramSendBufferBytes);
  (void)setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &kReceiveBufferBytes,
                   sizeof kReceiveBufferBytes);
  return absl::OkStatus();
}

// ---------------------------------------------------------------- to host

size_t FrameDatagrams::Receive(Time /*now*/, std::span<FrameToHost> frames) {
  size_t count = 0;
  read_errors_ = 0;
  bool more = true;
  while (more && count < frames.size() && !ended_) {
    const Taken taken = Take(frames.subspan(count));
    count += taken.frames;
    more = taken.more;
  }
  return count;
}

FrameDatagrams::Taken FrameDatagrams::Take(std::span<FrameToHost> frames) {
  const size_t asked = std::min(frames.size(), kDatagramsPerCall);
  for (size_t i = 0; i < asked; ++i) {
    rooms_[i] = {frames[i].room.data(), frames[i].room.size()};
    messages_[i] = {};
    messages_[i].msg_hdr.msg_iov = &rooms_[i];
    messages_[i].msg_hdr.msg_iovlen = 1;
  }
  int result;
  do {
    result =
        recvmmsg(socket_, messages_.data(), static_cast<unsigned>(asked), MSG_DONTWAIT, nullptr);
  } while (result < 0 && errno == EINTR);
  if (result < 0) return OnReceiveError(errno);
  const auto got = static_cast<size_t>(result);
  return {.frames = Sort(frames.first(got)), .more = got == asked};
}

size_t FrameDatagrams::Sort(std::span<FrameToHost> frames) {
  size_t count = 0;
  for (size_t i = 0; i < frames.size(); ++i) {
    const size_t bytes = messages_[i].msg_len;
    if (bytes == 0 && has_end_) {
      ended_ = true;  // whatever recvmmsg says after it is the end once more
      break;
    }
    if (bytes == kHello.size() && std::memcmp(frames[i].room.data(), kHello.data(), bytes) == 0) {
      continue;
    }
    if (bytes == 0 || bytes > kFrameBytesMax || (messages_[i].msg_hdr.msg_flags & MSG_TRUNC) != 0) {
      ++frames_lost_;
      continue;
    }
    FrameToHost& frame = frames[count];
    if (count != i) std::memcpy(frame.room.data(), frames[i].room.data(), bytes);
    frame.length = static_cast<uint32_t>(bytes);
    frame.offload = {};
    ++count;
  }
  return count;
}

FrameDatagrams::Taken FrameDatagrams::OnReceiveError(int error) {
  switch (error) {
    case EAGAIN:
      return {};
    case ECONNREFUSED:  // of an earlier frame
    case ECONNRESET:
    case ENOTCONN:
    case EBADF:
    case ENOTSOCK:
      ended_ = true;
      return {};
    default:  // memory, above all: nothing is known to be lost
      return {.frames = 0, .more = ++read_errors_ < kDatagramReadErrorsMax};
  }
}

// ---------------------------------------------------------------- to guest

size_t FrameDatagrams::Send(Time /*now*/, std::span<const FrameToGuest> frames) {
  size_t taken = 0;
  Room room = Room::kMore;
  while (taken < frames.size() && room == Room::kMore) room = Offer(frames.subspan(taken), taken);
  return taken;
}

FrameDatagrams::Room FrameDatagrams::Offer(std::span<const FrameToGuest> frames, size_t& taken) {
  if (takes_nothing_more_ || ended_) {
    frames_lost_ += frames.size();
    taken += frames.size();
    return Room::kMore;
  }
  unsigned count = 0;
  for (const FrameToGuest& frame : frames.first(std::min(frames.size(), kDatagramsPerCall))) {
    // A datagram has no place for what an open checksum needs.
    if (frame.offload.checksum == ChecksumState::kPartial || frame.length == 0 ||
        frame.length > kFrameBytesMax || frame.parts.size() > kFramePartsMax) {
      break;
    }
    mmsghdr& message = messages_[count++];
    message = {};
    message.msg_hdr.msg_iov = const_cast<iovec*>(frame.parts.data());
    message.msg_hdr.msg_iovlen = frame.parts.size();
  }
  if (count == 0) {  // the first one cannot be carried
    ++frames_lost_;
    ++taken;
    return Room::kMore;
  }
  int result;
  do {
    result = sendmmsg(socket_, messages_.data(), count, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (result < 0 && errno == EINTR);
  if (result < 0) return OnSendError(errno, taken);
  // What stopped it short is told by the next call.
  taken += static_cast<size_t>(result);
  return Room::kMore;
}

FrameDatagrams::Room FrameDatagrams::OnSendError(int error, size_t& taken) {
  switch (error) {
    case EAGAIN:
      return Room::kFull;
    case ECONNREFUSED:
    case ECONNRESET:
    case ENOTCONN:
    case EPIPE:
      takes_nothing_more_ = true;
      if (!has_end_) ended_ = true;  // else what it sent before is still to be received
      return Room::kMore;
    default:  // ENOBUFS, ENOMEM: short of memory; EMSGSIZE: too long for the socket
      ++frames_lost_;
      ++taken;
      return Room::kMore;
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Link>> OpenFrameDatagrams(int descriptor,
                                                         const VmmLinkOptions& options) {
  auto datagrams = std::make_unique<FrameDatagrams>(descriptor, options);
  if (absl::Status status = datagrams->Open(); !status.ok()) return status;
  return datagrams;
}

}  // namespace penstock
