#include "tools/penstock/channel.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

namespace penstock::tool {
namespace {

constexpr size_t kSentenceBytesMax = 1024;
constexpr char kTapFollows = 't';
constexpr char kGo = 'g';

// Room for one descriptor.
struct alignas(cmsghdr) ControlRoom {
  std::array<char, CMSG_SPACE(sizeof(int))> bytes{};
};

}  // namespace

absl::StatusOr<Channel> OpenChannel() {
  int ends[2];
  // One report is one datagram; SEQPACKET, unlike DGRAM, tells of the other's end.
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return ErrnoStatus("cannot make a socket pair", errno);
  }
  return Channel{.parent = Descriptor(ends[0]), .child = Descriptor(ends[1])};
}

bool SendAgain(int error) {
  if (error != ENOBUFS && error != ENOMEM) return error == EINTR;
  (void)poll(nullptr, 0, 1);
  return true;
}

ssize_t SendWith(int channel, std::string_view bytes, int attached) {
  iovec part{.iov_base = const_cast<char*>(bytes.data()), .iov_len = bytes.size()};
  ControlRoom room;
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (attached >= 0) {
    message.msg_control = room.bytes.data();
    message.msg_controllen = room.bytes.size();
    cmsghdr* control = CMSG_FIRSTHDR(&message);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(sizeof attached);
    std::memcpy(CMSG_DATA(control), &attached, sizeof attached);
  }
  ssize_t sent;
  do {
    sent = sendmsg(channel, &message, MSG_NOSIGNAL);
  } while (sent < 0 && SendAgain(errno));
  return sent;
}

ssize_t ReceiveWith(int channel, std::span<char> bytes, Descriptor& attached) {
  iovec part{.iov_base = bytes.data(), .iov_len = bytes.size()};
  ControlRoom room;
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = room.bytes.data();
  message.msg_controllen = room.bytes.size();
  ssize_t length;
  do {
    length = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
  } while (length < 0 && errno == EINTR);
  if (length < 0) return length;
  const cmsghdr* control = CMSG_FIRSTHDR(&message);
  if (control != nullptr && control->cmsg_type == SCM_RIGHTS &&
      control->cmsg_len == CMSG_LEN(sizeof(int))) {
    int number;
    std::memcpy(&number, CMSG_DATA(control), sizeof number);
    attached.Reset(number);
  }
  return length;
}

absl::Status SendTap(int channel, int tap) {
  if (SendWith(channel, {&kTapFollows, 1}, tap) < 0) {
    return ErrnoStatus("cannot hand the tap over", errno);
  }
  return absl::OkStatus();
}

// The code as one byte (no status code is as high as kTapFollows), then the sentence.
void SendFailure(int channel, const absl::Status& failure) {
  std::array<char, 1 + kSentenceBytesMax> bytes{};
  bytes[0] = static_cast<char>(failure.code());
  const absl::string_view sentence = failure.message().substr(0, kSentenceBytesMax);
  std::memcpy(bytes.data() + 1, sentence.data(), sentence.size());
  // If the parent is gone there is nobody to tell.
  (void)!send(channel, bytes.data(), 1 + sentence.size(), MSG_NOSIGNAL);
}

absl::StatusOr<Descriptor> ReceiveTap(int channel) {
  std::array<char, 1 + kSentenceBytesMax> bytes{};
  Descriptor tap;
  const ssize_t length = ReceiveWith(channel, bytes, tap);
  if (length <= 0) {
    return absl::InternalError("the process that sets the namespace up ended without a word");
  }
  if (bytes[0] != kTapFollows) {
    return absl::Status(static_cast<absl::StatusCode>(bytes[0]),
                        absl::string_view(bytes.data() + 1, static_cast<size_t>(length) - 1));
  }
  if (!tap.valid()) {
    return absl::ResourceExhaustedError(
        "no descriptor is free for the tap: raise the limit on "
        "open files (ulimit -n)");
  }
  return tap;
}

absl::Status SendGo(int channel) {
  if (send(channel, &kGo, 1, MSG_NOSIGNAL) != 1) {
    return ErrnoStatus("the process that holds the namespace has ended", errno);
  }
  return absl::OkStatus();
}

bool AwaitGo(int channel) {
  char answer = 0;
  ssize_t length;
  do {
    length = recv(channel, &answer, 1, 0);
  } while (length < 0 && errno == EINTR);
  return length == 1 && answer == kGo;
}

}  // namespace penstock::tool
