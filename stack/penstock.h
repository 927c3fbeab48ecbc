/* penstock for whoever does not speak C++: one guest, one link, one poll loop.
 *
 *   struct penstock_config config = {.struct_size = sizeof config, .host_loopback = 1};
 *   penstock_link* link;
 *   penstock_stack* stack;
 *   if (penstock_link_from_descriptor(fd, NULL, &link) != PENSTOCK_OK ||
 *       penstock_create(&config, link, &stack) != PENSTOCK_OK) {
 *     fprintf(stderr, "%s\n", penstock_last_error());
 *   }
 *   while (!penstock_link_ended(stack)) {
 *     uint64_t deadline = penstock_poll(stack, penstock_now());
 *     struct pollfd wait = {.fd = penstock_descriptor(stack), .events = POLLIN};
 *     poll(&wait, 1, penstock_timeout(penstock_now(), deadline));
 *   }
 *   penstock_destroy(stack);
 *
 * Versions. A symbol, a constant or a field that is here stays, with its value and at its place,
 * as long as the library's name is libpenstock.so.0. A struct grows at its end only. Each
 * begins with `struct_size`, which the caller sets to what it was compiled with, and the library
 * touches no more than that. A field that the caller's header did not have is 0 for the library,
 * and 0 always means the default; one that the library does not know must be 0, else the call is
 * PENSTOCK_INVALID_ARGUMENT. (What is passed once for each frame has no size, and never grows.)
 *
 * Threads. A stack belongs to one thread at a time, but for penstock_wake (also signal handlers),
 * penstock_post, penstock_metric(s) and penstock_take_event (any one thread). Callbacks are called
 * on the thread that called in, by that call (one says where else), and must neither block nor
 * call into the same stack, but for penstock_wake and penstock_post; the task of penstock_post may
 * do anything but poll and destroy.
 *
 * Errors. Nothing is thrown. What fails returns an enum penstock_status, has done nothing, and
 * leaves a sentence in penstock_last_error. Where there is no memory in the middle of a pass, the
 * process ends with a sentence on stderr.
 *
 * Text is UTF-8 that ends with a 0. Whatever is passed in is read before the call returns.
 * Compiles as C11 and as C++; needs nothing but libc.
 */
#ifndef PENSTOCK_STACK_PENSTOCK_H_
#define PENSTOCK_STACK_PENSTOCK_H_

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The library exports these functions and nothing else. */
#ifdef PENSTOCK_SHARED_LIBRARY
#define PENSTOCK_API __attribute__((visibility("default")))
#else
#define PENSTOCK_API
#endif

#define PENSTOCK_VERSION_MAJOR 0
#define PENSTOCK_VERSION_MINOR 1
#define PENSTOCK_VERSION_PATCH 0
#define PENSTOCK_VERSION \
  (PENSTOCK_VERSION_MAJOR * 1000000 + PENSTOCK_VERSION_MINOR * 1000 + PENSTOCK_VERSION_PATCH)

/* PENSTOCK_VERSION of the library that runs. */
PENSTOCK_API uint32_t penstock_version(void);

enum penstock_status {
  PENSTOCK_OK = 0,
  PENSTOCK_INVALID_ARGUMENT = 1,  /* the sentence says what to write instead */
  PENSTOCK_NOT_FOUND = 2,         /* no such interface, address, port, device */
  PENSTOCK_ALREADY_EXISTS = 3,    /* an address in use */
  PENSTOCK_PERMISSION_DENIED = 4, /* the system refuses */
  PENSTOCK_EXHAUSTED = 5,         /* no descriptors, no memory */
  PENSTOCK_UNAVAILABLE = 6,       /* not now */
  PENSTOCK_INTERNAL = 7           /* anything else */
};

/* Why the last call that failed on this thread did; "" if none has. Valid until the next one. */
PENSTOCK_API const char* penstock_last_error(void);

/* ---- Time: nanoseconds of CLOCK_MONOTONIC. */

