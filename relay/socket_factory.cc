#include "relay/socket_factory.h"

#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "relay/socket_address.h"

namespace penstock {
namespace {

// What a busy server needs in a burst; the kernel caps it at net.core.somaxconn.
constexpr int kListenBacklog = 4'096;

int Seconds(Duration duration) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(duration).count();
  return static_cast<int>(std::clamp<int64_t>(seconds, 1, 32'767));
}

// The kernel takes these on any TCP socket; a failure would only cost latency or the
// notice of a dead peer, never correctness.
void SetStreamOptions(int descriptor, Duration keepalive_idle, Duration keepalive_interval,
                      int keepalive_probes) {
  const int one = 1, idle = Seconds(keepalive_idle), interval = Seconds(keepalive_interval),
            probes = std::clamp(keepalive_probes, 1, 127);
  (void)setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  // Urgent data is data: without this it would vanish from the stream.
  (void)setsockopt(descriptor, SOL_SOCKET, SO_OOBINLINE, &one, sizeof one);
  (void)setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
  (void)setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
  (void)setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
  (void)setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

// 0 or the errno.
int BindPort(int descriptor, const PortRequest& request) {
  const int one = 1;
  const IpAddress& address = request.address.address;
  // Each family has a socket of its own.
  if (address.is_v6() && setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) != 0) {
    return errno;
  }
  // A listener may come back while old connections of its port are in TIME_WAIT. On UDP
  // it would let two programs share a port.
  if (request.stream && setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0) {
    return errno;
  }
  uint32_t zone = 0;
  if (!request.interface.empty()) {
    zone = if_nametoindex(request.interface.c_str());
    if (zone == 0) return ENODEV;
    const bool link_local =
        address.is_v6() && address.bytes[0] == 0xfe && (address.bytes[1] & 0xc0) == 0x80;
    if (!link_local &&
        setsockopt(descriptor, SOL_SOCKET, SO_BINDTODEVICE, request.interface.c_str(),
                   static_cast<socklen_t>(request.interface.size())) != 0) {
      return errno;
    }
  }
  const SocketAddress where(request.address, zone);
  if (bind(descriptor, where.get(), where.length()) != 0) return errno;
  if (!request.stream) return 0;
  SetStreamOptions(descriptor, request.keepalive_idle, request.keepalive_interval,
                   request.keepalive_probes);
  return listen(descriptor, kListenBacklog) == 0 ? 0 : errno;
}

class PlainSockets final : public SocketFactory {
 public:
  SocketResult OpenStream(const SocketRequest& request) override {
    const int family = request.destination.address.is_v4() ? AF_INET : AF_INET6;
    const int descriptor = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    if (descriptor < 0) return {.error = errno};
    SetStreamOptions(descriptor, request.keepalive_idle, request.keepalive_interval,
                     request.keepalive_probes);
    return {.descriptor = descriptor};
  }
};

}  // namespace

PortResult SocketFactory::OpenPort(const PortRequest& request) {
  const int family = request.address.address.is_v4() ? AF_INET : AF_INET6;
  const int type = request.stream ? SOCK_STREAM : SOCK_DGRAM;
  const int descriptor = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return {.error = errno};
  int error = BindPort(descriptor, request);
  SocketAddress bound;
  if (error == 0 && getsockname(descriptor, bound.data(), bound.length_pointer()) != 0) {
    error = errno;
  }
  if (error == 0) return {.descriptor = descriptor, .bound = bound.ToEndpoint()};
  close(descriptor);
  return {.error = error};
}

SocketResult SocketFactory::OpenDatagram(const DatagramRequest& request) {
  const bool v4 = request.family == Family::kIpv4;
  int protocol = 0;
  if (request.kind == DatagramKind::kEcho) protocol = v4 ? int{IPPROTO_ICMP} : int{IPPROTO_ICMPV6};
  const int descriptor =
      socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
  if (descriptor < 0) return {.error = errno};
  // Each family has a socket of its own.
  const int one = 1;
  if (!v4) (void)setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
  return {.descriptor = descriptor};
}

std::shared_ptr<SocketFactory> DefaultSocketFactory() {
  static const std::shared_ptr<SocketFactory> factory = std::make_shared<PlainSockets>();
  return factory;
}

}  // namespace penstock
