// The guest's lwIP behind guest_lwip.h: one netif, virtual time, and for each connection
// a record of what lwIP said. Callbacks only record; see README.md for what lwIP does
// that one would not expect.
#include "tests/world/guest_lwip/guest_lwip.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lwip/etharp.h"
#include "lwip/ethip6.h"
#include "lwip/init.h"
#include "lwip/nd6.h"
#include "lwip/netif.h"
#include "lwip/priv/nd6_priv.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/stats.h"
#include "lwip/tcp.h"
#include "lwip/timeouts.h"
#include "netif/ethernet.h"

enum { kNanosecondsPerMillisecond = 1000 * 1000, kIsnTickNanoseconds = 4000 };
// The link-local address is number 0.
enum { kGlobalAddress = 1 };

uint32_t guest_lwip_receive_window;

static struct guest_lwip_options options;
static struct netif the_netif;
static ip_addr_t address4, address6, gateway6;
static uint64_t clock_ns, clock_ms;
static uint64_t random_state, isn_key;
static uint64_t oversized_frames;
static u8_t owner_argument;  // the PCB's ext_arg that tells when it is freed
static int in_timers;        // sys_check_timeouts is on the call stack
static int aborting;         // guest_lwip_abort is

// ---------------------------------------------------------------- What lwIP asks

void guest_lwip_assert_failed(const char* message, int line, const char* file) {
  fprintf(stderr, "the guest's lwIP: %s (%s:%d)\n", message, file, line);
  abort();
}

u32_t sys_now(void) { return (u32_t)clock_ms; }

// splitmix64 (Steele, Lea and Flood, 2014).
static uint64_t Mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

static uint64_t NextRandom(void) { return Mix(random_state += 0x9e3779b97f4a7c15u); }

uint32_t guest_lwip_random(void) { return (uint32_t)NextRandom(); }

static uint64_t MixAddress(uint64_t hash, const ip_addr_t* address) {
  if (IP_IS_V4(address)) return Mix(hash + ip4_addr_get_u32(ip_2_ip4(address)));
  for (int i = 0; i < 4; ++i) hash = Mix(hash + ip_2_ip6(address)->addr[i]);
  return hash;
}

uint32_t guest_lwip_isn(const ip_addr_t* source, uint16_t source_port, const ip_addr_t* destination,
                        uint16_t destination_port) {
  const uint64_t hash = MixAddress(MixAddress(isn_key, source), destination);
  const uint64_t ports = (uint64_t)source_port << 16 | destination_port;
  return (uint32_t)(clock_ns / kIsnTickNanoseconds + Mix(hash + ports));
}

const ip6_addr_t* guest_lwip_gateway6(void) { return ip_2_ip6(&gateway6); }

// --------------------------------------------------------------------- The netif

static void ToLwip(const struct guest_lwip_address* from, ip_addr_t* to) {
  memset(to, 0, sizeof(*to));
  IP_SET_TYPE(to, from->is_v6 ? IPADDR_TYPE_V6 : IPADDR_TYPE_V4);
  if (from->is_v6) {
    memcpy(ip_2_ip6(to)->addr, from->bytes, 16);
  } else {
    memcpy(&ip_2_ip4(to)->addr, from->bytes, 4);
  }
}

static err_t Transmit(struct netif* netif, struct pbuf* frame) {
  static uint8_t joined[UINT16_MAX];
  (void)netif;
  if (!options.send) return ERR_OK;
  if (frame->next == NULL) {
    options.send(options.context, frame->payload, frame->len);
  } else {
    pbuf_copy_partial(frame, joined, frame->tot_len, 0);
    options.send(options.context, joined, frame->tot_len);
  }
  return ERR_OK;
}

static err_t InitNetif(struct netif* netif) {
  netif->name[0] = 'g';
  netif->name[1] = 't';
  netif->output = etharp_output;
  netif->output_ip6 = ethip6_output;
  netif->linkoutput = Transmit;
  netif->mtu = options.mtu;
  netif->hwaddr_len = ETH_HWADDR_LEN;
  memcpy(netif->hwaddr, options.mac, ETH_HWADDR_LEN);
  netif->flags =
      NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_LINK_UP;
  return ERR_OK;
}

