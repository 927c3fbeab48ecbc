// What the guest's lwIP asks guest_lwip.c.
#ifndef PENSTOCK_TESTS_WORLD_GUEST_LWIP_GUEST_HOOKS_H_
#define PENSTOCK_TESTS_WORLD_GUEST_LWIP_GUEST_HOOKS_H_

#include <stdint.h>

struct ip_addr;
struct ip6_addr;
struct netif;

// RFC 6528: a clock, virtual here, and a hash of the tuple and the seed.
uint32_t guest_lwip_isn(const struct ip_addr* source, uint16_t source_port,
                        const struct ip_addr* destination, uint16_t destination_port);
#define LWIP_HOOK_TCP_ISN guest_lwip_isn

// The static default route.
const struct ip6_addr* guest_lwip_gateway6(void);
#define LWIP_HOOK_ND6_GET_GW(netif, destination) guest_lwip_gateway6()

#endif  // PENSTOCK_TESTS_WORLD_GUEST_LWIP_GUEST_HOOKS_H_
