// A guest's UDP, written by hand: reads the stack's frames, whole datagrams and
// fragments, and makes frames of the guest's. For tests that speak UDP to a stack
// without a guest's kernel.
//
// What a kernel would throw away is thrown away and counted: wrong lengths and checksums,
// fragments that contradict each other.
#ifndef PENSTOCK_TESTS_SUPPORT_UDP_GUEST_H_
#define PENSTOCK_TESTS_SUPPORT_UDP_GUEST_H_

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "stack/link/frame.h"
#include "tests/support/packet_builder.h"

namespace penstock {

struct GuestDatagram {
  Endpoint source;
  Endpoint destination;
  Bytes payload{};

  friend bool operator==(const GuestDatagram&, const GuestDatagram&) = default;
};

class UdpGuest final {
 public:
  explicit UdpGuest(const MacAddress& mac = kGuestMac) : mac_(mac) {}

  // A frame from the stack: the datagram that it is, or that it completes. nullopt for
  // everything else, UDP or not.
  std::optional<GuestDatagram> Take(std::span<const uint8_t> frame, const Offload& offload = {});
  // Frames of UDP that were thrown away.
  [[nodiscard]] uint64_t malformed() const { return malformed_; }
  // The largest IP packet that carried UDP.
  [[nodiscard]] size_t largest_packet() const { return largest_packet_; }

  // The frames of a datagram of the guest's: fragments, where it is longer than `mtu`.
  [[nodiscard]] std::vector<Bytes> Frames(const GuestDatagram& datagram, size_t mtu = 1500);

 private:
  // What the fragments of one datagram have in common.
  struct SetKey {
    IpAddress source;
    IpAddress destination;
    uint32_t identification = 0;
    friend auto operator<=>(const SetKey&, const SetKey&) = default;
  };
  struct Set {
    std::map<size_t, Bytes> pieces;  // by offset
    std::optional<size_t> total;
  };
  static constexpr size_t kSetsMax = 64;

  std::optional<GuestDatagram> TakeFragment(const SetKey& key, size_t offset, bool more,
                                            std::span<const uint8_t> piece);
  std::optional<GuestDatagram> TakeWhole(const IpAddress& source, const IpAddress& destination,
                                         std::span<const uint8_t> udp, bool partial);
  std::optional<GuestDatagram> Malformed() {
    ++malformed_;
    return std::nullopt;
  }

  const MacAddress mac_;
  std::map<SetKey, Set> sets_;
  std::deque<SetKey> by_age_;
  uint64_t malformed_ = 0;
  size_t largest_packet_ = 0;
  uint32_t identification_ = 1;
};

}  // namespace penstock

#endif  // PENSTOCK_TESTS_SUPPORT_UDP_GUEST_H_
