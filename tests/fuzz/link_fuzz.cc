// What stands around frames on links: the virtio-net header, the rings of a VMM in the same
// process, and the impairment decorator, with any bytes. Frames and what is said of them come
// out as they went in, in order; what the parser makes of an offload that does not fit its
// frame stays inside the frame. And the sockets of a VMM in another process: frames are what a
// reader finds who has all of the bytes before him, wherever reads are cut, and go back whole.
//
// An input is a head of two bytes and what the two highest bits of it say:
//   0   the delay in between, and frames: a virtio-net header, a length (two bytes), so many
//       bytes. The low bits of the length's first byte are not its own: they say how long to
//       wait afterwards.
//   1   datagrams: a length (two bytes), so many bytes; the second byte of the head is how many
//       are sent at once.
//   2   the bytes of a stream; the second byte of the head is how many are sent at once.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <string_view>

#include "relay/check.h"
#include "stack/link/frame_ring.h"
#include "stack/link/frame_stream.h"
#include "stack/link/impair.h"
#include "stack/link/virtio_header.h"
#include "stack/link/vmm_link.h"
#include "tests/support/packet_builder.h"

namespace penstock {
namespace {

constexpr size_t kHeadBytes = 2, kFrameHeadBytes = kVirtioHeaderBytes + 2;

bool Same(const Offload& a, const Offload& b) {
  return a.checksum == b.checksum && a.gso == b.gso && a.checksum_start == b.checksum_start &&
         a.checksum_offset == b.checksum_offset && a.segment_bytes == b.segment_bytes &&
         a.header_bytes == b.header_bytes;
}

// What the header can say: without a checksum or segments, their fields mean nothing.
Offload Sayable(Offload offload) {
  std::array<uint8_t, kVirtioHeaderBytes> header;
  EncodeVirtioHeader(offload, header);
  const auto decoded = DecodeVirtioHeader(header);
  PENSTOCK_CHECK(decoded.has_value());
  return *decoded;
}

bool Inside(std::span<const uint8_t> part, std::span<const uint8_t> whole) {
  return part.empty() ||
         (part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size());
}

struct Frame {
  Bytes bytes;
  Offload offload;
};

class Run {
 public:
  explicit Run(std::span<const uint8_t> head) {
    auto rings = FrameRings::Create(
        {.to_host_bytes = RecordRing::kBytesMin, .to_guest_bytes = RecordRing::kBytesMin});
    PENSTOCK_CHECK(rings.ok());
    vmm_ = std::move(rings->vmm_end);
    const ImpairDirection slow{.delay = std::chrono::milliseconds(head[0] % 16),
                               .jitter = std::chrono::milliseconds(head[1] % 16)};
    auto impaired =
        Impair(std::move(rings->stack_end), {.to_host = slow, .to_guest = slow, .seed = head[1]});
    PENSTOCK_CHECK(impaired.ok());
    link_ = *std::move(impaired);
  }
  ~Run() {
    while (!to_host_.empty() || !to_guest_.empty()) {
      PENSTOCK_CHECK(link_->deadline() != kNever);
      Wait(std::max(now_, link_->deadline()));
    }
  }

  void OnFrame(std::span<const uint8_t, kVirtioHeaderBytes> header, std::span<const uint8_t> bytes,
               uint8_t milliseconds) {
    const std::optional<Offload> offload = DecodeVirtioHeader(header);
    if (!offload) return;
    const Offload again = Sayable(*offload);
    PENSTOCK_CHECK(Same(again, Sayable(again)));
    if (vmm_->SendToHost(bytes, *offload)) {
      to_host_.push_back({Bytes(bytes.begin(), bytes.end()), *offload});
    }
    Wait(now_ + std::chrono::milliseconds(milliseconds));
  }

 private:
  void Wait(Time when) {
    now_ = when;
    FromGuest();
    // Whoever sends nothing is asked once more, for what is due.
    PENSTOCK_CHECK(link_->Send(now_, {}) == 0);
    FromHost();
  }

