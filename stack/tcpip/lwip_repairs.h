// What the RFCs demand of a TCP and lwIP 2.2.1 does not do, done around it: on a segment
// before lwIP sees it, or on the PCB between two of its calls. One line of lwIP itself is
// repaired in the generated copy (third_party/lwip/thread_local.py). The scripts in
// tests/conformance show each rule.
#ifndef PENSTOCK_STACK_TCPIP_LWIP_REPAIRS_H_
#define PENSTOCK_STACK_TCPIP_LWIP_REPAIRS_H_

#include <cstdint>
#include <span>

struct tcp_pcb;

namespace penstock {

// `segment`, a TCP header in network order and its payload, without what lies outside the
// window (RFC 9293 3.10.7.4: "trimming off any portions that lie outside the window
// (including SYN and FIN)") or behind a FIN that came before the data in front of it.
// lwIP trims only some of them, and asserts that all were trimmed.
[[nodiscard]] std::span<uint8_t> TrimToWindow(const tcp_pcb& pcb, std::span<uint8_t> segment);

// A segment that starts here is not acceptable (RFC 9293 3.10.7.4). lwIP would believe
// the window that it states.
[[nodiscard]] bool StartsBeyondWindow(const tcp_pcb& pcb, uint32_t sequence);

// RFC 9293 3.10.7.4, table 6: with a closed window a segment without text at RCV.NXT is
// acceptable. lwIP would answer it, and two lwIPs each other for ever.
[[nodiscard]] bool IsAcceptableAtClosedWindow(const tcp_pcb& pcb, std::span<const uint8_t> segment);

// RFC 6298 3 (Karn): no measurement of what was sent twice; lwIP begins one. With it the
// timeout of a segment that the guest took a part of would never back off.
void ForgetRepeated(tcp_pcb& pcb);

// Takes what the guest has acknowledged off the front of the first segment that waits;
// returns how many bytes. lwIP keeps such a segment whole and computes with where it
// starts: cut at a small window, its first part would lie behind what is acknowledged,
// never be sent, and nothing after it.
[[nodiscard]] uint32_t TrimAcknowledged(tcp_pcb& pcb);

}  // namespace penstock

#endif  // PENSTOCK_STACK_TCPIP_LWIP_REPAIRS_H_
