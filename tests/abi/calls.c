/* Calls of the C ABI as an embedder makes them, right and wrong: on a link of callbacks whose guest
 * is this program. Ends with 0, or with the line of what was not as it should be. */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stack/penstock.h"
#include "tests/abi/expect.h"

/* An ARP request from 10.0.2.15 (RFC 826): who has 10.0.2.2? */
static const unsigned char kWhoHasTheGateway[42] = {
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0,  0, 0, 0,  0x15, 0x08, 0x06, 0, 1, 8, 0,  6, 4, 0,
    1,    0x02, 0,    0,    0,    0,    0x15, 10, 0, 2, 15, 0,    0,    0,    0, 0, 0, 10, 0, 2, 2};
enum { kSenderMacAt = 22, kUdpDataAt = 42, kTimeoutMs = 20000 };

/* The guest's end of the link. */
struct guest {
  int to_send;   /* frames that wait */
  size_t length; /* that it says they have */
  int full;      /* takes no frame */
  int answers;   /* of the gateway that came */
  int gone;
  int released;
  unsigned char datagram[128]; /* sent once, if it has a length; and what UDP came to it */
  size_t datagram_bytes;
  unsigned char received[128];
  size_t received_bytes;
};

/* A datagram from 10.0.2.15:4000 to 10.0.2.`host` (RFC 768; no checksum). */
static void MakeDatagram(struct guest* guest, unsigned char host, unsigned port, const void* data,
                         size_t bytes) {
  const unsigned char head[kUdpDataAt] = {0x52,
                                          0x55,
                                          0x0a,
                                          0,
                                          2,
                                          2,
                                          0x02,
                                          0,
                                          0,
                                          0,
                                          0,
                                          0x15,
                                          0x08,
                                          0, /* Ethernet */
                                          0x45,
                                          0,
                                          0,
                                          0,
                                          0,
                                          1,
                                          0x40,
                                          0,
                                          64,
                                          17,
                                          0,
                                          0,
                                          10,
                                          0,
                                          2,
                                          15,
                                          10,
                                          0,
                                          2,
                                          host, /* IP */
                                          4000 >> 8,
                                          4000 & 0xff,
                                          (unsigned char)(port >> 8),
                                          (unsigned char)port,
                                          0,
                                          0,
                                          0,
                                          0};
  unsigned char* frame = guest->datagram;
  EXPECT(kUdpDataAt + bytes <= sizeof guest->datagram);
  memcpy(frame, head, sizeof head);
  memcpy(frame + sizeof head, data, bytes);
  frame[17] = (unsigned char)(28 + bytes);
  frame[39] = (unsigned char)(8 + bytes);
  uint32_t sum = 0;
  for (int i = 14; i < 34; i += 2) sum += (uint32_t)frame[i] << 8 | frame[i + 1];
  sum = (sum & 0xffff) + (sum >> 16);
  frame[24] = (unsigned char)(~sum >> 8);
  frame[25] = (unsigned char)~sum;
  guest->datagram_bytes = sizeof head + bytes;
}

static size_t Receive(void* context, struct penstock_frame_to_host* frames, size_t count) {
  struct guest* guest = context;
  size_t filled = 0;
  for (; filled < count && guest->to_send > 0; ++filled, --guest->to_send) {
    EXPECT(frames[filled].room_bytes >= 65600 && frames[filled].length == 0);
    memcpy(frames[filled].room, kWhoHasTheGateway, sizeof kWhoHasTheGateway);
    frames[filled].length = (uint32_t)guest->length;
  }
  if (filled < count && guest->datagram_bytes != 0) {
    memcpy(frames[filled].room, guest->datagram, guest->datagram_bytes);
    frames[filled++].length = (uint32_t)guest->datagram_bytes;
    guest->datagram_bytes = 0;
  }
  return filled;
}

