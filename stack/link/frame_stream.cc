#include "stack/link/frame_stream.h"

#include <sys/epoll.h>
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
#include <system_error>
#include <utility>

#include "absl/status/status.h"

namespace penstock {
namespace {

// A frame at most, its length before it.
constexpr size_t kWholeBytesMax = kStreamLengthBytes + kFrameBytesMax;

// Of one sendmsg, which takes no more parts than IOV_MAX.
constexpr size_t kFramesPerCall = 64;
constexpr size_t kPartsPerCall = 1'024;
static_assert(kPartsPerCall > 2 * (1 + kFramePartsMax));

// Asked for; the system's net.core.wmem_max may allow less.
constexpr int kStreamSendBufferBytes = 1 << 20;

uint32_t LengthAt(const uint8_t* bytes) {
  return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | bytes[3];
}

class FrameStream final : public Link {
 public:
  FrameStream(int descriptor, const VmmLinkOptions& options)
      : socket_(descriptor), capabilities_(CapabilitiesOf(options)) {}
  ~FrameStream() override {
    if (epoll_ >= 0) close(epoll_);
    close(socket_);
  }
  FrameStream(const FrameStream&) = delete;
  FrameStream& operator=(const FrameStream&) = delete;

  absl::Status Open();

  [[nodiscard]] const LinkCapabilities& capabilities() const override { return capabilities_; }
  [[nodiscard]] int descriptor() const override { return epoll_; }
  [[nodiscard]] size_t Receive(Time now, std::span<FrameToHost> frames) override;
  [[nodiscard]] size_t Send(Time now, std::span<const FrameToGuest> frames) override;
  [[nodiscard]] bool ended() const override { return ended_; }
  [[nodiscard]] uint64_t frames_lost() const override { return frames_lost_; }
  [[nodiscard]] uint64_t framing_errors() const override { return framing_errors_; }

 private:
  // One call's worth of a batch, behind what is held.
  struct Gathered {
    size_t frames = 0;
    size_t parts = 0;
    size_t bytes = 0;
  };
  enum class Room { kMore, kFull };

  // Whole frames from the front of `stream`, which becomes what follows them, into `frames`;
  // returns how many.
  size_t Take(std::span<const uint8_t>& stream, std::span<FrameToHost> frames);
  // Reads once, into the room of frames[count], and counts on. True: there may be more.
  bool Read(std::span<FrameToHost> frames, size_t& count);
  // What came of the stream, its length apart, is in the room of frames[count].
  void Split(std::span<FrameToHost> frames, size_t& count, size_t bytes);
  bool OnReadError(ssize_t result);
  // False: no frame has it, and the link ends.
  bool IsLength(uint32_t length);

  Gathered Gather(std::span<const FrameToGuest> frames);
  // Offers the head of `frames`, and says how many of them are done with.
  Room Offer(std::span<const FrameToGuest> frames, size_t& taken);
  Room OnSendError(int error, const Gathered& gathered, size_t& taken);
  // What became of `frames` when the socket took so many bytes; how many it began.
  size_t Settle(std::span<const FrameToGuest> frames, size_t bytes);
  void Hold(const FrameToGuest& frame, size_t bytes_sent);
  void WatchForRoom(bool wanted);
  [[nodiscard]] size_t held() const { return held_end_ - held_begin_; }

  const int socket_;
  const LinkCapabilities capabilities_;
  int epoll_ = -1;

  // To host: bytes [rest_begin_, rest_end_) wait for the rest of their frame, or for a room.
  const std::unique_ptr<uint8_t[]> rest_ = std::make_unique<uint8_t[]>(kWholeBytesMax);
  size_t rest_begin_ = 0, rest_end_ = 0;
  std::array<uint8_t, kStreamLengthBytes> length_;  // of the frame that is being read

  // To guest: bytes [held_begin_, held_end_) of a frame that was begun.
  const std::unique_ptr<uint8_t[]> held_ = std::make_unique<uint8_t[]>(kWholeBytesMax);
  size_t held_begin_ = 0, held_end_ = 0;
  std::array<iovec, kPartsPerCall> parts_;
  std::array<std::array<uint8_t, kStreamLengthBytes>, kFramesPerCall> lengths_;
  bool refused_ = false;             // the last Send took fewer than it was given
  bool watches_for_room_ = false;    // the descriptor gets readable when there is some
  bool ended_ = false;               // nothing will come any more
  bool takes_nothing_more_ = false;  // the other end reads no longer