#define PENSTOCK_NEVER UINT64_MAX

PENSTOCK_API uint64_t penstock_now(void);
/* From `now` to `deadline` as poll(2) and epoll_wait(2) want it: milliseconds, rounded up; -1 for
 * PENSTOCK_NEVER. */
PENSTOCK_API int penstock_timeout(uint64_t now, uint64_t deadline);

/* ---- Links: how frames come from the guest and go to it. */

typedef struct penstock_link penstock_link;
typedef struct penstock_stack penstock_stack;

/* What a link can do. Without a bit: frames to guest have complete checksums and fit the MTU, and
 * so must those to host, whose checksums are verified. */
enum penstock_capability {
  PENSTOCK_PARTIAL_CHECKSUM_TO_GUEST = 1, /* checksums may be left to the guest */
  PENSTOCK_TCP4_GSO_TO_GUEST = 2,         /* TCP may leave in super-segments */
  PENSTOCK_TCP6_GSO_TO_GUEST = 4,
  PENSTOCK_UDP_GSO_TO_GUEST = 8,
  /* TCP above the MTU may come without a word, and with the checksum of its pseudo-header. */
  PENSTOCK_UNSEGMENTED_TCP_TO_HOST = 16,
  PENSTOCK_NO_ETHERNET = 32 /* frames begin with the IP header; callbacks only */
};

struct penstock_link_options {
  uint32_t struct_size;
  uint32_t mtu_max; /* the largest IP packet; 0: 65,521 (65,535 without Ethernet) */
  /* enum penstock_capability. A socket: UNSEGMENTED_TCP_TO_HOST, and both of TCP*_GSO_TO_GUEST or
   * none. A tap: 0, for its virtio-net header says it. Callbacks: any. */
  uint32_t capabilities;
  uint32_t reserved;
};

/* A link on a descriptor that was passed: a tap or tun (made with IFF_NO_PI), a connected stream
 * socket (each frame behind its length, 4 bytes, big-endian: QEMU's -netdev stream) or a connected
 * datagram or seqpacket socket (a frame in each: QEMU's -netdev dgram). It is owned from the call
 * on, also where that fails. `options` may be NULL. */
PENSTOCK_API enum penstock_status penstock_link_from_descriptor(
    int descriptor, const struct penstock_link_options* options, penstock_link** link);

enum penstock_checksum {
  PENSTOCK_CHECKSUM_UNKNOWN = 0,  /* nobody vouches for it: it is verified */
  PENSTOCK_CHECKSUM_COMPLETE = 1, /* the link vouches for it */
  PENSTOCK_CHECKSUM_PARTIAL = 2   /* the field holds the sum of the pseudo-header only */
};

enum penstock_gso {
  PENSTOCK_GSO_NONE = 0,
  PENSTOCK_GSO_TCP4 = 1,
  PENSTOCK_GSO_TCP6 = 2,
  PENSTOCK_GSO_UDP = 3
};

/* What was left undone in a frame; the meaning of virtio-net's header. What a guest says here is
 * checked, never followed. */
struct penstock_offload {
  uint8_t checksum;         /* enum penstock_checksum */
  uint8_t gso;              /* enum penstock_gso */
  uint16_t checksum_start;  /* partial: offset of the TCP or UDP header in the frame */
  uint16_t checksum_offset; /* partial: of the checksum's field in that header */
  uint16_t segment_bytes;   /* gso: payload bytes of each segment */
  uint16_t header_bytes;    /* gso: bytes of all headers */
  uint16_t reserved;
};

struct penstock_frame_to_host {
  uint8_t* room;                   /* lent for the call: the frame goes here */
  uint32_t room_bytes;             /* at least 65,600 */
  uint32_t length;                 /* to be set: 1 to room_bytes */
  struct penstock_offload offload; /* to be set; all 0 when the call begins */
};