static void AddNetif(void) {
  ip4_addr_t address = {0}, mask = {0}, gateway = {0};
  if (options.use_ipv4) {
    ip_addr_t gateway4;
    ToLwip(&options.ipv4, &address4);
    ToLwip(&options.gateway4, &gateway4);
    address = *ip_2_ip4(&address4);
    gateway = *ip_2_ip4(&gateway4);
    mask.addr = options.prefix4 == 0 ? 0 : lwip_htonl(UINT32_MAX << (32 - options.prefix4));
  }
  netif_add(&the_netif, &address, &mask, &gateway, NULL, InitNetif, ethernet_input);
  netif_set_default(&the_netif);
  if (options.use_ipv6) {
    ToLwip(&options.ipv6, &address6);
    ToLwip(&options.gateway6, &gateway6);
    netif_create_ip6_linklocal_address(&the_netif, 1);
    netif_ip6_addr_set(&the_netif, kGlobalAddress, ip_2_ip6(&address6));
    netif_ip6_addr_set_state(&the_netif, kGlobalAddress, IP6_ADDR_PREFERRED);
  }
  netif_set_up(&the_netif);
}

void guest_lwip_start(const struct guest_lwip_options* chosen) {
  options = *chosen;
  guest_lwip_receive_window = options.receive_window;
  random_state = options.seed;
  isn_key = NextRandom();
  lwip_init();
  owner_argument = tcp_ext_arg_alloc_id();
  AddNetif();
}

void guest_lwip_stop(void) { options.send = NULL; }

int guest_lwip_input(const uint8_t* frame, size_t length) {
  if (length > (size_t)options.mtu + SIZEOF_ETH_HDR) {
    ++oversized_frames;
    return 0;
  }
  struct pbuf* copy = pbuf_alloc(PBUF_RAW, (u16_t)length, PBUF_POOL);
  if (copy == NULL || pbuf_take(copy, frame, (u16_t)length) != ERR_OK) abort();
  if (the_netif.input(copy, &the_netif) != ERR_OK) pbuf_free(copy);
  // An ACK that is too old to tell the window may acknowledge what a probe was to follow; the next
  // tick would find nothing to send, and assert that there is.
  for (struct tcp_pcb* pcb = tcp_active_pcbs; pcb != NULL; pcb = pcb->next) {
    if (pcb->unsent == NULL) pcb->persist_backoff = pcb->persist_probe = 0;
  }
  return 1;
}

uint64_t guest_lwip_malformed(void) {
  const struct stats_proto* const layers[] = {
      &lwip_stats.etharp, &lwip_stats.ip,  &lwip_stats.icmp, &lwip_stats.ip6,
      &lwip_stats.icmp6,  &lwip_stats.nd6, &lwip_stats.tcp,  &lwip_stats.link};
  uint64_t sum = oversized_frames;
  for (size_t i = 0; i < sizeof(layers) / sizeof(layers[0]); ++i) {
    sum += layers[i]->chkerr + layers[i]->lenerr;
  }
  return sum;
}

// ------------------------------------------------------------------------- Time

void guest_lwip_advance(uint64_t now_nanoseconds) {
  const uint64_t now_ms = now_nanoseconds / kNanosecondsPerMillisecond;
  for (;;) {
    const u32_t sleep = sys_timeouts_sleeptime();
    if (sleep == SYS_TIMEOUTS_SLEEPTIME_INFINITE || clock_ms + sleep > now_ms) break;
    clock_ms += sleep;
    clock_ns = clock_ms * kNanosecondsPerMillisecond;
    in_timers = 1;
    sys_check_timeouts();
    in_timers = 0;
  }
  clock_ms = now_ms;
  clock_ns = now_nanoseconds;
}

// True if a tick may send something or end the connection for all to see.
static int WaitsForTick(const struct tcp_pcb* pcb) {
  return pcb->unsent != NULL || pcb->unacked != NULL || pcb->ooseq != NULL ||
         pcb->refused_data != NULL ||
         (pcb->flags & (TF_ACK_DELAY | TF_ACK_NOW | TF_CLOSEPEND | TF_NAGLEMEMERR)) != 0;
}

static int NeighbourIsSought(void) {
  for (int i = 0; i < LWIP_ND6_NUM_NEIGHBORS; ++i) {
    const u8_t state = neighbor_cache[i].state;
    if (state == ND6_INCOMPLETE || state == ND6_DELAY || state == ND6_PROBE) return 1;
  }
  return 0;
}

uint64_t guest_lwip_next_ms(void) {
  int waits = NeighbourIsSought();
  for (const struct tcp_pcb* pcb = tcp_active_pcbs; pcb != NULL && !waits; pcb = pcb->next) {
    waits = WaitsForTick(pcb);
  }
  const u32_t sleep = sys_timeouts_sleeptime();
  return !waits || sleep == SYS_TIMEOUTS_SLEEPTIME_INFINITE ? UINT64_MAX : clock_ms + sleep;
}

