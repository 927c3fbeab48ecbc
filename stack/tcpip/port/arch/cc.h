/* lwIP's idea of the platform: GCC or clang on Linux. */
#ifndef PENSTOCK_ARCH_CC_H
#define PENSTOCK_ARCH_CC_H

#include <endian.h>
#include <stdint.h>
#include <stdlib.h>

#define LWIP_TIMEVAL_PRIVATE 0
#define LWIP_ERRNO_STDINCLUDE 1
#define LWIP_RAND() ((u32_t)0)

/* lwIP's assertions find bugs in test builds. In release builds they are off: none
 * of them may let a guest's bytes end the process. */
#ifdef NDEBUG
#define LWIP_NOASSERT 1
#define LWIP_PLATFORM_ASSERT(x)
#else
#ifdef __cplusplus
extern "C"
#endif
    void
    penstock_lwip_assert_failed(const char* message, int line, const char* file);
#define LWIP_PLATFORM_ASSERT(x) penstock_lwip_assert_failed(x, __LINE__, __FILE__)
#endif
#define LWIP_PLATFORM_DIAG(x)

#endif
