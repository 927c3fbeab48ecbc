// What stands around frames on links: the virtio-net header, the rings of a VMM in the same
// process, and the impairment decorator, with any bytes. Frames and what is said of them come
// out as they went in, in order; what the parser makes of an offload that does not fit its
// frame stays inside the frame.
//
// An input is a head of two bytes (the delay in between) and frames: a virtio-net header,
// a length (two bytes), so many bytes. The low bits of the length's first byte are not its own:
// they say how long to wait afterwards.
#include <algorithm>
#include <cstring>
#include <deque>

#include "relay/check.h"
#include "stack/link/frame_ring.h"
#include "stack/link/impair.h"
#include "stack/link/virtio_header.h"
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

}  // namespace
}  // namespace penstock

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock;
  if (size < kHeadBytes) return 0;
  std::span<const uint8_t> rest(data, size);
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
