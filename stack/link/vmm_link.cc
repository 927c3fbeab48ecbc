#include "stack/link/vmm_link.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "absl/status/status.h"
#include "stack/link/frame_datagrams.h"
#include "stack/link/frame_stream.h"

namespace penstock {

LinkCapabilities CapabilitiesOf(const VmmLinkOptions& options) {
  return {.mtu_max = options.mtu_max,
          .tcp4_gso_to_guest = options.unsegmented_tcp_to_guest,
          .tcp6_gso_to_guest = options.unsegmented_tcp_to_guest,
          .unsegmented_tcp_to_host = options.unsegmented_tcp_to_host,
          .frame_wakes_somebody = true};
}

absl::StatusOr<std::unique_ptr<Link>> AdoptVmmSocket(int descriptor,
                                                     const VmmLinkOptions& options) {
  int type = 0;
  socklen_t length = sizeof type;
  std::string why;
  if (getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &length) != 0) {
    why = "is no socket (" + std::generic_category().message(errno) + ")";
  } else if (type == SOCK_STREAM) {
    return OpenFrameStream(descriptor, options);
  } else if (type == SOCK_DGRAM || type == SOCK_SEQPACKET) {
    return OpenFrameDatagrams(descriptor, options);
  } else {
    why = "is a socket of another type than stream, datagram and seqpacket";
  }
  if (descriptor >= 0) close(descriptor);
  return absl::InvalidArgumentError("descriptor " + std::to_string(descriptor) + " " + why +
                                    ": pass one end of a socket whose other end the VMM has");
}

}  // namespace penstock