static size_t Send(void* context, const struct penstock_frame_to_guest* frames, size_t count) {
  struct guest* guest = context;
  if (guest->full) return 0;
  for (size_t i = 0; i < count; ++i) {
    unsigned char frame[128];
    uint32_t length = 0;
    EXPECT(frames[i].part_count >= 1 && frames[i].part_count <= 16);
    for (uint32_t part = 0; part < frames[i].part_count; ++part) {
      const struct iovec* bytes = &frames[i].parts[part];
      if (length + bytes->iov_len <= sizeof frame) {
        memcpy(frame + length, bytes->iov_base, bytes->iov_len);
      }
      length += (uint32_t)bytes->iov_len;
    }
    EXPECT(length == frames[i].length);
    const unsigned char mac[6] = {0x52, 0x55, 0x0a, 0, 2, 2};
    if (frame[12] == 8 && frame[13] == 6 && frame[21] == 2) {
      guest->answers += memcmp(frame + kSenderMacAt, mac, sizeof mac) == 0;
    }
    if (frame[12] == 8 && frame[13] == 0 && frame[23] == IPPROTO_UDP) {
      memcpy(guest->received, frame, sizeof frame);
      guest->received_bytes = length;
    }
  }
  return count;
}

static int Ended(void* context) { return ((struct guest*)context)->gone; }
static void Release(void* context) { ++((struct guest*)context)->released; }

static penstock_link* LinkTo(struct guest* guest) {
  const struct penstock_link_callbacks callbacks = {.struct_size = sizeof callbacks,
                                                    .descriptor = -1,
                                                    .context = guest,
                                                    .receive = Receive,
                                                    .send = Send,
                                                    .ended = Ended,
                                                    .release = Release};
  penstock_link* link = NULL;
  EXPECT(penstock_link_from_callbacks(&callbacks, NULL, &link) == PENSTOCK_OK && link != NULL);
  return link;
}

/* Sleeps until the stack wants a pass, and gives it. */
static void Pass(penstock_stack* stack, int wait) {
  struct pollfd ready = {.fd = penstock_descriptor(stack), .events = POLLIN};
  if (wait) EXPECT(poll(&ready, 1, kTimeoutMs) == 1);
  while (penstock_poll(stack, penstock_now()) == 0) continue;
}

static uint64_t Metric(const penstock_stack* stack, const char* name) {
  uint64_t value = 0;
  EXPECT(penstock_metric(stack, name, &value) == PENSTOCK_OK);
  return value;
}

/* Passes until the metric has this value. What a relay thread counts wakes nobody here. */
static void Await(penstock_stack* stack, const char* metric, uint64_t value) {
  enum { kLookMs = 5 };
  for (int looks = 0; Metric(stack, metric) < value; ++looks) {
    struct pollfd ready = {.fd = penstock_descriptor(stack), .events = POLLIN};
    EXPECT(looks < kTimeoutMs / kLookMs);
    (void)penstock_poll(stack, penstock_now());
    EXPECT(poll(&ready, 1, kLookMs) >= 0);
  }
}

static void* ErrorOfAnotherThread(void* result) {
  *(int*)result = (int)strlen(penstock_last_error());
  return NULL;
}

static void TestTimeAndErrors(void) {
  EXPECT(penstock_version() == PENSTOCK_VERSION);
  EXPECT(penstock_timeout(5, PENSTOCK_NEVER) == -1 && penstock_timeout(5, 5) == 0);
  EXPECT(penstock_timeout(5, 6) == 1 && penstock_timeout(0, 1000001) == 2);
  EXPECT(penstock_timeout(0, PENSTOCK_NEVER - 1) > 0 && penstock_timeout(6, 5) == 0);
  EXPECT(strcmp(penstock_last_error(), "") == 0);
  EXPECT(penstock_create(NULL, NULL, NULL) == PENSTOCK_INVALID_ARGUMENT);
  EXPECT(strcmp(penstock_last_error(), "config is NULL") == 0);
  pthread_t thread;
  int length = -1;
  EXPECT(pthread_create(&thread, NULL, ErrorOfAnotherThread, &length) == 0);
  EXPECT(pthread_join(thread, NULL) == 0 && length == 0);
  char text[56];
  const struct penstock_endpoint endpoint = {.address = {10, 0, 2, 15}, .port = 80, .family = 4};
  EXPECT(strcmp(penstock_endpoint_text(&endpoint, text, sizeof text), "10.0.2.15:80") == 0);
  EXPECT(strcmp(penstock_endpoint_text(&endpoint, text, 5), "10.0") == 0);
  EXPECT(strcmp(penstock_event_kind_name(PENSTOCK_EVENT_DENIED), "denied") == 0);
  EXPECT(strcmp(penstock_event_kind_name(200), "") == 0);
}