  void FromGuest() {
    Bytes room(kFrameBytesMax);
    FrameToHost frame{.room = room};
    while (link_->Receive(now_, {&frame, 1}) == 1) {
      PENSTOCK_CHECK(!to_host_.empty());
      const Frame sent = std::move(to_host_.front());
      to_host_.pop_front();
      PENSTOCK_CHECK(std::ranges::equal(frame.bytes(), sent.bytes) &&
                     Same(frame.offload, sent.offload));
      Bytes exact = sent.bytes;
      ParseResult parsed = Parse(
          {.room = exact, .length = static_cast<uint32_t>(exact.size()), .offload = sent.offload},
          TestParseOptions());
      if (const auto* packet = std::get_if<Packet>(&parsed)) {
        PENSTOCK_CHECK(Inside(packet->ip, exact) && Inside(packet->payload, exact));
        PENSTOCK_CHECK(packet->segment_bytes == 0 || sent.offload.gso == Gso::kUdp);
      }
      SendBack(sent);
    }
  }

  // In two parts, as headers and payload are.
  void SendBack(const Frame& frame) {
    Bytes bytes = frame.bytes;
    const size_t first = bytes.size() / 3;
    const iovec parts[] = {{bytes.data(), first}, {bytes.data() + first, bytes.size() - first}};
    const FrameToGuest out{
        .parts = parts, .length = static_cast<uint32_t>(bytes.size()), .offload = frame.offload};
    if (link_->Send(now_, {&out, 1}) == 1) to_guest_.push_back(frame);
  }

  void FromHost() {
    while (const auto record = vmm_->FrontToGuest()) {
      PENSTOCK_CHECK(!to_guest_.empty());
      PENSTOCK_CHECK(std::ranges::equal(record->bytes, to_guest_.front().bytes) &&
                     Same(record->offload, to_guest_.front().offload));
      to_guest_.pop_front();
      vmm_->PopToGuest();
    }
  }

