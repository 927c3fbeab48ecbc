// A file descriptor with an owner, and errno as a sentence. Any thread.
#ifndef PENSTOCK_TOOLS_PENSTOCK_DESCRIPTOR_H_
#define PENSTOCK_TOOLS_PENSTOCK_DESCRIPTOR_H_

#include <unistd.h>

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

// "WHAT: <text of error>". Set-up failures all have this one kind: the tools
// only tell wrong options (InvalidArgument) from everything else.
inline absl::Status ErrnoStatus(std::string_view what, int error) {
  return absl::FailedPreconditionError(std::string(what) + ": " + std::strerror(error));
}

}  // namespace penstock::tool

#endif  // PENSTOCK_TOOLS_PENSTOCK_DESCRIPTOR_H_
