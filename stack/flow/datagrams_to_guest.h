// How datagrams and errors leave for the guest: as frames in the batch, cut to the MTU, or
// in one piece for the link to cut. What a full link does not take is dropped and counted.
// One per stack, so that no two packets have the same identification. Poll thread.
#ifndef PENSTOCK_STACK_FLOW_DATAGRAMS_TO_GUEST_H_
#define PENSTOCK_STACK_FLOW_DATAGRAMS_TO_GUEST_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "stack/config.h"
#include "stack/counters.h"
#include "stack/flow/frame_batch.h"
#include "stack/wire/emit.h"
#include "stack/wire/ip_frames.h"
#include "stack/wire/udp_frames.h"

namespace penstock {

class DatagramsToGuest final {
 public:
  // `link` may learn the guest's MAC later. All references outlive this.
  DatagramsToGuest(const Config& config, const LinkCapabilities& capabilities,
                   const LinkAddresses& link, FrameBatch& batch, Counters& counters)
      : config_(config),
        capabilities_(capabilities),
        link_(link),
        batch_(batch),
        counters_(counters) {}

  // False: nobody knows where to send a frame yet.
  [[nodiscard]] bool guest_known() const {
    return !capabilities_.ethernet || link_.guest_mac != MacAddress{};
  }
  [[nodiscard]] const LinkAddresses& link() const { return link_; }
  [[nodiscard]] uint32_t NextIdentification() { return identification_++; }

  struct Sent {
    size_t bytes = 0;       // of payload, in whole datagrams
    bool referred = false;  // the batch refers to the payload, or a part of it
  };
  // Of one or, if segment_bytes is not 0, several datagrams in one payload.
  Sent SendUdp(UdpToGuest datagram, uint16_t segment_bytes);
  // One whose payload is copied: it need not live until the flush.
  void SendUdpCopy(UdpToGuest datagram);
  // An ICMP message but for its checksum, from whom, to the guest's address.
  struct Echo {
    IpAddress source;
    IpAddress destination;
    std::span<uint8_t> message;  // its checksum field is filled in
  };
  Sent SendEcho(const Echo& echo);
  // About a packet of the guest's. `original` begins with the IP header.
  void SendError(const IcmpError& error, std::span<const uint8_t> original);

 private:
  // False: the link is full; what was cut off so far has left.
  template <typename Appender>
  [[nodiscard]] bool SendOne(const UdpToGuest& datagram, Appender&& append);
  [[nodiscard]] bool Append(const IpFrame& frame, Sent& sent);
  [[nodiscard]] FrameLimits limits() const { return {.link = link_, .mtu = config_.mtu}; }

  const Config& config_;
  const LinkCapabilities& capabilities_;
  const LinkAddresses& link_;
  FrameBatch& batch_;
  Counters& counters_;
  uint32_t identification_ = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_FLOW_DATAGRAMS_TO_GUEST_H_