struct penstock_frame_to_guest {
  const struct iovec* parts; /* lent for the call: one after the other they are the frame */
  uint32_t part_count;       /* at most 16 */
  uint32_t length;           /* of all parts */
  struct penstock_offload offload;
};

struct penstock_link_callbacks {
  uint32_t struct_size;
  /* Readable while `receive` has frames, and readable or writable when `send`, having taken fewer
   * than it was given, takes frames again. -1: there is none, and penstock_wake says so. It stays
   * the caller's and must live until `release`. */
  int descriptor;
  void* context; /* the first argument of each */
  /* Fills `frames` from the front and returns how many; fewer than `count`: no more wait. */
  size_t (*receive)(void* context, struct penstock_frame_to_host* frames, size_t count);
  /* Takes a number of frames from the front and returns it; fewer than `count`: it is full, and
   * the rest is offered again. */
  size_t (*send)(void* context, const struct penstock_frame_to_guest* frames, size_t count);
  /* Not 0 once the guest's end is gone for good. NULL: it never is. */
  int (*ended)(void* context);
  /* Called once, when the link is destroyed: nothing else is called after it. May be NULL. */
  void (*release)(void* context);
};

/* `options` may be NULL. Where the call fails, `release` is not called. */
PENSTOCK_API enum penstock_status penstock_link_from_callbacks(
    const struct penstock_link_callbacks* callbacks, const struct penstock_link_options* options,
    penstock_link** link);

/* Of a link that no stack has taken. NULL does nothing. */
PENSTOCK_API void penstock_link_destroy(penstock_link* link);

/* ---- A stack. */

/* What the guest hears of what a policy denies. */
enum penstock_denial {
  PENSTOCK_DENIAL_REJECT = 0, /* a refusal */
  PENSTOCK_DENIAL_SILENCE = 1,
  PENSTOCK_DENIAL_PAGE = 2 /* requests by HTTP: a page that says so; else a refusal */
};

/* From whom a UDP port of the guest's takes datagrams. */
enum penstock_udp_filtering {
  PENSTOCK_UDP_ADDRESS_AND_PORT = 0, /* whom it has sent to */
  PENSTOCK_UDP_ADDRESS = 1,          /* any port of an address that it has sent to */
  PENSTOCK_UDP_NONE = 2              /* everybody */
};

struct penstock_endpoint {
  uint8_t address[16]; /* network order; IPv4: the first four */
  uint16_t port;       /* host order */
  uint8_t family;      /* 4 or 6; 0: there is none */
  uint8_t reserved;
};

/* Somebody who asks for a published port. */
struct penstock_client {
  uint32_t struct_size;
  uint8_t protocol; /* enum penstock_protocol */
  uint8_t reserved;
  uint16_t guest_port;
  struct penstock_endpoint client;
  struct penstock_endpoint host; /* that the client came to */
};

/* All 0 but the size: the guest is 10.0.2.15/24 and fd00::15/64, the gateway .2 and ::2, name
 * servers .3 and ::3; DHCP and router advertisements tell it so. stack/config.h has the reasons
 * of the defaults. */
struct penstock_config {
  uint32_t struct_size;
  uint32_t mtu; /* bytes of an IP packet: 1280 (576 without IPv6) to the link's; 0: 1500 */

  /* 1: yes. */
  uint8_t ipv4_off;
  uint8_t ipv6_off;
  uint8_t host_loopback; /* the gateway's address reaches the host's loopback */
  uint8_t dhcp_off;
  uint8_t router_advertisements_off;
  uint8_t dns_off;
  uint8_t host_routes_off; /* both families are taken to have routes */
  uint8_t denial;          /* enum penstock_denial */
  uint8_t udp_filtering;   /* enum penstock_udp_filtering */
  uint8_t dns_intercept;   /* questions to port 53 of whatever address are answered here */
  /* Names may lead to private addresses, also where the policy denies those. */
  uint8_t dns_rebinding_protection_off;
  uint8_t reserved[5];