  uint64_t frames_lost_ = 0;
  uint64_t framing_errors_ = 0;
};

absl::Status FrameStream::Open() {
  (void)setsockopt(socket_, SOL_SOCKET, SO_SNDBUF, &kStreamSendBufferBytes,
                   sizeof kStreamSendBufferBytes);
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  epoll_event event{.events = EPOLLIN, .data = {}};
  if (epoll_ < 0 || epoll_ctl(epoll_, EPOLL_CTL_ADD, socket_, &event) != 0) {
    return absl::ResourceExhaustedError("cannot watch the VMM's socket: " +
                                        std::generic_category().message(errno));
  }
  return absl::OkStatus();
}

// ---------------------------------------------------------------- to host

size_t FrameStream::Receive(Time /*now*/, std::span<FrameToHost> frames) {
  size_t ignored = 0;
  if (held() != 0) (void)Offer({}, ignored);
  if (held() == 0 && !refused_) WatchForRoom(false);
  std::span<const uint8_t> rest(rest_.get() + rest_begin_, rest_end_ - rest_begin_);
  size_t count = Take(rest, frames);
  rest_begin_ = rest_end_ - rest.size();
  bool more = true;
  while (more && count < frames.size() && !ended_) more = Read(frames, count);
  return count;
}

bool FrameStream::IsLength(uint32_t length) {
  if (length != 0 && length <= kFrameBytesMax) return true;
  ++framing_errors_;
  ended_ = takes_nothing_more_ = true;
  rest_begin_ = rest_end_ = 0;
  return false;
}

size_t FrameStream::Take(std::span<const uint8_t>& stream, std::span<FrameToHost> frames) {
  size_t count = 0;
  while (count < frames.size() && stream.size() >= kStreamLengthBytes) {
    const uint32_t length = LengthAt(stream.data());
    if (!IsLength(length)) {
      stream = stream.first(0);
      break;
    }
    if (stream.size() < kStreamLengthBytes + length) break;
    FrameToHost& frame = frames[count++];
    std::memcpy(frame.room.data(), stream.data() + kStreamLengthBytes, length);
    frame.length = length;
    frame.offload = {};
    stream = stream.subspan(kStreamLengthBytes + length);
  }
  return count;
}

bool FrameStream::Read(std::span<FrameToHost> frames, size_t& count) {
  // What has come of the frame goes first.
  const std::span<uint8_t> room = frames[count].room.first(kFrameBytesMax);
  const size_t before = rest_end_ - rest_begin_;
  const size_t of_length = std::min(before, kStreamLengthBytes), of_frame = before - of_length;
  std::memcpy(length_.data(), rest_.get() + rest_begin_, of_length);
  std::memcpy(room.data(), rest_.get() + rest_begin_ + of_length, of_frame);
  std::array<iovec, 2> parts{iovec{length_.data() + of_length, kStreamLengthBytes - of_length},
                             iovec{room.data() + of_frame, room.size() - of_frame}};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  ssize_t result;
  do {
    result = recvmsg(socket_, &message, MSG_DONTWAIT);
  } while (result < 0 && errno == EINTR);
  if (result <= 0) return OnReadError(result);
  const size_t bytes = before + static_cast<size_t>(result);
  if (bytes < kStreamLengthBytes) {
    std::memcpy(rest_.get(), length_.data(), bytes);
    rest_begin_ = 0;
    rest_end_ = bytes;
    return false;
  }
  Split(frames, count, bytes - kStreamLengthBytes);
  return bytes == kWholeBytesMax;  // less: drained
}

void FrameStream::Split(std::span<FrameToHost> frames, size_t& count, size_t bytes) {
  FrameToHost& first = frames[count];
  std::span<const uint8_t> stream = first.room.first(bytes);
  const uint32_t length = LengthAt(length_.data());
  if (!IsLength(length)) return;
  rest_begin_ = rest_end_ = 0;
  if (bytes < length) {
    std::memcpy(rest_.get(), length_.data(), kStreamLengthBytes);
    rest_end_ = kStreamLengthBytes;
  } else {
    first.length = length;
    first.offload = {};
    stream = stream.subspan(length);
    ++count;
    count += Take(stream, frames.subspan(count));
  }
  std::memcpy(rest_.get() + rest_end_, stream.data(), stream.size());
  rest_end_ += stream.size();
}

bool FrameStream::OnReadError(ssize_t result) {
  if (result < 0 && (errno == EAGAIN || errno == ENOMEM || errno == ENOBUFS)) return false;
  if (rest_end_ != rest_begin_) ++frames_lost_;  // the other end left in the middle of a frame
  rest_begin_ = rest_end_ = 0;
  ended_ = takes_nothing_more_ = true;
  return false;
}

// ---------------------------------------------------------------- to guest

size_t FrameStream::Send(Time /*now*/, std::span<const FrameToGuest> frames) {
  size_t taken = 0;
  Room room = Room::kMore;
  while (taken < frames.size() && room == Room::kMore) room = Offer(frames.subspan(taken), taken);
  refused_ = taken < frames.size();
  WatchForRoom(refused_ || held() != 0);
  return taken;
}

FrameStream::Gathered FrameStream::Gather(std::span<const FrameToGuest> frames) {
  Gathered gathered;
  const auto add = [&](void* bytes, size_t length) {
    parts_[gathered.parts++] = {bytes, length};
    gathered.bytes += length;
  };
  if (held() != 0) add(held_.get() + held_begin_, held());
  for (const FrameToGuest& frame : frames.first(std::min(frames.size(), kFramesPerCall))) {
    if (gathered.parts + 1 + frame.parts.size() > kPartsPerCall) break;
    // A stream has no place for what an open checksum needs.
    if (frame.offload.checksum == ChecksumState::kPartial || frame.length == 0 ||
        frame.length > kFrameBytesMax || frame.parts.size() > kFramePartsMax) {
      break;
    }
    auto& length = lengths_[gathered.frames++];
    for (size_t i = 0; i < kStreamLengthBytes; ++i) {
      length[i] = static_cast<uint8_t>(frame.length >> (24 - 8 * i));
    }
    add(length.data(), length.size());
    for (const iovec& part : frame.parts) add(part.iov_base, part.iov_len);
  }
  return gathered;
}

FrameStream::Room FrameStream::Offer(std::span<const FrameToGuest> frames, size_t& taken) {
  if (takes_nothing_more_) {
    frames_lost_ += frames.size() + (held() != 0 ? 1 : 0);
    held_begin_ = held_end_ = 0;
    taken += frames.size();
    return Room::kMore;
  }
  const Gathered gathered = Gather(frames);
  if (gathered.parts == 0) {  // the first one cannot be carried
    ++frames_lost_;
    ++taken;
    return Room::kMore;
  }
  msghdr message{};
  message.msg_iov = parts_.data();
  message.msg_iovlen = gathered.parts;
  ssize_t result;
  do {
    result = sendmsg(socket_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (result < 0 && errno == EINTR);
  if (result < 0) return OnSendError(errno, gathered, taken);
  taken += Settle(frames.first(gathered.frames), static_cast<size_t>(result));
  return static_cast<size_t>(result) < gathered.bytes ? Room::kFull : Room::kMore;
}

FrameStream::Room FrameStream::OnSendError(int error, const Gathered& gathered, size_t& taken) {
  if (error == EAGAIN) return Room::kFull;
  if (error == ENOMEM || error == ENOBUFS) {
    if (held() != 0 || gathered.frames == 0) return Room::kFull;
    ++frames_lost_;
    ++taken;
    return Room::kMore;
  }
  // The other end is gone; what it sent before is still to be received.
  takes_nothing_more_ = true;
  return Room::kMore;
}

size_t FrameStream::Settle(std::span<const FrameToGuest> frames, size_t bytes) {
  const size_t of_held = std::min(bytes, held());
  held_begin_ += of_held;
  bytes -= of_held;
  size_t count = 0;
  for (const FrameToGuest& frame : frames) {
    if (bytes == 0) break;
    ++count;
    const size_t whole = kStreamLengthBytes + frame.length;
    if (bytes < whole) {
      Hold(frame, bytes);
      break;
    }
    bytes -= whole;
  }
  return count;
}

void FrameStream::Hold(const FrameToGuest& frame, size_t bytes_sent) {
  held_begin_ = bytes_sent;
  held_end_ = 0;
  const auto add = [&](const void* bytes, size_t length) {
    std::memcpy(held_.get() + held_end_, bytes, length);
    held_end_ += length;
  };
  for (size_t i = 0; i < kStreamLengthBytes; ++i) {
    held_[held_end_++] = static_cast<uint8_t>(frame.length >> (24 - 8 * i));
  }
  for (const iovec& part : frame.parts) {
    if (part.iov_len != 0) add(part.iov_base, part.iov_len);
  }
}

void FrameStream::WatchForRoom(bool wanted) {
  if (wanted == watches_for_room_) return;
  watches_for_room_ = wanted;
  epoll_event event{.events = EPOLLIN | (wanted ? uint32_t{EPOLLOUT} : 0u), .data = {}};
  (void)epoll_ctl(epoll_, EPOLL_CTL_MOD, socket_, &event);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Link>> OpenFrameStream(int descriptor,
                                                      const VmmLinkOptions& options) {
  auto stream = std::make_unique<FrameStream>(descriptor, options);
  if (absl::Status status = stream->Open(); !status.ok()) return status;
  return stream;
}

}  // namespace penstock
