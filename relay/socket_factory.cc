#include "relay/socket_factory.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

namespace penstock {
namespace {

int Seconds(Duration duration) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(duration).count();
  return static_cast<int>(std::clamp<int64_t>(seconds, 1, 32'767));
}

class PlainSockets final : public SocketFactory {
 public:
  SocketResult OpenStream(const SocketRequest& request) override {
    const int family = request.destination.address.is_v4() ? AF_INET : AF_INET6;
    const int descriptor = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    if (descriptor < 0) return {.error = errno};
    // The kernel takes these on any TCP socket; a failure would only cost latency
    // or the notice of a dead peer, never correctness.
    const int one = 1, idle = Seconds(request.keepalive_idle),
              interval = Seconds(request.keepalive_interval),
              probes = std::clamp(request.keepalive_probes, 1, 127);
    (void)setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    // Urgent data is data: without this it would vanish from the stream.
    (void)setsockopt(descriptor, SOL_SOCKET, SO_OOBINLINE, &one, sizeof one);
    (void)setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    (void)setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    (void)setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    (void)setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    return {.descriptor = descriptor};
  }
};

}  // namespace

std::shared_ptr<SocketFactory> DefaultSocketFactory() {
  static const std::shared_ptr<SocketFactory> factory = std::make_shared<PlainSockets>();
  return factory;
}

}  // namespace penstock