  /* Addresses; NULL: as above. */
  const char* ipv4_gateway;
  const char* ipv4_dns;
  const char* ipv4_guest;
  const char* ipv6_gateway;
  const char* ipv6_dns;
  const char* ipv6_guest;
  uint8_t ipv4_prefix_length;
  uint8_t ipv6_prefix_length;
  uint8_t gateway_mac[6]; /* 0: 52:55:0a:00:02:02 */
  uint8_t guest_mac[6];   /* 0: learned from the first valid frame */
  uint16_t reserved_too;

  const char* search_domains;  /* with spaces between; NULL: none */
  const char* guest_host_name; /* NULL: the guest keeps what it has */
  /* Addresses with spaces between, in the order in which they are asked; NULL: those of
   * `resolv_conf`. "corp.example=192.0.2.53" is asked for names in and below that domain. */
  const char* name_servers;

  /* As penstock_set_policy takes them. */
  const char* platform_policy;
  const char* tenant_policy;

  uint32_t event_count_max;       /* that wait for penstock_take_event, 600 bytes each; 0: none */
  uint32_t relay_threads;         /* 1 to 64; 0: 1 */
  uint32_t flow_count_max;        /* 0: 16,384; both, and what the descriptor limit leaves of it */
  uint32_t udp_mapping_count_max; /* 0: 4,096 */
  uint64_t buffer_bytes_max;      /* that all flows may hold, for each direction; 0: 256 MiB */

  /* Nanoseconds; 0: the default. */
  uint64_t dial_timeout;         /* 30 s */
  uint64_t inbound_dial_timeout; /* 10 s */
  uint64_t silent_timeout;       /* 15 min */
  uint64_t stall_timeout;        /* 30 min */

  /* A sentence for whoever operates the host, each at most once. NULL: nobody hears. */
  void (*warn)(void* warn_context, const char* sentence);
  void* warn_context;

  /* Words with spaces between; NULL: none. */
  const char* dns_hosts;      /* names that are answered here: "db.test=10.1.2.3,fd99::3" */
  const char* dns_zones;      /* domains that have no other names than those of dns_hosts */
  const char* guest_prefixes; /* networks that the guest routes for: "172.20.0.0/16 fd20::/64" */

  const char* resolv_conf;  /* followed as it changes; NULL: /etc/resolv.conf */
  const char* dhcp_pool;    /* "10.0.2.15-10.0.2.99"; NULL: from ipv4_guest to the prefix's end */
  uint64_t dhcp_lease_time; /* nanoseconds; 0: a day */

  /* Nanoseconds; 0: the default. */
  uint64_t handshake_timeout;    /* 30 s */
  uint64_t keepalive_idle;       /* 2 h */
  uint64_t keepalive_interval;   /* 75 s */
  uint64_t time_wait;            /* 60 s */
  uint64_t udp_timeout;          /* 120 s after the guest's last datagram, without an answer */
  uint64_t udp_answered_timeout; /* 300 s after the last one either way */
  uint64_t udp_name_timeout;     /* 30 s, of port 53 */
  uint64_t udp_peer_timeout;     /* 120 s, of a client of a published port */
  uint64_t echo_timeout;         /* 120 s */
  uint64_t dns_timeout;          /* 2 s, until another name server is asked */
  uint64_t dns_dead_time;        /* 30 s, for which that one is asked last */

  /* 0: the default. */
  uint32_t keepalive_probes;              /* 9; 127 at most */
  uint32_t half_open_count_max;           /* of flows: 1,024, or flow_count_max if that is less */
  uint32_t half_open_per_destination_max; /* 256, or half_open_count_max if that is less */
  uint32_t udp_peer_count_max;            /* clients of one published port: 16,384 */
  uint32_t echo_count_max;                /* identifiers of echo requests: 64 */
  uint32_t dns_outstanding_max;           /* questions that wait for a name server: 1,024 */