/* Whatever is wrong with it: no stack, a sentence, and the link is destroyed. */
static void Refused(const struct penstock_config* config, const char* sentence) {
  struct guest guest = {0};
  penstock_stack* stack = NULL;
  EXPECT(penstock_create(config, LinkTo(&guest), &stack) == PENSTOCK_INVALID_ARGUMENT);
  EXPECT(stack == NULL && guest.released == 1);
  EXPECT(strstr(penstock_last_error(), sentence) != NULL);
}

static void TestWrongConfigs(void) {
  struct penstock_config config = {0};
  Refused(&config, "struct_size is 0");
#define WRONG(sentence, ...)                                                         \
  do {                                                                               \
    const struct penstock_config wrong = {.struct_size = sizeof wrong, __VA_ARGS__}; \
    Refused(&wrong, sentence);                                                       \
  } while (0)
  WRONG("mtu is 900", .mtu = 900);
  WRONG("ipv4_gateway is \"fd00::2\"", .ipv4_gateway = "fd00::2");
  WRONG("ipv6_off is 2", .ipv6_off = 2);
  WRONG("reserved", .reserved = {1});
  WRONG("tenant_policy:1:", .tenant_policy = "allow everything");
  WRONG("name_servers has \"x\"", .name_servers = "192.0.2.1 x");
  WRONG("relay_threads", .relay_threads = 65);
  WRONG("name_servers has \"corp.example=x\"", .name_servers = "corp.example=x");
  WRONG("dns_hosts has \"db.test\"", .dns_hosts = "db.test");
  WRONG("dns.hosts has \"db.test\" with 0", .dns_hosts = "db.test=");
  WRONG("dns.zones has \"a..b\"", .dns_zones = "test a..b");
  WRONG("dns_intercept is 3", .dns_intercept = 3);
  WRONG("guest_prefixes has \"172.20.0.0\"", .guest_prefixes = "172.20.0.0");
  WRONG("guest_prefixes has 10.0.2.0/24", .guest_prefixes = "fd20::/64 10.0.2.0/24");
  WRONG("dhcp_pool is \"10.0.2.15\"", .dhcp_pool = "10.0.2.15");
  WRONG("dhcp_pool", .dhcp_pool = "10.0.2.99-10.0.2.15");
  WRONG("dhcp_lease_time", .dhcp_lease_time = 1);
  WRONG("dns_rebinding_protection_off is 2", .dns_rebinding_protection_off = 2);
  WRONG("keepalive_probes is 128", .keepalive_probes = 128);
  WRONG("half_open_count_max is 11", .flow_count_max = 10, .half_open_count_max = 11);
  WRONG("half_open_per_destination_max is 11", .flow_count_max = 10,
        .half_open_per_destination_max = 11);
  WRONG("udp_peer_count_max is 4294967295", .udp_peer_count_max = UINT32_MAX);
  WRONG("echo_count_max is 5000", .echo_count_max = 5000);
  WRONG("dns.outstanding_max", .dns_outstanding_max = UINT32_MAX);
  /* Of a newer header: what this library does not have must be 0. */
  struct {
    struct penstock_config config;
    uint64_t newer;
  } grown = {{.struct_size = sizeof grown}, 1};
  Refused(&grown.config, "at byte 376");
  grown.newer = 0;
  struct guest guest = {0};
  penstock_stack* stack = NULL;
  EXPECT(penstock_create(&grown.config, LinkTo(&guest), &stack) == PENSTOCK_OK);
  penstock_destroy(stack);
  /* Of an older one: what it does not have is 0, whatever lies behind it. */
  grown.config = (struct penstock_config){
      .struct_size = offsetof(struct penstock_config, tenant_policy), .tenant_policy = "nonsense"};
  EXPECT(penstock_create(&grown.config, LinkTo(&guest), &stack) == PENSTOCK_OK);
  penstock_destroy(stack);
  EXPECT(guest.released == 2);
}

