// What the error queue of a host's datagram socket says (IP_RECVERR in ip(7), ipv6(7)): the
// ICMP errors that came for what it sent, and what the kernel itself refused. Any thread.
#ifndef PENSTOCK_RELAY_SOCKET_FAULT_H_
#define PENSTOCK_RELAY_SOCKET_FAULT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "relay/datagram_pipe.h"

namespace penstock {

struct SocketFault {
  DatagramFault what;  // kNone: an error that says nothing of a datagram
  bool local = false;  // the kernel's own, about the datagram that was sent last
  Endpoint destination;
  size_t quoted_bytes = 0;  // written to `room`: the head of the payload, as far as known
};

// Asks the socket to keep errors.
void KeepSocketFaults(int descriptor, Family family);

// The oldest error, off the queue; nullopt: there is none.
[[nodiscard]] std::optional<SocketFault> TakeSocketFault(int descriptor, std::span<uint8_t> room);

// What an errno of sendmsg(2) says about the datagram that met it; kNone for one that says
// nothing about where it went.
[[nodiscard]] DatagramFault FaultFromErrno(int error);

}  // namespace penstock

#endif  // PENSTOCK_RELAY_SOCKET_FAULT_H_