  /* Asked for each new client of a published port, before the policy: 0, and a TCP client is
   * reset, a UDP datagram dropped. Called on relay threads (TCP) and the polling one (UDP),
   * several at once; must not block. NULL: everybody may. */
  int (*admit)(void* admit_context, const struct penstock_client* client);
  void* admit_context;
};

/* Validates, opens descriptors, starts relay threads. `link` is the stack's from the call on, and
 * is destroyed where it fails. */
PENSTOCK_API enum penstock_status penstock_create(const struct penstock_config* config,
                                                  penstock_link* link, penstock_stack** stack);
/* Resets live flows without a word to the guest, joins relay threads, closes every descriptor,
 * destroys the link. NULL does nothing. */
PENSTOCK_API void penstock_destroy(penstock_stack* stack);

/* One pass: a bounded amount of work, without waiting. `now` is of penstock_now, and must not go
 * back. Returns when to call again at the latest: `now` itself if the pass stopped at its budget,
 * PENSTOCK_NEVER if nothing is due. */
PENSTOCK_API uint64_t penstock_poll(penstock_stack* stack, uint64_t now);
/* Readable (level-triggered) whenever penstock_poll has work. The stack's: do not close it. */
PENSTOCK_API int penstock_descriptor(const penstock_stack* stack);
/* Makes the descriptor readable. */
PENSTOCK_API void penstock_wake(penstock_stack* stack);
/* Runs `task` at the start of the next pass, on its thread. One that waits when the stack is
 * destroyed is never run. */
PENSTOCK_API enum penstock_status penstock_post(penstock_stack* stack,
                                                void (*task)(penstock_stack* stack, void* context),
                                                void* context);
/* 1 once the guest's end of the link is gone for good; penstock_poll has returned `now` then. */
PENSTOCK_API int penstock_link_ended(const penstock_stack* stack);

/* ---- Who speaks to whom, as ports, flows, policies and events tell it. */

enum penstock_protocol {
  PENSTOCK_TCP = 0,
  PENSTOCK_UDP = 1,
  PENSTOCK_ICMP = 2 /* not of published ports */
};

enum penstock_direction {
  PENSTOCK_EGRESS = 0, /* opened by the guest */
  PENSTOCK_INGRESS = 1 /* by a client of the host's */
};

/* "10.0.2.15:80", "[fd00::15]:80"; without a port where that is 0; "" of family 0. Returns `text`,
 * cut to `text_bytes`; 56 are enough. */
PENSTOCK_API const char* penstock_endpoint_text(const struct penstock_endpoint* endpoint,
                                                char* text, size_t text_bytes);

/* ---- Policy: what the guest may reach and who may reach it. */

enum penstock_layer {
  PENSTOCK_LAYER_NONE = 0,
  PENSTOCK_LAYER_LINK = 1,     /* of events: a source that is not the guest's */
  PENSTOCK_LAYER_ADDRESS = 2,  /* of events: an address that never leaves the link */
  PENSTOCK_LAYER_PLATFORM = 3, /* the policy of whoever runs the platform */
  PENSTOCK_LAYER_TENANT = 4    /* that of whoever runs the sandbox; both must allow */
};

/* What becomes of live flows that would be refused from now on. */
enum penstock_live_flows { PENSTOCK_FLOWS_KEEP = 0, PENSTOCK_FLOWS_RESET = 1 };

/* Replaces the policy of a `layer`, PLATFORM or TENANT, whole; `live` is of enum
 * penstock_live_flows. `text` has a rule
 * on each line (stack/policy/README.md; `penstock policy check --help`), or is the name of a
 * profile: "public", "none", "all". NULL: the layer allows what is not shut unless named (the
 * host's loopback, cloud metadata). An error tells line and column. */
PENSTOCK_API enum penstock_status penstock_set_policy(penstock_stack* stack, uint32_t layer,
                                                      const char* text, uint32_t live);

