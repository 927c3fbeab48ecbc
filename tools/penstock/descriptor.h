// A file descriptor with an owner, a file that is written whole, and errno as a sentence. Any
// thread.
#ifndef PENSTOCK_TOOLS_PENSTOCK_DESCRIPTOR_H_
#define PENSTOCK_TOOLS_PENSTOCK_DESCRIPTOR_H_

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"

namespace penstock::tool {

class Descriptor final {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(other.Release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    Reset(other.Release());
    return *this;
  }
  ~Descriptor() { Reset(); }

  [[nodiscard]] int get() const { return number_; }
  [[nodiscard]] bool valid() const { return number_ >= 0; }
  // Hands the number to a new owner.
  [[nodiscard]] int Release() { return std::exchange(number_, -1); }
  void Reset(int number = -1) {
    if (number_ >= 0) close(number_);
    number_ = number;
  }

 private:
  int number_ = -1;
};

// Writes it all to a file, in as many calls as that takes; false: errno says why not.
inline bool WriteAll(int file, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(file, text.data(), text.size());
    if (written < 0 && errno != EINTR) return false;
    if (written > 0) text.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

// "WHAT: <text of error>". Set-up failures all have this one kind: the tools
// only tell wrong options (InvalidArgument) from everything else.
inline absl::Status ErrnoStatus(std::string_view what, int error) {
  return absl::FailedPreconditionError(std::string(what) + ": " + std::strerror(error));
}

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_DESCRIPTOR_H_
