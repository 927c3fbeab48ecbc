// Two connected stream sockets inside this process: what is written to one end is read from
// the other. For a connection of the guest's that ends in the stack itself: one end is the
// flow's "host" socket, the other one belongs to whoever answers.
#ifndef PENSTOCK_RELAY_STREAM_PAIR_H_
#define PENSTOCK_RELAY_STREAM_PAIR_H_

#include <memory>

#include "relay/inbound.h"
#include "relay/socket_factory.h"

namespace penstock {

// Both ends, or the errno that says why there are none. An end that nobody adopts closes
// when it is destroyed: the other one reads the end, or ECONNRESET if bytes were lost.
struct StreamPair {
  std::unique_ptr<AcceptedSocket> flow_end;
  std::unique_ptr<AcceptedSocket> own_end;
  int error = 0;
};

// Any thread; one system call, which does not block. `factory` is the stack's, for a
// simulated world: a pair is no socket of the host's, and the embedder is not asked.
using StreamPairMaker = StreamPair (*)(SocketFactory& factory);

// Of the kernel: non-blocking, close-on-exec.
[[nodiscard]] StreamPair MakeStreamPair(SocketFactory& factory);

}  // namespace penstock

#endif  // PENSTOCK_RELAY_STREAM_PAIR_H_
