// One TCP flow as the poll thread sees it: the PCB towards the guest, the pipe
// towards the host socket, and what is on its way between them.
//
//   dialing    the host socket is connecting; the guest's SYN is held
//   handshake  the host answered, and the SYN was fed to lwIP; or a client of a published
//              port came, and the guest is dialled
//   open       data flows; two latches: guest_fin, host_eof
//   closing    the PCB is gone, the relay's last word is awaited
//
// FINs are latches, not states. SetState (tcp_flows.cc) is the one place where the
// state changes, and checks a table.
#ifndef PENSTOCK_STACK_FLOW_FLOW_H_
#define PENSTOCK_STACK_FLOW_FLOW_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "relay/flow_pipe.h"
#include "relay/time.h"
#include "stack/tcpip/engine.h"

namespace penstock {

enum class FlowState : uint8_t { kFree, kDialing, kHandshake, kOpen, kClosing };

// How a flow ended, for the flow table.
enum class FlowEnd : uint8_t {
  kNone,
  kClosed,
  kResetByGuest,
  kResetByHost,
  kRefused,
  kUnreachable,
  kDialTimeout,
  kHandshakeTimeout,
  kRemoved,
  kSilent,
  kStalled,
  kKeepalive,
  kOutOfMemory,
  kDenied,
  kShutdown,
};

// The guest's SYN while the host is dialled: its headers, from the IP header on;
// payload is dropped (the guest sends it again). 40 + 8 extension headers are not
// kept: what follows the last one is, at most 60 bytes of TCP.
struct HeldSyn {
  std::array<uint8_t, 60> tcp_header;
  uint8_t tcp_header_bytes = 0;
  // What an ICMP error quotes: the first bytes of the IP packet.
  std::array<uint8_t, 120> quote;
  uint8_t quote_bytes = 0;
  uint32_t sequence = 0;
  uint32_t payload_bytes = 0;
  std::optional<uint32_t> isn_after;  // see OpenOptions
};

// An acknowledgement that waits for data to ride on. What waited in vain is paid for by the next
// ones, which do not wait: a guest that sends in two pieces what is answered as a whole waits
// for the first one's.
struct AcknowledgementWait {
  Time since{};
  bool waiting = false;
  bool listed = false;  // among those to be released; perhaps it does not wait any more
  uint8_t in_vain = 0;  // grows twofold with each of them, shrinks by one with each that rode
  uint8_t skip = 0;     // so many more do not wait
};

struct Flow {
  FlowPipe pipe;
  Pcb pcb;
  TcpTuple tuple;
  FlowState state = FlowState::kFree;
  FlowEnd end = FlowEnd::kNone;
  uint8_t relay_index = 0;       // fixed for the life of the slot
  bool ready = false;            // on the ready list
  bool blocked_by_link = false;  // on the list of those that the link refused
  bool ticking = false;          // on the list of PCBs that need ticks
  bool fin_to_relay = false;
  bool host_eof = false;
  bool host_reset = false;
  bool fin_to_guest = false;
  bool abort = false;       // closing: by kAbort, not kClose
  bool close_told = false;  // closing: the relay was told
  bool looking = false;     // the guest's bytes wait until the name that they show is known
  bool denied = false;      // at its SYN; it is here to be told so by a page
  bool answering = false;   // denied: the guest gets a page and an end, the host nothing
  AcknowledgementWait acknowledgement;
  uint8_t keepalives_unanswered = 0;
  uint32_t tick_slot = 0;  // index on that list
  uint32_t negotiated_mss = 0;
  std::unique_ptr<HeldSyn> syn;
  std::unique_ptr<std::string> name;        // that the first bytes showed; nullptr: none
  uint64_t number = 0;                      // Gate's; 0: it was denied, and is not told of
  std::unique_ptr<AcceptedSocket> no_host;  // denied: the other end of what it has for a host
  std::shared_ptr<PortGauge> port;          // of a published port; nullptr: the guest opened it
  Endpoint client;                          // its client, whoever the guest sees

  // The guest's bytes that wait for a place in the pipe.
  Chunk* pending_head = nullptr;
  Chunk* pending_tail = nullptr;
  uint32_t pending_bytes = 0;
  uint32_t bytes_at_relay = 0;        // pushed, not yet taken
  uint32_t window_bytes = 0;          // promised to the guest
  uint32_t drained_since_growth = 0;  // of the window; see GrowWindow

  // The host's bytes: blocks in order, from the first not acknowledged one.
  Block* blocks_head = nullptr;
  Block* blocks_tail = nullptr;
  Block* unwritten = nullptr;  // the first that is not wholly written
  uint32_t unwritten_offset = 0;
  uint32_t acknowledged_offset = 0;  // of blocks_head
  uint32_t block_bytes = 0;          // held in all
  uint32_t in_flight_bytes = 0;      // written, not acknowledged
  // Of those, up to the one whose round trip is timed; 0: none is. See GrowCredit.
  uint32_t timed_bytes = 0;
  Time timed_since{};

  Time looking_since{};  // the first byte of the guest's that is held back
  Time opened_at{};
  Time last_heard{};     // any segment of the guest
  bool waiting = false;  // for the guest to acknowledge or to open its window
  Time waiting_since{};
  Time last_progress{};  // a byte moved on, either way
  Time deadline = kNever;
  uint32_t deadline_slot = ~uint32_t{0};  // Deadlines' own
  uint64_t bytes_to_host = 0;
  uint64_t bytes_to_guest = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_FLOW_FLOW_H_