// ------------------------------------------------------------------- Connections

static int ErrnoOf(err_t error) {
  switch (error) {
    case ERR_OK:
      return 0;
    case ERR_RTE:
      return EHOSTUNREACH;
    case ERR_USE:
      return EADDRINUSE;
    case ERR_BUF:
      return EADDRNOTAVAIL;
    case ERR_MEM:
      return ENOMEM;
    default:
      return EINVAL;
  }
}

// FIN, once there is a connection that it can end.
static void QueueFin(struct guest_lwip_connection* connection) {
  if (!connection->write_shut || connection->fin_queued || !connection->connected) return;
  if (connection->pcb == NULL) return;
  connection->fin_queued = 1;
  tcp_shutdown(connection->pcb, 0, 1);
}

static err_t OnConnected(void* owner, struct tcp_pcb* pcb, err_t error) {
  struct guest_lwip_connection* connection = owner;
  (void)error;
  connection->connected = 1;
  // lwIP would end the SYN's round trip with the next ACK, which may come after hours of
  // idleness, and wait that long before it sends anything again.
  pcb->rttest = 0;
  // Nor would it forget how often the SYN was sent again, and give the first segment up.
  pcb->nrtx = 0;
  QueueFin(connection);
  return ERR_OK;
}

static err_t OnReceived(void* owner, struct tcp_pcb* pcb, struct pbuf* bytes, err_t error) {
  struct guest_lwip_connection* connection = owner;
  (void)pcb;
  (void)error;
  if (bytes == NULL) {
    connection->peer_finished = 1;
    return ERR_OK;
  }
  for (const struct pbuf* part = bytes; part != NULL; part = part->next) {
    connection->received(connection->context, part->payload, part->len);
  }
  pbuf_free(bytes);
  return ERR_OK;
}

// The PCB is gone, or goes when this returns.
static void OnError(void* owner, err_t error) {
  struct guest_lwip_connection* connection = owner;
  if (error == ERR_RST) {
    connection->error = connection->connected ? ECONNRESET : ECONNREFUSED;
  } else if (error == ERR_ABRT && aborting) {
    connection->error = ECONNABORTED;
  } else if (error == ERR_ABRT && !in_timers) {
    connection->error = ECONNABORTED;  // data came after guest_lwip_close
  } else if (error == ERR_ABRT && !connection->in_fin_wait) {
    connection->error = ETIMEDOUT;
  }
}

static void OnFreed(u8_t argument, void* owner) {
  struct guest_lwip_connection* connection = owner;
  (void)argument;
  if (connection == NULL || connection->pcb == NULL) return;
  connection->in_fin_wait = ((const struct tcp_pcb*)connection->pcb)->state == FIN_WAIT_2;
  connection->pcb = NULL;
}

static const struct tcp_ext_arg_callbacks kOwnerCallbacks = {.destroy = OnFreed};

static void Own(struct guest_lwip_connection* connection, struct tcp_pcb* pcb) {
  connection->pcb = pcb;
  tcp_arg(pcb, connection);
  tcp_recv(pcb, OnReceived);
  tcp_err(pcb, OnError);
  tcp_ext_arg_set_callbacks(pcb, owner_argument, &kOwnerCallbacks);
  tcp_ext_arg_set(pcb, owner_argument, connection);
}

static err_t OnAccept(void* owner, struct tcp_pcb* pcb, err_t error) {
  struct guest_lwip_listener* listener = owner;
  if (error != ERR_OK || pcb == NULL) return ERR_OK;
  struct guest_lwip_connection* connection = listener->accept(listener->context);
  Own(connection, pcb);
  connection->source_port = pcb->local_port;
  connection->peer_port = pcb->remote_port;
  connection->peer.is_v6 = IP_IS_V6(&pcb->remote_ip) ? 1 : 0;
  if (connection->peer.is_v6) {
    memcpy(connection->peer.bytes, ip_2_ip6(&pcb->remote_ip)->addr, 16);
  } else {
    memcpy(connection->peer.bytes, &ip_2_ip4(&pcb->remote_ip)->addr, 4);
  }
  return OnConnected(connection, pcb, ERR_OK);
}