static void TestWrongLinks(void) {
  penstock_link* link = NULL;
  EXPECT(penstock_link_from_descriptor(-1, NULL, &link) == PENSTOCK_INVALID_ARGUMENT && !link);
  struct penstock_link_callbacks callbacks = {.struct_size = sizeof callbacks, .receive = Receive};
  EXPECT(penstock_link_from_callbacks(&callbacks, NULL, &link) == PENSTOCK_INVALID_ARGUMENT);
  callbacks.send = Send;
  struct penstock_link_options options = {.struct_size = sizeof options, .capabilities = 64};
  EXPECT(penstock_link_from_callbacks(&callbacks, &options, &link) == PENSTOCK_INVALID_ARGUMENT);
  EXPECT(link == NULL);
  struct guest guest = {0};
  penstock_link_destroy(LinkTo(&guest));
  EXPECT(guest.released == 1);
}

static penstock_stack* StackOn(struct guest* guest) {
  const struct penstock_config config = {.struct_size = sizeof config, .event_count_max = 16};
  penstock_stack* stack = NULL;
  EXPECT(penstock_create(&config, LinkTo(guest), &stack) == PENSTOCK_OK);
  return stack;
}

static void TestFrames(void) {
  struct guest guest = {.to_send = 3, .length = sizeof kWhoHasTheGateway};
  penstock_stack* stack = StackOn(&guest);
  Pass(stack, 0);
  EXPECT(guest.answers == 3 && guest.to_send == 0);
  EXPECT(Metric(stack, "frames_to_host") == 3 && Metric(stack, "drop_tcp_checksum") == 0);
  /* A full link is offered the frame again, once it was said that there is room. */
  guest.full = 1;
  guest.to_send = 1;
  penstock_wake(stack);
  Pass(stack, 1);
  guest.full = 0;
  penstock_wake(stack);
  Pass(stack, 1);
  EXPECT(Metric(stack, "link_refusals") > 0);
  /* What cannot be a frame ends the link. */
  guest.to_send = 1;
  guest.length = 1 << 20;
  EXPECT(!penstock_link_ended(stack));
  penstock_wake(stack);
  Pass(stack, 1);
  EXPECT(penstock_link_ended(stack) && Metric(stack, "link_framing_errors") == 1);
  EXPECT(guest.released == 0);
  penstock_destroy(stack);
  EXPECT(guest.released == 1);
}

/* Names that are answered here: a question of type A, and what comes back. */
static void TestNames(void) {
  static const unsigned char kQuestion[] = {0x12, 0x34, 1, 0,   0,   1,   0,   0, 0, 0, 0, 0, 2,
                                            'd',  'b',  4, 't', 'e', 's', 't', 0, 0, 1, 0, 1};
  static const unsigned char kAddress[] = {0, 4, 10, 1, 2, 3};
  const struct penstock_config config = {.struct_size = sizeof config,
                                         .dns_hosts = "db.test=10.1.2.3,fd99::3 web.test=10.1.2.4",
                                         .dns_zones = "test",
                                         .name_servers = "192.0.2.1 corp.example=192.0.2.53",
                                         .guest_prefixes = "172.20.0.0/16 fd20::/64",
                                         .dhcp_pool = "10.0.2.15-10.0.2.99",
                                         .dhcp_lease_time = UINT64_C(60000000000),
                                         .resolv_conf = "/dev/null"};
  struct guest guest = {.to_send = 1, .length = sizeof kWhoHasTheGateway};
  penstock_stack* stack = NULL;
  EXPECT(penstock_create(&config, LinkTo(&guest), &stack) == PENSTOCK_OK);
  MakeDatagram(&guest, 3, 53, kQuestion, sizeof kQuestion);
  Pass(stack, 0);
  EXPECT(guest.received_bytes > kUdpDataAt);
  const unsigned char* end = guest.received + guest.received_bytes;
  EXPECT(guest.received[kUdpDataAt + 1] == 0x34 && guest.received_bytes < sizeof guest.received);
  EXPECT(memcmp(end - sizeof kAddress, kAddress, sizeof kAddress) == 0);
  penstock_destroy(stack);
}

