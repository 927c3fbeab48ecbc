/* How lwIP is compiled: a TCP engine for both families and nothing else.
 *
 * Link, IP, ICMP, ARP, neighbour discovery and every check of a guest's bytes are
 * the stack's own (stack/wire); lwIP sees TCP segments that were already parsed.
 * The values that carry a reason have it beside them. See stack/tcpip/README.md.
 */
#ifndef PENSTOCK_LWIPOPTS_H
#define PENSTOCK_LWIPOPTS_H

/* One engine is entered by one thread at a time; its few globals are thread-local
 * (third_party/lwip/thread_local.py) and loaded and stored by stack/tcpip. */
#define NO_SYS 1
#define SYS_LIGHTWEIGHT_PROT 0
#define LWIP_TIMERS 0
#define LWIP_SINGLE_NETIF 1

#define LWIP_IPV4 1
#define LWIP_IPV6 1
#define LWIP_IPV6_SCOPES 0
#define LWIP_TCP 1
#define LWIP_UDP 0
#define LWIP_RAW 0
#define LWIP_ICMP 0
#define LWIP_ICMP6 0
#define LWIP_ARP 0
#define LWIP_ETHERNET 0
#define LWIP_DHCP 0
#define LWIP_AUTOIP 0
#define LWIP_IGMP 0
#define LWIP_DNS 0
#define LWIP_SOCKET 0
#define LWIP_NETCONN 0
#define LWIP_STATS 0
#define LWIP_ND6_TCP_REACHABILITY_HINTS 0
#define IP_FRAG 0
#define IP_REASSEMBLY 0
#define LWIP_IPV6_FRAG 0
#define LWIP_IPV6_REASS 0

/* Static pools measured no faster, and at their limit lwIP silently kills other
 * connections. The stack's own limits bound what is allocated. */
#define MEM_LIBC_MALLOC 1
#define MEMP_MEM_MALLOC 1
#define MEM_ALIGNMENT 8
#define LWIP_SUPPORT_CUSTOM_PBUF 1
/* No pool pbuf is ever allocated; the default would be derived from TCP_MSS. */
#define PBUF_POOL_BUFSIZE 1536

/* Segments to the guest leave as super-segments of up to one pbuf (16-bit
 * lengths, headers included); what the guest negotiated goes into the
 * virtio-net header. */
#define TCP_MSS 65495
#define LWIP_WND_SCALE 1
#define TCP_RCV_SCALE 7           /* 65,535 << 7: room above TCP_WND */
#define TCP_WND (4 * 1024 * 1024) /* an upper bound; each flow's own is set per PCB */
#define TCP_SND_BUF (4 * 1024 * 1024)
#define TCP_SND_QUEUELEN 0xfff0
#define TCP_OVERSIZE 0
#define TCP_LISTEN_BACKLOG 0
#define TCP_CALCULATE_EFF_SEND_MSS 1
/* Complains about the netconn API's needs only. */
#define LWIP_DISABLE_TCP_SANITY_CHECKS 1

#define TCP_QUEUE_OOSEQ 1
#define TCP_OOSEQ_MAX_BYTES (1024 * 1024)
#define TCP_OOSEQ_MAX_PBUFS 256
#define LWIP_TCP_SACK_OUT 1
#define LWIP_TCP_MAX_SACK_NUM 3
#define LWIP_TCP_TIMESTAMPS 0

/* Slow tick 100 ms: the floor of the retransmission timeout and the first window
 * probe come after 300 ms instead of 1.5 s. */
#define TCP_TMR_INTERVAL 50
#define LWIP_TCP_RTO_TIME 1000
/* The stack's deadlines decide, not lwIP's counts: with few retries a paused
 * virtual machine would be reset. */
#define TCP_SYNMAXRTX 250
#define TCP_MAXRTX 250

/* Window updates are decided by stack/flow, never by lwIP. */
#define TCP_WND_UPDATE_THRESHOLD 0x7fffffffu

/* The parser verified what needed it; the link or the emitter completes. */
#define CHECKSUM_CHECK_TCP 0
#define CHECKSUM_GEN_TCP 0
#define CHECKSUM_CHECK_IP 0
#define CHECKSUM_GEN_IP 0

/* Initial sequence numbers: RFC 6528, keyed SipHash (engine.cc). */
#define LWIP_HOOK_FILENAME "penstock_hooks.h"

#endif
