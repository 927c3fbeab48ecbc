#include "tests/world/world_link.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "stack/wire/protocols.h"
#include "tests/support/guest_segment.h"
#include "tests/support/packet_builder.h"
#include "tests/world/timeline.h"

namespace penstock::world {
namespace {

constexpr size_t kIpBytesMax = 65'535;
// Of the guest's own fragments; what strays use lies above.
constexpr uint64_t kCutIdentifications = 0x7fff;

MacPair MacsOf(std::span<const uint8_t> frame) {
  MacPair macs;
  std::copy_n(frame.begin(), 6, macs.destination.begin());
  std::copy_n(frame.begin() + 6, 6, macs.source.begin());
  return macs;
}

// TCP right behind an IP header of the smallest size.
bool IsTcp(std::span<const uint8_t> frame) {
  constexpr uint8_t kTcp = 6;
  if (frame.size() < kTransport6At) return false;
  const bool v4 = frame[12] == 0x08 && frame[13] == 0x00 && frame[kIpAt] == 0x45;
  const bool v6 = frame[12] == 0x86 && frame[13] == 0xdd;
  return (v4 && frame[kIpAt + 9] == kTcp) || (v6 && frame[kIpAt + 6] == kTcp);
}

LinkCapabilities CapabilitiesOf(const Scenario& scenario) {
  const bool offload = scenario.offload != 0;
  return {.partial_checksum_to_guest = offload,
          .tcp4_gso_to_guest = offload,
          .tcp6_gso_to_guest = offload,
          .udp_gso_to_guest = offload,
          .frame_wakes_somebody = true};
}

ImpairOptions ImpairOptionsOf(const Scenario& scenario) {
  constexpr double kPerMille = 1e-3;
  const ImpairDirection direction{
      .delay = std::chrono::microseconds(scenario.delay_us),
      .jitter = std::chrono::microseconds(scenario.jitter_us),
      .drop = static_cast<double>(scenario.drop) * kPerMille,
      .duplicate = static_cast<double>(scenario.duplicate) * kPerMille,
      .reorder = static_cast<double>(scenario.reorder) * kPerMille,
      .corrupt = static_cast<double>(scenario.corrupt) * kPerMille,
  };
  return {.to_host = direction, .to_guest = direction, .seed = scenario.seed};
}

// Of both segments, what must be the same for a kernel to join them.
bool Joinable(const GuestSegment& first, const GuestSegment& next, size_t segment_bytes) {
  const auto plain = [](const GuestSegment& segment) {
    return (segment.flags & ~kTcpPsh) == kTcpAck && segment.sack.empty() &&
           !segment.payload.empty();
  };
  return plain(first) && plain(next) && first.source == next.source &&
         first.destination == next.destination && first.acknowledgement == next.acknowledgement &&
         first.window == next.window && first.sequence + first.payload.size() == next.sequence &&
         first.payload.size() % segment_bytes == 0 && next.payload.size() <= segment_bytes;
}

// The only other frames that leave with an offload: UDP, its checksum partial.
std::vector<uint8_t> CompleteUdp(const WireFrame& frame) {
  const Offload& offload = frame.offload;
  std::vector<uint8_t> bytes = frame.bytes;
  const size_t at = size_t{offload.checksum_start} + offload.checksum_offset;
  if (offload.gso != Gso::kNone || offload.checksum_offset != kUdpChecksumOffset ||
      at + 2 > bytes.size()) {
    throw ScriptError("an offload for something that is neither TCP nor UDP");
  }
  const auto sum =
      static_cast<uint16_t>(~SlowSum(std::span(bytes).subspan(offload.checksum_start)));
  Put16(bytes, at, sum == 0 ? 0xffff : sum);
  return bytes;
}

// As a kernel or a device cuts it: each datagram with the headers of the whole.
std::vector<std::vector<uint8_t>> CutUdp(const WireFrame& frame) {
  const Offload& offload = frame.offload;
  const size_t header = offload.header_bytes, udp_at = header - kUdpHeaderBytes;
  const bool v4 = frame.bytes.at(12) == 0x08;
  if (offload.segment_bytes == 0 || offload.checksum_start != udp_at ||
      udp_at != (v4 ? kTransport4At : kTransport6At) || frame.bytes.size() < header) {
    throw ScriptError("a super-segment of UDP whose headers are elsewhere");
  }
  std::vector<std::vector<uint8_t>> pieces;
  for (size_t at = header; at < frame.bytes.size(); at += offload.segment_bytes) {
    const size_t bytes = std::min<size_t>(offload.segment_bytes, frame.bytes.size() - at);
    const auto begin = frame.bytes.begin();
    std::vector<uint8_t> piece(begin, begin + static_cast<ptrdiff_t>(header));
    piece.insert(piece.end(), begin + static_cast<ptrdiff_t>(at),
                 begin + static_cast<ptrdiff_t>(at + bytes));
    if (v4) {
      Put16(piece, kIpAt + 2, static_cast<uint16_t>(piece.size() - kIpAt));
      FixIpv4Checksum(piece);
    } else {
      Put16(piece, kIpAt + 4, static_cast<uint16_t>(piece.size() - udp_at));
    }
    Put16(piece, udp_at + 4, static_cast<uint16_t>(kUdpHeaderBytes + bytes));
    Put16(piece, udp_at + kUdpChecksumOffset, 0);
    const std::span<const uint8_t> packet = std::span(piece).subspan(kIpAt);
    const size_t addresses_at = v4 ? 12 : 8, address = v4 ? 4 : 16;
    const uint16_t sum = static_cast<uint16_t>(
        ~SlowTransportSum(IpAddress::From(packet.subspan(addresses_at, address)),
                          IpAddress::From(packet.subspan(addresses_at + address, address)),
                          kIpProtocolUdp, std::span(piece).subspan(udp_at)));
    Put16(piece, udp_at + kUdpChecksumOffset, sum == 0 ? 0xffff : sum);
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

}  // namespace

std::vector<std::vector<uint8_t>> ToWire(const WireFrame& frame) {
  if (frame.offload.gso == Gso::kNone && frame.offload.checksum != ChecksumState::kPartial) {
    return {frame.bytes};
  }
  std::optional<GuestSegment> segment = DecodeFrame(frame.bytes, frame.offload);
  if (!segment && frame.offload.gso == Gso::kUdp) return CutUdp(frame);
  if (!segment) return {CompleteUdp(frame)};
  const size_t whole = segment->payload.size();
  const size_t piece = frame.offload.gso == Gso::kNone ? whole : frame.offload.segment_bytes;
  if (whole > 0 && piece == 0) throw ScriptError("segments of no bytes");
  std::vector<std::vector<uint8_t>> pieces;
  size_t at = 0;
  do {
    GuestSegment part = *segment;
    part.offload = {};
    part.payload = segment->payload.substr(at, piece);
    part.sequence += static_cast<uint32_t>(at);
    at += part.payload.size();
    if (at < whole) part.flags &= static_cast<uint8_t>(~(kTcpFin | kTcpPsh));
    pieces.push_back(EncodeFrame(MacsOf(frame.bytes), part).bytes);
  } while (at < whole);
  return pieces;
}

bool Join(WireFrame& frame, std::span<const uint8_t> next) {
  if (frame.bytes.size() + next.size() > kIpBytesMax) return false;
  std::optional<GuestSegment> first, second;
  try {
    first = DecodeFrame(frame.bytes, frame.offload);
    second = DecodeFrame(next, {});
  } catch (const ScriptError&) {
    return false;  // a stray that is no frame
  }
  if (!first || !second) return false;
  const size_t segment_bytes =
      frame.offload.gso == Gso::kNone ? first->payload.size() : frame.offload.segment_bytes;
  if (!Joinable(*first, *second, segment_bytes)) return false;
  first->payload += second->payload;
  first->flags |= second->flags;
  first->offload = {.gso = first->source.address.is_v4() ? Gso::kTcp4 : Gso::kTcp6,
                    .segment_bytes = static_cast<uint16_t>(segment_bytes)};
  EncodedFrame joined = EncodeFrame(MacsOf(frame.bytes), *first);
  frame = {.bytes = std::move(joined.bytes), .offload = joined.offload};
  return true;
}

// ---------------------------------------------------------------- the guest's end

class WorldLink::GuestEnd final : public Link {
 public:
  GuestEnd(WorldLink& outer, const Scenario& scenario)
      : outer_(outer),
        scenario_(scenario),
        dice_(scenario.seed ^ 0x6c696e6b),
        cut_dice_(scenario.seed ^ 0x637574) {}

  void PushToHost(std::span<const uint8_t> frame, const Offload& offload) {
    if (offload.gso != Gso::kNone) {
      to_host_.push_back({.bytes = {frame.begin(), frame.end()}, .offload = offload});
      return;
    }
    const bool join = scenario_.offload != 0 && !to_host_.empty() && dice_.PerMille(700);
    if (join && Join(to_host_.back(), frame)) return;
    if (cut_dice_.PerMille(scenario_.fragment) && IsTcp(frame)) return PushFragments(frame);
    to_host_.push_back({.bytes = {frame.begin(), frame.end()}, .offload = {}});
  }
  void TakeAgain() { refused_ = false; }
  [[nodiscard]] bool FramesWait() const { return !to_host_.empty(); }

  [[nodiscard]] const LinkCapabilities& capabilities() const override {
    return outer_.capabilities_;
  }
  [[nodiscard]] int descriptor() const override { return -1; }

  [[nodiscard]] size_t Receive(Time, std::span<FrameToHost> frames) override {
    size_t count = 0;
    for (; count < frames.size() && !to_host_.empty(); ++count) {
      const WireFrame& frame = to_host_.front();
      if (outer_.on_frame) outer_.on_frame("to host", frame);
      std::copy(frame.bytes.begin(), frame.bytes.end(), frames[count].room.begin());
      frames[count].length = static_cast<uint32_t>(frame.bytes.size());
      frames[count].offload = frame.offload;
      to_host_.pop_front();
    }
    return count;
  }

  [[nodiscard]] size_t Send(Time, std::span<const FrameToGuest> frames) override {
    if (refused_) return 0;
    size_t count = frames.size();
    if (count > 0 && dice_.PerMille(scenario_.refuse)) {
      count = dice_.Below(count);
      refused_ = true;
    }
    for (const FrameToGuest& frame : frames.first(count)) Take(frame);
    if (refused_ && outer_.on_refusal) outer_.on_refusal();
    return count;
  }

  [[nodiscard]] uint64_t segments_lost() const { return segments_lost_; }

 private:
  // Two to six of them, in any order; of IPv6 the first one has the TCP header.
  void PushFragments(std::span<const uint8_t> frame) {
    const size_t bytes = std::max<size_t>(frame.size() / cut_dice_.From(2, 6) / 8 * 8, 24);
    const auto identification = static_cast<uint32_t>(1 + cut_count_++ % kCutIdentifications);
    std::vector<Bytes> fragments = CutFrame({frame.begin(), frame.end()}, bytes, identification);
    if (cut_dice_.PerMille(300)) std::ranges::reverse(fragments);
    for (Bytes& fragment : fragments) {
      to_host_.push_back({.bytes = std::move(fragment), .offload = {}});
    }
  }

  // A router between here and the guest's application: what does not fit is dropped, and
  // its sender told.
  bool TooBigForPath(const std::vector<uint8_t>& wire) {
    if (scenario_.path_mtu == 0) return false;
    if (wire.size() - kEthernetHeaderBytes <= static_cast<size_t>(scenario_.path_mtu)) return false;
    std::optional<GuestSegment> segment;
    try {
      segment = DecodeFrame(wire, {});
    } catch (const ScriptError&) {
      return false;  // corrupted on the way
    }
    if (!segment) return false;
    const MacPair macs = MacsOf(wire);
    const EncodedFrame report =
        EncodeTooBig({.source = macs.destination, .destination = macs.source},
                     {.original = *segment, .mtu = static_cast<uint32_t>(scenario_.path_mtu)});
    to_host_.push_back({.bytes = report.bytes, .offload = report.offload});
    return true;
  }

  void Take(const FrameToGuest& frame) {
    WireFrame whole{.bytes = {}, .offload = frame.offload};
    for (const iovec& part : frame.parts) {
      const auto* bytes = static_cast<const uint8_t*>(part.iov_base);
      whole.bytes.insert(whole.bytes.end(), bytes, bytes + part.iov_len);
    }
    if (outer_.on_frame) outer_.on_frame("to guest", whole);
    for (const std::vector<uint8_t>& wire : ToWire(whole)) {
      if (TooBigForPath(wire)) continue;
      if (outer_.Bad(now_) && dice_.PerMille(scenario_.segment_drop)) {
        ++segments_lost_;
      } else if (outer_.deliver) {
        outer_.deliver(wire);
      }
    }
  }

  WorldLink& outer_;
  const Scenario& scenario_;
  Dice dice_;
  Dice cut_dice_;  // its own: other numbers do not change what it throws
  uint64_t cut_count_ = 0;
  Time now_ = kBegin;
  std::deque<WireFrame> to_host_;
  bool refused_ = false;
  uint64_t segments_lost_ = 0;

  friend class WorldLink;
};

// ---------------------------------------------------------------- the link

WorldLink::WorldLink(const Scenario& scenario)
    : scenario_(scenario), capabilities_(CapabilitiesOf(scenario)) {
  auto end = std::make_unique<GuestEnd>(*this, scenario);
  end_ = end.get();
  auto impaired = Impair(std::move(end), ImpairOptionsOf(scenario));
  if (!impaired.ok()) throw std::invalid_argument(impaired.status().ToString());
  impaired_ = *std::move(impaired);
}

WorldLink::~WorldLink() = default;

bool WorldLink::Bad(Time now) const {
  return scenario_.bad_until_ms == 0 ||
         now < kBegin + std::chrono::milliseconds(scenario_.bad_until_ms);
}

void WorldLink::PushToHost(std::span<const uint8_t> frame, const Offload& offload) {
  end_->PushToHost(frame, offload);
}
void WorldLink::TakeAgain() { end_->TakeAgain(); }
bool WorldLink::FramesWait(Time) const { return end_->FramesWait(); }

size_t WorldLink::Receive(Time now, std::span<FrameToHost> frames) {
  if (in_pass) in_pass();
  end_->now_ = now;
  // What the bad link holds back still comes, before it is by-passed.
  if (Bad(now) || impaired_->deadline() != kNever) return impaired_->Receive(now, frames);
  return end_->Receive(now, frames);
}

size_t WorldLink::Send(Time now, std::span<const FrameToGuest> frames) {
  if (in_pass) in_pass();
  end_->now_ = now;
  if (Bad(now) || impaired_->deadline() != kNever) return impaired_->Send(now, frames);
  return end_->Send(now, frames);
}

Time WorldLink::deadline() const { return impaired_->deadline(); }
uint64_t WorldLink::frames_lost() const { return impaired_->frames_lost() + end_->segments_lost(); }

}  // namespace penstock::world
