#include "relay/stream_pair.h"

#include <errno.h>
#include <sys/socket.h>

#include "relay/kernel_socket.h"

namespace penstock {

StreamPair MakeStreamPair(SocketFactory&) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) {
    return {.error = errno};
  }
  return {.flow_end = std::make_unique<KernelAccepted>(ends[0], AF_UNIX),
          .own_end = std::make_unique<KernelAccepted>(ends[1], AF_UNIX)};
}

}  // namespace penstock