/* May this be? */
struct penstock_question {
  uint32_t struct_size;
  uint8_t direction; /* enum penstock_direction */
  uint8_t protocol;  /* enum penstock_protocol */
  uint8_t reserved[2];
  /* Egress: whom the guest would speak to. Ingress: the client's address, with the guest's port.
   * ICMP has no port: 0. */
  struct penstock_endpoint peer;
  uint32_t reserved_too;
  const char* name; /* that the first bytes show; NULL: nobody has looked at them yet */
};

enum penstock_verdict {
  PENSTOCK_VERDICT_ALLOW = 0,
  PENSTOCK_VERDICT_DENY = 1,
  PENSTOCK_VERDICT_LOOK = 2 /* it may connect, and the name in its first bytes decides */
};

struct penstock_answer {
  uint32_t struct_size;
  uint8_t verdict; /* enum penstock_verdict */
  uint8_t reserved[3];
  uint32_t rule_line; /* as in events; 0: a default decides, or nothing is said */
  uint32_t reserved_too;
  /* Valid until the next penstock_explain on this stack. */
  const char* rule; /* "" where rule_line is 0 */
  const char* text; /* which rule decides, and why that one: lines for humans */
};

/* What the policies say to `question` now. Nothing is counted or told for it. */
PENSTOCK_API enum penstock_status penstock_explain(penstock_stack* stack,
                                                   const struct penstock_question* question,
                                                   struct penstock_answer* answer);

/* ---- Published ports: host ports that lead into the guest. */

/* Whom the guest sees as the client. */
enum penstock_identity {
  PENSTOCK_IDENTITY_GATEWAY = 0,
  PENSTOCK_IDENTITY_PRESERVE_SOURCE = 1, /* the client, where the guest can answer it */
  PENSTOCK_IDENTITY_PROXY_PROTOCOL = 2   /* the gateway, and a PROXY protocol v2 header */
};

/* One bound socket. A range, or an address of both families, makes several. */
struct penstock_port {
  uint32_t struct_size;
  uint32_t id;      /* never used again while the stack lives */
  uint8_t protocol; /* enum penstock_protocol */
  uint8_t identity; /* enum penstock_identity */
  uint8_t reserved[6];
  struct penstock_endpoint bound; /* with the port that the system chose, if it was asked to */
  struct penstock_endpoint guest;
  uint64_t flows_live;
  uint64_t flows_total;
  uint64_t bytes_to_guest; /* payload */
  uint64_t bytes_to_host;
};

/* Listens on the host for what `spec` says, with an enum penstock_identity: "8080:80",
 * "0.0.0.0:8080:80/tcp", "[::1]:0:443", "eth0:5353:53/udp" (publisher/port_spec.h; port 0: the
 * system chooses). All or nothing. `first` becomes the port with the lowest id, the others follow
 * it in penstock_next_port; may be NULL. */
PENSTOCK_API enum penstock_status penstock_publish(penstock_stack* stack, const char* spec,
                                                   uint32_t identity, struct penstock_port* first);
/* Stops listening on all that `selector` means, at once: "8080", "127.0.0.1:8080:80/tcp"
 * (publisher/port_selector.h). PENSTOCK_NOT_FOUND if nothing is. */
PENSTOCK_API enum penstock_status penstock_unpublish(penstock_stack* stack, const char* selector,
                                                     uint32_t live);
/* Fills `port` with the published one whose id is the next above port->id, and returns 1; 0: there
 * is none. So a list begins with the id 0. */
PENSTOCK_API int penstock_next_port(const penstock_stack* stack, struct penstock_port* port);

/* ---- Flows: who speaks to whom now. */

