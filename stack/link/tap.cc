#include "stack/link/tap.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "stack/link/virtio_header.h"

namespace penstock {
namespace {

// Linux refuses a larger MTU: 65,535 bytes less the Ethernet header, if any.
constexpr uint32_t kTapMtuMax = 65'521;
constexpr uint32_t kTunMtuMax = 65'535;

// A failed read consumes its frame, so going on is progress; but a device that
// fails for good must not hold the poll thread.
constexpr int kReadErrorsPerBatchMax = 16;

// UDP of both families, uncut (TUN_F_USO4 and TUN_F_USO6 of Linux 6.2, which knows them
// only together).
constexpr unsigned kTunUdp = 0x20 | 0x40;

std::string ErrnoText(int error) { return std::generic_category().message(error); }

class Tap final : public Link {
 public:
  explicit Tap(int descriptor) : descriptor_(descriptor) {}
  ~Tap() override { close(descriptor_); }
  Tap(const Tap&) = delete;
  Tap& operator=(const Tap&) = delete;

  // Reads what kind of device it is and sets up header, offloads and flags.
  absl::Status Configure(uint32_t mtu_max);

  [[nodiscard]] const LinkCapabilities& capabilities() const override { return capabilities_; }
  [[nodiscard]] int descriptor() const override { return descriptor_; }
  [[nodiscard]] size_t Receive(Time now, std::span<FrameToHost> frames) override;
  [[nodiscard]] size_t Send(Time now, std::span<const FrameToGuest> frames) override;
  [[nodiscard]] bool ended() const override { return ended_; }
  [[nodiscard]] uint64_t resets() const override { return resets_; }
  [[nodiscard]] uint64_t frames_lost() const override { return frames_lost_; }

 private:
  enum class ReadResult { kFrame, kDrained, kLost };
  ReadResult ReadFrame(FrameToHost& frame);
  // False: the device is full.
  bool WriteFrame(const FrameToGuest& frame);
  absl::Status ConfigureHeader();

