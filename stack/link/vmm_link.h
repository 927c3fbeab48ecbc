// A virtual machine behind a socket: the link that QEMU, libkrun, vfkit and others offer.
// Frames have no virtio-net header there; how one ends and the next begins is the socket's
// type:
//
//   stream                  each frame behind its length (frame_stream.h): QEMU's -netdev
//                           stream and socket, libkrun's unixstream
//   datagram, seqpacket     each datagram is a frame (frame_datagrams.h): QEMU's -netdev dgram,
//                           vfkit's and libkrun's unixgram
//
// Without the header nobody says what was left undone. So a link declares nothing unless its
// options say what the VMM does: checksums to guest are complete, frames to guest fit the
// MTU, and so must those to host, whose checksums are verified.
#ifndef PENSTOCK_STACK_LINK_VMM_LINK_H_
#define PENSTOCK_STACK_LINK_VMM_LINK_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "stack/link/link.h"

namespace penstock {

struct VmmLinkOptions {
  // The VMM offers its guest offloads, and passes on what the guest's driver left to the
  // device without saying so (libkrun): TCP above the MTU, checksums of the pseudo-header only.
  bool unsegmented_tcp_to_host = false;
  // It hands its guest frames above the MTU: TCP may leave in super-segments, with complete
  // checksums. Good for a guest that is the end of its connections, and for no router.
  bool unsegmented_tcp_to_guest = false;
  // The largest IP packet; at most what LinkCapabilities has by default.
  uint32_t mtu_max = LinkCapabilities{}.mtu_max;
};

[[nodiscard]] LinkCapabilities CapabilitiesOf(const VmmLinkOptions& options);

// A link on a connected socket, whose type (SO_TYPE) says which. `descriptor` is owned from
// the call on, also when it fails. InvalidArgument if it is no such socket.
[[nodiscard]] absl::StatusOr<std::unique_ptr<Link>> AdoptVmmSocket(int descriptor,
                                                                   const VmmLinkOptions& options);

}  // namespace penstock

#endif  // PENSTOCK_STACK_LINK_VMM_LINK_H_
