// Fragments from the guest, put together to datagrams before anybody asks what is in
// them. One per stack; poll thread only.
//
// A set is what came of one datagram: its parts lie in one buffer, each at its offset,
// behind room for the largest IP header; the first fragment's header is put right before
// them. So a datagram that is complete lies in one piece where a flow may keep it, and was
// copied once. A list of the parts, at most 128, tells overlaps from holes.
//
// A set ends in one of four ways:
//   complete   it is the caller's: each of its frames ends as the datagram does
//   refused    a part contradicts another, itself or the largest length. All parts that
//              came are dropped by that cause, and those that still come, too, until the
//              set's time is over (RFC 5722: a guest must not be able to choose which
//              of two versions is believed)
//   expired    10 s after its first part
//   displaced  the oldest one goes when there are too many
//
// An exact copy of a part, same place and same bytes, is dropped alone, as RFC 8200 lets a
// receiver do: a link that duplicates frames (impair does) would else lose each datagram
// of which it duplicated a part. A copy that differs in a bit or in its borders is an
// overlap.
//
// No ICMP is sent about fragments (RFC 8200 4.5 and RFC 792 have errors for some cases):
// a guest's kernel tells no application of them.
//
// Read first: RFC 791 3.2, RFC 815, RFC 8200 4.5, RFC 5722, RFC 7112, RFC 8900.
#ifndef PENSTOCK_STACK_WIRE_REASSEMBLY_H_
#define PENSTOCK_STACK_WIRE_REASSEMBLY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "relay/time.h"
#include "stack/counters.h"
#include "stack/tcpip/guest_buffer.h"
#include "stack/wire/packet.h"

namespace penstock {

class Reassembly final {
 public:
  // From the first part, whichever that is.
  static constexpr Duration kLifetime = std::chrono::seconds(10);
  // Each set may hold a buffer for the largest datagram, so this is 4.2 MB at most: what
  // Linux lets a network namespace hold (ipfrag_high_thresh). Also few enough to look
  // through for each fragment.
  static constexpr size_t kSetsMax = 64;
  static constexpr uint64_t kBytesMax = uint64_t{kSetsMax} * kFrameBytesMax;
  // The largest datagram at the smallest MTU that a guest is likely to cut to, Linux's
  // floor of 552 for a path, has 125 parts. More is an attempt to make work.
  static constexpr size_t kFragmentsPerSetMax = 128;

  // Buffers come from `pool`, which must let kBytesMax be out for them.
  Reassembly(GuestBufferPool& pool, Counters& counters);
  ~Reassembly();
  Reassembly(const Reassembly&) = delete;
  Reassembly& operator=(const Reassembly&) = delete;

  struct Datagram {
    GuestBuffer* buffer;       // the caller's from here on
    std::span<uint8_t> bytes;  // in it; from an IP header that tells of no fragments
    uint32_t fragments;        // frames that it came in, none of them counted yet
  };

  // Takes a fragment that came at `now` and counts it, unless it completes a datagram.
  [[nodiscard]] std::optional<Datagram> Add(const Fragment& fragment, Time now);

  // Drops the sets whose time is over.
  void Expire(Time now);
  // When Expire has something to do; kNever if nothing waits.
  [[nodiscard]] Time NextDeadline() const;

  // Sets that wait or swallow, and bytes of buffers that they hold.
  [[nodiscard]] size_t set_count() const { return sets_.size(); }
  [[nodiscard]] uint64_t bytes_held() const;

 private:
  struct Set;

  [[nodiscard]] Set* Find(const Fragment& fragment);
  [[nodiscard]] Set* Begin(const Fragment& fragment, Time now);
  void Store(Set& set, const Fragment& fragment);
  [[nodiscard]] Datagram Finish(Set& set);
  void Refuse(Set& set, DropCause cause);
  // Drops what the set holds and forgets it.
  void End(Set& set, DropCause cause);
  void DropHeld(Set& set, DropCause cause);
  void Forget(Set& set);

  GuestBufferPool& pool_;
  Counters& counters_;
  std::vector<std::unique_ptr<Set>> sets_;   // the oldest first
  std::vector<std::unique_ptr<Set>> spare_;  // ended; memory for the next ones
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_WIRE_REASSEMBLY_H_
