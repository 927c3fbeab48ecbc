// The C interface of the guest's lwIP, for guest_tcp.cc and nobody else. Every symbol
// that leaves the object starts with guest_lwip_; lwIP's own are made local when it is
// linked (../CMakeLists.txt), so that they do not meet those of stack/tcpip.
//
// lwIP keeps its state in globals: there is one guest in a process, ever. Time is given
// by guest_lwip_advance; every other call happens at that time. Nothing may be called
// from within a callback.
#ifndef PENSTOCK_TESTS_WORLD_GUEST_LWIP_GUEST_LWIP_H_
#define PENSTOCK_TESTS_WORLD_GUEST_LWIP_GUEST_LWIP_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct guest_lwip_address {
  uint8_t bytes[16];  // network order; an IPv4 address fills the first four
  int is_v6;
};

struct guest_lwip_options {
  uint8_t mac[6];
  int use_ipv4, use_ipv6;
  struct guest_lwip_address ipv4, gateway4, ipv6, gateway6;
  uint8_t prefix4;
  uint16_t mtu;
  uint32_t receive_window;
  uint64_t seed;
  void* context;
  // An Ethernet frame to the link; valid during the call.
  void (*send)(void* context, const uint8_t* frame, size_t length);
};

// One connection. The owner sets the first two fields, guest_lwip.c the others; it must
// live until `pcb` is NULL or guest_lwip_detach was called.
struct guest_lwip_connection {
  void* context;
  // Bytes that came in order; valid during the call.
  void (*received)(void* context, const uint8_t* bytes, size_t length);
  void* pcb;  // NULL once lwIP has forgotten the connection
  uint16_t source_port;
  struct guest_lwip_address peer;  // of an accepted connection
  uint16_t peer_port;
  int error;  // an errno
  uint8_t connected;
  uint8_t peer_finished;  // FIN came
  uint8_t write_shut;     // guest_lwip_shutdown_write was called
  uint8_t fin_queued;     // and lwIP was told
  uint8_t closed_by_us;   // guest_lwip_close was called
  uint8_t in_fin_wait;    // the PCB was freed in FIN_WAIT_2
};

// A port that is listened on, at all addresses. Both fields are the owner's, which lives
// as long as the guest.
struct guest_lwip_listener {
  void* context;
  // Where to note the connection that came; its first two fields are set.
  struct guest_lwip_connection* (*accept)(void* context);
};

// Once. Frames may leave at once.
void guest_lwip_start(const struct guest_lwip_options* options);
// Runs what is due up to `now`, each timer at its own time.
void guest_lwip_advance(uint64_t now_nanoseconds);
// When a timer is due that may have an effect, in milliseconds from the beginning of
// time; UINT64_MAX if there is none. Timers that only count are made up for by the next
// guest_lwip_advance.
uint64_t guest_lwip_next_ms(void);
// A frame from the link. Returns 0 if it is larger than the MTU allows.
int guest_lwip_input(const uint8_t* frame, size_t length);
// Frames that came with a bad checksum, a bad length or above the MTU.
uint64_t guest_lwip_malformed(void);

// 0, or an errno; then there is no PCB. Port 0: any.
int guest_lwip_connect(struct guest_lwip_connection* connection,
                       const struct guest_lwip_address* destination, uint16_t port,
                       uint16_t source_port);
// 0, or an errno.
int guest_lwip_listen(struct guest_lwip_listener* listener, uint16_t port);
// What the send buffer has room for; 0 where nothing may be written.
size_t guest_lwip_write_room(const struct guest_lwip_connection* connection);
// Copies a prefix into the send buffer; returns its length.
size_t guest_lwip_write(struct guest_lwip_connection* connection, const uint8_t* bytes,
                        size_t length);
// `length` bytes of what was received were read: the window may open.
void guest_lwip_consumed(struct guest_lwip_connection* connection, size_t length);
size_t guest_lwip_unacknowledged(const struct guest_lwip_connection* connection);
// Both directions are done, or the PCB is gone.
int guest_lwip_is_closed(const struct guest_lwip_connection* connection);
void guest_lwip_shutdown_write(struct guest_lwip_connection* connection);
void guest_lwip_close(struct guest_lwip_connection* connection);
void guest_lwip_abort(struct guest_lwip_connection* connection);
// lwIP goes on alone and calls back no more.
void guest_lwip_detach(struct guest_lwip_connection* connection);
// No frame is sent any more.
void guest_lwip_stop(void);

#ifdef __cplusplus
}
#endif

#endif  // PENSTOCK_TESTS_WORLD_GUEST_LWIP_GUEST_LWIP_H_
