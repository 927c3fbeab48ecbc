// The one way to write header fields: appends big-endian values to a span and
// never past its end. A write that does not fit is left out and remembered, so
// the emitters ask once, when they are done. Any thread.
#ifndef PENSTOCK_STACK_WIRE_WRITER_H_
#define PENSTOCK_STACK_WIRE_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace penstock {

class Writer {
 public:
  explicit Writer(std::span<uint8_t> out) : out_(out) {}

  void Bytes(std::span<const uint8_t> bytes) {
    if (overflow_ || bytes.size() > out_.size() - used_) {
      overflow_ = true;
      return;
    }
    if (!bytes.empty()) std::memcpy(out_.data() + used_, bytes.data(), bytes.size());
    used_ += bytes.size();
  }
  void U8(uint8_t value) { Bytes({&value, 1}); }
  void U16(uint16_t value) {
    const uint8_t bytes[] = {static_cast<uint8_t>(value >> 8), static_cast<uint8_t>(value)};
    Bytes(bytes);
  }
  void U32(uint32_t value) {
    U16(static_cast<uint16_t>(value >> 16));
    U16(static_cast<uint16_t>(value));
  }

  // Bytes written; 0 if anything did not fit.
  [[nodiscard]] size_t length() const { return overflow_ ? 0 : used_; }

 private:
  std::span<uint8_t> out_;
  size_t used_ = 0;
  bool overflow_ = false;
};

}  // namespace penstock

#endif  // PENSTOCK_STACK_WIRE_WRITER_H_