struct penstock_flow {
  uint32_t struct_size;
  uint32_t next;     /* 0 begins a list; the library counts */
  uint8_t direction; /* enum penstock_direction */
  uint8_t protocol;  /* enum penstock_protocol */
  uint8_t reserved[6];
  struct penstock_endpoint guest; /* of ICMP the port is the identifier of its echo requests */
  struct penstock_endpoint peer;  /* whom the guest speaks to; ingress: the host's client */
  uint64_t bytes_to_host;         /* payload */
  uint64_t bytes_to_guest;
  uint64_t age; /* nanoseconds; of one that has ended: how long it lived */
  /* "" where there is none. Valid until the list ends, or another begins. */
  const char* name;  /* of `peer`, that the first bytes showed */
  const char* state; /* "dialing", "established", "answered"; stack/stack.h has all */
  const char* end;   /* of one that has ended: "reset by guest" */
};

/* Fills `flow` with the next row of a list, and returns 1; 0: that was all of it. The list is of
 * the moment when it began, and one at a time: live connections, conversations of UDP and ICMP,
 * then the connections that ended last (at most 64), newest first. */
PENSTOCK_API int penstock_next_flow(penstock_stack* stack, struct penstock_flow* flow);

/* ---- Events: what happened. */

enum penstock_event_kind {
  PENSTOCK_EVENT_FLOW_OPENED = 0,
  PENSTOCK_EVENT_FLOW_CLOSED = 1, /* with its bytes, age and reason */
  PENSTOCK_EVENT_DENIED = 2,      /* by `layer`, and by `rule` if one says so */
  PENSTOCK_EVENT_NAME = 3,        /* a question to DNS was answered */
  PENSTOCK_EVENT_LEASE = 4,       /* `guest` was leased by DHCP, or given back */
  PENSTOCK_EVENT_PUBLISHED = 5,   /* `peer` is where it is bound, `guest` where it leads */
  PENSTOCK_EVENT_UNPUBLISHED = 6,
  PENSTOCK_EVENT_POLICY_REPLACED = 7 /* of `layer` */
};

struct penstock_event {
  uint32_t struct_size;
  uint8_t kind;      /* enum penstock_event_kind; more may come: pass over what is not known */
  uint8_t direction; /* enum penstock_direction */
  uint8_t protocol;  /* enum penstock_protocol */
  uint8_t layer;     /* enum penstock_layer */
  uint64_t time;     /* of the pass */
  uint64_t flow;     /* the same in a flow's OPENED and CLOSED; 0: none */
  struct penstock_endpoint guest;
  struct penstock_endpoint peer; /* whom the guest speaks to; ingress: the host's client */
  uint64_t bytes_to_host;        /* payload */
  uint64_t bytes_to_guest;
  uint64_t age; /* nanoseconds */
  /* "" where there is none. Valid until the next penstock_take_event on this stack. */
  const char* name; /* by which `peer` was asked for, or shown */
  const char* reason;
  const char* rule;   /* as it was written */
  uint32_t rule_line; /* in its text, from 1; 0: none */
  uint32_t reserved;
};

/* The oldest event: 1, and `event` is filled; 0: none waits. */
PENSTOCK_API int penstock_take_event(penstock_stack* stack, struct penstock_event* event);
/* "flow-opened", as in `penstock events`; "" if it is not known. */
PENSTOCK_API const char* penstock_event_kind_name(uint8_t kind);

/* ---- Metrics, by stable name: those of `penstock run --stats-file`, "frames_to_host" or
 * "drop_tcp_checksum". */

/* The name of the metric with this index, from 0; NULL behind the last. In static storage. */
PENSTOCK_API const char* penstock_metric_name(size_t index);
/* PENSTOCK_NOT_FOUND if there is none of that name. */
PENSTOCK_API enum penstock_status penstock_metric(const penstock_stack* stack, const char* name,
                                                  uint64_t* value);
/* All of them at one moment, in the order of their indexes; no more than `count`. Returns how many
 * there are. */
PENSTOCK_API size_t penstock_metrics(const penstock_stack* stack, uint64_t* values, size_t count);

#ifdef __cplusplus
}
#endif

#endif  // PENSTOCK_STACK_PENSTOCK_H_
