// Where every host socket comes from. An embedder replaces it to choose a source
// address, an interface, a mark, a network namespace or a proxy; a test replaces
// it to fail on purpose.
#ifndef PENSTOCK_RELAY_SOCKET_FACTORY_H_
#define PENSTOCK_RELAY_SOCKET_FACTORY_H_

#include <memory>

#include "relay/endpoint.h"
#include "relay/time.h"

namespace penstock {

struct SocketRequest {
  Endpoint destination;  // where the relay will connect it
  // Keepalive of the host side, from Config.
  Duration keepalive_idle;
  Duration keepalive_interval;
  int keepalive_probes;
};

// Either a descriptor or the errno that says why there is none.
struct SocketResult {
  int descriptor = -1;
  int error = 0;
};

class SocketFactory {
 public:
  virtual ~SocketFactory() = default;
  // A non-blocking, close-on-exec stream socket that connect(2) can be called on.
  // The relay owns the descriptor from then on. Called on relay threads, several
  // at once. Must not block.
  [[nodiscard]] virtual SocketResult OpenStream(const SocketRequest& request) = 0;
};

// TCP sockets of the destination's family with TCP_NODELAY and keepalive.
[[nodiscard]] std::shared_ptr<SocketFactory> DefaultSocketFactory();

}  // namespace penstock

#endif  // PENSTOCK_RELAY_SOCKET_FACTORY_H_
