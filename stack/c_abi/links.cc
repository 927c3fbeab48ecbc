// The links of the C ABI: a descriptor that was passed, and the embedder's callbacks as a Link.
//
// Callbacks get the stack's own rooms and parts, lent for the call: no byte is copied on the way.
// Only the array that describes them is written anew for each batch, on the stack of the call.
// What a callback answers is checked: a count or a length that cannot be ends the link, for its
// frames can no longer be told apart. Poll thread only.
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <span>
#include <system_error>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "stack/c_abi/boundary.h"
#include "stack/link/tap.h"
#include "stack/link/vmm_link.h"

namespace penstock::c_abi {
namespace {

constexpr uint32_t kTcpGso = PENSTOCK_TCP4_GSO_TO_GUEST | PENSTOCK_TCP6_GSO_TO_GUEST;
constexpr uint32_t kAllCapabilities = PENSTOCK_PARTIAL_CHECKSUM_TO_GUEST | kTcpGso |
                                      PENSTOCK_UDP_GSO_TO_GUEST | PENSTOCK_UNSEGMENTED_TCP_TO_HOST |
                                      PENSTOCK_NO_ETHERNET;
constexpr uint32_t kMtuMax = LinkCapabilities{}.mtu_max;
constexpr uint32_t kMtuMaxWithoutEthernet = 65'535;

penstock_offload ToC(const Offload& offload) {
  return {.checksum = static_cast<uint8_t>(offload.checksum),
          .gso = static_cast<uint8_t>(offload.gso),
          .checksum_start = offload.checksum_start,
          .checksum_offset = offload.checksum_offset,
          .segment_bytes = offload.segment_bytes,
          .header_bytes = offload.header_bytes,
          .reserved = 0};
}

// False: no such offload.
bool FromC(const penstock_offload& from, Offload& offload) {
  if (from.checksum > PENSTOCK_CHECKSUM_PARTIAL || from.gso > PENSTOCK_GSO_UDP) return false;
  offload = {.checksum = static_cast<ChecksumState>(from.checksum),
             .gso = static_cast<Gso>(from.gso),
             .checksum_start = from.checksum_start,
             .checksum_offset = from.checksum_offset,
             .segment_bytes = from.segment_bytes,
             .header_bytes = from.header_bytes};
  return true;
}

static_assert(static_cast<int>(ChecksumState::kPartial) == PENSTOCK_CHECKSUM_PARTIAL);
static_assert(static_cast<int>(Gso::kUdp) == PENSTOCK_GSO_UDP);

class CallbackLink final : public Link {
 public:
  CallbackLink(const penstock_link_callbacks& callbacks, const LinkCapabilities& capabilities)
      : callbacks_(callbacks), capabilities_(capabilities) {}
  ~CallbackLink() override {
    if (callbacks_.release != nullptr) callbacks_.release(callbacks_.context);
  }
  CallbackLink(const CallbackLink&) = delete;
  CallbackLink& operator=(const CallbackLink&) = delete;

  [[nodiscard]] const LinkCapabilities& capabilities() const override { return capabilities_; }
  [[nodiscard]] int descriptor() const override { return callbacks_.descriptor; }
  [[nodiscard]] size_t Receive(Time now, std::span<FrameToHost> frames) override;
  [[nodiscard]] size_t Send(Time now, std::span<const FrameToGuest> frames) override;
  [[nodiscard]] bool ended() const override {
    return framing_errors_ != 0 ||
           (callbacks_.ended != nullptr && callbacks_.ended(callbacks_.context) != 0);
  }
  [[nodiscard]] uint64_t frames_lost() const override { return frames_lost_; }
  [[nodiscard]] uint64_t framing_errors() const override { return framing_errors_; }

 private:
  static constexpr size_t kBatchMax = 64;  // as many as the stack gives at once