int guest_lwip_listen(struct guest_lwip_listener* listener, uint16_t port) {
  struct tcp_pcb* pcb = tcp_new_ip_type(IPADDR_TYPE_ANY);
  if (pcb == NULL) return ENOMEM;
  const err_t error = tcp_bind(pcb, IP_ANY_TYPE, port);
  struct tcp_pcb* listening = error == ERR_OK ? tcp_listen(pcb) : NULL;
  if (listening == NULL) {
    tcp_close(pcb);
    return error == ERR_OK ? ENOMEM : ErrnoOf(error);
  }
  tcp_arg(listening, listener);
  tcp_accept(listening, OnAccept);
  return 0;
}

int guest_lwip_connect(struct guest_lwip_connection* connection,
                       const struct guest_lwip_address* destination, uint16_t port,
                       uint16_t source_port) {
  if (!(destination->is_v6 ? options.use_ipv6 : options.use_ipv4)) return EHOSTUNREACH;
  struct tcp_pcb* pcb = tcp_new_ip_type(destination->is_v6 ? IPADDR_TYPE_V6 : IPADDR_TYPE_V4);
  if (pcb == NULL) return ENOMEM;
  Own(connection, pcb);
  ip_set_option(pcb, SOF_REUSEADDR);
  ip_addr_t to;
  ToLwip(destination, &to);
  err_t error = tcp_bind(pcb, destination->is_v6 ? &address6 : &address4, source_port);
  if (error == ERR_OK) error = tcp_connect(pcb, &to, port, OnConnected);
  if (error == ERR_OK) {
    connection->source_port = pcb->local_port;
  } else {
    tcp_close(pcb);
  }
  return ErrnoOf(error);
}

size_t guest_lwip_write_room(const struct guest_lwip_connection* connection) {
  const struct tcp_pcb* pcb = connection->pcb;
  if (pcb == NULL || !connection->connected || connection->write_shut) return 0;
  return pcb->snd_buf;
}

size_t guest_lwip_write(struct guest_lwip_connection* connection, const uint8_t* bytes,
                        size_t length) {
  struct tcp_pcb* pcb = connection->pcb;
  length = LWIP_MIN(length, guest_lwip_write_room(connection));
  if (length == 0) return 0;
  size_t written = 0;
  size_t step_max = UINT16_MAX;
  while (written < length && pcb->snd_buf > 0) {
    const size_t step =
        LWIP_MIN(LWIP_MIN(length - written, step_max), LWIP_MIN(pcb->snd_buf, UINT16_MAX));
    const err_t error = tcp_write(pcb, bytes + written, (u16_t)step, TCP_WRITE_FLAG_COPY);
    if (error == ERR_OK) {
      written += step;
    } else if (error == ERR_MEM && step > pcb->mss) {
      step_max = pcb->mss;  // the queue is nearly full: all at once or nothing
    } else {
      break;
    }
  }
  if (written > 0) tcp_output(pcb);
  return written;
}

void guest_lwip_consumed(struct guest_lwip_connection* connection, size_t length) {
  while (length > 0 && !connection->closed_by_us && !guest_lwip_is_closed(connection)) {
    const u16_t step = (u16_t)LWIP_MIN(length, UINT16_MAX);
    tcp_recved(connection->pcb, step);
    length -= step;
  }
}

size_t guest_lwip_unacknowledged(const struct guest_lwip_connection* connection) {
  const struct tcp_pcb* pcb = connection->pcb;
  return pcb == NULL ? 0 : TCP_SND_BUF - pcb->snd_buf;
}

int guest_lwip_is_closed(const struct guest_lwip_connection* connection) {
  const struct tcp_pcb* pcb = connection->pcb;
  return pcb == NULL || pcb->state == TIME_WAIT;
}

void guest_lwip_shutdown_write(struct guest_lwip_connection* connection) {
  connection->write_shut = 1;
  QueueFin(connection);
}

void guest_lwip_close(struct guest_lwip_connection* connection) {
  connection->write_shut = 1;
  if (connection->closed_by_us) return;
  connection->closed_by_us = 1;
  if (!guest_lwip_is_closed(connection)) tcp_close(connection->pcb);
}

void guest_lwip_abort(struct guest_lwip_connection* connection) {
  connection->write_shut = 1;
  connection->closed_by_us = 1;
  if (connection->pcb == NULL) return;
  aborting = 1;
  tcp_abort(connection->pcb);
  aborting = 0;
}

void guest_lwip_detach(struct guest_lwip_connection* connection) {
  struct tcp_pcb* pcb = connection->pcb;
  if (pcb == NULL) return;
  tcp_ext_arg_set(pcb, owner_argument, NULL);
  tcp_arg(pcb, NULL);
  tcp_recv(pcb, NULL);
  tcp_err(pcb, NULL);
  connection->pcb = NULL;
}
