#include "stack/tcpip/siphash.h"

#include <sys/random.h>

#include "relay/check.h"

namespace penstock {

SipKey RandomSipKey() {
  SipKey key;
  // 16 bytes never come short once the kernel's pool is seeded (getrandom(2)).
  PENSTOCK_CHECK(getrandom(key.data(), sizeof key, 0) == sizeof key);
  return key;
}

}  // namespace penstock
