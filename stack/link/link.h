// A link carries frames between the guest and one stack. It is driven from the
// poll thread only, never blocks, and says what it can do.
//
// Frames move in batches, with at most one virtual call for each batch. A link
// that holds frames back (the impairment decorator) says with deadline() when it
// wants to be asked again.
#ifndef PENSTOCK_STACK_LINK_LINK_H_
#define PENSTOCK_STACK_LINK_LINK_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "relay/time.h"
#include "stack/link/frame.h"

namespace penstock {

struct LinkCapabilities {
  // False: an L3 link (tun) whose frames start with the IP header.
  bool ethernet = true;
  // The largest IP packet the link carries: 65,521 for a tap, 65,535 for a tun.
  uint32_t mtu_max = 65'521;
  // Frames to the guest may leave with ChecksumState::kPartial. Where false the
  // stack completes the checksum first.
  bool partial_checksum_to_guest = false;
  // TCP frames to the guest above the MTU may leave with gso set.
  bool tcp4_gso_to_guest = false;
  bool tcp6_gso_to_guest = false;
  // Likewise UDP, of both families, with partial checksums.
  bool udp_gso_to_guest = false;
  // Frames to host above the MTU may come with gso none, and their TCP checksum
  // may be partial without saying so (libkrun's sockets).
  bool unsegmented_tcp_to_host = false;
  // Somebody has to be woken for a frame to the guest, as a VMM's thread has: fewer frames are
  // sooner through. (A tap's kernel deals with it within the call.)
  bool frame_wakes_somebody = false;
};

class Link {
 public:
  virtual ~Link() = default;

  [[nodiscard]] virtual const LinkCapabilities& capabilities() const = 0;

  // Readable (level-triggered) when Receive has frames, writable (or readable, too) when Send
  // takes frames again after it took fewer than it was given. -1: the link has none
  // and whoever owns it calls Stack::Wake().
  [[nodiscard]] virtual int descriptor() const = 0;

  // Fills `frames` from the front with waiting frames; returns how many. Fewer
  // than frames.size() means that there are no more now.
  [[nodiscard]] virtual size_t Receive(Time now, std::span<FrameToHost> frames) = 0;

  // Sends a prefix of `frames`; returns its length. Fewer than frames.size()
  // means that the link is full: the caller offers the rest again when the
  // descriptor says so. A frame that the link cannot carry at all (device
  // down, peer gone) counts as sent and is counted by frames_lost().
  [[nodiscard]] virtual size_t Send(Time now, std::span<const FrameToGuest> frames) = 0;

  // When Receive or Send wants to be called although the descriptor is quiet.
  [[nodiscard]] virtual Time deadline() const { return kNever; }

  // True once the other end is gone for good: nothing will come or go any more.
  [[nodiscard]] virtual bool ended() const { return false; }

  // How often the other end has begun anew (a device that was down and is up again):
  // another machine may be there now, with another MAC address.
  [[nodiscard]] virtual uint64_t resets() const { return 0; }

  // Frames in either direction that the link itself lost (errors of the device,
  // malformed framing, a decorator's drops), for the counters.
  [[nodiscard]] virtual uint64_t frames_lost() const { return 0; }

  // How often what came could not be told apart into frames (a length that is none): nothing
  // after it could be understood, and the link has ended.
  [[nodiscard]] virtual uint64_t framing_errors() const { return 0; }
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_LINK_LINK_H_