/* Of the host's, on a port of its loopback. */
static int Socket(int type, unsigned* port) {
  const int host = socket(AF_INET, type, 0);
  struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t own_bytes = sizeof own;
  EXPECT(bind(host, (struct sockaddr*)&own, sizeof own) == 0);
  EXPECT(getsockname(host, (struct sockaddr*)&own, &own_bytes) == 0);
  *port = ntohs(own.sin_port);
  return host;
}

/* A datagram to the host's loopback is a flow, until it is forgotten. */
static void TestFlows(void) {
  unsigned port = 0;
  const int host = Socket(SOCK_DGRAM, &port);
  struct guest guest = {.to_send = 1, .length = sizeof kWhoHasTheGateway};
  const struct penstock_config config = {
      .struct_size = sizeof config, .host_loopback = 1, .udp_timeout = 1};
  penstock_stack* stack = NULL;
  EXPECT(penstock_create(&config, LinkTo(&guest), &stack) == PENSTOCK_OK);
  struct penstock_flow flow = {.struct_size = sizeof flow};
  EXPECT(penstock_next_flow(stack, &flow) == 0);
  MakeDatagram(&guest, 2, port, "hello", 5);
  Pass(stack, 0);
  EXPECT(penstock_next_flow(stack, &flow) == 1 && flow.next == 1);
  EXPECT(flow.protocol == PENSTOCK_UDP && flow.direction == PENSTOCK_EGRESS);
  EXPECT(flow.guest.port == 4000 && flow.peer.port == port && flow.peer.address[3] == 2);
  EXPECT(flow.bytes_to_host == 5 && strcmp(flow.state, "unanswered") == 0);
  EXPECT(strcmp(flow.name, "") == 0 && strcmp(flow.end, "") == 0);
  EXPECT(penstock_next_flow(stack, &flow) == 0);
  Await(stack, "udp_mappings_expired", 1);
  flow = (struct penstock_flow){.struct_size = sizeof flow};
  EXPECT(penstock_next_flow(stack, &flow) == 0);
  flow = (struct penstock_flow){.struct_size = 0};
  EXPECT(penstock_next_flow(stack, &flow) == 0);
  EXPECT(strstr(penstock_last_error(), "penstock_flow.struct_size is 0") != NULL);
  penstock_destroy(stack);
  close(host);
}

static void TestPorts(void) {
  struct guest guest = {0};
  penstock_stack* stack = StackOn(&guest);
  struct penstock_port port = {.struct_size = sizeof port};
  EXPECT(penstock_publish(stack, "0:80-81/tcp", PENSTOCK_IDENTITY_GATEWAY, &port) == PENSTOCK_OK);
  const uint32_t first = port.id;
  EXPECT(port.guest.port == 80 && port.bound.port != 0 && port.bound.address[0] == 127);
  port.id = 0;
  EXPECT(penstock_next_port(stack, &port) == 1 && port.id == first);
  EXPECT(penstock_next_port(stack, &port) == 1 && port.guest.port == 81);
  EXPECT(penstock_next_port(stack, &port) == 0);
  char selector[16];
  snprintf(selector, sizeof selector, "%d", port.bound.port);
  EXPECT(penstock_publish(stack, "1:70000", 0, NULL) == PENSTOCK_INVALID_ARGUMENT);
  EXPECT(penstock_publish(stack, "0:80", 7, NULL) == PENSTOCK_INVALID_ARGUMENT);
  EXPECT(penstock_unpublish(stack, selector, 7) == PENSTOCK_INVALID_ARGUMENT);
  EXPECT(penstock_unpublish(stack, selector, PENSTOCK_FLOWS_RESET) == PENSTOCK_OK);
  EXPECT(penstock_unpublish(stack, selector, PENSTOCK_FLOWS_RESET) == PENSTOCK_NOT_FOUND);
  struct penstock_event event = {.struct_size = sizeof event};
  EXPECT(penstock_take_event(stack, &event) == 1 && event.kind == PENSTOCK_EVENT_PUBLISHED);
  EXPECT(event.guest.port == 80 && event.rule_line == 0 && strcmp(event.rule, "") == 0);
  /* An older header's event: nothing behind it is touched. */
  event.struct_size = offsetof(struct penstock_event, name);
  event.name = selector;
  EXPECT(penstock_take_event(stack, &event) == 1 && event.guest.port == 81);
  EXPECT(event.name == selector);
  penstock_destroy(stack);
}

