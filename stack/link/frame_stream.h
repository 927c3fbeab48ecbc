// Frames on a stream socket, each behind its length: 4 bytes, big-endian, without themselves.
// QEMU's -netdev stream and -netdev socket, libkrun's unixstream and passt's socket speak so;
// there is no greeting.
//
// To host, one recvmsg takes whatever waits into the room of the next frame, up to its end: the
// next length apart, the frame behind it where it is to stay. Nobody knows beforehand what
// follows there, for the lengths are among the bytes: other frames are copied on to rooms of
// their own, and what is cut waits in a buffer of the link's. So a large frame is not copied,
// and one system call brings up to 43 frames of 1,500 bytes.
//
// To guest, one sendmsg takes a whole batch, lengths and frames, without a copy. A socket that
// takes less than it was given has perhaps taken a frame in part. Its rest must come next,
// whatever comes after; it is copied and held, and the frame counts as taken. Everybody waits
// for room then: the link's descriptor is an epoll instance over the socket, which gets
// *readable* when there is room again, and Receive passes the rest on. (So it is never
// writable, as that of frame rings.)
//
// A length of 0 or above kFrameBytesMax is no length: whatever follows cannot be told from
// frames. The link ends there, and framing_errors() counts it.
//
// Poll thread only. No allocation after opening.
#ifndef PENSTOCK_STACK_LINK_FRAME_STREAM_H_
#define PENSTOCK_STACK_LINK_FRAME_STREAM_H_

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "stack/link/link.h"
#include "stack/link/vmm_link.h"

namespace penstock {

// In front of each frame.
inline constexpr size_t kStreamLengthBytes = 4;

// `descriptor` is a connected stream socket, owned from the call on, also when it fails. Whether
// it blocks does not matter. ResourceExhausted without descriptors.
[[nodiscard]] absl::StatusOr<std::unique_ptr<Link>> OpenFrameStream(int descriptor,
                                                                    const VmmLinkOptions& options);

}  // namespace penstock

#endif  // PENSTOCK_STACK_LINK_FRAME_STREAM_H_
