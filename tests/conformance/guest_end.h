// The guest's end of a script's connection: makes frames of what the script sends, and
// of the stack's frames what the script expects, with relative numbers and the stream's
// own bytes.
//
// Whatever a script asks for, each segment of the stack's is held against what no TCP
// may do: wrong checksums and lengths, a byte of the stream that is not the host's, an
// ACK of what was not sent, a right window edge that moves back, a frame over the MTU.
// What is wrong throws ScriptError.
#ifndef PENSTOCK_TESTS_CONFORMANCE_GUEST_END_H_
#define PENSTOCK_TESTS_CONFORMANCE_GUEST_END_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "tests/conformance/script.h"
#include "tests/support/guest_segment.h"

namespace penstock::conformance {

// Byte `index` of a stream: repeats nowhere near, and differs by direction.
enum class Stream : uint8_t { kToHost, kToGuest };
[[nodiscard]] uint8_t StreamByte(Stream stream, uint64_t index);

class GuestEnd final {
 public:
  explicit GuestEnd(const Script& script);

  [[nodiscard]] EncodedFrame Encode(const ScriptSegment& segment);
  [[nodiscard]] EncodedFrame Encode(const SendIcmp& icmp) const;
  // The segment in a frame of the stack's; nothing if it carries something else.
  [[nodiscard]] std::optional<ScriptSegment> Decode(std::span<const uint8_t> frame,
                                                    const Offload& offload);
  // The error in a frame that carries no segment, if it is an ICMP error.
  [[nodiscard]] std::optional<IcmpError> DecodeIcmp(std::span<const uint8_t> frame) const;

  // What `got` is not of what `wanted` asks for; empty if it is all of it.
  [[nodiscard]] static std::string Difference(const ScriptSegment& wanted,
                                              const ScriptSegment& got);

  // A new connection of the same ports.
  void Again(uint32_t sequence_step);
  // Absolute, of the stack's last SYN; 0 before the first.
  [[nodiscard]] uint32_t stack_isn() const { return stack_isn_; }

 private:
  void NoteSent(const ScriptSegment& segment);
  [[nodiscard]] std::string Payload(const ScriptSegment& segment) const;
  [[nodiscard]] EncodedFrame EncodeByHand(const GuestSegment& segment,
                                          const ScriptSegment& script) const;
  [[nodiscard]] ScriptSegment Relative(const GuestSegment& segment) const;
  void Check(const GuestSegment& absolute, const ScriptSegment& segment);
  void CheckWindow(const ScriptSegment& segment);

  const Family family_;
  const uint32_t mtu_;
  const uint16_t default_window_;
  const MacPair macs_;
  const Endpoint guest_;
  const Endpoint destination_;
  uint32_t guest_isn_;
  uint32_t stack_isn_ = 0;
  bool has_stack_isn_ = false;

  uint32_t sent_edge_ = 0;  // behind the highest that the guest sent
  bool guest_scales_ = false;
  uint8_t stack_scale_ = 0;
  std::optional<uint32_t> window_edge_{};  // right edge of the stack's window
};

}  // namespace penstock::conformance

#endif  // PENSTOCK_TESTS_CONFORMANCE_GUEST_END_H_