/* Who was asked about, and what is answered: on whatever thread. */
struct admission {
  atomic_int asked[2]; /* by enum penstock_protocol */
  atomic_int allows;
  atomic_uint client_port; /* the last one's */
};

static int Admit(void* context, const struct penstock_client* client) {
  struct admission* admission = context;
  EXPECT(client->struct_size == sizeof *client && client->guest_port == 7);
  EXPECT(client->client.family == 4 && client->client.address[0] == 127);
  EXPECT(client->host.family == 4 && client->host.port != 0 && client->protocol <= PENSTOCK_UDP);
  admission->client_port = client->client.port;
  ++admission->asked[client->protocol];
  return admission->allows;
}

static void Connect(int client, unsigned port) {
  const struct sockaddr_in to = {.sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  EXPECT(connect(client, (const struct sockaddr*)&to, sizeof to) == 0);
}

/* Clients of a published port that may not have it, and one that may. */
static void TestAdmission(void) {
  struct admission admission = {.allows = 0};
  struct guest guest = {.to_send = 1, .length = sizeof kWhoHasTheGateway};
  const struct penstock_config config = {
      .struct_size = sizeof config, .admit = Admit, .admit_context = &admission};
  penstock_stack* stack = NULL;
  EXPECT(penstock_create(&config, LinkTo(&guest), &stack) == PENSTOCK_OK);
  struct penstock_port tcp = {.struct_size = sizeof tcp}, udp = {.struct_size = sizeof udp};
  EXPECT(penstock_publish(stack, "0:7/tcp", PENSTOCK_IDENTITY_GATEWAY, &tcp) == PENSTOCK_OK);
  EXPECT(penstock_publish(stack, "0:7/udp", PENSTOCK_IDENTITY_GATEWAY, &udp) == PENSTOCK_OK);
  Pass(stack, 0);

  unsigned stream_port = 0, datagram_port = 0;
  const int stream = Socket(SOCK_STREAM, &stream_port);
  const int datagrams = Socket(SOCK_DGRAM, &datagram_port);
  Connect(stream, tcp.bound.port);
  Await(stack, "inbound_denied", 1);
  char byte = 0;
  EXPECT(recv(stream, &byte, 1, 0) == -1 && errno == ECONNRESET);
  EXPECT(admission.asked[PENSTOCK_TCP] == 1 && admission.client_port == stream_port);
  Connect(datagrams, udp.bound.port);
  EXPECT(send(datagrams, "no", 2, 0) == 2);
  Await(stack, "udp_denied", 1);
  EXPECT(admission.asked[PENSTOCK_UDP] == 1 && admission.client_port == datagram_port);
  EXPECT(guest.received_bytes == 0);
  admission.allows = 1; /* nobody asks now */
  EXPECT(send(datagrams, "yes", 3, 0) == 3);
  Await(stack, "udp_peers_opened", 1);
  while (guest.received_bytes == 0) Pass(stack, 1);
  EXPECT(memcmp(guest.received + kUdpDataAt, "yes", 3) == 0 && admission.asked[PENSTOCK_UDP] == 2);
  penstock_destroy(stack);
  close(stream);
  close(datagrams);
}

static void SetPolicy(penstock_stack* stack, void* result) {
  *(int*)result = penstock_set_policy(stack, PENSTOCK_LAYER_TENANT, "none", PENSTOCK_FLOWS_RESET) ==
                  PENSTOCK_OK;
}

static void TestPolicyAndPost(void) {
  struct guest guest = {0};
  penstock_stack* stack = StackOn(&guest);
  int done = 0;
  EXPECT(penstock_post(stack, SetPolicy, &done) == PENSTOCK_OK && !done);
  Pass(stack, 1);
  EXPECT(done);
  struct penstock_event event = {.struct_size = sizeof event};
  EXPECT(penstock_take_event(stack, &event) == 1 && event.layer == PENSTOCK_LAYER_TENANT);
  EXPECT(event.kind == PENSTOCK_EVENT_POLICY_REPLACED && !penstock_take_event(stack, &event));
  EXPECT(penstock_set_policy(stack, PENSTOCK_LAYER_PLATFORM, "allow egress @privat", 0) ==
         PENSTOCK_INVALID_ARGUMENT);
  EXPECT(strstr(penstock_last_error(), "policy:1:14: there is no group \"@privat\"") != NULL);
  EXPECT(penstock_set_policy(stack, PENSTOCK_LAYER_LINK, NULL, 0) == PENSTOCK_INVALID_ARGUMENT);
  EXPECT(penstock_set_policy(stack, PENSTOCK_LAYER_PLATFORM, NULL, 0) == PENSTOCK_OK);
  penstock_destroy(stack);
}

static void TestExplain(void) {
  struct guest guest = {0};
  penstock_stack* stack = StackOn(&guest);
  struct penstock_question question = {
      .struct_size = sizeof question,
      .protocol = PENSTOCK_TCP,
      .peer = {.address = {10, 1, 2, 3}, .port = 5432, .family = 4},
  };
  struct penstock_answer answer = {.struct_size = sizeof answer};
  EXPECT(penstock_explain(stack, &question, &answer) == PENSTOCK_OK);
  EXPECT(answer.verdict == PENSTOCK_VERDICT_ALLOW && answer.rule_line == 0 && !*answer.rule);
  EXPECT(penstock_set_policy(stack, PENSTOCK_LAYER_TENANT,
                             "allow egress example.test:5432/tcp\n"
                             "deny egress  @private # why not\ndefault egress allow",
                             0) == PENSTOCK_OK);
  EXPECT(penstock_explain(stack, &question, &answer) == PENSTOCK_OK);
  EXPECT(answer.verdict == PENSTOCK_VERDICT_DENY && answer.rule_line == 2);
  EXPECT(strcmp(answer.rule, "deny egress @private") == 0);
  EXPECT(strstr(answer.text, "deny egress @private") != NULL);
  question.name = "Example.TEST.";
  EXPECT(penstock_explain(stack, &question, &answer) == PENSTOCK_OK);
  EXPECT(strstr(answer.text, "example.test") != NULL);
  question.name = "no name";
  EXPECT(penstock_explain(stack, &question, &answer) == PENSTOCK_INVALID_ARGUMENT);
  question.name = NULL;
  question.protocol = PENSTOCK_ICMP;
  EXPECT(penstock_explain(stack, &question, &answer) == PENSTOCK_INVALID_ARGUMENT);
  question.peer.port = 0;
  EXPECT(penstock_explain(stack, &question, &answer) == PENSTOCK_OK);
  question.peer.family = 5;
  EXPECT(penstock_explain(stack, &question, &answer) == PENSTOCK_INVALID_ARGUMENT);
  answer.struct_size = 0;
  EXPECT(penstock_explain(stack, &question, &answer) == PENSTOCK_INVALID_ARGUMENT);
  penstock_destroy(stack);
}

static void TestMetrics(void) {
  struct guest guest = {0};
  penstock_stack* stack = StackOn(&guest);
  Pass(stack, 0);
  uint64_t values[1024], one = 0;
  const size_t count = penstock_metrics(stack, values, 1024);
  EXPECT(count > 100 && count < 1024 && penstock_metric_name(count) == NULL);
  EXPECT(penstock_metrics(stack, &one, 1) == count);
  size_t polls = 0;
  while (strcmp(penstock_metric_name(polls), "polls") != 0) ++polls;
  EXPECT(values[polls] == Metric(stack, "polls") && values[polls] > 0);
  EXPECT(penstock_metric(stack, "frames", &one) == PENSTOCK_NOT_FOUND);
  penstock_destroy(stack);
}

int main(void) {
  TestTimeAndErrors();
  TestWrongConfigs();
  TestWrongLinks();
  TestFrames();
  TestNames();
  TestFlows();
  TestPorts();
  TestAdmission();
  TestPolicyAndPost();
  TestExplain();
  TestMetrics();
  return 0;
}
