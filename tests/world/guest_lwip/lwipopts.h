// How the guest's lwIP is compiled: a whole host (Ethernet, ARP, neighbour discovery,
// both IPs, ICMP, TCP), as an ordinary guest would configure it. Nothing is shared with
// the engine in stack/tcpip but upstream's source. Values that carry a reason have it
// beside them; what is not here is lwIP's default. See README.md.
#ifndef PENSTOCK_TESTS_WORLD_GUEST_LWIP_LWIPOPTS_H_
#define PENSTOCK_TESTS_WORLD_GUEST_LWIP_LWIPOPTS_H_

// One thread, entered by guest_lwip.c only, which also runs the timers.
#define NO_SYS 1
#define SYS_LIGHTWEIGHT_PROT 0
#define LWIP_TIMERS 1
#define LWIP_SINGLE_NETIF 1
#define LWIP_SOCKET 0
#define LWIP_NETCONN 0

#define LWIP_ETHERNET 1
#define LWIP_ARP 1
#define LWIP_IPV4 1
#define LWIP_IPV6 1
#define LWIP_ICMP 1
#define LWIP_ICMP6 1
#define LWIP_TCP 1
#define LWIP_UDP 0
#define LWIP_RAW 0
#define LWIP_DHCP 0
#define LWIP_IPV6_DHCP6 0
// A stack sends no TCP in fragments; a guest that drops them shows one that does.
#define IP_FRAG 0
#define IP_REASSEMBLY 0
#define LWIP_IPV6_FRAG 0
#define LWIP_IPV6_REASS 0

// Addresses are set by hand and good at once: no duplicate detection, no router
// solicitation, no MLD. The IPv6 route is guest_lwip_gateway6.
#define LWIP_IPV6_DUP_DETECT_ATTEMPTS 0
#define LWIP_IPV6_AUTOCONFIG 0
#define LWIP_IPV6_SEND_ROUTER_SOLICIT 0
#define LWIP_IPV6_MLD 0
#define LWIP_IPV6_SCOPES 0
#define LWIP_HOOK_FILENAME "guest_hooks.h"

// Packets wait for their neighbour instead of all but the last being lost.
#define ARP_QUEUEING 1
#define ARP_QUEUE_LEN 64
// Every destination behind the gateway has an entry, which remembers its path MTU.
#define LWIP_ND6_NUM_DESTINATIONS 64

// Memory is malloc's: found by sanitizers, and no pool that could run out.
#define MEM_LIBC_MALLOC 1
#define MEMP_MEM_MALLOC 1
#define MEM_ALIGNMENT 8
// Frames come in pieces of this size, as a driver's ring has them.
#define PBUF_POOL_BUFSIZE 2048

// The MSS is what fits the netif's MTU; this is only its upper bound: an MTU of 65,520
// less the headers of IPv4 and TCP.
#define TCP_MSS 65480
#define TCP_CALCULATE_EFF_SEND_MSS 1
#define TCP_SND_BUF (256 * 1024)
// Twice what a full buffer takes in segments of 536 bytes, two pbufs each.
#define TCP_SND_QUEUELEN 2048
#define LWIP_WND_SCALE 1
#define TCP_RCV_SCALE 3
// The receive buffer of every connection, chosen when the guest starts. The second
// term is 0 but for lwIP's checks by the preprocessor, which knows no variable.
#define TCP_WND (guest_lwip_receive_window + (guest_lwip_receive_window ? 0 : 65536))
// lwIP's default is in units of TCP_MSS, which is no real MSS here.
#define TCP_WND_UPDATE_THRESHOLD LWIP_MIN(TCP_WND / 4, (u32_t)pcb->mss * 4)
#define TCP_QUEUE_OOSEQ 1
#define LWIP_TCP_SACK_OUT 1
#define LWIP_TCP_TIMESTAMPS 0
// What this complains about are limits of the sockets' API.
#define LWIP_DISABLE_TCP_SANITY_CHECKS 1

// A source port may be used again towards another destination, as in a kernel.
#define SO_REUSE 1
// Tells when a PCB is freed; not every way to its end calls back otherwise.
#define LWIP_TCP_PCB_NUM_EXT_ARGS 1

// A patient guest: SYNs go out every 3 s, without backoff, so these are two minutes, as
// Linux tries; data and window probes are tried for almost two hours. (One number: the
// limit of data holds for SYNs, too. An enum, because lwIP refuses more than 12 for the
// sake of its backoff table, whose end it respects.)
#define TCP_SYNMAXRTX guest_lwip_retries
#define TCP_MAXRTX guest_lwip_retries
// TIME_WAIT takes two of these: a minute, as in Linux, and no time at all for a world
// that jumps (guest_lwip_next_ms). LAST_ACK ends with the retransmissions: lwIP would
// drop what was not yet sent two MSL after it heard the other side last.
#define TCP_MSL (pcb->state == LAST_ACK ? 24u * 3600 * 1000 : 30u * 1000)

// All checksums are made and verified (the default). What was wrong is counted.
#define LWIP_STATS 1
#define LWIP_STATS_LARGE 1
#define LWIP_STATS_DISPLAY 0

#endif  // PENSTOCK_TESTS_WORLD_GUEST_LWIP_LWIPOPTS_H_