  Time now_{std::chrono::hours(1)};
  std::unique_ptr<FrameRingsGuestEnd> vmm_;
  std::unique_ptr<ImpairedLink> link_;
  std::deque<Frame> to_host_, to_guest_;  // on their way
};

// A VMM's end of a socket whose other end a link has.
class Socket {
 public:
  explicit Socket(int type) {
    int ends[2];
    PENSTOCK_CHECK(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) == 0);
    socket_ = ends[0];
    auto adopted = AdoptVmmSocket(ends[1], {});
    PENSTOCK_CHECK(adopted.ok());
    link_ = *std::move(adopted);
  }
  ~Socket() { close(socket_); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  void Write(std::span<const uint8_t> bytes) {
    const ssize_t sent = send(socket_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    PENSTOCK_CHECK(sent == static_cast<ssize_t>(bytes.size()) || link_->ended());
  }
  void EndWriting() { shutdown(socket_, SHUT_WR); }
  // Takes what waits, a few frames at a time, and sends each back.
  void Turn() {
    for (;;) {
      std::array<FrameToHost, kRooms> frames;
      for (size_t i = 0; i < kRooms; ++i) frames[i].room = Scratch().rooms[i];
      const size_t count = link_->Receive(Time{}, frames);
      for (const FrameToHost& frame : std::span(frames).first(count)) {
        received_.emplace_back(frame.bytes().begin(), frame.bytes().end());
        SendBack(received_.back());
      }
      if (count < kRooms) break;
    }
  }
  Bytes Read() {
    Bytes& bytes = Scratch().bytes;
    const ssize_t got = recv(socket_, bytes.data(), bytes.size(), MSG_DONTWAIT);
    return {bytes.begin(), bytes.begin() + std::max<ssize_t>(got, 0)};
  }
  [[nodiscard]] Link& link() { return *link_; }
  [[nodiscard]] const std::vector<Bytes>& received() const { return received_; }

 private:
  static constexpr size_t kRooms = 3;

  // Made once: most of an execution's time would go into it.
  struct Buffers {
    std::array<Bytes, kRooms> rooms;
    Bytes bytes = Bytes(1 << 20);
  };
  static Buffers& Scratch() {
    static Buffers buffers = [] {
      Buffers made;
      for (Bytes& room : made.rooms) room.resize(kFrameBytesMax);
      return made;
    }();
    return buffers;
  }

  void SendBack(Bytes& bytes) {
    const size_t first = bytes.size() / 3;
    const iovec parts[] = {{bytes.data(), first}, {bytes.data() + first, bytes.size() - first}};
    const FrameToGuest out{.parts = parts, .length = static_cast<uint32_t>(bytes.size())};
    PENSTOCK_CHECK(link_->Send(Time{}, {&out, 1}) == 1);
  }

  int socket_;
  std::unique_ptr<Link> link_;
  std::vector<Bytes> received_;
};

// What a stream of those bytes holds.
struct StreamContent {
  std::vector<Bytes> frames;
  bool lie = false;
  bool cut = false;
};

StreamContent ContentOf(std::span<const uint8_t> stream) {
  StreamContent content;
  while (stream.size() >= kStreamLengthBytes) {
    const size_t length = size_t{stream[0]} << 24 | size_t{stream[1]} << 16 |
                          size_t{stream[2]} << 8 | size_t{stream[3]};
    content.lie = length == 0 || length > kFrameBytesMax;
    if (content.lie) return content;
    if (stream.size() < kStreamLengthBytes + length) break;
    const auto frame = stream.subspan(kStreamLengthBytes, length);
    content.frames.emplace_back(frame.begin(), frame.end());
    stream = stream.subspan(kStreamLengthBytes + length);
  }
  content.cut = !stream.empty();
  return content;
}

void RunStream(uint8_t piece, std::span<const uint8_t> stream) {
  const StreamContent content = ContentOf(stream);
  Socket socket(SOCK_STREAM);
  Bytes back;
  const auto turn = [&] {
    socket.Turn();
    const Bytes some = socket.Read();
    back.insert(back.end(), some.begin(), some.end());
  };
  for (auto rest = stream; !rest.empty() && !socket.link().ended();) {
    const auto now = rest.first(std::min<size_t>(rest.size(), size_t{piece} + 1));
    socket.Write(now);
    turn();
    rest = rest.subspan(now.size());
  }
  socket.EndWriting();
  turn();
  PENSTOCK_CHECK(socket.link().ended() && socket.received() == content.frames);
  PENSTOCK_CHECK(socket.link().framing_errors() == (content.lie ? 1 : 0));
  // After a lie nothing goes back, not even what came in the same turn before it.
  const size_t last_turn = socket.link().frames_lost() - (content.cut && !content.lie ? 1 : 0);
  PENSTOCK_CHECK(content.lie || last_turn == 0);
  const StreamContent returned = ContentOf(back);
  PENSTOCK_CHECK(!returned.lie && !returned.cut &&
                 returned.frames.size() + last_turn == content.frames.size());
  PENSTOCK_CHECK(
      std::equal(returned.frames.begin(), returned.frames.end(), content.frames.begin()));
}

void RunDatagrams(uint8_t burst, std::span<const uint8_t> rest) {
  constexpr std::string_view kHello = "VFKT";
  Socket socket(SOCK_DGRAM);
  std::vector<Bytes> expected;
  uint64_t empty = 0;
  size_t back = 0;
  const auto turn = [&] {
    socket.Turn();
    PENSTOCK_CHECK(socket.received() == expected);
    for (; back < expected.size(); ++back) PENSTOCK_CHECK(socket.Read() == expected[back]);
  };
  for (int waiting = 0; rest.size() >= 2;) {
    const size_t length = std::min<size_t>(size_t{rest[0]} << 8 | rest[1], rest.size() - 2);
    const auto datagram = rest.subspan(2, length);
    rest = rest.subspan(2 + length);
    socket.Write(datagram);
    if (datagram.empty()) {
      ++empty;
    } else if (!std::ranges::equal(datagram, kHello)) {
      expected.emplace_back(datagram.begin(), datagram.end());
    }
    if (++waiting % (burst % 64 + 1) == 0) turn();
  }
  turn();
  PENSTOCK_CHECK(socket.link().frames_lost() == empty && !socket.link().ended());
}

}  // namespace
}  // namespace penstock

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock;
  if (size < kHeadBytes) return 0;
  std::span<const uint8_t> rest(data, size);
  if ((data[0] & 0xc0) == 0x80) {
    RunStream(data[1], rest.subspan(kHeadBytes));
    return 0;
  }
  if ((data[0] & 0xc0) == 0x40) {
    RunDatagrams(data[1], rest.subspan(kHeadBytes));
    return 0;
  }
  Run run(rest.first(kHeadBytes));
  rest = rest.subspan(kHeadBytes);
  while (rest.size() >= kFrameHeadBytes) {
    const auto header = rest.first<kVirtioHeaderBytes>();
    const uint8_t high = rest[kVirtioHeaderBytes], low = rest[kVirtioHeaderBytes + 1];
    rest = rest.subspan(kFrameHeadBytes);
    const size_t length = std::min(size_t{high} / 16 << 8 | low, rest.size());
    run.OnFrame(header, rest.first(length), high % 16);
    rest = rest.subspan(length);
  }
  return 0;
}
