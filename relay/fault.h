// What became of a packet on its way, instead of its arrival: the errors of ICMP, and what
// the host's kernel says at once. Of a stream of messages: how it ended.
#ifndef PENSTOCK_RELAY_FAULT_H_
#define PENSTOCK_RELAY_FAULT_H_

#include <cstdint>

namespace penstock {

enum class FaultKind : uint8_t {
  kNone,
  kNetwork,  // unreachable, like the next four
  kHost,
  kProtocol,
  kPort,
  kProhibited,
  kTooBig,        // for the path, and not to be fragmented
  kHopLimit,      // exceeded on the way
  kNoSocket,      // the host's system gave none; of a stream: or it could not be connected
  kStreamEnd,     // the peer said all that it has to say, and may still listen
  kStreamBroken,  // nothing more goes either way
};

}  // namespace penstock

#endif  // PENSTOCK_RELAY_FAULT_H_
