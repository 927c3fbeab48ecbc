// lwIP's idea of the guest's platform: GCC or clang on Linux, no clock and no chance.
#ifndef PENSTOCK_TESTS_WORLD_GUEST_LWIP_ARCH_CC_H_
#define PENSTOCK_TESTS_WORLD_GUEST_LWIP_ARCH_CC_H_

#include <endian.h>
#include <stdint.h>
#include <stdlib.h>

#define LWIP_TIMEVAL_PRIVATE 0
#define LWIP_ERRNO_STDINCLUDE 1

// lwIP's assertions are on in every build: the guest is a witness.
void guest_lwip_assert_failed(const char* message, int line, const char* file);
#define LWIP_PLATFORM_ASSERT(x) guest_lwip_assert_failed(x, __LINE__, __FILE__)
#define LWIP_PLATFORM_DIAG(x)

// From the seed.
uint32_t guest_lwip_random(void);
#define LWIP_RAND() guest_lwip_random()

// See lwipopts.h.
extern uint32_t guest_lwip_receive_window;
enum { guest_lwip_retries = 40 };

#endif  // PENSTOCK_TESTS_WORLD_GUEST_LWIP_ARCH_CC_H_
