// A host client's connection on its way from a listener (publisher/) to a flow of the
// stack, and what the two count together for one published port.
//
// The relay's thread accepts and hands over by Relay::HandOver; the poll thread opens a
// flow for it, or drops it. The socket comes back with the flow's kOpen, to the relay
// that serves the flow.
#ifndef PENSTOCK_RELAY_INBOUND_H_
#define PENSTOCK_RELAY_INBOUND_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "relay/counter.h"
#include "relay/endpoint.h"

namespace penstock {

// Whoever destroys one that no task has adopted refuses the client: it is reset. An end of a
// stream pair is one, too (stream_pair.h).
class AcceptedSocket {
 public:
  virtual ~AcceptedSocket() = default;
};

// A client, or the errno that says why there is none.
struct AcceptResult {
  std::unique_ptr<AcceptedSocket> socket;
  Endpoint client;
  int error = 0;
};

// Levels and totals of one published port. Each has one writer, but for `dialing`.
struct PortGauge {
  uint16_t guest_port = 0;
  Family family = Family::kIpv4;  // by which the guest is dialled
  uint8_t relay_index = 0;        // where its listener lives
  uint32_t dialing_max = 0;

  // Accepted, but the guest has not answered. The listener adds and pauses at
  // dialing_max, so that clients wait in the kernel's backlog as they would at a slow
  // server; the stack subtracts, looks at `paused` (its partner), and lets it go on at
  // half.
  std::atomic<uint32_t> dialing{0};
  std::atomic<bool> paused{false};

  Counter accepted;  // the listener's
  // The stack's.
  Counter ended;  // of the accepted ones
  Counter bytes_to_guest;
  Counter bytes_to_host;
  bool cut = false;  // the stack's own: refuse what was accepted before the removal
};

struct Inbound {
  Inbound* next = nullptr;
  std::unique_ptr<AcceptedSocket> socket;
  std::shared_ptr<PortGauge> port;  // nullptr: the guest connected, to the stack itself
  Endpoint client;
  bool show_client = false;      // to the guest, instead of the gateway
  std::vector<uint8_t> preface;  // bytes for the guest in front of the client's
};

}  // namespace penstock

#endif  // PENSTOCK_RELAY_INBOUND_H_
