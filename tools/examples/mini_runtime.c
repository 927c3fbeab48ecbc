/* A sandbox runtime in miniature, in C: the network of one guest behind a descriptor that whoever
 * starts it has passed, with nothing but stack/penstock.h and libc.
 *
 *   mini-runtime-c FD
 *
 * FD is one end of a socket pair whose other end a VMM has (QEMU: -netdev stream or dgram), or a
 * tap. Orders are lines on stdin, answers and events are lines on stdout:
 *
 *   publish 8080:80       published 127.0.0.1:8080 -> 10.0.2.15:80
 *   unpublish 8080        unpublished
 *   policy all            policy replaced: a profile, or one line of a policy's text
 *
 * It ends with the end of stdin, with the guest's end of the link, or with SIGINT or SIGTERM. One
 * thread, one poll loop: the stack is one descriptor in it and one deadline. */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stack/penstock.h"

enum { kTextBytes = 56, kLineBytes = 1024 };

static penstock_stack* stack;
static volatile sig_atomic_t stopped;

/* What a signal handler may do: say so, and wake the loop. */
static void Stop(int signal_number) {
  (void)signal_number;
  stopped = 1;
  penstock_wake(stack);
}

static int Fail(const char* what) {
  fprintf(stderr, "mini-runtime-c: %s: %s\n", what, penstock_last_error());
  return 1;
}

static void TellEvents(void) {
  struct penstock_event event = {.struct_size = sizeof event};
  while (penstock_take_event(stack, &event)) {
    char guest[kTextBytes], peer[kTextBytes];
    penstock_endpoint_text(&event.guest, guest, sizeof guest);
    penstock_endpoint_text(&event.peer, peer, sizeof peer);
    printf("event %s %s %s %s%s\n", penstock_event_kind_name(event.kind), guest, peer, event.reason,
           event.rule);
  }
}

static void Publish(const char* spec) {
  struct penstock_port port = {.struct_size = sizeof port};
  char bound[kTextBytes], guest[kTextBytes];
  if (penstock_publish(stack, spec, PENSTOCK_IDENTITY_GATEWAY, &port) != PENSTOCK_OK) {
    printf("error %s\n", penstock_last_error());
    return;
  }
  printf("published %s -> %s\n", penstock_endpoint_text(&port.bound, bound, sizeof bound),
         penstock_endpoint_text(&port.guest, guest, sizeof guest));
}

static void Answer(enum penstock_status status, const char* done) {
  if (status == PENSTOCK_OK) {
    printf("%s\n", done);
  } else {
    printf("error %s\n", penstock_last_error());
  }
}

static void Obey(const char* order) {
  if (strncmp(order, "publish ", 8) == 0) {
    Publish(order + 8);
  } else if (strncmp(order, "unpublish ", 10) == 0) {
    Answer(penstock_unpublish(stack, order + 10, PENSTOCK_FLOWS_RESET), "unpublished");
  } else if (strncmp(order, "policy ", 7) == 0) {
    Answer(penstock_set_policy(stack, PENSTOCK_LAYER_TENANT, order + 7, PENSTOCK_FLOWS_RESET),
           "policy replaced");
  } else {
    printf("error orders are publish, unpublish and policy\n");
  }
}

/* Obeys the whole lines that have come; 0 at the end of stdin. */
static int ReadOrders(void) {
  static char lines[kLineBytes];
  static size_t used;
  const ssize_t got = read(STDIN_FILENO, lines + used, sizeof lines - used);
  if (got <= 0) return got < 0 && (errno == EAGAIN || errno == EINTR);
  used += (size_t)got;
  char* line = lines;
  for (char* end; (end = memchr(line, '\n', used)) != NULL; line = end + 1) {
    *end = '\0';
    Obey(line);
    used -= (size_t)(end + 1 - line);
  }
  memmove(lines, line, used);
  return used < sizeof lines; /* a line that is longer is no order */
}

/* The loop of the embedder's: here the stack is one descriptor among others. */
static void Run(void) {
  int reading = 1;
  while (!stopped && reading && !penstock_link_ended(stack)) {
    const uint64_t deadline = penstock_poll(stack, penstock_now());
    TellEvents();
    fflush(stdout);
    struct pollfd waiting[2] = {{.fd = penstock_descriptor(stack), .events = POLLIN},
                                {.fd = STDIN_FILENO, .events = POLLIN}};
    poll(waiting, 2, penstock_timeout(penstock_now(), deadline));
    if (waiting[1].revents != 0) reading = ReadOrders();
  }
}

static void TellMetrics(void) {
  static const char* const names[] = {"frames_to_host", "frames_to_guest", "flows_opened"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; ++i) {
    uint64_t value = 0;
    if (penstock_metric(stack, names[i], &value) != PENSTOCK_OK) continue;
    printf("%s %" PRIu64 "\n", names[i], value);
  }
}

int main(int argc, char** argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: mini-runtime-c FD\n");
    return 2;
  }
  /* A sandbox that reaches the host's loopback by the gateway's address, and nothing else. */
  const struct penstock_config config = {
      .struct_size = sizeof config,
      .host_loopback = 1,
      .tenant_policy = "allow egress @host\ndefault egress deny",
      .event_count_max = 1024,
  };
  penstock_link* link;
  if (penstock_link_from_descriptor(atoi(argv[1]), NULL, &link) != PENSTOCK_OK) return Fail("link");
  if (penstock_create(&config, link, &stack) != PENSTOCK_OK) return Fail("stack");

  const struct sigaction action = {.sa_handler = Stop};
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
  printf("ready\n");
  Run();
  TellEvents();
  TellMetrics();
  signal(SIGINT, SIG_DFL); /* its handler speaks to the stack */
  signal(SIGTERM, SIG_DFL);
  penstock_destroy(stack);
  printf("stopped\n");
  return 0;
}
