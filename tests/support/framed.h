// A message as it stands on a stream: two bytes of length in front (RFC 1035 4.2.2).
#ifndef PENSTOCK_TESTS_SUPPORT_FRAMED_H_
#define PENSTOCK_TESTS_SUPPORT_FRAMED_H_

#include <string>
#include <string_view>

namespace penstock {

[[nodiscard]] inline std::string Framed(std::string_view message) {
  const size_t length = message.size();
  return std::string{static_cast<char>(length >> 8), static_cast<char>(length & 0xff)}.append(
      message);
}

}  // namespace penstock

#endif  // PENSTOCK_TESTS_SUPPORT_FRAMED_H_
