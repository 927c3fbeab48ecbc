/* Calls of the C ABI as an embedder makes them, right and wrong: on a link of callbacks whose guest
 * is this program. Ends with 0, or with the line of what was not as it should be. */
#define _POSIX_C_SOURCE 200809L

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stack/penstock.h"

#define EXPECT(what)                                                                            \
  do {                                                                                          \
    if (!(what)) {                                                                              \
      fprintf(stderr, "calls.c:%d: not so: %s (%s)\n", __LINE__, #what, penstock_last_error()); \
      exit(1);                                                                                  \
    }                                                                                           \
  } while (0)

/* An ARP request from 10.0.2.15 (RFC 826): who has 10.0.2.2? */
static const unsigned char kWhoHasTheGateway[42] = {
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0,  0, 0, 0,  0x15, 0x08, 0x06, 0, 1, 8, 0,  6, 4, 0,
    1,    0x02, 0,    0,    0,    0,    0x15, 10, 0, 2, 15, 0,    0,    0,    0, 0, 0, 10, 0, 2, 2};
enum { kSenderMacAt = 22, kTimeoutMs = 20000 };

/* The guest's end of the link. */
struct guest {
  int to_send;   /* frames that wait */
  size_t length; /* that it says they have */
  int full;      /* takes no frame */
  int answers;   /* of the gateway that came */
  int gone;
  int released;
};

static size_t Receive(void* context, struct penstock_frame_to_host* frames, size_t count) {
  struct guest* guest = context;
  size_t filled = 0;
  for (; filled < count && guest->to_send > 0; ++filled, --guest->to_send) {
    EXPECT(frames[filled].room_bytes >= 65600 && frames[filled].length == 0);
    memcpy(frames[filled].room, kWhoHasTheGateway, sizeof kWhoHasTheGateway);
    frames[filled].length = (uint32_t)guest->length;
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
  /* Of a newer header: what this library does not have must be 0. */
  struct {
    struct penstock_config config;
    uint64_t newer;
  } grown = {{.struct_size = sizeof grown}, 1};
  Refused(&grown.config, "at byte 200");
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
  TestPorts();
  TestPolicyAndPost();
  TestMetrics();
  return 0;
}