  const int descriptor_;
  LinkCapabilities capabilities_;
  bool virtio_net_header_ = false;
  bool ended_ = false;
  bool was_down_ = false;  // a frame found it down, and none has come since
  uint64_t resets_ = 0;
  uint64_t frames_lost_ = 0;
};

absl::Status Tap::Configure(uint32_t mtu_max) {
  ifreq request{};
  if (ioctl(descriptor_, TUNGETIFF, &request) != 0) {
    return absl::InvalidArgumentError("descriptor " + std::to_string(descriptor_) +
                                      " is no tap device (" + ErrnoText(errno) +
                                      "): pass one that TUNSETIFF succeeded on");
  }
  const auto flags = static_cast<unsigned>(request.ifr_flags);
  const int status_flags = fcntl(descriptor_, F_GETFL);
  if (status_flags < 0 || fcntl(descriptor_, F_SETFL, status_flags | O_NONBLOCK) != 0 ||
      fcntl(descriptor_, F_SETFD, FD_CLOEXEC) != 0) {
    return absl::InternalError("cannot make the tap descriptor non-blocking: " + ErrnoText(errno));
  }
  capabilities_.ethernet = (flags & IFF_TAP) != 0;
  const uint32_t device_mtu_max = capabilities_.ethernet ? kTapMtuMax : kTunMtuMax;
  if (mtu_max > device_mtu_max) {
    return absl::InvalidArgumentError("mtu_max is " + std::to_string(mtu_max) +
                                      ": this kind of device carries at most " +
                                      std::to_string(device_mtu_max));
  }
  capabilities_.mtu_max = mtu_max == 0 ? device_mtu_max : mtu_max;
  virtio_net_header_ = (flags & IFF_VNET_HDR) != 0;
  return virtio_net_header_ ? ConfigureHeader() : absl::OkStatus();
}

absl::Status Tap::ConfigureHeader() {
  const int size = kVirtioHeaderBytes;
  const int little_endian = 1;
  if (ioctl(descriptor_, TUNSETVNETHDRSZ, &size) != 0 ||
      ioctl(descriptor_, TUNSETVNETLE, &little_endian) != 0) {
    return absl::FailedPreconditionError("the tap device refuses the virtio 1.x header (" +
                                         ErrnoText(errno) +
                                         "): open it without a virtio-net header");
  }
  // What the guest's kernel may leave to us. An older or restricted kernel may
  // refuse some: then it does that work itself, and we lose only speed.
  constexpr unsigned kTcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
  for (const unsigned offload :
       {kTcp | kTunUdp, kTcp, unsigned{TUN_F_CSUM | TUN_F_TSO4}, unsigned{TUN_F_CSUM}, 0u}) {
    if (ioctl(descriptor_, TUNSETOFFLOAD, static_cast<unsigned long>(offload)) != 0) continue;
    // Who can leave UDP in one piece knows how to cut it, too.
    capabilities_.udp_gso_to_guest = (offload & kTunUdp) != 0;
    break;
  }
  // What we may leave to the guest's kernel: it takes both with any header.
  capabilities_.partial_checksum_to_guest = true;
  capabilities_.tcp4_gso_to_guest = true;
  capabilities_.tcp6_gso_to_guest = true;
  return absl::OkStatus();
}

Tap::ReadResult Tap::ReadFrame(FrameToHost& frame) {
  std::array<uint8_t, kVirtioHeaderBytes> header;
  const size_t header_bytes = virtio_net_header_ ? header.size() : 0;
  // The kernel leaves num_buffers out: it writes only the first ten bytes.
  if (virtio_net_header_) header.fill(0);
  const std::array<iovec, 2> parts{
      {{header.data(), header_bytes}, {frame.room.data(), frame.room.size()}}};
  ssize_t result;
  do {
    result = readv(descriptor_, parts.data(), static_cast<int>(parts.size()));
  } while (result < 0 && errno == EINTR);
  if (result < 0) {
    if (errno == EAGAIN) return ReadResult::kDrained;
    if (errno == EBADFD) {  // the device was deleted
      ended_ = true;
      return ReadResult::kDrained;
    }
    return ReadResult::kLost;
  }
  const auto bytes = static_cast<size_t>(result);
  // A full room means that the frame may have been cut: no device frame is that
  // large.
  if (bytes <= header_bytes || bytes >= header_bytes + frame.room.size()) return ReadResult::kLost;
  frame.length = static_cast<uint32_t>(bytes - header_bytes);
  frame.offload = {};
  resets_ += std::exchange(was_down_, false) ? 1 : 0;
  if (virtio_net_header_) {
    const std::optional<Offload> offload = DecodeVirtioHeader(header);
    if (!offload) return ReadResult::kLost;
    frame.offload = *offload;
  }
  return ReadResult::kFrame;
}

size_t Tap::Receive(Time /*now*/, std::span<FrameToHost> frames) {
  size_t count = 0;
  int errors = 0;
  while (count < frames.size() && !ended_) {
    const ReadResult result = ReadFrame(frames[count]);
    if (result == ReadResult::kFrame) {
      ++count;
      continue;
    }
    if (result == ReadResult::kDrained) break;
    ++frames_lost_;
    // The descriptor is level-triggered: what is left comes with the next pass.
    if (++errors == kReadErrorsPerBatchMax) break;
  }
  return count;
}

bool Tap::WriteFrame(const FrameToGuest& frame) {
  const bool needs_header =
      frame.offload.checksum == ChecksumState::kPartial || frame.offload.gso != Gso::kNone;
  if (ended_ || frame.parts.size() > kFramePartsMax || (needs_header && !virtio_net_header_)) {
    ++frames_lost_;
    return true;
  }
  std::array<uint8_t, kVirtioHeaderBytes> header;
  std::array<iovec, kFramePartsMax + 1> parts;
  size_t part_count = 0;
  if (virtio_net_header_) {
    EncodeVirtioHeader(frame.offload, header);
    parts[part_count++] = {header.data(), header.size()};
  }
  std::copy(frame.parts.begin(), frame.parts.end(), parts.begin() + part_count);
  part_count += frame.parts.size();
  ssize_t result;
  do {
    result = writev(descriptor_, parts.data(), static_cast<int>(part_count));
  } while (result < 0 && errno == EINTR);
  if (result >= 0) return true;
  if (errno == EAGAIN) return false;
  if (errno == EBADFD) ended_ = true;
  if (errno == EIO) was_down_ = true;
  ++frames_lost_;  // EIO: device down; ENOBUFS, ENOMEM: short of memory; EINVAL: refused
  return true;
}

size_t Tap::Send(Time /*now*/, std::span<const FrameToGuest> frames) {
  size_t count = 0;
  while (count < frames.size() && WriteFrame(frames[count])) ++count;
  return count;
}

absl::Status NodeError(const std::string& device, int error) {
  const std::string what = "cannot open " + device + " (" + ErrnoText(error) + "): ";
  switch (error) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
      return absl::NotFoundError(what +
                                 "load the tun module (modprobe tun), or make the device node "
                                 "available in this container");
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(
          what + "let this user read and write it (chmod 0666 is what most systems ship)");
    default:
      return absl::UnavailableError(what + "check the limit on open files and the device node");
  }
}

absl::Status AttachError(const TapOptions& options, int error) {
  const std::string what =
      "cannot make the device '" + options.name + "' (" + ErrnoText(error) + "): ";
  switch (error) {
    case EBUSY:
      return absl::AlreadyExistsError(what +
                                      "another process uses a device of this name in this network "
                                      "namespace, choose another name or end that process");
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(
          what +
          "CAP_NET_ADMIN over this network namespace is needed, make the device in a "
          "namespace of your own");
    case EINVAL:
      return absl::InvalidArgumentError(what +
                                        "an interface of another kind has this name, or it is no "
                                        "valid interface name; choose another one");
    default:
      return absl::UnavailableError(what + "see the kernel's log");
  }
}

absl::StatusOr<std::unique_ptr<Link>> Finish(std::unique_ptr<Tap> tap, uint32_t mtu_max) {
  if (absl::Status status = tap->Configure(mtu_max); !status.ok()) return status;
  return tap;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Link>> OpenTap(const TapOptions& options) {
  if (options.name.empty() || options.name.size() >= IFNAMSIZ ||
      options.name.find('%') != std::string::npos) {
    return absl::InvalidArgumentError("the device name '" + options.name +
                                      "' must have 1 to 15 characters, none of them '%'");
  }
  const int descriptor = open(options.device.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (descriptor < 0) return NodeError(options.device, errno);
  auto tap = std::make_unique<Tap>(descriptor);

  ifreq request{};
  options.name.copy(request.ifr_name, IFNAMSIZ - 1);
  request.ifr_flags = static_cast<short>((options.ethernet ? IFF_TAP : IFF_TUN) | IFF_NO_PI |
                                         (options.virtio_net_header ? IFF_VNET_HDR : 0));
  if (ioctl(descriptor, TUNSETIFF, &request) != 0) return AttachError(options, errno);
  return Finish(std::move(tap), options.mtu_max);
}

absl::StatusOr<std::unique_ptr<Link>> AdoptTap(int descriptor, uint32_t mtu_max) {
  return Finish(std::make_unique<Tap>(descriptor), mtu_max);
}

}  // namespace penstock
