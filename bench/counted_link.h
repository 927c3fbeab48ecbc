// A link in memory between a stack and a guest that is plain code (counted_world.h): what
// it does stands for a tap's system calls and does not count. Its offloads are those of a tap
// with a virtio-net header. Of frames to the guest it keeps the headers and the length. One
// thread.
#ifndef PENSTOCK_BENCH_COUNTED_LINK_H_
#define PENSTOCK_BENCH_COUNTED_LINK_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <utility>
#include <vector>

#include "stack/link/link.h"

namespace penstock::bench {

class CountedLink final : public Link {
 public:
  // From the guest: headers, then `payload_bytes` of anything.
  struct ToHost {
    std::vector<uint8_t> head;
    uint32_t payload_bytes = 0;
    Offload offload;
  };
  struct ToGuest {
    std::array<uint8_t, 80> head{};  // Ethernet, IPv4, TCP with options at most
    uint32_t length = 0;
  };

  void Push(ToHost frame) { to_host_.push_back(std::move(frame)); }
  [[nodiscard]] bool has_to_host() const { return !to_host_.empty(); }
  // What the stack has sent since the last call.
  [[nodiscard]] std::vector<ToGuest> Take() { return std::exchange(to_guest_, {}); }
  // Frames so far, both ways.
  [[nodiscard]] uint64_t frames() const { return frames_; }

  [[nodiscard]] const LinkCapabilities& capabilities() const override { return capabilities_; }
  [[nodiscard]] int descriptor() const override { return -1; }
  [[nodiscard]] size_t Receive(Time now, std::span<FrameToHost> frames) override;
  [[nodiscard]] size_t Send(Time now, std::span<const FrameToGuest> frames) override;

 private:
  const LinkCapabilities capabilities_{.partial_checksum_to_guest = true,
                                       .tcp4_gso_to_guest = true,
                                       .tcp6_gso_to_guest = true,
                                       .udp_gso_to_guest = true};
  std::deque<ToHost> to_host_;
  std::vector<ToGuest> to_guest_;
  uint64_t frames_ = 0;
};

}  // namespace penstock::bench

#endif  // PENSTOCK_BENCH_COUNTED_LINK_H_