  const penstock_link_callbacks callbacks_;
  const LinkCapabilities capabilities_;
  uint64_t frames_lost_ = 0;
  uint64_t framing_errors_ = 0;
};

size_t CallbackLink::Receive(Time /*now*/, std::span<FrameToHost> frames) {
  if (framing_errors_ != 0) return 0;
  std::array<penstock_frame_to_host, kBatchMax> lent;
  frames = frames.first(std::min(frames.size(), kBatchMax));
  for (size_t i = 0; i < frames.size(); ++i) {
    lent[i] = {.room = frames[i].room.data(),
               .room_bytes = static_cast<uint32_t>(frames[i].room.size()),
               .length = 0,
               .offload = {}};
  }
  const size_t count = callbacks_.receive(callbacks_.context, lent.data(), frames.size());
  for (size_t i = 0; i < std::min(count, frames.size()); ++i) {
    const bool fits = lent[i].length != 0 && lent[i].length <= frames[i].room.size();
    if (!fits || !FromC(lent[i].offload, frames[i].offload)) {
      ++framing_errors_;
      return i;
    }
    frames[i].length = lent[i].length;
  }
  if (count > frames.size()) ++framing_errors_;
  return std::min(count, frames.size());
}

size_t CallbackLink::Send(Time /*now*/, std::span<const FrameToGuest> frames) {
  std::array<penstock_frame_to_guest, kBatchMax> lent;
  for (size_t sent = 0; sent < frames.size();) {
    const size_t batch = std::min(frames.size() - sent, kBatchMax);
    for (size_t i = 0; i < batch; ++i) {
      const FrameToGuest& frame = frames[sent + i];
      lent[i] = {.parts = frame.parts.data(),
                 .part_count = static_cast<uint32_t>(frame.parts.size()),
                 .length = frame.length,
                 .offload = ToC(frame.offload)};
    }
    const size_t taken =
        framing_errors_ != 0 ? 0 : callbacks_.send(callbacks_.context, lent.data(), batch);
    if (taken > batch) ++framing_errors_;
    if (framing_errors_ != 0) {  // nobody is there any more
      frames_lost_ += frames.size() - sent;
      return frames.size();
    }
    sent += taken;
    if (taken < batch) return sent;
  }
  return frames.size();
}

absl::Status ReadOptions(const penstock_link_options* from, penstock_link_options& options) {
  if (from == nullptr) return absl::OkStatus();
  absl::Status status = ReadSized("penstock_link_options", from, options);
  if (!status.ok()) return status;
  if ((options.capabilities & ~kAllCapabilities) != 0 || options.reserved != 0) {
    return absl::InvalidArgumentError(
        "penstock_link_options.capabilities has a bit that is none, or reserved is not 0");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Link>> FromDescriptor(int descriptor,
                                                     const penstock_link_options& options) {
  struct stat about {};
  const uint32_t gso = options.capabilities & kTcpGso;
  const bool socket = fstat(descriptor, &about) == 0 && S_ISSOCK(about.st_mode);
  if (!socket && options.capabilities == 0) return AdoptTap(descriptor, options.mtu_max);
  if (socket && (gso == 0 || gso == kTcpGso) &&
      (options.capabilities & ~(kTcpGso | PENSTOCK_UNSEGMENTED_TCP_TO_HOST)) == 0) {
    return AdoptVmmSocket(
        descriptor,
        {.unsegmented_tcp_to_host = (options.capabilities & PENSTOCK_UNSEGMENTED_TCP_TO_HOST) != 0,
         .unsegmented_tcp_to_guest = gso != 0,
         .mtu_max = options.mtu_max == 0 ? kMtuMax : std::min(options.mtu_max, kMtuMax)});
  }
  if (descriptor >= 0) close(descriptor);
  return absl::InvalidArgumentError(
      absl::StrCat("penstock_link_options.capabilities is ", options.capabilities, ", which no ",
                   socket ? "socket" : "tap", " can have: see its comment in penstock.h"));
}

absl::Status CheckCallbacks(const penstock_link_callbacks& callbacks) {
  if (callbacks.receive == nullptr || callbacks.send == nullptr) {
    return absl::InvalidArgumentError(
        "penstock_link_callbacks needs both receive and send: one of them is NULL");
  }
  return absl::OkStatus();
}

LinkCapabilities CapabilitiesOf(const penstock_link_options& options) {
  const auto has = [&](uint32_t bit) { return (options.capabilities & bit) != 0; };
  const uint32_t mtu_max = has(PENSTOCK_NO_ETHERNET) ? kMtuMaxWithoutEthernet : kMtuMax;
  return {.ethernet = !has(PENSTOCK_NO_ETHERNET),
          .mtu_max = options.mtu_max == 0 ? mtu_max : std::min(options.mtu_max, mtu_max),
          .partial_checksum_to_guest = has(PENSTOCK_PARTIAL_CHECKSUM_TO_GUEST),
          .tcp4_gso_to_guest = has(PENSTOCK_TCP4_GSO_TO_GUEST),
          .tcp6_gso_to_guest = has(PENSTOCK_TCP6_GSO_TO_GUEST),
          .udp_gso_to_guest = has(PENSTOCK_UDP_GSO_TO_GUEST),
          .unsegmented_tcp_to_host = has(PENSTOCK_UNSEGMENTED_TCP_TO_HOST)};
}

}  // namespace
}  // namespace penstock::c_abi

using penstock::c_abi::CallbackLink;
using penstock::c_abi::CapabilitiesOf;
using penstock::c_abi::CheckCallbacks;
using penstock::c_abi::FromDescriptor;
using penstock::c_abi::Guarded;
using penstock::c_abi::ReadOptions;
using penstock::c_abi::ReadSized;
using penstock::c_abi::TellNull;

extern "C" {

penstock_status penstock_link_from_descriptor(int descriptor, const penstock_link_options* options,
                                              penstock_link** link) {
  if (link == nullptr) {
    if (descriptor >= 0) close(descriptor);
    return TellNull("link");
  }
  *link = nullptr;
  return Guarded([&]() -> absl::Status {
    auto handle = std::make_unique<penstock_link>();
    penstock_link_options read{};
    if (absl::Status status = ReadOptions(options, read); !status.ok()) {
      if (descriptor >= 0) close(descriptor);
      return status;
    }
    auto opened = FromDescriptor(descriptor, read);
    if (!opened.ok()) return opened.status();
    handle->link = *std::move(opened);
    *link = handle.release();
    return absl::OkStatus();
  });
}

penstock_status penstock_link_from_callbacks(const penstock_link_callbacks* callbacks,
                                             const penstock_link_options* options,
                                             penstock_link** link) {
  if (link == nullptr) return TellNull("link");
  *link = nullptr;
  if (callbacks == nullptr) return TellNull("callbacks");
  return Guarded([&]() -> absl::Status {
    auto handle = std::make_unique<penstock_link>();
    penstock_link_options read_options{};
    if (absl::Status status = ReadOptions(options, read_options); !status.ok()) return status;
    penstock_link_callbacks read{};
    absl::Status status = ReadSized("penstock_link_callbacks", callbacks, read);
    if (status.ok()) status = CheckCallbacks(read);
    if (!status.ok()) return status;
    handle->link = std::make_unique<CallbackLink>(read, CapabilitiesOf(read_options));
    *link = handle.release();
    return absl::OkStatus();
  });
}

void penstock_link_destroy(penstock_link* link) { delete link; }

}  // extern "C"
