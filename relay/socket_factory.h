// Where every host socket comes from. An embedder replaces it to choose a source
// address, an interface, a mark, a network namespace or a proxy; a test replaces
// it to fail on purpose.
#ifndef PENSTOCK_RELAY_SOCKET_FACTORY_H_
#define PENSTOCK_RELAY_SOCKET_FACTORY_H_

#include <cstdint>
#include <memory>
#include <string>

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

// A socket of a published port.
struct PortRequest {
  bool stream = true;     // TCP, or UDP
  Endpoint address;       // port 0: the system chooses
  std::string interface;  // to bind to; for a link-local address its zone; empty: none
  // As above; connections that a listener accepts inherit them.
  Duration keepalive_idle;
  Duration keepalive_interval;
  int keepalive_probes;
};

struct PortResult {
  int descriptor = -1;
  int error = 0;   // errno
  Endpoint bound;  // with the port that was chosen
};

// A socket behind a pipe of datagrams that the stack makes.
enum class DatagramKind : uint8_t {
  kUdp,
  kEcho,  // ICMP echo requests and their replies (icmp(7): no privileges are needed)
  // A stream that carries messages (framed_task.h). Its socket comes from OpenStream.
  kFramedStream,
};
struct DatagramRequest {
  DatagramKind kind = DatagramKind::kUdp;
  Family family = Family::kIpv4;
};

class SocketFactory {
 public:
  virtual ~SocketFactory() = default;
  // A non-blocking, close-on-exec stream socket that connect(2) can be called on.
  // The relay owns the descriptor from then on. Called on relay threads, several
  // at once. Must not block.
  [[nodiscard]] virtual SocketResult OpenStream(const SocketRequest& request) = 0;
  // A non-blocking, close-on-exec socket that is bound and, if it is a stream's,
  // listens with a backlog of 4,096 or the system's maximum. The caller owns it. Called
  // on the poll thread. Here: the host's kernel.
  [[nodiscard]] virtual PortResult OpenPort(const PortRequest& request);
  // A non-blocking, close-on-exec socket that sendto(2) can be called on, for any
  // destination of the family; kUdp or kEcho. The relay owns it, and sets what it needs to
  // hear of errors. Called on relay threads, several at once. Must not block. Here: the host's
  // kernel.
  [[nodiscard]] virtual SocketResult OpenDatagram(const DatagramRequest& request);
};

// TCP sockets of the destination's family with TCP_NODELAY and keepalive.
[[nodiscard]] std::shared_ptr<SocketFactory> DefaultSocketFactory();

}  // namespace penstock

#endif  // PENSTOCK_RELAY_SOCKET_FACTORY_H_
