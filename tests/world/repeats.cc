#include "tests/world/repeats.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "stack/wire/packet.h"
#include "tests/support/guest_segment.h"

namespace penstock::world {
namespace {

constexpr Duration kSoon = std::chrono::milliseconds(300);

bool Beyond(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) > 0; }

}  // namespace

void Repeats::OnFrameToGuest(Time now, const WireFrame& frame) {
  const std::optional<GuestSegment> segment = DecodeFrame(frame.bytes, frame.offload);
  if (!segment || segment->SequenceLength() == 0) return;
  std::vector<Sent>& sent = sent_[{segment->source, segment->destination}];
  if (segment->Has(kTcpSyn)) sent.clear();
  const uint32_t end = segment->sequence + segment->SequenceLength();
  if (sent.empty() || Beyond(end, sent.back().end)) return sent.push_back({end, now});
  const auto first = std::find_if(sent.begin(), sent.end(), [&](const Sent& each) {
    return Beyond(each.end, segment->sequence);
  });
  if (now - first->at < kSoon) ++soon_;
}

}  // namespace penstock::world
