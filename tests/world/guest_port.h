// The guest's end of a connection as a talker has it. A connection that a proxy opened
// begins with its header, which is checked and taken off; a page of the stack's own, which
// comes instead of all that the host says, is taken apart. One thread.
#ifndef PENSTOCK_TESTS_WORLD_GUEST_PORT_H_
#define PENSTOCK_TESTS_WORLD_GUEST_PORT_H_

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tests/world/guest_tcp.h"
#include "tests/world/talker.h"
#include "tests/world/violation.h"

namespace penstock::world {

class GuestPort final : public Port {
 public:
  // `page`: where one goes, of a connection whose host never begins with an H; or nullptr.
  explicit GuestPort(GuestConnection& connection, std::vector<uint8_t> header = {},
                     std::string* page = nullptr)
      : connection_(connection), header_(std::move(header)), page_(page) {}
  [[nodiscard]] bool open() const override {
    return connection_.connected() && connection_.error() == 0;
  }
  [[nodiscard]] size_t WriteRoom() const override { return connection_.write_room(); }
  [[nodiscard]] size_t Write(std::span<const uint8_t> bytes) override {
    return connection_.Write(bytes);
  }
  [[nodiscard]] size_t Read(std::span<uint8_t> room) override {
    while (header_read_ < header_.size()) {
      uint8_t byte;
      if (connection_.Read({&byte, 1}) == 0) return 0;
      if (byte != header_[header_read_++]) throw Violation("the proxy's header is wrong");
    }
    for (;;) {
      const size_t bytes = connection_.Read(room);
      if (bytes == 0) return 0;
      const bool first = !std::exchange(begun_, true);
      if (page_ == nullptr || (first ? room[0] != 'H' : page_->empty())) return bytes;
      page_->append(room.begin(), room.begin() + static_cast<ptrdiff_t>(bytes));
    }
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
  std::string* const page_;
  bool begun_ = false;
};

}  // namespace penstock::world

#endif  // PENSTOCK_TESTS_WORLD_GUEST_PORT_H_
