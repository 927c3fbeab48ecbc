// What both talks by datagrams share: udp_talk.h, of published ports and the guest's, and
// guest_talk.h, of the guest's with hosts.
#ifndef PENSTOCK_TESTS_WORLD_DATAGRAM_TALK_H_
#define PENSTOCK_TESTS_WORLD_DATAGRAM_TALK_H_

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "relay/time.h"

namespace penstock::world {

// Each datagram begins with its tag, who speaks to whom, its number and the length of the whole.
inline constexpr size_t kHeadBytes = 16;
inline constexpr int64_t kBytesMin = 64;

// A link that swaps frames holds one back for as long at most.
inline constexpr Duration kReorderSlack = std::chrono::seconds(1);

// Errors of a UDP socket that end nothing.
inline constexpr int kPassingErrors[] = {ECONNREFUSED, EINTR,   ENETUNREACH,
                                         EHOSTUNREACH, ENOBUFS, EPERM};

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_DATAGRAM_TALK_H_
