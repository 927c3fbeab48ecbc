/* What lwIP asks the engine (engine.cc). */
#ifndef PENSTOCK_HOOKS_H
#define PENSTOCK_HOOKS_H

#include "lwip/ip_addr.h"

#ifdef __cplusplus
extern "C" {
#endif
u32_t penstock_tcp_isn(const ip_addr_t* local_ip, u16_t local_port, const ip_addr_t* remote_ip,
                       u16_t remote_port);
#ifdef __cplusplus
}
#endif

#define LWIP_HOOK_TCP_ISN penstock_tcp_isn

#endif
