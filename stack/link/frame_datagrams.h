// Frames on a datagram or seqpacket socket, each a datagram: QEMU's -netdev dgram, vfkit's and
// libkrun's unixgram. One recvmmsg fills a whole batch of rooms, one sendmmsg takes a whole
// batch; no byte is copied on the way.
//
// vfkit, and libkrun if it is told to, begin with a datagram that says "VFKT". It is no frame,
// wherever it comes, and is passed over.
//
// A datagram pair has no end: who is left behind learns it when it sends (ECONNREFUSED). That
// is when this link ends, so it may take as long as the stack is silent; whoever knows the other
// end's process had better watch that. A seqpacket socket ends as a stream does.
//
// A full socket (EAGAIN) takes the rest later; one without memory (ENOBUFS, ENOMEM) and one for
// which a frame is too long lose that frame, as a network card would.
//
// Poll thread only. No allocation after opening.
#ifndef PENSTOCK_STACK_LINK_FRAME_DATAGRAMS_H_
#define PENSTOCK_STACK_LINK_FRAME_DATAGRAMS_H_

#include <memory>

#include "absl/status/statusor.h"
#include "stack/link/link.h"
#include "stack/link/vmm_link.h"

namespace penstock {

// `descriptor` is a connected datagram or seqpacket socket, owned from the call on, also when
// it fails. Whether it blocks does not matter. InvalidArgument if it is not connected.
[[nodiscard]] absl::StatusOr<std::unique_ptr<Link>> OpenFrameDatagrams(
    int descriptor, const VmmLinkOptions& options);

}  // namespace penstock

#endif  // PENSTOCK_STACK_LINK_FRAME_DATAGRAMS_H_
