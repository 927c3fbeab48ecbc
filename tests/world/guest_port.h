// The guest's end of a connection as a talker has it. A connection that a proxy opened
// begins with its header, which is checked and taken off. One thread.
#ifndef PENSTOCK_TESTS_WORLD_GUEST_PORT_H_
#define PENSTOCK_TESTS_WORLD_GUEST_PORT_H_

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "tests/world/guest_tcp.h"
#include "tests/world/talker.h"
#include "tests/world/violation.h"

namespace penstock::world {

class GuestPort final : public Port {
 public:
  explicit GuestPort(GuestConnection& connection, std::vector<uint8_t> header = {})
      : connection_(connection), header_(std::move(header)) {}
  [[nodiscard]] bool open() const override {
    return connection_.connected() && connection_.error() == 0;
  }
  [[nodiscard]] size_t Write(std::span<const uint8_t> bytes) override {
    return connection_.Write(bytes);
  }
  [[nodiscard]] size_t Read(std::span<uint8_t> room) override {
    while (header_read_ < header_.size()) {
      uint8_t byte;
      if (connection_.Read({&byte, 1}) == 0) return 0;
      if (byte != header_[header_read_++]) throw Violation("the proxy's header is wrong");
    }
    return connection_.Read(room);
  }
  [[nodiscard]] bool AtEnd() const override { return connection_.finished_reading(); }
  [[nodiscard]] bool Broken() const override { return connection_.error() != 0; }
  void Finish() override { connection_.ShutdownWrite(); }
  void Reset() override { connection_.Abort(); }
  void Leave() override { connection_.Close(); }

 private:
  GuestConnection& connection_;
  const std::vector<uint8_t> header_;
  size_t header_read_ = 0;
};

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_GUEST_PORT_H_
