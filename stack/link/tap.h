// A tap (Ethernet) or tun (IP) device of the Linux kernel as a link: the guest is
// whoever lives in the device's network namespace, or a VMM behind it.
//
// One frame is one readv or writev of [virtio-net header][frame]. The header
// carries the offloads of both directions: with it the guest's kernel hands over
// TCP super-segments of up to 64 KiB with their checksum left open, and takes the
// same. The device knows no batches, so a batch costs a system call for each
// frame.
//
// Poll thread only. No allocation after opening.
#ifndef PENSTOCK_STACK_LINK_TAP_H_
#define PENSTOCK_STACK_LINK_TAP_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "stack/link/link.h"

namespace penstock {

struct TapOptions {
  // 1 to 15 characters, no '%' (the kernel would choose a name).
  std::string name;
  // False: a tun device, frames start with the IP header.
  bool ethernet = true;
  // False: no offloads; the stack computes and verifies checksums, and every
  // frame fits the MTU.
  bool virtio_net_header = true;
  // The largest IP packet; 0: what the kind of device carries (65,521 or 65,535).
  uint32_t mtu_max = 0;
  std::string device = "/dev/net/tun";
};

// Makes the device (or takes over a persistent one that nobody uses) in the
// calling thread's network namespace. It is down and has no addresses: whoever
// owns the namespace configures it. It vanishes with the link. Errors:
// NotFound (no device node), PermissionDenied, AlreadyExists (the name is in
// use), InvalidArgument; each says what to change.
[[nodiscard]] absl::StatusOr<std::unique_ptr<Link>> OpenTap(const TapOptions& options);

// The same for a descriptor on which somebody else has made the device, perhaps
// in another namespace. Ethernet or not and virtio-net header or not are read
// from it; header size, offloads, O_NONBLOCK and close-on-exec are set on it.
// `descriptor` is owned from the call on, also when it fails. InvalidArgument if
// it is no tap. It must have been made with IFF_NO_PI, which cannot be checked: the
// kernel reports that bit for every device without a filter.
[[nodiscard]] absl::StatusOr<std::unique_ptr<Link>> AdoptTap(int descriptor, uint32_t mtu_max = 0);

}  // namespace penstock

#endif  // PENSTOCK_STACK_LINK_TAP_H_
